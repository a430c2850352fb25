//! Stocks: material of sessions that was made or dealt beforehand, on disk until a generation takes it.
//!
//! Files     `stock/ROLE-SESSION/` in the state directory has `manifest`, what the session begins with, and, of its steps one
//!           after another, `material`, the dealt bytes, and at the client `products`, its shares of the products with weights
//!           ([`machine::products`]). It is begun under another name, made durable and renamed, and is private.
//! Sealed    The manifest is sealed under the storage key of the identity; the party's seeds in it, and every step in every file, under the
//!           storage key and the other party's witness (`vault`), which this one has only while it makes the stock, and once when it uses it
//!           (`once`). A step is read into memory and opened there before it is used, so one that changed on disk ends the session
//!           by name.
//! Whose     A stock belongs to two identities, and to the state directory of each: nobody else can name it, or take it. It is of use where it
//!           was made alone (`origin`), and for some time.
//! Growth    A stock grows where it lies, step by step (`growth`). The manifest counts the steps that are whole, so whatever ends
//!           the making leaves a stock that is shorter and as good. The parties may differ by some steps: a session uses
//!           those that both have.
//! Reserved  Who names a stock to the other party has locked its file `reserved` before, and holds the lock until it is taken: no other
//!           session names it, goes on making it or removes it.
//! Once      Whoever takes a stock burns its session in the ledger, then opens its files, renames and removes its directory. What a process
//!           leaves that is killed meanwhile is removed at the next start.
//! Sequence  The entries of the steps are fixed when they are dealt. They follow from the size of the prefill, not from
//!           the prompt's length.
//! Seeds     Two parties who go on making a stock take new seeds for the steps that follow, so that nothing of a step that
//!           broke is used again. A dealer, who makes a step anew from the same seeds, sends the same bytes.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ir::Party;

use super::manifest::{Bond, Manifest, Mark, Seeds, Unusable, now};
use super::origin::{self, ANCHOR};
use super::part::{Part, Sealed, changed};
use super::state::State;
use crate::disk::Disk;
use crate::handshake::Session;
use crate::ledger::{Ledger, LedgerError, Peer, digits_of};
use crate::vault::{StorageKey, Witness};
use protocols::Maker;

/// Attempts at a lock.
const GLANCES: usize = 5;

/// Greatest manifest that is read, in bytes.
const MOST: u64 = 1 << 24;

pub(super) const MATERIAL: &str = "material";
pub(super) const PRODUCTS: &str = "products";
pub(super) const MASKS: &str = "masks";
pub(super) const MANIFEST: &str = "manifest";

/// The files of steps, in the order of a manifest's lists, and the places of them.
pub(super) const PARTS: [&str; 3] = [MATERIAL, PRODUCTS, MASKS];
pub(super) const OF_MATERIAL: usize = 0;
pub(super) const OF_PRODUCTS: usize = 1;
pub(super) const OF_MASKS: usize = 2;

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
    /// Why it is of no use, if that is it.
    pub(super) fn unusable(&self) -> Option<Unusable> {
        self.source.get_ref()?.downcast_ref().copied()
    }

    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match (self.unusable(), self.source.kind()) {
            (Some(why), _) => why.hint(),
            (None, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                "remove this stock, unless a text took it and it is gone, and run again; see whether the disk is sound"
            }
            (None, _) => "`--state DIR` with a directory that can be written and has room",
        }
    }
}

/// A party's stocks of one program, by one source. Those of the other have another layout, and another trust.
#[derive(Clone)]
pub struct Stocks {
    pub(super) state: State,
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

/// A stock that nobody else takes, as long as this lasts.
pub(super) struct Reserved {
    stocks: Stocks,
    manifest: Manifest,
    /// With the lock.
    _held: File,
}

/// A stock that was taken: it is on disk no more.
pub(super) struct Stock {
    pub(super) seeds: Seeds,
    /// The entry of each step.
    pub(super) entries: Vec<u32>,
    pub(super) material: Part,
    pub(super) products: Part,
}

impl Stocks {
    pub(super) fn new(state: State, party: Party, program: [u8; 32], maker: Maker) -> Stocks {
        Stocks { directory: state.directory().join("stock"), state, party, program, maker }
    }

