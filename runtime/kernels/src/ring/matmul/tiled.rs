//! Products in tiles whose accumulators stay in registers.
//!
//! Both operands are copied into the order in which a tile reads them: the left one once, the right one panel by panel,
//! a few panels of neighbouring columns at a time, so that memory is read in long runs; they stay in the second-level
//! cache and are used by all rows at once. The arrangement is that of Goto and van de Geijn, "Anatomy of
//! high-performance matrix multiplication", ACM TOMS 34(3), 2008. What a tile multiplies is a [`Scheme`].

use super::{Cell, Operand, View};
use crate::cpu::{Cpu, multiversion};
use rayon::prelude::*;
use std::cell;
use std::ops::Range;
use std::thread::LocalKey;

/// Rows of a tile.
pub const TILE_ROWS: usize = 8;

/// Words of the inner dimension in a panel: one of the left operand has 12 or 6 KiB, one of the right 36 KiB.
pub const STEPS: usize = 192;

/// Most panels that are copied at once.
const PANELS: usize = 4;

/// Rows of the left operand that are packed at once, and panels of each: some MB.
const ROW_BLOCK: usize = 512;
const DEPTH_BLOCK: usize = 8;

/// Steps of a transposed panel that are written at once, so that they stay in the first-level cache.
const TURNED: usize = 32;

/// Most terms of a product.
const TERMS: usize = 6;

/// On the border of a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Aligned<T>(pub T);

impl<T, const N: usize> AsRef<[T]> for Aligned<[T; N]> {
    #[inline(always)]
    fn as_ref(&self) -> &[T] {
        &self.0
    }
}

/// A panel of the left operand, row by row; what lies beyond its end means nothing.
pub type Left<W> = Aligned<[[W; STEPS]; TILE_ROWS]>;

/// A product of limbs and its weight.
#[derive(Clone, Copy)]
pub struct Term {
    /// Limb of the left operand.
    pub left: usize,
    /// Limb of the right operand.
    pub right: usize,
    /// The product counts 2^shift.
    pub shift: u32,
}

/// A part of an element, or a sum of products of such parts.
pub trait Word: Copy + Default + Send + Sync + 'static {
    /// The sum as a ring element.
    fn widen(self) -> u64;
}

impl Word for i32 {
    #[inline(always)]
    fn widen(self) -> u64 {
        i64::from(self) as u64
    }
}

impl Word for u64 {
    #[inline(always)]
    fn widen(self) -> u64 {
        self
    }
}

/// How elements are cut into words, and words multiplied. A word holds one element of the inner dimension or several.
pub trait Scheme: Copy + Send + Sync + 'static {
    /// A word of either operand, or a sum.
    type Word: Word;
    /// The words of a tile's columns at one step, or the sums of one of its rows.
    type Row: Copy + Send + AsRef<[Self::Word]>;
    /// A row of zeros.
    const ZERO: Self::Row;
    /// Columns of a tile.
    const COLUMNS: usize;
    /// Elements of the inner dimension in a word.
    const WORD: usize;

    /// Words of the left operand and of the right one that an element is cut into, each in a panel of its own.
    fn limbs(self) -> [usize; 2];

    /// The products of limbs that make up a product: one to [`TERMS`].
    fn terms(self) -> &'static [Term];

    /// Words number `limb` of at most `STEPS · WORD` elements of a row.
    fn pack_left(self, cpu: Cpu, row: &[u64], limb: usize, out: &mut [Self::Word; STEPS]);

    /// Words number `limb` of the given columns of b, which is not transposed.
    fn pack_rows<B: Cell>(self, cpu: Cpu, b: View<B>, columns: Range<usize>, limb: usize, out: &mut [Self::Row]);

    /// Words number `limb` of `cells`, which become column `c`.
    fn pack_column<B: Cell>(self, cpu: Cpu, cells: &[B], limb: usize, c: usize, out: &mut [Self::Row]);

    /// tile = left · right, for the panels of one limb each.
    fn multiply(self, cpu: Cpu, left: &Left<Self::Word>, right: &[Self::Row], tile: &mut [Self::Row; TILE_ROWS]);

    /// The memory that this thread's last product has left for the next.
    fn buffers() -> &'static LocalKey<cell::Cell<Buffers<Self>>>;
}

