//! Products of few rows, for which copying the right operand would cost more than the product: each row is a
//! combination of rows of the right operand, which is read once, at the speed of memory.
//!
//! Rows are combined in groups: a stream each, and sums that stay in the caches. A row is too short for the CPU to find out
//! by itself what comes next, so while a group is combined the same place of the next is fetched.

use super::limbs::{Limb, Limbs, dot_pair};
use super::tiled::STEPS;
use super::{Cell, Operand, View};
use crate::cpu::{Cpu, Level, multiversion};
use rayon::prelude::*;
use std::ops::Range;

/// Columns of a strip, at most: its sums stay in the second-level cache.
const STRIP: usize = 8192;

/// Columns of a strip, at least, where there are enough: shorter streams are slow to start.
const SHORT_STRIP: usize = 2048;

/// Rows of the right operand that are combined in one pass over the sums: enough streams to keep memory busy.
const GROUP: usize = 16;

/// Columns of a group that is made as it is read, into the second-level cache. An odd number of cache lines: rows at distances
/// of a power of two would have few places in the first-level cache.
const MADE: usize = 1016;

/// Columns that are summed at once by limbs.
const COLUMNS: usize = 32;

/// Sums of even columns, then of odd ones: a pair of rows is put together without moving elements across.
type Sums = [[i32; COLUMNS / 2]; 2];

/// A part of a product: with some rows and columns of the right operand.
pub struct Part<'a> {
    pub cpu: Cpu,
    pub width: u8,
    /// The left operand [.., k].
    pub a: &'a [u64],
    pub k: usize,
    /// Of the right operand.
    pub rows: Range<usize>,
    /// Of the right operand.
    pub columns: Range<usize>,
}

impl Part<'_> {
    /// The rows of the right operand by the group of N, and the number of rows on to the next group: 1, or 0 for the last.
    /// A group has a row of each of N streams of neighbouring rows, so that each goes on in memory where rows are not cut.
    /// The distance of streams is odd: that of a power of two rows may be a multiple of what a cache's sets take, which
    /// have no room for so many streams.
    pub fn groups<const N: usize>(&self) -> impl Iterator<Item = ([usize; N], usize)> {
        let (start, length) = (self.rows.start, self.rows.len().div_ceil(N) | 1);
        (0..length)
            .map(move |i| (std::array::from_fn(|stream| start + stream * length + i), usize::from(i + 1 < length)))
    }

    /// For each row of the left operand, its factors of some rows of the right one: none of those beyond the last.
    pub fn factors<const N: usize>(&self, rows: [usize; N]) -> impl Iterator<Item = [u64; N]> {
        let end = self.rows.end;
        self.a.chunks_exact(self.k).map(move |a| rows.map(|row| if row < end { a[row] } else { 0 }))
    }

    /// These columns of rows of an operand; the last instead of those beyond it.
    fn cells<'v, B: Cell>(&self, b: View<'v, B>, rows: [usize; GROUP]) -> [&'v [B]; GROUP] {
        rows.map(|row| b.row(row.min(self.rows.end - 1), self.columns.clone()))
    }
}

