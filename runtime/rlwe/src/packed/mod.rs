//! Products of few rows: rows, columns and inner places of a product are all coefficients of few polynomials.
//!
//! The client has L \[rows, depth\] mod 2^width, the server R \[depth, columns\] of signed integers, which may be as wide as L's. Shares
//! are C0 + C1 = L·R + error mod 2^width, as of a batch (the head of the crate). Let N = 4096 and q the product of three primes of
//! 30 bits, and let blocks of r rows, k inner places and c columns have r·k·c at most N.
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
//! # Security
//!
//! As of a batch, with the same secrets, noise and statements ("What the server sees", "What the client sees", "What is not
//! claimed", "What serves once"; p·u + e1 is made mod q, and bringing a sum to 2^64 is a public function of it). What differs is
//! the assumption: decisional ring-LWE at log2 q = 90 instead of 64, still within the 109 bits that the tables of the Homomorphic
//! Encryption Standard allow at N = 4096 for 128 bits of security. Only coefficients under fresh uniform numbers leave of b_i: the
//! others, which hold sums that nobody asked for, are dropped at the server.
//!
//! A session may have many products under one key: a_l, noise, u and uniform numbers are drawn anew for each, the secrets stay.

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
