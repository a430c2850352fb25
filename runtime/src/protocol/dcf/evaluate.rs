//! A party's side: shares of beta·1{y < alpha} at public points.
//!
//! The cipher takes many blocks at once, so nodes of equal depth stand side by side in *lanes*. Which nodes those are
//! depends on the number of points, see [`Way`]. Results go to their reader by blocks that fit the cache.

use super::payload::{Components, Shape};
use super::{CHILD, Key, LEAF, Nodes, signed, signs};
use crate::cpu::{Cpu, multiversion};
use crate::ring::{mask, unpack_range};
use ir::Party;
use ir::dcf::{Layout, MAX_COMPONENTS};
use rayon::prelude::*;
use std::ops::Range;

/// Which nodes are evaluated side by side.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    /// Whole trees, `[leaf][element]`: where there are many points for each leaf.
    Whole,
    /// One node a point, `[point][element]`: where there are few points.
    Across,
    /// The nodes above the points of one element. Neighbours share what their paths have in common.
    Along,
}

/// Whole trees are taken where they have at most this many leaves for each point.
const LEAVES_PER_POINT: usize = 2;

/// From this many points on they fill the lanes by themselves.
const POINTS_ALONG: usize = 12;

impl Way {
    fn of(layout: Layout, per_element: usize) -> Way {
        if 1 << layout.levels.min(60) <= LEAVES_PER_POINT * per_element {
            Way::Whole
        } else if per_element < POINTS_ALONG {
            Way::Across
        } else {
            Way::Along
        }
    }

    /// Elements that are evaluated together: their state fits in the second-level cache. Whole vectors, if possible.
    fn block(self, layout: Layout, per_element: usize) -> usize {
        let state = if self == Way::Whole { per_element.max(1 << layout.levels) } else { per_element };
        let size = (2048 / state.max(1)).clamp(1, 128);
        if size > 8 { size / 8 * 8 } else { size }
    }
}

/// Evaluates the keys of a range of elements at `per_element` points each and hands the shares to a reader.
///
/// `roots` has the party's root of each element of the range. `points(i, row)` fills in the points of the range's element
/// i, each below 2^input_bits. `read(i, shares, row)` gets the shares mod 2^width of beta·1{y < alpha} at these points, a
/// slice for each component (empty for those that there are not), and the element's part of `out`. It costs least if
/// the points of an element ascend or descend, cyclically: neighbours share what their paths have in common.
#[allow(clippy::too_many_arguments)]
pub fn evaluate<T: Send>(
    party: Party,
    key: &Key,
    elements: Range<usize>,
    roots: &[u128],
    per_element: usize,
    points: impl Fn(usize, &mut [u64]) + Sync,
    out: &mut [T],
    read: impl Fn(usize, [&[u64]; MAX_COMPONENTS], &mut [T]) + Sync,
) {
    let layout = key.layout;
    assert!(elements.start <= elements.end && elements.end <= key.elements, "elements of a key");
    assert!(roots.len() == elements.len(), "a root an element");
    if elements.is_empty() || per_element == 0 || out.is_empty() {
        return;
    }
    let row = out.len() / elements.len();
    assert!(row * elements.len() == out.len(), "as much output for each element");
    let way = Way::of(layout, per_element);
    let size = way.block(layout, per_element);
    let tasks = roots.par_chunks(size).zip(out.par_chunks_mut(size * row)).enumerate();
    tasks.for_each_init(Scratch::default, |scratch, (number, (roots, out))| {
        let first = number * size;
        scratch.load(key, elements.start + first, roots.len());
        scratch.points.resize(roots.len() * per_element, 0);
        for (i, row) in scratch.points.chunks_exact_mut(per_element).enumerate() {
            points(first + i, row);
            assert!(row.iter().all(|y| y & !mask(layout.input_bits) == 0), "points have {} bits", layout.input_bits);
        }
        scratch.out[..layout.components()].iter_mut().for_each(|o| o.resize(roots.len() * per_element, 0));
        match way {
            Way::Whole => scratch.whole(party, layout, roots, per_element),
            Way::Across => scratch.across(party, layout, roots, per_element),
            Way::Along => scratch.along(party, layout, roots, per_element),
        }
        for (i, out) in out.chunks_exact_mut(row).enumerate() {
            let range = i * per_element..(i + 1) * per_element;
            let shares = std::array::from_fn(|c| scratch.out[c].get(range.clone()).unwrap_or_default());
            read(first + i, shares, out);
        }
    });
}

