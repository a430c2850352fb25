//! Products mod 2^40 and less by 16-bit limbs, and mod 2^64 with integers of 16 bits.
//!
//! An element is cut into signed limbs of 16 bits, x = x0 + 2^16·x1 + .., where a negative limb borrows from the next.
//! A product of limbs is summed in 32 bits: `vpdpwssd` (or `vpmaddwd` and an addition) does two steps at once. Where 32
//! bits above the limb's weight are all that is needed, the sums may wrap. That serves widths up to 32; above them limbs of
//! 8 bits come before, whose sums with 16-bit integers are short enough to be exact: one of them up to 40 bits, four up to 64.
//! Between, where [`super::wide`] has an instruction for 52 bits, limbs would be no faster.

use super::tiled::{Aligned, Buffers, Left, STEPS, Scheme, TILE_ROWS, Term};
use super::{Cell, View};
use crate::cpu::{Cpu, Level, multiversion};
use std::cell;
use std::ops::Range;
use std::thread::LocalKey;

/// Columns of a tile: three vectors of AVX-512.
const COLUMNS: usize = 48;

type Row = Aligned<[i32; COLUMNS]>;

type Tile = [Row; TILE_ROWS];

/// A limb: the low bits of (x + round) >> shift, as a signed integer.
#[derive(Clone, Copy)]
pub struct Limb {
    shift: u32,
    /// Half a unit of each limb below: it carries into this one where that one is negative.
    round: u64,
    /// 16 or 8.
    bits: u32,
}

impl Limb {
    /// The limb counts 2^shift.
    pub fn shift(self) -> u32 {
        self.shift
    }

    /// The limb of an element.
    #[inline(always)]
    pub fn of(self, x: u64) -> i16 {
        let up = 16 - self.bits;
        ((x.wrapping_add(self.round) >> self.shift) as i16) << up >> up
    }

    /// The limbs of two neighbours, the first in the low half: a word. In 64-bit lanes, for the vectoriser's sake.
    #[inline(always)]
    fn pair(self, x: u64, y: u64) -> i32 {
        let up = 64 - self.bits;
        let limb = |x: u64| ((x.wrapping_add(self.round) >> self.shift << up) as i64 >> up) as u64;
        (limb(x) & 0xffff | limb(y) << 16) as i32
    }
}

/// Which limbs make up a product.
#[derive(Clone, Copy)]
pub struct Limbs {
    left: &'static [Limb],
    right: &'static [Limb],
    terms: &'static [Term],
}

const LOW: Limb = Limb { shift: 0, round: 0, bits: 16 };
const HIGH: Limb = Limb { shift: 16, round: 1 << 15, bits: 16 };

/// Sums of 2 · STEPS products of a limb of 8 bits and one of 16 stay below 2^31.
const BYTE: Limb = Limb { shift: 0, round: 0, bits: 8 };
const AFTER_BYTE: Limb = Limb { shift: 8, round: 1 << 7, bits: 16 };
const LAST: Limb = Limb { shift: 24, round: 1 << 7 | 1 << 23, bits: 16 };
const _: () = assert!(2 * STEPS < 1 << (31 - 7 - 15));

/// Further limbs of 8 bits, and two of 16 above 32 bits.
const BYTE_1: Limb = Limb { shift: 8, round: 1 << 7, bits: 8 };
const BYTE_2: Limb = Limb { shift: 16, round: BYTE_1.round | 1 << 15, bits: 8 };
const BYTE_3: Limb = Limb { shift: 24, round: BYTE_2.round | 1 << 23, bits: 8 };
const AFTER_BYTES: Limb = Limb { shift: 32, round: BYTE_3.round | 1 << 31, bits: 16 };
const LAST_OF_ALL: Limb = Limb { shift: 48, round: AFTER_BYTES.round | 1 << 47, bits: 16 };

const fn term(left: usize, right: usize, shift: u32) -> Term {
    Term { left, right, shift }
}

const SHORT: Limbs = Limbs { left: &[LOW], right: &[LOW], terms: &[term(0, 0, 0)] };
const MIDDLE: Limbs = Limbs { left: &[LOW, HIGH], right: &[LOW], terms: &[term(0, 0, 0), term(1, 0, 16)] };
const SQUARE: Limbs =
    Limbs { left: &[LOW, HIGH], right: &[LOW, HIGH], terms: &[term(0, 0, 0), term(1, 0, 16), term(0, 1, 16)] };
