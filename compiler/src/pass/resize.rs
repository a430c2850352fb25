//! Give the sequence of a fused causal model another length.
//!
//! Rewrites  shapes, causal patterns and position rows; never the set of nodes, their weights or their order.
//! Why       A model is calibrated once, at its full context. An entry of another length has the same nodes, so the same
//!           ranges, scales, claims and encoded weights.
//! Needs     Stage `fused`, one client input of token ids [1, positions].
//! Keeps     The value of every kept position: with causal attention and row-wise everything else, what stands behind a
//!           position does not count.
//! Errors    A node that mixes positions in another way.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use ir::Pattern;
use ndarray::{ArrayD, Axis, IxDyn, Slice};

use super::place;
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::ops::windowed;
use crate::graph::{Bias, DType, Graph, NodeId, Op, Tensor};

/// Where a fused graph keeps its positions.
pub struct Positions {
    /// How many there are.
    pub count: usize,
    /// Axis of the positions, and whether one of them was picked, by node; nodes without positions are missing.
    axes: HashMap<NodeId, (usize, bool)>,
    /// Rows of a position table, and the operation that adds them.
    rows: Vec<NodeId>,
}

impl Positions {
    /// Whether a node's value has a part for each position, or for the picked one.
    pub fn has(&self, id: NodeId) -> bool {
        self.axes.contains_key(&id)
    }

    /// Whether a node's value is that of one picked position.
    pub fn is_picked(&self, id: NodeId) -> bool {
        self.axes.get(&id).is_some_and(|axis| axis.1)
    }
}

/// Makes attention without a mask causal. Right for a model with a cache, which is given one token at a time: files of
/// such models often have no mask for several, since the exporter saw one.
pub fn one_by_one(graph: &mut Graph) {
    for node in graph.dag.node_weights_mut() {
        if let Op::Attention { pattern, .. } = &mut node.op {
            let (rows, columns) = (pattern.rows.len() as u32, pattern.columns);
            if rows == columns && *pattern == Pattern::full(rows, columns) {
                *pattern = Pattern::causal(rows, columns);
            }
        }
    }
}

/// Finds the positions of a graph, or says why its sequence cannot be resized.
pub fn positions(graph: &Graph) -> Result<Positions, Diagnostic> {
    let ids = match graph.inputs[..] {
        [ids] if graph.node(ids).dtype == DType::I64 => ids,
        _ => return Err(fault("its inputs are not one sequence of token ids".to_owned())),
    };
    let count = match graph.node(ids).shape[..] {
        [1, count] if count > 1 => count,
        ref shape => {
            return Err(fault(format!("its token ids have shape {shape:?}, not one row of several positions")));
        }
    };
    let mut found = Positions { count, axes: HashMap::from([(ids, (1, false))]), rows: Vec::new() };
    for id in graph.order() {
        match axis(graph, &found, id) {
            Ok(Some(axis)) => drop(found.axes.insert(id, axis)),
            Ok(None) => {}
            Err(why) => return Err(fault(why.to_owned()).at(place(graph, id))),
        }
        if graph.node(id).op == Op::AddWeight && adds_rows(graph, &found, id) {
            let table = &graph.node(graph.operands(id)[1]).shape;
            if table.iter().find(|&&d| d != 1) != Some(&count) {
                return Err(
                    fault("what it adds to positions is not made of a row for each".to_owned()).at(place(graph, id))
                );
            }
            found.rows.push(id);
        }
    }
    if found.rows.iter().any(|id| found.axes[id].1) {
        return Err(fault("rows of its position table are added to one position".to_owned()));
    }
    Ok(found)
}

fn fault(why: String) -> Diagnostic {
    Diagnostic::new(Code::CannotGenerate, "this model cannot generate token by token").because(format!("{why}."))
}

