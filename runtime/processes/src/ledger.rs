//! The ledger of burnt sessions: material is used at most once, also across crashes.
//!
//! Burnt     A party enters the session's identifier durably before the first byte that depends on the session's material, and
//!           refuses a session that is there already. A run that breaks after that point is burnt whole; it starts anew with a
//!           new session, new seeds and new material.
//! Files     `burnt/` in the state directory has `id`, which tells this directory from all others, and a file for each value of
//!           the first byte of a digest of id and session: records of 24 bytes, role, session, and 7 of the BLAKE3 of both. A session
//!           is looked for in one of them, all of which is read and checked: that, and not the number of sessions, is what opening and burning cost. An
//!           embedded database (redb 4.1 was looked at) checks what it reads only when it checks all, and admits one process.
//! Crashes   A record that a crash cut short belongs to a session that never sent anything, and goes when the next is entered.
//! Damage    Any other record that is not whole, or a file that is not there, ends the use of the ledger: it may have been of a
//!           session that is about to come back. Whole records that are missing at the end of a file are not noticed here, but by the
//!           other party (`once`).
//! Marks     `peers/` has for each other party how many sessions were burnt with it, here and, as it said last, there. A count that
//!           is less than it was is of a directory that was restored.
//! Earlier   A file `ledger` of lines, as earlier releases wrote it, is taken over and removed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use ir::Party;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, lock, owners_alone, sync_directory};
use crate::handshake::{Session, hex};
use crate::keys::create_private;

/// Files that sessions are spread over.
const SHARDS: usize = 256;

/// Bytes of a record.
const RECORD: usize = 24;

/// Most of a file that is read.
const MOST: u64 = 1 << 30;

/// Tells a state directory from all others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct StateId(pub [u8; 16]);

/// The other party of what is kept: its key, zero without one, and its state directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// The bytes of its public key.
    pub key: [u8; 32],
    /// Where it keeps its half.
    pub state: StateId,
}

/// How many sessions two parties have burnt with each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// Here.
    pub ours: u64,
    /// There, as far as it has said.
    pub theirs: u64,
}

/// A state directory's ledger.
#[derive(Clone)]
pub struct Ledger {
    directory: PathBuf,
    id: StateId,
    disk: Disk,
}

/// Why a session was not entered.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum LedgerError {
    #[error("session {session} was burnt before: its material must not be used again")]
    Replayed { session: String },
    #[error("ledger {}: record {record} changed on disk", path.display())]
    Damaged { path: PathBuf, record: usize },
    #[error("ledger {}: a part of it is gone", path.display())]
    Missing { path: PathBuf },
    #[error("ledger {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the operating system gives no randomness: {0}")]
    Random(getrandom::Error),
}

impl LedgerError {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            LedgerError::Replayed { .. } => "run again: every run gets a new session",
            LedgerError::Damaged { .. } | LedgerError::Missing { .. } => {
                "remove the whole state directory, with the stocks in it: what a damaged ledger forgot must not be used again"
            }
            LedgerError::Io { .. } => "`--state DIR` with a directory that can be written",
            LedgerError::Random(_) => "a system with a random number generator",
        }
    }
}

impl Ledger {
    /// The ledger in `directory`, which is created if need be.
    pub fn open(directory: &Path, disk: Disk) -> Result<Ledger, LedgerError> {
        let id = Ledger::begin(directory)?;
        let ledger = Ledger { directory: directory.to_owned(), id, disk };
        ledger.take_over()?;
        Ok(ledger)
    }

    /// Makes what is not there, the id last.
    fn begin(directory: &Path) -> Result<StateId, LedgerError> {
        let (burnt, peers) = (directory.join("burnt"), directory.join("peers"));
        let path = burnt.join("id");
        let failed = |source| LedgerError::Io { path: path.clone(), source };
        if !path.exists() {
            std::fs::create_dir_all(&burnt).and_then(|()| std::fs::create_dir_all(&peers)).map_err(failed)?;
            let _lock = guard(&burnt).map_err(failed)?;
            if !path.exists() {
                let mut options = OpenOptions::new();
                options.append(true).create(true);
                // It tells how many texts there were, which is nobody else's affair.
                owners_alone(&mut options);
                for shard in 0..SHARDS {
                    options.open(burnt.join(name(shard))).map_err(failed)?;
                }
                let synced = [&burnt, directory].into_iter().try_for_each(sync_directory);
                synced.map_err(failed)?;
                let mut id = [0; 16];
                getrandom::fill(&mut id).map_err(LedgerError::Random)?;
                create_private(&path, format!("{} {}\n", hex(&id), check(&id)).as_bytes()).map_err(failed)?;
            }
        }
        let text = read(&path).map_err(failed)?;
        let damaged = || LedgerError::Damaged { path: path.clone(), record: 0 };
        let text = std::str::from_utf8(&text).ok().and_then(|text| text.strip_suffix('\n')).ok_or_else(damaged)?;
        let id = text.split_once(' ').and_then(|(id, digits)| Some((digits_of(id)?, digits)));
        id.filter(|(id, digits)| check(id) == *digits).map(|(id, _)| StateId(id)).ok_or_else(damaged)
    }

