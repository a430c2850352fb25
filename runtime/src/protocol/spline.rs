//! `spline`: a piecewise linear function of an opened value, with any number of knots.
//!
//! Identity  f(x) = Σ_i (da_i + db_i·x)·h_i with h_0 = 1, h_i = 1{x >= knot i}, da and db the steps of a and b. With
//!           x = e - r + w·m, w = k·2^n (see the head of [`super`]):
//!           h_i·x = e·h_i - r·h_i + w·m·h_i,  where as in [`super::ge`] h_i = g_i or 1 - g_i, g_i = m + (1 - 2m)·l_i,
//!           l_i = 1{y_low < r_low}; m·g_i = m - m·l_i and r·g_i = m·r + (1 - 2m)·r·l_i.
//!           One comparison key on r_low with payload (1 - 2m, (1 - 2m)·r, m) serves every knot.
//! Shapes    That of the opening. Result: the table's scale, width N.
//! Dealt     In blocks of [`super::BLOCK`] elements: m, then m·r at N bits, then the words of the keys ([`super::dcf`],
//!           n - 1 bits, three components of N bits) to both parties.
//! Online    Local. Exact within the claim |x| < 2^(n-2).

use super::{Dealing, Keys, Mask, Opening, Source, gather, if_client};
use crate::material::MaterialError;
use ir::dcf::Layout;
use ir::{Party, Width};
use rayon::prelude::*;
use std::io;
use std::ops::Range;

fn layout(n: Width, width: Width) -> Layout {
    Layout::new(n - 1, 3, width)
}

/// The dealer's side, for one block.
pub fn deal(x: &Mask, block: Range<usize>, width: Width, to: &mut Dealing) -> io::Result<()> {
    let (first, r) = (block.start, &x.r.data);
    to.correlation(0, block.clone(), width, |i| x.top(i))?;
    to.correlation(1, block.clone(), width, |i| x.top(i) * r[i])?;
    let alphas = gather(block.len(), |i| x.low(first + i));
    let sign = gather(block.len(), |i| 1u64.wrapping_sub(2 * x.top(first + i)));
    let signed = gather(block.len(), |i| sign[i].wrapping_mul(r[first + i]));
    let top = gather(block.len(), |i| x.top(first + i));
    to.keys(layout(x.width, width), block, &alphas, &[sign, signed, top])
}

/// A party's material for a block.
pub struct Dealt {
    top: Vec<u64>,
    top_mask: Vec<u64>,
    keys: Keys,
}

impl Dealt {
    /// Takes a party's material for a block.
    pub fn take(source: &mut Source, x: &Opening, block: Range<usize>, width: Width) -> Result<Dealt, MaterialError> {
        Ok(Dealt {
            top: source.correlation(0, block.clone(), width)?,
            top_mask: source.correlation(1, block.clone(), width)?,
            keys: source.keys(layout(x.width, width), block)?,
        })
    }
}

/// The steps of a piecewise linear function.
pub struct Steps<'a> {
    knots: &'a [i64],
    a: Vec<u64>,
    b: Vec<u64>,
}

impl Steps<'_> {
    /// From a table's knots, offsets and slopes.
    pub fn new<'a>(knots: &'a [i64], a: &[i64], b: &[i64]) -> Steps<'a> {
        let steps = |v: &[i64]| {
            let before = std::iter::once(0).chain(v.iter().copied());
            before.zip(v).map(|(before, v)| v.wrapping_sub(before) as u64).collect()
        };
        Steps { knots, a: steps(a), b: steps(b) }
    }
}

/// A party's side, for one block.
pub fn read(party: Party, x: &Opening, block: Range<usize>, steps: &Steps, dealt: Dealt, out: &mut [u64]) {
    let (knots, first) = (steps.knots.len(), block.start);
    let less = dealt.keys.evaluate(&x.points(block, steps.knots));
    let one = if_client(party, 1);
    out.par_iter_mut().enumerate().for_each(|(i, out)| {
        let at = x.element(first + i);
        let (m, mr) = (dealt.top[i], dealt.top_mask[i]);
        // Shares of h, r·h and m·h, and the term that they make.
        let term = |step: usize, (h, rh, mh): (u64, u64, u64)| {
            let hx = at.e.wrapping_mul(h).wrapping_sub(rh).wrapping_add(at.wrap.wrapping_mul(mh));
            steps.a[step].wrapping_mul(h).wrapping_add(steps.b[step].wrapping_mul(hx))
        };
        *out = (0..knots).fold(term(0, (one, at.r, m)), |sum, knot| {
            let [l, rl, ml] = [0, 1, 2].map(|component: usize| less[component][i * knots + knot]);
            let (g, rg, mg) = (m.wrapping_add(l), mr.wrapping_add(rl), m.wrapping_sub(ml));
            let h = match x.compare(first + i, steps.knots[knot]).above {
                true => (g, rg, mg),
                false => (one.wrapping_sub(g), at.r.wrapping_sub(rg), m.wrapping_sub(mg)),
            };
            sum.wrapping_add(term(knot + 1, h))
        });
    });
}