    /// The one with the most steps among those with a party that begin with an entry, reserved; and for how many tokens the others of them
    /// last. One that grows is named if there is no other.
    pub(super) fn offer(&self, peer: &Peer, entry: u32) -> (Option<Reserved>, u64) {
        for (session, odd) in self.found().into_iter().filter_map(|(session, read)| Some((session, read.err()?))) {
            tracing::warn!("stock {} is passed over: {odd}", self.place(session).display());
        }
        let mut fitting = self.fitting(Some(peer), entry);
        fitting.sort_by_key(|(session, manifest)| (self.grows(*session), std::cmp::Reverse(manifest.entries.len())));
        let reserved = fitting.iter().find_map(|(session, _)| self.reserve(*session, peer).ok().flatten());
        let named = reserved.as_ref().map(|reserved| reserved.named().session);
        let others = fitting.iter().filter(|(session, _)| Some(*session) != named);
        let left = others.map(|(_, manifest)| manifest.entries.len() as u64).sum();
        (reserved, left)
    }

    /// For how many tokens those last that begin with an entry, with one party or all.
    pub(super) fn lasting(&self, peer: Option<&Peer>, entry: u32) -> u64 {
        self.fitting(peer, entry).iter().map(|(_, manifest)| manifest.entries.len() as u64).sum()
    }

    /// The one with the most steps among those with one party or all that begin with an entry and have fewer than they were to have, unless
    /// somebody is making or using it; and how many it was to have.
    pub(super) fn begun(&self, peer: Option<&Peer>, entry: u32) -> Option<(Named, u32)> {
        let begun = |m: &Manifest| m.entries.len() < m.wanted as usize;
        let free = |session: Session| !self.grows(session) && !self.is_reserved(session);
        let all = self.fitting(peer, entry).into_iter().filter(|(session, m)| begun(m) && free(*session));
        let named = all.map(|(session, m)| (Named { session, steps: m.entries.len() as u32 }, m.wanted));
        named.max_by_key(|(named, _)| named.steps)
    }

    /// For how many tokens there is material.
    pub fn tokens(&self) -> u64 {
        self.all().iter().map(|(_, manifest)| manifest.entries.len() as u64).sum()
    }

    /// For how many tokens each session with an identity has material.
    pub(super) fn sessions_of(&self, key: &[u8; 32]) -> Vec<Named> {
        let ours = self.all().into_iter().filter(|(_, m)| m.bond.peer.key == *key);
        ours.map(|(session, m)| Named { session, steps: m.entries.len() as u32 }).collect()
    }

    /// The sessions of all with a party.
    pub(super) fn sessions(&self, peer: &Peer) -> Vec<Session> {
        self.all().into_iter().filter(|(_, m)| m.bond.peer == *peer).map(|(session, _)| session).collect()
    }

    /// Whether somebody is making a session's stock: its maker has the material's lock.
    pub(super) fn grows(&self, session: Session) -> bool {
        is_locked(&self.place(session).join(MATERIAL))
    }

    /// Whether somebody has named it, and not yet taken it.
    pub(super) fn is_reserved(&self, session: Session) -> bool {
        is_locked(&self.place(session).join(ANCHOR))
    }

    /// Keeps others off a session's stock with a party, if there is one and nobody else has done so.
    pub(super) fn reserve(&self, session: Session, peer: &Peer) -> Result<Option<Reserved>, StockError> {
        let place = self.place(session);
        let Some(held) = hold(&place) else { return Ok(None) };
        match self.usable(session) {
            // It was taken when the lock came free.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Ok(manifest) if self.is_of(session, &manifest) && manifest.bond.peer == *peer => {
                Ok(Some(Reserved { stocks: self.clone(), manifest, _held: held }))
            }
            Ok(_) => Ok(None),
            Err(source) => Err(StockError { path: place, source }),
        }
    }

