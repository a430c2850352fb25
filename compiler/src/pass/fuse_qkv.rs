//! Merge linear layers that read the same value.
//!
//! Rewrites  `attention(linear(x, a), linear(x, b), linear(x, c))`  into one layer with the weight `a | b | c`, of which q, k
//!           and v are slices; the same for k and v alone. Layers on x that write a residual stream (of post-norm blocks:
//!           `ride`) or an output are merged with those, or with the layer before an activation.
//! Why       A layer sends its operand once, masked: one message instead of three or four.
//! Needs     `fold_affine`, so that the factor on q is in the weight; `centre`, which centres whole layers.
//! Keeps     Real values, exactly.
//! Skips     A layer that has another reader.

use ndarray::{Array1, Array2, Axis, concatenate};

use super::{Options, known, rewrite, sole_reader};
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeId, Op};
use crate::lower::activation;

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    rewrite(graph, |graph, id| {
        let Some(layers) = find(graph, id) else { return Ok(false) };
        let merged = merge(graph, &layers);
        let axis = graph.node(merged).shape.len() - 1;
        let mut from = 0;
        for layer in layers {
            let to = from + graph.node(layer).shape[axis];
            let origin = graph.node(layer).origin.clone();
            let part = graph.push(Op::Slice { axis, from, to }, &[merged], &origin);
            graph.replace(layer, part);
            from = to;
        }
        Ok(true)
    })
}

/// Layers on one value, of which `id` reads one at least.
fn find(graph: &Graph, id: NodeId) -> Option<Vec<NodeId>> {
    let operands = match graph.node(id).op {
        Op::Attention { .. } => graph.operands(id),
        Op::Unary(f) if activation::is_gated(f) => graph.operands(id),
        _ => return None,
    };
    let source = |layer: NodeId| {
        let is_own = matches!(graph.node(layer).op, Op::Linear) && sole_reader(graph, layer).is_some();
        is_own.then(|| graph.operands(layer)[0])
    };
    operands.iter().find_map(|&first| {
        let x = source(first)?;
        let mut group: Vec<NodeId> = operands.iter().copied().filter(|&layer| source(layer) == Some(x)).collect();
        let mut beside: Vec<NodeId> = graph.readers(x).into_iter().filter(|&layer| writes(graph, layer)).collect();
        beside.sort_unstable();
        group.extend(beside);
        (group.len() > 1).then_some(group)
    })
}

/// Whether a node is a layer whose result is an output or a summand and nothing else.
fn writes(graph: &Graph, id: NodeId) -> bool {
    let readers = graph.readers(id);
    matches!(graph.node(id).op, Op::Linear) && readers.iter().all(|&reader| matches!(graph.node(reader).op, Op::Add))
}

fn merge(graph: &mut Graph, layers: &[NodeId]) -> NodeId {
    let parts: Vec<Vec<NodeId>> = layers.iter().map(|&layer| graph.operands(layer)).collect();
    let weights: Vec<Array2<f64>> = parts.iter().map(|p| known::matrix(graph, p[1])).collect();
    let biases: Vec<Array1<f64>> =
        parts.iter().zip(&weights).map(|(p, w)| known::bias(graph, p.get(2), w.ncols())).collect();
    let join = |slot: usize| {
        let names: Vec<String> = parts.iter().filter_map(|p| p.get(slot)).map(|&id| known::label(graph, id)).collect();
        names.join(" | ")
    };
    let (weight_name, bias_name) = (join(1), join(2));
    let has_bias = parts.iter().any(|p| p.len() == 3);
    let weight = concatenate(Axis(1), &weights.iter().map(|w| w.view()).collect::<Vec<_>>()).expect("equal rows");
    let bias = concatenate(Axis(0), &biases.iter().map(|b| b.view()).collect::<Vec<_>>()).expect("vectors");
    let mut operands = vec![parts[0][0], known::add_weight(graph, &weight_name, &weight)];
    if has_bias {
        operands.push(known::add_weight(graph, &bias_name, &bias));
    }
    let origin = graph.node(layers[0]).origin.clone();
    graph.push(Op::Linear, &operands, &origin)
}
