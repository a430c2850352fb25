//! `ge`: whether an opened value reaches public thresholds, as shares of the integers 0 and 1.
//!
//! Identity  1{x >= t} = 1 - msb(x - t); with y = x - t + r mod 2^n, public, and g(y_low) = m xor 1{y_low < r_low}
//!           = m + (1 - 2m)·1{y_low < r_low}, it is g where y has its top bit and 1 - g elsewhere. g is dealt once, at every
//!           point or as a comparison key on r_low with payload 1 - 2m, and serves every threshold.
//! Shapes    The thresholds are a new last axis. Scale 0, width N.
//! Dealt     In blocks of [`super::BLOCK`] elements, as [`Comparison`] says: g at each of 2^(n-1) points, N bits each (a
//!           masked table, as in Ishai et al., TCC 2013, of a function of one input); or m at N bits, then the words of the
//!           keys ([`super::dcf`], n - 1 bits, one component of N bits) to both parties.
//! Online    Local. Exact while |x - t| < 2^(n-1).

use super::{Dealing, Keys, Mask, Opening, Source, TASK, Vector, gather, if_client};
use crate::material::MaterialError;
use crate::pair::{Bits, Group, Making, PairError, Shares, signed};
use ir::dcf::Comparison;
use ir::{Party, Width};
use kernels::cpu::{Cpu, multiversion};
use kernels::prg::element_bytes;
use kernels::ring::{self, Buffer};
use rayon::prelude::*;
use std::io;
use std::ops::Range;

/// The dealer's side, for one block.
pub fn deal(x: &Mask, block: Range<usize>, width: Width, to: &mut Dealing) -> io::Result<()> {
    match Comparison::new(x.width, width) {
        Comparison::Table { input_bits } => {
            let size = 1 << input_bits;
            let points = block.start * size..block.end * size;
            to.chunks(0, points, width, TASK.max(size), |first, out| {
                for (i, out) in (first / size..).zip(out.chunks_mut(size)) {
                    let (low, top) = (x.low(i), x.top(i));
                    (0..).zip(out).for_each(|(y, out)| *out = top ^ u64::from(y < low));
                }
            })
        }
        Comparison::Key(layout) => {
            to.correlation(0, block.clone(), width, |i| x.top(i))?;
            let alphas = gather(block.len(), |i| x.low(block.start + i));
            let sign = gather(block.len(), |i| 1u64.wrapping_sub(2 * x.top(block.start + i)));
            to.keys(layout, block, &alphas, &[sign])
        }
    }
}

/// Both parties' side in the dealer's place, for one block, of what is dealt as a table. With the unit vector e at r_low, the
/// entries of (1 - 2m)·e behind y sum to (1 - 2m)·1{y < r_low}. Of a shared e, b0 - b1 = s·e with s = s0·s1, each factor known to
/// one party, who flips its own bits; the other's flip takes a transfer of the whole vector.
pub(crate) fn make(x: &Shares, block: Range<usize>, width: Width, to: &mut Making) -> Result<(), PairError> {
    let Comparison::Table { input_bits } = Comparison::new(x.width, width) else { panic!("checked: a table") };
    let (size, words) = (1usize << input_bits, (1usize << input_bits).div_ceil(64));
    let bits = &x.bits[block.clone()];
    let vectors = to.units(bits, 0, input_bits)?;
    let mut flips = to.odd(&vectors, words);
    let top = Bits::of(bits, input_bits);
    flips.iter_mut().zip(top.iter()).for_each(|(flip, top)| *flip ^= top);
    let negative = u64::from(to.party() == Party::Server);
    let mut numbers = Buffer::unset(block.len() * size);
    for ((vector, flip), out) in vectors.chunks_exact(words).zip(flips.iter()).zip(numbers.chunks_exact_mut(size)) {
        for (at, out) in out.iter_mut().enumerate() {
            let bit = vector[at / 64] >> (at % 64) & 1;
            *out = signed(negative ^ flip, bit);
        }
    }
    let mut table = to.flip_private(&flips, &numbers, size, width)?;
    let top = to.bit(top, width)?;
    for (table, top) in table.chunks_exact_mut(size).zip(top.iter()) {
        let mut behind = *top;
        for entry in table.iter_mut().rev() {
            behind = behind.wrapping_add(std::mem::replace(entry, behind));
        }
    }
    to.correlation(Group::Sum, 0, block.start * size, width, table)?;
    Ok(())
}

/// A party's material for a block.
pub struct Dealt(Form);

/// g of each element: at every point, `[element][point]`; or as the mask's top bit and a key.
enum Form {
    Table { values: Vector, input_bits: u8 },
    Key { top: Buffer, keys: Keys },
}

impl Dealt {
    /// Takes a party's material for a block.
    pub fn take(source: &mut Source, x: &Opening, block: Range<usize>, width: Width) -> Result<Dealt, MaterialError> {
        Ok(Dealt(match Comparison::new(x.width, width) {
            Comparison::Table { input_bits } => {
                let points = block.start << input_bits..block.end << input_bits;
                Form::Table { values: source.vector(0, points, width)?, input_bits }
            }
            Comparison::Key(layout) => {
                let top = source.correlation(0, block.clone(), width)?;
                Form::Key { top, keys: source.keys(layout, block)? }
            }
        }))
    }
}

