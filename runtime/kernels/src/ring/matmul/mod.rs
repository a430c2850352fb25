//! Matrix products mod 2^width.
//!
//! Bits above the width mean nothing: neither in the operands nor in the result, which holds whatever the fastest way to
//! the low bits leaves there. Products of few rows read the right operand once ([`few`], [`packed`]), others go in tiles
//! ([`tiled`]); the width decides whether elements are multiplied by 16-bit limbs ([`limbs`]) or whole ([`wide`]).

mod few;
mod limbs;
mod packed;
mod tiled;
mod wide;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::Packed;
use crate::cpu::Cpu;
use limbs::Limbs;
use rayon::prelude::*;
use std::cell;
use std::ops::Range;
use wide::Wide;

/// Least number of multiplications that are worth another thread: some hundred microseconds.
const PARALLEL: usize = 1 << 21;

/// The same for few rows, which take as long as the right operand comes from memory: by its elements, ten microseconds.
const PARALLEL_FEW: usize = 1 << 17;

/// Products of at most this many rows are computed without packing.
const FEW_ROWS: usize = 3;

/// An element of the right operand: an integer that is sign-extended (signed types) or a ring element. Arrays are
/// little-endian bytes, so a memory-mapped file needs no alignment.
pub trait Cell: Copy + Default + Send + Sync {
    /// Bits of a cell.
    const BITS: u32;

    /// The ring element.
    fn widen(self) -> u64;

    /// The cells as they are if they have 16 bits.
    fn narrow(_cells: &[Self]) -> Option<&[[u8; 2]]> {
        None
    }
}

impl Cell for u64 {
    const BITS: u32 = 64;

    #[inline(always)]
    fn widen(self) -> u64 {
        self
    }
}

impl Cell for [u8; 2] {
    const BITS: u32 = 16;

    #[inline(always)]
    fn widen(self) -> u64 {
        i16::from_le_bytes(self) as u64
    }

    fn narrow(cells: &[Self]) -> Option<&[[u8; 2]]> {
        Some(cells)
    }
}

impl Cell for [u8; 4] {
    const BITS: u32 = 32;

    #[inline(always)]
    fn widen(self) -> u64 {
        i32::from_le_bytes(self) as u64
    }
}

impl Cell for [u8; 8] {
    const BITS: u32 = 64;

    #[inline(always)]
    fn widen(self) -> u64 {
        u64::from_le_bytes(self)
    }
}

/// out = a·b for a [m, k] and b [k, n], mod 2^`width`.
pub fn matmul<B: Cell>(a: &[u64], b: &[B], m: usize, k: usize, n: usize, width: u8, out: &mut [u64]) {
    in_memory(Cpu::get(), a, b, false, [m, k, n], width, false, out);
}

/// out += a·b for a [m, k] and b [k, n], mod 2^`width`.
pub fn matmul_add<B: Cell>(a: &[u64], b: &[B], m: usize, k: usize, n: usize, width: u8, out: &mut [u64]) {
    in_memory(Cpu::get(), a, b, false, [m, k, n], width, true, out);
}

/// out = a·bᵀ for a [m, k] and b [n, k], mod 2^`width`.
pub fn matmul_nt<B: Cell>(a: &[u64], b: &[B], m: usize, k: usize, n: usize, width: u8, out: &mut [u64]) {
    in_memory(Cpu::get(), a, b, true, [m, k, n], width, false, out);
}

/// out = a·b, or out += a·b if `add`, for a [m, k] and b [k, n] packed row-major, mod 2^`width`.
pub fn matmul_packed(a: &[u64], b: Packed, [m, k, n]: [usize; 3], width: u8, add: bool, out: &mut [u64]) {
    product(Cpu::get(), a, &packed::Matrix { elements: b, columns: n }, [m, k, n], width, add, out);
}

/// out = a·b, or out += a·b if `add`, for a [m, k] and b [k, n], mod 2^`width`. Elements of b from a row-major index on,
/// as many as asked for, are made by `fill(first, elements)`, for neighbouring columns of a few rows at a time and on
/// several threads: b is never in memory as a whole. `elements` holds anything before.
pub fn matmul_filled(
    a: &[u64],
    fill: impl Fn(usize, &mut [u64]) + Sync,
    [m, k, n]: [usize; 3],
    width: u8,
    add: bool,
    out: &mut [u64],
) {
    product(Cpu::get(), a, &Filled { fill, columns: n }, [m, k, n], width, add, out);
}

