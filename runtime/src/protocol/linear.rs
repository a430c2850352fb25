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

/// Elements that are masked at one time. A multiple of 8.
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
    let mut product = vec![0; sizes.rows * sizes.m];
    ring::matmul_add_filled(&a, fill, [sizes.rows, sizes.k, sizes.m], width, &mut product)?;
    to.vector(0, 0, width, product)
}

/// The client's side, before its input is known: its share of the result. `masked` gives the elements of W - B from an
/// index on.
pub fn prepare<E: Send>(
    client: Use,
    masked: impl Fn(usize, &mut [u64]) -> Result<(), E> + Sync,
    sizes: Sizes,
    width: Width,
) -> Result<Vec<u64>, E> {
    let mut product = client.elements(kind::CORRELATION, 0..sizes.rows * sizes.m, width);
    let a = input_mask(client, sizes, width);
    ring::matmul_add_filled(&a, masked, [sizes.rows, sizes.k, sizes.m], width, &mut product)?;
    Ok(product)
}

/// The client's message D.
pub fn send(client: Use, x: &[u64], sizes: Sizes, width: Width) -> Vec<u64> {
    let mut message = input_mask(client, sizes, width);
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

/// The server's side: its share of the result, from the client's message and its own share x, which is used up.
pub fn read(message: &[u64], mut x: Vec<u64>, weight: Integers, sizes: Sizes, width: Width, dealt: Dealt) -> Vec<u64> {
    ring::add_assign(&mut x, message);
    let mut out = dealt.0;
    weight.matmul_add(&x, sizes.rows, sizes.k, sizes.m, width, &mut out);
    out
}
