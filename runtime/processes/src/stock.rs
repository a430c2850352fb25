//! Stocks: material of sessions that was made or dealt beforehand, on disk until a generation takes it.
//!
//! Files     `stock/ROLE-SESSION/` in the state directory has `manifest`, what the session begins with, and, of its steps one
//!           after another, `material`, the dealt bytes, and at the client `products`, its shares of the products with weights
//!           ([`machine::products`]). It is begun under another name, made durable and renamed, and is private: the manifest
//!           has the party's seeds, and the products tell as much. One of another version is passed over.
//! Checked   The manifest has length and digest of every step in every file, and ends with a digest of its own. A step is read into
//!           memory (`memory`) and checked there before it is used, so one that changed on disk ends the session by name.
//!           Plain digests will do: who can read them has the seeds beside them.
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
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use ir::Party;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::handshake::{Session, hex};
use crate::ledger::sync_directory;
use crate::memory;
use kernels::prg::Seed;
use protocols::Maker;

/// Greatest manifest that is read, in bytes.
const MOST: u64 = 1 << 24;

/// Of the files and what they hold: 2 has products, 3 comparison keys of four children, 4 says who made it, 5 has no shares of masks
/// that are of the parties' seeds, 6 grows, 7 has digests.
const VERSION: u32 = 7;

pub(super) const MATERIAL: &str = "material";
pub(super) const PRODUCTS: &str = "products";
pub(super) const MASKS: &str = "masks";
pub(super) const MANIFEST: &str = "manifest";

/// The files of steps, in the order of a manifest's lists, and the places of two of them.
const PARTS: [&str; 3] = [MATERIAL, PRODUCTS, MASKS];
const OF_MATERIAL: usize = 0;
const OF_PRODUCTS: usize = 1;

/// A stock that cannot be used or made.
#[derive(thiserror::Error, Debug)]
#[error("stock {}", path.display())]
pub struct StockError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl StockError {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                "remove this stock, unless a text took it and it is gone, and run again; see whether the disk is sound"
            }
            _ => "`--state DIR` with a directory that can be written and has room",
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    program: [u8; 32],
    /// The name that it lies under.
    session: [u8; 16],
    /// Whether both parties made it; else a dealer knows it.
    pair: bool,
    /// Of the steps that are whole.
    entries: Vec<u32>,
    /// Steps that it is to have.
    wanted: u32,
    /// The party's, each with the first step that it serves.
    seeds: Vec<(u32, [u8; 32])>,
    /// Of each of [`PARTS`], what it has of each step.
    marks: [Vec<Mark>; 3],
}

/// What a file has of a step: so many bytes, and their BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark(u64, [u8; 32]);

impl Mark {
    /// Of all that a hasher has seen.
    pub(super) fn of(hasher: &blake3::Hasher) -> Mark {
        Mark(hasher.count(), hasher.finalize().into())
    }

    /// Of a step that has nothing in a file.
    pub(super) fn nothing() -> Mark {
        Mark::of(&blake3::Hasher::new())
    }

    pub(super) fn bytes(self) -> u64 {
        self.0
    }

    /// Whether a step's bytes are those that were written.
    pub(super) fn is_of(self, bytes: &[u8]) -> bool {
        self == Mark(bytes.len() as u64, blake3::hash(bytes).into())
    }
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

/// A file of a stock, read step by step. The next step is read while this one runs.
pub(super) struct Part {
    file: Arc<File>,
    /// Where the file lay, for messages: it has no name any more.
    path: PathBuf,
    /// The number of the step that is read next.
    step: usize,
    /// Of all steps.
    marks: Vec<Mark>,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Stocks {
    /// Those in a state directory.
    pub fn new(state: &Path, party: Party, program: [u8; 32], maker: Maker) -> Stocks {
        Stocks { directory: state.join("stock"), party, program, maker }
    }

    /// The one with the most steps among those that begin with an entry, and for how many tokens all of them last. One that
    /// grows is named if there is no other.
    pub(super) fn offer(&self, entry: u32) -> (Option<Named>, u64) {
        for (session, odd) in self.found().into_iter().filter_map(|(session, read)| Some((session, read.err()?))) {
            tracing::warn!("stock {} is passed over: {odd}", self.place(session).display());
        }
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
        let read = self.manifest(&taken).and_then(|manifest| {
            let open = |part: usize| {
                let file = Arc::new(File::open(taken.join(PARTS[part]))?);
                let (path, marks) = (place.join(PARTS[part]), manifest.marks[part].clone());
                io::Result::Ok(Part { file, path, step: 0, marks, ahead: None })
            };
            let (material, products) = (open(OF_MATERIAL)?, open(OF_PRODUCTS)?);
            Ok((manifest, material, products))
        });
        // Its maker may have been about to write.
        let removed = (0..3).find_map(|_| match std::fs::remove_dir_all(&taken) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => None,
            removed => Some(removed),
        });
        removed.unwrap_or(Ok(())).and_then(|()| sync_directory(&self.directory)).map_err(failed)?;
        let (manifest, material, products) = read.map_err(failed)?;
        if !self.is_of(session, &manifest) {
            return Ok(None);
        }
        let (seeds, entries) = (manifest.seeds(), manifest.entries.clone());
        Ok(Some(Stock { seeds, entries, material, products }))
    }

