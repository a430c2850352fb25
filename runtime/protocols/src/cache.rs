//! `cache`: openings that the steps of a session keep. What was opened once is read by every later step.
//!
//! Identity  None: the rows are openings as they were made, under the masks of their own steps; see [`super::open`]. Slots
//!           that no step has filled hold 0 under a mask of 0.
//! Shapes    x [.., t, k] fills t slots; the opening of all slots is [.., capacity, k].
//! Dealt     Nothing: the dealer keeps the masks as the parties keep their shares of them.
//! Online    Local. How many rows there are follows from the entries that ran, so does every later message.
//! Errors    More rows than the entry has room for, a step out of order, a step after one that failed. They are told
//!           before the step has sent anything.

use super::{Mask, Opening, Vector, open};
use crate::step::Step;
use ir::rows::{Full, Rows, fits};
use ir::{StateId, Type};
use kernels::codec::dimensions;
use kernels::ring::Tensor;

/// Why a session does not go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SessionError {
    /// The entry has no room for the rows.
    #[error(transparent)]
    Full(#[from] Full),
    /// Not the next step.
    #[error("step {expected} of the session is due, not step {got}")]
    Order {
        /// The next step.
        expected: u32,
        /// What was asked for.
        got: u32,
    },
    /// A step broke: what it has sent is masked by material that is burnt.
    #[error("an earlier step of the session failed, and its material is burnt; begin a new session")]
    Dead,
}

/// What a session keeps from step to step, one process's part of it: `PARTS` tensors of rows for each state. Memory is
/// bounded by the greatest capacity of the entries.
pub struct Cache<const PARTS: usize> {
    states: Vec<[Rows<u64>; PARTS]>,
    next: u32,
    running: bool,
}

/// A party's part: what was opened, and its share of the mask.
pub type Openings = Cache<2>;

/// The dealer's part: the masks. Or that of a party in its place: its shares of them.
pub type Masks = Cache<1>;

impl<const PARTS: usize> Default for Cache<PARTS> {
    fn default() -> Self {
        Cache { states: Vec::new(), next: 0, running: false }
    }
}

impl<const PARTS: usize> Cache<PARTS> {
    /// Begins a step. Until it ends the session is in its hands: if it fails, no other step begins.
    pub fn begin(&mut self, step: Step) -> Result<(), SessionError> {
        self.check(step)?;
        if self.states.is_empty() {
            let rows = |state| std::array::from_fn(|_| Rows::new(state));
            self.states = step.program().states.iter().map(rows).collect();
        }
        self.running = true;
        Ok(())
    }

    /// Ends the step that began.
    pub fn end(&mut self) {
        (self.running, self.next) = (false, self.next + 1);
    }

    /// Whether a step can begin. It costs nothing to ask, where a step that was dealt for must run.
    pub fn check(&self, step: Step) -> Result<(), SessionError> {
        if self.running {
            return Err(SessionError::Dead);
        }
        if step.number != self.next {
            return Err(SessionError::Order { expected: self.next, got: step.number });
        }
        Ok(fits(step.program(), |state| self.states.get(state.index()).map_or(0, |parts| parts[0].len()))?)
    }

    /// Appends to a state and gives all of it.
    fn append(&mut self, state: StateId, x: [&[u64]; PARTS], all: &Type) -> [Tensor; PARTS] {
        let [.., capacity, _] = dimensions(&all.shape)[..] else { panic!("verified: rows of a state") };
        let parts = &mut self.states[state.index()];
        std::array::from_fn(|i| {
            parts[i].append(x[i]);
            Tensor::new(dimensions(&all.shape), parts[i].all(capacity))
        })
    }
}

impl Masks {
    /// The rows of a state so far; none before the first step.
    pub(crate) fn rows(&self, state: StateId) -> Option<&Rows<u64>> {
        self.states.get(state.index()).map(|[rows]| rows)
    }
}

impl Openings {
    /// The party's shares of the masks of what the session keeps, for making the material of its next step.
    pub fn masks(&self) -> Masks {
        Cache {
            states: self.states.iter().map(|[_, mask]| [mask.clone()]).collect(),
            next: self.next,
            running: self.running,
        }
    }
}

/// A party's side; `all` is the type of the result.
pub fn read(cache: &mut Openings, state: StateId, x: &Opening, all: &Type) -> Opening {
    let [opened, mask] = cache.append(state, [&x.opened.data, &x.mask.all(x.len())], all);
    Opening { width: x.width, whole: x.whole, opened, mask: Vector::Kept(mask.data), dealt: open::Dealt::default() }
}

/// A party's side in the dealer's place: its shares of the masks.
pub(crate) fn make(cache: &mut Masks, state: StateId, mask: &[u64], all: &Type) -> Tensor {
    let [mask] = cache.append(state, [mask], all);
    mask
}

/// The dealer's side.
pub fn deal(cache: &mut Masks, state: StateId, x: &Mask, all: &Type) -> Mask {
    let [r] = cache.append(state, [&x.r.data], all);
    Mask { width: x.width, r, client: Vector::Zero }
}
