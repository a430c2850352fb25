//! `ge`: whether an opened value reaches public thresholds, as shares of the integers 0 and 1.
//!
//! Identity  1{x >= t} = 1 - msb(x - t); with y = x - t + r mod 2^n, public, and g = m xor 1{y_low < r_low}
//!           = m + (1 - 2m)·1{y_low < r_low}, it is g where y has its top bit and 1 - g elsewhere. One comparison key on
//!           r_low with payload 1 - 2m serves every threshold.
//! Shapes    The thresholds are a new last axis. Scale 0, width N.
//! Dealt     In blocks of [`super::BLOCK`] elements: m at N bits, then the words of the keys ([`super::dcf`], n - 1 bits,
//!           one component of N bits) to both parties.
//! Online    Local. Exact while |x - t| < 2^(n-1).

use super::{Dealing, Keys, Mask, Opening, Source, gather, if_client};
use crate::material::MaterialError;
use ir::dcf::Layout;
use ir::{Party, Width};
use std::io;
use std::ops::Range;

/// The dealer's side, for one block.
pub fn deal(x: &Mask, block: Range<usize>, width: Width, to: &mut Dealing) -> io::Result<()> {
    to.correlation(0, block.clone(), width, |i| x.top(i))?;
    let alphas = gather(block.len(), |i| x.low(block.start + i));
    let sign = gather(block.len(), |i| 1u64.wrapping_sub(2 * x.top(block.start + i)));
    to.keys(Layout::ge(x.width, width), block, &alphas, &[sign])
}

/// A party's material for a block.
pub struct Dealt {
    top: Vec<u64>,
    keys: Keys,
}

impl Dealt {
    /// Takes a party's material for a block.
    pub fn take(source: &mut Source, x: &Opening, block: Range<usize>, width: Width) -> Result<Dealt, MaterialError> {
        let top = source.correlation(0, block.clone(), width)?;
        Ok(Dealt { top, keys: source.keys(Layout::ge(x.width, width), block)? })
    }
}

/// A party's side, for one block: `out` is `[element][threshold]`.
pub fn read(party: Party, x: &Opening, block: Range<usize>, thresholds: &[i64], dealt: Dealt, out: &mut [u64]) {
    let one = if_client(party, 1);
    let points = |i: usize, points: &mut [u64]| x.points(block.start + i, thresholds, points);
    dealt.keys.evaluate(thresholds.len(), points, out, |i, [less, ..], out| {
        for ((out, &less), &t) in out.iter_mut().zip(less).zip(thresholds) {
            let g = dealt.top[i].wrapping_add(less);
            *out = if x.compare(block.start + i, t).above { g } else { one.wrapping_sub(g) };
        }
    });
}
