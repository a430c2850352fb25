//! Fold known factors and summands into the weights of the linear layers beside them.
//!
//! Rewrites  `linear(x * g + b, w, c)`  into  `linear(x, g∘w, b·w + c)`  and  `linear(x, w, c) * g + b`  into
//!           `linear(x, w∘g, c∘g + b)`, where g and b vary along rows only; the latter also when g stands behind a slice
//!           of the layer's columns that no other slice overlaps. Two linear layers in a row become one where that is no
//!           more work.
//! Why       The gain and shift of a normalisation, and the factor on attention scores, cost nothing then.
//! Needs     `fuse_norm`, `fuse_linear`, `fuse_attention`; `simplify`, so that no reshape stands between.
//! Keeps     Shapes; real values, up to the rounding of products of weights (formed in float64).
//! Skips     A factor behind a layer that has another reader.

use std::sync::Arc;

use super::{Options, known, rewrite, sole_reader};
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeId, Op};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    rewrite(graph, |graph, id| {
        let Some(fold) = find(graph, id) else { return Ok(false) };
        match fold {
            Fold::Behind { linear, map } => {
                let new = behind(graph, linear, &map);
                graph.replace(id, new);
            }
            Fold::BehindSlice { linear, slice, map } => {
                let new = behind(graph, linear, &map);
                graph.replace(linear, new);
                graph.replace(id, slice);
            }
            Fold::Before { operand, map } => {
                let new = before(graph, id, operand, &map);
                graph.replace(id, new);
            }
            Fold::Compose { first } => {
                let new = compose(graph, first, id);
                graph.replace(id, new);
            }
        }
        Ok(true)
    })
}

enum Fold {
    Behind { linear: NodeId, map: Map },
    BehindSlice { linear: NodeId, slice: NodeId, map: Map },
    Before { operand: NodeId, map: Map },
    Compose { first: NodeId },
}

/// x -> x * mul + add, along rows.
pub(super) struct Map {
    pub(super) mul: Vec<f64>,
    pub(super) add: Vec<f64>,
    /// Name of the numbers.
    pub(super) label: String,
}

impl Map {
    fn is_shift(&self) -> bool {
        self.mul.iter().all(|&m| m == 1.0)
    }

    fn is_gain(&self) -> bool {
        self.add.iter().all(|&a| a == 0.0)
    }
}

fn find(graph: &Graph, id: NodeId) -> Option<Fold> {
    let is_linear = |id: NodeId| matches!(graph.node(id).op, Op::Linear);
    if is_linear(id) {
        let x = graph.operands(id)[0];
        if let Some((operand, map)) = affine(graph, x) {
            return Some(Fold::Before { operand, map });
        }
        return (is_linear(x) && sole_reader(graph, x).is_some() && composes(graph, x, id))
            .then_some(Fold::Compose { first: x });
    }
    let (operand, map) = affine(graph, id)?;
    sole_reader(graph, operand)?;
    if is_linear(operand) {
        return Some(Fold::Behind { linear: operand, map });
    }
    let (from, to) = column_slice(graph, operand)?;
    let linear = graph.operands(operand)[0];
    let apart = |reader: NodeId| {
        reader == operand || column_slice(graph, reader).is_some_and(|(start, end)| end <= from || to <= start)
    };
    let is_output = graph.outputs.iter().any(|output| output.1 == linear);
    if !is_linear(linear) || is_output || !graph.readers(linear).into_iter().all(apart) {
        return None;
    }
    let width = *graph.node(linear).shape.last()?;
    let mut wide = Map { mul: vec![1.0; width], add: vec![0.0; width], label: map.label };
    wide.mul[from..to].copy_from_slice(&map.mul);
    wide.add[from..to].copy_from_slice(&map.add);
    Some(Fold::BehindSlice { linear, slice: operand, map: wide })
}

/// The columns that a slice takes.
fn column_slice(graph: &Graph, id: NodeId) -> Option<(usize, usize)> {
    match graph.node(id).op {
        Op::Slice { axis, from, to } if axis + 1 == graph.node(id).shape.len() => Some((from, to)),
        _ => None,
    }
}

