//! Nodes of many comparison keys side by side, and the steps that they take: the portable kernels, which those of
//! [`super::wide`] are tested against.
//!
//! A node is its seed, with its control bit in the place of the lowest bit, and what its payloads sum to so far. Lanes
//! come in vectors of four.

use super::payload::{Components, Kind, Shape, spare_bits_of};
use super::{CHILD, LEAF, PAYLOAD, signed, signs};
use crate::aes128::Block;
use crate::ring::mask;
use ir::Party;
use ir::dcf::MAX_COMPONENTS;
use std::ops::{Index, IndexMut};

/// Lanes of a vector.
pub const VECTOR: usize = 4;

/// Lanes of an element that has vectors of its own are a multiple of this: kernels may take steps with what is left over
/// too, of which nothing is read.
pub const GROUP: usize = 4 * VECTOR;

/// Four lanes of 16 bytes: a cache line, so that no vector lies in two.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Line<T>([T; VECTOR]);

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
    /// Of one component, the payloads of left children and those of right ones; else components 0 and 1.
    pub sums: Column<[u64; 2]>,
    /// Component 2, in two summands. The wide kernels shift the second one into its place at the leaf if it comes from
    /// spare bits.
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

    /// Sets a lane to a party's root: its control bit is the party's number.
    pub fn set_root(&mut self, party: Party, lane: usize, root: u128) {
        self.seeds[lane] = root & !1 | party.index() as u128;
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

/// A vector of lanes that takes a step, and where the words of each are: `[element][level]` for a level, which is still
/// to be added, or `[element][payload of the leaf]`.
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

/// Correction words of a block of elements.
pub struct Words<'a> {
    /// `[element][level]`.
    pub seeds: &'a [Block],
    /// Of both sides: left in the lowest bit, right in the next.
    pub controls: &'a [u64],
    pub payloads: [&'a [u64]; MAX_COMPONENTS],
    /// `[element][payload of the leaf]`.
    pub last: [&'a [u64]; MAX_COMPONENTS],
}

/// Inputs and hashes.
#[derive(Default)]
pub struct Hashes {
    /// Low halves of seeds, the same with the side (or block of the leaf) in the lowest bits, and high halves.
    low: Vec<u64>,
    tweaked: Vec<u64>,
    high: Vec<u64>,
    child: [Vec<u64>; 2],
    payload: [Vec<u64>; 2],
    third: [Vec<u64>; 2],
}

impl Hashes {
    /// Sets the inputs to the seeds of the items' lanes; `tweak` is of a lane's point.
    fn load(&mut self, items: impl Items, lanes: &Lanes, tweak: impl Fn(u64) -> u64) {
        for x in [&mut self.low, &mut self.tweaked, &mut self.high] {
            x.clear();
        }
        for (lane, _) in lanes_of(items) {
            let (seed, low) = (lanes.seeds[lane], lanes.seeds[lane] as u64 & !1);
            self.low.push(low);
            self.tweaked.push(low ^ tweak(lanes.points[lane][0]));
            self.high.push((seed >> 64) as u64);
        }
        for x in self.child.iter_mut().chain(&mut self.payload).chain(&mut self.third) {
            x.resize(self.low.len(), 0);
        }
    }
}

/// All ones where a seed's control bit is set.
fn control_of(seed: u128) -> u64 {
    (seed as u64 & 1).wrapping_neg()
}

/// Every lane of the items steps to the child that bit `shift` of its point chooses.
pub fn step(
    shape: Shape,
    words: &Words,
    items: impl Items,
    level: usize,
    shift: u32,
    lanes: &mut Lanes,
    hashes: &mut Hashes,
) {
    hashes.load(items, lanes, |y| y >> shift & 1);
    let Hashes { low, tweaked, high, child, payload, third } = hashes;
    let [child_low, child_high] = child;
    CHILD.hash(tweaked, high, 0, child_low, child_high);
    let [first, second] = payload;
    PAYLOAD.hash(if shape.kind == Kind::One { low } else { tweaked }, high, 0, first, second);
    let [third_left, third_right] = third;
    if shape.kind == Kind::Own {
        PAYLOAD.hash(low, high, 2, third_left, third_right);
    }
    for (i, (lane, at)) in lanes_of(items).enumerate() {
        let (at, side) = (at as usize + level, (lanes.points[lane][0] >> shift & 1) as usize);
        let control = control_of(lanes.seeds[lane]);
        let word = |c: usize| words.payloads[c][at] & control;
        match shape.kind {
            Kind::One => {
                let payload = [first[i], second[i]][side].wrapping_add(word(0));
                lanes.sums[lane][side] = lanes.sums[lane][side].wrapping_add(payload);
            }
            _ => {
                let [a, b] = lanes.sums[lane];
                let (a, b) = (a.wrapping_add(first[i]), b.wrapping_add(second[i]));
                lanes.sums[lane] = [a.wrapping_add(word(0)), b.wrapping_add(word(1))];
            }
        }
        let value = match shape.kind {
            Kind::One | Kind::Two => None,
            Kind::Spare => Some(spare_bits_of(first[i], second[i], shape.spare())),
            Kind::Own => Some([third_left[i], third_right[i]][side]),
        };
        if let Some(value) = value {
            lanes.third[lane][0] = lanes.third[lane][0].wrapping_add(value).wrapping_add(word(2));
        }
        let seed = u128::from_le_bytes(words.seeds[at]) & !1 | u128::from(words.controls[at] >> side & 1);
        let mask = u128::from(control) << 64 | u128::from(control);
        lanes.seeds[lane] = (u128::from(child_high[i]) << 64 | u128::from(child_low[i])) ^ (seed & mask);
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
    hashes.load(items, lanes, |y| shape.block(y & inside));
    let Hashes { tweaked, high, payload, third, .. } = hashes;
    let [low_out, high_out] = payload;
    LEAF.hash(tweaked, high, 0, low_out, high_out);
    let [next_low, next_high] = third;
    if shape.parts() == 2 {
        LEAF.hash(tweaked, high, 1, next_low, next_high);
    }
    for (c, width) in shape.widths().into_iter().enumerate().take(shape.components()) {
        for (i, (lane, at)) in lanes_of(items).enumerate() {
            let index = lanes.points[lane][0] & inside;
            let payload = shape.of_leaf(c, index, &[low_out[i], next_low[i]], &[high_out[i], next_high[i]]);
            let correction = words.last[c][at as usize + index as usize] & control_of(lanes.seeds[lane]);
            let [a, b] = lanes.sums[lane];
            let sum = match (c, shape.kind) {
                (_, Kind::One) => a.wrapping_add(b),
                (0, _) => a,
                (1, _) => b,
                _ => lanes.third[lane][0].wrapping_add(lanes.third[lane][1]),
            };
            out[c][lane] = signed(sign, payload.wrapping_add(correction).wrapping_add(sum)) & mask(width);
        }
    }
}