const LONG: Limbs =
    Limbs { left: &[BYTE, AFTER_BYTE, LAST], right: &[LOW], terms: &[term(0, 0, 0), term(1, 0, 8), term(2, 0, 24)] };
const WHOLE: Limbs = Limbs {
    left: &[BYTE, BYTE_1, BYTE_2, BYTE_3, AFTER_BYTES, LAST_OF_ALL],
    right: &[LOW],
    terms: &[term(0, 0, 0), term(1, 0, 8), term(2, 0, 16), term(3, 0, 24), term(4, 0, 32), term(5, 0, 48)],
};

impl Limbs {
    /// The limbs for a product mod 2^`width` with a right operand of `bits` bits, if they are few enough to pay.
    pub fn new(width: u8, bits: u32) -> Option<Limbs> {
        Some(match (width, bits) {
            (..=16, _) => SHORT,
            (..=32, ..=16) => MIDDLE,
            (..=32, _) => SQUARE,
            (..=40, ..=16) => LONG,
            (53.., ..=16) => WHOLE,
            _ => return None,
        })
    }

    /// The left operand's limbs, which are those of the terms in their order if the right operand has one.
    pub fn left(self) -> &'static [Limb] {
        self.left
    }
}

impl Scheme for Limbs {
    /// Two neighbours, the first in the low half.
    type Word = i32;
    type Row = Row;
    const ZERO: Row = Aligned([0; COLUMNS]);
    const COLUMNS: usize = COLUMNS;
    const WORD: usize = 2;

    fn limbs(self) -> [usize; 2] {
        [self.left.len(), self.right.len()]
    }

    fn terms(self) -> &'static [Term] {
        self.terms
    }

    fn pack_left(self, cpu: Cpu, row: &[u64], limb: usize, out: &mut [i32; STEPS]) {
        pair_row(cpu, row, self.left[limb], out);
    }

    fn pack_rows<B: Cell>(self, cpu: Cpu, b: View<B>, columns: Range<usize>, limb: usize, out: &mut [Row]) {
        pair_rows(cpu, b, columns, self.right[limb], out);
    }

    fn pack_column<B: Cell>(self, cpu: Cpu, cells: &[B], limb: usize, c: usize, out: &mut [Row]) {
        pair_column(cpu, cells, self.right[limb], c, out);
    }

    fn multiply(self, cpu: Cpu, left: &Left<i32>, right: &[Row], tile: &mut Tile) {
        multiply(cpu, left, right, tile);
    }

    fn buffers() -> &'static LocalKey<cell::Cell<Buffers<Limbs>>> {
        thread_local!(static BUFFERS: cell::Cell<Buffers<Limbs>> = cell::Cell::default());
        &BUFFERS
    }
}

multiversion! {
    /// Limbs of a row, two a word; a last word may be half full.
    fn pair_row(row: &[u64], limb: Limb, out: &mut [i32]) {
        let (pairs, last) = row.as_chunks::<2>();
        out.iter_mut().zip(pairs).for_each(|(out, [x, y])| *out = limb.pair(*x, *y));
        if let [x] = last {
            out[pairs.len()] = limb.pair(*x, 0);
        }
    }
}

multiversion! {
    /// Limbs of rows, two rows a step. Cells of 16 bits are the limbs.
    fn pair_rows<B: Cell>(b: View<B>, columns: Range<usize>, limb: Limb, out: &mut [Row]) {
        for (step, out) in out.iter_mut().enumerate() {
            let x = b.row(2 * step, columns.clone());
            // The last step may have one row.
            let y = if 2 * step + 1 < b.rows { b.row(2 * step + 1, columns.clone()) } else { &[] };
            match (<&[B; COLUMNS]>::try_from(x), <&[B; COLUMNS]>::try_from(y)) {
                (Ok(x), Ok(y)) => match (B::narrow(x), B::narrow(y)) {
                    (Some(x), Some(y)) => {
                        for (out, (x, y)) in out.0.iter_mut().zip(x.iter().zip(y)) {
                            *out = i32::from(u16::from_le_bytes(*x)) | i32::from(u16::from_le_bytes(*y)) << 16;
                        }
                    }
                    _ => {
                        for (out, (x, y)) in out.0.iter_mut().zip(x.iter().zip(y)) {
                            *out = limb.pair(x.widen(), y.widen());
                        }
                    }
                },
                _ => {
                    for (c, x) in x.iter().enumerate() {
                        out.0[c] = limb.pair(x.widen(), y.get(c).map_or(0, |y| y.widen()));
                    }
                }
            }
        }
    }
}

