//! `sddmm` and `spmm`: matrix products of two secrets that were opened, of which a pattern keeps a part.
//!
//! Identity  X = X' - A, Y = Y' - B with X', Y' opened whole and A, B their masks:
//!           X·Y = X'·(Y' - B) - A·Y' + [A·B], so with shares A0 + A1, B0 + B1 of the masks
//!           z0 = X'·(Y' - B0) - A0·Y' + C0,  z1 = X'·(-B1) - A1·Y' + C1,  C0 + C1 = A·B.
//!           (Beaver, CRYPTO 1991, with masks that belong to the operands: one opening serves every product.)
//!           With x = e - r + v·m opened narrow, v = k·2^n public for each element (see the head of [`super`]), the shares
//!           of x are known by [`super::lift`], and x·Y = x·Y' - e·B + [r·B] - v·[m·B].
//! Shapes    `sddmm`: x [.., rows, k], y [.., columns, k] -> kept elements of x·yᵀ. `spmm`: packed x [.., kept],
//!           y [.., columns, k] -> [.., rows, k]. Width N is the lesser of both openings', that of y if x is narrow; scales
//!           add.
//! Dealt     The same product of the masks, N bits for every element of the result. For a narrow x also m·B, N - n bits for
//!           every kept element and every column of its row of y: v differs from element to element, so these products
//!           cannot be added up before.
//! Online    Local. Exact mod 2^N, within the claim of a narrow x.

use super::{Dealing, Mask, Opening, Source, Vector, client_bits, lift, times_power};
use crate::material::MaterialError;
use crate::pair::{Bits, Factors, Group, Making, PairError, Shares, joined};
use ir::{Party, Pattern, Width};
use kernels::ring::{self, Buffer, Tensor};
use rayon::prelude::*;
use std::io;
use std::ops::Range;

/// Rows of a pattern that are computed at once, as a dense product over all columns that any of them keeps.
const ROWS: usize = 64;

/// Which product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Kept elements of a product.
    Sddmm,
    /// Product with a packed left operand.
    Spmm,
}

/// Neighbouring rows of a pattern.
struct Band {
    rows: Range<usize>,
    columns: Range<usize>,
    kept: Range<usize>,
}

impl Band {
    /// Cuts a pattern into bands.
    fn all(pattern: &Pattern) -> Vec<Band> {
        let mut kept = 0;
        let cut = |(number, rows): (usize, &[(u32, u32)])| {
            let start = kept;
            kept += rows.iter().map(|&(from, to)| (to - from) as usize).sum::<usize>();
            let least = rows.iter().map(|r| r.0).min().expect("a chunk is not empty") as usize;
            let most = rows.iter().map(|r| r.1).max().expect("a chunk is not empty") as usize;
            Band { rows: number * ROWS..number * ROWS + rows.len(), columns: least..most, kept: start..kept }
        };
        pattern.rows.chunks(ROWS).enumerate().map(cut).collect()
    }

    /// Pairs each kept run of the band's packed elements with its place in the band's dense [rows, columns] block.
    fn runs(&self, pattern: &Pattern) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let mut packed = 0;
        pattern.rows[self.rows.clone()].iter().enumerate().map(move |(row, &(from, to))| {
            let (from, to) = (from as usize - self.columns.start, to as usize - self.columns.start);
            let dense = row * self.columns.len();
            packed += to - from;
            (packed - (to - from)..packed, dense + from..dense + to)
        })
    }
}

/// Where the operands of one batch lie and what their product has.
struct Sizes<'a> {
    product: Product,
    pattern: &'a Pattern,
    bands: Vec<Band>,
    shape: Vec<usize>,
    x: usize,
    y: usize,
    result: usize,
    k: usize,
    width: Width,
}