/// out = a·b, or out += a·b if `add`, for a [m, k] and b [k, n], none of them empty, mod 2^`width`.
#[allow(clippy::too_many_arguments)]
pub fn product<O: Operand>(
    cpu: Cpu,
    width: u8,
    a: &[u64],
    b: &O,
    [k, n]: [usize; 2],
    add: bool,
    out: &mut [u64],
    threads: usize,
) {
    // Each thread gets a few strips of columns; where there are too few, two parts of their rows, which are summed. A part is
    // an odd number of groups: see `Part::groups`. Columns that lie in memory one after another can be cut anywhere.
    let tasks = if threads == 1 { 1 } else { 4 * threads };
    let short = if b.transposed() { 64 } else { SHORT_STRIP };
    let strip = n.div_ceil((n / short).clamp(1, tasks).max(n.div_ceil(STRIP))).next_multiple_of(64);
    let parts = if b.transposed() { 1 } else { (tasks / 2).div_ceil(n.div_ceil(strip)).max(1) };
    let depth = if parts == 1 { k } else { (k.div_ceil(parts).div_ceil(GROUP) | 1) * GROUP };
    super::strips(out, n, strip, threads > 1, |columns, out| {
        if !add {
            out.iter_mut().for_each(|out| out.fill(0));
        }
        let part = |rows: Range<usize>| Part { cpu, width, a, k, rows, columns: columns.clone() };
        if depth >= k {
            return b.few(part(0..k), out);
        }
        let mut sums = vec![0; k.div_ceil(depth) * out.len() * columns.len()];
        sums.par_chunks_mut(out.len() * columns.len()).enumerate().for_each(|(i, sums)| {
            let mut sums: Vec<&mut [u64]> = sums.chunks_exact_mut(columns.len()).collect();
            b.few(part(i * depth..k.min((i + 1) * depth)), &mut sums);
        });
        for (i, sums) in sums.chunks_exact(columns.len()).enumerate() {
            let out = &mut *out[i % out.len()];
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = out.wrapping_add(*sum));
        }
    });
}

/// out += a·b of a part of b, which is in memory: `b` is a view of it all.
pub fn resident<B: Cell>(part: &Part, b: View<B>, out: &mut [&mut [u64]]) {
    if b.transposed {
        let b = View { cells: &b.cells[part.columns.start * b.stride + part.rows.start..], rows: part.rows.len(), ..b };
        for (a, out) in part.a.chunks_exact(part.k).zip(out) {
            dot_columns(part.cpu, &a[part.rows.clone()], b, out);
        }
        return;
    }
    if let Some(limbs) = Limbs::new(part.width, B::BITS).filter(|limbs| B::BITS == 16 && limbs.left().len() <= 3) {
        return by_limbs(part, limbs, b, out);
    }
    for (group, next) in part.groups::<GROUP>() {
        let rows = part.cells(b, group);
        for (factors, out) in part.factors(group).zip(&mut *out) {
            combine(part.cpu, part.width, &factors, &rows, next * b.stride, out);
        }
    }
}

/// out += a·b of a part of b, which is made as it is read.
pub fn made<O: Operand>(part: &Part, b: &O, out: &mut [&mut [u64]]) {
    let mut scratch = super::SCRATCH.take();
    for from in part.columns.clone().step_by(MADE) {
        let columns = from..part.columns.end.min(from + MADE);
        let place = columns.start - part.columns.start..columns.end - part.columns.start;
        for from in part.rows.clone().step_by(GROUP) {
            let rows = from..part.rows.end.min(from + GROUP);
            let view = b.view(rows.clone(), columns.clone(), &mut scratch);
            let cells = std::array::from_fn(|i| view.row(i.min(rows.len() - 1), 0..columns.len()));
            for (factors, out) in part.factors::<GROUP>(std::array::from_fn(|i| from + i)).zip(&mut *out) {
                combine(part.cpu, part.width, &factors, &cells, 0, &mut out[place.clone()]);
            }
        }
    }
    super::SCRATCH.set(scratch);
}

/// out[j] += Σ factors[i]·rows[i][j] mod 2^`width`. Fetches the cells that lie `ahead` cells on.
fn combine<B: Cell>(cpu: Cpu, width: u8, factors: &[u64; GROUP], rows: &[&[B]; GROUP], ahead: usize, out: &mut [u64]) {
    match cpu.level() {
        // SAFETY: a `Cpu` of this level exists only if the features were detected.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Icelake if width <= 52 => unsafe { x86::combine_ifma(factors, rows, ahead, out) },
        // SAFETY: see above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Icelake | Level::Avx512 => unsafe { x86::combine_avx512(factors, rows, ahead, out) },
        _ => combine_plain(cpu, factors, rows, out),
    }
}

