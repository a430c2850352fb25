//! A program as a process holds it: decoded, verified and hashed.

use std::path::{Path, PathBuf};

use ir::bytecode::{self, Module};
use ir::{Limits, Program, verify_runnable};

use super::RunError;
use crate::handshake::{Hello, PROTOCOL_VERSION, Role, Session};
use crate::ledger::StateId;
use crate::setup::SetupDigest;
use protocols::step::Step;

/// Greatest size of a `.ssb` file.
const MAX_FILE: u64 = 1 << 30;

/// Longest name of an entry and most public numbers, so that a hello holds them.
const MAX_NAME: usize = 1024;
const MAX_PUBLICS: usize = 256;

/// A program file.
pub struct Loaded {
    /// The file.
    pub path: PathBuf,
    /// Its content; every entry is verified and scheduled.
    pub module: Module,
    /// What the handshake compares.
    pub hash: [u8; 32],
}

impl Loaded {
    /// Reads and verifies a file.
    pub fn open(path: &Path) -> Result<Loaded, RunError> {
        let failed = |source| RunError::File { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(failed)?.len();
        if size > MAX_FILE {
            return Err(RunError::Program {
                path: path.to_owned(),
                what: format!("{size} bytes, more than {MAX_FILE}"),
            });
        }
        Loaded::decode(path, &std::fs::read(path).map_err(failed)?)
    }

    fn decode(path: &Path, file: &[u8]) -> Result<Loaded, RunError> {
        let bad = |what: String| RunError::Program { path: path.to_owned(), what };
        let module = bytecode::decode(file).map_err(|e| bad(e.to_string()))?;
        verify_runnable(&module, &Limits::default()).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            bad(format!("it breaks the rules\n{}", faults.join("\n")))
        })?;
        for entry in &module.entries {
            if entry.name.len() > MAX_NAME || entry.publics.len() > MAX_PUBLICS {
                return Err(bad(format!("entry `{}` has too long a name or too many public numbers", entry.name)));
            }
        }
        Ok(Loaded { path: path.to_owned(), module, hash: bytecode::hash(file) })
    }

    /// Whether two parties can make the material of all entries.
    pub fn can_be_made(&self) -> Result<(), RunError> {
        for entry in &self.module.entries {
            if let Some(index) = ir::pair::unmade(entry) {
                let (path, op) = (self.path.clone(), entry.instrs[index].op.mnemonic());
                return Err(RunError::Unmade { path, entry: entry.name.clone(), op });
            }
        }
        Ok(())
    }

    /// An entry of this program as the first step of a session.
    pub fn first_step(&self, program: &Program) -> Step<'_> {
        let index = self.module.entries.iter().position(|e| e.name == program.name);
        Step::first(&self.module.entries, index.expect("an entry of this program") as u32)
    }

    /// What a process with this program says about itself; setup, session, state, entry and public numbers are left empty.
    pub fn hello(&self, role: Role) -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            role,
            program: self.hash,
            commitment: self.module.commitment,
            setup: SetupDigest::default(),
            session: Session::default(),
            link: [0; 32],
            state: StateId::default(),
            entry: String::new(),
            publics: Vec::new(),
        }
    }
}
