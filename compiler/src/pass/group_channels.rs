//! Make the channels of an activation that need equal periods contiguous.
//!
//! Rewrites  gelu(x @ w1 + b1) @ w2  into  gelu(x @ w1·p + b1·p) @ pᵀ·w2,  p a permutation.
//! Why       Few channels of a trained model have wide ranges; the others make do with a third of the material.
//! Needs     Stage `fused`, after calibration, whose ranges and bounds are permuted along.
//! Keeps     Outputs, exactly.
//! Skips     An activation whose operand or result has another reader, or whose neighbours are not both `Linear`. The first
//!           may have other columns, which other nodes take.
//!
//! The program shows how many channels need each period, not which they were.

use std::sync::Arc;

use ndarray::{ArrayD, Axis};

use crate::calibrate::Ranges;
use crate::graph::{Graph, NodeId, Op};
use crate::lower::activation;

/// Sorts channels by period, wherever an activation has channels of several.
pub fn run(graph: &mut Graph, ranges: &mut Ranges) {
    for id in graph.order() {
        let Some(Neighbours { x, first, from, second }) = neighbours(graph, id) else { continue };
        let periods = activation::periods(ranges, id, x);
        let mut order: Vec<usize> = (0..periods.len()).collect();
        order.sort_by_key(|&channel| periods[channel]);
        if order.is_sorted() {
            continue;
        }
        let columns = *graph.node(first).shape.last().expect("rows");
        let mut wide: Vec<usize> = (0..columns).collect();
        wide.splice(from..from + order.len(), order.iter().map(|channel| from + channel));
        let operands = graph.operands(first);
        for &weight in &operands[1..] {
            let last = graph.node(weight).shape.len() - 1;
            permute(graph, weight, Axis(last), &wide);
        }
        let weight = graph.operands(second)[1];
        permute(graph, weight, Axis(0), &order);
        let seen = ranges.seen.get_mut(&id).expect("calibration saw every activation");
        seen.channels = order.iter().map(|&c| seen.channels[c]).collect();
        let mut nodes = vec![(first, &wide), (id, &order)];
        nodes.extend((x != first).then_some((x, &order)));
        for (node, order) in nodes {
            if let Some(bound) = ranges.bounds.get_mut(&node) {
                bound.channels = order.iter().map(|&c| bound.channels[c]).collect();
            }
        }
    }
}

/// What lies around an activation.
struct Neighbours {
    /// Its operand.
    x: NodeId,
    /// The product that computes it.
    first: NodeId,
    /// At which of that product's columns it begins.
    from: usize,
    /// The product that reads the activation.
    second: NodeId,
}

/// The products before and after an activation, if it alone lies between them.
fn neighbours(graph: &Graph, id: NodeId) -> Option<Neighbours> {
    let Op::Unary(f) = graph.node(id).op else { return None };
    if !activation::is_gated(f) {
        return None;
    }
    let [x] = graph.operands(id)[..] else { return None };
    let [second] = graph.readers(id)[..] else { return None };
    let columns = |id: NodeId| match graph.node(id).op {
        Op::Slice { axis, from, to } if axis + 1 == graph.node(id).shape.len() => Some((from, to)),
        _ => None,
    };
    let (first, from, to) = match columns(x) {
        Some((from, to)) => (graph.operands(x)[0], from, to),
        None => (x, 0, *graph.node(x).shape.last()?),
    };
    let linear = |id: NodeId| graph.node(id).op == Op::Linear;
    let elsewhere = |reader: &NodeId| columns(*reader).is_some_and(|other| other.1 <= from || to <= other.0);
    let apart = |reader: &NodeId| *reader == x || *reader == id || elsewhere(reader);
    let alone = graph.readers(x).len() == 1
        && graph.readers(first).iter().all(apart)
        && graph.outputs.iter().all(|output| ![x, first, id].contains(&output.1))
        && graph.operands(second)[0] == id;
    let private = |id: NodeId| graph.operands(id)[1..].iter().all(|&w| graph.readers(w).len() == 1);
    (linear(first) && linear(second) && alone && private(first) && private(second)).then_some(Neighbours {
        x,
        first,
        from,
        second,
    })
}

fn permute(graph: &mut Graph, weight: NodeId, axis: Axis, order: &[usize]) {
    let Op::Weight { value, .. } = &mut graph.dag[weight].op else { panic!("operands of a Linear are weights") };
    let permuted: ArrayD<f32> = value.select(axis, order);
    *value = Arc::new(permuted);
}