impl Sizes<'_> {
    fn new<'a>(product: Product, x: &[usize], y: &[usize], pattern: &'a Pattern, width: Width) -> Sizes<'a> {
        let [batch @ .., columns, k] = y else { panic!("verified: y has two axes") };
        let kept = usize::try_from(pattern.kept()).expect("verified: a tensor has this many elements");
        let rows = pattern.rows.len();
        let (x_axes, result): (usize, &[usize]) = match product {
            Product::Sddmm => (2, &[kept]),
            Product::Spmm => (1, &[rows, *k]),
        };
        Sizes {
            product,
            pattern,
            bands: Band::all(pattern),
            shape: [batch, result].concat(),
            x: x[x.len() - x_axes..].iter().product(),
            y: columns * k,
            result: result.iter().product(),
            k: *k,
            width,
        }
    }

    /// Adds the products of `terms`, each a left and a right operand, batch by batch.
    fn add(&self, terms: &[(&[u64], &[u64])], out: &mut [u64]) {
        out.par_chunks_mut(self.result).enumerate().for_each(|(batch, out)| {
            for (x, y) in terms {
                let (x, y) = (&x[batch * self.x..(batch + 1) * self.x], &y[batch * self.y..(batch + 1) * self.y]);
                self.bands.iter().for_each(|band| self.add_band(band, x, y, out));
            }
        });
    }

    fn add_band(&self, band: &Band, x: &[u64], y: &[u64], out: &mut [u64]) {
        let (rows, columns, k) = (band.rows.len(), band.columns.len(), self.k);
        let y = &y[band.columns.start * k..band.columns.end * k];
        let mut dense = vec![0; rows * columns];
        match self.product {
            Product::Sddmm => {
                ring::matmul_nt(
                    &x[band.rows.start * k..band.rows.end * k],
                    y,
                    rows,
                    k,
                    columns,
                    self.width,
                    &mut dense,
                );
                let out = &mut out[band.kept.clone()];
                for (packed, from) in band.runs(self.pattern) {
                    out[packed].iter_mut().zip(&dense[from]).for_each(|(out, &v)| *out = out.wrapping_add(v));
                }
            }
            Product::Spmm => {
                let x = &x[band.kept.clone()];
                for (packed, to) in band.runs(self.pattern) {
                    dense[to].copy_from_slice(&x[packed]);
                }
                ring::matmul_add(
                    &dense,
                    y,
                    rows,
                    columns,
                    k,
                    self.width,
                    &mut out[band.rows.start * k..band.rows.end * k],
                );
            }
        }
    }
}

impl Sizes<'_> {
    /// out -= v·m·B, of which `wraps` has the party's shares of m·B. Whether v is zero is public.
    fn subtract_wraps(&self, x: &Opening, wraps: &Vector, out: &mut [u64]) {
        let (k, power) = (self.k, times_power(1, x.width));
        out.par_chunks_mut(self.result).enumerate().for_each_init(Vec::new, |of_row, (batch, out)| {
            let mut first = batch * self.x;
            for (out, &(from, to)) in out.chunks_exact_mut(k).zip(&self.pattern.rows) {
                let opened = &x.opened.data[first..first + (to - from) as usize];
                of_row.resize(opened.len() * k, 0);
                wraps.fill(first * k, of_row);
                for (opened, products) in opened.iter().zip(of_row.chunks_exact(k)) {
                    if opened >> (x.width - 1) == 0 {
                        out.iter_mut()
                            .zip(products)
                            .for_each(|(out, p)| *out = out.wrapping_sub(power.wrapping_mul(*p)));
                    }
                }
                first += opened.len();
            }
        });
    }
}

/// The dealer's side. `narrow` tells that x has a claim.
pub fn deal(
    product: Product,
    (x, narrow): (&Mask, bool),
    y: &Mask,
    pattern: &Pattern,
    width: Width,
    to: &mut Dealing,
) -> io::Result<()> {
    let sizes = Sizes::new(product, &x.r.shape, &y.r.shape, pattern, width);
    let mut products = Buffer::zeros(sizes.shape.iter().product());
    sizes.add(&[(&x.r.data, &y.r.data)], &mut products);
    to.vector(0, 0, width, &products)?;
    if !narrow {
        return Ok(());
    }
    // For every kept element of a batch the row of y that it is multiplied with.
    let rows: Vec<usize> = pattern.rows.iter().flat_map(|&(from, to)| from as usize..to as usize).collect();
    to.correlation(1, 0..x.r.len() * sizes.k, bits_of_wraps(x.width, width), |i| {
        let (element, column) = (i / sizes.k, i % sizes.k);
        let row = element / sizes.x * (sizes.y / sizes.k) + rows[element % sizes.x];
        x.top(element) * y.r.data[row * sizes.k + column]
    })
}

