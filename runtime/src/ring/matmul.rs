//! Matrix products mod 2^64.
//!
//! A large product is computed in tiles of 8 x 24 elements whose accumulators stay in registers (with AVX-512: 24 of the
//! 32). Both operands are copied into the order in which a tile reads them: the left one once per block of rows, the
//! right one panel by panel of 24 columns, into a buffer that fits in the first-level cache and is used by all rows at
//! once. Narrow elements of the right operand are widened by that copy, so weights stay in memory as they are stored.
//! The arrangement is that of Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS
//! 34(3), 2008. Up to [`FEW_ROWS`] rows the copy would cost more than the product: each row is then a combination of
//! rows of the right operand, which is read once, at the speed of memory.

use crate::cpu::{Cpu, multiversion};
use rayon::prelude::*;

/// Rows of a tile.
const TILE_ROWS: usize = 8;

/// Columns of a tile.
const TILE_COLUMNS: usize = 24;

/// Inner dimension of a packed panel: 24 · 192 · 8 bytes = 36 KiB.
const DEPTH: usize = 192;

/// Rows that are packed at once.
const ROW_BLOCK: usize = 1024;

/// Least number of multiplications that are worth another thread: some hundred microseconds.
const PARALLEL: usize = 1 << 21;

/// Products of at most this many rows are computed without packing.
const FEW_ROWS: usize = 3;

/// An element of the right operand: an integer that is sign-extended (signed types) or a ring element. Arrays are
/// little-endian bytes, so a memory-mapped file needs no alignment.
pub trait Cell: Copy + Send + Sync {
    /// The ring element.
    fn widen(self) -> u64;
}

macro_rules! cells {
    ($($ty:ty, $x:ident => $widen:expr;)*) => {
        $( impl Cell for $ty {
            #[inline(always)]
            fn widen(self) -> u64 {
                let $x = self;
                $widen
            }
        } )*
    };
}

cells! {
    u64, x => x;
    i64, x => x as u64;
    i32, x => x as u64;
    i16, x => x as u64;
    i8, x => x as u64;
    [u8; 2], x => i16::from_le_bytes(x) as u64;
    [u8; 4], x => i32::from_le_bytes(x) as u64;
    [u8; 8], x => u64::from_le_bytes(x);
}

/// out = a·b for a [m, k] and b [k, n].
pub fn matmul<B: Cell>(a: &[u64], b: &[B], m: usize, k: usize, n: usize, out: &mut [u64]) {
    out.fill(0);
    matmul_add(a, b, m, k, n, out);
}

/// out += a·b for a [m, k] and b [k, n].
pub fn matmul_add<B: Cell>(a: &[u64], b: &[B], m: usize, k: usize, n: usize, out: &mut [u64]) {
    product(Cpu::get(), a, Right { cells: b, transposed: false }, [m, k, n], out);
}

/// out = a·bᵀ for a [m, k] and b [n, k].
pub fn matmul_nt<B: Cell>(a: &[u64], b: &[B], m: usize, k: usize, n: usize, out: &mut [u64]) {
    out.fill(0);
    matmul_nt_add(a, b, m, k, n, out);
}

/// out += a·bᵀ for a [m, k] and b [n, k].
pub fn matmul_nt_add<B: Cell>(a: &[u64], b: &[B], m: usize, k: usize, n: usize, out: &mut [u64]) {
    product(Cpu::get(), a, Right { cells: b, transposed: true }, [m, k, n], out);
}

/// The right operand: [k, n], or [n, k] if transposed.
#[derive(Clone, Copy)]
struct Right<'a, B> {
    cells: &'a [B],
    transposed: bool,
}

fn product<B: Cell>(cpu: Cpu, a: &[u64], b: Right<B>, [m, k, n]: [usize; 3], out: &mut [u64]) {
    assert!(a.len() == m * k && b.cells.len() == k * n && out.len() == m * n, "operands of a [{m}, {k}, {n}] product");
    if m * k * n == 0 {
        return;
    }
    let threads = if m * k * n < 2 * PARALLEL { 1 } else { rayon::current_num_threads().min(m * k * n / PARALLEL) };
    if m <= FEW_ROWS {
        return few_rows(cpu, a, b, [m, k, n], out, threads);
    }
    for (a, out) in a.chunks(ROW_BLOCK * k).zip(out.chunks_mut(ROW_BLOCK * n)) {
        tiled(cpu, a, b, [a.len() / k, k, n], out, threads);
    }
}

/// A packed left panel: for each of k, one element of each of the tile's rows.
type LeftColumn = [u64; TILE_ROWS];