/// Axis of the positions in the result of a node, from those of its operands.
fn axis(graph: &Graph, found: &Positions, id: NodeId) -> Result<Option<(usize, bool)>, &'static str> {
    let node = graph.node(id);
    let operands = graph.operands(id);
    let Some(first) = operands.iter().copied().find(|o| found.axes.contains_key(o)) else {
        return Ok(found.axes.get(&id).copied());
    };
    let (axis, picked) = found.axes[&first];
    if first != operands[0] && !matches!(node.op, Op::Add | Op::Sub | Op::Mul) {
        return Err("only some of its operands have positions");
    }
    let last = graph.node(first).shape.len() - 1;
    let all_alike = || operands.iter().all(|o| found.axes.get(o) == Some(&(axis, picked)));
    let axis = match &node.op {
        Op::Embed => axis,
        Op::Linear | Op::Normalize { .. } if axis < last => axis,
        Op::Unary(_) | Op::Neg | Op::AddWeight => axis,
        Op::Rotary { .. } if axis == 1 && !picked => axis,
        Op::Add | Op::Sub | Op::Mul => {
            let fits = |&o: &NodeId| match found.axes.get(&o) {
                Some(other) => *other == (axis, picked) && graph.node(o).shape.len() == node.shape.len(),
                // What is known has no row for each position.
                None => {
                    let shape = &graph.node(o).shape;
                    (axis + shape.len()).checked_sub(node.shape.len()).is_none_or(|a| shape[a] == 1)
                }
            };
            if !operands.iter().all(fits) {
                return Err("its operands differ in their positions");
            }
            axis
        }
        Op::Concat { .. } if !all_alike() => return Err("its operands differ in their positions"),
        Op::Expand if node.shape[axis] == found.count || picked => axis,
        Op::Concat { axis: along } if *along != axis => axis,
        Op::Slice { axis: along, .. } if *along != axis => axis,
        Op::Transpose { perm } => perm.iter().position(|&p| p == axis).expect("a permutation"),
        Op::Reshape => reshaped(&graph.node(operands[0]).shape, &node.shape, axis).ok_or("it joins positions")?,
        Op::Pick { axis: along } if *along == axis => return Ok(Some((axis, true))),
        Op::Attention { pattern, bias, window, .. }
            if axis == 1 && !picked && operands[..3].iter().all(|o| found.axes.get(o) == Some(&(axis, picked))) =>
        {
            if *pattern != looked_back(found.count, *window) {
                return Err("a position looks at others than itself and those before");
            }
            if *bias == Some(Bias::Scores) {
                return Err("what is added to its scores does not follow from the distance of two positions");
            }
            axis
        }
        _ => return Err("it mixes positions"),
    };
    Ok(Some((axis, picked)))
}

/// What positions look at: themselves and those before, as far as a window reaches.
fn looked_back(count: usize, window: Option<u32>) -> Pattern {
    match window {
        Some(size) => windowed(count as u32, count as u32, size),
        None => Pattern::causal(count as u32, count as u32),
    }
}

/// Where an axis is after a reshape that neither splits nor joins it.
fn reshaped(from: &[usize], to: &[usize], axis: usize) -> Option<usize> {
    let before = |shape: &[usize], axis: usize| shape[..axis].iter().product::<usize>();
    let fits = |&b: &usize| to[b] == from[axis] && before(to, b) == before(from, axis);
    Some(axis).filter(|a| *a < to.len()).filter(fits).or_else(|| (0..to.len()).find(fits))
}

/// Whether the weight that is added has a row for every position.
fn adds_rows(graph: &Graph, found: &Positions, id: NodeId) -> bool {
    let [x, weight] = graph.operands(id)[..] else { return false };
    let Some(&(axis, _)) = found.axes.get(&x) else { return false };
    let (rank, shape) = (graph.node(x).shape.len(), &graph.node(weight).shape);
    (axis + shape.len()).checked_sub(rank).is_some_and(|a| shape[a] > 1)
}

