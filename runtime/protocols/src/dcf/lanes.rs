//! Nodes of many comparison keys side by side, and the steps that they take: the portable kernels, which those of
//! [`super::wide`] are tested against.
//!
//! A node is its seed, whose lowest bit is its control bit, and what its payloads sum to so far. Lanes come in vectors of
//! four.

use super::payload::{Components, Kind, OWN_TWEAK, Shape, child_tweak, half_tweak, leaf_tweak, spare_bits_of};
use super::{CHILD, CHILDREN, LEAF, PAYLOAD, root_node, signed, signs};
use ir::Party;
use ir::dcf::MAX_COMPONENTS;
use kernels::ring::mask;
use std::ops::{Index, IndexMut};

/// Lanes of a vector.
pub const VECTOR: usize = 4;

/// Lanes of an element that has vectors of its own are a multiple of this: kernels may take steps with what is left over
/// too, of which nothing is read.
pub const GROUP: usize = 4 * VECTOR;

/// Four entries of 16 bytes, of lanes or children: a cache line, so that no vector lies in two.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub struct Line<T>(pub [T; 4]);

/// One entry of 16 bytes for each lane.
#[derive(Default)]
pub struct Column<T>(Vec<Line<T>>);

impl<T: Copy + Default> Column<T> {
    fn resize(&mut self, count: usize) {
        const { assert!(size_of::<T>() == 16) };
        self.0.resize(count.div_ceil(VECTOR), Line::default());
    }

    /// Number of lanes, a multiple of [`VECTOR`].
    pub fn len(&self) -> usize {
        VECTOR * self.0.len()
    }

    /// The first lane's entry, aligned to 64 bytes.
    #[cfg(target_arch = "x86_64")]
    pub fn as_ptr(&self) -> *const T {
        self.0.as_ptr().cast()
    }

    /// See [`Column::as_ptr`].
    #[cfg(target_arch = "x86_64")]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

impl<T> Index<usize> for Column<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, lane: usize) -> &T {
        &self.0[lane / VECTOR].0[lane % VECTOR]
    }
}

impl<T> IndexMut<usize> for Column<T> {
    #[inline(always)]
    fn index_mut(&mut self, lane: usize) -> &mut T {
        &mut self.0[lane / VECTOR].0[lane % VECTOR]
    }
}

/// Nodes by lane.
#[derive(Default)]
pub struct Lanes {
    /// Seeds with control bits.
    pub seeds: Column<u128>,
    /// Components 0 and 1.
    pub sums: Column<[u64; 2]>,
    /// Component 2. The wide kernels have two summands if it comes from spare bits, and shift the second one into its place
    /// at the leaf.
    pub third: Column<[u64; 2]>,
    /// The point that each node is on the way to, twice: in both halves of a block.
    pub points: Column<[u64; 2]>,
}

impl Lanes {
    /// As many lanes, whose content does not matter.
    pub fn resize(&mut self, shape: Shape, count: usize) {
        self.seeds.resize(count);
        self.sums.resize(count);
        self.third.resize(if shape.components() == 3 { count } else { 0 });
        self.points.resize(count);
    }

    /// Sets a lane to a party's root.
    pub fn set_root(&mut self, party: Party, lane: usize, root: u128) {
        self.seeds[lane] = root_node(party, root);
        self.sums[lane] = [0; 2];
        if self.third.len() > 0 {
            self.third[lane] = [0; 2];
        }
    }

    /// Makes `to` the node of lane `from`. Its point stays.
    pub fn copy(&mut self, from: usize, to: usize) {
        self.seeds[to] = self.seeds[from];
        self.sums[to] = self.sums[from];
        if self.third.len() > 0 {
            self.third[to] = self.third[from];
        }
    }
}

/// A vector of lanes that takes a step, and where the words of each are: `[element][step]` for a step, whose number is
/// still to be added, or `[element][payload of the leaf]`.
#[derive(Clone, Copy)]
pub struct Item {
    /// Its number.
    pub vector: u32,
    /// By lane.
    pub at: [u32; VECTOR],
}

/// Which words are the same.
#[derive(Clone, Copy, PartialEq)]
pub enum Alike {
    /// Those of all lanes.
    All,
    /// Those of each item's lanes.
    Item,
    /// None.
    None,
}

/// Vectors of lanes that take a step together.
pub trait Items: Copy {
    /// What can be relied on of the words of these items.
    const ALIKE: Alike;
    /// How many there are.
    fn len(self) -> usize;
    /// Number `i` of them. A run goes on.
    fn get(self, i: usize) -> Item;
}

/// Neighbouring vectors of one element.
#[derive(Clone, Copy)]
pub struct Run {
    /// The first one.
    pub first: u32,
    /// How many there are.
    pub count: u32,
    /// Where their words are.
    pub at: u32,
}

impl Items for Run {
    const ALIKE: Alike = Alike::All;

    #[inline(always)]
    fn len(self) -> usize {
        self.count as usize
    }

    #[inline(always)]
    fn get(self, i: usize) -> Item {
        Item { vector: self.first + i as u32, at: [self.at; VECTOR] }
    }
}

/// Any vectors, if `SHARED` each of one element.
#[derive(Clone, Copy)]
pub struct Vectors<'a, const SHARED: bool>(pub &'a [Item]);

impl<const SHARED: bool> Items for Vectors<'_, SHARED> {
    const ALIKE: Alike = if SHARED { Alike::Item } else { Alike::None };

    #[inline(always)]
    fn len(self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn get(self, i: usize) -> Item {
        self.0[i]
    }
}

/// Lanes of items, and where the words of each are.
fn lanes_of(items: impl Items) -> impl Iterator<Item = (usize, u32)> {
    let lanes = |item: Item| (VECTOR * item.vector as usize..).zip(item.at);
    (0..items.len()).flat_map(move |i| lanes(items.get(i)))
}