#[allow(clippy::too_many_arguments)]
fn in_memory<B: Cell>(
    cpu: Cpu,
    a: &[u64],
    b: &[B],
    transposed: bool,
    [m, k, n]: [usize; 3],
    width: u8,
    add: bool,
    out: &mut [u64],
) {
    assert!(b.len() == k * n, "right operand of a [{m}, {k}, {n}] product");
    let b = Matrix { cells: b, stride: if transposed { k } else { n }, transposed };
    product(cpu, a, &b, [m, k, n], width, add, out);
}

/// A right operand [k, n].
trait Operand: Sync {
    type Cell: Cell;

    /// True if neighbours in memory belong to one column.
    fn transposed(&self) -> bool {
        false
    }

    /// A part of it, which may be made in `scratch`.
    fn view<'v>(&'v self, rows: Range<usize>, columns: Range<usize>, scratch: &'v mut Vec<u64>)
    -> View<'v, Self::Cell>;

    /// Adds a part of a product of few rows to `out`: the columns of each row.
    fn few(&self, part: few::Part, out: &mut [&mut [u64]]);

    /// Asks memory for share number `share` of `shares` of a part that will be viewed soon: while it comes, other work is
    /// done. A view's rows are too short for the CPU to find out by itself what comes next.
    fn prefetch(&self, _rows: Range<usize>, _columns: Range<usize>, _share: usize, _shares: usize) {}
}

/// A part of an operand. Neighbours of a row, or of a column if it is transposed, lie side by side, and `stride` is the
/// distance of the next row or column.
#[derive(Clone, Copy)]
struct View<'v, B> {
    cells: &'v [B],
    stride: usize,
    transposed: bool,
    rows: usize,
}

impl<'v, B> View<'v, B> {
    /// Columns of a row, unless transposed.
    #[inline(always)]
    fn row(&self, row: usize, columns: Range<usize>) -> &'v [B] {
        &self.cells[row * self.stride + columns.start..row * self.stride + columns.end]
    }

    /// A column, if transposed.
    #[inline(always)]
    fn column(&self, column: usize) -> &'v [B] {
        &self.cells[column * self.stride..column * self.stride + self.rows]
    }
}

/// Inner dimensions that fill whole panels, whichever way is taken.
pub const PANEL: usize = 2 * tiled::STEPS;

/// An operand in memory.
struct Matrix<'a, B> {
    cells: &'a [B],
    stride: usize,
    transposed: bool,
}

impl<B: Cell> Operand for Matrix<'_, B> {
    type Cell = B;

    fn transposed(&self) -> bool {
        self.transposed
    }

    fn view<'v>(&'v self, rows: Range<usize>, columns: Range<usize>, _: &'v mut Vec<u64>) -> View<'v, B> {
        let (outer, inner) = if self.transposed { (columns.start, rows.start) } else { (rows.start, columns.start) };
        let cells = &self.cells[outer * self.stride + inner..];
        View { cells, stride: self.stride, transposed: self.transposed, rows: rows.len() }
    }

    fn few(&self, part: few::Part, out: &mut [&mut [u64]]) {
        let Matrix { cells, stride, transposed } = *self;
        few::resident(&part, View { cells, stride, transposed, rows: part.k }, out);
    }

    #[cfg(target_arch = "x86_64")]
    fn prefetch(&self, rows: Range<usize>, columns: Range<usize>, share: usize, shares: usize) {
        let (outer, inner) = if self.transposed { (columns, rows) } else { (rows, columns) };
        let end_of = |share: usize| outer.start + outer.len() * share / shares;
        for i in end_of(share)..end_of(share + 1) {
            x86::prefetch(&self.cells[i * self.stride + inner.start..i * self.stride + inner.end]);
        }
    }
}

/// An operand that is made as it is read.
struct Filled<F> {
    fill: F,
    columns: usize,
}

impl<F: Fn(usize, &mut [u64]) + Sync> Operand for Filled<F> {
    type Cell = u64;

    fn view<'v>(&'v self, rows: Range<usize>, columns: Range<usize>, scratch: &'v mut Vec<u64>) -> View<'v, u64> {
        filled(&self.fill, self.columns, rows, columns, scratch)
    }

    fn few(&self, part: few::Part, out: &mut [&mut [u64]]) {
        few::made(&part, self, out);
    }
}

/// A part of a matrix of `all` columns, made in `scratch`.
fn filled(
    fill: impl Fn(usize, &mut [u64]),
    all: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    scratch: &mut Vec<u64>,
) -> View<'_, u64> {
    let scratch = at_least(scratch, rows.len() * columns.len(), 0);
    let first = rows.start * all + columns.start;
    if columns.len() == all {
        fill(first, scratch);
    } else {
        for (row, out) in scratch.chunks_exact_mut(columns.len()).enumerate() {
            fill(first + row * all, out);
        }
    }
    View { cells: scratch, stride: columns.len(), transposed: false, rows: rows.len() }
}

