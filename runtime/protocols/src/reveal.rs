//! `reveal`: one named party learns an output. The only protocol that ends a secret.
//!
//! Identity  x = x0 + x1 mod 2^n.
//! Shapes    Any.
//! Dealt     Nothing.
//! Online    One one-way message: the other party's share, n bits per element, its garbage bits cut off by the packing.

use ir::Width;

/// The receiving party's side: the value as integers of two's complement, -2^(n-1) .. 2^(n-1).
pub fn read(own: &[u64], peer: &[u64], width: Width) -> Vec<i64> {
    let unused = 64 - u32::from(width);
    own.iter().zip(peer).map(|(&a, &b)| (a.wrapping_add(b) << unused) as i64 >> unused).collect()
}