multiversion! {
    /// out[j] += Σ factors[i]·rows[i][j].
    fn combine_plain<B: Cell>(factors: &[u64; GROUP], rows: &[&[B]; GROUP], out: &mut [u64]) {
        let columns = out.len();
        let rows: [&[B]; GROUP] = std::array::from_fn(|i| &rows[i][..columns]);
        // Eight at a time: a factor takes a register.
        for half in 0..2 {
            let (f, r) = (&factors[8 * half..8 * half + 8], &rows[8 * half..8 * half + 8]);
            let (r0, r1, r2, r3) = (&r[0][..columns], &r[1][..columns], &r[2][..columns], &r[3][..columns]);
            let (r4, r5, r6, r7) = (&r[4][..columns], &r[5][..columns], &r[6][..columns], &r[7][..columns]);
            for j in 0..columns {
                let mut sum = out[j].wrapping_add(f[0].wrapping_mul(r0[j].widen()));
                sum = sum.wrapping_add(f[1].wrapping_mul(r1[j].widen()));
                sum = sum.wrapping_add(f[2].wrapping_mul(r2[j].widen()));
                sum = sum.wrapping_add(f[3].wrapping_mul(r3[j].widen()));
                sum = sum.wrapping_add(f[4].wrapping_mul(r4[j].widen()));
                sum = sum.wrapping_add(f[5].wrapping_mul(r5[j].widen()));
                sum = sum.wrapping_add(f[6].wrapping_mul(r6[j].widen()));
                out[j] = sum.wrapping_add(f[7].wrapping_mul(r7[j].widen()));
            }
        }
    }
}

fn by_limbs<B: Cell>(part: &Part, limbs: Limbs, b: View<B>, out: &mut [&mut [u64]]) {
    let (cpu, limbs, columns) = (part.cpu, limbs.left(), part.columns.len());
    let row_sums = columns.div_ceil(COLUMNS) * limbs.len();
    let mut sums = vec![Sums::default(); row_sums * out.len()];
    let mut depth = 0;
    for (group, next) in part.groups::<GROUP>() {
        let narrow = |row| B::narrow(row).expect("cells of 16 bits");
        let (rows, ahead) = (part.cells(b, group).map(narrow), next * b.stride);
        for (factors, sums) in part.factors(group).zip(sums.chunks_exact_mut(row_sums)) {
            match *limbs {
                [x] => add_group(cpu, [x], &factors, &rows, ahead, sums.as_chunks_mut().0),
                [x, y] => add_group(cpu, [x, y], &factors, &rows, ahead, sums.as_chunks_mut().0),
                [x, y, z] => add_group(cpu, [x, y, z], &factors, &rows, ahead, sums.as_chunks_mut().0),
                _ => unreachable!("an element has one to three limbs"),
            }
        }
        // As deep as sums of the first limb are exact.
        depth += GROUP;
        if depth + GROUP <= 2 * STEPS && next > 0 {
            continue;
        }
        for (out, sums) in out.iter_mut().zip(sums.chunks_exact_mut(row_sums)) {
            for (out, sums) in out.chunks_mut(COLUMNS).zip(sums.chunks_exact(limbs.len())) {
                for (limb, sums) in limbs.iter().zip(sums) {
                    for (j, out) in out.iter_mut().enumerate() {
                        let sum = i64::from(sums[j % 2][j / 2]) as u64;
                        *out = out.wrapping_add(sum << limb.shift());
                    }
                }
            }
            sums.fill(Sums::default());
        }
        depth = 0;
    }
}

/// Adds the products of limbs of factors with a group of rows to their sums. Fetches what lies `ahead` cells on.
fn add_group<const L: usize>(
    cpu: Cpu,
    limbs: [Limb; L],
    factors: &[u64; GROUP],
    rows: &[&[[u8; 2]]; GROUP],
    ahead: usize,
    sums: &mut [[Sums; L]],
) {
    // Two neighbours a word.
    let factors = limbs.map(|limb| {
        let [x, y] = [0, 1].map(|i| move |p: usize| i32::from(limb.of(factors[2 * p + i])));
        std::array::from_fn(|p| x(p) & 0xffff | y(p) << 16)
    });
    let whole = rows[0].len() / COLUMNS;
    let (blocks, last) = sums.split_at_mut(whole);
    combine_limbs(cpu, &factors, rows, ahead, blocks);
    if let [_] = last {
        let mut filled = [[[0; 2]; COLUMNS]; GROUP];
        for (filled, row) in filled.iter_mut().zip(rows) {
            let rest = &row[whole * COLUMNS..];
            filled[..rest.len()].copy_from_slice(rest);
        }
        let filled = filled.each_ref().map(|row| &row[..]);
        combine_limbs(cpu, &factors, &filled, 0, last);
    }
}

