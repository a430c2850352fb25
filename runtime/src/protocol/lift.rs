//! `lift`: the opened value at any width.
//!
//! Identity  x = e - r + k·m·2^n (see the head of [`super`]), read mod 2^N. For N <= n the last term vanishes.
//! Shapes    That of the opening. Scale stays.
//! Dealt     Nothing beyond the opening's c and m.
//! Online    Local. Exact within the claim |x| < 2^(n-2).

use super::{Opening, gather, if_client};
use crate::ring::Tensor;
use ir::Party;

/// A party's side.
pub fn read(party: Party, x: &Opening) -> Tensor {
    let lifted = gather(x.len(), |i| {
        let x = x.element(i);
        if_client(party, x.e).wrapping_sub(x.r).wrapping_add(x.wrap.wrapping_mul(x.m))
    });
    Tensor::new(x.shape().to_vec(), lifted)
}
