//! Stocks: material of sessions that was made or dealt beforehand, on disk until a generation takes it.
//!
//! Files     `stock/ROLE-SESSION/` in the state directory has `manifest`, what the session begins with, and, of its steps one
//!           after another, `material`, the dealt bytes, and at the client `products`, its shares of the products with weights
//!           ([`machine::products`]). It is begun under another name, made durable and renamed, and is private: the manifest
//!           has the party's seeds, and the products tell as much. One of another version is passed over.
//! Growth    A stock grows where it lies, step by step (`growth`). The manifest counts the steps that are whole, so whatever ends
//!           the making leaves a stock that is shorter and as good. The parties may differ by some steps: a session uses
//!           those that both have.
//! Once      Whoever takes a stock renames and removes its directory before it reads a byte, and keeps the open file: no
//!           other process finds it, and a crash leaves nothing behind. The session is burnt in the ledger besides.
//! Sequence  The entries of the steps are fixed when they are dealt. They follow from the size of the prefill, not from
//!           the prompt's length.
//! Seeds     Two parties who go on making a stock take new seeds for the steps that follow, so that nothing of a step that
//!           broke is used again. A dealer, who makes a step anew from the same seeds, sends the same bytes.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ir::Party;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::handshake::{Session, hex};
use crate::ledger::sync_directory;
use crate::mapped::map_part;
use kernels::prg::Seed;
use protocols::Maker;

/// Greatest manifest that is read, in bytes.
const MOST: u64 = 1 << 20;

/// Of the files and what they hold: 2 has products, 3 comparison keys of four children, 4 says who made it, 5 has no shares of masks
/// that are of the parties' seeds, 6 grows.
const VERSION: u32 = 6;

pub(super) const MATERIAL: &str = "material";
pub(super) const PRODUCTS: &str = "products";
pub(super) const MANIFEST: &str = "manifest";

/// A stock that cannot be used or made.
#[derive(thiserror::Error, Debug)]
#[error("stock {}", path.display())]
pub struct StockError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    program: [u8; 32],
    /// Whether both parties made it; else a dealer knows it.
    pair: bool,
    /// Of the steps that are whole.
    entries: Vec<u32>,
    /// Steps that it is to have.
    wanted: u32,
    /// The party's, each with the first step that it serves.
    seeds: Vec<(u32, [u8; 32])>,
}

impl Drop for Manifest {
    fn drop(&mut self) {
        self.seeds.iter_mut().for_each(|(_, seed)| seed.zeroize());
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
}

/// A party's stocks of one program, by one source. Those of the other have another layout, and another trust.
#[derive(Clone)]
pub struct Stocks {
    pub(super) directory: PathBuf,
    pub(super) party: Party,
    program: [u8; 32],
    pub(super) maker: Maker,
}

/// A stock that a party names to the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Named {
    pub(super) session: Session,
    /// Steps that are whole here.
    pub(super) steps: u32,
}

/// A stock that was taken: it is on disk no more.
pub(super) struct Stock {
    pub(super) seeds: Seeds,
    /// The entry of each step.
    pub(super) entries: Vec<u32>,
    pub(super) material: Part,
    pub(super) products: Part,
}

/// A file of a stock, read step by step.
pub(super) struct Part {
    file: File,
    /// Bytes of the steps so far.
    used: u64,
    path: PathBuf,
}

impl Stocks {
    /// Those in a state directory.
    pub fn new(state: &Path, party: Party, program: [u8; 32], maker: Maker) -> Stocks {
        Stocks { directory: state.join("stock"), party, program, maker }
    }

    /// The one with the most steps among those that begin with an entry, and for how many tokens all of them last. One that
    /// grows is named if there is no other.
    pub(super) fn offer(&self, entry: u32) -> (Option<Named>, u64) {
        let fitting = self.all().into_iter().filter(|(_, manifest)| manifest.entries.first() == Some(&entry));
        let named: Vec<Named> = fitting.map(|(session, m)| Named { session, steps: m.entries.len() as u32 }).collect();
        let best = named.iter().max_by_key(|named| (!self.grows(named.session), named.steps)).copied();
        (best, named.iter().map(|named| u64::from(named.steps)).sum())
    }