    /// The state directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Tells it from all others.
    pub fn id(&self) -> StateId {
        self.id
    }

    /// Enters a session with a party, durably, or refuses it; gives how many were burnt with that party.
    pub fn burn(&self, role: Party, session: &Session, peer: &Peer) -> Result<u64, LedgerError> {
        let _lock = self.lock()?;
        let (path, record) = (self.shard(session), record(role, session));
        let failed = |source| LedgerError::Io { path: path.clone(), source };
        let there = self.records(&path)?;
        if there.as_chunks().0.contains(&record) {
            return Err(LedgerError::Replayed { session: session.to_string() });
        }
        self.append(&path, there.len(), &record).map_err(failed)?;
        let mut marks = self.marks(peer)?;
        marks.ours = marks.ours.saturating_add(1);
        self.set(peer, marks)?;
        Ok(marks.ours)
    }

    /// Whether a session was entered.
    pub fn is_burnt(&self, role: Party, session: &Session) -> Result<bool, LedgerError> {
        Ok(self.records(&self.shard(session))?.as_chunks().0.contains(&record(role, session)))
    }

    /// All sessions that were entered.
    pub fn sessions(&self) -> Result<Vec<(Party, Session)>, LedgerError> {
        let mut all = Vec::new();
        for shard in 0..SHARDS {
            let records = self.records(&self.directory.join("burnt").join(name(shard)))?;
            all.extend(records.as_chunks().0.iter().filter_map(entry));
        }
        Ok(all)
    }

