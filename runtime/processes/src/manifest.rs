//! What a stock says of itself: its manifest, sealed under the storage key, with the party's seeds sealed under the other's witness, too.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::ledger::{Peer, StateId};
use crate::vault::{CHUNK, Cipher, Salt, StorageKey, TAG, Witness, salt, tags};
use kernels::prg::Seed;

/// First bytes of a manifest. The last one is the format's version: 2 has products, 3 comparison keys of four children, 4 says who made it, 5
/// has no shares of masks that are of the parties' seeds, 6 grows, 7 has digests, 8 is sealed and knows whose it is.
const MAGIC: &[u8; 8] = b"SSVMSTK\x08";

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Why a stock cannot be used. What it says of itself is not what is wanted, or not what was written.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Unusable {
    #[error("it is of another release")]
    Version,
    #[error("its manifest changed on disk, or was kept under another key")]
    Changed,
    #[error("it is a copy, or was restored: it was made elsewhere")]
    Moved,
    #[error("it has expired")]
    Expired,
    #[error("it was used before")]
    Used,
}

impl From<Unusable> for std::io::Error {
    fn from(why: Unusable) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, why)
    }
}

impl Unusable {
    /// A way out, for the user.
    pub fn hint(self) -> &'static str {
        match self {
            Unusable::Version | Unusable::Changed | Unusable::Expired | Unusable::Used => "`ssvm stocks --remove` it",
            Unusable::Moved => {
                "`ssvm stocks --remove` it: what was made before a restore may have been used since; make another"
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) program: [u8; 32],
    /// The name that it lies under.
    pub(super) session: [u8; 16],
    /// Whether both parties made it; else a dealer knows it.
    pub(super) pair: bool,
    /// The state directory that it is of, and where in it it was made (`origin`).
    pub(super) state: StateId,
    pub(super) origin: [u8; 32],
    pub(super) bond: Bond,
    /// Of the steps that are whole.
    pub(super) entries: Vec<u32>,
    /// Steps that it is to have.
    pub(super) wanted: u32,
    /// The party's seeds, sealed.
    pub(super) seeds: Vec<u8>,
    /// Of each file, what it has of each step.
    pub(super) marks: [Vec<Mark>; 3],
}

/// What ties a party's half to the other's.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Bond {
    /// Whose the other half is.
    pub(super) peer: Peer,
    /// What this party holds back, without which the other cannot read its half.
    held: [u8; 32],
    /// When it was begun and until when it may be used, in seconds since 1970.
    pub(super) made: u64,
    pub(super) expires: u64,
}

impl Drop for Bond {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

impl Bond {
    /// A new one, for so many days.
    pub(super) fn new(peer: Peer, days: u32) -> Result<Bond, getrandom::Error> {
        let made = now();
        let expires = made.saturating_add(u64::from(days) * DAY);
        Ok(Bond { peer, held: *Witness::random()?.expose(), made, expires })
    }

    /// With another end.
    pub(super) fn until(mut self, expires: u64) -> Bond {
        self.expires = self.expires.min(expires);
        self
    }

    /// What is held back for the other.
    pub(super) fn held(&self) -> Witness {
        Witness::new(self.held)
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What a file has of a step: so many plain bytes, sealed with this salt, and BLAKE3 of what is on disk, which can be checked
/// without the witness.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) bytes: u64,
    pub(super) salt: Salt,
    pub(super) digest: [u8; 32],
}

impl Mark {
    /// Of a step that has nothing in a file.
    pub(super) fn nothing() -> Mark {
        Mark { bytes: 0, salt: Salt::default(), digest: blake3::hash(&[]).into() }
    }

    /// Bytes in the file.
    pub(super) fn length(&self) -> u64 {
        self.bytes.saturating_add(tags(self.bytes))
    }
}

/// What tells a step's bytes from all others.
pub(super) fn place(session: [u8; 16], part: usize, step: usize) -> Vec<u8> {
    [&session[..], &[part as u8], &(step as u32).to_le_bytes()].concat()
}

/// A step that is being sealed.
pub(super) struct Sealing {
    cipher: Cipher,
    place: Vec<u8>,
    chunk: Vec<u8>,
    tags: Vec<u8>,
    hasher: blake3::Hasher,
    bytes: u64,
    salt: Salt,
}

impl Sealing {
    pub(super) fn begin(key: &StorageKey, place: Vec<u8>) -> std::io::Result<Sealing> {
        let salt = salt().map_err(std::io::Error::other)?;
        let (cipher, hasher) = (key.cipher(&salt), blake3::Hasher::new());
        Ok(Sealing { cipher, place, chunk: Vec::new(), tags: Vec::new(), hasher, bytes: 0, salt })
    }

    /// What its key is made with, besides.
    pub(super) fn salt(&self) -> &Salt {
        &self.salt
    }

    /// Takes plain bytes and gives what is to be written.
    pub(super) fn add(
        &mut self,
        mut plain: &[u8],
        write: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        while !plain.is_empty() {
            let part = plain.len().min(CHUNK - self.chunk.len());
            self.chunk.extend_from_slice(&plain[..part]);
            plain = &plain[part..];
            if self.chunk.len() == CHUNK {
                self.seal(write)?;
            }
        }
        Ok(())
    }

