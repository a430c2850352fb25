//! Right operands whose elements are packed without gaps: less to read from memory.
//!
//! Where the CPU permutes bytes, products of few rows and mod 2^52 at most unpack elements in registers, eight at a time,
//! and multiply them there. Others go through memory.

use super::few::{self, Part};
use super::{Operand, View};
use crate::cpu::Level;
use crate::ring::Packed;
use std::ops::Range;

/// A row-major matrix.
pub struct Matrix<'a> {
    pub elements: Packed<'a>,
    pub columns: usize,
}

impl Operand for Matrix<'_> {
    type Cell = u64;

    fn view<'v>(&'v self, rows: Range<usize>, columns: Range<usize>, scratch: &'v mut Vec<u64>) -> View<'v, u64> {
        super::filled(|first, out| self.elements.unpack(first, out), self.columns, rows, columns, scratch)
    }

    fn few(&self, part: Part, out: &mut [&mut [u64]]) {
        // An element of more bits may end in a ninth byte; and bits of the next one are not masked.
        let in_registers = part.width <= 52 && (part.width..=57).contains(&self.elements.width());
        match part.cpu.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Icelake if in_registers => x86::few(self, &part, out),
            _ => few::made(&part, self, out),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::few::Part;
    use super::super::x86::prefetch_at;
    use super::Matrix;
    use crate::ring::pack::vbmi::Places;
    use std::arch::x86_64::*;

    /// Rows that are combined in one pass over the sums: their places and factors take most registers.
    const GROUP: usize = 8;

    /// Elements that are unpacked at once.
    const LANES: usize = 8;

    pub fn few(b: &Matrix, part: &Part, out: &mut [&mut [u64]]) {
        let width = usize::from(b.elements.width());
        // What is read of a row: a vector at each block.
        let length = (part.columns.len().div_ceil(LANES) - 1) * width + 64;
        let first = |row: usize| b.elements.from(row.min(part.rows.end - 1) * b.columns + part.columns.start);
        for group in part.groups::<GROUP>() {
            let (rows, phases) = (group.map(|row| first(row).0), group.map(|row| first(row).1));
            // The last rows may end with the memory: they are read from copies with room behind.
            let mut copies: [Vec<u8>; GROUP] = Default::default();
            for (copy, row) in copies.iter_mut().zip(rows).filter(|(_, row)| row.len() < length) {
                copy.extend_from_slice(row);
                copy.resize(length, 0);
            }
            let rows = std::array::from_fn(|i| if copies[i].is_empty() { rows[i] } else { &copies[i] });
            let next = group.map(|row| first(row + 1).0);
            for (factors, out) in part.factors(group).zip(&mut *out) {
                // SAFETY: called where the features were detected, and the rows are long enough.
                #[allow(unsafe_code)]
                unsafe {
                    combine(width, &factors, &rows, &phases, &next, out)
                }
            }
        }
    }

    /// out[j] += Σ factors[i]·rows[i][j] mod 2^52, where rows[i][0] begins at bit phases[i]. Fetches the rows `next`, too.
    ///
    /// # Safety
    /// The CPU has the features, and every row has 64 bytes from the first of each block of [`LANES`] elements on.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512ifma")]
    #[allow(unsafe_code)]
    unsafe fn combine(
        width: usize,
        factors: &[u64; GROUP],
        rows: &[&[u8]; GROUP],
        phases: &[usize; GROUP],
        next: &[&[u8]; GROUP],
        out: &mut [u64],
    ) {
        let places = phases.map(|phase| Places::new(width, phase));
        for (block, out) in out.chunks_mut(LANES).enumerate() {
            let from = block * width;
            let there = (1u16 << out.len()) - 1;
            // SAFETY: the mask lets elements of `out` alone be read.
            let mut sums = unsafe {
                [_mm512_maskz_loadu_epi64(there as u8, out.as_ptr().cast()), _mm512_setzero_si512()]
            };
            for i in 0..GROUP {
                prefetch_at(next[i], from);
                // SAFETY: the row is long enough, and the load needs no alignment.
                let bytes = unsafe { _mm512_loadu_si512(rows[i].as_ptr().add(from).cast()) };
                let x = _mm512_srlv_epi64(_mm512_permutexvar_epi8(places[i].bytes, bytes), places[i].shift);
                sums[i % 2] = _mm512_madd52lo_epu64(sums[i % 2], _mm512_set1_epi64(factors[i] as i64), x);
            }
            // SAFETY: the mask lets elements of `out` alone be written.
            unsafe {
                _mm512_mask_storeu_epi64(
                    out.as_mut_ptr().cast(),
                    there as u8,
                    _mm512_add_epi64(sums[0], sums[1]),
                )
            }
        }
    }
}