    /// How many sessions were burnt with a party.
    pub fn marks(&self, peer: &Peer) -> Result<Marks, LedgerError> {
        let path = self.peer(peer);
        let bytes = match read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Marks::default()),
            bytes => bytes.map_err(|source| LedgerError::Io { path: path.clone(), source })?,
        };
        let damaged = || LedgerError::Damaged { path: path.clone(), record: 0 };
        let bytes: [u8; 48] = bytes.try_into().map_err(|_| damaged())?;
        let (counts, digest) = bytes.split_at(16);
        if digest != blake3::hash(counts).as_bytes() {
            return Err(damaged());
        }
        let [ours, theirs] = [0, 8].map(|at| u64::from_le_bytes(counts[at..at + 8].try_into().expect("8 bytes")));
        Ok(Marks { ours, theirs })
    }

    /// Raises what is known of a party's counts, never lowers it.
    pub fn raise(&self, peer: &Peer, to: Marks) -> Result<(), LedgerError> {
        let exceeds = |marks: Marks| to.ours > marks.ours || to.theirs > marks.theirs;
        if !exceeds(self.marks(peer)?) {
            return Ok(());
        }
        let _lock = self.lock()?;
        let marks = self.marks(peer)?;
        self.set(peer, Marks { ours: marks.ours.max(to.ours), theirs: marks.theirs.max(to.theirs) })
    }

    fn set(&self, peer: &Peer, marks: Marks) -> Result<(), LedgerError> {
        let path = self.peer(peer);
        let counts = [marks.ours.to_le_bytes(), marks.theirs.to_le_bytes()].concat();
        let bytes = [&counts[..], blake3::hash(&counts).as_bytes()].concat();
        self.disk.replace(&path, &bytes).map_err(|source| LedgerError::Io { path, source })
    }

    fn peer(&self, peer: &Peer) -> PathBuf {
        let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 file of another party");
        let digest = hasher.update(&peer.key).update(&peer.state.0).finalize();
        self.directory.join("peers").join(hex(&digest.as_bytes()[..16]))
    }

    /// The file of a session. Whoever names sessions does not know the id before, and cannot fill one of them.
    fn shard(&self, session: &Session) -> PathBuf {
        let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 file of a burnt session");
        let digest = hasher.update(&self.id.0).update(&session.0).finalize();
        self.directory.join("burnt").join(name(digest.as_bytes()[0].into()))
    }

    /// The whole records of a file.
    fn records(&self, path: &Path) -> Result<Vec<u8>, LedgerError> {
        let mut records = match read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(LedgerError::Missing { path: path.to_owned() });
            }
            records => records.map_err(|source| LedgerError::Io { path: path.to_owned(), source })?,
        };
        records.truncate(records.len() / RECORD * RECORD);
        let odd = records.as_chunks().0.iter().position(|record| entry(record).is_none());
        match odd {
            Some(record) => Err(LedgerError::Damaged { path: path.to_owned(), record }),
            None => Ok(records),
        }
    }

    /// Appends behind so many bytes of whole records.
    fn append(&self, path: &Path, whole: usize, records: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(path)?;
        if file.metadata()?.len() > whole as u64 {
            self.disk.cut(&file, whole as u64)?;
        }
        self.disk.write(&mut file, records)?;
        self.disk.sync(&file)
    }

    /// Keeps other processes from burning, and from what must not be half done when they look, as long as the file is open.
    pub(crate) fn lock(&self) -> Result<File, LedgerError> {
        let burnt = self.directory.join("burnt");
        guard(&burnt).map_err(|source| LedgerError::Io { path: burnt, source })
    }

    /// Takes over the lines of an earlier release.
    fn take_over(&self) -> Result<(), LedgerError> {
        let path = self.directory.join("ledger");
        if !path.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let failed = |source| LedgerError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            // Another process was faster.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file.map_err(failed)?,
        };
        let mut shards: Vec<Vec<u8>> = vec![Vec::new(); SHARDS];
        let mut lines = BufReader::new(file);
        for number in 0.. {
            let mut line = Vec::new();
            if (&mut lines).take(64).read_until(b'\n', &mut line).map_err(failed)? == 0 {
                break;
            }
            let Some(whole) = line.strip_suffix(b"\n") else {
                match line.len() {
                    // Of a session that never sent anything.
                    length if length < 64 => break,
                    _ => return Err(LedgerError::Damaged { path: path.clone(), record: number }),
                }
            };
            let (role, session) =
                earlier(whole).ok_or_else(|| LedgerError::Damaged { path: path.clone(), record: number })?;
            let shard = self.shard(&session);
            let at = shard.file_name().and_then(|name| usize::from_str_radix(name.to_str()?, 16).ok());
            shards[at.expect("a name of two digits")].extend(record(role, &session));
        }
        for (new, shard) in shards.iter().zip(0..).filter(|(new, _)| !new.is_empty()) {
            let shard = self.directory.join("burnt").join(name(shard));
            let there = self.records(&shard)?;
            self.append(&shard, there.len(), new).map_err(failed)?;
        }
        self.disk.remove(&path).and_then(|()| self.disk.sync_directory(&self.directory)).map_err(failed)
    }
}

fn name(shard: usize) -> String {
    format!("{shard:02x}")
}

/// Keeps other processes off, as long as the file is open.
fn guard(burnt: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = owners_alone(options.write(true).create(true)).open(burnt.join("lock"))?;
    lock(&file)?;
    Ok(file)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn record(role: Party, session: &Session) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[0] = role.index() as u8 + 1;
    record[1..17].copy_from_slice(&session.0);
    let digest = blake3::hash(&record[..17]);
    record[17..].copy_from_slice(&digest.as_bytes()[..7]);
    record
}

/// Role and session of a record, if it is whole.
fn entry(bytes: &[u8; RECORD]) -> Option<(Party, Session)> {
    let role = match bytes[0] {
        1 => Party::Client,
        2 => Party::Server,
        _ => return None,
    };
    let session = Session(bytes[1..17].try_into().expect("16 bytes"));
    (record(role, &session) == *bytes).then_some((role, session))
}

/// Role and session of a line of an earlier release: role, 32 hexadecimal digits and, since the last, 8 of the BLAKE3 of both.
fn earlier(line: &[u8]) -> Option<(Party, Session)> {
    let line = std::str::from_utf8(line).ok()?;
    let (entry, rest) = line.split_at_checked(line.find(' ')? + 33)?;
    let known = match rest.strip_prefix(' ') {
        Some(digits) => digits == &check(entry.as_bytes())[..8],
        None => rest.is_empty(),
    };
    let (role, session) = entry.split_once(' ')?;
    let role = [Party::Client, Party::Server].into_iter().find(|party| party.to_string() == role)?;
    known.then_some((role, Session(digits_of(session)?)))
}

/// Digits that stand behind what they check.
fn check(entry: &[u8]) -> String {
    hex(&blake3::hash(entry).as_bytes()[..8])
}

/// 16 bytes from their hexadecimal digits, in lower case.
pub(crate) fn digits_of(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    (hex(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests;
