//! Remove operations that only move or copy elements.
//!
//! Rewrites  identities (reshape, expand, transpose, slice, conversion, times one, plus zero, constant choice) into their
//!           operand; reshape of reshape, transpose of transpose, slice of slice into one; a transpose of unit axes into a
//!           reshape; a gather of consecutive constant positions into a slice. Moves a reshape that keeps the last axis
//!           below an operation on rows, where it meets the reshape back.
//! Why       Exporters wrap linear layers in reshapes; the other passes then see `linear` follow `normalize`.
//! Needs     Nothing.
//! Keeps     Real values, exactly.

use super::{Options, known, rewrite};
use crate::diagnostic::Diagnostic;
use crate::graph::{DType, Graph, NodeId, Op, Owner, Tensor};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    rewrite(graph, |graph, id| {
        let Some(simpler) = find(graph, id) else { return Ok(false) };
        let (shape, origin) = (graph.node(id).shape.clone(), graph.node(id).origin.clone());
        let new = match simpler {
            // A weight that adds nothing still makes the sum shared: its readers count on that, and nobody learns of it.
            Simpler::Operand(operand) if graph.node(operand).owner != graph.node(id).owner => return Ok(false),
            Simpler::Operand(operand) => graph.push_reshape(operand, &shape, &origin),
            Simpler::Op(op, operand) => {
                let new = graph.push(op, &[operand], &origin);
                graph.push_reshape(new, &shape, &origin)
            }
            Simpler::ReshapeLater { reshape, operands } => {
                let op = graph.node(id).op.clone();
                let new = graph.push(op, &operands, &origin);
                let origin = graph.node(reshape).origin.clone();
                graph.push_reshape(new, &shape, &origin)
            }
        };
        graph.replace(id, new);
        Ok(true)
    })
}

/// What a node is replaced by. A reshape to the node's own shape follows where needed.
enum Simpler {
    /// This value.
    Operand(NodeId),
    /// This operation of one value.
    Op(Op, NodeId),
    /// The same operation on these operands, without the reshape before it.
    ReshapeLater { reshape: NodeId, operands: Vec<NodeId> },
}

fn find(graph: &Graph, id: NodeId) -> Option<Simpler> {
    let node = graph.node(id);
    let operands = graph.operands(id);
    let x = *operands.first()?;
    let inner = graph.node(x);
    let inner_operand = || graph.operands(x)[0];
    let same_shape = inner.shape == node.shape;
    let found = match &node.op {
        Op::Reshape if matches!(inner.op, Op::Reshape) => Some(Simpler::Operand(inner_operand())),
        Op::Reshape if same_shape => Some(Simpler::Operand(x)),
        Op::Expand if elements(&inner.shape) == elements(&node.shape) => Some(Simpler::Operand(x)),
        Op::ToF32 if inner.dtype == DType::F32 => Some(Simpler::Operand(x)),
        Op::Concat { .. } if operands.len() == 1 => Some(Simpler::Operand(x)),
        Op::Transpose { perm } => match &inner.op {
            _ if perm.iter().filter(|&&axis| inner.shape[axis] != 1).is_sorted() => Some(Simpler::Operand(x)),
            Op::Transpose { perm: first } => {
                let perm = perm.iter().map(|&axis| first[axis]).collect();
                Some(Simpler::Op(Op::Transpose { perm }, inner_operand()))
            }
            _ => None,
        },
        Op::Slice { axis, from, to } => match &inner.op {
            _ if same_shape => Some(Simpler::Operand(x)),
            Op::Slice { axis: inner_axis, from: start, .. } if inner_axis == axis => {
                Some(Simpler::Op(Op::Slice { axis: *axis, from: start + from, to: start + to }, inner_operand()))
            }
            _ => None,
        },
        Op::Gather { axis } if inner.owner != Owner::Server => {
            let (from, to) = consecutive(graph, operands[1], inner.shape[*axis])?;
            Some(Simpler::Op(Op::Slice { axis: *axis, from, to }, x))
        }
        Op::Add | Op::Sub | Op::Mul | Op::Div => {
            let neutral = if matches!(node.op, Op::Add | Op::Sub) { 0.0 } else { 1.0 };
            known::split(graph, id)
                .filter(|&(x, c, second)| {
                    (second || matches!(node.op, Op::Add | Op::Mul))
                        && graph.node(x).shape == node.shape
                        && known::scalar(graph, c) == Some(neutral)
                })
                .map(|(x, ..)| Simpler::Operand(x))
        }
        Op::Where => choice(graph, x)
            .map(|first| operands[if first { 1 } else { 2 }])
            .filter(|&kept| graph.node(kept).shape == node.shape)
            .map(Simpler::Operand),
        _ => None,
    };
    found.or_else(|| reshape_later(graph, id, &operands))
}

fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// The range that constant indices run through.
fn consecutive(graph: &Graph, indices: NodeId, length: usize) -> Option<(usize, usize)> {
    let Op::Const(value) = &graph.node(indices).op else { return None };
    let Tensor::I64(indices) = &**value else { return None };
    let wrap = |&i: &i64| usize::try_from(if i < 0 { i + length as i64 } else { i }).ok();
    let from = wrap(indices.first()?)?;
    let ascending = indices.iter().enumerate().all(|(n, i)| wrap(i) == Some(from + n));
    let to = from + indices.len();
    (ascending && to <= length).then_some((from, to))
}

/// The value of a constant condition, if it is the same everywhere.
fn choice(graph: &Graph, condition: NodeId) -> Option<bool> {
    let Op::Const(value) = &graph.node(condition).op else { return None };
    let Tensor::Bool(condition) = &**value else { return None };
    let first = *condition.first()?;
    condition.iter().all(|&c| c == first).then_some(first)
}

/// An operation on rows whose first computed operand is a reshape that keeps the rows' length.
fn reshape_later(graph: &Graph, id: NodeId, operands: &[NodeId]) -> Option<Simpler> {
    let node = graph.node(id);
    let before = |id: NodeId| -> Option<NodeId> {
        let operand = *graph.operands(id).first()?;
        let (outer, inner) = (&graph.node(id).shape, &graph.node(operand).shape);
        let keeps_rows = outer.last().is_some() && outer.last() == inner.last();
        (matches!(graph.node(id).op, Op::Reshape) && keeps_rows).then_some(operand)
    };
    let slot = match node.op {
        Op::Linear | Op::Normalize { .. } | Op::LayerNormalization { .. } | Op::Unary(_) => 0,
        Op::MatMul
            if matches!(graph.node(operands[1]).op, Op::Weight { .. }) && graph.node(operands[1]).shape.len() == 2 =>
        {
            0
        }
        Op::Add | Op::Sub | Op::Mul | Op::Div => match known::split(graph, id) {
            Some((x, c, second)) => {
                let (inner, factor) = (graph.node(before(x)?), graph.node(c));
                let width = *inner.shape.last()?;
                if factor.shape.len() > inner.shape.len() || known::vector(graph, c, width).is_none() {
                    return None;
                }
                if graph.node(x).shape != node.shape {
                    return None;
                }
                if second { 0 } else { 1 }
            }
            None => {
                let (a, b) = (before(operands[0])?, before(operands[1])?);
                let fit = graph.node(a).shape == graph.node(b).shape
                    && graph.node(operands[0]).shape == graph.node(operands[1]).shape;
                return fit.then(|| Simpler::ReshapeLater { reshape: operands[0], operands: vec![a, b] });
            }
        },
        _ => return None,
    };
    let mut inner = operands.to_vec();
    inner[slot] = before(operands[slot])?;
    Some(Simpler::ReshapeLater { reshape: operands[slot], operands: inner })
}
