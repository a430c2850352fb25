//! Products of few rows, for which copying the right operand would cost more than the product: each row is a
//! combination of rows of the right operand, which is read once, at the speed of memory.

use super::limbs::{Limbs, dot_pair};
use super::tiled::STEPS;
use super::{Cell, Operand, View};
use crate::cpu::{Cpu, Level, multiversion};
use std::ops::Range;

/// Columns of a strip: its sums stay in the first-level cache.
const STRIP: usize = 2048;

/// Rows of the right operand that are combined in one pass over the sums: enough streams to keep memory busy.
const GROUP: usize = 16;

/// Columns that are summed at once by limbs.
const COLUMNS: usize = 32;

/// Sums of even columns, then of odd ones: a pair of rows is put together without moving elements across.
type Sums = [[i32; COLUMNS / 2]; 2];

/// out = a·b, or out += a·b if `add`, for a [m, k] and b [k, n], none of them empty, mod 2^`width`. By limbs if b's cells
/// have 16 bits and limbs are enough, else whole.
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
) -> Result<(), O::Error> {
    // Strips of columns are independent; each thread gets a few.
    let strip = if threads == 1 { n } else { n.div_ceil(4 * threads).next_multiple_of(64) }.min(STRIP);
    super::strips(out, n, strip, threads > 1, |columns, out, scratch| {
        if !add {
            out.iter_mut().for_each(|out| out.fill(0));
        }
        if b.transposed() {
            let view = b.view(0..k, columns, scratch)?;
            a.chunks_exact(k).zip(out).for_each(|(a, out)| dot_columns(cpu, a, view, out));
            return Ok(());
        }
        match Limbs::new(width, O::Cell::BITS).filter(|_| O::Cell::BITS == 16) {
            Some(limbs) => by_limbs(cpu, limbs, a, b, k, columns, out, scratch),
            None => whole(cpu, width <= 52, a, b, k, columns, out, scratch),
        }
    })
}

/// Mod 2^64; mod 2^52 is enough if `short`.
#[allow(clippy::too_many_arguments)]
fn whole<O: Operand>(
    cpu: Cpu,
    short: bool,
    a: &[u64],
    b: &O,
    k: usize,
    columns: Range<usize>,
    out: &mut [&mut [u64]],
    scratch: &mut Vec<u64>,
) -> Result<(), O::Error> {
    for from in (0..k).step_by(GROUP) {
        let to = k.min(from + GROUP);
        let view = b.view(from..to, columns.clone(), scratch)?;
        let rows = group(view, columns.len());
        for (a, out) in a.chunks_exact(k).zip(&mut *out) {
            let mut factors = [0; GROUP];
            factors[..to - from].copy_from_slice(&a[from..to]);
            match cpu.level() {
                // SAFETY: a `Cpu` of this level exists only if the features were detected.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                Level::Icelake if short => unsafe { x86::combine_ifma(&factors, &rows, out) },
                _ => combine(cpu, &factors, &rows, out),
            }
        }
    }
    Ok(())
}

/// The first [`GROUP`] rows of a view; where it has fewer, the last again.
fn group<'v, B: Cell>(view: View<'v, B>, columns: usize) -> [&'v [B]; GROUP] {
    std::array::from_fn(|i| view.row(i.min(view.rows - 1), 0..columns))
}

