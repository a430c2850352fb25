//! `series`: a smooth function on a known interval by a trigonometric series whose period is a ring of b bits.
//!
//! Identity  With w = 2π/2^b and e = x + r (any offset taken off), f(x) = c0 + Σ_k p_k·[cos kwr] + q_k·[sin kwr]; p_k and
//!           q_k are public and follow from the low b bits of e in integer arithmetic ([`ir::series`]). Wraps of x + r are
//!           whole periods and do no harm, and an opening of more than b bits serves as well.
//! Shapes    That of the opening. Result scale: public scale + dealt scale, width N.
//! Dealt     cos kwr and sin kwr for k = 1 ..= K of every element, N bits each, rounded to the dealt scale, in the order
//!           `[group of 64 elements][k][cos, sin][element of the group]`; in blocks of [`super::BLOCK`] elements.
//! Online    Local. Errors: the fit, and the roundings of p, q and of the dealt cosines.
//!
//! The dealer evaluates cosines by a polynomial and the rotation formula, in plain f64 operations without fused steps:
//! no table is indexed by a mask, and every machine deals the same numbers.

use super::{Dealing, Mask, Opening, Source, Vector, if_client};
use crate::material::MaterialError;
use ir::series::{Series, Turn};
use ir::{Party, Table, Type, Width};
use kernels::cpu::{Cpu, multiversion};
use rayon::prelude::*;
use std::io;
use std::ops::Range;

/// Elements whose dealt values lie together, number k of all of them before number k + 1 of any: 64 elements fill whole
/// words at every width, and vectors run across elements.
const GROUP: usize = 64;

/// Elements that are computed side by side.
const LANES: usize = 16;

/// Dealt values that are expanded at once: they stay in the second-level cache.
const EXPANDED: usize = 1 << 13;

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
    let per = 2 * terms.count;
    to.chunks(0, block.start * per..block.end * per, width, GROUP * per, |first, out| {
        let (cpu, masks) = (Cpu::get(), &x.r.data[first / per..][..out.len() / per]);
        if let Ok(masks) = masks.try_into() {
            return deal_group(cpu, masks, terms, out.as_chunks_mut().0);
        }
        let mut whole = vec![[0; GROUP]; per];
        deal_group(cpu, &padded(masks), terms, &mut whole);
        out.chunks_exact_mut(masks.len())
            .zip(whole)
            .for_each(|(out, whole)| out.copy_from_slice(&whole[..masks.len()]));
    })
}

/// A group of fewer elements, with zeros after them.
fn padded(x: &[u64]) -> [u64; GROUP] {
    let mut whole = [0; GROUP];
    whole[..x.len()].copy_from_slice(x);
    whole
}

multiversion! {
    /// What is dealt for the masks of a group: cosines of number k, then sines.
    fn deal_group(masks: &[u64; GROUP], terms: Terms, out: &mut [[u64; GROUP]]) {
        let unit = f64::from(1u32 << terms.scale);
        for from in (0..GROUP).step_by(LANES) {
            let (mut c1, mut s1) = ([0.0; LANES], [0.0; LANES]);
            for i in 0..LANES {
                (c1[i], s1[i]) = cos_sin(masks[from + i], terms.period_bits);
            }
            let (mut c, mut s) = (c1, s1);
            for [cos, sin] in out.as_chunks_mut().0 {
                for i in 0..LANES {
                    (cos[from + i], sin[from + i]) = (rounded(c[i] * unit), rounded(s[i] * unit));
                    (c[i], s[i]) = (c[i] * c1[i] - s[i] * s1[i], s[i] * c1[i] + c[i] * s1[i]);
                }
            }
        }
    }
}

/// cos and sin of 2π·r/2^bits, to about 1e-15.
#[inline(always)]
fn cos_sin(r: u64, bits: Width) -> (f64, f64) {
    // As a signed integer r turns by at most half a circle; an eighth of that angle is at most π/8, where the Taylor series
    // of degree 14 and 15 are exact to f64's precision. Three doublings lead back.
    let signed = (r << (64 - bits)) as i64 >> (64 - bits);
    let angle = signed as f64 * (std::f64::consts::TAU / 8.0) / (1u64 << bits) as f64;
    let square = angle * angle;
    let series = |first: f64, from: u32| {
        (0..7)
            .rev()
            .map(|i| 1.0 / f64::from((from + 2 * i) * (from + 2 * i + 1)))
            .fold(first, |sum, factor| first - sum * square * factor)
    };
    let (mut cos, mut sin) = (series(1.0, 1), series(angle, 2));
    for _ in 0..3 {
        (cos, sin) = (1.0 - 2.0 * sin * sin, 2.0 * sin * cos);
    }
    (cos, sin)
}

