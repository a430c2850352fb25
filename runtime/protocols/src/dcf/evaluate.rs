//! A party's side: shares of beta·1{y < alpha} at public points.
//!
//! The cipher takes many blocks at once, so nodes of equal depth stand side by side in *lanes*. Which nodes those are
//! depends on the number of points, see [`Way`]. Results go to their reader by blocks that fit the cache.

use super::Key;
use super::lanes::{self, GROUP, Hashes, Item, Items, Lanes, Line, Run, VECTOR, Vectors, Words};
use super::paths::Paths;
use super::payload::{Components, Shape};
#[cfg(target_arch = "x86_64")]
use super::whole::{self, Trees};
#[cfg(target_arch = "x86_64")]
pub use super::wide::Keys;
use ir::Party;
use ir::dcf::{Layout, MAX_COMPONENTS, STEP_WORDS};
use kernels::ring::{mask, unpack_range};
use rayon::prelude::*;
use std::ops::Range;

/// Where there are no wide kernels there are no keys for them.
#[cfg(not(target_arch = "x86_64"))]
pub enum Keys {}

/// For the wide kernels, where they can be used.
pub fn wide_keys() -> Option<Keys> {
    #[cfg(target_arch = "x86_64")]
    return Keys::get();
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// Which nodes are evaluated side by side.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    /// One node a point, `[point][element]`: where there are few points.
    Across,
    /// The nodes above the points of one element, in vectors of its own. Neighbours share what their paths have in common.
    Along,
    /// Whole trees, which only the wide kernels take: where there are many points for each leaf.
    #[cfg(target_arch = "x86_64")]
    Whole,
}

/// Whole trees are taken where they have at most this many leaves for each point.
#[cfg(target_arch = "x86_64")]
const LEAVES_PER_POINT: usize = 2;

/// No larger trees are taken as a whole: their tables would not fit the cache.
#[cfg(target_arch = "x86_64")]
const WHOLE_LEVELS: u8 = 7;

/// From this many points on they fill vectors by themselves.
const POINTS_ALONG: usize = 8;

/// From this many nodes on an element takes its steps by itself, so that its nodes stay in the first-level cache.
const NODES_ALONE: usize = 32;

