//! What only moves elements: local, without error.

use ir::Value;
use ir::program::Public;
use ir::slots::POSITION;

use super::draft::Draft;
use super::{Context, Values, arithmetic};
use crate::graph::{NodeId, Op, Tensor};

/// Parts of an axis at known indices: slices of what is contiguous, joined.
pub fn gather(context: &Context, draft: &mut Draft, x: Value, id: NodeId, axis: usize) -> Value {
    let node = context.graph.node(id);
    let shape: Vec<u32> = node.shape.iter().map(|&d| d as u32).collect();
    let Op::Const(indices) = &context.graph.node(context.graph.operands(id)[1]).op else {
        panic!("a verified gather of a computed value has known indices")
    };
    let size = i64::from(draft.shape(x)[axis]);
    let indices: Vec<i64> = match &**indices {
        Tensor::I64(indices) => indices.iter().map(|&i| if i < 0 { i + size } else { i }).collect(),
        _ => panic!("indices are integers"),
    };
    let mut parts: Vec<Value> = Vec::new();
    for run in indices.chunk_by(|a, b| a + 1 == *b) {
        parts.push(draft.slice(x, axis as u32, run[0] as u32, run[run.len() - 1] as u32 + 1));
    }
    let joined = draft.concat(&parts, axis as u32);
    draft.reshape(joined, &shape)
}

/// Lowers a reshape, transpose, slice, concatenation, expansion or pick.
pub fn lower(context: &Context, draft: &mut Draft, values: &Values, id: NodeId) -> Value {
    let node = context.graph.node(id);
    let operands = context.graph.operands(id);
    let shape: Vec<u32> = node.shape.iter().map(|&d| d as u32).collect();
    let mut xs: Vec<Value> = operands.iter().map(|&o| arithmetic::operand(context, draft, values, o)).collect();
    match &node.op {
        Op::Slice { axis, from, to } => draft.slice(xs[0], *axis as u32, *from as u32, *to as u32),
        Op::Transpose { perm } => {
            let perm: Vec<u32> = perm.iter().map(|&p| p as u32).collect();
            draft.transpose(xs[0], &perm)
        }
        Op::Reshape => draft.reshape(xs[0], &shape),
        Op::Expand => draft.expand(xs[0], &shape),
        Op::Concat { axis } => {
            let scale = xs.iter().map(|&x| draft.scale(x)).min().expect("concatenation of something");
            for x in &mut xs {
                *x = draft.down_to(*x, scale);
            }
            draft.concat(&xs, *axis as u32)
        }
        Op::Pick { axis } => {
            let bound = draft.shape(xs[0])[*axis];
            draft.pick(xs[0], *axis as u32, Public { name: POSITION.to_owned(), bound })
        }
        other => panic!("{other:?} does more than move elements"),
    }
}
