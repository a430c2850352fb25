//! Provable bounds: how large a value can get, whatever the prompt, given the weights.
//!
//! A normalised row of length d has Euclidean norm at most sqrt(d), so an affine map after it is bounded by
//! Cauchy-Schwarz, column by column. Softmax weights are convex, GELU never exceeds its operand in absolute value, and
//! an affine map of a bounded row is bounded by the column's absolute sum. What grows without such a step in between
//! (the residual stream) adds up.

use std::collections::HashMap;

use crate::graph::{Function, Graph, NodeId, Op};

/// A bound on the absolute value of every element, per position of the last axis.
#[derive(Clone)]
pub struct Bound {
    /// Greatest absolute value of each channel.
    pub channels: Vec<f64>,
    /// Euclidean norm of a row, where a better bound is known than the channels give.
    norm: Option<f64>,
}

impl Bound {
    /// Greatest absolute value over all channels.
    pub fn greatest(&self) -> f64 {
        self.channels.iter().copied().fold(0.0, f64::max)
    }
}

/// Bounds of every node of a fused graph that has one.
pub fn provable(graph: &Graph) -> HashMap<NodeId, Bound> {
    let mut bounds: HashMap<NodeId, Bound> = HashMap::new();
    for id in graph.order() {
        if let Some(bound) = bound_of(graph, id, &bounds) {
            bounds.insert(id, bound);
        }
    }
    bounds
}

fn bound_of(graph: &Graph, id: NodeId, bounds: &HashMap<NodeId, Bound>) -> Option<Bound> {
    let node = graph.node(id);
    let operands = graph.operands(id);
    let operand = |slot: usize| operands.get(slot).and_then(|o| bounds.get(o));
    let plain = |channels| Some(Bound { channels, norm: None });
    match &node.op {
        Op::Weight { value, .. } => {
            let width = *value.shape().last()?;
            let mut channels = vec![0f64; width];
            for (i, &v) in value.iter().enumerate() {
                let c = &mut channels[i % width];
                *c = c.max(f64::from(v.abs()));
            }
            plain(channels)
        }
        Op::Embed => plain(operand(1)?.channels.clone()),
        Op::Normalize { .. } => {
            let norm = (*node.shape.last()? as f64).sqrt();
            Some(Bound { channels: vec![norm; *node.shape.last()?], norm: Some(norm) })
        }
        Op::Linear => {
            let x = operand(0)?;
            let Op::Weight { value: w, .. } = &graph.node(operands[1]).op else { return None };
            let columns = w.shape()[1];
            let mut squares = vec![0f64; columns];
            let mut sums = vec![0f64; columns];
            for (i, &v) in w.iter().enumerate() {
                let v = f64::from(v);
                squares[i % columns] += v * v;
                sums[i % columns] += v.abs() * x.channels[i / columns];
            }
            let bias = |j: usize| operands.get(2).map_or(0.0, |b| bounds[b].channels[j]);
            plain(
                (0..columns)
                    .map(|j| sums[j].min(x.norm.map_or(f64::INFINITY, |n| n * squares[j].sqrt())) + bias(j))
                    .collect(),
            )
        }
        Op::Add | Op::AddWeight | Op::AddRow => {
            let (x, y) = (operand(0)?, operand(1)?);
            let n = x.channels.len().max(y.channels.len());
            plain((0..n).map(|i| x.channels[i % x.channels.len()] + y.channels[i % y.channels.len()]).collect())
        }
        Op::Slice { axis, from, to } if *axis + 1 == node.shape.len() => {
            plain(operand(0)?.channels[*from..*to].to_vec())
        }
        Op::Unary(Function::Gelu(_)) => plain(operand(0)?.channels.clone()),
        Op::Attention { .. } => plain(operand(2)?.channels.clone()),
        Op::Slice { .. } | Op::Pick { .. } => operand(0).cloned(),
        Op::Reshape => {
            let x = operand(0)?;
            if node.shape.last() == Some(&x.channels.len()) {
                Some(x.clone())
            } else {
                plain(vec![x.greatest(); *node.shape.last()?])
            }
        }
        _ => None,
    }
}