    /// The one with the most steps among those that begin with an entry and have fewer than they were to have, unless somebody
    /// is making it; and how many it was to have.
    pub(super) fn begun(&self, entry: u32) -> Option<(Named, u32)> {
        let begun = |m: &Manifest| m.entries.first() == Some(&entry) && m.entries.len() < m.wanted as usize;
        let all = self.all().into_iter().filter(|(session, manifest)| begun(manifest) && !self.grows(*session));
        let named = all.map(|(session, m)| (Named { session, steps: m.entries.len() as u32 }, m.wanted));
        named.max_by_key(|(named, _)| named.steps)
    }

    /// For how many tokens there is material.
    pub fn tokens(&self) -> u64 {
        self.all().iter().map(|(_, manifest)| manifest.entries.len() as u64).sum()
    }

    /// For how many tokens each session has material.
    pub(super) fn sessions(&self) -> Vec<Named> {
        let named = |(session, m): (Session, Manifest)| Named { session, steps: m.entries.len() as u32 };
        self.all().into_iter().map(named).collect()
    }

    /// Whether somebody is making a session's stock: its maker has the material's lock.
    fn grows(&self, session: Session) -> bool {
        let material = File::open(self.place(session).join(MATERIAL));
        material.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Takes a session's stock, if it is there.
    pub(super) fn take(&self, session: Session) -> Result<Option<Stock>, StockError> {
        let place = self.place(session);
        let taken = self.directory.join(format!("taken-{}-{session}", self.party));
        let failed = |source| StockError { path: place.clone(), source };
        match std::fs::rename(&place, &taken) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            renamed => renamed.map_err(failed)?,
        }
        let open = |name| io::Result::Ok(Part { file: File::open(taken.join(name))?, used: 0, path: place.clone() });
        let read = self.manifest(&taken).and_then(|manifest| Ok((manifest, open(MATERIAL)?, open(PRODUCTS)?)));
        // Its maker may have been about to write.
        let removed = (0..3).find_map(|_| match std::fs::remove_dir_all(&taken) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => None,
            removed => Some(removed),
        });
        removed.unwrap_or(Ok(())).and_then(|()| sync_directory(&self.directory)).map_err(failed)?;
        let (manifest, material, products) = read.map_err(failed)?;
        if !self.is_of(&manifest) {
            return Ok(None);
        }
        let (seeds, entries) = (manifest.seeds(), manifest.entries.clone());
        Ok(Some(Stock { seeds, entries, material, products }))
    }

    /// What the manifest of a stock with these steps says.
    pub(super) fn describe(&self, entries: &[u32], wanted: u32, seeds: &Seeds) -> Manifest {
        Manifest {
            version: VERSION,
            program: self.program,
            pair: self.maker == Maker::Pair,
            entries: entries.to_vec(),
            wanted,
            seeds: seeds.0.iter().map(|(first, seed)| (*first, *seed.expose())).collect(),
        }
    }

    pub(super) fn is_of(&self, manifest: &Manifest) -> bool {
        (manifest.program, manifest.pair) == (self.program, self.maker == Maker::Pair)
    }

    pub(super) fn place(&self, session: Session) -> PathBuf {
        self.directory.join(format!("{}-{session}", self.party))
    }

    /// What can be read; the rest is not for this program or on its way.
    fn all(&self) -> Vec<(Session, Manifest)> {
        let Ok(files) = std::fs::read_dir(&self.directory) else { return Vec::new() };
        let prefix = format!("{}-", self.party);
        let found = files.filter_map(Result::ok).filter_map(|file| {
            let name = file.file_name();
            let session = session(name.to_str()?.strip_prefix(&prefix)?)?;
            let manifest = self.manifest(&file.path()).ok()?;
            self.is_of(&manifest).then_some((session, manifest))
        });
        found.collect()
    }

    pub(super) fn manifest(&self, stock: &Path) -> io::Result<Manifest> {
        let mut text = zeroize::Zeroizing::new(Vec::new());
        File::open(stock.join(MANIFEST))?.take(MOST).read_to_end(&mut text)?;
        let manifest: Manifest = serde_json::from_slice(&text)?;
        let odd = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        match manifest.version {
            VERSION if manifest.seeds.first().is_none_or(|&(first, _)| first != 0) => {
                Err(odd("it has no seed for its first step".to_owned()))
            }
            VERSION => Ok(manifest),
            other => Err(odd(format!("it has version {other}, not {VERSION}"))),
        }
    }
}