/// Both parties' side in the dealer's place, for masks of which they hold additive shares: see [`shares`]. Bits of the elements of a
/// narrow x go with the rows of y that they are multiplied with.
pub(crate) fn make(
    product: Product,
    (x, narrow): (&Shares, bool),
    y: &Shares,
    pattern: &Pattern,
    width: Width,
    to: &mut Making,
) -> Result<(), PairError> {
    let gram = product == Product::Sddmm && std::ptr::eq(x, y);
    let batches = Batches { product, pattern, x: &x.mask, y: &y.mask, y_shape: &y.shape, gram, width };
    let party = to.party();
    let products = shares(&batches, party, |asked| to.private_products(asked))?;
    complete(products, width, to)?;
    let bits = if narrow { bits_of_wraps(x.width, width) } else { 0 };
    if bits == 0 {
        return Ok(());
    }
    let sizes = batches.sizes();
    let rows: Vec<Buffer> = y.mask.chunks_exact(sizes.y).map(|y| sizes.rows_of_y(y)).collect();
    let wraps = to.bit_times(Bits::of(&x.bits, x.width - 1), &joined(&rows), sizes.k, bits)?;
    to.correlation(Group::Sum, 1, 0, bits, wraps)?;
    Ok(())
}

/// Both parties' side in the dealer's place: the shares that [`shares`] gave become those of the client's seed.
pub(crate) fn complete(products: Buffer, width: Width, to: &mut Making) -> Result<(), PairError> {
    to.correlation(Group::Sum, 0, 0, width, products)?;
    Ok(())
}

/// A party's shares of the masks of the operands of a product, batch by batch.
pub(crate) struct Batches<'a> {
    /// Which product.
    pub product: Product,
    /// What is kept.
    pub pattern: &'a Pattern,
    /// Of the left operand: `[batch][row][inner]`, or `[batch][kept]`.
    pub x: &'a [u64],
    /// Of the right one.
    pub y: &'a [u64],
    /// Its shape.
    pub y_shape: &'a [usize],
    /// Both operands are the same, x·xᵀ: then y0·x1 is the transpose of x0·y1.
    pub gram: bool,
    /// Bits of the result.
    pub width: Width,
}

impl Batches<'_> {
    fn sizes(&self) -> Sizes<'_> {
        let kept = usize::try_from(self.pattern.kept()).expect("verified: a tensor has this many elements");
        let [.., k] = self.y_shape else { panic!("verified: y has two axes") };
        let x: &[usize] = match self.product {
            Product::Sddmm => &[self.pattern.rows.len(), *k],
            Product::Spmm => &[kept],
        };
        Sizes::new(self.product, x, self.y_shape, self.pattern, self.width)
    }
}

/// A party's shares of the products of all batches, of its shares of the operands: of (x0 + x1)·(y0 + y1) it computes its own
/// x·y, and x0·y1 and y0ᵀ·x1ᵀ are products of private matrices, the client's on the left.
pub(crate) fn shares(
    of: &Batches,
    party: Party,
    products: impl FnOnce(&[Factors]) -> Result<Vec<Buffer>, PairError>,
) -> Result<Buffer, PairError> {
    let sizes = of.sizes();
    let mut out = Buffer::zeros(sizes.shape.iter().product());
    if out.is_empty() || of.x.is_empty() || of.y.is_empty() {
        return Ok(out);
    }
    sizes.add(&[(of.x, of.y)], &mut out);
    let (rows, slots) = (of.pattern.rows.len(), sizes.y / sizes.k);
    let (inner, columns) = match of.product {
        Product::Sddmm => (sizes.k, slots),
        Product::Spmm => (slots, sizes.k),
    };
    // The client's left and then the server's right operands: of x0·y1, and of y0ᵀ·x1ᵀ.
    let each = of.x.chunks_exact(sizes.x).zip(of.y.chunks_exact(sizes.y));
    let own: Vec<[Buffer; 2]> = each
        .map(|(x, y)| {
            let x = sizes.dense(x, inner);
            // As [columns, inner].
            let y = match of.product {
                Product::Sddmm => Buffer::from(y.to_vec()),
                Product::Spmm => transposed(y, columns),
            };
            match party {
                Party::Client => [x, y],
                Party::Server => [transposed(&y, inner), transposed(&x, inner)],
            }
        })
        .collect();
    let batches = own.len();
    let joined: [Buffer; 2] = [0, 1].map(|i| own.iter().flat_map(|own| own[i].iter().copied()).collect());
    let (count, width) = (batches, of.width);
    let mut asked = vec![Factors { count, width, sizes: [rows, inner, columns], own: &joined[0] }];
    if !of.gram {
        asked.push(Factors { count, width, sizes: [columns, inner, rows], own: &joined[1] });
    }
    let crossed = products(&asked)?;
    let (first, second) = (&crossed[0], crossed.last().expect("one product at least"));
    let each = first.chunks_exact(rows * columns).zip(second.chunks_exact(rows * columns));
    for ((first, second), out) in each.zip(out.chunks_exact_mut(sizes.result)) {
        let mut sum = transposed(second, rows);
        ring::add_assign(&mut sum, first);
        match of.product {
            Product::Spmm => ring::add_assign(out, &sum),
            Product::Sddmm => {
                let kept = of.pattern.rows.iter().zip(sum.chunks_exact(columns));
                let kept = kept.flat_map(|(&(from, to), row)| &row[from as usize..to as usize]);
                out.iter_mut().zip(kept).for_each(|(out, v)| *out = out.wrapping_add(*v));
            }
        }
    }
    Ok(out)
}