    fn seal(&mut self, write: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        let number = u32::try_from(self.tags.len() / TAG).map_err(std::io::Error::other)?;
        self.tags.extend(self.cipher.seal(&mut self.chunk, &self.place, number));
        self.bytes += self.chunk.len() as u64;
        self.hasher.update(&self.chunk);
        write(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }

    /// Ends it with its tags.
    pub(super) fn end(mut self, write: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<Mark> {
        if !self.chunk.is_empty() {
            self.seal(write)?;
        }
        self.hasher.update(&self.tags);
        write(&self.tags)?;
        Ok(Mark { bytes: self.bytes, salt: self.salt, digest: self.hasher.finalize().into() })
    }
}

/// A party's seeds of a session: each serves the steps from its first to the next one's, the last all that follow.
#[derive(Clone)]
pub(super) struct Seeds(Vec<(u32, Seed)>);

impl Seeds {
    /// One for all steps.
    pub(super) fn one(seed: Seed) -> Seeds {
        Seeds(vec![(0, seed)])
    }

    /// That of a step.
    pub(super) fn of(&self, step: u32) -> &Seed {
        let (_, seed) = self.0.iter().rev().find(|(first, _)| *first <= step).expect("the first serves step 0");
        seed
    }

    /// Forgets those of steps from `first` on, which take this one.
    pub(super) fn then(&mut self, first: u32, seed: Seed) {
        self.cut(first);
        self.0.push((first, seed));
    }

    /// Forgets those of steps from `end` on; step 0 keeps its own.
    pub(super) fn cut(&mut self, end: u32) {
        self.0.retain(|(first, _)| *first < end.max(1));
    }

    /// Sealed as a session's.
    pub(super) fn seal(&self, key: &StorageKey, session: [u8; 16]) -> Result<Vec<u8>, getrandom::Error> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(36 * self.0.len()));
        for (first, seed) in &self.0 {
            bytes.extend(first.to_le_bytes());
            bytes.extend(seed.expose());
        }
        key.seal(&session, &bytes)
    }

    /// Those of a session; none if they are not what was sealed.
    pub(super) fn open(key: &StorageKey, session: [u8; 16], sealed: &[u8]) -> Option<Seeds> {
        let bytes = key.open(&session, sealed).ok()?;
        let (all, rest) = bytes.as_chunks::<36>();
        let seed = |bytes: &[u8; 36]| {
            let (first, seed) = bytes.split_first_chunk::<4>().expect("36 bytes");
            (u32::from_le_bytes(*first), Seed::new(seed.try_into().expect("32 bytes")))
        };
        let seeds: Vec<(u32, Seed)> = all.iter().map(seed).collect();
        let begins = seeds.first().is_some_and(|(first, _)| *first == 0);
        (begins && rest.is_empty()).then_some(Seeds(seeds))
    }
}

impl Manifest {
    /// As it is on disk.
    pub(super) fn encode(&self, key: &StorageKey) -> std::io::Result<Vec<u8>> {
        let text = Zeroizing::new(serde_json::to_vec(self)?);
        let sealed = key.seal(MAGIC, &text).map_err(std::io::Error::other)?;
        Ok([&MAGIC[..], &sealed].concat())
    }

    pub(super) fn decode(key: &StorageKey, bytes: &[u8]) -> Result<Manifest, Unusable> {
        let Some(sealed) = bytes.strip_prefix(MAGIC) else {
            // Those of earlier versions are lines of JSON.
            let other = bytes.starts_with(b"{") || bytes.starts_with(&MAGIC[..7]);
            return Err(if other { Unusable::Version } else { Unusable::Changed });
        };
        let text = key.open(MAGIC, sealed).map_err(|_| Unusable::Changed)?;
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|_| Unusable::Changed)?;
        match manifest.marks.iter().all(|marks| marks.len() == manifest.entries.len()) {
            true => Ok(manifest),
            false => Err(Unusable::Changed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_serve_the_steps_from_their_first() {
        let seed = |n| Seed::new([n; 32]);
        let mut seeds = Seeds::one(seed(1));
        seeds.then(3, seed(2));
        let serve = |seeds: &Seeds| [0, 2, 3, 9].map(|step| seeds.of(step).expose()[0]);
        assert_eq!(serve(&seeds), [1, 1, 2, 2]);
        let key = StorageKey::new([5; 32]);
        let sealed = seeds.seal(&key, [7; 16]).unwrap();
        assert_eq!(serve(&Seeds::open(&key, [7; 16], &sealed).unwrap()), [1, 1, 2, 2]);
        assert!(Seeds::open(&key, [6; 16], &sealed).is_none());
        seeds.then(2, seed(3));
        assert_eq!(serve(&seeds), [1, 3, 3, 3]);
        seeds.cut(2);
        assert_eq!(serve(&seeds), [1, 1, 1, 1]);
    }
}