/// The first `count` elements of a buffer that is kept, whatever they hold; `fresh` where it must grow.
fn at_least<T: Copy>(buffer: &mut Vec<T>, count: usize, fresh: T) -> &mut [T] {
    if buffer.len() < count {
        buffer.resize(count, fresh);
    }
    &mut buffer[..count]
}

thread_local! {
    /// Where a thread has the parts of right operands made: see [`Operand::view`].
    static SCRATCH: cell::Cell<Vec<u64>> = const { cell::Cell::new(Vec::new()) };
}

/// Calls `run` for each strip of at most `strip` columns of `out` [.., n], with its columns and its part of each row.
fn strips(
    out: &mut [u64],
    n: usize,
    strip: usize,
    parallel: bool,
    run: impl Fn(Range<usize>, &mut [&mut [u64]]) + Sync,
) {
    let mut strips: Vec<Vec<&mut [u64]>> = (0..n.div_ceil(strip)).map(|_| Vec::with_capacity(out.len() / n)).collect();
    for row in out.chunks_mut(n) {
        strips.iter_mut().zip(row.chunks_mut(strip)).for_each(|(s, part)| s.push(part));
    }
    let run = |(s, rows): (usize, &mut Vec<&mut [u64]>)| run(s * strip..s * strip + rows[0].len(), rows);
    if parallel {
        strips.par_iter_mut().enumerate().for_each(run);
    } else {
        strips.iter_mut().enumerate().for_each(run);
    }
}