/// A correction word in each lane: its own, or one that all share.
trait Word: Copy {
    /// Without what exceeds `n` lanes.
    fn lanes(self, n: usize) -> Self;
    fn at(self, i: usize) -> u64;
}

impl Word for u64 {
    #[inline(always)]
    fn lanes(self, _: usize) -> u64 {
        self
    }

    #[inline(always)]
    fn at(self, _: usize) -> u64 {
        self
    }
}

impl Word for &[u64] {
    #[inline(always)]
    fn lanes(self, n: usize) -> Self {
        &self[..n]
    }

    #[inline(always)]
    fn at(self, i: usize) -> u64 {
        self[i]
    }
}

/// The correction words of a level. The seed's low half holds the control bit, by side, in its lowest bit.
#[derive(Clone, Copy)]
struct LevelWords<W> {
    low: [W; 2],
    high: W,
    payloads: [W; MAX_COMPONENTS],
}

multiversion! {
    /// The side that each point takes, as a mask (all ones for right), and its input for the hash of that child.
    fn choose_sides(points: &[u64], shift: u32, seeds: &[u64], sides: &mut [u64], inputs: &mut [u64]) {
        let n = points.len();
        let (seeds, sides, inputs) = (&seeds[..n], &mut sides[..n], &mut inputs[..n]);
        for i in 0..n {
            let side = points[i] >> shift & 1;
            sides[i] = side.wrapping_neg();
            inputs[i] = seeds[i] | side;
        }
    }
}

multiversion! {
    /// Turns the hashes of the children that `sides` choose into nodes: corrects them where the parent's control bit is
    /// set and splits their control bit off. `control` is the parents' before and the children's after.
    fn correct<W: Word>(
        sides: &[u64], left: W, right: W, high_word: W, low: &mut [u64], high: &mut [u64], control: &mut [u64],
    ) {
        let n = sides.len();
        let (left, right, high_word) = (left.lanes(n), right.lanes(n), high_word.lanes(n));
        let (low, high, control) = (&mut low[..n], &mut high[..n], &mut control[..n]);
        for i in 0..n {
            let word = left.at(i) ^ ((left.at(i) ^ right.at(i)) & sides[i]);
            let x = low[i] ^ (word & control[i]);
            high[i] ^= high_word.at(i) & control[i];
            low[i] = x & !1;
            control[i] = (x & 1).wrapping_neg();
        }
    }
}

multiversion! {
    /// Adds payloads and, where the parent's control bit is set, the word.
    fn add_payloads<W: Word>(control: &[u64], payloads: &[u64], word: W, sums: &mut [u64]) {
        let n = control.len();
        let (payloads, word, sums) = (&payloads[..n], word.lanes(n), &mut sums[..n]);
        for i in 0..n {
            sums[i] = sums[i].wrapping_add(payloads[i]).wrapping_add(word.at(i) & control[i]);
        }
    }
}

multiversion! {
    /// The children on one side, of which all lanes go that way: see [`correct`] and [`add_payloads`].
    fn correct_side(
        parent: &[u64], word_low: &[u64], word_high: &[u64], low: &mut [u64], high: &mut [u64], control: &mut [u64],
    ) {
        let n = parent.len();
        let (word_low, word_high) = (&word_low[..n], &word_high[..n]);
        let (low, high, control) = (&mut low[..n], &mut high[..n], &mut control[..n]);
        for i in 0..n {
            let x = low[i] ^ (word_low[i] & parent[i]);
            high[i] ^= word_high[i] & parent[i];
            low[i] = x & !1;
            control[i] = (x & 1).wrapping_neg();
        }
    }
}

