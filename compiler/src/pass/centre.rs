//! Centre the residual stream at compile time.
//!
//! Rewrites  the tables, weights and biases whose sums make up a value that only normalisations read: every row less its
//!           mean (a matrix's along its columns). The normalisations become centred.
//! Why       A normalisation subtracts the mean of a row. If everything that is added to the stream has rows of mean zero,
//!           so has the stream, and the subtraction is free.
//! Needs     `fold_affine`, `last_position`.
//! Keeps     What the normalisations give, up to the rounding of weights.
//! Skips     A stream that anything else reads, or that is an output, or that something else than a linear layer or an
//!           embedding writes; the lowering then works with d·x - Σx.
//! Source    The identity is elementary: mean is linear, so a sum of rows of mean zero has mean zero.

use std::collections::BTreeSet;

use ndarray::{ArrayD, Axis};

use super::{Options, known};
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeId, Op};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    let mut done = BTreeSet::new();
    for id in graph.order() {
        if !matches!(graph.node(id).op, Op::Normalize { centred: false, .. }) || done.contains(&id) {
            continue;
        }
        let Some(stream) = stream(graph, graph.operands(id)[0]) else { continue };
        for &writer in &stream.writers {
            centre(graph, writer);
        }
        for &norm in &stream.norms {
            if let Op::Normalize { centred, .. } = &mut graph.dag[norm].op {
                *centred = true;
            }
        }
        done.extend(stream.norms);
    }
    Ok(())
}

/// The values that are added up with one another, seen from their ends.
#[derive(Default)]
struct Stream {
    /// Nodes with a weight whose rows end up in the stream.
    writers: BTreeSet<NodeId>,
    /// Normalisations that read it.
    norms: BTreeSet<NodeId>,
}

/// The stream around a value, if it can be centred. Reads, never writes.
fn stream(graph: &Graph, start: NodeId) -> Option<Stream> {
    let mut stream = Stream::default();
    let mut seen = BTreeSet::new();
    let mut stack = vec![start];
    while let Some(id) = stack.pop() {
        if !seen.insert(id) {
            continue;
        }
        if graph.outputs.iter().any(|output| output.1 == id) {
            return None;
        }
        let operands = graph.operands(id);
        match graph.node(id).op {
            Op::Embed | Op::Linear => drop(stream.writers.insert(id)),
            Op::AddWeight => {
                stream.writers.insert(id);
                stack.push(operands[0]);
            }
            Op::Add if operands.iter().all(|&o| graph.node(o).shape == graph.node(id).shape) => stack.extend(operands),
            _ if keeps_rows(graph, id) => stack.push(operands[0]),
            _ => return None,
        }
        for reader in graph.readers(id) {
            match graph.node(reader).op {
                Op::Normalize { centred: false, .. } => drop(stream.norms.insert(reader)),
                Op::Add | Op::AddWeight => stack.push(reader),
                _ if keeps_rows(graph, reader) => stack.push(reader),
                _ => return None,
            }
        }
    }
    Some(stream)
}

/// Whether an operation takes or moves whole rows.
fn keeps_rows(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let last = node.shape.len().saturating_sub(1);
    match &node.op {
        Op::Pick { axis } | Op::Slice { axis, .. } => *axis < last,
        Op::Reshape => node.shape.last() == graph.node(graph.operands(id)[0]).shape.last(),
        Op::Transpose { perm } => perm.last() == Some(&last),
        _ => false,
    }
}

/// Gives a writer centred weights.
fn centre(graph: &mut Graph, writer: NodeId) {
    let mut operands = graph.operands(writer);
    for weight in operands.iter_mut().skip(1) {
        let name = format!("{} centred", known::label(graph, *weight));
        let value = centred(known::tensor(graph, *weight).expect("a weight is known"));
        *weight = known::add_weight(graph, &name, &value);
    }
    let (op, origin) = (graph.node(writer).op.clone(), graph.node(writer).origin.clone());
    let new = graph.push(op, &operands, &origin);
    graph.replace(writer, new);
}

/// Every row less its mean.
fn centred(value: ArrayD<f64>) -> ArrayD<f64> {
    match value.ndim() {
        // One number for all columns, so it is their mean.
        0 => ArrayD::zeros(value.shape()),
        rank => {
            let axis = Axis(rank - 1);
            let mean = value.mean_axis(axis).map(|mean| mean.insert_axis(axis));
            mean.map_or(value.clone(), |mean| value - &mean)
        }
    }
}
