//! Stocks: material of sessions that was dealt beforehand, on disk until a generation takes it.
//!
//! Files     `stock/ROLE-SESSION/` in the state directory has `manifest`, what the session begins with, and, of its steps one
//!           after another, `material`, the dealt bytes, and at the client `products`, its shares of the products with weights
//!           ([`machine::products`]). It is made under another name, made durable and renamed, and is private: the manifest
//!           has the party's seed, and the products tell as much. One of another version is passed over.
//! Once      Whoever takes a stock renames and removes its directory before it reads a byte, and keeps the open file: no
//!           other process finds it, and a crash leaves nothing behind. The session is burnt in the ledger besides.
//! Sequence  The entries of the steps are fixed when they are dealt. They follow from the size of the prefill, not from
//!           the prompt's length.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ir::Party;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use zeroize::Zeroize;

use crate::handshake::{Session, hex};
use crate::ledger::sync_directory;
use crate::mapped::map_part;
use kernels::prg::Seed;
use protocols::Maker;

/// Greatest manifest that is read, in bytes.
const MOST: u64 = 1 << 20;

/// Of the files and what they hold: 2 has products, 3 comparison keys of four children, 4 says who made it, 5 has no shares of masks
/// that are of the parties' seeds.
const VERSION: u32 = 5;

const MATERIAL: &str = "material";
const PRODUCTS: &str = "products";

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
struct Manifest {
    version: u32,
    program: [u8; 32],
    /// Whether both parties made it; else a dealer knows it.
    pair: bool,
    entries: Vec<u32>,
    seed: [u8; 32],
}

impl Drop for Manifest {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

/// A party's stocks of one program, by one source. Those of the other have another layout, and another trust.
pub struct Stocks {
    directory: PathBuf,
    party: Party,
    program: [u8; 32],
    maker: Maker,
}

/// A stock that was taken: it is on disk no more.
pub(super) struct Stock {
    pub(super) seed: Seed,
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

    /// The session with the most steps among those that begin with an entry, and for how many tokens all of them last.
    pub(super) fn offer(&self, entry: u32) -> (Option<Session>, u64) {
        let fitting = self.all().into_iter().filter(|(_, manifest)| manifest.entries.first() == Some(&entry));
        let sizes: Vec<(usize, Session)> = fitting.map(|(session, m)| (m.entries.len(), session)).collect();
        let best = sizes.iter().max_by_key(|(size, _)| *size).map(|&(_, session)| session);
        (best, sizes.iter().map(|(size, _)| *size as u64).sum())
    }

    /// For how many tokens there is material.
    pub fn tokens(&self) -> u64 {
        self.all().iter().map(|(_, manifest)| manifest.entries.len() as u64).sum()
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
        std::fs::remove_dir_all(&taken).and_then(|()| sync_directory(&self.directory)).map_err(failed)?;
        let (manifest, material, products) = read.map_err(failed)?;
        if !self.is_of(&manifest) {
            return Ok(None);
        }
        let (seed, entries) = (Seed::new(manifest.seed), manifest.entries.clone());
        Ok(Some(Stock { seed, entries, material, products }))
    }

    /// Begins to make a stock.
    pub(super) fn make(&self) -> Result<Making, StockError> {
        let begin = || {
            std::fs::create_dir_all(&self.directory)?;
            let folder = TempDir::with_prefix_in("making-", &self.directory)?;
            let part = |name| io::Result::Ok(BufWriter::with_capacity(1 << 20, private(&folder.path().join(name))?));
            let [material, products] = [part(MATERIAL)?, part(PRODUCTS)?];
            Ok(Making { folder, material, products, entries: Vec::new() })
        };
        begin().map_err(|source| StockError { path: self.directory.clone(), source })
    }