/// Nodes that take the same step, and buffers for it.
#[derive(Default)]
struct Lanes {
    nodes: Nodes,
    /// Payloads on the way so far.
    sums: Components,
    sides: Vec<u64>,
    inputs: Vec<u64>,
    /// Hashes: child seeds, payloads.
    low: Vec<u64>,
    high: Vec<u64>,
    payloads: Components,
    buffer: Vec<u64>,
}

impl Lanes {
    /// One node an element: the roots.
    fn start(&mut self, party: Party, components: usize, roots: &[u128]) {
        self.nodes.set_roots(party, roots);
        for sums in &mut self.sums[..components] {
            sums.clear();
            sums.resize(roots.len(), 0);
        }
    }

    /// Every lane steps to the child that bit `shift` of its point chooses.
    fn step<W: Word>(&mut self, shape: Shape, points: &[u64], shift: u32, words: &LevelWords<W>) {
        let (cpu, n) = (Cpu::get(), points.len());
        for x in [&mut self.sides, &mut self.inputs, &mut self.low, &mut self.high] {
            x.resize(n, 0);
        }
        let Nodes { low, high, control } = &mut self.nodes;
        choose_sides(cpu, points, shift, low, &mut self.sides, &mut self.inputs);
        CHILD.hash(&self.inputs, high, 0, &mut self.low, &mut self.high);
        shape.on_the_way(low, &self.inputs, high, &self.sides, &mut self.payloads, &mut self.buffer);
        for c in 0..shape.components() {
            add_payloads(cpu, control, &self.payloads[c], words.payloads[c], &mut self.sums[c]);
        }
        let (left, right) = (words.low[0], words.low[1]);
        correct(cpu, &self.sides, left, right, words.high, &mut self.low, &mut self.high, control);
        std::mem::swap(low, &mut self.low);
        std::mem::swap(high, &mut self.high);
    }
}

/// Correction words of a block of elements, unpacked.
#[derive(Default)]
struct Words {
    /// Halves of the seeds, `[element][level]`, the low one without its lowest bit.
    low: Vec<u64>,
    high: Vec<u64>,
    controls: Vec<u64>,
    payloads: Components,
    /// `[element][payload of the leaf]`.
    last: Components,
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    /// Elements in this block, and their words.
    count: usize,
    words: Words,
    /// Words of one level by element.
    level_low: [Vec<u64>; 2],
    level_high: Vec<u64>,
    level_payloads: Components,
    /// `[element][point]`.
    points: Vec<u64>,
    out: Components,
    lanes: Lanes,
    /// For [`Way::Across`]: the lanes of each point of an element, and the points in them.
    across: Vec<(Lanes, Vec<u64>)>,
    /// Children and their sums, for [`Way::Whole`], and payloads by side.
    children: Nodes,
    child_sums: Components,
    child_payloads: [Components; 2],
    paths: Paths,
    /// The node of each point that is about to be finished.
    of_point: Vec<u32>,
    /// Inputs and hashes of leaves.
    leaf: [Vec<u64>; 4],
}

/// `out` = `items`.
fn refill<T>(out: &mut Vec<T>, items: impl Iterator<Item = T>) {
    out.clear();
    out.extend(items);
}

