//! `square` and `sum_squares`: x², or Σ x² of a row, of a value that was opened narrow.
//!
//! Identity  x = e - r + w·m with w = k·2^n (see the head of [`super`]), and m² = m:
//!           x² = e² - 2·e·r + \[r²\] + w·(2·(e·m - \[m·r\]) + w·m), brackets mark what is dealt here.
//! Shapes    `square`: that of the opening. `sum_squares`: the last dimension becomes 1. Scale doubles.
//! Dealt     r² (for a row: Σ r²) at N bits, then m·r of every element at N - n - 1 bits, as it stands before 2^(n+1).
//! Online    Local. Exact mod 2^N within the claim |x| < 2^(n-2).

use super::{Dealing, Mask, Opening, Source, gather, if_client};
use crate::material::MaterialError;
use crate::ring::Tensor;
use ir::{Party, Width};
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
    squares: Vec<u64>,
    top_masks: Vec<u64>,
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

impl Dealt {
    /// Takes a party's material.
    pub fn take(source: &mut Source, x: &Opening, over: Over, width: Width) -> Result<Dealt, MaterialError> {
        Ok(Dealt {
            squares: source.correlation(0, 0..x.len() / over.row(x.shape()), width)?,
            top_masks: source.correlation(1, 0..x.len(), top_mask_bits(x.width, width))?,
        })
    }
}

/// A party's side.
pub fn read(party: Party, x: &Opening, over: Over, dealt: Dealt) -> Tensor {
    let (row, mut shape) = (over.row(x.shape()), x.shape().to_vec());
    if over == Over::Rows {
        *shape.last_mut().expect("verified: a row has an axis") = 1;
    }
    let term = |i: usize| {
        let (x, mr) = (x.element(i), dealt.top_masks[i]);
        let twice = x.e.wrapping_mul(x.m).wrapping_sub(mr).wrapping_mul(2);
        let wrapped = x.wrap.wrapping_mul(twice.wrapping_add(x.wrap.wrapping_mul(x.m)));
        if_client(party, x.e.wrapping_mul(x.e))
            .wrapping_sub(x.e.wrapping_mul(x.r).wrapping_mul(2))
            .wrapping_add(wrapped)
    };
    let sum = |i: usize| (i * row..(i + 1) * row).fold(dealt.squares[i], |sum, i| sum.wrapping_add(term(i)));
    Tensor::new(shape, gather(dealt.squares.len(), sum))
}
