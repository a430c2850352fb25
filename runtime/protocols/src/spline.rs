//! `spline`: a piecewise linear function of an opened value, with any number of knots.
//!
//! Identity  f(x) = Σ_i (da_i + db_i·x)·h_i with h_0 = 1, h_i = 1{x >= knot i}, da and db the steps of a and b. With
//!           x = e - r + w·m, w = k·2^n (see the head of [`super`]):
//!           h_i·x = e·h_i - r·h_i + w·m·h_i,  where as in [`super::ge`] h_i = g_i or 1 - g_i, g_i = m + (1 - 2m)·l_i,
//!           l_i = 1{y_low < r_low}; m·g_i = m - m·l_i and r·g_i = m·r + (1 - 2m)·r·l_i.
//!           One comparison key on r_low with payload (1 - 2m, (1 - 2m)·r, m) serves every knot. As w is a multiple of
//!           2^n, m is needed mod 2^(N-n) only.
//!           The same h give the ends: x lies outside of the knots by 1 - h_first + h_last.
//! Shapes    That of the opening, and a new last axis of two where the ends are asked for. Result: the table's scale, width N.
//! Dealt     In blocks of [`super::BLOCK`] elements: m, then m·r at N bits, then the words of the keys ([`super::dcf`],
//!           n - 1 bits, components of N, N and N - n bits) to both parties.
//! Online    Local. Exact within the claim |x| < 2^(n-2).

use super::{Dealing, Element, Keys, Mask, Opening, Parts, Source, gather, if_client};
use crate::material::MaterialError;
use ir::dcf::Layout;
use ir::{Party, Width};
use kernels::cpu::{Cpu, multiversion};
use kernels::ring::Buffer;
use std::io;
use std::ops::Range;

/// The dealer's side, for one block.
pub fn deal(x: &Mask, block: Range<usize>, width: Width, to: &mut Dealing) -> io::Result<()> {
    let (first, r) = (block.start, &x.r.data);
    to.correlation(0, block.clone(), width, |i| x.top(i))?;
    to.correlation(1, block.clone(), width, |i| x.top(i) * r[i])?;
    let alphas = gather(block.len(), |i| x.low(first + i));
    let sign = gather(block.len(), |i| 1u64.wrapping_sub(2 * x.top(first + i)));
    let signed = gather(block.len(), |i| sign[i].wrapping_mul(r[first + i]));
    let top = gather(block.len(), |i| x.top(first + i));
    let layout = Layout::spline(x.width, width);
    to.keys(layout, block, &alphas, &[sign, signed, top][..layout.components()])
}

/// A party's material for a block.
pub struct Dealt {
    top: Buffer,
    top_mask: Buffer,
    keys: Keys,
}

impl Dealt {
    /// Takes a party's material for a block.
    pub fn take(source: &mut Source, x: &Opening, block: Range<usize>, width: Width) -> Result<Dealt, MaterialError> {
        Ok(Dealt {
            top: source.correlation(0, block.clone(), width)?,
            top_mask: source.correlation(1, block.clone(), width)?,
            keys: source.keys(Layout::spline(x.width, width), block)?,
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

/// Whether x lies outside of the knots, as a share of an integer: 1 - h of the first + h of the last.
fn outside(knots: &[i64], sign: &[u64], at: Element, one: u64, top_bit: u64) -> u64 {
    let reached = |i: usize| {
        let g = at.m.wrapping_add(sign[i]);
        if at.e.wrapping_sub(knots[i] as u64) & top_bit != 0 { g } else { one.wrapping_sub(g) }
    };
    one.wrapping_sub(reached(0)).wrapping_add(reached(knots.len() - 1))
}

multiversion! {
    /// What the knots add to a result, from shares l·(1 - 2m), l·(1 - 2m)·r and l·m at each: see the module's head.
    /// `at` and `one` are e, w and the shares of r, m, m·r and 1; y = e - t has its top bit where `top_bit` has it.
    fn sum_terms(
        steps: [&[u64]; 2], knots: &[i64], less: [&[u64]; 3], at: Element, mr: u64, one: u64, top_bit: u64,
    ) -> u64 {
        let n = knots.len();
        let ([a, b], less) = (steps.map(|s| &s[..n]), less.map(|l| &l[..n]));
        let mut sum = 0u64;
        for i in 0..n {
            let (g, rg) = (at.m.wrapping_add(less[0][i]), mr.wrapping_add(less[1][i]));
            let mg = at.m.wrapping_sub(less[2][i]);
            // g where y has its top bit, else what is left of the whole.
            let above = at.e.wrapping_sub(knots[i] as u64) & top_bit != 0;
            let pick = |g: u64, whole: u64| if above { g } else { whole.wrapping_sub(g) };
            let (h, rh, mh) = (pick(g, one), pick(rg, at.r), pick(mg, at.m));
            let hx = at.e.wrapping_mul(h).wrapping_sub(rh).wrapping_add(at.wrap.wrapping_mul(mh));
            sum = sum.wrapping_add(a[i].wrapping_mul(h)).wrapping_add(b[i].wrapping_mul(hx));
        }
        sum
    }
}

/// A party's side, for one block: `out` has one result for each element, or two, of which the second tells whether it
/// lies outside of the knots.
pub fn read(party: Party, x: &Opening, block: Range<usize>, steps: &Steps, dealt: Dealt, out: &mut [u64]) {
    let (cpu, knots, first, one) = (Cpu::get(), steps.knots, block.start, if_client(party, 1));
    let top_bit = 1 << (x.width - 1);
    let term_of_one = |at: Element| {
        let ex = at.e.wrapping_mul(one).wrapping_sub(at.r).wrapping_add(at.wrap.wrapping_mul(at.m));
        steps.a[0].wrapping_mul(one).wrapping_add(steps.b[0].wrapping_mul(ex))
    };
    let points = |i: usize, points: &mut [u64]| x.points(first + i, knots, points);
    let mut parts = Parts::default();
    let view = x.view(block, &mut parts);
    dealt.keys.evaluate(knots.len(), points, out, |i, [sign, signed, top], out| {
        let at = Element { m: dealt.top[i], ..view.element(i) };
        // Without its component 2, w vanishes mod 2^N: any numbers serve.
        let less = [sign, signed, if top.is_empty() { sign } else { top }];
        let sum = sum_terms(cpu, [&steps.a[1..], &steps.b[1..]], knots, less, at, dealt.top_mask[i], one, top_bit);
        out[0] = term_of_one(at).wrapping_add(sum);
        if let [_, ends] = out {
            *ends = outside(knots, sign, at, one, top_bit);
        }
    });
}
