//! How payloads are cut out of cipher blocks: see the generator at the head of [`super`].

use super::{CHILDREN, PAYLOAD};
use ir::dcf::{Layout, MAX_COMPONENTS};
use kernels::cpu::{Cpu, multiversion};
use kernels::ring::mask;

/// One vector for each component.
pub type Components = [Vec<u64>; MAX_COMPONENTS];

/// The tweak of a child's hash, and of its payload's unless that is of one component.
pub fn child_tweak(child: u64) -> u64 {
    2 * child
}

/// The tweak of the payload of one component, of which odd children have the high half.
pub fn half_tweak(child: u64) -> u64 {
    (2 * child) & 4
}

/// What the tweak of a component 2 with a hash of its own has beyond [`half_tweak`].
pub const OWN_TWEAK: u64 = 8;

/// The tweak of a block of a leaf.
pub fn leaf_tweak(block: u64) -> u64 {
    2 * block
}

/// What a payload is made of.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// One component.
    One,
    /// Two.
    Two,
    /// Three, the last from the bits that the others leave of their block.
    Spare,
    /// Three, the last from a block of its own.
    Own,
}

/// Where a payload's components lie, on the way and in a leaf.
#[derive(Clone, Copy)]
pub struct Shape {
    widths: [u8; MAX_COMPONENTS],
    /// See [`Kind`].
    pub kind: Kind,
    /// log2 of the payloads in a block of a leaf, of 2^`slot_log2` bits each.
    pub per_block_log2: u32,
    /// See `per_block_log2`.
    pub slot_log2: u32,
    leaf_size: usize,
}

impl Shape {
    pub fn new(layout: Layout) -> Shape {
        let mut widths = [0; MAX_COMPONENTS];
        widths[..layout.components()].copy_from_slice(layout.widths());
        let kind = match widths {
            [_, 0, _] => Kind::One,
            [_, _, 0] => Kind::Two,
            [first, second, third] if u32::from(first) + u32::from(second) + u32::from(third) <= 128 => Kind::Spare,
            _ => Kind::Own,
        };
        let slot = if kind == Kind::One { u32::from(widths[0]).next_power_of_two().max(8) } else { 128 };
        let (slot_log2, leaf_size) = (slot.ilog2(), layout.leaf_size());
        Shape { widths, kind, per_block_log2: 7 - slot_log2, slot_log2, leaf_size }
    }

    /// Components of a payload.
    pub fn components(self) -> usize {
        self.widths.iter().filter(|&&width| width > 0).count()
    }

    /// Bits of each component, zero for those that there are not.
    pub fn widths(self) -> [u8; MAX_COMPONENTS] {
        self.widths
    }

    /// Blocks that a payload of a leaf is spread over.
    pub fn parts(self) -> usize {
        if self.kind == Kind::Own { 2 } else { 1 }
    }

    /// Blocks of a whole leaf.
    pub fn leaf_blocks(self) -> usize {
        self.parts() * self.leaf_size.div_ceil(1 << self.per_block_log2)
    }

    /// The bits of a point that number the payloads of a leaf.
    pub fn inside(self) -> u64 {
        self.leaf_size as u64 - 1
    }

    /// The first block of payload `index` of a leaf.
    pub fn block(self, index: u64) -> u64 {
        (index >> self.per_block_log2) * self.parts() as u64
    }

    /// The lowest bit of component 0 of payload `index` in its block.
    pub fn slot_bit(self, index: u64) -> u32 {
        ((index & mask(self.per_block_log2 as u8)) << self.slot_log2) as u32
    }

    /// Component 0 of payload `index` in its block, with garbage above.
    fn slot(self, index: u64, low: u64, high: u64) -> u64 {
        let bit = self.slot_bit(index);
        (if bit < 64 { low } else { high }) >> (bit % 64)
    }

    /// Component 2 from the block of components 0 and 1.
    pub fn spare(self) -> [u32; 3] {
        let [first, second, _] = self.widths.map(u32::from);
        [first - 1, second - 1, 64 - first]
    }

    /// Fills in component 2 of payloads whose components 0 and 1 are known, if it comes from the same block.
    pub fn fill_spare(self, first: &[u64], second: &[u64], third: &mut [u64]) {
        spare_bits(Cpu::get(), first, second, self.spare(), third);
    }

    /// The payloads of each child of each node.
    pub fn of_children(self, low: &[u64], high: &[u64], out: &mut [Components; CHILDREN]) {
        let n = low.len();
        out.iter_mut().flat_map(|o| &mut o[..self.components()]).for_each(|o| o.resize(n, 0));
        // A component whose halves belong to children next to each other.
        let halves = |component: usize, tweak: u64, out: &mut [Components; CHILDREN]| {
            for (pair, out) in (0..).zip(out.as_chunks_mut::<2>().0) {
                let [even, odd] = out.each_mut().map(|out| &mut out[component][..]);
                PAYLOAD.hash(low, high, tweak ^ half_tweak(2 * pair), even, odd);
            }
        };
        if self.kind == Kind::One {
            return halves(0, 0, out);
        }
        for (child, out) in (0..).zip(&mut *out) {
            let [first, second, third] = out;
            PAYLOAD.hash(low, high, child_tweak(child), first, second);
            if self.kind == Kind::Spare {
                self.fill_spare(first, second, third);
            }
        }
        if self.kind == Kind::Own {
            halves(2, OWN_TWEAK, out);
        }
    }

    /// Component `c` of payload `index` of a leaf from its blocks, with garbage above.
    #[inline(always)]
    pub fn of_leaf(self, c: usize, index: u64, low: &[u64], high: &[u64]) -> u64 {
        match (c, self.kind) {
            (_, Kind::One) => self.slot(index, low[0], high[0]),
            (0, _) => low[0],
            (1, _) => high[0],
            (_, Kind::Own) => low[1],
            _ => spare_bits_of(low[0], high[0], self.spare()),
        }
    }
}

/// The bits of `first` and of `second` above their components, one after the other. Shifts are made in two steps, as
/// there may be none of them.
#[inline(always)]
pub fn spare_bits_of(first: u64, second: u64, [first_bits, second_bits, place]: [u32; 3]) -> u64 {
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