multiversion! {
    /// Limbs of a column, two a step.
    fn pair_column<B: Cell>(cells: &[B], limb: Limb, c: usize, panel: &mut [Row]) {
        for (out, x) in panel.iter_mut().zip(cells.chunks(2)) {
            out.0[c] = limb.pair(x[0].widen(), x.get(1).map_or(0, |y| y.widen()));
        }
    }
}

fn multiply(cpu: Cpu, left: &Left<i32>, right: &[Row], tile: &mut Tile) {
    match cpu.level() {
        // SAFETY: a `Cpu` of this level exists only if the features were detected; so in what follows.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Icelake => unsafe { x86::multiply_vnni(left, right, tile) },
        // SAFETY: see above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Avx512 => unsafe { x86::multiply_avx512(left, right, tile) },
        // SAFETY: see above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Avx2 => unsafe { x86::multiply_avx2(left, right, tile) },
        _ => multiply_portable(left, right, tile),
    }
}

/// acc + x·y of both halves.
#[inline(always)]
pub fn dot_pair(acc: i32, x: i32, y: i32) -> i32 {
    let low = i32::from(x as i16) * i32::from(y as i16);
    acc.wrapping_add(low).wrapping_add((x >> 16) * (y >> 16))
}

fn multiply_portable(left: &Left<i32>, right: &[Row], tile: &mut Tile) {
    for (left, sums) in left.0.iter().zip(tile) {
        *sums = Limbs::ZERO;
        for (&x, row) in left.iter().zip(right) {
            sums.0.iter_mut().zip(&row.0).for_each(|(sum, &y)| *sum = dot_pair(*sum, x, y));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::x86::whole_tile;
    use super::{COLUMNS, Left, Row, STEPS, TILE_ROWS, Tile};
    use std::arch::x86_64::*;

    whole_tile!(multiply_vnni, "avx512f,avx512bw,avx512vnni", Row, i32, _mm512_set1_epi32, _mm512_dpwssd_epi32);
    // -2^15 · -2^15 · 2 is the one sum of a pair that wraps, as it should.
    whole_tile!(multiply_avx512, "avx512f,avx512bw", Row, i32, _mm512_set1_epi32, |acc, x, y| _mm512_add_epi32(
        acc,
        _mm512_madd_epi16(x, y)
    ));

    /// In parts of 4 x 16 elements: sixteen registers.
    #[target_feature(enable = "avx2")]
    pub fn multiply_avx2(left: &Left<i32>, right: &[Row], tile: &mut Tile) {
        macro_rules! part {
            ($r:ident $c:ident; $($i:literal $x:ident $y:ident),*) => {
                $( let [mut $x, mut $y] = [_mm256_setzero_si256(); 2]; )*
                for (step, b) in right[..right.len().min(STEPS)].iter().enumerate() {
                    let b = b.0[$c..$c + 16].as_ptr().cast::<__m256i>();
                    // SAFETY: `b` points to 16 elements, two vectors of eight, and the load needs no alignment.
                    #[allow(unsafe_code)]
                    let (b0, b1) = unsafe { (_mm256_loadu_si256(b), _mm256_loadu_si256(b.add(1))) };
                    $(
                        let factor = _mm256_set1_epi32(left.0[$r + $i][step]);
                        $x = _mm256_add_epi32($x, _mm256_madd_epi16(factor, b0));
                        $y = _mm256_add_epi32($y, _mm256_madd_epi16(factor, b1));
                    )*
                }
                $(
                    let row = tile[$r + $i].0[$c..$c + 16].as_mut_ptr().cast::<__m256i>();
                    // SAFETY: `row` points to 16 elements, two vectors of eight, and the store needs no alignment.
                    #[allow(unsafe_code)]
                    unsafe {
                        _mm256_storeu_si256(row, $x);
                        _mm256_storeu_si256(row.add(1), $y);
                    }
                )*
            };
        }
        for r in (0..tile.len()).step_by(4) {
            for c in (0..COLUMNS).step_by(16) {
                part!(r c; 0 x0 y0, 1 x1 y1, 2 x2 y2, 3 x3 y3);
            }
        }
    }
}