/// Memory for packed operands. A thread keeps it from product to product: fresh pages cost more than what is copied into
/// them. At most some MB, see [`ROW_BLOCK`].
pub struct Buffers<S: Scheme> {
    left: Vec<Left<S::Word>>,
    right: Vec<S::Row>,
}

impl<S: Scheme> Default for Buffers<S> {
    fn default() -> Buffers<S> {
        Buffers { left: Vec::new(), right: Vec::new() }
    }
}

/// out = a·b, or out += a·b if `add`, for a [m, k], b [k, n], none of them empty, on about `threads` threads.
#[allow(clippy::too_many_arguments)]
pub fn product<S: Scheme, O: Operand>(
    cpu: Cpu,
    scheme: S,
    a: &[u64],
    b: &O,
    [k, n]: [usize; 2],
    add: bool,
    out: &mut [u64],
    threads: usize,
) {
    // Not borrowed: while this thread waits for others, it may begin another product.
    let mut left = S::buffers().take().left;
    for (a, out) in a.chunks(ROW_BLOCK * k).zip(out.chunks_mut(ROW_BLOCK * n)) {
        for from in (0..k).step_by(DEPTH_BLOCK * STEPS * S::WORD) {
            let depth = from..k.min(from + DEPTH_BLOCK * STEPS * S::WORD);
            pack_left(cpu, scheme, a, k, depth.clone(), threads > 1, &mut left);
            block(cpu, scheme, &left, b, n, depth, add || from > 0, out, threads);
        }
    }
    S::buffers().set(Buffers { left, ..S::buffers().take() });
}

/// The part of a product that the given part of the inner dimension makes, of rows whose part is packed.
#[allow(clippy::too_many_arguments)]
fn block<S: Scheme, O: Operand>(
    cpu: Cpu,
    scheme: S,
    left: &[Left<S::Word>],
    b: &O,
    n: usize,
    depth: Range<usize>,
    add: bool,
    out: &mut [u64],
    threads: usize,
) {
    let tiles = (out.len() / n).div_ceil(TILE_ROWS);
    let [left_limbs, right_limbs] = scheme.limbs();
    // Threads take strips of panels, two or more each, so that one that is held up does not hold up all.
    let strip = (n.div_ceil(S::COLUMNS) / (2 * threads)).clamp(1, PANELS) * S::COLUMNS;
    super::strips(out, n, strip, threads > 1, |columns, rows| {
        let panels = columns.len().div_ceil(S::COLUMNS);
        let (mut buffers, mut scratch) = (S::buffers().take(), super::SCRATCH.take());
        let right = super::at_least(&mut buffers.right, panels * right_limbs * STEPS, S::ZERO);
        let mut sums = [[S::ZERO; TILE_ROWS]; TERMS];
        for (number, from) in depth.clone().step_by(STEPS * S::WORD).enumerate() {
            let to = depth.end.min(from + STEPS * S::WORD);
            let steps = (to - from).div_ceil(S::WORD);
            let view = b.view(from..to, columns.clone(), &mut scratch);
            for (i, panel) in right.chunks_exact_mut(steps).take(panels * right_limbs).enumerate() {
                let first = i / right_limbs * S::COLUMNS;
                let columns = first..columns.len().min(first + S::COLUMNS);
                pack_right(cpu, scheme, view, columns, i % right_limbs, panel);
            }
            // What is packed next: the rows below, or the first ones of the strip that this thread is likely to take.
            let [next_rows, next_columns] = match to < depth.end {
                true => [to..depth.end.min(to + STEPS * S::WORD), columns.clone()],
                false => {
                    [depth.start..depth.end.min(depth.start + STEPS * S::WORD), columns.end..n.min(columns.end + strip)]
                }
            };
            let left = &left[number * left_limbs * tiles..(number + 1) * left_limbs * tiles];
            for (p, right) in right.chunks_exact(steps * right_limbs).take(panels).enumerate() {
                for (t, rows) in rows.chunks_mut(TILE_ROWS).enumerate() {
                    b.prefetch(next_rows.clone(), next_columns.clone(), p * tiles + t, panels * tiles);
                    for (term, sums) in scheme.terms().iter().zip(&mut sums) {
                        let right = &right[term.right * steps..(term.right + 1) * steps];
                        scheme.multiply(cpu, &left[t * left_limbs + term.left], right, sums);
                    }
                    put::<S>(cpu, &sums, scheme.terms(), rows, p * S::COLUMNS, add || number > 0);
                }
            }
        }
        super::SCRATCH.set(scratch);
        S::buffers().set(Buffers { right: buffers.right, ..S::buffers().take() });
    });
}

