//! A party's state directory: the ledger, the stocks, and under which key and for how long they are kept.

use std::path::Path;

use ir::Party;
use protocols::Maker;

use super::RunError;
use super::stock::{self, Stocks};
use crate::disk::Disk;
use crate::ledger::Ledger;
use crate::vault::StorageKey;

/// Days that a stock is kept, unless told otherwise.
pub const STOCK_DAYS: u32 = 30;

/// See the module head.
#[derive(Clone)]
pub struct State {
    /// Burnt sessions, and what the other parties said.
    pub ledger: Ledger,
    pub(super) key: StorageKey,
    pub(super) days: u32,
    pub(super) disk: Disk,
}

impl State {
    /// That in `directory`, which is created if need be; what a process that was killed left there is removed. Stocks last for [`STOCK_DAYS`].
    pub fn open(directory: &Path, key: StorageKey) -> Result<State, RunError> {
        State::on(directory, key, Disk::default())
    }

    /// With a disk that tests end.
    pub fn on(directory: &Path, key: StorageKey, disk: Disk) -> Result<State, RunError> {
        let ledger = Ledger::open(directory, disk.clone())?;
        let state = State { ledger, key, days: STOCK_DAYS, disk };
        stock::sweep(&state)?;
        Ok(state)
    }

    /// With stocks that last for so many days.
    pub fn keeping(self, days: u32) -> State {
        State { days, ..self }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.ledger.directory()
    }

    /// A party's stocks of one program, by one source.
    pub fn stocks(&self, party: Party, program: [u8; 32], maker: Maker) -> Stocks {
        Stocks::new(self.clone(), party, program, maker)
    }
}
