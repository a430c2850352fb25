//! `square` and `sum_squares`: x², or Σ x² of a row, of a value that was opened narrow.
//!
//! Identity  x = e - r + w·m with w = k·2^n (see the head of [`super`]), and m² = m:
//!           x² = e² - 2·e·r + \[r²\] + w·(2·(e·m - \[m·r\]) + w·m), brackets mark what is dealt here.
//! Shapes    `square`: that of the opening. `sum_squares`: the last dimension becomes 1. Scale doubles.
//! Dealt     r² (for a row: Σ r²) at N bits, then m·r of every element at N - n - 1 bits, as it stands before 2^(n+1).
//! Online    Local. Exact mod 2^N within the claim |x| < 2^(n-2).

use super::{Dealing, Mask, Opening, Parts, Source, TASK, Vector, View, client_bits, compute};
use crate::material::MaterialError;
use crate::pair::{Bits, Group, Making, PairError, Shares};
use ir::{Party, Width};
use kernels::cpu::{Cpu, multiversion};
use kernels::ring::{self, Tensor};
use rayon::prelude::*;
use std::io;

/// What is summed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nothing: `square`.
    Elements,
    /// The last axis: `sum_squares`.
    Rows,
}

impl Over {
    /// Elements that one result covers.
    fn row(self, shape: &[usize]) -> usize {
        match self {
            Over::Elements => 1,
            Over::Rows => *shape.last().expect("verified: a row has an axis"),
        }
    }
}

/// A party's shares of the correlations.
pub struct Dealt {
    squares: Vector,
    top_masks: Vector,
}

fn top_mask_bits(opening: Width, width: Width) -> Width {
    width.saturating_sub(opening + 1)
}

/// The dealer's side.
pub fn deal(x: &Mask, over: Over, width: Width, to: &mut Dealing) -> io::Result<()> {
    let row = over.row(&x.r.shape);
    let squares = |r: &[u64]| r.iter().fold(0u64, |sum, &r| sum.wrapping_add(r.wrapping_mul(r)));
    to.correlation(0, 0..x.r.len() / row, width, |i| squares(&x.r.data[i * row..(i + 1) * row]))?;
    to.correlation(1, 0..x.r.len(), top_mask_bits(x.width, width), |i| x.top(i) * x.r.data[i])
}

/// Both parties' side in the dealer's place: r² = r0² + r1² + 2·r0·r1.
pub(crate) fn make(x: &Shares, over: Over, width: Width, to: &mut Making) -> Result<(), PairError> {
    let cross = to.cross(&x.mask, width - 1)?;
    let mut squares = x.mask.clone();
    ring::zip_assign(&mut squares, &cross, |r, cross| r.wrapping_mul(r).wrapping_add(cross << 1));
    let rows = squares.chunks_exact(over.row(&x.shape));
    let sums = rows.map(|row| row.iter().fold(0u64, |sum, v| sum.wrapping_add(*v))).collect();
    to.correlation(Group::Sum, 0, 0, width, sums)?;
    let bits = top_mask_bits(x.width, width);
    if bits > 0 {
        let products = to.bit_times(Bits::of(&x.bits, x.width - 1), &x.mask, 1, bits)?;
        to.correlation(Group::Sum, 1, 0, bits, products)?;
    }
    Ok(())
}

impl Dealt {
    /// Takes a party's material.
    pub fn take(source: &mut Source, x: &Opening, over: Over, width: Width) -> Result<Dealt, MaterialError> {
        Ok(Dealt {
            squares: source.vector(0, 0..x.len() / over.row(x.shape()), width)?,
            top_masks: source.vector(1, 0..x.len(), top_mask_bits(x.width, width))?,
        })
    }
}

/// A party's side.
pub fn read(party: Party, x: &Opening, over: Over, dealt: Dealt) -> Tensor {
    let (row, mut shape, client) = (over.row(x.shape()), x.shape().to_vec(), client_bits(party));
    let squares = match over {
        Over::Elements => {
            compute([&dealt.squares, &dealt.top_masks], x.len(), |range, [squares, top_masks], [parts, _], out| {
                squares_of(Cpu::get(), x.view(range, parts), squares, top_masks, client, out);
            })
        }
        Over::Rows => {
            *shape.last_mut().expect("verified: a row has an axis") = 1;
            // A row at a time, in pieces that a view can have.
            let mut sums = dealt.squares.all(x.len() / row);
            sums.par_iter_mut().enumerate().with_min_len(TASK.div_ceil(row)).for_each_init(
                || (vec![0; TASK.min(row)], Parts::default()),
                |(top_masks, parts), (number, sum)| {
                    for from in (number * row..(number + 1) * row).step_by(TASK) {
                        let range = from..(from + TASK).min((number + 1) * row);
                        let top_masks = &mut top_masks[..range.len()];
                        dealt.top_masks.fill(from, top_masks);
                        *sum = sum.wrapping_add(sum_of_squares(Cpu::get(), x.view(range, parts), top_masks, client));
                    }
                },
            );
            sums
        }
    };
    Tensor::new(shape, squares)
}

multiversion! {
    fn squares_of(x: View<'_>, squares: &[u64], top_masks: &[u64], client: u64, out: &mut [u64]) {
        let (x, squares, top_masks) = (x.exactly(out.len()), &squares[..out.len()], &top_masks[..out.len()]);
        for (i, out) in out.iter_mut().enumerate() {
            *out = squares[i].wrapping_add(term(&x, i, top_masks[i], client));
        }
    }
}

multiversion! {
    fn sum_of_squares(x: View<'_>, top_masks: &[u64], client: u64) -> u64 {
        let x = x.exactly(top_masks.len());
        let mut sum = 0u64;
        for (i, &top_mask) in top_masks.iter().enumerate() {
            sum = sum.wrapping_add(term(&x, i, top_mask, client));
        }
        sum
    }
}

/// The share of x² less that of r².
#[inline(always)]
fn term(x: &View<'_>, i: usize, top_mask: u64, client: u64) -> u64 {
    let x = x.element(i);
    let twice = x.e.wrapping_mul(x.m).wrapping_sub(top_mask).wrapping_mul(2);
    let wrapped = x.wrap.wrapping_mul(twice.wrapping_add(x.wrap.wrapping_mul(x.m)));
    (x.e.wrapping_mul(x.e) & client).wrapping_sub(x.e.wrapping_mul(x.r).wrapping_mul(2)).wrapping_add(wrapped)
}
