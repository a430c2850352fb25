//! Shares of the product of a client's private matrix with a server's, by ring learning with errors: bytes to bytes, no IO.
//!
//! The client has A \[rows, depth\] mod 2^n, the server W \[depth, columns\] of small integers. Shares are C0 + C1 = A·W + error mod
//! 2^n, with an error of a few units of the last place: [`Plan::error_bound`], [`Plan::error_rms`]. Let q = 2^64, N = 4096,
//! R = Z_q\[X\] / (X^N + 1). Rows are coefficients, in blocks of N with a secret each; what follows is for one block.
//!
//! 1. Client: a seed, from which p and a_k follow, and p' = -p·s + e, for a secret s of coefficients -1, 0, 1 ([`Client::key`]).
//! 2. Client, for each column k of A: b_k = -a_k·s + e_k + 2^(64-n)·A_k, its first `rows` coefficients ([`Client::encrypt`]).
//! 3. Server, for each column j of W: a = Σ_k W_kj a_k + p·u + e1 and b = Σ_k W_kj b_k + p'·u + r, with u as s is, and r uniform. It
//!    sends both without low bits that the noise hides anyway; its share is -r, cut to n bits ([`Server::answer`]).
//! 4. Client: b + a·s, cut to n bits, is its share ([`Client::decrypt`]).
//!
//! Almost all work is the product of step 3, which is one of matrices mod 2^64: [N + rows, depth] x [depth, columns]. That the halves
//! a_k and a serve all blocks of rows is due to Peikert, Vaikuntanathan and Waters, "A framework for efficient and composable
//! oblivious transfer", CRYPTO 2008; plain matrix products mod 2^64 with integers that are not encrypted are those of Henzinger et
//! al., "One server for the price of two" (SimplePIR), USENIX Security 2023. A batch of few rows costs as much in its a-halves as
//! one of N: b-halves alone are cut short.
//!
//! # Security
//!
//! Both parties follow the protocol.
//!
//! **Assumption.** Decisional ring-LWE in R with uniform ternary secrets and noise of a centred binomial distribution of variance
//! 10.5 (deviation 3.24). The tables of the Homomorphic Encryption Standard (Albrecht et al., 2018: ternary secrets, deviation 3.2,
//! classical attacks) allow log2 q up to 109 at N = 4096 for 128 bits of security, 75 for 192 bits and 58 for 256: q = 2^64 is
//! within the line of 192 bits. The lattice estimator of Albrecht, Player and Scott (commit 27a581b, Sage 10.8, 8192 samples) gives
//! a block size of 687 for the primal attack by unique shortest vectors, 2^200 operations by the count of ADPS16, 2^226 by its own
//! default, and by that 2^225 for bounded distance decoding, 2^229 for the dual attack, 2^223 for the dual hybrid one. All take q
//! for a number of so many bits; that it is a power of two and not a product of primes matters to how one multiplies, not to
//! hardness: decisional ring-LWE is as hard as worst-case problems of ideal lattices for every modulus (Peikert, Regev and
//! Stephens-Davidowitz, "Pseudorandomness of ring-LWE for any ring and modulus", STOC 2017, for wider noise than is used in
//! practice, as always). p and a_k are expanded by AES-128 in counter mode from a seed that both know, which is taken for uniform
//! as in FrodoKEM; secrets and noise are expanded likewise from a private seed of the operating system.
//!
//! **What the server sees** is p', b_k: samples of ring-LWE under s, one s for a block, plus 2^(64-n)·A_k. All are pseudorandom, so
//! they tell nothing of A.
//!
//! **What the client sees** is a and b. Without step 3's additions, Σ_k W_kj a_k would give W away, as a_k is known. r is uniform
//! mod q and the server keeps it, so b is uniform and independent of all else, and so is the client's share; this takes no noise
//! that drowns, and none at all is added to b. p·u + e1 is a sample of ring-LWE under u, and nothing else that the client sees
//! depends on u or e1: a is pseudorandom. So the answer tells nothing of W. Cutting low bits off is a public function of it.
//!
//! **What is not claimed.** The error of a result depends on W and on noise, Σ_k W_kj e_k + e·u + e1·s, of which the client knows
//! e_k, e and s. So the functionality is the product with that error. Who reveals results to the client without rounding them
//! first tells a bit of W by their last places, and of u and e1, which then are secrets with a hint.
//!
//! **What serves once.** a_k with its noise: two columns under one a_k give their difference away. u with its noise, and r: two
//! answers under one of them give the difference of their columns away. So each batch draws its secrets anew from the operating
//! system, nothing is `Clone`, and either party counts the columns that it has encrypted or answered. A batch that fails is
//! thrown away whole.
//!
//! **A client that deviates** has p' and b_k under its control, and p and a_k as far as it may search for seeds. b is uniform
//! whatever it sends, so an answer alone tells it no more. But noise beyond the agreed makes errors beyond the bound, as large as
//! it likes and depending on W; they are part of the results, and whoever goes on with those may show them. A mode against such
//! clients would need proofs that ciphertexts are well-formed. A server that deviates sees no more than another: it can
//! make results wrong.
//!
//! **Time and memory accesses** depend on sizes alone: no secret is an index or a condition, and none is divided.

mod client;
mod error;
mod ntt;
pub mod packed;
mod plan;
pub mod product;
mod ring;
mod rns;
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
