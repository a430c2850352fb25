//! Products mod 2^64 and, where the CPU multiplies 52-bit integers (AVX-512 IFMA), mod 2^52.
//!
//! `vpmadd52luq` adds the low 52 bits of the product of two 52-bit integers to a 64-bit sum. All three are right mod 2^52,
//! whatever is above 52 bits of the factors, and so is a sum that wraps mod 2^64.

use super::tiled::{Aligned, Left, STEPS, Scheme, TILE_ROWS};
use super::{Cell, View};
use crate::cpu::{Cpu, Level, multiversion};
use std::ops::Range;

/// Columns of a tile: with AVX-512, 24 of 32 registers for 8 rows.
const COLUMNS: usize = 24;

type Row = Aligned<[u64; COLUMNS]>;

type Tile = [[u64; COLUMNS]; TILE_ROWS];

/// Products of whole elements. Mod 2^52 is enough if the field is true.
#[derive(Clone, Copy)]
pub struct Wide(pub bool);

impl Scheme for Wide {
    type Word = u64;
    type Row = Row;
    const ZERO: Row = Aligned([0; COLUMNS]);
    const COLUMNS: usize = COLUMNS;
    const WORD: usize = 1;

    fn limbs(self) -> [usize; 2] {
        [1, 1]
    }

    fn pack_left(self, _: Cpu, row: &[u64], _: usize, out: &mut [u64; STEPS]) {
        out[..row.len()].copy_from_slice(row);
    }

    fn pack_right<B: Cell>(self, cpu: Cpu, b: View<B>, columns: Range<usize>, _: usize, out: &mut [Row]) {
        if columns.len() < COLUMNS {
            out.fill(Self::ZERO);
        }
        if b.transposed {
            for (c, column) in columns.enumerate() {
                gather_column(cpu, b.column(column), c, out);
            }
        } else {
            widen_rows(cpu, b, columns, out);
        }
    }

    fn add<'p>(
        self,
        cpu: Cpu,
        left: impl Fn(usize) -> &'p Left<u64>,
        right: impl Fn(usize) -> &'p [Row],
        rows: &mut [&mut [u64]],
        from: usize,
    ) {
        let mut tile = Aligned([[0; COLUMNS]; TILE_ROWS]);
        multiply(cpu, self, left(0), right(0), &mut tile.0);
        add_tile(cpu, &tile.0, rows, from);
    }
}

multiversion! {
    /// rows += tile.
    fn add_tile(tile: &Tile, rows: &mut [&mut [u64]], from: usize) {
        for (row, sums) in rows.iter_mut().zip(tile) {
            row[from..].iter_mut().zip(sums).for_each(|(x, s)| *x = x.wrapping_add(*s));
        }
    }
}

multiversion! {
    fn widen_rows<B: Cell>(b: View<B>, columns: Range<usize>, panel: &mut [Row]) {
        for (i, out) in panel.iter_mut().enumerate() {
            let row = b.row(i, columns.clone());
            match <&[B; COLUMNS]>::try_from(row) {
                Ok(row) => out.0 = row.map(B::widen),
                Err(_) => out.0.iter_mut().zip(row).for_each(|(out, x)| *out = x.widen()),
            }
        }
    }
}

multiversion! {
    fn gather_column<B: Cell>(cells: &[B], c: usize, panel: &mut [Row]) {
        for (out, x) in panel.iter_mut().zip(cells) {
            out.0[c] = x.widen();
        }
    }
}