/// A party's side, for one block: `out` is `[element][threshold]`.
pub fn read(party: Party, x: &Opening, block: Range<usize>, thresholds: &[i64], dealt: Dealt, out: &mut [u64]) {
    let one = if_client(party, 1);
    match dealt.0 {
        Form::Table { values, input_bits } => read_tables(x, block.start, thresholds, &values, input_bits, one, out),
        Form::Key { top, keys } => {
            let points = |i: usize, points: &mut [u64]| x.points(block.start + i, thresholds, points);
            keys.evaluate(thresholds.len(), points, out, |i, [less, ..], out| {
                for ((out, &less), &t) in out.iter_mut().zip(less).zip(thresholds) {
                    let g = top[i].wrapping_add(less);
                    *out = if x.compare(block.start + i, t).above { g } else { one.wrapping_sub(g) };
                }
            });
        }
    }
}

/// Reads tables task by task: the bytes of a task's tables are copied or generated, and stay in the cache.
fn read_tables(
    x: &Opening,
    first: usize,
    thresholds: &[i64],
    values: &Vector,
    input_bits: u8,
    one: u64,
    out: &mut [u64],
) {
    let task = ((4 * TASK) >> input_bits).max(8);
    out.par_chunks_mut(task * thresholds.len()).enumerate().for_each_init(Vec::new, |bytes, (number, out)| {
        let elements = out.len() / thresholds.len();
        let cells = values.cells((number * task) << input_bits, elements << input_bits, bytes);
        let opened = &x.opened.data[first + number * task..][..elements];
        let tables = Tables { cells, input_bits, offset: x.offset(), one };
        look_up(Cpu::get(), tables, opened, thresholds, out);
    });
}

/// Packed numbers that can be read at random: each begins `stride` bits after the one before and has the bits of `mask`;
/// a word follows the last.
#[derive(Clone, Copy)]
pub(super) struct Cells<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) stride: usize,
    pub(super) mask: u64,
}

impl Cells<'_> {
    #[inline(always)]
    fn at(self, index: usize) -> u64 {
        let bit = index * self.stride;
        let word = self.bytes[bit / 8..].first_chunk().expect("a word follows the last");
        u64::from_le_bytes(*word) >> (bit % 8) & self.mask
    }
}

impl Vector {
    /// Elements from number `from` on, a multiple of 8·16, unexpanded, in memory that `bytes` lends.
    fn cells<'a>(&self, from: usize, count: usize, bytes: &'a mut Vec<[u8; 16]>) -> Cells<'a> {
        let (stride, width) = match self {
            Vector::Zero | Vector::Kept(_) => panic!("a table is dealt, and has values"),
            Vector::Seed { stream, first, bits } => {
                let (size, first) = (element_bytes(*bits), *first as usize + from);
                assert!((first * size).is_multiple_of(16), "tables of whole blocks");
                bytes.resize((count * size).div_ceil(16) + 1, [0; 16]);
                stream.fill_bytes((first * size / 16) as u64, bytes);
                (8 * size, *bits)
            }
            Vector::Packed { bytes: packed, bits } => {
                assert!((from * usize::from(*bits)).is_multiple_of(8), "tables of whole bytes");
                let packed = &packed[from * usize::from(*bits) / 8..][..ring::packed_len(count, *bits)];
                bytes.resize(packed.len().div_ceil(16) + 1, [0; 16]);
                bytes.as_flattened_mut()[..packed.len()].copy_from_slice(packed);
                (usize::from(*bits), *bits)
            }
        };
        Cells { bytes: bytes.as_flattened(), stride, mask: ring::mask(width) }
    }
}

/// The tables of neighbouring elements, and what turns a value into a result.
#[derive(Clone, Copy)]
struct Tables<'a> {
    cells: Cells<'a>,
    input_bits: u8,
    offset: u64,
    /// The party's share of 1.
    one: u64,
}

multiversion! {
    /// Results `[element][threshold]`. The points are public, so they may be places.
    fn look_up(tables: Tables<'_>, opened: &[u64], thresholds: &[i64], out: &mut [u64]) {
        let Tables { cells, input_bits, offset, one } = tables;
        let low = ring::mask(input_bits);
        for ((i, o), out) in opened.iter().enumerate().zip(out.chunks_exact_mut(thresholds.len())) {
            let (e, table) = (o.wrapping_sub(offset), i << input_bits);
            for (out, &t) in out.iter_mut().zip(thresholds) {
                let y = e.wrapping_sub(t as u64);
                let g = cells.at(table | (y & low) as usize);
                // All ones where y lacks its top bit.
                let flip = (y >> input_bits & 1).wrapping_sub(1);
                *out = (g ^ flip).wrapping_sub(flip).wrapping_add(one & flip);
            }
        }
    }
}