/// A packed right panel: for each of k, one element of each of the tile's columns.
type RightRow = [u64; TILE_COLUMNS];

type Tile = [[u64; TILE_COLUMNS]; TILE_ROWS];

fn tiled<B: Cell>(cpu: Cpu, a: &[u64], b: Right<B>, [m, k, n]: [usize; 3], out: &mut [u64], threads: usize) {
    let left = pack_left(a, m, k, threads > 1);
    // Threads take groups of panels, a few each, so that one that is held up does not hold up all.
    let panels = n.div_ceil(TILE_COLUMNS);
    let group = if threads == 1 { panels } else { panels.div_ceil(8 * threads) } * TILE_COLUMNS;
    let mut groups: Vec<Vec<&mut [u64]>> = (0..n.div_ceil(group)).map(|_| Vec::with_capacity(m)).collect();
    for row in out.chunks_mut(n) {
        groups.iter_mut().zip(row.chunks_mut(group)).for_each(|(g, part)| g.push(part));
    }
    let run = |(g, rows): (usize, &mut Vec<&mut [u64]>)| {
        let mut right = vec![[0; TILE_COLUMNS]; DEPTH.min(k)];
        for from in (0..rows[0].len()).step_by(TILE_COLUMNS) {
            for depth in (0..k).step_by(DEPTH) {
                let count = DEPTH.min(k - depth);
                pack_right(cpu, b, [k, n], depth, g * group + from, &mut right[..count]);
                for (rows, left) in rows.chunks_mut(TILE_ROWS).zip(left.chunks_exact(k)) {
                    let mut tile = [[0; TILE_COLUMNS]; TILE_ROWS];
                    multiply(cpu, &left[depth..depth + count], &right[..count], &mut tile);
                    for (row, sums) in rows.iter_mut().zip(&tile) {
                        row[from..].iter_mut().zip(sums).for_each(|(x, s)| *x = x.wrapping_add(*s));
                    }
                }
            }
        }
    };
    if threads == 1 {
        groups.iter_mut().enumerate().for_each(run);
    } else {
        groups.par_iter_mut().enumerate().for_each(run);
    }
}

/// Panels of [`TILE_ROWS`] rows, each of k columns; the last is filled up with zeros.
fn pack_left(a: &[u64], m: usize, k: usize, parallel: bool) -> Vec<LeftColumn> {
    let mut left = vec![[0; TILE_ROWS]; m.div_ceil(TILE_ROWS) * k];
    let pack = |(panel, rows): (&mut [LeftColumn], &[u64])| {
        for (r, row) in rows.chunks_exact(k).enumerate() {
            panel.iter_mut().zip(row).for_each(|(column, &x)| column[r] = x);
        }
    };
    if parallel {
        left.par_chunks_exact_mut(k).zip(a.par_chunks(TILE_ROWS * k)).for_each(pack);
    } else {
        left.chunks_exact_mut(k).zip(a.chunks(TILE_ROWS * k)).for_each(pack);
    }
    left
}

/// Columns `from .. from + 24` of rows `depth ..` of b, widened; columns beyond the last are zero.
fn pack_right<B: Cell>(cpu: Cpu, b: Right<B>, [k, n]: [usize; 2], depth: usize, from: usize, panel: &mut [RightRow]) {
    let columns = TILE_COLUMNS.min(n - from);
    if columns < TILE_COLUMNS {
        panel.fill([0; TILE_COLUMNS]);
    }
    if b.transposed {
        for c in 0..columns {
            let start = (from + c) * k + depth;
            gather_column(cpu, &b.cells[start..start + panel.len()], c, panel);
        }
    } else {
        widen_rows(cpu, &b.cells[depth * n + from..], n, columns, panel);
    }
}

multiversion! {
    fn widen_rows<B: Cell>(cells: &[B], n: usize, columns: usize, panel: &mut [RightRow]) {
        for (r, out) in panel.iter_mut().enumerate() {
            let row = &cells[r * n..r * n + columns];
            match <&[B; TILE_COLUMNS]>::try_from(row) {
                Ok(row) => *out = row.map(B::widen),
                Err(_) => out.iter_mut().zip(row).for_each(|(out, x)| *out = x.widen()),
            }
        }
    }
}

multiversion! {
    fn gather_column<B: Cell>(cells: &[B], c: usize, panel: &mut [RightRow]) {
        for (out, x) in panel.iter_mut().zip(cells) {
            out[c] = x.widen();
        }
    }
}

