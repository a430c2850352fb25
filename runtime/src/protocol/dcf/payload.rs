//! How payloads are cut out of cipher blocks: see the generator at the head of [`super`].

use super::PAYLOAD;
use crate::cpu::{Cpu, multiversion};
use crate::ring::mask;
use ir::dcf::{Layout, MAX_COMPONENTS};

/// One vector for each component.
pub type Components = [Vec<u64>; MAX_COMPONENTS];

/// Where component 2 comes from.
#[derive(Clone, Copy, PartialEq)]
enum Third {
    Absent,
    /// From the bits that components 0 and 1 leave of their block.
    Spare,
    /// From a block of its own.
    Own,
}

/// Where a payload's components lie, on the way and in a leaf.
#[derive(Clone, Copy)]
pub struct Shape {
    widths: [u8; MAX_COMPONENTS],
    components: usize,
    third: Third,
    /// log2 of the payloads in a block of a leaf, of 2^`slot_log2` bits each.
    per_block_log2: u32,
    slot_log2: u32,
    leaf_size: usize,
}

impl Shape {
    pub fn new(layout: Layout) -> Shape {
        let mut widths = [0; MAX_COMPONENTS];
        widths[..layout.components()].copy_from_slice(layout.widths());
        let third = match widths {
            [_, _, 0] => Third::Absent,
            [first, second, third] if u32::from(first) + u32::from(second) + u32::from(third) <= 128 => Third::Spare,
            _ => Third::Own,
        };
        let components = layout.components();
        let slot = if components == 1 { u32::from(widths[0]).next_power_of_two().max(8) } else { 128 };
        let (slot_log2, leaf_size) = (slot.ilog2(), layout.leaf_size());
        Shape { widths, components, third, per_block_log2: 7 - slot_log2, slot_log2, leaf_size }
    }

    /// Components of a payload.
    pub fn components(self) -> usize {
        self.components
    }

    /// Blocks that a payload of a leaf is spread over.
    pub fn parts(self) -> usize {
        if self.third == Third::Own { 2 } else { 1 }
    }

    /// Blocks of a whole leaf.
    pub fn leaf_blocks(self) -> usize {
        self.parts() * self.leaf_size.div_ceil(1 << self.per_block_log2)
    }

    /// The first block of payload `index` of a leaf.
    pub fn block(self, index: u64) -> u64 {
        (index >> self.per_block_log2) * self.parts() as u64
    }

    /// Component 0 of payload `index` in its block, with garbage above.
    fn slot(self, index: u64, low: u64, high: u64) -> u64 {
        let bit = (index & mask(self.per_block_log2 as u8)) << self.slot_log2;
        (if bit < 64 { low } else { high }) >> (bit % 64)
    }

    /// Component 2 from the block of components 0 and 1.
    fn spare(self) -> [u32; 3] {
        let [first, second, _] = self.widths.map(u32::from);
        [first - 1, second - 1, 64 - first]
    }

    /// Fills in component 2 of payloads whose components 0 and 1 are known, if it comes from the same block.
    fn fill_spare(self, out: &mut Components) {
        let [first, second, third] = out;
        spare_bits(Cpu::get(), first, second, self.spare(), third);
    }

    /// The payloads of the children that the masks `sides` choose (all ones for right); `inputs` are the low halves of
    /// the seeds with that side in the lowest bit.
    pub fn on_the_way(
        self,
        low: &[u64],
        inputs: &[u64],
        high: &[u64],
        sides: &[u64],
        out: &mut Components,
        buffer: &mut Vec<u64>,
    ) {
        let n = low.len();
        out[..self.components].iter_mut().for_each(|o| o.resize(n, 0));
        buffer.resize(n, 0);
        let half = |tweak, out: &mut Vec<u64>, buffer: &mut Vec<u64>| {
            PAYLOAD.hash(low, high, tweak, out, buffer);
            select_assign(Cpu::get(), out, buffer, sides);
        };
        if self.components == 1 {
            return half(0, &mut out[0], buffer);
        }
        let [first, second, third] = out;
        PAYLOAD.hash(inputs, high, 0, first, second);
        match self.third {
            Third::Absent => {}
            Third::Spare => self.fill_spare(out),
            Third::Own => half(2, third, buffer),
        }
    }

    /// The payloads of both children of each node, by side.
    pub fn of_both(self, low: &[u64], high: &[u64], out: &mut [Components; 2]) {
        let n = low.len();
        out.iter_mut().flat_map(|o| &mut o[..self.components]).for_each(|o| o.resize(n, 0));
        let [left, right] = out;
        if self.components == 1 {
            return PAYLOAD.hash(low, high, 0, &mut left[0], &mut right[0]);
        }
        for (side, out) in [&mut *left, &mut *right].into_iter().enumerate() {
            let [first, second, _] = out;
            PAYLOAD.hash(low, high, side as u64, first, second);
            if self.third == Third::Spare {
                self.fill_spare(out);
            }
        }
        if self.third == Third::Own {
            PAYLOAD.hash(low, high, 2, &mut left[2], &mut right[2]);
        }
    }

    /// Component `c` of payload `index` of a leaf from its blocks, with garbage above.
    #[inline(always)]
    pub fn of_leaf(self, c: usize, index: u64, low: &[u64], high: &[u64]) -> u64 {
        match (c, self.third) {
            _ if self.components == 1 => self.slot(index, low[0], high[0]),
            (0, _) => low[0],
            (1, _) => high[0],
            (_, Third::Own) => low[1],
            _ => spare_bits_of(low[0], high[0], self.spare()),
        }
    }
}

/// The bits of `first` and of `second` above their components, one after the other. Shifts are made in two steps, as
/// there may be none of them.
#[inline(always)]
fn spare_bits_of(first: u64, second: u64, [first_bits, second_bits, place]: [u32; 3]) -> u64 {
    (first >> first_bits >> 1) | (second >> second_bits >> 1 << place)
}

multiversion! {
    /// [`spare_bits_of`], element by element.
    fn spare_bits(first: &[u64], second: &[u64], shifts: [u32; 3], out: &mut [u64]) {
        for (out, (&first, &second)) in out.iter_mut().zip(first.iter().zip(second)) {
            *out = spare_bits_of(first, second, shifts);
        }
    }
}

multiversion! {
    /// left = left or right, by side.
    fn select_assign(left: &mut [u64], right: &[u64], sides: &[u64]) {
        for ((x, y), side) in left.iter_mut().zip(right).zip(sides) {
            *x ^= (*x ^ y) & side;
        }
    }
}
