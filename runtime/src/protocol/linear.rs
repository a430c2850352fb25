//! `linear`: product with a weight W that the server owns, with one one-way message.
//!
//! Identity  Once per model the client learns W - B, B uniform. With A uniform and D = x0 - A,
//!           x·W = A·(W - B) + [A·B] + (D + x1)·W:  y0 = A·(W - B) + C0,  y1 = (D + x1)·W + C1,  C0 + C1 = A·B.
//!           (Vector-matrix triples whose matrix part is reused; the client never learns A·B, nor the server A.)
//! Shapes    x [.., k], W [k, m] -> [.., m]. Scales add, the width N stays.
//! Dealt     A: nothing, it comes from the client's seed. A·B at N bits for every element of the result.
//! Online    One message, client to server: D at N bits. y0 does not depend on x and is computed before the input is
//!           known.

use super::{Dealing, Source, Use, kind};
use crate::codec::dimensions;
use crate::material::MaterialError;
use crate::prg::{Seed, Stream};
use crate::ring;
use crate::weights::Integers;
use ir::{Program, Value, Weight, Width};
use std::io::{self, Write};

/// Elements of B or W - B that are in memory at one time, about. A multiple of 8.
const CHUNK: usize = 1 << 22;

/// Sizes of a product.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Rows of x: the product of all its dimensions but the last.
    pub rows: usize,
    /// Inner dimension.
    pub k: usize,
    /// Columns of W.
    pub m: usize,
}

impl Sizes {
    /// Of the product of a program's value and weight.
    pub fn of(program: &Program, x: Value, weight: Weight) -> Sizes {
        let (x, w) = (dimensions(&program.ty(x).shape), dimensions(&program.weights[weight.index()].shape));
        let [k, m] = w[..] else { panic!("verified: a weight of a product is a matrix") };
        Sizes { rows: x[..x.len() - 1].iter().product(), k, m }
    }

    /// A·right, `right` [k, m] being made a few rows at a time by `fill(first element, out)`.
    fn product<E>(
        &self,
        a: &[u64],
        mut fill: impl FnMut(usize, &mut [u64]) -> Result<(), E>,
        mut out: Vec<u64>,
    ) -> Result<Vec<u64>, E> {
        let step = (CHUNK / self.m).max(1);
        let mut right = vec![0; step.min(self.k) * self.m];
        for from in (0..self.k).step_by(step) {
            let to = self.k.min(from + step);
            let right = &mut right[..(to - from) * self.m];
            fill(from * self.m, right)?;
            let left: Vec<u64> = a.chunks_exact(self.k).flat_map(|row| &row[from..to]).copied().collect();
            ring::matmul_add(&left, right, self.rows, to - from, self.m, &mut out);
        }
        Ok(out)
    }
}

/// A, reduced mod 2^width; the seed is the client's.
fn input_mask(client: Use, sizes: Sizes, width: Width) -> Vec<u64> {
    client.elements(kind::INPUT, 0..sizes.rows * sizes.k, width)
}

/// The mask B of a weight: the seed that server and dealer share, with the weight's index in place of an instruction's.
/// B is fresh as long as a seed serves one version of the weights.
#[derive(Clone, Copy)]
pub struct WeightMask<'a>(Use<'a>);

impl<'a> WeightMask<'a> {
    /// The mask of a weight of an entry.
    pub fn new(seed: &'a Seed, entry: u32, weight: Weight) -> WeightMask<'a> {
        WeightMask(Use { seed, entry, index: weight.0 })
    }

    fn stream(self) -> Stream {
        self.0.stream(kind::WEIGHT)
    }
}

/// The server's side, once per model: writes W - B, packed at `width` bits, for the client.
pub fn mask_weight(mask: WeightMask, values: Integers, width: Width, to: &mut dyn Write) -> io::Result<()> {
    let (stream, mut masked, mut packed) = (mask.stream(), Vec::new(), Vec::new());
    let mut integers = Vec::new();
    for from in (0..values.len()).step_by(CHUNK) {
        masked.resize(CHUNK.min(values.len() - from), 0);
        integers.resize(masked.len(), 0);
        values.copy_to(from, &mut integers);
        stream.fill(from as u64, width, &mut masked);
        ring::zip_assign(&mut masked, &integers, |b, w| w.wrapping_sub(b));
        packed.clear();
        ring::pack(&masked, width, &mut packed);
        to.write_all(&packed)?;
    }
    Ok(())
}

/// The dealer's side: A·B.
pub fn deal(client: Use, mask: WeightMask, sizes: Sizes, width: Width, to: &mut Dealing) -> io::Result<()> {
    let (a, b) = (input_mask(client, sizes, width), mask.stream());
    let fill = |first: usize, out: &mut [u64]| -> io::Result<()> {
        b.fill(first as u64, width, out);
        Ok(())
    };
    to.vector(0, 0, width, sizes.product(&a, fill, vec![0; sizes.rows * sizes.m])?)
}

/// The client's side, before its input is known: its share of the result. `masked` gives the elements of W - B from an
/// index on.
pub fn prepare<E>(
    client: Use,
    masked: impl FnMut(usize, &mut [u64]) -> Result<(), E>,
    sizes: Sizes,
    width: Width,
) -> Result<Vec<u64>, E> {
    let product = client.elements(kind::CORRELATION, 0..sizes.rows * sizes.m, width);
    sizes.product(&input_mask(client, sizes, width), masked, product)
}

/// The client's message D: the elements for those of `x`, which begin at element `first`.
pub fn send(client: Use, first: usize, x: &[u64], width: Width) -> Vec<u64> {
    let mut message = client.elements(kind::INPUT, first..first + x.len(), width);
    ring::zip_assign(&mut message, x, |a, x| x.wrapping_sub(a));
    message
}

/// The server's share of A·B.
pub struct Dealt(Vec<u64>);

impl Dealt {
    /// Takes the server's material. The client's share of A·B is from its seed, see [`prepare`].
    pub fn take(source: &mut Source, sizes: Sizes, width: Width) -> Result<Dealt, MaterialError> {
        Ok(Dealt(source.correlation(0, 0..sizes.rows * sizes.m, width)?))
    }
}

/// The server's side: its share of the result, row by row as the client's message arrives.
pub struct Product {
    sizes: Sizes,
    x: Vec<u64>,
    /// The share of A·B, to which the rows' products are added.
    result: Vec<u64>,
}

impl Product {
    /// Without any row of the message; `x` is the server's share of the operand.
    pub fn new(x: Vec<u64>, dealt: Dealt, sizes: Sizes) -> Product {
        Product { sizes, x, result: dealt.0 }
    }

    /// Sizes of the product.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Adds whole rows of the client's message, from row `first` on. Each row is added once.
    pub fn add(&mut self, first: usize, message: &[u64], weight: Integers) {
        let Sizes { k, m, .. } = self.sizes;
        let rows = message.len() / k;
        let masked = &mut self.x[first * k..][..rows * k];
        ring::add_assign(masked, message);
        weight.matmul_add(masked, rows, k, m, &mut self.result[first * m..][..rows * m]);
    }

    /// The server's share, once every row was added.
    pub fn complete(self) -> Vec<u64> {
        self.result
    }
}
