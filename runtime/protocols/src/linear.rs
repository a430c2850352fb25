//! `linear`: product with a weight W that the server owns, with one one-way message.
//!
//! Identity  Once per model the client learns W - B, B uniform. With A uniform and D = x0 - A,
//!           x·W = A·(W - B) + [A·B] + (D + x1)·W:  y0 = A·(W - B) + C0,  y1 = (D + x1)·W + C1,  C0 + C1 = A·B.
//!           (Vector-matrix triples whose matrix part is reused; the client never learns A·B, nor the server A.)
//! Shapes    x [.., k], W [k, m] -> [.., m]. Scales add, the width N stays.
//! Dealt     A: nothing, it comes from the client's seed. A·B at N bits for every element of the result.
//! Online    One message, client to server: D at N bits, in blocks of columns, see [`Sizes::blocks`]. y0 does not depend
//!           on x and is computed before the input is known.

use super::{Dealing, Source, Use, kind};
use crate::material::MaterialError;
use crate::pair::{Group, Making, PairError, Transfers};
use crate::weights::{self, Integers, ServerWeights};
use ir::wire::FRAME_PAYLOAD;
use ir::{Program, Value, Weight, Width};
use kernels::codec::dimensions;
use kernels::prg::{Seed, Stream};
use kernels::ring::{self, Buffer, Packed, Tensor};
use rayon::prelude::*;
use std::io::{self, Write};
use std::ops::Range;

/// Elements that are masked at one time. A multiple of 8.
const CHUNK: usize = 1 << 22;

/// Columns of a block are a multiple of this, so that all but the last fill whole panels of the matrix product: each begun panel
/// costs a pass over the result.
const BLOCK: usize = ring::PANEL;

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

    /// Columns of D that travel together, in their order: all rows of a block lie behind each other, `[row][column]`. The
    /// server multiplies a block, with the rows of W that belong to it, while the next is on its way. All but the last have
    /// a multiple of [`ring::PANEL`] columns.
    pub fn blocks(self, width: Width) -> impl Iterator<Item = Range<usize>> {
        let bytes = ring::packed_len(self.rows * self.k, width);
        let count = bytes.div_ceil(FRAME_PAYLOAD as usize).min(self.k / BLOCK).max(1);
        let columns = match count {
            1 => self.k,
            _ => self.k.div_ceil(count).next_multiple_of(BLOCK),
        };
        (0..self.k).step_by(columns).map(move |from| from..self.k.min(from + columns))
    }
}

/// A, reduced mod 2^width; the seed is the client's.
fn input_mask(client: Use, sizes: Sizes, width: Width) -> Buffer {
    client.elements(kind::INPUT, 0..sizes.rows * sizes.k, width)
}

/// The mask B of a weight: from the seed that server and dealer share, with the weight's index in place of an
/// instruction's. It belongs to the weight, whatever entry and step read it, and B is one tensor mod 2^width, `width` the
/// greatest of the products that read it: a narrower product takes the low bits of the same integers. B is fresh as long
/// as a seed serves one version of the weights.
#[derive(Clone, Copy)]
pub struct WeightMask<'a> {
    seed: &'a Seed,
    weight: Weight,
    width: Width,
}

