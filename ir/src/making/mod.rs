//! What two parties exchange to make what a program takes, as data: whom an instruction has choose among how many numbers of how
//! many bits, which products of matrices a step takes, and which of all that goes together.
//!
//! Here for the cost of making, which tests hold to the bytes of real engines, and for the making itself, which takes the order of
//! instructions from here. What a request becomes on a link is the engines' affair (`ot`, `rlwe`).

mod job;
mod products;
mod schedule;

pub use job::{Factors, Job, Network, Request, Transfers};
pub(crate) use job::{Making, Requests};
pub use products::{Linear, Stack, Use, factors, fill, linear, numbers, stacks, together};
pub use schedule::{Part, batches, jobs, parts, takes, windows};

/// Elements of a block: exponentials, lines and comparisons at every point are dealt and made block by block.
pub const BLOCK: u64 = 1 << 13;