    /// What the manifest of a stock with these steps says.
    pub(super) fn describe(
        &self,
        session: Session,
        (entries, wanted): (&[u32], u32),
        seeds: &Seeds,
        marks: [Vec<Mark>; 3],
    ) -> Manifest {
        Manifest {
            version: VERSION,
            program: self.program,
            session: session.0,
            pair: self.maker == Maker::Pair,
            entries: entries.to_vec(),
            wanted,
            seeds: seeds.0.iter().map(|(first, seed)| (*first, *seed.expose())).collect(),
            marks,
        }
    }

    /// Whether a stock is of this program and source, and was made as this session's.
    pub(super) fn is_of(&self, session: Session, manifest: &Manifest) -> bool {
        let of = (manifest.program, manifest.session, manifest.pair);
        of == (self.program, session.0, self.maker == Maker::Pair)
    }

    pub(super) fn place(&self, session: Session) -> PathBuf {
        self.directory.join(format!("{}-{session}", self.party))
    }

    /// What can be read; the rest is not for this program or on its way.
    fn all(&self) -> Vec<(Session, Manifest)> {
        let whole = |(session, read): (Session, io::Result<Manifest>)| Some((session, read.ok()?));
        self.found()
            .into_iter()
            .filter_map(whole)
            .filter(|(session, manifest)| self.is_of(*session, manifest))
            .collect()
    }

    /// Everything with the name of a party's stock.
    fn found(&self) -> Vec<(Session, io::Result<Manifest>)> {
        let Ok(files) = std::fs::read_dir(&self.directory) else { return Vec::new() };
        let prefix = format!("{}-", self.party);
        let found = files.filter_map(Result::ok).filter_map(|file| {
            let session = session(file.file_name().to_str()?.strip_prefix(&prefix)?)?;
            Some((session, self.manifest(&file.path())))
        });
        found.collect()
    }

    pub(super) fn manifest(&self, stock: &Path) -> io::Result<Manifest> {
        let mut text = Zeroizing::new(Vec::new());
        File::open(stock.join(MANIFEST))?.take(MOST).read_to_end(&mut text)?;
        Manifest::decode(&text)
    }
}

impl Manifest {
    /// A line of JSON, and one with its digest.
    pub(super) fn encode(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut text = Zeroizing::new(serde_json::to_vec(self)?);
        let digest = blake3::hash(&text);
        text.extend(format!("\n{digest}\n").bytes());
        Ok(text)
    }

    fn decode(text: &[u8]) -> io::Result<Manifest> {
        let odd = || changed("its manifest changed on disk".to_owned());
        // Before the digest: those of earlier versions have none.
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        match serde_json::from_slice(line) {
            Ok(Head { version: VERSION }) => {}
            Ok(Head { version }) => return Err(changed(format!("it has version {version}, not {VERSION}"))),
            Err(_) => return Err(odd()),
        }
        if text[line.len()..] != *format!("\n{}\n", blake3::hash(line)).as_bytes() {
            return Err(odd());
        }
        let manifest: Manifest = serde_json::from_slice(line)?;
        if manifest.seeds.first().is_none_or(|&(first, _)| first != 0) {
            return Err(changed("it has no seed for its first step".to_owned()));
        }
        match manifest.marks.iter().all(|marks| marks.len() == manifest.entries.len()) {
            true => Ok(manifest),
            false => Err(changed("it has no digest of some of its steps".to_owned())),
        }
    }

    pub(super) fn marks(&self) -> [Vec<Mark>; 3] {
        self.marks.clone()
    }

