//! Products in tiles whose accumulators stay in registers.
//!
//! Both operands are copied into the order in which a tile reads them: the left one once, the right one panel by panel,
//! a few panels of neighbouring columns at a time, so that memory is read in long runs; they stay in the second-level
//! cache and are used by all rows at once. The arrangement is that of Goto and van de Geijn, "Anatomy of
//! high-performance matrix multiplication", ACM TOMS 34(3), 2008. What a tile multiplies is a [`Scheme`].

use super::{Cell, Operand, View};
use crate::cpu::Cpu;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a tile.
pub const TILE_ROWS: usize = 8;

/// Words of the inner dimension in a panel: one of the left operand has 12 or 6 KiB, one of the right 36 KiB.
pub const STEPS: usize = 192;

/// Most panels that are copied at once.
const PANELS: usize = 4;

/// Rows of the left operand that are packed at once, and panels of each: some MB.
const ROW_BLOCK: usize = 1024;
const DEPTH_BLOCK: usize = 8;

/// On the border of a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Aligned<T>(pub T);

/// A panel of the left operand, row by row; what lies beyond its end is zero.
pub type Left<W> = Aligned<[[W; STEPS]; TILE_ROWS]>;

/// How elements are cut into words, and words multiplied. A word holds one element of the inner dimension or several.
pub trait Scheme: Copy + Send + Sync {
    /// A word of either operand.
    type Word: Copy + Default + Send + Sync;
    /// The words of a tile's columns at one step.
    type Row: Copy + Send;
    /// A row of zeros.
    const ZERO: Self::Row;
    /// Columns of a tile.
    const COLUMNS: usize;
    /// Elements of the inner dimension in a word.
    const WORD: usize;

    /// Words of the left operand and of the right one that an element is cut into, each in a panel of its own.
    fn limbs(self) -> [usize; 2];

    /// Words number `limb` of at most `STEPS · WORD` elements of a row.
    fn pack_left(self, cpu: Cpu, row: &[u64], limb: usize, out: &mut [Self::Word; STEPS]);

    /// Words number `limb` of the given columns of b; columns beyond the last are zero.
    fn pack_right<B: Cell>(self, cpu: Cpu, b: View<B>, columns: Range<usize>, limb: usize, out: &mut [Self::Row]);

    /// Adds the product of a tile to columns `from ..` of its rows. `left` and `right` give the panel of a limb.
    fn add<'p>(
        self,
        cpu: Cpu,
        left: impl Fn(usize) -> &'p Left<Self::Word>,
        right: impl Fn(usize) -> &'p [Self::Row],
        rows: &mut [&mut [u64]],
        from: usize,
    ) where
        Self: 'p;
}

/// out += a·b for a [m, k], b [k, n], none of them empty, on about `threads` threads.
pub fn product<S: Scheme, O: Operand>(
    cpu: Cpu,
    scheme: S,
    a: &[u64],
    b: &O,
    [k, n]: [usize; 2],
    out: &mut [u64],
    threads: usize,
) -> Result<(), O::Error> {
    for (a, out) in a.chunks(ROW_BLOCK * k).zip(out.chunks_mut(ROW_BLOCK * n)) {
        for from in (0..k).step_by(DEPTH_BLOCK * STEPS * S::WORD) {
            let depth = from..k.min(from + DEPTH_BLOCK * STEPS * S::WORD);
            block(cpu, scheme, a, b, [k, n], depth, out, threads)?;
        }
    }
    Ok(())
}

/// The part of a product that the given part of the inner dimension makes.
#[allow(clippy::too_many_arguments)]
fn block<S: Scheme, O: Operand>(
    cpu: Cpu,
    scheme: S,
    a: &[u64],
    b: &O,
    [k, n]: [usize; 2],
    depth: Range<usize>,
    out: &mut [u64],
    threads: usize,
) -> Result<(), O::Error> {
    let m = a.len() / k;
    let tiles = m.div_ceil(TILE_ROWS);
    let left = pack_left(cpu, scheme, a, k, depth.clone(), threads > 1);
    let [left_limbs, right_limbs] = scheme.limbs();
    // Threads take strips of panels, two or more each, so that one that is held up does not hold up all.
    let strip = (n.div_ceil(S::COLUMNS) / (2 * threads)).clamp(1, PANELS) * S::COLUMNS;
    let mut strips: Vec<Vec<&mut [u64]>> = (0..n.div_ceil(strip)).map(|_| Vec::with_capacity(m)).collect();
    for row in out.chunks_mut(n) {
        strips.iter_mut().zip(row.chunks_mut(strip)).for_each(|(s, part)| s.push(part));
    }
    let run = |(s, rows): (usize, &mut Vec<&mut [u64]>)| {
        let columns = rows[0].len();
        let panels = columns.div_ceil(S::COLUMNS);
        let mut right = vec![S::ZERO; panels * right_limbs * STEPS.min(depth.len().div_ceil(S::WORD))];
        let mut scratch = Vec::new();
        for (number, from) in depth.clone().step_by(STEPS * S::WORD).enumerate() {
            let to = depth.end.min(from + STEPS * S::WORD);
            let steps = (to - from).div_ceil(S::WORD);
            let view = b.view(from..to, s * strip..s * strip + columns, &mut scratch)?;
            for (i, panel) in right.chunks_exact_mut(steps).take(panels * right_limbs).enumerate() {
                let first = i / right_limbs * S::COLUMNS;
                scheme.pack_right(cpu, view, first..columns.min(first + S::COLUMNS), i % right_limbs, panel);
            }
            let left = &left[number * left_limbs * tiles..(number + 1) * left_limbs * tiles];
            for (p, right) in right.chunks_exact(steps * right_limbs).take(panels).enumerate() {
                for (t, rows) in rows.chunks_mut(TILE_ROWS).enumerate() {
                    let right = |limb: usize| &right[limb * steps..(limb + 1) * steps];
                    scheme.add(cpu, |limb| &left[limb * tiles + t], right, rows, p * S::COLUMNS);
                }
            }
        }
        Ok(())
    };
    if threads == 1 {
        strips.iter_mut().enumerate().try_for_each(run)
    } else {
        strips.par_iter_mut().enumerate().try_for_each(run)
    }
}

/// The panels of the given part of the left operand: by part of the inner dimension, by limb, by tile.
fn pack_left<S: Scheme>(
    cpu: Cpu,
    scheme: S,
    a: &[u64],
    k: usize,
    depth: Range<usize>,
    parallel: bool,
) -> Vec<Left<S::Word>> {
    let (panel, [limbs, _]) = (STEPS * S::WORD, scheme.limbs());
    let tiles = (a.len() / k).div_ceil(TILE_ROWS);
    let count = depth.len().div_ceil(panel) * limbs * tiles;
    let mut left = vec![Aligned([[S::Word::default(); STEPS]; TILE_ROWS]); count];
    let pack = |(i, out): (usize, &mut Left<S::Word>)| {
        let (tile, limb, from) = (i % tiles, i / tiles % limbs, depth.start + i / tiles / limbs * panel);
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
    left
}