multiversion! {
    /// out[j] += Σ factors[i]·rows[i][j].
    fn combine<B: Cell>(factors: &[u64; GROUP], rows: &[&[B]; GROUP], out: &mut [u64]) {
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

#[allow(clippy::too_many_arguments)]
fn by_limbs<O: Operand>(
    cpu: Cpu,
    limbs: Limbs,
    a: &[u64],
    b: &O,
    k: usize,
    columns: Range<usize>,
    out: &mut [&mut [u64]],
    scratch: &mut Vec<u64>,
) -> Result<(), O::Error> {
    let parts = limbs.left();
    let mut sums = vec![Sums::default(); columns.len().div_ceil(COLUMNS) * parts.len() * out.len()];
    let row_sums = sums.len() / out.len();
    // As deep as sums of the first limb are exact.
    for start in (0..k).step_by(2 * STEPS) {
        let end = k.min(start + 2 * STEPS);
        for from in (start..end).step_by(GROUP) {
            let to = end.min(from + GROUP);
            let view = b.view(from..to, columns.clone(), scratch)?;
            let rows = group(view, columns.len()).map(|row| O::Cell::narrow(row).expect("cells of 16 bits"));
            for (a, sums) in a.chunks_exact(k).zip(sums.chunks_exact_mut(row_sums)) {
                let pair = |limb: usize, i: usize| {
                    let at = |i: usize| if i < to { i32::from(parts[limb].of(a[i])) } else { 0 };
                    at(from + 2 * i) & 0xffff | at(from + 2 * i + 1) << 16
                };
                match parts.len() {
                    1 => add_group::<1>(cpu, pair, &rows, sums.as_chunks_mut().0),
                    2 => add_group::<2>(cpu, pair, &rows, sums.as_chunks_mut().0),
                    _ => add_group::<3>(cpu, pair, &rows, sums.as_chunks_mut().0),
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums.chunks_exact_mut(row_sums)) {
            for (out, sums) in out.chunks_mut(COLUMNS).zip(sums.chunks_exact(parts.len())) {
                for (limb, sums) in parts.iter().zip(sums) {
                    for (j, out) in out.iter_mut().enumerate() {
                        let sum = i64::from(sums[j % 2][j / 2]) as u64;
                        *out = out.wrapping_add(sum << limb.shift());
                    }
                }
            }
            sums.fill(Sums::default());
        }
    }
    Ok(())
}

/// Adds the products of L limbs with a group of rows to their sums. `pair` gives two neighbouring limbs as a word.
fn add_group<const L: usize>(
    cpu: Cpu,
    pair: impl Fn(usize, usize) -> i32,
    rows: &[&[[u8; 2]]; GROUP],
    sums: &mut [[Sums; L]],
) {
    let factors: [[i32; GROUP / 2]; L] = std::array::from_fn(|limb| std::array::from_fn(|i| pair(limb, i)));
    let whole = rows[0].len() / COLUMNS;
    let (blocks, last) = sums.split_at_mut(whole);
    combine_limbs(cpu, &factors, rows, blocks);
    if let [_] = last {
        let mut filled = [[[0; 2]; COLUMNS]; GROUP];
        for (filled, row) in filled.iter_mut().zip(rows) {
            let rest = &row[whole * COLUMNS..];
            filled[..rest.len()].copy_from_slice(rest);
        }
        combine_limbs(cpu, &factors, &filled.each_ref().map(|row| &row[..]), last);
    }
}

fn combine_limbs<const L: usize>(
    cpu: Cpu,
    factors: &[[i32; GROUP / 2]; L],
    rows: &[&[[u8; 2]]; GROUP],
    sums: &mut [[Sums; L]],
) {
    assert!(rows.iter().all(|row| row.len() >= sums.len() * COLUMNS), "rows of a group");
    match cpu.level() {
        // SAFETY: a `Cpu` of this level exists only if the features were detected, and the rows are long enough.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Icelake => unsafe { x86::combine_vnni(factors, rows, sums) },
        // SAFETY: see above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Avx512 => unsafe { x86::combine_avx512(factors, rows, sums) },
        _ => {
            for (factors, limb) in factors.iter().zip(0..) {
                for (block, sums) in sums.iter_mut().enumerate() {
                    combine_plain(cpu, factors, rows, block, &mut sums[limb]);
                }
            }
        }
    }
}

multiversion! {
    fn combine_plain(factors: &[i32; GROUP / 2], rows: &[&[[u8; 2]]; GROUP], block: usize, sums: &mut Sums) {
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
    use super::{COLUMNS, Cell, GROUP, Sums};
    use std::arch::x86_64::*;

    /// out[j] += Σ factors[i]·rows[i][j] mod 2^52.
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma")]
    pub fn combine_ifma<B: Cell>(factors: &[u64; GROUP], rows: &[&[B]; GROUP], out: &mut [u64]) {
        let (blocks, rest) = out.as_chunks_mut::<8>();
        let whole = 8 * blocks.len();
        for (i, out) in blocks.iter_mut().enumerate() {
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
                let [b, c] = unsafe {
                    [_mm512_loadu_si512(cells[0].as_ptr().cast()), _mm512_loadu_si512(cells[1].as_ptr().cast())]
                };
                x = _mm512_madd52lo_epu64(x, _mm512_set1_epi64(*f as i64), b);
                y = _mm512_madd52lo_epu64(y, _mm512_set1_epi64(*g as i64), c);
            }
            // SAFETY: `out` is eight elements, and the store needs no alignment.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_add_epi64(x, y))
            }
        }
        for (f, row) in factors.iter().zip(rows) {
            rest.iter_mut().zip(&row[whole..]).for_each(|(out, x)| *out = out.wrapping_add(f.wrapping_mul(x.widen())));
        }
    }

    macro_rules! combine {
        ($name:ident, $features:literal, $dot:expr) => {
            /// # Safety
            /// Every row has [`COLUMNS`] elements for each of `sums`.
            #[target_feature(enable = $features)]
            #[allow(unsafe_code)]
            pub unsafe fn $name<const L: usize>(
                factors: &[[i32; GROUP / 2]; L],
                rows: &[&[[u8; 2]]; GROUP],
                sums: &mut [[Sums; L]],
            ) {
                // The second of two 16-bit elements.
                const SECOND: __mmask32 = 0xaaaa_aaaa;
                for (block, sums) in sums.iter_mut().enumerate() {
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

    combine!(combine_vnni, "avx512f,avx512bw,avx512vnni", _mm512_dpwssd_epi32);
    combine!(combine_avx512, "avx512f,avx512bw", |acc, x, y| _mm512_add_epi32(acc, _mm512_madd_epi16(x, y)));
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