impl<'a> WeightMask<'a> {
    /// The mask of a weight whose widest product, over the entries of its module, has `width` bits: see
    /// [`ir::material::masked_weights`].
    pub fn new(seed: &'a Seed, (weight, width): (Weight, Width)) -> WeightMask<'a> {
        WeightMask { seed, weight, width }
    }

    fn stream(self) -> Stream {
        Use { seed: self.seed, step: 0, entry: 0, index: self.weight.0 }.stream(kind::WEIGHT)
    }
}

/// The server's side, once per model: writes W - B, packed at the mask's width, for the client.
pub fn mask_weight(mask: WeightMask, values: Integers, to: &mut dyn Write) -> io::Result<()> {
    let (stream, width, mut masked, mut packed) = (mask.stream(), mask.width, Vec::new(), Vec::new());
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

/// Masks all weights that the products of a module's entries read, in memory: what the server sends once per model.
pub fn mask_weights(entries: &[Program], seed: &Seed, weights: &dyn ServerWeights) -> weights::Packed {
    let mut packed = weights::Packed::default();
    for (weight, width, elements) in weights::masked(entries) {
        let mut bytes = Vec::with_capacity(ring::packed_len(elements, width));
        mask_weight(WeightMask::new(seed, (weight, width)), weights.integers(weight), &mut bytes)
            .and_then(|()| packed.insert(weight, width, elements, bytes).map_err(io::Error::other))
            .expect("memory takes all bytes, and they are as many as the weight has");
    }
    packed
}

/// The dealer's side: A·B. Bits of B above the product's width mean nothing.
pub fn deal(client: Use, mask: WeightMask, sizes: Sizes, width: Width, to: &mut Dealing) -> io::Result<()> {
    let (a, b) = (input_mask(client, sizes, width), mask.stream());
    let fill = |first: usize, out: &mut [u64]| b.fill(first as u64, mask.width, out);
    let mut product = Buffer::unset(sizes.rows * sizes.m);
    ring::matmul_filled(&a, fill, [sizes.rows, sizes.k, sizes.m], width, false, &mut product);
    to.vector(0, 0, width, &product)
}

/// Both parties' side in the dealer's place, without B: their shares of A·W for several uses of one weight, one at least, whose rows
/// go into one product ([`ir::making::linear`]). `weight` is the server's. What is off by a few units of the last place is the
/// engine's affair ([`Transfers::client_product`]).
pub(crate) fn product(
    factors: &[Factor],
    weight: Option<Integers>,
    pair: &mut dyn Transfers,
) -> Result<Vec<Buffer>, PairError> {
    let Sizes { k, m, .. } = factors[0].sizes;
    let rows = factors.iter().map(|f| f.sizes.rows).sum();
    // Bits above a factor's width mean nothing, so the greatest serves all.
    let width = factors.iter().map(|f| f.width).max().expect("there is a first");
    let product = match weight {
        Some(weight) => pair.server_product(weight, [rows, k, m], width)?,
        None => {
            let mut a = Buffer::unset(rows * k);
            let mut place = &mut a[..];
            for f in factors {
                let here = place.split_off_mut(..f.sizes.rows * k).expect("rows of all factors");
                f.client.stream(kind::INPUT).fill(0, f.width, here);
            }
            pair.client_product(&Tensor::new(vec![rows, k], a), m, width)?
        }
    };
    let mut product = &product[..];
    let mut part = |f: &Factor| {
        let share = product.split_off(..f.sizes.rows * m).expect("rows of all factors");
        Buffer::from(share.to_vec())
    };
    Ok(factors.iter().map(&mut part).collect())
}

/// Both parties' side in the dealer's place: the shares that [`product`] gave become those of the client's seed.
pub(crate) fn make(share: Buffer, width: Width, to: &mut Making) -> Result<(), PairError> {
    to.correlation(Group::Sum, 0, 0, width, share)?;
    Ok(())
}

/// A use of a weight by the client: its product in one instruction of one step.
#[derive(Clone, Copy)]
pub struct Factor<'a> {
    /// The instruction.
    pub client: Use<'a>,
    /// Sizes of the product.
    pub sizes: Sizes,
    /// Its width.
    pub width: Width,
}

/// The client's side, before its input is known: its shares of the results of several uses of one weight, which is read
/// once for all of them. `masked` is W - B; what both parties made is of W itself, and the client's shares come from its seed
/// alone.
pub fn prepare(factors: &[Factor], masked: Option<Packed>) -> Vec<Buffer> {
    let Some(&Factor { sizes: Sizes { k, m, .. }, .. }) = factors.first() else { return Vec::new() };
    assert!(factors.iter().all(|f| (f.sizes.k, f.sizes.m) == (k, m)), "uses of one weight");
    let rows = factors.iter().map(|f| f.sizes.rows).sum();
    // Bits above a factor's width mean nothing, so the greatest serves all.
    let width = factors.iter().map(|f| f.width).max().expect("there is a first");
    let (mut a, mut product) = (Buffer::unset(rows * k), Buffer::unset(rows * m));
    let mut rest = (&mut a[..], &mut product[..]);
    for &Factor { client, sizes, width } in factors {
        let of_a = rest.0.split_off_mut(..sizes.rows * k).expect("rows of all factors");
        let share = rest.1.split_off_mut(..sizes.rows * m).expect("rows of all factors");
        client.stream(kind::INPUT).fill(0, width, of_a);
        client.stream(kind::CORRELATION).fill(0, width, share);
    }
    if let Some(masked) = masked {
        ring::matmul_packed(&a, masked, [rows, k, m], width, true, &mut product);
    }
    if factors.len() == 1 {
        return vec![product];
    }
    let mut rest = &product[..];
    let products = factors.iter().map(|f| {
        let mut product = Buffer::unset(f.sizes.rows * m);
        product.copy_from_slice(rest.split_off(..f.sizes.rows * m).expect("rows of all factors"));
        product
    });
    products.collect()
}

/// The client's message D: a block of columns of `x`, `[row][column]`.
pub fn send(client: Use, sizes: Sizes, columns: Range<usize>, x: &[u64], width: Width) -> Buffer {
    let mask = client.stream(kind::INPUT);
    let mut message = Buffer::unset(sizes.rows * columns.len());
    message.par_chunks_mut(columns.len()).enumerate().for_each(|(row, out)| {
        let from = row * sizes.k + columns.start;
        mask.fill(from as u64, width, out);
        ring::zip_assign(out, &x[from..from + columns.len()], |mask, x| x.wrapping_sub(mask));
    });
    message
}

/// The server's share of A·B.
pub struct Dealt(Buffer);

impl Dealt {
    /// Takes the server's material. The client's share of A·B is from its seed, see [`prepare`].
    pub fn take(source: &mut Source, sizes: Sizes, width: Width) -> Result<Dealt, MaterialError> {
        Ok(Dealt(source.correlation(0, 0..sizes.rows * sizes.m, width)?))
    }
}

/// The server's side: its share of the result, block by block as the client's message arrives.
pub struct Product {
    sizes: Sizes,
    width: Width,
    x: Option<Buffer>,
    /// The share of A·B, to which the blocks' products are added.
    result: Buffer,
}

impl Product {
    /// Without any block of the message; `x` is the server's share of the operand, unless that is zero.
    pub fn new(x: Option<Buffer>, dealt: Dealt, sizes: Sizes, width: Width) -> Product {
        Product { sizes, width, x, result: dealt.0 }
    }

