//! Make the channels of an activation that need equal periods contiguous.
//!
//! Rewrites  gelu(x @ w1 + b1) @ w2  into  gelu(x @ w1·p + b1·p) @ pᵀ·w2,  p a permutation.
//! Why       Few channels of a trained model have wide ranges; the others make do with a third of the material.
//! Needs     Stage `fused`, after calibration, whose ranges and bounds are permuted along.
//! Keeps     Outputs, exactly.
//! Skips     An activation whose operand or result has another reader, or whose neighbours are not both `Linear`.
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
        let Some((first, second)) = neighbours(graph, id) else { continue };
        let periods = activation::periods(ranges, id, first);
        let mut order: Vec<usize> = (0..periods.len()).collect();
        order.sort_by_key(|&channel| periods[channel]);
        if order.is_sorted() {
            continue;
        }
        let operands = graph.operands(first);
        for &weight in &operands[1..] {
            let last = graph.node(weight).shape.len() - 1;
            permute(graph, weight, Axis(last), &order);
        }
        let weight = graph.operands(second)[1];
        permute(graph, weight, Axis(0), &order);
        let seen = ranges.seen.get_mut(&id).expect("calibration saw every activation");
        seen.channels = order.iter().map(|&c| seen.channels[c]).collect();
        for node in [first, id] {
            if let Some(bound) = ranges.bounds.get_mut(&node) {
                bound.channels = order.iter().map(|&c| bound.channels[c]).collect();
            }
        }
    }
}

/// The products before and after an activation, if it alone lies between them.
fn neighbours(graph: &Graph, id: NodeId) -> Option<(NodeId, NodeId)> {
    let Op::Unary(f) = graph.node(id).op else { return None };
    if !activation::is_gated(f) {
        return None;
    }
    let [first] = graph.operands(id)[..] else { return None };
    let [second] = graph.readers(id)[..] else { return None };
    let linear = |id: NodeId| graph.node(id).op == Op::Linear;
    let alone = graph.readers(first).len() == 1 && graph.operands(second)[0] == id;
    let private = |id: NodeId| graph.operands(id)[1..].iter().all(|&w| graph.readers(w).len() == 1);
    (linear(first) && linear(second) && alone && private(first) && private(second)).then_some((first, second))
}

fn permute(graph: &mut Graph, weight: NodeId, axis: Axis, order: &[usize]) {
    let Op::Weight { value, .. } = &mut graph.dag[weight].op else { panic!("operands of a Linear are weights") };
    let permuted: ArrayD<f32> = value.select(axis, order);
    *value = Arc::new(permuted);
}