    /// Makes a stock durable under its session's name.
    pub(super) fn keep(&self, made: Making, session: Session, seed: &Seed) -> Result<(), StockError> {
        let place = self.place(session);
        let manifest = Manifest {
            version: VERSION,
            program: self.program,
            pair: self.maker == Maker::Pair,
            entries: made.entries,
            seed: *seed.expose(),
        };
        let keep = || {
            for part in [made.material, made.products] {
                part.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            }
            let mut file = private(&made.folder.path().join("manifest"))?;
            file.write_all(&serde_json::to_vec(&manifest)?)?;
            file.sync_all()?;
            sync_directory(made.folder.path())?;
            std::fs::rename(made.folder.path(), &place)?;
            sync_directory(&self.directory)
        };
        keep().map_err(|source| StockError { path: place.clone(), source })
    }

    fn is_of(&self, manifest: &Manifest) -> bool {
        (manifest.program, manifest.pair) == (self.program, self.maker == Maker::Pair)
    }

    fn place(&self, session: Session) -> PathBuf {
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

    fn manifest(&self, stock: &Path) -> io::Result<Manifest> {
        let mut text = zeroize::Zeroizing::new(Vec::new());
        File::open(stock.join("manifest"))?.take(MOST).read_to_end(&mut text)?;
        let manifest: Manifest = serde_json::from_slice(&text)?;
        match manifest.version {
            VERSION => Ok(manifest),
            other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has version {other}, not {VERSION}"))),
        }
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

/// A stock in the making. Dropped, it is removed.
pub(super) struct Making {
    folder: TempDir,
    material: BufWriter<File>,
    products: BufWriter<File>,
    entries: Vec<u32>,
}

impl Making {
    /// Begins the next step.
    pub(super) fn step(&mut self, entry: u32) {
        self.entries.push(entry);
    }

    /// Appends material of the step.
    pub(super) fn material(&mut self, bytes: &[u8]) -> Result<(), StockError> {
        self.material.write_all(bytes).map_err(|source| self.failed(source))
    }

    /// Appends products of the next step that has none yet.
    pub(super) fn products(&mut self, bytes: &[u8]) -> Result<(), StockError> {
        self.products.write_all(bytes).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> StockError {
        StockError { path: self.folder.path().to_owned(), source }
    }
}

/// A new file that its owner alone can read.
fn private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
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

    #[test]
    fn a_stock_is_taken_once_and_by_its_program() {
        let state = tempfile::tempdir().unwrap();
        let stocks = Stocks::new(state.path(), Party::Client, [1; 32], Maker::Dealer);
        assert_eq!((stocks.offer(3), stocks.tokens()), ((None, 0), 0));
        let id = |n| Session([n; 16]);
        for n in [2, 1, 3] {
            let mut making = stocks.make().unwrap();
            for entry in (0..u32::from(n)).map(|i| 3 + i) {
                making.step(entry);
                making.material(&[n, entry as u8]).unwrap();
                making.products(&[entry as u8]).unwrap();
            }
            stocks.keep(making, id(n), &Seed::new([n; 32])).unwrap();
        }
        drop(stocks.make().unwrap());
        assert_eq!((stocks.offer(3), stocks.tokens()), ((Some(id(3)), 6), 6));
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
        assert_eq!((stock.entries.clone(), stock.seed.expose()), (vec![3, 4, 5], &[3; 32]));
        assert_eq!(stock.material.read(2).unwrap()[..], [3, 3]);
        assert_eq!(stock.material.read(4).unwrap()[..], [3, 4, 3, 5]);
        assert_eq!(stock.products.read(3).unwrap()[..], [3, 4, 5]);
        assert!(stock.material.read(1).is_err() && stock.products.read(1).is_err(), "they have an end");
        assert_eq!(stocks.tokens(), 3);
        let manifest = state.path().join(format!("stock/client-{}/manifest", id(2)));
        let older =
            std::fs::read_to_string(&manifest).unwrap().replace(&format!(r#""version":{VERSION}"#), r#""version":2"#);
        std::fs::write(&manifest, older).unwrap();
        assert_eq!((stocks.offer(3), stocks.tokens()), ((Some(id(1)), 1), 1));
        assert_eq!(std::fs::read_dir(state.path().join("stock")).unwrap().count(), 2);
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
