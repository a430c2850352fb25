//! Steps of a session.
//!
//! A session has one seed for each party and runs entries of a module one after another: step 0 a prefill, say, and then
//! decodes. Every use of a seed is told apart by the step's number, so no mask serves two steps. A run of one entry is step
//! 0 of a session that ends there.

use crate::Use;
use ir::Program;
use kernels::prg::Seed;

/// One step: which entry runs, and how many ran before.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// The entries of a verified module.
    pub entries: &'a [Program],
    /// The one that runs.
    pub entry: u32,
    /// Steps of the session before this one.
    pub number: u32,
}

impl<'a> Step<'a> {
    /// The first step of a session.
    pub fn first(entries: &'a [Program], entry: u32) -> Step<'a> {
        Step { entries, entry, number: 0 }
    }

    /// The program of the entry.
    pub fn program(self) -> &'a Program {
        &self.entries[self.entry as usize]
    }

    /// A seed as an instruction of this step uses it.
    pub fn own(self, seed: &Seed, index: usize) -> Use<'_> {
        Use { seed, step: self.number, entry: self.entry, index: index as u32 }
    }
}