impl Way {
    fn of(wide: Option<&Keys>, layout: Layout, per_element: usize) -> Way {
        #[cfg(target_arch = "x86_64")]
        if wide.is_some()
            && layout.components() == 1
            && layout.levels <= WHOLE_LEVELS
            && 1 << layout.levels <= LEAVES_PER_POINT * per_element
        {
            return Way::Whole;
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (wide, layout);
        if per_element < POINTS_ALONG { Way::Across } else { Way::Along }
    }

    /// Elements that are evaluated together: their state fits in the second-level cache, and fills whole vectors.
    fn block(self, per_element: usize) -> usize {
        match self {
            Way::Across => 64,
            Way::Along => (1024 / per_element).clamp(4, 32),
            #[cfg(target_arch = "x86_64")]
            Way::Whole => 64,
        }
    }
}

/// Evaluates the keys of a range of elements at `per_element` points each and hands the shares to a reader.
///
/// `wide` has the keys of the wide kernels, or the portable ones are taken: see [`wide_keys`].
/// `roots` has the party's root of each element of the range. `points(i, row)` fills in the points of the range's element
/// i, each below 2^input_bits. `read(i, shares, row)` gets the shares mod 2^width of beta·1{y < alpha} at these points, a
/// slice for each component (empty for those that there are not), and the element's part of `out`. It costs least if
/// the points of an element ascend or descend, cyclically: neighbours share what their paths have in common.
#[allow(clippy::too_many_arguments)]
pub fn evaluate<T: Send>(
    wide: Option<&Keys>,
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
    let way = Way::of(wide, layout, per_element);
    let size = way.block(per_element);
    let tasks = roots.par_chunks(size).zip(out.par_chunks_mut(size * row)).enumerate();
    tasks.for_each_init(Scratch::default, |scratch, (number, (roots, out))| {
        let first = number * size;
        scratch.points.resize(roots.len() * per_element, 0);
        for (i, row) in scratch.points.chunks_exact_mut(per_element).enumerate() {
            points(first + i, row);
            assert!(row.iter().all(|y| y & !mask(layout.input_bits) == 0), "points have {} bits", layout.input_bits);
        }
        scratch.out[..layout.components()].iter_mut().for_each(|o| o.resize(roots.len() * per_element, 0));
        scratch.words.load(key, elements.start + first, roots.len());
        let block = Block { wide, party, layout, shape: Shape::new(layout), per_element };
        let words = scratch.words.view();
        let Scratch { points, out: shares, state, .. } = scratch;
        match way {
            Way::Across => block.across(&words, roots, points, shares, state),
            Way::Along => block.along(&words, roots, points, shares, state),
            #[cfg(target_arch = "x86_64")]
            Way::Whole => block.whole(&words, roots, points, shares, state),
        }
        for (i, out) in out.chunks_exact_mut(row).enumerate() {
            let range = i * per_element..(i + 1) * per_element;
            read(first + i, std::array::from_fn(|c| shares[c].get(range.clone()).unwrap_or_default()), out);
        }
    });
}

fn sum(a: u64, b: u64, c: u64) -> u64 {
    a.wrapping_add(b).wrapping_add(c)
}

/// Correction words of a block of elements, unpacked and with those of last children: see [`Words`].
#[derive(Default)]
struct Unpacked {
    seeds: Vec<Line<u128>>,
    payloads: Vec<Line<[u64; 2]>>,
    third: Vec<Line<[u64; 2]>>,
    last: Components,
    /// Lowest bits of seed words, and words of payloads, `[element][step]` and `[element][step][3]`.
    controls: Vec<u64>,
    packed: Components,
    /// Words of seeds, copied first so that they come from memory in order, many at a time.
    copied: Vec<[[u8; 16]; STEP_WORDS]>,
}

impl Unpacked {
    fn load(&mut self, key: &Key, first: usize, count: usize) {
        let layout = key.layout;
        let (steps, leaf) = (layout.steps(), layout.leaf_size());
        self.controls.resize(count * steps, 0);
        unpack_range(key.controls, 1, first * steps, &mut self.controls);
        let (seeds, _) = key.seeds.as_chunks::<16>().0.as_chunks::<STEP_WORDS>();
        self.copied.clear();
        self.copied.extend_from_slice(&seeds[first * steps..][..count * steps]);
        refill(
            &mut self.seeds,
            self.copied.iter().zip(&self.controls).map(|(words, &control)| {
                let [a, b, c] = words.map(u128::from_le_bytes);
                Line([a, b, c, (a ^ b ^ c) & !1 | u128::from(control)])
            }),
        );
        for (component, &width) in layout.widths().iter().enumerate() {
            self.packed[component].resize(count * steps * STEP_WORDS, 0);
            unpack_range(key.payloads[component], width, first * steps * STEP_WORDS, &mut self.packed[component]);
            self.last[component].resize(count * leaf, 0);
            unpack_range(key.last[component], width, first * leaf, &mut self.last[component]);
        }
        let [first, second, third] = self.packed.each_ref().map(|packed| packed.as_chunks::<STEP_WORDS>().0);
        let second = if layout.components() == 1 { first } else { second };
        refill(
            &mut self.payloads,
            first
                .iter()
                .zip(second)
                .map(|(&[a, b, c], &[d, e, f])| Line([[a, d], [b, e], [c, f], [sum(a, b, c), sum(d, e, f)]])),
        );
        refill(&mut self.third, third.iter().map(|&[a, b, c]| Line([[a, 0], [b, 0], [c, 0], [sum(a, b, c), 0]])));
    }

    fn view(&self) -> Words<'_> {
        Words {
            seeds: &self.seeds,
            payloads: &self.payloads,
            third: &self.third,
            last: self.last.each_ref().map(|x| &x[..]),
        }
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    words: Unpacked,
    /// `[element][point]`.
    points: Vec<u64>,
    out: Components,
    state: State,
}

/// The state of a block's evaluation.
#[derive(Default)]
struct State {
    lanes: Lanes,
    items: Vec<Item>,
    hashes: Hashes,
    paths: Vec<Paths>,
    /// Shares by lane.
    shares: Components,
    #[cfg(target_arch = "x86_64")]
    trees: Trees,
}

/// `out` = `items`.
pub fn refill<T>(out: &mut Vec<T>, items: impl Iterator<Item = T>) {
    out.clear();
    out.extend(items);
}

/// What the elements of a block have in common.
#[derive(Clone, Copy)]
struct Block<'a> {
    wide: Option<&'a Keys>,
    party: Party,
    layout: Layout,
    shape: Shape,
    per_element: usize,
}