    /// Whether a stock is of this program and source, and was made as this session's.
    fn is_of(&self, session: Session, manifest: &Manifest) -> bool {
        let of = (manifest.program, manifest.session, manifest.pair);
        of == (self.program, session.0, self.maker == Maker::Pair)
    }

    /// The manifest of a stock that has no step yet.
    pub(super) fn describe(&self, session: Session, bond: Bond, origin: [u8; 32]) -> Manifest {
        Manifest {
            program: self.program,
            session: session.0,
            pair: self.maker == Maker::Pair,
            state: self.state.ledger.id(),
            origin,
            bond,
            entries: Vec::new(),
            wanted: 0,
            seeds: Vec::new(),
            marks: [const { Vec::new() }; 3],
        }
    }

    pub(super) fn place(&self, session: Session) -> PathBuf {
        self.directory.join(format!("{}-{session}", self.party))
    }

    fn fitting(&self, peer: Option<&Peer>, entry: u32) -> Vec<(Session, Manifest)> {
        let with = |m: &Manifest| peer.is_none_or(|peer| m.bond.peer == *peer);
        self.all().into_iter().filter(|(_, m)| with(m) && m.entries.first() == Some(&entry)).collect()
    }

    /// What can be used; the rest is not for this program or on its way.
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
        let of_party = names(&self.directory).into_iter().filter(|(party, ..)| *party == self.party);
        of_party.map(|(_, session, _)| (session, self.usable(session))).collect()
    }

    fn usable(&self, session: Session) -> io::Result<Manifest> {
        usable(&self.state, self.party, session, &self.place(session))
    }
}

impl Reserved {
    /// As it is told to the other party.
    pub(super) fn named(&self) -> Named {
        Named { session: Session(self.manifest.session), steps: self.manifest.entries.len() as u32 }
    }

    pub(super) fn bond(&self) -> &Bond {
        &self.manifest.bond
    }

    /// Takes it. Its session is burnt.
    pub(super) fn take(self, witness: &Witness) -> Result<Stock, StockError> {
        let place = self.place();
        let failed = |source| StockError { path: place.clone(), source };
        let (manifest, key) = (&self.manifest, self.stocks.state.key.with(witness));
        let seeds = Seeds::open(&key, manifest.session, &manifest.seeds);
        let open = |part: usize| {
            let path = place.join(PARTS[part]);
            let (file, session) = (File::open(&path)?, manifest.session);
            let sealed = Sealed { file, key: key.clone(), session, part };
            io::Result::Ok(Part::new(sealed, path, manifest.marks[part].clone()))
        };
        let opened = open(OF_MATERIAL).and_then(|material| Ok((material, open(OF_PRODUCTS)?)));
        self.remove()?;
        let (material, products) = opened.map_err(failed)?;
        let seeds = seeds.ok_or_else(|| failed(changed("its seeds are not of this witness".to_owned())))?;
        Ok(Stock { seeds, entries: self.manifest.entries.clone(), material, products })
    }

