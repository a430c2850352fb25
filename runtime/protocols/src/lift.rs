//! `lift`: the opened value at any width.
//!
//! Identity  x = e - r + k·m·2^n (see the head of [`super`]), read mod 2^N. For N <= n the last term vanishes.
//! Shapes    That of the opening. Scale stays.
//! Dealt     Nothing beyond the opening's c and m.
//! Online    Local. Exact within the claim |x| < 2^(n-2).

use super::{Opening, View, client_bits, compute};
use ir::Party;
use kernels::cpu::{Cpu, multiversion};
use kernels::ring::Tensor;

/// A party's side.
pub fn read(party: Party, x: &Opening) -> Tensor {
    let client = client_bits(party);
    let lifted = compute([], x.len(), |range, [], [parts, _], out| lift(Cpu::get(), x.view(range, parts), client, out));
    Tensor::new(x.shape().to_vec(), lifted)
}

multiversion! {
    fn lift(x: View<'_>, client: u64, out: &mut [u64]) {
        let x = x.exactly(out.len());
        for (i, out) in out.iter_mut().enumerate() {
            let x = x.element(i);
            *out = (x.e & client).wrapping_sub(x.r).wrapping_add(x.wrap.wrapping_mul(x.m));
        }
    }
}