multiversion! {
    /// Writes the weighted sums of a tile's terms to columns `from ..` of its rows, or adds them.
    fn put<S: Scheme>(
        sums: &[[S::Row; TILE_ROWS]; TERMS],
        terms: &[Term],
        rows: &mut [&mut [u64]],
        from: usize,
        add: bool,
    ) {
        for (r, row) in rows.iter_mut().enumerate() {
            let columns = S::COLUMNS.min(row.len() - from);
            let row = &mut row[from..from + columns];
            for (number, (sums, term)) in sums.iter().zip(terms).enumerate() {
                let (sums, add) = (sums[r].as_ref(), add || number > 0);
                // The same twice, once with a length that the compiler knows.
                if row.len() == S::COLUMNS {
                    put_row(&mut row[..S::COLUMNS], &sums[..S::COLUMNS], term.shift, add);
                } else {
                    put_row(row, sums, term.shift, add);
                }
            }
        }
    }
}

#[inline(always)]
fn put_row<W: Word>(row: &mut [u64], sums: &[W], shift: u32, add: bool) {
    if add {
        row.iter_mut().zip(sums).for_each(|(x, sum)| *x = x.wrapping_add(sum.widen() << shift));
    } else {
        row.iter_mut().zip(sums).for_each(|(x, sum)| *x = sum.widen() << shift);
    }
}

/// Words number `limb` of the given columns of b; columns beyond the last mean nothing.
fn pack_right<S: Scheme, B: Cell>(
    cpu: Cpu,
    scheme: S,
    b: View<B>,
    columns: Range<usize>,
    limb: usize,
    panel: &mut [S::Row],
) {
    if !b.transposed {
        return scheme.pack_rows(cpu, b, columns, limb, panel);
    }
    for (from, panel) in (0..).step_by(TURNED * S::WORD).zip(panel.chunks_mut(TURNED)) {
        for (c, column) in columns.clone().enumerate() {
            let cells = &b.column(column)[from..b.rows.min(from + TURNED * S::WORD)];
            scheme.pack_column(cpu, cells, limb, c, panel);
        }
    }
}

/// The panels of the given part of the left operand: by part of the inner dimension, by tile, by limb, so that a part of some rows
/// stays in the first-level cache until it is cut into all of its limbs.
fn pack_left<S: Scheme>(
    cpu: Cpu,
    scheme: S,
    a: &[u64],
    k: usize,
    depth: Range<usize>,
    parallel: bool,
    left: &mut Vec<Left<S::Word>>,
) {
    let (panel, [limbs, _]) = (STEPS * S::WORD, scheme.limbs());
    let tiles = (a.len() / k).div_ceil(TILE_ROWS);
    let count = depth.len().div_ceil(panel) * limbs * tiles;
    let left = super::at_least(left, count, Aligned([[S::Word::default(); STEPS]; TILE_ROWS]));
    let pack = |(i, out): (usize, &mut Left<S::Word>)| {
        let (limb, tile, from) = (i % limbs, i / limbs % tiles, depth.start + i / limbs / tiles * panel);
        let rows = a[tile * TILE_ROWS * k..].chunks_exact(k);
        for (row, out) in rows.zip(&mut out.0) {
            scheme.pack_left(cpu, &row[from..depth.end.min(from + panel)], limb, out);
        }
    };
    if parallel {
        left.par_iter_mut().enumerate().for_each(pack);
    } else {
        left.iter_mut().enumerate().for_each(pack);
    }
}
