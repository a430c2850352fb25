//! The ledger of burnt sessions: material is used at most once, also across crashes.
//!
//! A party writes the session's identifier durably before the first byte that depends on the session's material, and
//! refuses a session that is there already. A run that breaks after that point is burnt whole; it starts anew with a new
//! session, new seeds and new material.
//!
//! The file `ledger` in the state directory has one line per session: the role and 32 hexadecimal digits. A line that a
//! crash cut short belongs to a session that never sent anything.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ir::Party;

use crate::handshake::Session;

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
    #[error("ledger {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl LedgerError {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            LedgerError::Replayed { .. } => "run again: every run gets a new session",
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
        let file = OpenOptions::new().append(true).create(true).open(&path).map_err(failed)?;
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
        let line = format!("{role} {session}");
        if text.split(|b| *b == b'\n').any(|l| l == line.as_bytes()) {
            return Err(LedgerError::Replayed { session: session.to_string() });
        }
        let cut_short = text.last().is_some_and(|b| *b != b'\n');
        let entry = format!("{}{line}\n", if cut_short { "\n" } else { "" });
        file.write_all(entry.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)
    }
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
}
