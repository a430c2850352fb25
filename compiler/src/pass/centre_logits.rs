//! Take from all logits their mean.
//!
//! Rewrites  x @ w + b, the logits, into  x @ (w - mean of its columns) + (b - mean of b).
//! Why       A model may have learnt any common offset, -100 in GPT-2; the greatest logit stays the greatest, and without
//!           the offset it is compared at less width.
//! Needs     Stage `fused`.
//! Keeps     Differences of logits.
//! Skips     An output that no linear layer computes.

use std::sync::Arc;

use ndarray::{ArrayD, Axis, Zip};

use super::known;
use crate::graph::{Graph, NodeId, Op};

/// Centres the output that `logits` computes.
pub fn run(graph: &mut Graph, logits: NodeId) {
    let Some(linear) = linear(graph, logits) else { return };
    let operands = graph.operands(linear);
    let mut w = known::floats(graph, operands[1]);
    let tokens = w.shape()[1];
    // Without tokens there is nothing to centre.
    if tokens == 0 {
        return;
    }
    let means = w.fold_axis(Axis(1), 0f64, |sum, &v| sum + f64::from(v)).insert_axis(Axis(1)) / tokens as f64;
    Zip::from(&mut w).and_broadcast(&means).for_each(|v, mean| *v = (f64::from(*v) - mean) as f32);
    set(graph, operands[1], Arc::new(w));
    if let Some(&bias) = operands.get(2) {
        let b = known::bias(graph, Some(&bias), tokens);
        let b = &b - b.mean().expect("a model has tokens");
        set(graph, bias, Arc::new(b.mapv(|v| v as f32).into_dyn()));
    }
}

/// The linear layer whose result an output is, in whatever shape.
fn linear(graph: &Graph, mut id: NodeId) -> Option<NodeId> {
    loop {
        match graph.node(id).op {
            Op::Linear => return Some(id),
            Op::Reshape => id = graph.operands(id)[0],
            _ => return None,
        }
    }
}

fn set(graph: &mut Graph, weight: NodeId, centred: Arc<ArrayD<f32>>) {
    let Op::Weight { value, .. } = &mut graph.dag[weight].op else { panic!("operands of a Linear are weights") };
    *value = centred;
}
