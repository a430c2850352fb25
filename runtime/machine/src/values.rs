//! The values that a party holds, each in the slot of the instruction that makes it.

use ir::Value;
use kernels::ring::Tensor;
use protocols::open::Half;
use protocols::{Opening, bit, cells, compare, exp, extend, linear};

/// A value as a party holds it.
#[derive(Default)]
pub(super) enum Slot {
    /// Not yet or no longer there.
    #[default]
    Empty,
    /// A share.
    Share(Tensor),
    /// An opening whose other half is on its way.
    Half(Half),
    /// An opening.
    Opening(Opening),
    /// A value that waits for the peer's bits.
    Extend(extend::Waiting),
    /// An exponential that waits for the peer's numbers.
    Exp(exp::Waiting),
    /// A function by cells that waits for the peer's numbers.
    Cells(cells::Waiting),
    /// Comparisons that wait for the peer's bits.
    Compare(compare::Waiting),
    /// Bits that wait for the peer's.
    Bit(bit::Waiting),
    /// At the server, a product whose message is on its way.
    Product(linear::Product),
}

/// All values of a run.
#[derive(Default)]
pub(super) struct Values(Vec<Slot>);

impl Values {
    /// Slots for `count` instructions, empty.
    pub(super) fn new(count: usize) -> Values {
        Values((0..count).map(|_| Slot::Empty).collect())
    }

    pub(super) fn share(&self, v: Value) -> &Tensor {
        let Slot::Share(share) = &self.0[v.index()] else { panic!("verified: a share") };
        share
    }

    pub(super) fn opening(&self, v: Value) -> &Opening {
        let Slot::Opening(opening) = &self.0[v.index()] else { panic!("verified: an opening") };
        opening
    }

    /// The share of `v`, moved out if nothing needs it after this instruction, which frees `frees`.
    pub(super) fn consume(&mut self, v: Value, frees: &[Value]) -> Tensor {
        if !frees.contains(&v) {
            return self.share(v).clone();
        }
        let Slot::Share(share) = self.take(v.index()) else { panic!("verified: a share") };
        share
    }

    pub(super) fn take(&mut self, index: usize) -> Slot {
        std::mem::take(&mut self.0[index])
    }

    pub(super) fn put(&mut self, index: usize, slot: Slot) {
        self.0[index] = slot;
    }

    /// Drops what nothing needs any more.
    pub(super) fn free(&mut self, frees: &[Value]) {
        frees.iter().for_each(|v| self.0[v.index()] = Slot::Empty);
    }
}
