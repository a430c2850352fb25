//! Provable bounds: how large a value can get, whatever the prompt, given the weights.
//!
//! A normalised row of length d has Euclidean norm at most sqrt(d), so an affine map after it is bounded by
//! Cauchy-Schwarz, column by column. Softmax weights are convex, GELU never exceeds its operand in absolute value, and
//! an affine map of a bounded row is bounded by the column's absolute sum. What grows without such a step in between
//! (the residual stream) adds up.

use std::collections::HashMap;

use ndarray::{Array2, ArrayD, Axis};

use crate::calibrate::widen;
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

/// Of the residual stream, the greatest absolute value that table rows bring into it: a rare token's embedding may be many
/// times as large as those of calibration, and the stream keeps it to the end.
pub fn tables(graph: &Graph, bounds: &HashMap<NodeId, Bound>) -> HashMap<NodeId, f64> {
    let mut found: HashMap<NodeId, f64> = HashMap::new();
    for id in graph.order() {
        let operands = graph.operands(id);
        let of = |slot: usize| operands.get(slot).and_then(|o| found.get(o)).copied();
        let brought = match graph.node(id).op {
            Op::Embed => bounds.get(&id).map(Bound::greatest),
            Op::AddWeight | Op::AddRow => of(0).map(|x| x + bounds.get(&operands[1]).map_or(0.0, Bound::greatest)),
            Op::Add | Op::Sub if of(0).or(of(1)).is_some() => Some(of(0).unwrap_or(0.0) + of(1).unwrap_or(0.0)),
            Op::Neg | Op::Slice { .. } | Op::Transpose { .. } | Op::Reshape | Op::Expand | Op::Pick { .. } => of(0),
            _ => None,
        };
        if let Some(brought) = brought {
            found.insert(id, brought);
        }
    }
    found
}

