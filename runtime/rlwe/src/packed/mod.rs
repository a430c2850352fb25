//! Products of few rows: rows, columns and inner places of a product are all coefficients of few polynomials.
//!
//! The client has L \[rows, depth\] mod 2^width, the server R \[depth, columns\] of signed integers, which may be as wide as L's. Shares
//! are C0 + C1 = L·R + error mod 2^width, as of a batch (the head of the crate). Let N = 4096 and q the product of three primes of
//! 29, 29 and 30 bits, and let blocks of r rows, k inner places and c columns have r·k·c at most N.
//!
//! 1. Client: a seed, from which p and a_l follow mod q, and p' = -p·s + e for its secret s ([`Client::key`]). With it, when a
//!    product first needs them, keys of automorphisms ([`Client::merge_keys`], `merge`).
//! 2. Client, for each block l of rows and inner places: b_l = -a_l·s + e_l + round(q / 2^width · Σ L_xy·X^(k·x + y))
//!    ([`Client::encrypt`]).
//! 3. Server, for each block of rows and each of columns, with Y_l = Σ R_yz·X^(r·k·z - y): (Σ_l Y_l·a_l, Σ_l Y_l·b_l), whose message has
//!    the results at multiples of k. Of k such ciphertexts it makes one, (a, b), in whose message every coefficient is a result
//!    (`merge`). It sends a + p·u + e1, and of b + p'·u the results plus numbers uniform mod 2^64, both brought from q to 2^64,
//!    without low bits that do not matter ([`Server::answer`]).
//! 4. Client: b + a·s there, cut to `width` bits, is its share ([`Client::decrypt`]).
//!
//! That coefficients of a product of polynomials are inner products is due to Huang, Lu, Hong and Ding, "Cheetah", USENIX Security
//! 2022, and Hao et al., "Iron", NeurIPS 2022; the inner dimension is cut here, so that a ciphertext has N / k results and not N /
//! depth. That answers are merged by automorphisms is as in He et al., "Rhombus", CCS 2024. Polynomials are kept by their values
//! modulo the primes: ciphertexts are sent so, and the server transforms what it multiplies by, what it merges and what it sends.
//!
//! Products of the same sizes, as of the heads or rows of an attention, are made together: their results share answers, and where a
//! product's matrix is small, ciphertexts.
//!
//! # Security
//!
//! As of a batch (the head of the crate): "What the server sees", "What the client sees"; p·u + e1 is made mod q, and bringing a
//! sum to 2^64 and rounding it are public functions of it. Only coefficients under fresh uniform numbers leave of b: the
//! others, which hold sums that nobody asked for, are dropped at the server. What differs:
//!
//! **Assumption.** Decisional ring-LWE at log2 q = 88 instead of 64, with the same secrets and noise. Keys of automorphisms are
//! encryptions of images of s under s itself, so that it must stay hard beside such: circular security, which all schemes with
//! rotations assume. The tables of the Homomorphic
//! Encryption Standard (2018) allow 109 bits at N = 4096 for 128 bits of security. The primal attack by unique shortest vectors
//! (condition of Alkim, Ducas, Pöppelmann and Schwabe, USENIX Security 2016, geometric series assumption) takes a block size
//! of 445: 2^130 classical operations by their count, 2^118 quantum ones. With counts that do not neglect all but one call of the
//! sieve, as the lattice estimator's default, some 25 bits more.
//!
//! **What serves once.** A secret serves for all products of a [`Client`]; a_l, noise, u and uniform numbers are drawn anew for each, by
//! counters that go on after a failure as well. A session that fails is thrown away with its client and server.
//!
//! **What is not claimed.** The error of a result depends on R and on the client's noise and secrets, see plan.rs. Of products of two
//! secrets R are numbers of a mask of the server's: whoever would learn such a result without its being rounded first, either
//! party, would have a hint on the other's mask or on what hides it.

mod client;
mod merge;
mod plan;
mod server;

pub use client::Client;
pub use merge::Known;
pub use plan::{KEY_BYTES, Plan, good_error};
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
    /// First halves of keys of automorphisms.
    pub const MERGE_KEYS: Domain = use_of(4);
}

#[cfg(test)]
mod tests;
