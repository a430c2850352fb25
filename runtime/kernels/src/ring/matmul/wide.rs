//! Products mod 2^64 and, where the CPU multiplies 52-bit integers (AVX-512 IFMA), mod 2^52.
//!
//! `vpmadd52luq` adds the low 52 bits of the product of two 52-bit integers to a 64-bit sum. All three are right mod 2^52,
//! whatever is above 52 bits of the factors, and so is a sum that wraps mod 2^64.

use super::tiled::{Aligned, Buffers, Left, STEPS, Scheme, TILE_ROWS, Term};
use super::{Cell, View};
use crate::cpu::{Cpu, Level, multiversion};
use std::cell;
use std::ops::Range;
use std::thread::LocalKey;

/// Columns of a tile: three vectors of AVX-512.
const COLUMNS: usize = 24;

type Row = Aligned<[u64; COLUMNS]>;

type Tile = [Row; TILE_ROWS];

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

    fn terms(self) -> &'static [Term] {
        &[Term { left: 0, right: 0, shift: 0 }]
    }

    fn pack_left(self, _: Cpu, row: &[u64], _: usize, out: &mut [u64; STEPS]) {
        out[..row.len()].copy_from_slice(row);
    }

    fn pack_rows<B: Cell>(self, cpu: Cpu, b: View<B>, columns: Range<usize>, _: usize, out: &mut [Row]) {
        widen_rows(cpu, b, columns, out);
    }

    fn pack_column<B: Cell>(self, cpu: Cpu, cells: &[B], _: usize, c: usize, out: &mut [Row]) {
        widen_column(cpu, cells, c, out);
    }

    fn multiply(self, cpu: Cpu, left: &Left<u64>, right: &[Row], tile: &mut Tile) {
        multiply(cpu, self, left, right, tile);
    }

    fn buffers() -> &'static LocalKey<cell::Cell<Buffers<Wide>>> {
        thread_local!(static BUFFERS: cell::Cell<Buffers<Wide>> = cell::Cell::default());
        &BUFFERS
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
    fn widen_column<B: Cell>(cells: &[B], c: usize, panel: &mut [Row]) {
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
    use super::super::x86::whole_tile;
    use super::{Left, Row, STEPS, TILE_ROWS};
    use std::arch::x86_64::*;

    whole_tile!(multiply_ifma, "avx512f,avx512ifma", Row, u64, |x| _mm512_set1_epi64(x as i64), _mm512_madd52lo_epu64);
    whole_tile!(multiply_avx512, "avx512f,avx512dq", Row, u64, |x| _mm512_set1_epi64(x as i64), |acc, x, y| {
        _mm512_add_epi64(acc, _mm512_mullo_epi64(x, y))
    });
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
                    tile[r + i].0[c..c + 4].copy_from_slice(sums);
                }
            }
        }
    }
}
