//! Shares of products of a client's matrix with a server's, by ring learning with errors.

mod client;
mod error;
mod ntt;
mod plan;
mod ring;
mod sample;
mod server;

pub use client::Client;
pub use error::Error;
pub use plan::{MAX_DEPTH, MAX_ERROR, MAX_ROWS, Plan, PlanError, norm_squared};
pub use server::Server;

use kernels::prg::Domain;

/// Streams of a batch's seed: each batch has a seed of its own.
const fn use_of(kind: u8) -> Domain {
    Domain { step: 0, entry: 0, index: 0, kind }
}

/// Streams of the public seed.
mod public {
    use super::{Domain, use_of};

    /// First halves of ciphertexts, column by column.
    pub const HALVES: Domain = use_of(0);
    /// The first half of encryptions of zero.
    pub const KEY: Domain = use_of(1);
}

#[cfg(test)]
mod tests;