impl Scratch {
    /// Unpacks the words of `count` elements.
    fn load(&mut self, key: &Key, first: usize, count: usize) {
        let layout = key.layout;
        let (levels, leaf) = (usize::from(layout.levels), layout.leaf_size());
        let words = &mut self.words;
        self.count = count;
        let (seeds, _) = key.seeds[16 * first * levels..16 * (first + count) * levels].as_chunks::<16>();
        refill(&mut words.low, seeds.iter().map(|s| u128::from_le_bytes(*s) as u64 & !1));
        refill(&mut words.high, seeds.iter().map(|s| (u128::from_le_bytes(*s) >> 64) as u64));
        words.controls.resize(count * levels, 0);
        unpack_range(key.controls, 2, first * levels, &mut words.controls);
        for (c, &width) in layout.widths().iter().enumerate() {
            words.payloads[c].resize(count * levels, 0);
            unpack_range(key.payloads[c], width, first * levels, &mut words.payloads[c]);
            words.last[c].resize(count * leaf, 0);
            unpack_range(key.last[c], width, first * leaf, &mut words.last[c]);
        }
    }

    /// The words of a level, for each element.
    fn load_level(&mut self, layout: Layout, level: usize) {
        let (levels, words) = (usize::from(layout.levels), &self.words);
        fn column(x: &[u64], level: usize, levels: usize) -> impl Iterator<Item = u64> {
            x.iter().skip(level).step_by(levels).copied()
        }
        for (side, out) in self.level_low.iter_mut().enumerate() {
            let controls = column(&words.controls, level, levels).map(|control| control >> side & 1);
            refill(out, column(&words.low, level, levels).zip(controls).map(|(low, control)| low | control));
        }
        refill(&mut self.level_high, column(&words.high, level, levels));
        for c in 0..layout.components() {
            refill(&mut self.level_payloads[c], column(&words.payloads[c], level, levels));
        }
    }

    /// Expands whole trees: the nodes become `[leaf][element]`, where bit i of a leaf's number is the side that its path
    /// takes at level i.
    fn whole(&mut self, party: Party, layout: Layout, roots: &[u128], per_element: usize) {
        let (cpu, count, shape) = (Cpu::get(), self.count, Shape::new(layout));
        self.lanes.start(party, shape.components(), roots);
        for level in 0..usize::from(layout.levels) {
            self.load_level(layout, level);
            let (parents, children) = (&self.lanes.nodes, &mut self.children);
            let total = parents.len();
            children.resize(2 * total);
            shape.of_both(&parents.low, &parents.high, &mut self.child_payloads);
            for side in 0..2 {
                let range = side * total..(side + 1) * total;
                let (low, high) = (&mut children.low[range.clone()], &mut children.high[range.clone()]);
                CHILD.hash(&parents.low, &parents.high, side as u64, low, high);
                let control = children.control[range].chunks_exact_mut(count);
                let nodes = low.chunks_exact_mut(count).zip(high.chunks_exact_mut(count)).zip(control);
                for (parent, ((low, high), control)) in parents.control.chunks_exact(count).zip(nodes) {
                    correct_side(cpu, parent, &self.level_low[side], &self.level_high, low, high, control);
                }
            }
            for c in 0..shape.components() {
                let (sums, words, out) = (&self.lanes.sums[c], &self.level_payloads[c][..], &mut self.child_sums[c]);
                out.resize(2 * total, 0);
                for (side, out) in out.chunks_exact_mut(total).enumerate() {
                    out.copy_from_slice(sums);
                    let nodes = parents.control.chunks_exact(count);
                    let nodes = nodes.zip(self.child_payloads[side][c].chunks_exact(count));
                    for (out, (parent, payloads)) in out.chunks_exact_mut(count).zip(nodes) {
                        add_payloads(cpu, parent, payloads, words, out);
                    }
                }
            }
            std::mem::swap(&mut self.lanes.nodes, &mut self.children);
            std::mem::swap(&mut self.lanes.sums, &mut self.child_sums);
        }
        let number = |leaf: u64| leaf.reverse_bits().checked_shr(64 - u32::from(layout.levels)).unwrap_or(0);
        refill(&mut self.paths.numbers, (0..1 << layout.levels).map(|leaf| number(leaf) as u32 * count as u32));
        refill(&mut self.of_point, std::iter::empty());
        for (e, points) in (0u32..).zip(self.points.chunks_exact(per_element)) {
            self.of_point.extend(points.iter().map(|y| self.paths.numbers[(y >> layout.leaf_log2) as usize] + e));
        }
        self.finish(party, layout, 0..count, 0..per_element, per_element);
    }

