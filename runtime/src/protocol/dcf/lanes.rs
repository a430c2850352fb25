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

/// Lanes of a vector.
pub const VECTOR: usize = 4;

/// Nodes by lane.
#[derive(Default)]
pub struct Lanes {
    /// Seeds with control bits.
    pub seeds: Vec<u128>,
    /// Of one component, the payloads of left children and those of right ones; else components 0 and 1.
    pub sums: Vec<[u64; 2]>,
    /// Component 2, in two summands.
    pub third: Vec<[u64; 2]>,
    /// The point that each node is on the way to.
    pub points: Vec<u64>,
}

impl Lanes {
    /// As many lanes, whose content does not matter.
    pub fn resize(&mut self, shape: Shape, count: usize) {
        self.seeds.resize(count, 0);
        self.sums.resize(count, [0; 2]);
        self.third.resize(if shape.components() == 3 { count } else { 0 }, [0; 2]);
        self.points.resize(count, 0);
    }

    /// Sets a lane to a party's root: its control bit is the party's number.
    pub fn set_root(&mut self, party: Party, lane: usize, root: u128) {
        self.seeds[lane] = root & !1 | party.index() as u128;
        self.sums[lane] = [0; 2];
        if let Some(third) = self.third.get_mut(lane) {
            *third = [0; 2];
        }
    }

    /// Makes `to` the node of lane `from`. Its point stays.
    pub fn copy(&mut self, from: usize, to: usize) {
        self.seeds[to] = self.seeds[from];
        self.sums[to] = self.sums[from];
        if !self.third.is_empty() {
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
    fn load(&mut self, items: &[Item], lanes: &Lanes, tweak: impl Fn(u64) -> u64) {
        for x in [&mut self.low, &mut self.tweaked, &mut self.high] {
            x.clear();
        }
        for lane in items.iter().flat_map(lanes_of) {
            let (seed, low) = (lanes.seeds[lane], lanes.seeds[lane] as u64 & !1);
            self.low.push(low);
            self.tweaked.push(low ^ tweak(lanes.points[lane]));
            self.high.push((seed >> 64) as u64);
        }
        for x in self.child.iter_mut().chain(&mut self.payload).chain(&mut self.third) {
            x.resize(self.low.len(), 0);
        }
    }
}

fn lanes_of(item: &Item) -> std::ops::Range<usize> {
    let first = VECTOR * item.vector as usize;
    first..first + VECTOR
}

/// All ones where a seed's control bit is set.
fn control_of(seed: u128) -> u64 {
    (seed as u64 & 1).wrapping_neg()
}

/// Every lane of the items steps to the child that bit `shift` of its point chooses.
pub fn step(
    shape: Shape,
    words: &Words,
    items: &[Item],
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
    let all = items.iter().flat_map(|item| lanes_of(item).zip(item.at));
    for (i, (lane, at)) in all.enumerate() {
        let (at, side) = (at as usize + level, (lanes.points[lane] >> shift & 1) as usize);
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
    items: &[Item],
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
        let all = items.iter().flat_map(|item| lanes_of(item).zip(item.at));
        for (i, (lane, at)) in all.enumerate() {
            let index = lanes.points[lane] & inside;
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
