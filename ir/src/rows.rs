//! Rows that a session appends to a state step by step: openings, masks or shares of masks, or values in the clear.
//!
//! Step 0 fills slots 0 .. t, the next step the slots after those, whatever the values are: how many rows there are is a
//! function of the entries that have run. So no slot is filled twice and no mask serves two values. Memory is bounded by the
//! greatest capacity of the entries, since a step that would go beyond its capacity does not begin ([`fits`]).

use crate::op::Op;
use crate::program::{Program, State};
use crate::types::StateId;

/// The rows of one state; a row is a block of `batch` times `k` elements.
#[derive(Clone, Default)]
pub struct Rows<T> {
    /// `[slot][batch][k]`.
    elements: Vec<T>,
    batch: usize,
    k: usize,
}

impl<T: Copy + Default> Rows<T> {
    /// No rows of a verified state.
    pub fn new(state: &State) -> Rows<T> {
        let (k, batch) = state.row.0.split_last().expect("verified: a block has dimensions");
        Rows { elements: Vec::new(), batch: batch.iter().map(|&d| d as usize).product(), k: *k as usize }
    }

    /// Slots that are filled.
    pub fn len(&self) -> usize {
        self.elements.len() / (self.batch * self.k)
    }

    /// Whether no slot is filled.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Fills the next t slots with x [batch, t, k].
    pub fn append(&mut self, x: &[T]) {
        let rows = x.len() / (self.batch * self.k);
        assert_eq!(x.len(), rows * self.batch * self.k, "whole rows");
        self.elements.reserve_exact(x.len());
        for row in 0..rows {
            for batch in 0..self.batch {
                self.elements.extend_from_slice(&x[(batch * rows + row) * self.k..][..self.k]);
            }
        }
    }

    /// All slots up to `capacity`, [batch, capacity, k]; zero where nothing is filled.
    pub fn all(&self, capacity: usize) -> Vec<T> {
        assert!(self.len() <= capacity, "a step that does not fit does not begin");
        let mut out = vec![T::default(); self.batch * capacity * self.k];
        for (i, row) in self.elements.chunks_exact(self.k).enumerate() {
            let (slot, batch) = (i / self.batch, i % self.batch);
            out[(batch * capacity + slot) * self.k..][..self.k].copy_from_slice(row);
        }
        out
    }
}

/// A step that does not fit the capacity of its entry.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "entry {entry:?} has room for {capacity} rows of state {state:?}: {filled} are filled, {rows} more were to come"
)]
pub struct Full {
    /// The entry.
    pub entry: String,
    /// The state.
    pub state: String,
    /// Rows that the entry reads at most.
    pub capacity: u32,
    /// Rows so far.
    pub filled: usize,
    /// Rows that the step appends.
    pub rows: u32,
}

/// Checks that a step of a verified `program` fits, when each state has as many rows as `filled` says.
pub fn fits(program: &Program, filled: impl Fn(StateId) -> usize) -> Result<(), Full> {
    for instr in &program.instrs {
        let Op::Cache { x, state, capacity } = instr.op else { continue };
        let [.., rows, _] = program.ty(x).shape.0[..] else { panic!("verified: rows to append") };
        let filled = filled(state);
        if filled + rows as usize > capacity as usize {
            let (entry, state) = (program.name.clone(), program.states[state.index()].name.clone());
            return Err(Full { entry, state, capacity, filled, rows });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Shape;

    #[test]
    fn slots_are_filled_in_order_and_the_rest_is_zero() {
        let state = State { name: "k".to_owned(), width: 8, scale: 0, row: Shape(vec![2, 1, 3]) };
        let mut rows = Rows::new(&state);
        assert!(rows.is_empty());
        // [batch 2][t 2][k 3].
        rows.append(&[1, 2, 3, 4, 5, 6, 10, 20, 30, 40, 50, 60]);
        rows.append(&[7, 8, 9, 70, 80, 90]);
        assert_eq!(rows.len(), 3);
        let want = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 0, 0, 0];
        assert_eq!(rows.all(4), want);
    }
}