    /// Follows each point's path by itself.
    fn across(&mut self, party: Party, layout: Layout, roots: &[u128], per_element: usize) {
        let (count, shape) = (self.count, Shape::new(layout));
        self.across.resize_with(per_element, Default::default);
        for (point, (lanes, points)) in self.across.iter_mut().enumerate() {
            lanes.start(party, shape.components(), roots);
            refill(points, self.points.iter().skip(point).step_by(per_element).copied());
        }
        for level in 0..usize::from(layout.levels) {
            self.load_level(layout, level);
            let [p0, p1, p2] = self.level_payloads.each_ref().map(|p| &p[..]);
            let low = self.level_low.each_ref().map(|x| &x[..]);
            let words = LevelWords { low, high: &self.level_high[..], payloads: [p0, p1, p2] };
            for (lanes, points) in &mut self.across {
                lanes.step(shape, points, u32::from(layout.input_bits) - 1 - level as u32, &words);
            }
        }
        for point in 0..per_element {
            std::mem::swap(&mut self.lanes, &mut self.across[point].0);
            refill(&mut self.of_point, 0..count as u32);
            self.finish(party, layout, 0..count, point..point + 1, per_element);
        }
    }

    /// Follows the paths of one element's points, and of the next.
    fn along(&mut self, party: Party, layout: Layout, roots: &[u128], per_element: usize) {
        let (levels, shape) = (usize::from(layout.levels), Shape::new(layout));
        for (e, root) in roots.iter().enumerate() {
            self.lanes.start(party, shape.components(), std::slice::from_ref(root));
            let points = &self.points[e * per_element..(e + 1) * per_element];
            self.paths.sort(layout, points);
            for level in 0..=levels {
                self.paths.branch(level, &mut self.lanes, shape.components());
                if level == levels {
                    break;
                }
                let (at, words) = (e * levels + level, &self.words);
                let low = [0, 1].map(|side| words.low[at] | (words.controls[at] >> side & 1));
                let payloads = std::array::from_fn(|c| words.payloads[c].get(at).copied().unwrap_or_default());
                let words = LevelWords { low, high: words.high[at], payloads };
                let points = &self.paths.points[..self.lanes.nodes.len()];
                self.lanes.step(shape, points, u32::from(layout.input_bits) - 1 - level as u32, &words);
            }
            refill(&mut self.of_point, self.paths.numbers.iter().copied());
            self.finish(party, layout, e..e + 1, 0..per_element, per_element);
        }
    }

    /// Adds the leaves' payloads and writes the shares of some points of some elements, whose nodes `of_point` gives.
    fn finish(
        &mut self,
        party: Party,
        layout: Layout,
        elements: Range<usize>,
        points: Range<usize>,
        per_element: usize,
    ) {
        let (shape, size, parts) = (Shape::new(layout), layout.leaf_size(), Shape::new(layout).parts());
        let (inside, sign) = (mask(layout.leaf_log2), signs(party));
        let (nodes, total) = (&self.lanes.nodes, self.of_point.len());
        let row = |e: usize| e * per_element + points.start..e * per_element + points.end;
        let [input_low, input_high, low, high] = &mut self.leaf;
        for x in [&mut *input_low, &mut *input_high, &mut *low, &mut *high] {
            x.resize(total * parts, 0);
        }
        let inputs = input_low.chunks_exact_mut(parts).zip(input_high.chunks_exact_mut(parts));
        let all_points = elements.clone().flat_map(|e| &self.points[row(e)]);
        for ((low, high), (&lane, y)) in inputs.zip(self.of_point.iter().zip(all_points)) {
            let block = shape.block(y & inside);
            for (part, low) in (block..).zip(low) {
                *low = nodes.low[lane as usize] ^ part;
            }
            high.fill(nodes.high[lane as usize]);
        }
        LEAF.hash(input_low, input_high, 0, low, high);
        for (c, &width) in layout.widths().iter().enumerate() {
            let (sums, control) = (&self.lanes.sums[c][..nodes.len()], &nodes.control[..]);
            let lanes = self.of_point.chunks_exact(points.len());
            let hashes = low.chunks_exact(points.len() * parts).zip(high.chunks_exact(points.len() * parts));
            for (e, (lanes, (low, high))) in elements.clone().zip(lanes.zip(hashes)) {
                let last = &self.words.last[c][e * size..(e + 1) * size];
                let hashes = low.chunks_exact(parts).zip(high.chunks_exact(parts));
                let ends = self.points[row(e)].iter().zip(lanes).zip(hashes);
                for (out, ((y, &lane), (low, high))) in self.out[c][row(e)].iter_mut().zip(ends) {
                    let (index, lane) = (y & inside, lane as usize);
                    let correction = last[index as usize] & control[lane];
                    let payload = shape.of_leaf(c, index, low, high);
                    *out = signed(sign, payload.wrapping_add(correction).wrapping_add(sums[lane])) & mask(width);
                }
            }
        }
    }
}