impl Block<'_> {
    /// The items' lanes take a step.
    fn step(self, words: &Words, items: impl Items, step: usize, lanes: &mut Lanes, hashes: &mut Hashes) {
        let shift = u32::from(self.layout.input_bits) - 2 * (step as u32 + 1);
        match self.wide {
            #[cfg(target_arch = "x86_64")]
            Some(keys) => keys.step(self.shape, words, items, step, shift, lanes),
            _ => lanes::step(self.shape, words, items, step, shift, lanes, hashes),
        }
    }

    /// The shares of the items' lanes, by lane.
    fn finish(self, words: &Words, items: impl Items, lanes: &Lanes, hashes: &mut Hashes, shares: &mut Components) {
        shares[..self.shape.components()].iter_mut().for_each(|x| x.resize(lanes.seeds.len(), 0));
        match self.wide {
            #[cfg(target_arch = "x86_64")]
            Some(keys) => keys.finish(self.party, self.shape, words, items, lanes, shares),
            _ => lanes::finish(self.party, self.shape, words, items, lanes, hashes, shares),
        }
    }

    /// Follows each point's path by itself: lanes are `[point][element]`.
    fn across(self, words: &Words, roots: &[u128], points: &[u64], out: &mut Components, state: &mut State) {
        let (count, steps) = (roots.len(), self.layout.steps());
        let vectors = count.div_ceil(VECTOR);
        let row = vectors * VECTOR;
        let State { lanes, items, hashes, shares, .. } = state;
        lanes.resize(self.shape, self.per_element * row);
        for point in 0..self.per_element {
            for (e, &root) in roots.iter().enumerate() {
                lanes.set_root(self.party, point * row + e, root);
                lanes.points[point * row + e] = [points[e * self.per_element + point]; 2];
            }
        }
        let items_of = |stride: usize| {
            (0..(self.per_element * vectors) as u32).map(move |vector| {
                // What exceeds the elements takes the words of the last one.
                let first = vector as usize % vectors * VECTOR;
                Item { vector, at: std::array::from_fn(|i| ((first + i).min(count - 1) * stride) as u32) }
            })
        };
        refill(items, items_of(steps));
        for step in 0..steps {
            self.step(words, Vectors::<false>(items), step, lanes, hashes);
        }
        refill(items, items_of(self.layout.leaf_size()));
        self.finish(words, Vectors::<false>(items), lanes, hashes, shares);
        for (shares, out) in shares.iter().zip(out).take(self.shape.components()) {
            for (point, shares) in shares.chunks_exact(row).enumerate() {
                let places = out[point..].iter_mut().step_by(self.per_element);
                places.zip(shares).for_each(|(out, share)| *out = *share);
            }
        }
    }

    /// Follows the paths of each element's points, in vectors of its own.
    fn along(self, words: &Words, roots: &[u128], points: &[u64], out: &mut Components, state: &mut State) {
        let (count, steps) = (roots.len(), self.layout.steps());
        let row = self.per_element.next_multiple_of(GROUP);
        let State { lanes, items, hashes, paths, shares, .. } = state;
        lanes.resize(self.shape, count * row);
        paths.resize_with(count.max(paths.len()), Default::default);
        for (e, (&root, points)) in roots.iter().zip(points.chunks_exact(self.per_element)).enumerate() {
            lanes.set_root(self.party, e * row, root);
            paths[e].sort(self.layout, points, lanes, e * row);
        }
        // Lets nodes branch and says which vectors they have now, with words of so many an element.
        let branch = |e: usize, step: usize, stride: usize, lanes: &mut Lanes| {
            let nodes = paths[e].branch(step, lanes, e * row);
            Run { first: (e * row / VECTOR) as u32, count: nodes.div_ceil(VECTOR) as u32, at: (e * stride) as u32 }
        };
        let (mut together, mut least) = (0, 0);
        while together < steps && least < NODES_ALONE / VECTOR {
            items.clear();
            least = usize::MAX;
            for e in 0..count {
                let run = branch(e, together, steps, lanes);
                least = least.min(run.len());
                items.extend((0..run.len()).map(|i| run.get(i)));
            }
            self.step(words, Vectors::<true>(items), together, lanes, hashes);
            together += 1;
        }
        for (e, paths) in paths.iter().enumerate().take(count) {
            for step in together..steps {
                let run = branch(e, step, steps, lanes);
                self.step(words, run, step, lanes, hashes);
            }
            let run = branch(e, steps, self.layout.leaf_size(), lanes);
            self.finish(words, run, lanes, hashes, shares);
            for (shares, out) in shares.iter().zip(&mut *out).take(self.shape.components()) {
                let shares = &shares[e * row..][..row];
                let out = &mut out[e * self.per_element..][..self.per_element];
                out.iter_mut().zip(paths.numbers()).for_each(|(out, &number)| *out = shares[number as usize]);
            }
        }
    }

    /// Works out every leaf.
    #[cfg(target_arch = "x86_64")]
    fn whole(self, words: &Words, roots: &[u128], points: &[u64], out: &mut Components, state: &mut State) {
        let keys = self.wide.expect("whole trees are for the wide kernels");
        let row = whole::ELEMENTS * self.per_element;
        let groups = roots.chunks(whole::ELEMENTS).zip(points.chunks(row)).zip(out[0].chunks_mut(row));
        for (((roots, points), out), first) in groups.zip((0..).step_by(whole::ELEMENTS)) {
            keys.whole(self.party, self.layout, words, first, roots, points, out, &mut state.trees);
        }
    }
}