/// The transpose of a matrix of so many columns.
fn transposed(x: &[u64], columns: usize) -> Buffer {
    let rows = x.len() / columns;
    let mut out = Buffer::unset(x.len());
    for (row, x) in x.chunks_exact(columns).enumerate() {
        out[row..].iter_mut().step_by(rows).zip(x).for_each(|(out, x)| *out = *x);
    }
    out
}

impl Sizes<'_> {
    /// A batch of x as a matrix with `inner` columns.
    fn dense(&self, x: &[u64], inner: usize) -> Buffer {
        if self.product == Product::Sddmm {
            return Buffer::from(x.to_vec());
        }
        let (mut out, mut packed) = (Buffer::zeros(self.pattern.rows.len() * inner), x);
        for (out, &(from, to)) in out.chunks_exact_mut(inner).zip(&self.pattern.rows) {
            let run = packed.split_off(..(to - from) as usize).expect("kept elements of all rows");
            out[from as usize..to as usize].copy_from_slice(run);
        }
        out
    }

    /// For every packed element of a batch of x the row of y that it is multiplied with.
    fn rows_of_y(&self, y: &[u64]) -> Buffer {
        let runs = self.pattern.rows.iter();
        runs.flat_map(|&(from, to)| &y[from as usize * self.k..to as usize * self.k]).copied().collect()
    }
}

/// Bits of m·B, which stands before a multiple of 2^n.
fn bits_of_wraps(n: Width, width: Width) -> Width {
    width.saturating_sub(n)
}

/// A party's shares of what is dealt.
pub struct Dealt {
    /// Of the product of the masks.
    share: Buffer,
    /// Of m·B: `[batch][kept][column of y]`.
    wraps: Vector,
    width: Width,
}

impl Dealt {
    /// Takes a party's material for a result of so many elements.
    pub fn take(
        source: &mut Source,
        elements: usize,
        x: &Opening,
        y: &Opening,
        width: Width,
    ) -> Result<Dealt, MaterialError> {
        let share = source.correlation(0, 0..elements, width)?;
        let k = y.shape().last().copied().unwrap_or_default();
        let bits = if x.whole { 0 } else { bits_of_wraps(x.width, width) };
        Ok(Dealt { share, wraps: source.vector(1, 0..x.len() * k, bits)?, width })
    }
}

/// A party's side.
pub fn read(party: Party, product: Product, x: &Opening, y: &Opening, pattern: &Pattern, dealt: Dealt) -> Tensor {
    let sizes = Sizes::new(product, x.shape(), y.shape(), pattern, dealt.width);
    let Dealt { share: mut out, wraps, width } = dealt;
    let client = client_bits(party);
    if x.whole {
        let (mut right, mut left) = (y.opened.data.clone(), x.mask.all(x.len()));
        ring::zip_assign(&mut right, &y.mask.all(y.len()), move |opened, r| (opened & client).wrapping_sub(r));
        ring::map_assign(&mut left, u64::wrapping_neg);
        sizes.add(&[(&x.opened.data, &right), (&left, &y.opened.data)], &mut out);
        return Tensor::new(sizes.shape, out);
    }
    let (share, mut public, mut right) = (lift::read(party, x), x.opened.data.clone(), y.mask.all(y.len()));
    let offset = x.offset();
    ring::map_assign(&mut public, move |opened| opened.wrapping_sub(offset));
    ring::map_assign(&mut right, u64::wrapping_neg);
    sizes.add(&[(&share.data, &y.opened.data), (&public, &right)], &mut out);
    if bits_of_wraps(x.width, width) > 0 {
        sizes.subtract_wraps(x, &wraps, &mut out);
    }
    Tensor::new(sizes.shape, out)
}