/// The graph for the first `count` positions.
pub fn first(graph: &Graph, positions: &Positions, count: usize) -> Graph {
    assert!((1..=positions.count).contains(&count), "{count} of {} positions", positions.count);
    let mut graph = graph.clone();
    for &id in &positions.rows {
        set_rows(&mut graph, id, 0..count, positions.count);
    }
    for id in rotations(&graph, positions) {
        for table in &graph.operands(id)[1..] {
            cut(&mut graph, *table, 0, count);
        }
    }
    for id in graph.order() {
        if let Op::Attention { bias: Some(Bias::Distances), .. } = graph.node(id).op {
            let distances = graph.operands(id)[3];
            cut(&mut graph, distances, 1, count);
        }
    }
    reshape(&mut graph, positions, count, 1);
    graph
}

/// Rotations of rows that are positions.
fn rotations(graph: &Graph, positions: &Positions) -> Vec<NodeId> {
    let rotates = |id: &NodeId| matches!(graph.node(*id).op, Op::Rotary { .. });
    graph.order().into_iter().filter(|id| rotates(id) && positions.axes.contains_key(id)).collect()
}

/// Keeps the first `count` elements along an axis of a known table.
fn cut(graph: &mut Graph, id: NodeId, axis: usize, count: usize) {
    let node = &mut graph.dag[id];
    let first = |table: &ArrayD<f32>| -> ArrayD<f32> {
        let count = count.min(table.shape()[axis]);
        table.slice_axis(Axis(axis), Slice::from(..count)).to_owned()
    };
    match &mut node.op {
        Op::Weight { value, .. } => *value = Arc::new(first(value)),
        Op::Const(value) => {
            let Tensor::F32(table) = &**value else { panic!("a table of floats") };
            *value = Arc::new(Tensor::F32(first(table)));
        }
        other => panic!("a known table, not {other:?}"),
    }
    node.shape[axis] = count.min(node.shape[axis]);
}

/// The graph for one position, whose row of the position table is a public run-time index.
pub fn one(graph: &Graph, positions: &Positions) -> Graph {
    let mut graph = graph.clone();
    for &id in &positions.rows {
        set_rows(&mut graph, id, 0..positions.count, positions.count);
        graph.dag[id].op = Op::AddRow;
    }
    for id in rotations(&graph, positions) {
        let Op::Rotary { at_position, .. } = &mut graph.dag[id].op else { panic!("a rotation") };
        *at_position = true;
    }
    everything(&mut graph);
    reshape(&mut graph, positions, 1, 1);
    graph
}

/// The graph whose picked position is every position: what calibration runs, since each of them will be picked.
pub fn all(graph: &Graph, positions: &Positions) -> Graph {
    let mut graph = graph.clone();
    everything(&mut graph);
    reshape(&mut graph, positions, positions.count, positions.count);
    graph
}

/// Makes every choice of a position keep what it is given.
fn everything(graph: &mut Graph) {
    for node in graph.dag.node_weights_mut().filter(|node| matches!(node.op, Op::Pick { .. })) {
        node.op = Op::Reshape;
    }
}

/// Sets the number of positions, and of picked ones, in all shapes and patterns.
fn reshape(graph: &mut Graph, positions: &Positions, count: usize, picked_count: usize) {
    for (&id, &(axis, picked)) in &positions.axes {
        let node = &mut graph.dag[id];
        node.shape[axis] = if picked { picked_count } else { count };
        if let Op::Attention { pattern, window, .. } = &mut node.op {
            *pattern = looked_back(count, *window);
        }
    }
}

/// Makes the weight that `id` adds a matrix of some rows of the position table. They are a weight of their own if they
/// are not all rows.
fn set_rows(graph: &mut Graph, id: NodeId, rows: Range<usize>, all: usize) {
    let weight = graph.operands(id)[1];
    let node = &mut graph.dag[weight];
    let Op::Weight { name, value } = &mut node.op else { panic!("a fused graph adds weights") };
    let width = value.len() / all;
    let table = value.to_shape(IxDyn(&[all, width])).expect("a row for every position");
    if rows != (0..all) {
        *name = format!("{name}, rows {}..{}", rows.start, rows.end);
    }
    let part: ArrayD<f32> = table.slice_axis(Axis(0), Slice::from(rows)).to_owned();
    node.shape = part.shape().to_vec();
    *value = Arc::new(part);
}
