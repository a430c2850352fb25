//! Refuse a graph in which operations remain that no protocol computes, and name them all.

use super::{Options, place};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::verify::check_fused;
use crate::graph::{Graph, NodeId, Op};

/// Runs the check.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    let mut places = Vec::new();
    for id in graph.order() {
        // A constant is named by what still reads it, unless only an output does.
        let skip = matches!(graph.node(id).op, Op::Const(_)) && !graph.readers(id).is_empty();
        if let (Err(fault), false) = (check_fused(graph, id), skip) {
            places.push(format!("{}: {}", place(graph, id), why(graph, id).unwrap_or(&fault)));
        }
    }
    if places.is_empty() && graph.inputs.is_empty() {
        return Err(Diagnostic::new(Code::NoProtocol, "nothing of this model is secret")
            .because("No input is left that a client would keep to itself: every output is known when it is compiled.")
            .help("run it in the clear, or bind fewer inputs"));
    }
    if places.is_empty() {
        return Ok(());
    }
    let report = Diagnostic::new(Code::NoProtocol, format!("no protocol for {} of the operations", places.len()));
    Err(places.into_iter().fold(report, Diagnostic::at))
}

/// What an operation that is left was expected to be part of.
fn why(graph: &Graph, id: NodeId) -> Option<&'static str> {
    match graph.node(id).op {
        Op::Gather { .. } => Some("its indices are secret, and its data is no table of an embedding"),
        Op::LayerNormalization { .. } => Some("its gain and shift are not known when the model is compiled"),
        _ => None,
    }
}