fn combine_limbs<const L: usize>(
    cpu: Cpu,
    factors: &[[i32; GROUP / 2]; L],
    rows: &[&[[u8; 2]]; GROUP],
    ahead: usize,
    sums: &mut [[Sums; L]],
) {
    assert!(rows.iter().all(|row| row.len() >= sums.len() * COLUMNS), "rows of a group");
    match cpu.level() {
        // SAFETY: a `Cpu` of this level exists only if the features were detected, and the rows are long enough.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Icelake => unsafe { x86::combine_limbs_vnni(factors, rows, ahead, sums) },
        // SAFETY: see above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Avx512 => unsafe { x86::combine_limbs_avx512(factors, rows, ahead, sums) },
        _ => {
            for (factors, limb) in factors.iter().zip(0..) {
                for (block, sums) in sums.iter_mut().enumerate() {
                    combine_limbs_plain(cpu, factors, rows, block, &mut sums[limb]);
                }
            }
        }
    }
}

multiversion! {
    fn combine_limbs_plain(factors: &[i32; GROUP / 2], rows: &[&[[u8; 2]]; GROUP], block: usize, sums: &mut Sums) {
        for (&factor, rows) in factors.iter().zip(rows.as_chunks::<2>().0) {
            let [x, y] = rows.map(|row| &row[block * COLUMNS..(block + 1) * COLUMNS]);
            let [even, odd] = &mut *sums;
            for j in 0..COLUMNS / 2 {
                let word = |at: usize| i32::from_le_bytes([x[at][0], x[at][1], y[at][0], y[at][1]]);
                even[j] = dot_pair(even[j], factor, word(2 * j));
                odd[j] = dot_pair(odd[j], factor, word(2 * j + 1));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::x86::prefetch_at;
    use super::{COLUMNS, Cell, GROUP, Sums};
    use std::arch::x86_64::*;

    macro_rules! combine_whole {
        ($name:ident, $features:literal, $mul_add:expr) => {
            #[target_feature(enable = $features)]
            pub fn $name<B: Cell>(factors: &[u64; GROUP], rows: &[&[B]; GROUP], ahead: usize, out: &mut [u64]) {
                let (blocks, rest) = out.as_chunks_mut::<8>();
                let whole = 8 * blocks.len();
                for (i, out) in blocks.iter_mut().enumerate() {
                    // A cache line holds some blocks.
                    if ahead > 0 && i % (8 / size_of::<B>()) == 0 {
                        rows.iter().for_each(|row| prefetch_at(row, 8 * i + ahead));
                    }
                    // SAFETY: `out` is eight elements, and the load needs no alignment.
                    #[allow(unsafe_code)]
                    let (mut x, mut y) = (unsafe { _mm512_loadu_si512(out.as_ptr().cast()) }, _mm512_setzero_si512());
                    for ([f, g], rows) in factors.as_chunks::<2>().0.iter().zip(rows.as_chunks::<2>().0) {
                        let mut cells = [[0; 8]; 2];
                        for (cells, row) in cells.iter_mut().zip(rows) {
                            let row: &[B; 8] = row[8 * i..8 * i + 8].try_into().expect("eight cells");
                            *cells = row.map(B::widen);
                        }
                        // SAFETY: each array is eight elements, and the load needs no alignment.
                        #[allow(unsafe_code)]
                        let [b, c] = unsafe { cells.each_ref().map(|x| _mm512_loadu_si512(x.as_ptr().cast())) };
                        x = $mul_add(x, _mm512_set1_epi64(*f as i64), b);
                        y = $mul_add(y, _mm512_set1_epi64(*g as i64), c);
                    }
                    // SAFETY: `out` is eight elements, and the store needs no alignment.
                    #[allow(unsafe_code)]
                    unsafe {
                        _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_add_epi64(x, y))
                    }
                }
                for (f, row) in factors.iter().zip(rows) {
                    let row = &row[whole..];
                    rest.iter_mut().zip(row).for_each(|(out, x)| *out = out.wrapping_add(f.wrapping_mul(x.widen())));
                }
            }
        };
    }

    // out[j] += Σ factors[i]·rows[i][j] mod 2^52, and mod 2^64.
    combine_whole!(combine_ifma, "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma", _mm512_madd52lo_epu64);
    combine_whole!(combine_avx512, "avx512f,avx512dq,avx512bw,avx512vl", |acc, f, x| _mm512_add_epi64(
        acc,
        _mm512_mullo_epi64(f, x)
    ));

    macro_rules! combine_limbs {
        ($name:ident, $features:literal, $dot:expr) => {
            /// # Safety
            /// Every row has [`COLUMNS`] elements for each of `sums`.
            #[target_feature(enable = $features)]
            #[allow(unsafe_code)]
            pub unsafe fn $name<const L: usize>(
                factors: &[[i32; GROUP / 2]; L],
                rows: &[&[[u8; 2]]; GROUP],
                ahead: usize,
                sums: &mut [[Sums; L]],
            ) {
                // The second of two 16-bit elements.
                const SECOND: __mmask32 = 0xaaaa_aaaa;
                for (block, sums) in sums.iter_mut().enumerate() {
                    rows.iter().for_each(|row| prefetch_at(row, block * COLUMNS + ahead));
                    let [mut even, mut odd] = [[_mm512_setzero_si512(); L]; 2];
                    for l in 0..L {
                        // SAFETY: sixteen sums each, and the load needs no alignment.
                        (even[l], odd[l]) = unsafe {
                            (
                                _mm512_loadu_si512(sums[l][0].as_ptr().cast()),
                                _mm512_loadu_si512(sums[l][1].as_ptr().cast()),
                            )
                        };
                    }
                    for p in 0..GROUP / 2 {
                        // SAFETY: the rows are long enough, and the load needs no alignment.
                        let (x, y) = unsafe {
                            let at = |row: &[[u8; 2]]| row.as_ptr().add(block * COLUMNS).cast();
                            (_mm512_loadu_si512(at(rows[2 * p])), _mm512_loadu_si512(at(rows[2 * p + 1])))
                        };
                        let first = _mm512_mask_blend_epi16(SECOND, x, _mm512_slli_epi32::<16>(y));
                        let second = _mm512_mask_blend_epi16(SECOND, _mm512_srli_epi32::<16>(x), y);
                        for l in 0..L {
                            let factor = _mm512_set1_epi32(factors[l][p]);
                            even[l] = $dot(even[l], factor, first);
                            odd[l] = $dot(odd[l], factor, second);
                        }
                    }
                    for l in 0..L {
                        // SAFETY: as for the loads.
                        unsafe {
                            _mm512_storeu_si512(sums[l][0].as_mut_ptr().cast(), even[l]);
                            _mm512_storeu_si512(sums[l][1].as_mut_ptr().cast(), odd[l]);
                        }
                    }
                }
            }
        };
    }

    combine_limbs!(combine_limbs_vnni, "avx512f,avx512bw,avx512vnni", _mm512_dpwssd_epi32);
    combine_limbs!(combine_limbs_avx512, "avx512f,avx512bw", |acc, x, y| _mm512_add_epi32(
        acc,
        _mm512_madd_epi16(x, y)
    ));
}

multiversion! {
    /// out[j] += Σ a[i]·b[i, j] for a transposed b.
    fn dot_columns<B: Cell>(a: &[u64], b: View<B>, out: &mut [u64]) {
        for (j, out) in out.iter_mut().enumerate() {
            let sum = a.iter().zip(b.column(j)).fold(0u64, |s, (a, x)| s.wrapping_add(a.wrapping_mul(x.widen())));
            *out = out.wrapping_add(sum);
        }
    }
}
