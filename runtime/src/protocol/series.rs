//! `series`: a smooth function on a known interval by a trigonometric series whose period is a ring of b bits.
//!
//! Identity  With w = 2π/2^b and e = x + r (any offset taken off), f(x) = c0 + Σ_k p_k·[cos kwr] + q_k·[sin kwr]; p_k and
//!           q_k are public and follow from the low b bits of e in integer arithmetic ([`ir::series`]). Wraps of x + r are
//!           whole periods and do no harm, and an opening of more than b bits serves as well.
//! Shapes    That of the opening. Result scale: public scale + dealt scale, width N.
//! Dealt     In blocks of [`super::BLOCK`] elements: cos kwr for k = 1 ..= K of every element, then sin kwr, N bits each,
//!           rounded to the dealt scale.
//! Online    Local. Errors: the fit, and the roundings of p, q and of the dealt cosines.
//!
//! The dealer evaluates cosines by a polynomial and the rotation formula, in plain f64 operations without fused steps:
//! no table is indexed by a mask, and every machine deals the same numbers.

use super::{Dealing, Mask, Opening, Source, TASK, if_client};
use crate::material::MaterialError;
use ir::series::Series;
use ir::{Party, Table, Type, Width};
use rayon::prelude::*;
use std::io;
use std::ops::Range;

/// Elements whose cosines are computed side by side.
const LANES: usize = 8;

/// What is dealt for every element.
#[derive(Clone, Copy)]
pub struct Terms {
    /// b: log2 of the period, in steps of the opened integers.
    pub period_bits: Width,
    /// Number K of cosines, and of sines.
    pub count: usize,
    /// Fractional bits.
    pub scale: u8,
}

impl Terms {
    /// Of a table of a program that reads an opening of `x`'s scale.
    pub fn of(table: &Table, x: &Type) -> Terms {
        let Table::Series { period_log2, dealt_scale, cos, .. } = table else { panic!("verified: a series") };
        let period_bits = (i16::from(*period_log2) + x.scale).try_into().expect("verified: a period of 2 to 24 bits");
        Terms { period_bits, count: cos.len(), scale: *dealt_scale }
    }
}

/// The dealer's side, for one block.
pub fn deal(x: &Mask, block: Range<usize>, terms: Terms, width: Width, to: &mut Dealing) -> io::Result<()> {
    let mut cos = vec![0; block.len() * terms.count];
    let mut sin = vec![0; block.len() * terms.count];
    let task = LANES * terms.count;
    cos.par_chunks_mut(task)
        .zip(sin.par_chunks_mut(task))
        .zip(x.r.data[block.clone()].par_chunks(LANES))
        .for_each(|((cos, sin), r)| turn(r, terms, cos, sin));
    let first = block.start * terms.count;
    to.vector(0, first, width, cos)?;
    to.vector(1, first, width, sin)
}

/// cos kwr and sin kwr for k = 1 ..= K and up to [`LANES`] masks r, `[mask][k]`.
fn turn(r: &[u64], terms: Terms, cos: &mut [u64], sin: &mut [u64]) {
    let mut first = [(0.0, 0.0); LANES];
    for (first, &r) in first.iter_mut().zip(r) {
        *first = cos_sin(r, terms.period_bits);
    }
    let mut now = first;
    let unit = f64::from(1u32 << terms.scale);
    for k in 0..terms.count {
        for (lane, ((c, s), (c1, s1))) in now.iter_mut().zip(&first).enumerate().take(r.len()) {
            cos[lane * terms.count + k] = rounded(*c * unit);
            sin[lane * terms.count + k] = rounded(*s * unit);
            (*c, *s) = (*c * c1 - *s * s1, *s * c1 + *c * s1);
        }
    }
}

/// cos and sin of 2π·r/2^bits, to about 1e-15.
fn cos_sin(r: u64, bits: Width) -> (f64, f64) {
    // As a signed integer r turns by at most half a circle; an eighth of that angle is at most π/8, where the Taylor series
    // of degree 14 and 15 are exact to f64's precision. Three doublings lead back.
    let signed = (r << (64 - bits)) as i64 >> (64 - bits);
    let angle = signed as f64 * (std::f64::consts::TAU / 8.0) / (1u64 << bits) as f64;
    let square = angle * angle;
    let series = |first: f64, from: u32| {
        (0..7)
            .rev()
            .map(|i| f64::from((from + 2 * i) * (from + 2 * i + 1)))
            .fold(first, |sum, divisor| first - sum * square / divisor)
    };
    let (mut cos, mut sin) = (series(1.0, 1), series(angle, 2));
    for _ in 0..3 {
        (cos, sin) = (1.0 - 2.0 * sin * sin, 2.0 * sin * cos);
    }
    (cos, sin)
}

/// The nearest integer, mod 2^64, of a number below 2^51 in size.
fn rounded(v: f64) -> u64 {
    // Adding 1.5·2^52 leaves no room for a fraction, and the integer in the low bits of the representation.
    const SHIFT: f64 = 1.5 * (1u64 << 52) as f64;
    (v + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits())
}

/// A party's shares of the cosines and sines of a block.
pub struct Dealt {
    cos: Vec<u64>,
    sin: Vec<u64>,
}

impl Dealt {
    /// Takes a party's material for a block.
    pub fn take(source: &mut Source, block: Range<usize>, terms: usize, width: Width) -> Result<Dealt, MaterialError> {
        let elements = block.start * terms..block.end * terms;
        Ok(Dealt { cos: source.correlation(0, elements.clone(), width)?, sin: source.correlation(1, elements, width)? })
    }
}

/// A party's side, for one block; `c0` is the constant term.
pub fn read(party: Party, x: &Opening, block: Range<usize>, series: &Series, c0: i64, dealt: Dealt, out: &mut [u64]) {
    let terms = series.terms();
    let constant = if_client(party, c0 as u64);
    let dot =
        |p: &[i64], v: &[u64]| p.iter().zip(v).fold(0u64, |sum, (&p, &v)| sum.wrapping_add((p as u64).wrapping_mul(v)));
    out.par_chunks_mut(TASK).enumerate().for_each(|(task, out)| {
        let (mut p, mut q) = (vec![0; terms], vec![0; terms]);
        for (i, out) in out.iter_mut().enumerate() {
            let i = task * TASK + i;
            series.coefficients(x.public(block.start + i), &mut p, &mut q);
            let own = i * terms..(i + 1) * terms;
            *out = constant.wrapping_add(dot(&p, &dealt.cos[own.clone()])).wrapping_add(dot(&q, &dealt.sin[own]));
        }
    });
}