fn multiply(cpu: Cpu, left: &[LeftColumn], right: &[RightRow], tile: &mut Tile) {
    match cpu.level() {
        // SAFETY: a `Cpu` of this level exists only if the features were detected.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        crate::cpu::Level::Avx512 => unsafe { multiply_avx512(left, right, tile) },
        _ => multiply_in_parts(cpu, left, right, tile),
    }
}

/// The whole tile at once. Written with intrinsics because the vectoriser, left alone, turns the accumulators by ninety
/// degrees and moves them through memory.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
fn multiply_avx512(left: &[LeftColumn], right: &[RightRow], tile: &mut Tile) {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi64, _mm512_loadu_si512, _mm512_mullo_epi64, _mm512_set1_epi64, _mm512_setzero_si512,
        _mm512_storeu_si512,
    };
    macro_rules! rows {
        ($($r:literal $x:ident $y:ident $z:ident),*) => {
            $( let [mut $x, mut $y, mut $z] = [_mm512_setzero_si512(); 3]; )*
            for (a, b) in left.iter().zip(right) {
                let b = b.as_ptr().cast::<__m512i>();
                // SAFETY: `b` points to 24 elements, three vectors of eight, and the load needs no alignment.
                #[allow(unsafe_code)]
                let (b0, b1, b2) =
                    unsafe { (_mm512_loadu_si512(b), _mm512_loadu_si512(b.add(1)), _mm512_loadu_si512(b.add(2))) };
                $(
                    let factor = _mm512_set1_epi64(a[$r] as i64);
                    $x = _mm512_add_epi64($x, _mm512_mullo_epi64(factor, b0));
                    $y = _mm512_add_epi64($y, _mm512_mullo_epi64(factor, b1));
                    $z = _mm512_add_epi64($z, _mm512_mullo_epi64(factor, b2));
                )*
            }
            $(
                let row = tile[$r].as_mut_ptr().cast::<__m512i>();
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
    rows!(0 x0 y0 z0, 1 x1 y1 z1, 2 x2 y2 z2, 3 x3 y3 z3, 4 x4 y4 z4, 5 x5 y5 z5, 6 x6 y6 z6, 7 x7 y7 z7);
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
    fn multiply_in_parts(left: &[LeftColumn], right: &[RightRow], tile: &mut Tile) {
        for r in (0..TILE_ROWS).step_by(4) {
            for c in (0..TILE_COLUMNS).step_by(4) {
                let (mut w, mut x, mut y, mut z) = ([0u64; 4], [0u64; 4], [0u64; 4], [0u64; 4]);
                for (a, b) in left.iter().zip(right) {
                    let (a, b) = (part::<4>(a, r), part::<4>(b, c));
                    (w, x) = (mul_add(w, a[0], b), mul_add(x, a[1], b));
                    (y, z) = (mul_add(y, a[2], b), mul_add(z, a[3], b));
                }
                for (i, sums) in [w, x, y, z].iter().enumerate() {
                    tile[r + i][c..c + 4].copy_from_slice(sums);
                }
            }
        }
    }
}

/// Columns of a strip: its sums stay in the first-level cache.
const STRIP: usize = 1024;

fn few_rows<B: Cell>(cpu: Cpu, a: &[u64], b: Right<B>, [m, k, n]: [usize; 3], out: &mut [u64], threads: usize) {
    // Strips of columns are independent; each thread gets a few.
    let strip = if threads == 1 { n } else { n.div_ceil(4 * threads).next_multiple_of(64) }.min(STRIP);
    for (a, out) in a.chunks_exact(k).zip(out.chunks_exact_mut(n)) {
        let run = |(i, out): (usize, &mut [u64])| {
            if b.transposed {
                dot_rows(cpu, a, &b.cells[i * strip * k..], out);
            } else {
                combine_rows(cpu, a, &b.cells[i * strip..], n, out);
            }
        };
        if threads == 1 {
            out.chunks_mut(strip).enumerate().for_each(run);
        } else {
            out.par_chunks_mut(strip).enumerate().for_each(run);
        }
    }
    debug_assert!(m <= FEW_ROWS);
}

multiversion! {
    /// out[j] += Σ a[i]·b[i·n + j], eight rows at a time: enough streams to keep memory busy, one pass over `out` for all.
    fn combine_rows<B: Cell>(a: &[u64], b: &[B], n: usize, out: &mut [u64]) {
        let columns = out.len();
        let row = |i: usize| &b[i * n..i * n + columns];
        let (groups, rest) = a.as_chunks::<8>();
        for (g, a) in groups.iter().enumerate() {
            let i = 8 * g;
            let (r0, r1, r2, r3) = (row(i), row(i + 1), row(i + 2), row(i + 3));
            let (r4, r5, r6, r7) = (row(i + 4), row(i + 5), row(i + 6), row(i + 7));
            for j in 0..columns {
                let mut sum = out[j].wrapping_add(a[0].wrapping_mul(r0[j].widen()));
                sum = sum.wrapping_add(a[1].wrapping_mul(r1[j].widen()));
                sum = sum.wrapping_add(a[2].wrapping_mul(r2[j].widen()));
                sum = sum.wrapping_add(a[3].wrapping_mul(r3[j].widen()));
                sum = sum.wrapping_add(a[4].wrapping_mul(r4[j].widen()));
                sum = sum.wrapping_add(a[5].wrapping_mul(r5[j].widen()));
                sum = sum.wrapping_add(a[6].wrapping_mul(r6[j].widen()));
                out[j] = sum.wrapping_add(a[7].wrapping_mul(r7[j].widen()));
            }
        }
        for (i, &a) in rest.iter().enumerate() {
            for (out, x) in out.iter_mut().zip(row(8 * groups.len() + i)) {
                *out = out.wrapping_add(a.wrapping_mul(x.widen()));
            }
        }
    }
}

multiversion! {
    /// out[j] += Σ a[i]·b[j·k + i].
    fn dot_rows<B: Cell>(a: &[u64], b: &[B], out: &mut [u64]) {
        for (out, row) in out.iter_mut().zip(b.chunks_exact(a.len())) {
            let sum = a.iter().zip(row).fold(0u64, |s, (a, x)| s.wrapping_add(a.wrapping_mul(x.widen())));
            *out = out.wrapping_add(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::test_elements;

    fn plain<B: Cell>(a: &[u64], b: Right<B>, [m, k, n]: [usize; 3], out: &mut [u64]) {
        for i in 0..m {
            for j in 0..n {
                for l in 0..k {
                    let x = b.cells[if b.transposed { j * k + l } else { l * n + j }].widen();
                    out[i * n + j] = out[i * n + j].wrapping_add(a[i * k + l].wrapping_mul(x));
                }
            }
        }
    }

    const SHAPES: &[[usize; 3]] = &[
        [1, 1, 1],
        [1, 9, 200],
        [2, 17, 65],
        [3, 8, 24],
        [4, 1, 1],
        [5, 3, 23],
        [8, 24, 24],
        [9, 191, 25],
        [16, 193, 48],
        [7, 400, 50],
        [33, 65, 97],
        [0, 4, 5],
        [4, 0, 5],
        [4, 5, 0],
    ];

    fn check<B: Cell>(cast: fn(u64) -> B) {
        for cpu in Cpu::available() {
            for &[m, k, n] in SHAPES {
                for transposed in [false, true] {
                    let a = test_elements(1, m * k);
                    let cells: Vec<B> = test_elements(2, k * n).into_iter().map(cast).collect();
                    let b = Right { cells: &cells, transposed };
                    let mut want = test_elements(3, m * n);
                    let mut got = want.clone();
                    plain(&a, b, [m, k, n], &mut want);
                    product(cpu, &a, b, [m, k, n], &mut got);
                    assert!(got == want, "{} {m}x{k}x{n} transposed: {transposed}", cpu.name());
                }
            }
        }
    }

    #[test]
    fn every_path_and_cell_agrees_with_the_plain_loop() {
        check(|x| x);
        check(|x| x as i64);
        check(|x| x as i32);
        check(|x| x as i16);
        check(|x| x as i8);
        check(|x| (x as i16).to_le_bytes());
        check(|x| (x as i32).to_le_bytes());
        check(u64::to_le_bytes);
    }

    #[test]
    fn large_products_in_parallel_and_in_one_thread() {
        // More rows than a row block, more columns than a strip, more than one group of panels.
        for [m, k, n] in [[ROW_BLOCK + 5, 40, 50], [40, 300, 333], [1, 700, 2 * STRIP + 77], [3, 1030, 1111]] {
            for transposed in [false, true] {
                let a = test_elements(1, m * k);
                let cells: Vec<i16> = test_elements(2, k * n).into_iter().map(|x| x as i16).collect();
                let b = Right { cells: &cells, transposed };
                let mut want = vec![0; m * n];
                plain(&a, b, [m, k, n], &mut want);
                for threads in [1, 3] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let mut got = vec![7; m * n];
                    let run = if transposed { matmul_nt } else { matmul };
                    pool.install(|| run(&a, &cells, m, k, n, &mut got));
                    assert!(got == want, "{m}x{k}x{n} on {threads} threads, transposed: {transposed}");
                }
            }
        }
    }
}
