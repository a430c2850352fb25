//! All stocks of a state directory, whatever they are of, for their owner to look at, check and remove.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use ir::Party;

use super::manifest::{Manifest, Unusable};
use super::part::changed;
use super::state::State;
use super::stock::{PARTS, StockError, hold, manifest, names, remove, usable};
use crate::handshake::Session;
use crate::vault::CHUNK;
use protocols::Maker;

/// A stock in a state directory.
pub struct Kept {
    /// Whose half it is.
    pub party: Party,
    /// Its session, after which it is named.
    pub session: Session,
    /// Where it lies.
    pub place: PathBuf,
    /// What it says of itself, if that can be read.
    pub about: io::Result<About>,
    /// Why it cannot be used, if so.
    pub unusable: Option<Unusable>,
    state: State,
}

/// What a stock says of itself.
pub struct About {
    /// The hash of its program.
    pub program: [u8; 32],
    /// Tokens that it lasts for, and those that it was to last for.
    pub tokens: usize,
    /// See above.
    pub wanted: usize,
    /// The key of the other party; zero on insecure links.
    pub peer: [u8; 32],
    /// When it was begun, and until when it may be used, in seconds since 1970.
    pub made: u64,
    /// See above.
    pub expires: u64,
    /// Who made it.
    pub maker: Maker,
}

impl State {
    /// Its stocks, by name.
    pub fn kept(&self) -> Vec<Kept> {
        let kept = |(party, session, place): (Party, Session, PathBuf)| {
            let unusable = usable(self, party, session, &place).err();
            let unusable = unusable.and_then(|error| error.get_ref()?.downcast_ref::<Unusable>().copied());
            let about = manifest(&self.key, &place).map(|manifest| About::of(&manifest));
            Kept { party, session, place, about, unusable, state: self.clone() }
        };
        names(&self.directory().join("stock")).into_iter().map(kept).collect()
    }
}

impl About {
    fn of(manifest: &Manifest) -> About {
        About {
            program: manifest.program,
            tokens: manifest.entries.len(),
            wanted: manifest.wanted as usize,
            peer: manifest.bond.peer.key,
            made: manifest.bond.made,
            expires: manifest.bond.expires,
            maker: if manifest.pair { Maker::Pair } else { Maker::Dealer },
        }
    }
}

impl Kept {
    /// Reads all of it, and whether that is what was written.
    pub fn check(&self) -> Result<(), StockError> {
        let failed = |path: PathBuf| |source| StockError { path, source };
        let manifest = manifest(&self.state.key, &self.place).map_err(failed(self.place.clone()))?;
        let grows = manifest.entries.len() < manifest.wanted as usize;
        // The last goes when it has all its steps.
        let parts = PARTS.iter().zip(&manifest.marks).take(if grows { 3 } else { 2 });
        for (name, marks) in parts {
            let path = self.place.join(name);
            let read = || {
                let mut file = BufReader::with_capacity(CHUNK, File::open(&path)?);
                for (number, mark) in marks.iter().enumerate() {
                    let mut hasher = blake3::Hasher::new();
                    let read = hasher.update_reader((&mut file).take(mark.length()))?.count();
                    if read != mark.length() || hasher.finalize() != mark.digest {
                        return Err(changed(format!("step {number} changed on disk")));
                    }
                }
                Ok(())
            };
            read().map_err(failed(path.clone()))?;
        }
        Ok(())
    }

    /// Removes it, unless somebody uses it.
    pub fn remove(&self) -> Result<(), StockError> {
        let failed = |source| StockError { path: self.place.clone(), source };
        // One that earlier releases made has no lock.
        let earlier = self.unusable == Some(Unusable::Version);
        match hold(&self.place) {
            None if !earlier => Err(failed(io::Error::new(io::ErrorKind::WouldBlock, "a session uses it"))),
            _held => remove(&self.state.disk, &self.place).map_err(failed),
        }
    }
}