/// How the paths of one element's points branch. A run of neighbouring points that agree in the bits so far has one node.
/// A point that differs from the point before it from some level on gets a node of its own there, a copy of the run's.
/// Nodes are numbered in the order in which they appear.
#[derive(Default)]
struct Paths {
    /// For each point, its node.
    numbers: Vec<u32>,
    /// For each node, its point, and the node that it is a copy of.
    points: Vec<u64>,
    parents: Vec<u32>,
    /// For each level, and beyond the last one, the nodes there are.
    ends: Vec<u32>,
    /// For each point the level at which it appears, from 1; the first has 0.
    levels: Vec<u8>,
    /// Points that the next one may branch from, by ascending level.
    stack: Vec<u32>,
}

impl Paths {
    fn sort(&mut self, layout: Layout, points: &[u64]) {
        let levels = usize::from(layout.levels);
        let level_of = |pair: &[u64]| {
            let difference = (pair[0] ^ pair[1]) >> layout.leaf_log2;
            (levels + 1 - (64 - difference.leading_zeros() as usize)) as u8
        };
        refill(&mut self.levels, std::iter::once(0).chain(points.windows(2).map(level_of)));
        // Counted, `ends[level]` begins as the first number of the level.
        let mut counts = [0u32; 66];
        self.levels.iter().for_each(|&level| counts[usize::from(level)] += 1);
        self.ends.clear();
        let mut before = 0;
        for count in &counts[..levels + 2] {
            self.ends.push(before);
            before += count;
        }
        self.numbers.resize(points.len(), 0);
        self.points.resize(points.len(), 0);
        self.parents.resize(points.len(), 0);
        self.stack.clear();
        for (p, (&level, &y)) in self.levels.iter().zip(points).enumerate() {
            let end = &mut self.ends[usize::from(level)];
            let number = *end;
            *end += 1;
            // The run that it leaves begins with the last point of a lower level.
            while self.stack.last().is_some_and(|&q| self.levels[q as usize] >= level) {
                self.stack.pop();
            }
            let parent = self.stack.last().map_or(0, |&q| self.numbers[q as usize]);
            (self.numbers[p], self.points[number as usize]) = (number, y);
            self.parents[number as usize] = parent;
            self.stack.push(p as u32);
        }
    }

    /// Appends the nodes that appear at a level.
    fn branch(&self, level: usize, lanes: &mut Lanes, components: usize) {
        let Nodes { low, high, control } = &mut lanes.nodes;
        let columns = [low, high, control].into_iter().chain(&mut lanes.sums[..components]);
        for x in columns {
            let new = &self.parents[x.len()..self.ends[level + 1] as usize];
            new.iter().for_each(|&parent| x.push(x[parent as usize]));
        }
    }
}
