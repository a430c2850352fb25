//! Recognise layer normalisation and RMS normalisation.
//!
//! Rewrites  `layer_normalization(x, g, b)`  into  `normalize(x) * g + b`;
//!           `(x - mean x) / sqrt(mean (x - mean x)² + e)`  into  `normalize(x)`, and the same without the mean into its
//!           centred form. The square may be a power or a product, the quotient a product with a reciprocal, the root a
//!           power of one half.
//! Why       `fold_affine` then moves g and b into the linear layers that follow, whichever form the file has.
//! Needs     Stage `graph`.
//! Keeps     Shapes and real values.

use super::{Options, known, rewrite};
use crate::diagnostic::Diagnostic;
use crate::graph::{Function, Graph, NodeId, Op};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    rewrite(graph, |graph, id| {
        let origin = graph.node(id).origin.clone();
        let new = if let Op::LayerNormalization { epsilon } = graph.node(id).op {
            let operands = graph.operands(id);
            let mut new = graph.push(Op::Normalize { epsilon, centred: false }, &operands[..1], &origin);
            new = graph.push(Op::Mul, &[new, operands[1]], &origin);
            if let Some(&beta) = operands.get(2) {
                new = graph.push(Op::Add, &[new, beta], &origin);
            }
            new
        } else if let Some((x, op)) = find(graph, id) {
            graph.push(op, &[x], &origin)
        } else {
            return Ok(false);
        };
        graph.replace(id, new);
        Ok(true)
    })
}

/// Decides whether a decomposed normalisation of rows ends at `id`.
fn find(graph: &Graph, id: NodeId) -> Option<(NodeId, Op)> {
    let operands = graph.operands(id);
    let (rows, deviation) = match graph.node(id).op {
        Op::Div => (operands[0], operands[1]),
        Op::Mul => [[0, 1], [1, 0]].into_iter().find_map(|[i, j]| Some((operands[i], inverse(graph, operands[j])?)))?,
        _ => return None,
    };
    let variance = root(graph, deviation)?;
    if !matches!(graph.node(variance).op, Op::Add) {
        return None;
    }
    let (mean, epsilon, _) = known::split(graph, variance)?;
    let epsilon = known::scalar(graph, epsilon)? as f32;
    let squared = square(graph, row_mean(graph, mean)?)?;
    match (centred(graph, rows), centred(graph, squared)) {
        (Some(x), Some(y)) if x == y => Some((x, Op::Normalize { epsilon, centred: false })),
        _ if rows == squared => Some((rows, Op::Normalize { epsilon, centred: true })),
        _ => None,
    }
}

/// A node that is d or a known power of the variance, as its deviation d: 1/d is the node.
fn inverse(graph: &Graph, id: NodeId) -> Option<NodeId> {
    match (&graph.node(id).op, &graph.operands(id)[..]) {
        (Op::Unary(Function::Reciprocal {}), &[d]) => Some(d),
        (Op::Div, &[one, d]) if known::scalar(graph, one) == Some(1.0) => Some(d),
        _ => None,
    }
}

/// v, if the node is its square root.
fn root(graph: &Graph, id: NodeId) -> Option<NodeId> {
    match (&graph.node(id).op, &graph.operands(id)[..]) {
        (Op::Unary(Function::Sqrt {}), &[v]) => Some(v),
        (Op::Pow, &[v, half]) if known::scalar(graph, half) == Some(0.5) => Some(v),
        _ => None,
    }
}

/// x, if the node is x².
fn square(graph: &Graph, id: NodeId) -> Option<NodeId> {
    match (&graph.node(id).op, &graph.operands(id)[..]) {
        (Op::Pow, &[x, two]) if known::scalar(graph, two) == Some(2.0) => Some(x),
        (Op::Mul, &[x, y]) if x == y => Some(x),
        _ => None,
    }
}

/// x, if the node is its mean over the last axis.
fn row_mean(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let Op::ReduceMean { axes } = &graph.node(id).op else { return None };
    let x = graph.operands(id)[0];
    (axes[..] == [graph.node(x).shape.len() - 1]).then_some(x)
}

/// x, if the node is x less its mean.
fn centred(graph: &Graph, id: NodeId) -> Option<NodeId> {
    match (&graph.node(id).op, &graph.operands(id)[..]) {
        (Op::Sub, &[x, mean]) if row_mean(graph, mean) == Some(x) => Some(x),
        _ => None,
    }
}
