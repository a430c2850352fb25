//! Recognise a product with a weight matrix, with its bias.
//!
//! Rewrites  `mat_mul(x, w)`  into  `linear(x, w)`,  and  `linear(x, w) + b`  (in either order) into  `linear(x, w, b)`.
//! Why       The server multiplies by its own weight without an opening; the bias it adds to its own share.
//! Needs     `simplify`, which has moved reshapes out from between.
//! Keeps     Shapes and real values.
//! Skips     A weight that is no matrix; a sum whose product has a second reader.

use super::{Options, known, rewrite, sole_reader};
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeId, Op};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    rewrite(graph, |graph, id| {
        let Some((operands, named)) = find(graph, id) else { return Ok(false) };
        let origin = graph.node(named).origin.clone();
        let new = graph.push(Op::Linear, &operands, &origin);
        graph.replace(id, new);
        Ok(true)
    })
}

/// The operands of the linear layer that ends at `id`, and the node that names it.
fn find(graph: &Graph, id: NodeId) -> Option<(Vec<NodeId>, NodeId)> {
    let is_weight =
        |id: NodeId, rank: usize| matches!(graph.node(id).op, Op::Weight { .. }) && graph.node(id).shape.len() == rank;
    match graph.node(id).op {
        Op::MatMul => {
            let operands = graph.operands(id);
            let fits = is_weight(operands[1], 2) && !known::is_known(graph, operands[0]);
            (fits && graph.node(operands[0]).shape.len() > 1).then_some((operands, id))
        }
        Op::Add => {
            let (linear, bias, _) = known::split(graph, id)?;
            let mut operands = graph.operands(linear);
            let fits = matches!(graph.node(linear).op, Op::Linear)
                && operands.len() == 2
                && is_weight(bias, 1)
                && graph.node(bias).shape.last() == graph.node(linear).shape.last();
            sole_reader(graph, linear).filter(|_| fits)?;
            operands.push(bias);
            Some((operands, linear))
        }
        _ => None,
    }
}