/// out = a·b, or out += a·b if `add`.
fn product<O: Operand>(cpu: Cpu, a: &[u64], b: &O, [m, k, n]: [usize; 3], width: u8, add: bool, out: &mut [u64]) {
    assert!(a.len() == m * k && out.len() == m * n, "operands of a [{m}, {k}, {n}] product");
    if m * k * n == 0 {
        if !add {
            out.fill(0);
        }
        return;
    }
    let threads = |work: usize, least: usize| match work / least {
        ..2 => 1,
        parts => rayon::current_num_threads().min(parts),
    };
    if m <= FEW_ROWS {
        return few::product(cpu, width, a, b, [k, n], add, out, threads(k * n, PARALLEL_FEW));
    }
    let threads = threads(m * k * n, PARALLEL);
    match Limbs::new(width, O::Cell::BITS) {
        Some(limbs) => tiled::product(cpu, limbs, a, b, [k, n], add, out, threads),
        None => tiled::product(cpu, Wide(width <= 52), a, b, [k, n], add, out, threads),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{mask, pack, test_elements};

    fn plain<B: Cell>(a: &[u64], b: &[B], transposed: bool, [m, k, n]: [usize; 3], out: &mut [u64]) {
        for i in 0..m {
            for j in 0..n {
                for l in 0..k {
                    let x = b[if transposed { j * k + l } else { l * n + j }].widen();
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

    /// A width of each way to multiply, and the ends of its range.
    const WIDTHS: &[u8] = &[1, 15, 16, 17, 31, 32, 33, 40, 41, 46, 52, 53, 64];

    fn low(elements: &[u64], width: u8) -> Vec<u64> {
        elements.iter().map(|x| x & mask(width)).collect()
    }

    fn check<B: Cell>(cast: fn(u64) -> B) {
        for &[m, k, n] in SHAPES {
            for transposed in [false, true] {
                let a = test_elements(1, m * k);
                let b: Vec<B> = test_elements(2, k * n).into_iter().map(cast).collect();
                let start = test_elements(3, m * n);
                let (mut sum, mut product) = (start.clone(), vec![0; m * n]);
                plain(&a, &b, transposed, [m, k, n], &mut sum);
                plain(&a, &b, transposed, [m, k, n], &mut product);
                for cpu in Cpu::available() {
                    for &width in WIDTHS {
                        for (add, want) in [(true, &sum), (false, &product)] {
                            let mut got = start.clone();
                            in_memory(cpu, &a, &b, transposed, [m, k, n], width, add, &mut got);
                            let case = format!("{} {m}x{k}x{n} of {width} bits, {transposed} {add}", cpu.name());
                            assert!(low(&got, width) == low(want, width), "{case}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_path_and_cell_agrees_with_the_plain_loop() {
        check(|x| x);
        check(|x| (x as i16).to_le_bytes());
        check(|x| (x as i32).to_le_bytes());
        check(u64::to_le_bytes);
    }

    #[test]
    fn extreme_limbs() {
        // Each limb the least or the greatest there is, so that sums of products are as large as they can be.
        for (m, k) in [(1, 1000), (4, 1000)] {
            for x in [0x8000, 0x8000_8000, 0x80, 0x80_8080, 0x7fff_7f80, 0x7fff_7fff, 0x7fff_7f7f, u64::MAX, 1 << 63] {
                for y in [i16::MIN, i16::MAX, -1] {
                    let (a, b) = (vec![x; m * k], vec![y.to_le_bytes(); k * 33]);
                    let want = vec![x.wrapping_mul(y as u64).wrapping_mul(k as u64); m * 33];
                    for cpu in Cpu::available() {
                        for &width in WIDTHS {
                            let mut got = vec![0; m * 33];
                            in_memory(cpu, &a, &b, false, [m, k, 33], width, true, &mut got);
                            assert!(low(&got, width) == low(&want, width), "{} {x:x} {y} {width}", cpu.name());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn large_products_in_parallel_and_in_one_thread() {
        // More rows and a longer inner dimension than are packed at once, more columns than a strip, several strips; few rows
        // with several strips, and with parts of one.
        for [m, k, n] in [
            [1029, 40, 50],
            [40, 400, 333],
            [5, 3300, 50],
            [1, 700, 4177],
            [1, 40, 9000],
            [1, 768, 768],
            [3, 1030, 1111],
        ] {
            for width in [16, 33, 46, 64] {
                let (a, elements) = (test_elements(1, m * k), test_elements(2, k * n));
                let cells: Vec<[u8; 2]> = elements.iter().map(|&x| (x as i16).to_le_bytes()).collect();
                let fill = |first: usize, out: &mut [u64]| out.copy_from_slice(&elements[first..first + out.len()]);
                let mut bytes = Vec::new();
                pack(&elements, width, &mut bytes);
                for threads in [1, 3] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let mut got = vec![7; m * n];
                    for transposed in [false, true] {
                        let mut want = vec![0; m * n];
                        plain(&a, &cells, transposed, [m, k, n], &mut want);
                        let run = if transposed { matmul_nt } else { matmul };
                        pool.install(|| run(&a, &cells, m, k, n, width, &mut got));
                        let case = format!("{m}x{k}x{n} on {threads} threads, transposed: {transposed}");
                        assert!(low(&got, width) == low(&want, width), "{case}");
                    }
                    let (mut want, mut got) = (vec![5; m * n], vec![5; m * n]);
                    plain(&a, &elements, false, [m, k, n], &mut want);
                    pool.install(|| matmul_filled(&a, fill, [m, k, n], width, true, &mut got));
                    assert!(low(&got, width) == low(&want, width), "{m}x{k}x{n} filled, on {threads} threads");
                    want.fill(0);
                    plain(&a, &elements, false, [m, k, n], &mut want);
                    pool.install(|| matmul_filled(&a, fill, [m, k, n], width, false, &mut got));
                    assert!(low(&got, width) == low(&want, width), "{m}x{k}x{n} filled anew, on {threads} threads");
                    let packed = Packed::new(&bytes, width);
                    pool.install(|| matmul_packed(&a, packed, [m, k, n], width, false, &mut got));
                    assert!(low(&got, width) == low(&want, width), "{m}x{k}x{n} packed, on {threads} threads");
                }
            }
        }
    }

    #[test]
    fn packed_operands() {
        // Rows that begin at any bit, products as wide as the elements and narrower and wider, widths at which an element
        // takes nine bytes, and a last group that ends with the memory.
        for [m, k, n] in [[1, 1, 1], [1, 9, 7], [1, 8, 8], [2, 17, 65], [3, 33, 300], [1, 40, 2500], [5, 20, 50]] {
            let a = test_elements(1, m * k);
            let elements = test_elements(2, k * n);
            let start = test_elements(3, m * n);
            for bits in [1, 7, 8, 16, 31, 32, 33, 39, 45, 46, 52, 53, 57, 58, 63, 64] {
                let elements = low(&elements, bits);
                let mut bytes = Vec::new();
                pack(&elements, bits, &mut bytes);
                let b = packed::Matrix { elements: Packed::new(&bytes, bits), columns: n };
                let (mut sum, mut product_alone) = (start.clone(), vec![0; m * n]);
                plain(&a, &elements, false, [m, k, n], &mut sum);
                plain(&a, &elements, false, [m, k, n], &mut product_alone);
                for cpu in Cpu::available() {
                    for width in [1, bits - bits / 4, bits, 33, 52, 64] {
                        for (add, want) in [(true, &sum), (false, &product_alone)] {
                            let mut got = start.clone();
                            product(cpu, &a, &b, [m, k, n], width, add, &mut got);
                            let case = format!("{} {m}x{k}x{n} of {bits} bits at {width}, {add}", cpu.name());
                            assert!(low(&got, width) == low(want, width), "{case}");
                        }
                    }
                }
            }
        }
    }
}