fn bound_of(graph: &Graph, id: NodeId, bounds: &HashMap<NodeId, Bound>) -> Option<Bound> {
    let node = graph.node(id);
    let operands = graph.operands(id);
    let operand = |slot: usize| operands.get(slot).and_then(|o| bounds.get(o));
    let plain = |channels| Some(Bound { channels, norm: None });
    match &node.op {
        Op::Weight { value, .. } => plain(by_channel(value)?),
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
        Op::Add | Op::Sub | Op::AddWeight | Op::AddRow => {
            let (x, y) = (operand(0)?, operand(1)?);
            let n = x.channels.len().max(y.channels.len());
            plain((0..n).map(|i| x.channels[i % x.channels.len()] + y.channels[i % y.channels.len()]).collect())
        }
        Op::Slice { axis, from, to } if *axis + 1 == node.shape.len() => {
            plain(operand(0)?.channels[*from..*to].to_vec())
        }
        Op::Unary(f) => plain(operand(0)?.channels.iter().map(|&b| greatest(*f, b)).collect::<Option<_>>()?),
        Op::Neg => operand(0).cloned(),
        Op::Mul => {
            let (x, y) = (operand(0)?, operand(1)?);
            let n = x.channels.len().max(y.channels.len());
            plain((0..n).map(|i| x.channels[i % x.channels.len()] * y.channels[i % y.channels.len()]).collect())
        }
        Op::Const(value) => {
            let value = crate::graph::kernel::floats(value);
            plain(by_channel(&value)?)
        }
        Op::Rotary { partner, .. } => {
            let x = operand(0)?;
            let (cos, sin) = (constant(graph, operands[1])?, constant(graph, operands[2])?);
            let d = partner.len();
            // By Cauchy-Schwarz; a rotation's factors have length 1.
            let longest = |i: usize| {
                cos.iter().zip(&sin).skip(i).step_by(d).map(|(c, s)| f64::from(c.hypot(*s))).fold(0.0, f64::max)
            };
            let longest: Vec<f64> = (0..d).map(longest).collect();
            let turned = |i: usize| x.channels[i / d * d + partner[i % d]];
            plain((0..x.channels.len()).map(|i| x.channels[i].hypot(turned(i)) * longest[i % d]).collect())
        }
        Op::Attention { heads, kv_heads, .. } => {
            let v = operand(2)?;
            let width = v.channels.len() / kv_heads;
            let from = |h: usize| h / (heads / kv_heads) * width;
            plain((0..*heads).flat_map(|h| v.channels[from(h)..from(h) + width].to_vec()).collect())
        }
        Op::Concat { axis } if *axis + 1 == node.shape.len() => {
            let parts: Option<Vec<&Bound>> = (0..operands.len()).map(operand).collect();
            plain(parts?.into_iter().flat_map(|part| part.channels.clone()).collect())
        }
        Op::Concat { .. } => {
            let parts: Option<Vec<&Bound>> = (0..operands.len()).map(operand).collect();
            let parts = parts?;
            let n = parts[0].channels.len();
            let most = |i: usize| parts.iter().map(|p| p.channels[i]).fold(0.0, f64::max);
            if parts.iter().all(|p| p.channels.len() == n) { plain((0..n).map(most).collect()) } else { None }
        }
        Op::Expand if node.shape.last() == operands.first().and_then(|&o| graph.node(o).shape.last()) => {
            plain(operand(0)?.channels.clone())
        }
        Op::Transpose { perm } => match perm.last() {
            Some(last) if last + 1 == perm.len() => operand(0).cloned(),
            Some(_) => plain(vec![operand(0)?.greatest(); *node.shape.last()?]),
            None => None,
        },
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

fn constant(graph: &Graph, id: NodeId) -> Option<ArrayD<f32>> {
    match &graph.node(id).op {
        Op::Const(value) => Some(crate::graph::kernel::floats(value)),
        _ => None,
    }
}

/// Greatest absolute value of each position of the last axis.
fn by_channel(value: &ArrayD<f32>) -> Option<Vec<f64>> {
    let width = value.shape().last().copied().unwrap_or(1);
    let mut channels = vec![0f64; width];
    for (i, &v) in value.iter().enumerate() {
        let c = &mut channels[i % width];
        *c = c.max(f64::from(v.abs()));
    }
    (width > 0).then_some(channels)
}

/// Greatest |f(x)| for |x| <= bound, where that follows from the function's form.
fn greatest(f: Function, bound: f64) -> Option<f64> {
    use Function::*;
    Some(match f {
        // A gate between 0 and 1.
        Gelu(_) | Relu {} | HardSwish {} | Abs {} | ThresholdedRelu { .. } => bound,
        Swish { beta } if beta >= 0.0 => bound,
        LeakyRelu { alpha } => bound * f64::from(alpha.abs()).max(1.0),
        Sigmoid {} | Tanh {} | Erf {} | HardSigmoid { .. } | Sign {} | Sin {} | Cos {} => 1.0,
        Softsign {} => bound / (1.0 + bound),
        Clip { low, high } => bound.min(f64::from(low.abs().max(high.abs()))),
        Softplus {} | Exp {} => f.value(bound),
        Round {} | Floor {} | Ceil {} => bound + 1.0,
        _ => return None,
    })
    .filter(|bound| bound.is_finite())
}

/// Products of a matrix's rows with another's that the search below may take.
const MAX_PRODUCTS: usize = 1 << 34;

/// Least and greatest sum of squares that a row of a `Normalize` can have, where its operand is a row of the token table
/// plus a row of a position table: all pairs are looked at. What the client may ask for is then inside, however rare.
pub fn squares(graph: &Graph) -> HashMap<NodeId, (f64, f64)> {
    graph.order().into_iter().filter_map(|id| Some((id, squares_of(graph, id)?))).collect()
}

fn squares_of(graph: &Graph, id: NodeId) -> Option<(f64, f64)> {
    let Op::Normalize { centred, .. } = graph.node(id).op else { return None };
    let mut at = graph.operands(id)[0];
    let mut added: Option<Array2<f64>> = None;
    loop {
        let operands = graph.operands(at);
        match graph.node(at).op {
            Op::Embed => {
                let table = matrix(graph, operands[1])?;
                return pairs(&centre(table, centred), added.map(|rows| centre(rows, centred)).as_ref());
            }
            Op::AddWeight | Op::AddRow if added.is_none() => {
                added = Some(matrix(graph, operands[1])?);
                at = operands[0];
            }
            Op::Reshape if graph.node(at).shape.last() == graph.node(operands[0]).shape.last() => at = operands[0],
            _ => return None,
        }
    }
}

/// A weight as rows of its last axis.
fn matrix(graph: &Graph, id: NodeId) -> Option<Array2<f64>> {
    let Op::Weight { value, .. } = &graph.node(id).op else { return None };
    let width = *value.shape().last()?;
    let rows = value.len().checked_div(width)?;
    Array2::from_shape_vec((rows, width), value.iter().map(|&v| f64::from(v)).collect()).ok()
}

fn centre(mut rows: Array2<f64>, already: bool) -> Array2<f64> {
    if !already {
        for mut row in rows.rows_mut() {
            let mean = row.mean().unwrap_or(0.0);
            row.mapv_inplace(|v| v - mean);
        }
    }
    rows
}

/// Least and greatest |t + p|² over rows t and p.
fn pairs(tokens: &Array2<f64>, positions: Option<&Array2<f64>>) -> Option<(f64, f64)> {
    let squares = |rows: &Array2<f64>| rows.map_axis(Axis(1), |row| row.dot(&row));
    let mut range = None;
    let own = squares(tokens);
    match positions {
        None => own.iter().for_each(|&v| widen(&mut range, v)),
        Some(positions) => {
            if tokens.len().checked_mul(positions.nrows())? > MAX_PRODUCTS {
                return None;
            }
            let others = squares(positions);
            for (tokens, own) in tokens.axis_chunks_iter(Axis(0), 4096).zip(own.axis_chunks_iter(Axis(0), 4096)) {
                let products = tokens.dot(&positions.t());
                for ((t, p), product) in products.indexed_iter() {
                    widen(&mut range, own[t] + others[p] + 2.0 * product);
                }
            }
        }
    }
    // A row of zeros has no octave to be in.
    range.filter(|(lo, _)| *lo > 0.0)
}
