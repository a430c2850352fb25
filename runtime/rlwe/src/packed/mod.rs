//! Products of few rows: rows, columns and inner places of a product are all coefficients of few polynomials.
//!
//! The client has L \[rows, depth\] mod 2^width, the server R \[depth, columns\] of signed integers, which may be as wide as L's. Shares
//! are C0 + C1 = L·R + error mod 2^width, as of a batch (the head of the crate). Let N = 4096 and q the product of three primes of
//! 29, 29 and 30 bits, and let blocks of r rows, k inner places and c columns have r·k·c at most N.
//!
//! 1. Client: a seed, from which p and a_l follow mod q, and p'_i = -p·s_i + e for the secret s_i of each block of rows
//!    ([`Client::key`]).
//! 2. Client, for each block l of inner places and i of rows: b_li = -a_l·s_i + e_li + round(q / 2^width · Σ L_xy·X^(k·x + y))
//!    ([`Client::encrypt`]).
//! 3. Server, for each block j of columns, with Y_l = Σ R_yz·X^(r·k·z + k - 1 - y): a = Σ_l Y_l·a_l + p·u + e1, of all rows, and
//!    b_i = Σ_l Y_l·b_li + p'_i·u, both brought from q to 2^64. It sends a, and of b_i the coefficients k·x + k - 1 + r·k·z plus
//!    numbers uniform mod 2^64, which hold the sums over inner places; without low bits that do not matter ([`Server::answer`]).
//! 4. Client: b_i + a·s_i there, cut to `width` bits, is its share ([`Client::decrypt`]).
//!
//! That coefficients of a product of polynomials are inner products is due to Huang, Lu, Hong and Ding, "Cheetah", USENIX Security
//! 2022, and Hao et al., "Iron", NeurIPS 2022; the inner dimension is cut here, so that an answer carries N / k results and not N /
//! depth. Polynomials are kept by their values modulo the primes: ciphertexts are sent so, and the server transforms what it
//! multiplies by and what it sends.
//!
//! Several products of the same sizes, as of the heads or rows of an attention, may lie side by side in a ciphertext: each has an
//! answer of its own ([`Plan::many`]).
//!
//! # Security
//!
//! As of a batch (the head of the crate): "What the server sees", "What the client sees"; p·u + e1 is made mod q, and bringing a
//! sum to 2^64 and rounding it are public functions of it. Only coefficients under fresh uniform numbers leave of b_i: the
//! others, which hold sums that nobody asked for, are dropped at the server. What differs:
//!
//! **Assumption.** Decisional ring-LWE at log2 q = 88 instead of 64, with the same secrets and noise. The tables of the Homomorphic
//! Encryption Standard (2018) allow 109 bits at N = 4096 for 128 bits of security. The primal attack by unique shortest vectors
//! (condition of Alkim, Ducas, Pöppelmann and Schwabe, USENIX Security 2016, geometric series assumption) takes a block size
//! of 445: 2^130 classical operations by their count, 2^118 quantum ones. With counts that do not neglect all but one call of the
//! sieve, as the lattice estimator's default, some 25 bits more.
//!
//! **What serves once.** Secrets serve for all products of a [`Client`]; a_l, noise, u and uniform numbers are drawn anew for each, by
//! counters that go on after a failure as well. A session that fails is thrown away with its client and server.
//!
//! **What is not claimed.** The error of a result depends on R and on the client's noise and secrets, see plan.rs. Of products of two
//! secrets R are numbers of a mask of the server's: whoever would learn such a result without its being rounded first, either
//! party, would have a hint on the other's mask or on what hides it.

mod client;
mod plan;
mod server;

pub use client::Client;
pub use plan::{MAX_SECRETS, Plan, key_bytes};
pub use server::{Operand, Rows, Server};

use crate::use_of;
use kernels::prg::Domain;

/// Streams of the public seed.
mod public {
    use super::{Domain, use_of};

    /// First halves of ciphertexts.
    pub const HALVES: Domain = use_of(2);
    /// The first half of encryptions of zero.
    pub const KEY: Domain = use_of(3);
}

#[cfg(test)]
mod tests;