fn multiply(cpu: Cpu, wide: Wide, left: &Left<u64>, right: &[Row], tile: &mut Tile) {
    match cpu.level() {
        // SAFETY: a `Cpu` of this level exists only if the features were detected; so in what follows.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Icelake if wide.0 => unsafe { x86::multiply_ifma(left, right, tile) },
        // SAFETY: see above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Avx512 | Level::Icelake => unsafe { x86::multiply_avx512(left, right, tile) },
        _ => multiply_in_parts(cpu, left, right, tile),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Left, Row, STEPS, Tile};
    use std::arch::x86_64::*;

    /// A kernel for the whole tile; written with intrinsics because the vectoriser, left alone, turns the accumulators by
    /// ninety degrees and moves them through memory.
    macro_rules! whole_tile {
        ($name:ident, $features:literal, $mul_add:expr) => {
            #[target_feature(enable = $features)]
            pub fn $name(left: &Left<u64>, right: &[Row], tile: &mut Tile) {
                whole_tile!(@ left right tile $mul_add;
                    0 x0 y0 z0, 1 x1 y1 z1, 2 x2 y2 z2, 3 x3 y3 z3, 4 x4 y4 z4, 5 x5 y5 z5, 6 x6 y6 z6, 7 x7 y7 z7);
            }
        };
        (@ $left:ident $right:ident $tile:ident $mul_add:expr; $($r:literal $x:ident $y:ident $z:ident),*) => {
            $( let [mut $x, mut $y, mut $z] = [_mm512_setzero_si512(); 3]; )*
            for (step, b) in $right[..$right.len().min(STEPS)].iter().enumerate() {
                let b = b.0.as_ptr().cast::<__m512i>();
                // SAFETY: `b` points to 24 elements, three vectors of eight, and the load needs no alignment.
                #[allow(unsafe_code)]
                let (b0, b1, b2) =
                    unsafe { (_mm512_loadu_si512(b), _mm512_loadu_si512(b.add(1)), _mm512_loadu_si512(b.add(2))) };
                $(
                    let factor = _mm512_set1_epi64($left.0[$r][step] as i64);
                    $x = $mul_add($x, factor, b0);
                    $y = $mul_add($y, factor, b1);
                    $z = $mul_add($z, factor, b2);
                )*
            }
            $(
                let row = $tile[$r].as_mut_ptr().cast::<__m512i>();
                // SAFETY: `row` points to 24 elements, three vectors of eight, and the store needs no alignment.
                #[allow(unsafe_code)]
                unsafe {
                    _mm512_storeu_si512(row, $x);
                    _mm512_storeu_si512(row.add(1), $y);
                    _mm512_storeu_si512(row.add(2), $z);
                }
            )*
        };
    }

    whole_tile!(multiply_ifma, "avx512f,avx512ifma", _mm512_madd52lo_epu64);
    whole_tile!(multiply_avx512, "avx512f,avx512dq", |acc, x, y| _mm512_add_epi64(acc, _mm512_mullo_epi64(x, y)));
}

/// acc + x·b, in vectors.
#[inline(always)]
fn mul_add<const V: usize>(acc: [u64; V], x: u64, b: [u64; V]) -> [u64; V] {
    std::array::from_fn(|i| acc[i].wrapping_add(x.wrapping_mul(b[i])))
}

/// The `V` elements of `row` from `at`.
#[inline(always)]
fn part<const V: usize>(row: &[u64], at: usize) -> [u64; V] {
    row[at..at + V].try_into().expect("a part of a row")
}

multiversion! {
    // Sixteen registers, and a multiplication takes several of them: the tile is done in parts of 4 x 4.
    fn multiply_in_parts(left: &Left<u64>, right: &[Row], tile: &mut Tile) {
        let right = &right[..right.len().min(STEPS)];
        for r in (0..TILE_ROWS).step_by(4) {
            for c in (0..COLUMNS).step_by(4) {
                let (mut w, mut x, mut y, mut z) = ([0u64; 4], [0u64; 4], [0u64; 4], [0u64; 4]);
                for (step, b) in right.iter().enumerate() {
                    let (a, b) = (&left.0[r..r + 4], part::<4>(&b.0, c));
                    (w, x) = (mul_add(w, a[0][step], b), mul_add(x, a[1][step], b));
                    (y, z) = (mul_add(y, a[2][step], b), mul_add(z, a[3][step], b));
                }
                for (i, sums) in [w, x, y, z].iter().enumerate() {
                    tile[r + i][c..c + 4].copy_from_slice(sums);
                }
            }
        }
    }
}