impl Manifest {
    pub(super) fn seeds(&self) -> Seeds {
        Seeds(self.seeds.iter().map(|&(first, seed)| (first, Seed::new(seed))).collect())
    }

    /// The entries of the steps that are whole, and how many there are to be.
    pub(super) fn steps(&self) -> (Vec<u32>, u32) {
        (self.entries.clone(), self.wanted)
    }
}

impl Part {
    /// The bytes of the next step, which has so many: mapped, and not copied before they are used.
    pub(super) fn read(&mut self, bytes: usize) -> Result<Bytes, StockError> {
        let end = self.used + bytes as u64;
        let map = map_part(&self.file, self.used..end);
        let map = map.map_err(|source| StockError { path: self.path.clone(), source })?;
        self.used = end;
        // The disk reads on while this step runs. The next one is as long, as a rule; it is no fault if it is not.
        #[cfg(unix)]
        if let Ok(next) = map_part(&self.file, end..end + bytes as u64) {
            let _ = next.advise(memmap2::Advice::WillNeed);
        }
        Ok(Bytes::from_owner(map))
    }
}

/// A session from its hexadecimal digits.
fn session(text: &str) -> Option<Session> {
    let mut bytes = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    (hex(&bytes) == text).then_some(Session(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunError;
    use crate::growth::Growth;

    #[test]
    fn a_stock_is_taken_once_and_by_its_program() {
        let state = tempfile::tempdir().unwrap();
        let stocks = Stocks::new(state.path(), Party::Client, [1; 32], Maker::Dealer);
        assert_eq!((stocks.offer(3), stocks.tokens()), ((None, 0), 0));
        let id = |n| Session([n; 16]);
        let named = |n: u8| Some(Named { session: id(n), steps: n.into() });
        for n in [2, 1, 3] {
            let seeds = Seeds::one(Seed::new([n; 32]));
            let mut growth = Growth::begin(stocks.clone(), id(n), seeds, n.into());
            for entry in (0..u32::from(n)).map(|i| 3 + i) {
                growth.material(&[n, entry as u8]).unwrap();
                growth.products(&[entry as u8]).unwrap();
                growth.whole(&[entry]).unwrap();
            }
            growth.settle().unwrap();
            growth.end().unwrap();
        }
        let mut broken = Growth::begin(stocks.clone(), id(4), Seeds::one(Seed::new([4; 32])), 1);
        broken.material(&[1]).unwrap();
        assert_eq!(std::fs::read_dir(state.path().join("stock")).unwrap().count(), 4);
        drop(broken);
        assert_eq!((stocks.offer(3), stocks.tokens()), ((named(3), 6), 6));
        assert_eq!(stocks.offer(4), (None, 0));
        for other in
            [(Party::Server, 1, Maker::Dealer), (Party::Client, 2, Maker::Dealer), (Party::Client, 1, Maker::Pair)]
        {
            let (party, program, maker) = other;
            let other = Stocks::new(state.path(), party, [program; 32], maker);
            assert_eq!((other.offer(3), other.tokens()), ((None, 0), 0));
        }
        let pair = Stocks::new(state.path(), Party::Client, [1; 32], Maker::Pair);
        assert!(pair.offer(3).0.is_none(), "the dealer knows it");
        let mut stock = stocks.take(id(3)).unwrap().expect("it is there");
        assert!(stocks.take(id(3)).unwrap().is_none(), "it was taken");
        assert_eq!((stock.entries.clone(), stock.seeds.of(2).expose()), (vec![3, 4, 5], &[3; 32]));
        assert_eq!(stock.material.read(2).unwrap()[..], [3, 3]);
        assert_eq!(stock.material.read(4).unwrap()[..], [3, 4, 3, 5]);
        assert_eq!(stock.products.read(3).unwrap()[..], [3, 4, 5]);
        assert!(stock.material.read(1).is_err() && stock.products.read(1).is_err(), "they have an end");
        assert_eq!(stocks.tokens(), 3);
        let manifest = state.path().join(format!("stock/client-{}/manifest", id(2)));
        let older =
            std::fs::read_to_string(&manifest).unwrap().replace(&format!(r#""version":{VERSION}"#), r#""version":2"#);
        std::fs::write(&manifest, older).unwrap();
        assert_eq!((stocks.offer(3), stocks.tokens()), ((named(1), 1), 1));
        assert_eq!(std::fs::read_dir(state.path().join("stock")).unwrap().count(), 2);
    }

    #[test]
    fn a_stock_that_grows_is_taken_as_it_is_and_its_maker_ends() {
        let state = tempfile::tempdir().unwrap();
        let stocks = Stocks::new(state.path(), Party::Client, [1; 32], Maker::Pair);
        let id = |n| Session([n; 16]);
        let grow = |n: u8, steps: u32| {
            let mut growth = Growth::begin(stocks.clone(), id(n), Seeds::one(Seed::new([n; 32])), 5);
            (0..steps).for_each(|step| growth.whole(&[7 + step]).unwrap());
            growth.settle().unwrap();
            growth
        };
        let (mut first, second) = (grow(1, 3), grow(2, 2));
        assert_eq!(stocks.begun(7), None, "both are being made");
        assert!(matches!(Growth::find(stocks.clone(), id(1)), Err(RunError::Growing)));
        drop(second);
        // One that nobody makes, though it is shorter.
        assert_eq!(stocks.offer(7).0.map(|named| named.steps), Some(2));
        assert_eq!(stocks.begun(7), Some((Named { session: id(2), steps: 2 }, 5)));
        let mut again = Growth::find(stocks.clone(), id(2)).unwrap().expect("it is there");
        assert_eq!((again.steps(), again.seeds().of(4).expose()), (2, &[2; 32]));
        again.whole(&[9]).unwrap();
        again.settle().unwrap();
        assert_eq!(stocks.take(id(1)).unwrap().expect("it is there").entries, [7, 8, 9]);
        first.whole(&[10]).unwrap();
        assert!(matches!(first.settle(), Err(RunError::Taken)));
        first.end().unwrap();
        assert_eq!(stocks.tokens(), 3);
        again.whole(&[10, 11]).unwrap();
        again.settle().unwrap();
        again.end().unwrap();
        assert!(Growth::find(stocks.clone(), id(2)).unwrap().is_none(), "it has all that it was to have");
        assert_eq!((stocks.begun(7), stocks.tokens()), (None, 5));
        assert_eq!(std::fs::read_dir(state.path().join("stock")).unwrap().count(), 1);
    }

    #[test]
    fn seeds_serve_the_steps_from_their_first() {
        let seed = |n| Seed::new([n; 32]);
        let mut seeds = Seeds::one(seed(1));
        seeds.then(3, seed(2));
        let serve = |seeds: &Seeds| [0, 2, 3, 9].map(|step| seeds.of(step).expose()[0]);
        assert_eq!(serve(&seeds), [1, 1, 2, 2]);
        seeds.then(2, seed(3));
        assert_eq!(serve(&seeds), [1, 3, 3, 3]);
        seeds.cut(2);
        assert_eq!(serve(&seeds), [1, 1, 1, 1]);
    }

    #[test]
    fn names_of_sessions_are_read_strictly() {
        let id = Session([0xab; 16]);
        assert_eq!(session(&id.to_string()), Some(id));
        for bad in ["", "ab", &"AB".repeat(16), &"+1".repeat(16), &"é".repeat(16)] {
            assert_eq!(session(bad), None, "{bad}");
        }
    }
}
