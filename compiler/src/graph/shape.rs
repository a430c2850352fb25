//! Shape and element type of every op's result, from those of its operands: the graph's type rules, which stand in
//! [`super::ops`]. The importer builds by them, the evaluator and [`super::verify()`] check by them, so kernels need not
//! check again.
//!
//! Errors are half sentences about one node; who knows the node adds the place.

use super::ops::family;
use super::{DType, Op};

/// Greatest number of elements of a tensor, dimensions of zero counted as one: 8 GiB of floats.
pub const MAX_ELEMENTS: usize = 1 << 31;

/// Greatest length of a tensor's last axis, along which passes keep a number for each element: no vocabulary is longer.
pub const MAX_ROW: usize = 1 << 20;

/// Shape and element type.
pub type Typed = (Vec<usize>, DType);

/// Greatest number of elements of any tensor of a graph: what passes join or move may be larger than what it was made of,
/// by far less than this.
const MAX_JOINED: usize = 1 << 56;

/// Type of the result of `op`. `declared` is what a node claims; only `Input`, `Reshape` and `Expand`, whose shape is a
/// free choice, take it from there.
pub fn infer(op: &Op, operands: &[Typed], declared: (&[usize], DType)) -> Result<Typed, String> {
    let (shape, dtype) = (family(op).rule)(op, Operands(operands), declared)?;
    check_count(&shape)?;
    Ok((shape, dtype))
}

/// Number of elements, dimensions of zero counted as one.
fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)))
}

/// An error if the number of elements of a tensor of this shape is beyond what can be counted with.
pub fn check_count(shape: &[usize]) -> Result<(), String> {
    match count(shape) {
        Some(size) if size <= MAX_JOINED => Ok(()),
        _ => Err(format!("a tensor of shape {shape:?} has more than {MAX_JOINED} elements")),
    }
}

/// An error if a tensor of this shape is beyond what the compiler handles in a model.
pub fn check_size(shape: &[usize]) -> Result<(), String> {
    match count(shape) {
        Some(size) if size <= MAX_ELEMENTS && shape.last().is_some_and(|&row| row > MAX_ROW) => {
            Err(format!("a tensor of shape {shape:?} has rows of more than {MAX_ROW} elements"))
        }
        Some(size) if size <= MAX_ELEMENTS => Ok(()),
        _ => Err(format!("a tensor of shape {shape:?} has more than {MAX_ELEMENTS} elements")),
    }
}

/// The shape of an element-wise operation under numpy's broadcasting rule.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (a, b) if a == b => Some(a),
            (1, b) => Some(b),
            (a, 1) => Some(a),
            _ => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| format!("shapes {a:?} and {b:?} do not broadcast"))
}

/// An error unless a tensor of this shape has the axis.
pub fn axis_in(axis: usize, shape: &[usize]) -> Result<(), String> {
    if axis < shape.len() { Ok(()) } else { Err(format!("axis {axis} of a tensor of rank {}", shape.len())) }
}

/// The operands of an op, as its type rule sees them.
#[derive(Clone, Copy)]
pub struct Operands<'a>(pub &'a [Typed]);

impl<'a> Operands<'a> {
    /// How many there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// An error unless there are as many.
    pub fn count(self, counts: std::ops::RangeInclusive<usize>) -> Result<(), String> {
        if counts.contains(&self.len()) {
            Ok(())
        } else {
            Err(format!("it has {} operands, not {} to {}", self.len(), counts.start(), counts.end()))
        }
    }

    /// Shape of one.
    pub fn shape(self, i: usize) -> &'a Vec<usize> {
        &self.0[i].0
    }

    /// Element type of one.
    pub fn dtype(self, i: usize) -> DType {
        self.0[i].1
    }

    /// Shape of one that must hold floats.
    pub fn float(self, i: usize) -> Result<&'a Vec<usize>, String> {
        match self.dtype(i) {
            DType::F32 => Ok(self.shape(i)),
            other => Err(format!("operand {i} holds {other:?}, not F32")),
        }
    }
}
