//! Compute logits for one position, and what is taken of a value before what is computed from it.
//!
//! Rewrites  with `--logits last`: the logits [batch, seq, vocabulary] into `pick` of them along `seq`, and a model's own
//!           slice of the last position into `pick`. Always: moves a `pick`, or a slice of positions, above operations on
//!           rows that nothing else reads in the end.
//! Why       The language-model head is the greatest product of the model, and one row of it is wanted. Nor does the last
//!           layer need more, from the result of its attention on.
//! Needs     `fuse_linear` and `simplify`.
//! Keeps     Real values at the picked position. The dimension becomes 1.

use std::collections::HashMap;

use super::{Logits, Options, known};
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
    for id in graph.order() {
        if !graph.dag.contains_node(id) {
            continue; // What another choice left behind.
        }
        let behind = match graph.node(id).op {
            Op::Pick { axis } | Op::Slice { axis, .. } if axis + 1 < graph.node(id).shape.len() => {
                serving(graph, id, axis)
            }
            _ => continue,
        };
        if !behind.is_empty() {
            move_up(graph, id, &behind);
        }
    }
    Ok(())
}

/// The operations on rows of which nothing is read but what `choice` chooses, operands before readers, each with the slots
/// whose rows it takes.
fn serving(graph: &Graph, choice: NodeId, axis: usize) -> Vec<(NodeId, Vec<usize>)> {
    let mut found: Vec<(NodeId, Vec<usize>)> = Vec::new();
    for id in graph.order().into_iter().rev() {
        let serves = |reader: &NodeId| *reader == choice || found.iter().any(|f| f.0 == *reader);
        let readers = graph.readers(id);
        if readers.is_empty() || !readers.iter().all(serves) || graph.outputs.iter().any(|output| output.1 == id) {
            continue;
        }
        if let Some(slots) = row_slots(graph, id, axis) {
            found.push((id, slots));
        }
    }
    found.reverse();
    found
}

/// Makes `choice` before the operations `behind` it, instead of after.
fn move_up(graph: &mut Graph, choice: NodeId, behind: &[(NodeId, Vec<usize>)]) {
    let chosen = graph.node(choice).clone();
    let (Op::Pick { axis } | Op::Slice { axis, .. }) = chosen.op else { panic!("a choice of positions") };
    let mut moved: HashMap<NodeId, NodeId> = HashMap::new();
    for (id, slots) in behind {
        let mut operands = graph.operands(*id);
        for &slot in slots {
            let operand = operands[slot];
            operands[slot] =
                *moved.entry(operand).or_insert_with(|| graph.push(chosen.op.clone(), &[operand], &chosen.origin));
        }
        let node = graph.node(*id).clone();
        let new = match node.op {
            Op::Reshape => {
                let mut shape = node.shape;
                shape[axis] = chosen.shape[axis];
                graph.push_reshape(operands[0], &shape, &node.origin)
            }
            op => graph.push(op, &operands, &node.origin),
        };
        moved.insert(*id, new);
    }
    graph.replace(choice, moved[&graph.operands(choice)[0]]);
    graph.sweep();
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
        Op::Linear | Op::Normalize { .. } | Op::Unary(_) | Op::Neg => Some(0),
        Op::Add | Op::Sub | Op::Mul | Op::Div => {
            let (x, numbers, second) = known::split(graph, id)?;
            let width = *graph.node(id).shape.last()?;
            known::vector(graph, numbers, width)?;
            (graph.node(x).shape == graph.node(id).shape).then_some(usize::from(!second))
        }
        _ => None,
    }
}

/// The slots whose rows an operation maps one by one to the result's, positions being along `axis` of both.
fn row_slots(graph: &Graph, id: NodeId, axis: usize) -> Option<Vec<usize>> {
    let operands = graph.operands(id);
    let shape = &graph.node(id).shape;
    match graph.node(id).op {
        Op::Add if known::split(graph, id).is_none() => {
            operands.iter().all(|&o| graph.node(o).shape == *shape).then(|| vec![0, 1])
        }
        Op::Reshape => {
            let inner = &graph.node(operands[0]).shape;
            (axis + 1 < inner.len() && inner[..=axis] == shape[..=axis]).then(|| vec![0])
        }
        _ => row_wise(graph, id).map(|slot| vec![slot]),
    }
}
