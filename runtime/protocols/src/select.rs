//! `select`: what a sign bit selects, max with index for one. All components go with one bit.
//!
//! Identity  s = 1{d >= 0} = 1 - msb(d). With v = d + r mod 2^n public (the opening less its offset), m the top bit of r
//!           and l = 1{v_low < r_low}, s is g = m + (1 - 2m)·l where v has its top bit and 1 - g elsewhere, as in
//!           [`super::ge`]. y_j = o_j - q_j mod 2^N for the opening o_j under the mask q_j, so
//!           s·y_j = o_j·s - q_j·s,  q_j·s = q_j·g or q_j - q_j·g,  q_j·g = m·q_j + (1 - 2m)·q_j·l.
//!           One comparison key on r_low with payload (1 - 2m)·(1, q_1, .., q_c).
//! Shapes    d [..], y [.., c] -> [.., c]. The scale of y, width N of at most that of y.
//! Dealt     In blocks of [`super::BLOCK`] elements of d: m, then m·q [.., c] at N bits, then the words of the keys
//!           ([`super::dcf`], n - 1 bits, 1 + c components of N bits) to both parties.
//! Online    Local. Exact mod 2^N while |d| < 2^(n-1).

use super::{Dealing, Keys, Mask, Opening, Source, gather, if_client};
use crate::material::MaterialError;
use ir::dcf::Layout;
use ir::{Party, Width};
use kernels::ring::Buffer;
use std::io;
use std::ops::Range;

/// The components of `block`.
fn scaled(block: &Range<usize>, components: usize) -> Range<usize> {
    block.start * components..block.end * components
}

/// The dealer's side, for one block of elements of d.
pub fn deal(d: &Mask, y: &Mask, block: Range<usize>, width: Width, to: &mut Dealing) -> io::Result<()> {
    let (first, q) = (block.start, &y.r.data);
    let c = q.len() / d.r.len();
    to.correlation(0, block.clone(), width, |i| d.top(i))?;
    to.correlation(1, scaled(&block, c), width, |i| d.top(i / c) * q[i])?;
    let alphas = gather(block.len(), |i| d.low(first + i));
    let sign = gather(block.len(), |i| 1u64.wrapping_sub(2 * d.top(first + i)));
    let signed = |j: usize| gather(block.len(), |i| sign[i].wrapping_mul(q[(first + i) * c + j]));
    let mut payload: Vec<Buffer> = (0..c).map(signed).collect();
    payload.insert(0, sign);
    to.keys(Layout::select(d.width, c, width), block, &alphas, &payload)
}

/// A party's material for a block.
pub struct Dealt {
    top: Buffer,
    top_mask: Buffer,
    keys: Keys,
}

impl Dealt {
    /// Takes a party's material for a block of elements of d, each with as many `components`.
    pub fn take(
        source: &mut Source,
        d: &Opening,
        components: usize,
        block: Range<usize>,
        width: Width,
    ) -> Result<Dealt, MaterialError> {
        Ok(Dealt {
            top: source.correlation(0, block.clone(), width)?,
            top_mask: source.correlation(1, scaled(&block, components), width)?,
            keys: source.keys(Layout::select(d.width, components, width), block)?,
        })
    }
}

/// A party's side, for one block of elements of d.
pub fn read(party: Party, d: &Opening, y: &Opening, block: Range<usize>, dealt: Dealt, out: &mut [u64]) {
    let (c, first, one) = (y.len() / d.len(), block.start, if_client(party, 1));
    let points = |i: usize, points: &mut [u64]| d.points(first + i, &[0], points);
    let mut masks = vec![0; block.len() * c];
    y.mask.fill(first * c, &mut masks);
    dealt.keys.evaluate(1, points, out, |i, less, out| {
        let above = d.compare(first + i, 0).above;
        let g = dealt.top[i].wrapping_add(less[0][0]);
        let s = if above { g } else { one.wrapping_sub(g) };
        for (j, out) in out.iter_mut().enumerate() {
            let at = (first + i) * c + j;
            let qg = dealt.top_mask[i * c + j].wrapping_add(less[1 + j][0]);
            let qs = if above { qg } else { masks[i * c + j].wrapping_sub(qg) };
            *out = y.public(at).wrapping_mul(s).wrapping_sub(qs);
        }
    });
}
