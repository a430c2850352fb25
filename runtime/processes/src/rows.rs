//! A party's shares of the masks of what a session keeps, as bytes: a step's rows of every state, in the order of its `cache`
//! instructions, [batch, rows, k], 8 bytes an element. Whoever goes on making a stock goes on from them, as whoever continues it in
//! a text does from the masks that its machine kept.

use ir::{Op, Program, StateId, Type, Value};
use kernels::codec::dimensions;
use kernels::ring::Tensor;
use zeroize::Zeroizing;

use super::RunError;
use protocols::cache::{Masks, deal};
use protocols::pair::PairError;
use protocols::step::Step;
use protocols::{Mask, Vector};

/// The masks, and how many slots of each state are filled.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) masks: Masks,
    filled: Vec<usize>,
}

/// A `cache` instruction: what it appends to, the shape of that, [.., rows, k], and the type of all rows.
struct Append<'a> {
    state: StateId,
    shape: Vec<usize>,
    all: &'a Type,
}

fn appends(program: &Program) -> impl Iterator<Item = Append<'_>> {
    program.instrs.iter().zip(0..).filter_map(|(instr, number)| match instr.op {
        Op::Cache { x, state, .. } => {
            Some(Append { state, shape: dimensions(&program.ty(x).shape), all: program.ty(Value(number)) })
        }
        _ => None,
    })
}

/// Bytes of a step of a program.
pub(super) fn length(program: &Program) -> u64 {
    appends(program).map(|append| append.shape.iter().product::<usize>() as u64 * 8).sum()
}

impl Kept {
    /// Those of a machine, of which no rows will be asked.
    pub(super) fn of(masks: Masks) -> Kept {
        Kept { masks, filled: Vec::new() }
    }

    /// The rows of a step, which was made last.
    pub(super) fn rows(&mut self, step: Step) -> Zeroizing<Vec<u8>> {
        let program = step.program();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length(program) as usize));
        self.filled.resize(program.states.len(), 0);
        for Append { state, shape, all } in appends(program) {
            let [.., rows, k] = shape[..] else { panic!("verified: rows of a state") };
            let filled = &mut self.filled[state.index()];
            // Nothing more is appended: what comes back is what there is.
            let nothing = Mask { width: 1, r: Tensor::new(vec![0], Vec::new()), client: Vector::Zero };
            let all = deal(&mut self.masks, state, &nothing, all).r;
            let [.., capacity, _] = all.shape[..] else { panic!("verified: rows of a state") };
            for slots in all.data.chunks_exact(capacity * k) {
                slots[*filled * k..][..rows * k].iter().for_each(|element| bytes.extend(element.to_le_bytes()));
            }
            *filled += rows;
        }
        bytes
    }
}

/// The masks after some steps, of whose rows these are the bytes; none if they are not as many.
pub(super) fn restore(steps: &[Step], mut bytes: &[u8]) -> Result<Option<Kept>, RunError> {
    let mut kept = Kept::default();
    for &step in steps {
        let program = step.program();
        kept.masks.begin(step).map_err(PairError::from)?;
        kept.filled.resize(program.states.len(), 0);
        for Append { state, shape, all } in appends(program) {
            let Some(rows) = bytes.split_off(..shape.iter().product::<usize>() * 8) else { return Ok(None) };
            let elements = rows.as_chunks::<8>().0.iter().map(|element| u64::from_le_bytes(*element));
            kept.filled[state.index()] += shape[shape.len() - 2];
            let r = Tensor::new(shape, elements.collect::<Vec<_>>());
            deal(&mut kept.masks, state, &Mask { width: 1, r, client: Vector::Zero }, all);
        }
        kept.masks.end();
    }
    Ok(bytes.is_empty().then_some(kept))
}
