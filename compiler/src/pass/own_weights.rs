//! Give every reader of a weight a weight of its own.
//!
//! Rewrites  a weight with several readers into copies, which share the value in memory.
//! Why       Weights are masked one by one, and a mask serves one product.
//! Needs     All passes that change weights.
//! Keeps     Everything else.

use super::{Options, known};
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, Op};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    for id in graph.order() {
        for (slot, operand) in graph.operands(id).into_iter().enumerate() {
            let Op::Weight { name, value } = graph.node(operand).op.clone() else { continue };
            if graph.readers(operand).len() > 1 {
                let copy = known::add_value(graph, &name, value);
                graph.dag[copy].origin = graph.node(operand).origin.clone();
                graph.set_operand(id, slot, copy);
            }
        }
    }
    Ok(())
}
