//! Compute logits for one position, and what is taken of a value before what is computed from it.
//!
//! Rewrites  with `--logits last`: the logits [batch, seq, vocabulary] into `pick` of them along `seq`, and a model's own
//!           slice of the last position into `pick`. Always: moves a `pick`, or a slice of positions, above operations on
//!           rows that have no other reader.
//! Why       The language-model head is the greatest product of the model, and one row of it is wanted.
//! Needs     `fuse_linear` and `simplify`.
//! Keeps     Real values at the picked position. The dimension becomes 1.

use super::{Logits, Options, known, rewrite, sole_reader};
use crate::diagnostic::Diagnostic;
use crate::graph::{DType, Graph, NodeId, Op};

/// Axis of the positions in a logits tensor.
const POSITIONS: usize = 1;

/// Runs the pass.
pub fn run(graph: &mut Graph, options: &Options) -> Result<(), Diagnostic> {
    if options.logits == Logits::Last {
        pick_last(graph);
        graph.sweep();
    }
    rewrite(graph, |graph, id| {
        let Some((above, operands)) = find(graph, id) else { return Ok(false) };
        let (op, shape) = (graph.node(id).op.clone(), graph.node(id).shape.clone());
        let (origin, above_origin) = (graph.node(id).origin.clone(), graph.node(above).origin.clone());
        let mut moved = graph.operands(above);
        for &slot in &operands {
            moved[slot] = graph.push(op.clone(), &[moved[slot]], &origin);
        }
        let new = match graph.node(above).op.clone() {
            Op::Reshape => graph.push_reshape(moved[0], &shape, &above_origin),
            above => graph.push(above, &moved, &above_origin),
        };
        graph.replace(id, new);
        Ok(true)
    })
}

/// Picks one position of the logits, unless the model does. Logits are the output of that name, else the first output if a
/// linear layer ends there: an encoder's hidden states are left alone.
fn pick_last(graph: &mut Graph) {
    let named = graph.outputs.iter().position(|output| output.0 == "logits");
    let heads = |id: NodeId| {
        let id = if matches!(graph.node(id).op, Op::Reshape) { graph.operands(id)[0] } else { id };
        matches!(graph.node(id).op, Op::Linear)
    };
    let first = graph.outputs.first().filter(|output| heads(output.1)).map(|_| 0);
    let Some(output) = named.or(first) else { return };
    let logits = graph.outputs[output].1;
    if graph.node(logits).dtype != DType::F32 || graph.node(logits).shape.len() <= POSITIONS {
        return;
    }
    if let Some((slice, axis)) = own_slice(graph, logits) {
        let (operand, origin) = (graph.operands(slice)[0], graph.node(slice).origin.clone());
        let pick = graph.push(Op::Pick { axis }, &[operand], &origin);
        graph.replace(slice, pick);
    } else if graph.node(logits).shape.len() == 3 && graph.node(logits).shape[POSITIONS] > 1 {
        let origin = graph.node(logits).origin.clone();
        let pick = graph.push(Op::Pick { axis: POSITIONS }, &[logits], &origin);
        graph.outputs[output].1 = pick;
    }
}

/// The slice of the last position from which the logits are computed row by row.
fn own_slice(graph: &Graph, logits: NodeId) -> Option<(NodeId, usize)> {
    let mut at = logits;
    loop {
        let node = graph.node(at);
        let operands = graph.operands(at);
        if let Op::Slice { axis, from, to } = node.op {
            let length = graph.node(operands[0]).shape[axis];
            return (axis == POSITIONS && node.shape.len() == 3 && from + 1 == length && to == length && from > 0)
                .then_some((at, axis));
        }
        at = match node.op {
            Op::Reshape => operands[0],
            _ => operands[row_wise(graph, at)?],
        };
    }
}

/// The slot of the operand whose rows an operation maps one by one to the result's.
fn row_wise(graph: &Graph, id: NodeId) -> Option<usize> {
    match graph.node(id).op {
        Op::Linear | Op::Normalize { .. } | Op::Gelu(_) | Op::Neg | Op::Tanh | Op::Relu => Some(0),
        Op::Add | Op::Sub | Op::Mul | Op::Div => {
            let (x, numbers, second) = known::split(graph, id)?;
            let width = *graph.node(id).shape.last()?;
            known::vector(graph, numbers, width)?;
            (graph.node(x).shape == graph.node(id).shape).then_some(usize::from(!second))
        }
        _ => None,
    }
}

/// Decides whether the choice of positions `id` can move above its operand: that operand, and the slots to choose from.
fn find(graph: &Graph, id: NodeId) -> Option<(NodeId, Vec<usize>)> {
    let axis = match graph.node(id).op {
        Op::Pick { axis } | Op::Slice { axis, .. } if axis + 1 < graph.node(id).shape.len() => axis,
        _ => return None,
    };
    let above = graph.operands(id)[0];
    sole_reader(graph, above)?;
    let operands = graph.operands(above);
    let shape = &graph.node(above).shape;
    match graph.node(above).op {
        // A sum of two computed values moves only where both serve it alone, else one would be computed twice.
        Op::Add if known::split(graph, above).is_none() => operands
            .iter()
            .all(|&o| sole_reader(graph, o).is_some() && graph.node(o).shape == *shape)
            .then(|| (above, vec![0, 1])),
        Op::Reshape => {
            let inner = &graph.node(operands[0]).shape;
            (axis + 1 < inner.len() && inner[..=axis] == shape[..=axis]).then(|| (above, vec![0]))
        }
        _ => row_wise(graph, above).map(|slot| (above, vec![slot])),
    }
}
