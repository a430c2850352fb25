//! Refuse a graph in which operations remain that no protocol computes.
//!
//! Operations that remain side by side are one obstacle: the first of them is what was not recognised, the others follow
//! from it. Obstacles of one kind are one entry of the report, with the first places.

use std::collections::HashMap;

use super::{Options, place};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::verify::check_fused;
use crate::graph::{Graph, NodeId, Op};

/// Operations that an entry names after its first.
const NAMED: usize = 8;

/// Runs the check.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    let mut left: HashMap<NodeId, String> = HashMap::new();
    for id in graph.order() {
        // A constant is named by what still reads it, unless only an output does.
        let skip = matches!(graph.node(id).op, Op::Const(_)) && !graph.readers(id).is_empty();
        if let (Err(fault), false) = (check_fused(graph, id), skip) {
            left.insert(id, fault);
        }
    }
    if left.is_empty() && graph.inputs.is_empty() {
        return Err(Diagnostic::new(Code::NoProtocol, "nothing of this model is secret")
            .because("No input is left that a client would keep to itself: every output is known when it is compiled.")
            .help("run it in the clear, or bind fewer inputs"));
    }
    Diagnostic::check(together(graph, &left).into_iter().map(|nodes| {
        let (first, others) = (nodes[0], &nodes[1..]);
        let name = graph.node(first).op.name();
        let title = match why(graph, first) {
            Some(what) => format!("no protocol for {what}"),
            None => format!("no protocol for `{name}`"),
        };
        let mut report = Diagnostic::new(Code::NoProtocol, title).at(place(graph, first));
        if why(graph, first).is_none() {
            report = report.because(format!("`{name}`: {}.", left[&first]));
        }
        if !others.is_empty() {
            let names: Vec<&str> = others.iter().take(NAMED).map(|&id| graph.node(id).op.name()).collect();
            let more = if others.len() > NAMED { ", .." } else { "" };
            report =
                report.because(format!("{} more around it depend on that: {}{more}.", others.len(), names.join(", ")));
        }
        report.help("`sscc ops` lists the constructs that are recognised; --emit graph prints what is around this one")
    }))
}

/// Sets of nodes that are connected with each other, each in the order of the graph, as are the sets.
fn together(graph: &Graph, left: &HashMap<NodeId, String>) -> Vec<Vec<NodeId>> {
    let mut sets: Vec<Vec<NodeId>> = Vec::new();
    for id in graph.order().into_iter().filter(|id| left.contains_key(id)) {
        let operands = graph.operands(id);
        let (joined, others): (Vec<_>, Vec<_>) =
            sets.into_iter().partition(|set: &Vec<NodeId>| set.iter().any(|node| operands.contains(node)));
        sets = others;
        sets.push(joined.into_iter().flatten().chain([id]).collect());
    }
    let order: HashMap<NodeId, usize> = graph.order().into_iter().zip(0..).collect();
    sets.iter_mut().for_each(|set| set.sort_by_key(|node| order[node]));
    sets.sort_by_key(|set| order[&set[0]]);
    sets
}

/// What an operation that is left was expected to be part of.
fn why(graph: &Graph, id: NodeId) -> Option<&'static str> {
    match graph.node(id).op {
        Op::Gather { .. } => Some("a lookup by secret indices in what is no embedding table"),
        Op::LayerNormalization { .. } => Some("a LayerNormalization whose gain and shift are not known"),
        _ => None,
    }
}