/// The nearest integer, mod 2^64, of a number below 2^51 in size.
#[inline(always)]
fn rounded(v: f64) -> u64 {
    // Adding 1.5·2^52 leaves no room for a fraction, and the integer in the low bits of the representation.
    const SHIFT: f64 = 1.5 * (1u64 << 52) as f64;
    (v + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits())
}

/// A party's shares of the cosines and sines of a block.
pub struct Dealt(Vector);

impl Dealt {
    /// Takes a party's material for a block.
    pub fn take(source: &mut Source, block: Range<usize>, terms: usize, width: Width) -> Result<Dealt, MaterialError> {
        Ok(Dealt(source.vector(0, block.start * 2 * terms..block.end * 2 * terms, width)?))
    }
}

/// A party's side, for one block; `c0` is the constant term.
pub fn read(party: Party, x: &Opening, block: Range<usize>, series: &Series, c0: i64, dealt: Dealt, out: &mut [u64]) {
    let per = 2 * series.terms();
    let constant = if_client(party, c0 as u64);
    let task = (EXPANDED / per).next_multiple_of(GROUP);
    let opened = &x.opened.data[block];
    out.par_chunks_mut(task).zip(opened.par_chunks(task)).enumerate().for_each_init(
        || vec![0; task * per],
        |values, (number, (out, opened))| {
            let values = &mut values[..out.len() * per];
            dealt.0.fill(number * task * per, values);
            let groups = out.chunks_mut(GROUP).zip(opened.chunks(GROUP)).zip(values.chunks(GROUP * per));
            for ((out, opened), values) in groups {
                if let (Ok(opened), Ok(out)) = (opened.try_into(), (&mut *out).try_into()) {
                    read_group(Cpu::get(), opened, x.offset(), series, constant, values.as_chunks().0, out);
                } else {
                    let values: Vec<[u64; GROUP]> = values.chunks_exact(out.len()).map(padded).collect();
                    let mut whole = [0; GROUP];
                    read_group(Cpu::get(), &padded(opened), x.offset(), series, constant, &values, &mut whole);
                    out.copy_from_slice(&whole[..out.len()]);
                }
            }
        },
    );
}

multiversion! {
    /// The results of a group: `constant`, and the products of public factors and dealt cosines and sines.
    fn read_group(
        opened: &[u64; GROUP],
        offset: u64,
        series: &Series<'_>,
        constant: u64,
        dealt: &[[u64; GROUP]],
        out: &mut [u64; GROUP],
    ) {
        if series.is_even() {
            products::<true>(opened, offset, series, constant, dealt, out);
        } else {
            products::<false>(opened, offset, series, constant, dealt, out);
        }
    }
}

/// As [`read_group`], which compiles it for an instruction set.
#[inline(always)]
fn products<const EVEN: bool>(
    opened: &[u64; GROUP],
    offset: u64,
    series: &Series<'_>,
    constant: u64,
    dealt: &[[u64; GROUP]],
    out: &mut [u64; GROUP],
) {
    for from in (0..GROUP).step_by(LANES) {
        let (mut c1, mut s1) = ([0; LANES], [0; LANES]);
        for i in 0..LANES {
            let turn = series.turn(opened[from + i].wrapping_sub(offset));
            (c1[i], s1[i]) = (turn.cos, turn.sin);
        }
        let (mut c, mut s, mut sum) = (c1, s1, [constant; LANES]);
        for (k, [cos, sin]) in (1..=series.terms()).zip(dealt.as_chunks().0) {
            for i in 0..LANES {
                let turn = Turn { cos: c[i], sin: s[i] };
                let (p, q) = series.factors::<EVEN>(k, turn);
                let (cos, sin) = (cos[from + i], sin[from + i]);
                let term = (p as u64).wrapping_mul(cos).wrapping_add((q as u64).wrapping_mul(sin));
                sum[i] = sum[i].wrapping_add(term);
                let next = turn.plus(Turn { cos: c1[i], sin: s1[i] });
                (c[i], s[i]) = (next.cos, next.sin);
            }
        }
        out[from..from + LANES].copy_from_slice(&sum);
    }
}