    /// Sizes of the product.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Adds a block of columns of the client's message. Each is added once.
    pub fn add(&mut self, columns: Range<usize>, mut message: Buffer, weight: Integers) {
        let Sizes { rows, k, m } = self.sizes;
        if let Some(x) = &self.x {
            let rows = message.par_chunks_mut(columns.len()).zip(x.par_chunks(k));
            rows.for_each(|(out, x)| ring::add_assign(out, &x[columns.clone()]));
        }
        let weight = weight.range(columns.start * m..columns.end * m);
        weight.matmul_add(&message, rows, columns.len(), m, self.width, &mut self.result);
    }

    /// The server's share, once every block was added.
    pub fn complete(self) -> Buffer {
        self.result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_make_up_the_message() {
        let blocks = |rows, k, width| Sizes { rows, k, m: 5 }.blocks(width).collect::<Vec<_>>();
        // A row, and a message of one frame.
        for (rows, k, width) in [(1, 50_257, 16), (128, 500, 32)] {
            assert_eq!((blocks(rows, k, width).len(), blocks(rows, k, width)[0].clone()), (1, 0..k));
        }
        // 565 KB would be three frames.
        assert_eq!(blocks(128, 768, 46), [0..384, 384..768]);
        assert_eq!(blocks(128, 3072, 32), [0..768, 768..1536, 1536..2304, 2304..3072]);
        assert_eq!(blocks(128, 1000, 46), [0..768, 768..1000]);
        assert_eq!(blocks(128, 700, 46).last(), Some(&(0..700)));
        for (rows, k, width) in [(128, 50_257, 16), (3, 1 << 20, 64), (1000, 3073, 33), (1, 1, 1), (7, 300, 64)] {
            let blocks = blocks(rows, k, width);
            assert_eq!(blocks.iter().flat_map(Clone::clone).collect::<Vec<_>>(), (0..k).collect::<Vec<_>>());
            let (last, others) = blocks.split_last().expect("a block at least");
            assert!(others.iter().all(|b| b.len() % BLOCK == 0 && b.len() >= last.len()), "{blocks:?}");
        }
    }
}
