//! The client's shares of products with weights, A·(W - B) + C0, made for many steps at once.
//!
//! Why       Masked weights are most of what a step of one token reads. A product of many rows reads them once for all.
//! Shapes    A step's products lie one after another, in the order of its instructions: each packed at its width and padded
//!           to a byte. They are as secret as the seed.
//! Memory    Rows of all steps, of one weight at a time, and the packed products of all.
//! Errors    Masked weights that are missing or cannot be read.

use bytes::Bytes;
use ir::{Op, Program, Weight, Width};
use kernels::prg::Seed;
use kernels::ring::{self, Buffer};
use protocols::linear::{self, Factor, Sizes};
use protocols::step::Step;
use protocols::weights::{MaskedWeights, WeightsError};
use std::collections::BTreeMap;
use std::ops::Range;

/// The products of one step.
pub struct Products(Bytes);

impl Products {
    /// From what [`products`] gave for a step of `program`; none if they have another length.
    pub fn new(program: &Program, packed: Bytes) -> Option<Products> {
        (packed.len() == products_len(program)).then_some(Products(packed))
    }

    /// The next product, which has so many elements.
    pub(super) fn take(&mut self, elements: usize, width: Width) -> Buffer {
        ring::unpack(&self.0.split_to(ring::packed_len(elements, width)), width, elements)
    }
}

/// Where a product of a step lies.
struct Place {
    index: usize,
    weight: Weight,
    sizes: Sizes,
    width: Width,
    bytes: Range<usize>,
}

fn places(program: &Program) -> Vec<Place> {
    let mut end = 0;
    let place = |(index, instr): (usize, &ir::Instr)| {
        let Op::Linear { x, weight } = instr.op else { return None };
        let (sizes, width) = (Sizes::of(program, x, weight), program.ty(x).width);
        let start = end;
        end += ring::packed_len(sizes.rows * sizes.m, width);
        Some(Place { index, weight, sizes, width, bytes: start..end })
    };
    program.instrs.iter().enumerate().filter_map(place).collect()
}

/// Bytes of a step's products.
pub fn products_len(program: &Program) -> usize {
    places(program).last().map_or(0, |place| place.bytes.end)
}

/// The products of steps of a session, each step's packed. `seed` is the client's seed of the session.
pub fn products(steps: &[Step<'_>], seed: &Seed, weights: &dyn MaskedWeights) -> Result<Vec<Vec<u8>>, WeightsError> {
    let mut packed: Vec<Vec<u8>> = steps.iter().map(|step| vec![0; products_len(step.program())]).collect();
    let mut uses: BTreeMap<Weight, Vec<(usize, Place)>> = BTreeMap::new();
    for (number, step) in steps.iter().enumerate() {
        for place in places(step.program()) {
            uses.entry(place.weight).or_default().push((number, place));
        }
    }
    for (weight, uses) in uses {
        let factor = |(number, place): &(usize, Place)| {
            let client = steps[*number].own(seed, place.index);
            Factor { client, sizes: place.sizes, width: place.width }
        };
        let factors: Vec<Factor> = uses.iter().map(factor).collect();
        let shares = linear::prepare(&factors, Some(weights.masked(weight)?));
        for ((number, place), share) in uses.into_iter().zip(shares) {
            ring::pack_into(&share, place.width, &mut packed[number][place.bytes]);
        }
    }
    Ok(packed)
}
