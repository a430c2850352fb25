//! Refuse a graph in which operations remain that no protocol computes, and name them all.

use super::{Options, place};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::verify::check_fused;
use crate::graph::{Function, Graph, NodeId, Op};

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
    if places.is_empty() {
        return Ok(());
    }
    let report = Diagnostic::new(Code::NoProtocol, format!("no protocol for {} of the operations", places.len()));
    Err(places.into_iter().fold(report, Diagnostic::at))
}

/// What an operation that is left was expected to be part of.
fn why(graph: &Graph, id: NodeId) -> Option<&'static str> {
    let reads = |wanted: fn(&Op) -> bool| graph.operands(id).iter().any(|&o| wanted(&graph.node(o).op));
    Some(match graph.node(id).op {
        Op::Mul | Op::Add if reads(|op| matches!(op, Op::Normalize { .. })) => {
            "the gain or shift of a normalisation that others than linear layers read"
        }
        Op::Mul | Op::Div if reads(|op| matches!(op, Op::Const(_) | Op::Weight { .. })) => {
            "a factor with no linear layer beside it to fold it into"
        }
        Op::Add if reads(|op| matches!(op, Op::Const(_) | Op::Weight { .. })) => {
            "a summand with no linear layer beside it to fold it into"
        }
        Op::Softmax { .. } => "no attention around it",
        Op::MatMul => "a product of two secret values outside attention",
        Op::Gather { .. } => "no lookup of rows of a weight matrix",
        Op::ReduceMean { .. } | Op::Unary(Function::Sqrt {}) | Op::Pow => "no normalisation around it",
        Op::Unary(Function::Tanh {}) | Op::Unary(Function::Erf {}) => "no GELU around it",
        _ => return None,
    })
}
