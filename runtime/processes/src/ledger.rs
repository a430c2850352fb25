//! The ledger of burnt sessions: material is used at most once, also across crashes.
//!
//! A party writes the session's identifier durably before the first byte that depends on the session's material, and
//! refuses a session that is there already. A run that breaks after that point is burnt whole; it starts anew with a new
//! session, new seeds and new material.
//!
//! The file `ledger` in the state directory has one line per session: the role, 32 hexadecimal digits, and 8 more of the BLAKE3 of
//! both. A line that a crash cut short belongs to a session that never sent anything, and goes when the next is entered. Any
//! other line that is not whole ends the use of the ledger: it may have been of a session that is about to come back. Lines of
//! earlier releases lack the 8 digits; stocks of theirs are of no use any more.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ir::Party;

use crate::handshake::{Session, hex};

/// A state directory's ledger.
#[derive(Clone)]
pub struct Ledger {
    path: PathBuf,
}

/// Why a session was not entered.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum LedgerError {
    #[error("session {session} was burnt before: its material must not be used again")]
    Replayed { session: String },
    #[error("ledger {}: line {line} changed on disk", path.display())]
    Damaged { path: PathBuf, line: usize },
    #[error("ledger {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl LedgerError {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            LedgerError::Replayed { .. } => "run again: every run gets a new session",
            LedgerError::Damaged { .. } => {
                "remove the whole state directory, with the stocks in it: what a damaged ledger forgot must not be used again"
            }
            LedgerError::Io { .. } => "`--state DIR` with a directory that can be written",
        }
    }
}

impl Ledger {
    /// The ledger in `directory`, which is created if need be.
    pub fn open(directory: &Path) -> Result<Ledger, LedgerError> {
        let path = directory.join("ledger");
        let failed = |source| LedgerError::Io { path: path.clone(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        // It tells how many texts there were, which is nobody else's affair.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        sync_directory(directory).map_err(failed)?;
        Ok(Ledger { path })
    }

    /// The state directory.
    pub fn directory(&self) -> &Path {
        self.path.parent().expect("the ledger lies in a directory")
    }

    /// Enters a session, durably, or refuses it.
    pub fn burn(&self, role: Party, session: &Session) -> Result<(), LedgerError> {
        let failed = |source| LedgerError::Io { path: self.path.clone(), source };
        let mut file = OpenOptions::new().read(true).append(true).open(&self.path).map_err(failed)?;
        // Processes share the ledger: look and write under one lock, which ends with `file`.
        file.lock().map_err(failed)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let entry = format!("{role} {session}");
        let damaged = |line| LedgerError::Damaged { path: self.path.clone(), line };
        let mut lines = 0;
        for line in text[..whole].split_inclusive(|byte| *byte == b'\n') {
            lines += 1;
            match entered(&line[..line.len() - 1]) {
                None => return Err(damaged(lines)),
                Some(there) if there == entry => {
                    return Err(LedgerError::Replayed { session: session.to_string() });
                }
                Some(_) => {}
            }
        }
        let line = format!("{entry} {}\n", check(&entry));
        match text.len() - whole {
            0 => {}
            // As much as a line, but with another end.
            cut if cut >= line.len() => return Err(damaged(lines + 1)),
            _ => file.set_len(whole as u64).map_err(failed)?,
        }
        file.write_all(line.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)
    }
}

/// Role and session of a line, if it is whole.
fn entered(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?;
    let (entry, rest) = line.split_at_checked(line.find(' ')? + 33)?;
    let known = match rest.strip_prefix(' ') {
        Some(digits) => digits == check(entry),
        None => rest.is_empty(),
    };
    let (role, session) = entry.split_once(' ')?;
    let digits = session.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    (known && digits && [Party::Client, Party::Server].iter().any(|party| party.to_string() == role)).then_some(entry)
}

/// Digits that a line ends with.
fn check(entry: &str) -> String {
    hex(&blake3::hash(entry.as_bytes()).as_bytes()[..4])
}

/// Makes the names in a directory durable. Only unix can, and needs to.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_burns_once_per_role() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(directory.path()).unwrap();
        let file = File::open(directory.path().join("ledger")).unwrap();
        assert_eq!(crate::keys::readable_by_others(&file).unwrap(), None);
        let (a, b) = (Session([1; 16]), Session([2; 16]));
        ledger.burn(Party::Client, &a).unwrap();
        ledger.burn(Party::Server, &a).unwrap();
        ledger.burn(Party::Client, &b).unwrap();
        // Another process, or the next start, sees them too.
        let again = Ledger::open(directory.path()).unwrap();
        assert!(matches!(again.burn(Party::Client, &a), Err(LedgerError::Replayed { .. })));
        assert!(matches!(again.burn(Party::Server, &a), Err(LedgerError::Replayed { .. })));
        again.burn(Party::Server, &b).unwrap();
    }

    #[test]
    fn a_line_cut_short_spoils_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(directory.path()).unwrap();
        ledger.burn(Party::Client, &Session([1; 16])).unwrap();
        let mut file = OpenOptions::new().append(true).open(directory.path().join("ledger")).unwrap();
        file.write_all(b"client 0202").unwrap();
        let second = Session([2; 16]);
        ledger.burn(Party::Client, &second).unwrap();
        assert!(ledger.burn(Party::Client, &second).is_err());
        assert!(ledger.burn(Party::Client, &Session([1; 16])).is_err());
    }

    #[test]
    fn a_changed_line_is_named_and_lines_of_earlier_releases_count() {
        let directory = tempfile::tempdir().unwrap();
        let (ledger, path) = (Ledger::open(directory.path()).unwrap(), directory.path().join("ledger"));
        let sessions = [1, 2, 3].map(|n| Session([n; 16]));
        let older = format!("client {}\n", sessions[0]);
        std::fs::write(&path, &older).unwrap();
        assert!(matches!(ledger.burn(Party::Client, &sessions[0]), Err(LedgerError::Replayed { .. })));
        ledger.burn(Party::Client, &sessions[1]).unwrap();
        let text = std::fs::read(&path).unwrap();
        assert_eq!(text.len(), older.len() + "client ".len() + 32 + " 01234567\n".len());
        for bit in 8 * older.len()..8 * text.len() {
            let mut changed = text.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, changed).unwrap();
            for session in &sessions[1..] {
                let burnt = ledger.burn(Party::Client, session);
                assert!(matches!(burnt, Err(LedgerError::Damaged { line: 2, .. })), "bit {bit}");
            }
        }
    }
}