    /// Removes it.
    pub(super) fn discard(self) -> Result<(), StockError> {
        self.remove()
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(super) fn place(&self) -> PathBuf {
        self.stocks.place(Session(self.manifest.session))
    }

    fn remove(&self) -> Result<(), StockError> {
        let place = self.place();
        remove(&self.stocks.state.disk, &place).map_err(|source| StockError { path: place, source })
    }
}

/// Removes a stock's directory, which is held: under another name first, so that nobody finds a part of it.
pub(super) fn remove(disk: &Disk, place: &Path) -> io::Result<()> {
    let (directory, name) = (place.parent().expect("in a directory"), place.file_name().unwrap_or_default());
    let mut taken = std::ffi::OsString::from("taken-");
    taken.push(name);
    let taken = directory.join(taken);
    disk.rename(place, &taken)?;
    disk.remove_directory(&taken)?;
    disk.sync_directory(directory)
}

/// Locks a stock for its holder, unless somebody else does, or it is not there.
pub(super) fn hold(place: &Path) -> Option<File> {
    let held = File::options().read(true).write(true).open(place.join(ANCHOR)).ok()?;
    // Who only looks has it for an instant.
    for _ in 0..GLANCES {
        match held.try_lock() {
            Ok(()) => return Some(held),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
            Err(TryLockError::Error(_)) => return None,
        }
    }
    None
}

/// Whether somebody holds a lock of a file.
pub(super) fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Party, session and place of all that has the name of a stock.
pub(super) fn names(directory: &Path) -> Vec<(Party, Session, PathBuf)> {
    let Ok(files) = std::fs::read_dir(directory) else { return Vec::new() };
    let named = files.filter_map(Result::ok).filter_map(|file| {
        let name = file.file_name();
        let (party, session) = name.to_str()?.split_once('-')?;
        let party = [Party::Client, Party::Server].into_iter().find(|role| role.to_string() == party)?;
        Some((party, Session(digits_of(session)?), file.path()))
    });
    let mut named: Vec<_> = named.collect();
    named.sort_by(|a, b| a.2.cmp(&b.2));
    named
}

/// The manifest in a stock's directory, whatever it says.
pub(super) fn manifest(key: &StorageKey, place: &Path) -> io::Result<Manifest> {
    let mut bytes = Vec::new();
    File::open(place.join(MANIFEST))?.take(MOST).read_to_end(&mut bytes)?;
    Ok(Manifest::decode(key, &bytes)?)
}

/// The manifest of a stock that may be used here, now.
pub(super) fn usable(state: &State, party: Party, session: Session, place: &Path) -> io::Result<Manifest> {
    let manifest = manifest(&state.key, place)?;
    match is_burnt(&state.ledger, party, session)? {
        true => Err(Unusable::Used.into()),
        false if manifest.state != state.ledger.id() || manifest.origin != origin::of(place)? => {
            Err(Unusable::Moved.into())
        }
        false if now() >= manifest.bond.expires => Err(Unusable::Expired.into()),
        false => Ok(manifest),
    }
}

fn is_burnt(ledger: &Ledger, party: Party, session: Session) -> io::Result<bool> {
    ledger.is_burnt(party, &session).map_err(|error| match error {
        LedgerError::Io { source, .. } => source,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    })
}

/// Removes what no process can use any more: what one left that was killed while it began a stock or took one, and stocks that were
/// used or have expired.
pub(super) fn sweep(state: &State) -> Result<(), StockError> {
    let directory = state.directory().join("stock");
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| StockError { path, source }
    };
    for (party, session, place) in names(&directory) {
        let why = usable(state, party, session, &place).err();
        let why = why.and_then(|error| error.get_ref()?.downcast_ref::<Unusable>().copied());
        if let (Some(Unusable::Used | Unusable::Expired), Some(_held)) = (why, hold(&place)) {
            remove(&state.disk, &place).map_err(failed(&place))?;
        }
    }
    let _lock =
        state.ledger.lock().map_err(|error| StockError { path: directory.clone(), source: io::Error::other(error) })?;
    for file in std::fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok) {
        let (path, name) = (file.path(), file.file_name());
        let kind = |prefix: &str| name.to_str().is_some_and(|name| name.starts_with(prefix));
        let left =
            kind("making-") && !is_locked(&path.join(MATERIAL)) || kind("taken-") && !is_locked(&path.join(ANCHOR));
        if left {
            state.disk.remove_directory(&path).map_err(failed(&path))?;
        }
    }
    Ok(())
}

/// What a stock says of a step in a file, of which it has nothing yet.
pub(super) fn nothing() -> impl Iterator<Item = Mark> + Clone {
    std::iter::repeat(Mark::nothing())
}

#[cfg(test)]
mod tests;