    pub(super) fn seeds(&self) -> Seeds {
        Seeds(self.seeds.iter().map(|&(first, seed)| (first, Seed::new(seed))).collect())
    }

    /// The entries of the steps that are whole, and how many there are to be.
    pub(super) fn steps(&self) -> (Vec<u32>, u32) {
        (self.entries.clone(), self.wanted)
    }
}

impl Part {
    /// The bytes of the next step, which has so many, as they were when they were written.
    pub(super) fn read(&mut self, bytes: usize) -> Result<Bytes, StockError> {
        let number = self.step;
        let failed = |source| StockError { path: self.path.clone(), source };
        let mark = match self.marks.get(number) {
            Some(mark) if mark.bytes() == bytes as u64 => *mark,
            Some(mark) => {
                return Err(failed(changed(format!("step {number} has {} bytes, not {bytes}", mark.bytes()))));
            }
            None => return Err(failed(changed(format!("it has no step {number}")))),
        };
        let read = match self.ahead.take() {
            Some(ahead) => ahead.join().expect("reading does not panic"),
            None => read_step(&self.file, number, mark),
        };
        let read = read.map_err(failed)?;
        self.step += 1;
        let next = self.marks.get(self.step).copied().filter(|next| next.bytes() > 0);
        self.ahead = next.and_then(|next| {
            let (file, number) = (self.file.clone(), self.step);
            // Without a thread the step is read when it is asked for.
            thread::Builder::new().spawn(move || read_step(&file, number, next)).ok()
        });
        Ok(read)
    }
}

/// Reads a step, which comes next in the file, and checks it.
fn read_step(mut file: &File, number: usize, mark: Mark) -> io::Result<Bytes> {
    let bytes = memory::read(&mut file, usize::try_from(mark.bytes()).map_err(io::Error::other)?)?;
    match mark.is_of(&bytes) {
        true => Ok(bytes),
        false => Err(changed(format!("step {number} changed on disk"))),
    }
}

/// A file that is not what was written.
pub(super) fn changed(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
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
                growth.made();
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
        for entry in [3, 4, 5] {
            assert_eq!(stock.material.read(2).unwrap()[..], [3, entry]);
            assert_eq!(stock.products.read(1).unwrap()[..], [entry]);
        }
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
    fn a_flipped_bit_is_named_with_its_file() {
        let state = tempfile::tempdir().unwrap();
        let stocks = Stocks::new(state.path(), Party::Client, [1; 32], Maker::Dealer);
        let id = Session([1; 16]);
        let place = stocks.place(id);
        let make = || {
            let mut growth = Growth::begin(stocks.clone(), id, Seeds::one(Seed::new([9; 32])), 3);
            for entry in 0..3 {
                growth.material(&[entry, 7]).unwrap();
                growth.made();
                growth.products(&[entry]).unwrap();
                growth.whole(&[entry.into()]).unwrap();
            }
            growth.settle().unwrap();
            growth.end().unwrap();
        };
        let lengths = [(MATERIAL, 2), (PRODUCTS, 1)];
        make();
        // Under another session's name it is nobody's.
        let other = stocks.place(Session([2; 16]));
        std::fs::rename(&place, &other).unwrap();
        assert_eq!(stocks.tokens(), 0);
        std::fs::rename(&other, &place).unwrap();
        assert_eq!(stocks.tokens(), 3);
        let manifest = std::fs::read(place.join(MANIFEST)).unwrap();
        for bit in 0..8 * manifest.len() {
            let mut changed = manifest.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(place.join(MANIFEST), changed).unwrap();
            assert!(stocks.manifest(&place).is_err() && stocks.offer(0).0.is_none(), "bit {bit}");
        }
        std::fs::remove_dir_all(&place).unwrap();
        for (name, length) in lengths {
            for bit in 0..8 * 3 * length {
                make();
                let mut changed = std::fs::read(place.join(name)).unwrap();
                changed[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(place.join(name), changed).unwrap();
                let mut stock = stocks.take(id).unwrap().expect("it is there");
                let part = if name == MATERIAL { &mut stock.material } else { &mut stock.products };
                let step = bit / 8 / length;
                for _ in 0..step {
                    part.read(length).unwrap();
                }
                let error = part.read(length).unwrap_err();
                assert_eq!(error.path, place.join(name));
                assert_eq!(error.source.to_string(), format!("step {step} changed on disk"));
            }
        }
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