/// Reads a node as a map of its computed operand.
pub(super) fn affine(graph: &Graph, id: NodeId) -> Option<(NodeId, Map)> {
    let node = graph.node(id);
    let width = *node.shape.last()?;
    let zeros = || vec![0.0; width];
    if matches!(node.op, Op::Neg) {
        return Some((graph.operands(id)[0], Map { mul: vec![-1.0; width], add: zeros(), label: "-1".into() }));
    }
    if !matches!(node.op, Op::Add | Op::Sub | Op::Mul | Op::Div) {
        return None;
    }
    let (operand, numbers, second) = known::split(graph, id)?;
    let values = known::vector(graph, numbers, width)?;
    if graph.node(operand).shape != node.shape {
        return None;
    }
    let label = known::label(graph, numbers);
    let negated = |v: &[f64]| v.iter().map(|x| -x).collect::<Vec<_>>();
    let map = match (&node.op, second) {
        (Op::Add, _) => Map { mul: vec![1.0; width], add: values, label },
        (Op::Sub, true) => Map { mul: vec![1.0; width], add: negated(&values), label },
        (Op::Sub, false) => Map { mul: vec![-1.0; width], add: values, label },
        (Op::Mul, _) => Map { mul: values, add: zeros(), label },
        (Op::Div, true) if values.iter().all(|&v| v != 0.0) => {
            Map { mul: values.iter().map(|v| 1.0 / v).collect(), add: zeros(), label: format!("1/{label}") }
        }
        _ => return None,
    };
    Some((operand, map))
}

/// The layer with the map applied to its result.
fn behind(graph: &mut Graph, linear: NodeId, map: &Map) -> NodeId {
    let mut operands = graph.operands(linear);
    let name = known::label(graph, operands[1]);
    let mul = ndarray::aview1(&map.mul);
    let bias = known::bias(graph, operands.get(2), map.mul.len()) * mul + ndarray::aview1(&map.add);
    let named = match operands.get(2) {
        Some(&bias) if map.is_gain() => format!("{} * {}", known::label(graph, bias), map.label),
        Some(&bias) => format!("{} + {}", known::label(graph, bias), map.label),
        None => format!("bias {}", map.label),
    };
    if !map.is_shift() {
        let weight = known::times(graph, operands[1], mul.into_dyn());
        operands[1] = known::add_value(graph, &format!("{name} * {}", map.label), Arc::new(weight));
    }
    finish(graph, linear, operands, bias, &named)
}

/// The layer `linear`, of which the operand is a map of `operand`, on that operand itself.
fn before(graph: &mut Graph, linear: NodeId, operand: NodeId, map: &Map) -> NodeId {
    let mut operands = graph.operands(linear);
    operands[0] = operand;
    let (weight, name) = (operands[1], known::label(graph, operands[1]));
    if !map.is_shift() {
        let column = ndarray::aview1(&map.mul).insert_axis(ndarray::Axis(1));
        let scaled = known::times(graph, weight, column.into_dyn());
        operands[1] = known::add_value(graph, &format!("{name} * {}", map.label), Arc::new(scaled));
    }
    if map.is_gain() {
        let origin = graph.node(linear).origin.clone();
        return graph.push(Op::Linear, &operands, &origin);
    }
    let weight = known::matrix(graph, weight);
    let bias = known::bias(graph, operands.get(2), weight.ncols()) + ndarray::aview1(&map.add).dot(&weight);
    let named = match operands.get(2) {
        Some(&bias) => format!("{} + {}", known::label(graph, bias), map.label),
        None => format!("{} · {name}", map.label),
    };
    finish(graph, linear, operands, bias, &named)
}

/// Whether one product is no more work than the two.
fn composes(graph: &Graph, first: NodeId, second: NodeId) -> bool {
    let size = |id: NodeId| graph.node(graph.operands(id)[1]).shape.clone();
    let (a, b) = (size(first), size(second));
    a[0] * b[1] <= a[0] * a[1] + b[0] * b[1]
}

fn compose(graph: &mut Graph, first: NodeId, second: NodeId) -> NodeId {
    let (inner, outer) = (graph.operands(first), graph.operands(second));
    let (a, b) = (known::matrix(graph, inner[1]), known::matrix(graph, outer[1]));
    let bias = known::bias(graph, inner.get(2), a.ncols()).dot(&b) + known::bias(graph, outer.get(2), b.ncols());
    let name = format!("{} · {}", known::label(graph, inner[1]), known::label(graph, outer[1]));
    let weight = known::add_weight(graph, &name, &a.dot(&b));
    let mut operands = vec![inner[0], weight];
    operands.extend(outer.get(2).or(inner.get(2)));
    finish(graph, second, operands, bias, &format!("bias {name}"))
}

/// The layer in the place of `like`, with a new bias; with none where it had none and needs none.
fn finish(
    graph: &mut Graph,
    like: NodeId,
    mut operands: Vec<NodeId>,
    bias: ndarray::Array1<f64>,
    name: &str,
) -> NodeId {
    let had_bias = operands.len() == 3;
    operands.truncate(2);
    if had_bias || bias.iter().any(|&b| b != 0.0) {
        operands.push(known::add_weight(graph, name, &bias));
    }
    let origin = graph.node(like).origin.clone();
    graph.push(Op::Linear, &operands, &origin)
}