/// Correction words of a block of elements, those of a step by child: `[element][step][child]`.
pub struct Words<'a> {
    /// With the control bit lowest.
    pub seeds: &'a [Line<u128>],
    /// Of one component twice, or of components 0 and 1.
    pub payloads: &'a [Line<[u64; 2]>],
    /// Of component 2, then zero; none where there is no such component.
    pub third: &'a [Line<[u64; 2]>],
    /// `[element][payload of the leaf]`.
    pub last: [&'a [u64]; MAX_COMPONENTS],
}

/// Inputs and hashes.
#[derive(Default)]
pub struct Hashes {
    /// Low halves of seeds with tweaks, for the hashes below, and high halves.
    low: [Vec<u64>; 3],
    high: Vec<u64>,
    child: [Vec<u64>; 2],
    payload: [Vec<u64>; 2],
    third: [Vec<u64>; 2],
}

impl Hashes {
    /// Sets the inputs to the seeds of the items' lanes; the tweaks are of a lane's point.
    fn load(&mut self, items: impl Items, lanes: &Lanes, tweaks: impl Fn(u64) -> [u64; 3]) {
        self.low.iter_mut().chain([&mut self.high]).for_each(Vec::clear);
        for (lane, _) in lanes_of(items) {
            let seed = lanes.seeds[lane];
            for (low, tweak) in self.low.iter_mut().zip(tweaks(lanes.points[lane][0])) {
                low.push(seed as u64 ^ tweak);
            }
            self.high.push((seed >> 64) as u64);
        }
        for x in self.child.iter_mut().chain(&mut self.payload).chain(&mut self.third) {
            x.resize(self.high.len(), 0);
        }
    }
}

/// All ones where a seed's control bit is set.
fn control_of(seed: u128) -> u64 {
    (seed as u64 & 1).wrapping_neg()
}

/// Every lane of the items steps to the child that two bits of its point, from bit `shift` on, choose.
pub fn step(
    shape: Shape,
    words: &Words,
    items: impl Items,
    step: usize,
    shift: u32,
    lanes: &mut Lanes,
    hashes: &mut Hashes,
) {
    let child_of = |y: u64| y >> shift & (CHILDREN as u64 - 1);
    hashes.load(items, lanes, |y| {
        let child = child_of(y);
        let (whole, half) = (child_tweak(child), half_tweak(child));
        [whole, if shape.kind == Kind::One { half } else { whole }, OWN_TWEAK ^ half]
    });
    let Hashes { low, high, child, payload, third } = hashes;
    let [child_low, child_high] = child;
    CHILD.hash(&low[0], high, 0, child_low, child_high);
    let [first, second] = payload;
    PAYLOAD.hash(&low[1], high, 0, first, second);
    let [third_even, third_odd] = third;
    if shape.kind == Kind::Own {
        PAYLOAD.hash(&low[2], high, 0, third_even, third_odd);
    }
    for (i, (lane, at)) in lanes_of(items).enumerate() {
        let (at, child) = (at as usize + step, child_of(lanes.points[lane][0]) as usize);
        let control = control_of(lanes.seeds[lane]);
        let word = words.payloads[at].0[child];
        let values = match shape.kind {
            Kind::One => [[first[i], second[i]][child % 2]; 2],
            _ => [first[i], second[i]],
        };
        for (sum, (value, word)) in lanes.sums[lane].iter_mut().zip(values.into_iter().zip(word)) {
            *sum = sum.wrapping_add(value).wrapping_add(word & control);
        }
        let value = match shape.kind {
            Kind::One | Kind::Two => None,
            Kind::Spare => Some(spare_bits_of(first[i], second[i], shape.spare())),
            Kind::Own => Some([third_even[i], third_odd[i]][child % 2]),
        };
        if let Some(value) = value {
            let word = words.third[at].0[child][0] & control;
            lanes.third[lane][0] = lanes.third[lane][0].wrapping_add(value).wrapping_add(word);
        }
        let mask = u128::from(control) << 64 | u128::from(control);
        let hash = u128::from(child_high[i]) << 64 | u128::from(child_low[i]);
        lanes.seeds[lane] = hash ^ (words.seeds[at].0[child] & mask);
    }
}

/// The shares at the points of the items' lanes, whose nodes are leaves, by component and lane.
pub fn finish(
    party: Party,
    shape: Shape,
    words: &Words,
    items: impl Items,
    lanes: &Lanes,
    hashes: &mut Hashes,
    out: &mut Components,
) {
    let (inside, sign) = (shape.inside(), signs(party));
    hashes.load(items, lanes, |y| [0, 1, 2].map(|part| leaf_tweak(shape.block(y & inside) ^ part)));
    let Hashes { low, high, payload, third, .. } = hashes;
    let [low_out, high_out] = payload;
    LEAF.hash(&low[0], high, 0, low_out, high_out);
    let [next_low, next_high] = third;
    if shape.parts() == 2 {
        LEAF.hash(&low[1], high, 0, next_low, next_high);
    }
    for (c, width) in shape.widths().into_iter().enumerate().take(shape.components()) {
        for (i, (lane, at)) in lanes_of(items).enumerate() {
            let index = lanes.points[lane][0] & inside;
            let payload = shape.of_leaf(c, index, &[low_out[i], next_low[i]], &[high_out[i], next_high[i]]);
            let correction = words.last[c][at as usize + index as usize] & control_of(lanes.seeds[lane]);
            let sum = if c < 2 { lanes.sums[lane][c] } else { lanes.third[lane][0] };
            out[c][lane] = signed(sign, payload.wrapping_add(correction).wrapping_add(sum)) & mask(width);
        }
    }
}
