//! The structural verifier of the float graph, run after import and after every pass.
//!
//! Checks that operands stand in slots 0, 1, .. of an acyclic graph, that every recorded shape, element type and owner is
//! the one that [`super::shape`] gives, that inputs and outputs are listed, that a weight name stands for one
//! value, and, in stage `fused`, that only the operations named there remain, with weights where they belong. All faults
//! are reported at once.

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::ArrayD;
use petgraph::Direction;

use super::build::owner;
use super::shape::{Typed, infer};
use super::{Graph, Node, NodeId, Op, Owner};
use crate::diagnostic::{Code, Diagnostic};

/// Stage of a graph; see the head of [`crate::graph`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// As imported, or between passes.
    Graph,
    /// After the last pass.
    Fused,
}

impl Stage {
    /// The word at the head of a listing.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Graph => "graph",
            Stage::Fused => "fused",
        }
    }
}

/// Checks a graph; see the module head.
pub fn verify(graph: &Graph, stage: Stage) -> Result<(), Diagnostic> {
    if petgraph::algo::is_cyclic_directed(&graph.dag) {
        return Err(Diagnostic::new(Code::BrokenGraph, "the graph has a cycle"));
    }
    let mut found = Vec::new();
    let mut names: HashMap<&str, &Arc<ArrayD<f32>>> = HashMap::new();
    for id in graph.order() {
        let node = graph.node(id);
        let faults = check_node(graph, id).err().into_iter().chain(match stage {
            Stage::Graph => None,
            Stage::Fused => check_fused(graph, id).err(),
        });
        found.extend(faults.map(|why| at(node, "node does not fit its operands").because(why)));
        if let Op::Weight { name, value } = &node.op {
            let known = *names.entry(name).or_insert(value);
            if !Arc::ptr_eq(known, value) && known != value {
                found.push(at(node, "two weights have one name").because(format!("Both are called {name:?}.")));
            }
        }
    }
    for (name, id) in &graph.outputs {
        if !graph.dag.contains_node(*id) {
            found.push(Diagnostic::new(Code::BrokenGraph, format!("output {name:?} is computed by no node")));
        }
    }
    for (i, id) in graph.inputs.iter().enumerate() {
        let is_input = graph.dag.node_weight(*id).is_some_and(|node| matches!(node.op, Op::Input { .. }));
        if !is_input || graph.inputs[..i].contains(id) {
            found.push(Diagnostic::new(
                Code::BrokenGraph,
                format!("the list of inputs names node {} wrongly", id.index()),
            ));
        }
    }
    Diagnostic::check(found)
}

fn at(node: &Node, title: &str) -> Diagnostic {
    Diagnostic::new(Code::BrokenGraph, title).at(format!("node {:?} ({})", node.origin, node.op.name()))
}

fn check_node(graph: &Graph, id: NodeId) -> Result<(), String> {
    let node = graph.node(id);
    let mut slots: Vec<u32> = graph.dag.edges_directed(id, Direction::Incoming).map(|e| *e.weight()).collect();
    slots.sort_unstable();
    if !slots.iter().copied().eq(0..slots.len() as u32) {
        return Err(format!("operands stand in slots {slots:?}"));
    }
    let operands: Vec<&Node> = graph.operands(id).into_iter().map(|o| graph.node(o)).collect();
    let typed: Vec<Typed> = operands.iter().map(|n| (n.shape.clone(), n.dtype)).collect();
    let (shape, dtype) = infer(&node.op, &typed, (&node.shape, node.dtype))?;
    if shape != node.shape {
        return Err(format!("its shape is {shape:?}, not {:?}", node.shape));
    }
    let owned = match node.op {
        Op::Input { .. } if !graph.inputs.contains(&id) => return Err("the list of inputs lacks it".into()),
        // An input is whosever the caller says, of any type.
        Op::Input { .. } => return Ok(()),
        Op::Weight { .. } => Owner::Server,
        _ => owner(&operands),
    };
    if dtype != node.dtype {
        return Err(format!("its element type is {}, not {}", dtype.name(), node.dtype.name()));
    }
    match owned == node.owner {
        true => Ok(()),
        false => Err(format!("its owner is {}, not {}", owned.name(), node.owner.name())),
    }
}

/// Whether the fused stage has this operation, and with weights where it needs them. The error is a half sentence.
pub fn check_fused(graph: &Graph, id: NodeId) -> Result<(), String> {
    let node = graph.node(id);
    if !is_fused(&node.op) {
        return Err("no such operation in the fused stage".into());
    }
    // From this slot on, operands are weights (or constants, where that will do); before it they are computed.
    let (known_from, constants) = match node.op {
        Op::Embed | Op::Linear | Op::AddWeight | Op::AddRow => (1, false),
        Op::Rotary { .. } => (1, true),
        Op::Attention { .. } => (3, true),
        Op::Gather { .. } => (1, true),
        _ => (usize::MAX, true),
    };
    let mut computed = 0;
    for (slot, operand) in graph.operands(id).into_iter().enumerate() {
        let (is_weight, is_constant) = match graph.node(operand).op {
            Op::Weight { .. } => (true, false),
            Op::Const(_) => (false, true),
            _ => (false, false),
        };
        computed += usize::from(!is_weight && !is_constant);
        match slot >= known_from {
            true if is_weight || is_constant && constants => {}
            true => return Err(format!("operand {slot} is no weight")),
            false if !is_weight && !is_constant => {}
            false if known_from == usize::MAX && constants => {}
            false if is_weight => return Err(format!("operand {slot} is a weight")),
            false => return Err(format!("operand {slot} is a constant")),
        }
        if matches!(node.op, Op::Rotary { .. } | Op::Gather { .. }) && slot > 0 && !is_constant {
            return Err(format!("operand {slot} is not public"));
        }
    }
    if computed == 0 && !graph.operands(id).is_empty() {
        return Err("all its operands are known".into());
    }
    if let Op::Attention { pattern, .. } = &node.op
        && let Some(row) = pattern.rows.iter().position(|(from, to)| from >= to)
    {
        return Err(format!("row {row} of the pattern keeps no column"));
    }
    if node.owner == Owner::Server && graph.outputs.iter().any(|output| output.1 == id) {
        return Err("the server alone knows it, and as an output the client would learn it".into());
    }
    if node.op == Op::IsNaN && graph.outputs.iter().any(|output| output.1 == id) {
        return Err("shares hold numbers alone, so there is nothing to test".into());
    }
    if matches!(node.op, Op::Add | Op::Sub) && graph.operands(id).into_iter().any(|o| is_beyond_rings(graph, o)) {
        return Err("it adds a number that no ring holds, as masks outside of an attention have".into());
    }
    if computed > 0 && node.shape.contains(&0) {
        return Err("it has no elements".into());
    }
    Ok(())
}

/// Whether an operand is known and has an element that leaves no room for a fraction beside it.
fn is_beyond_rings(graph: &Graph, id: NodeId) -> bool {
    let beyond = |v: f32| !v.is_finite() || v.abs() >= 46f32.exp2();
    match &graph.node(id).op {
        Op::Weight { value, .. } => value.iter().any(|&v| beyond(v)),
        Op::Const(value) => super::kernel::floats(value).iter().any(|&v| beyond(v)),
        _ => false,
    }
}

/// Whether an operation belongs to the fused stage.
fn is_fused(op: &Op) -> bool {
    matches!(
        op,
        Op::Input { .. }
            | Op::Weight { .. }
            | Op::Add
            | Op::Reshape
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Concat { .. }
            | Op::Embed
            | Op::Linear
            | Op::AddWeight
            | Op::AddRow
            | Op::Normalize { .. }
            | Op::Const(_)
            | Op::Sub
            | Op::Neg
            | Op::Mul
            | Op::Expand
            | Op::Rotary { .. }
            | Op::Attention { .. }
            | Op::Pick { .. }
            | Op::Unary(_)
            | Op::Div
            | Op::Pow
            | Op::MatMul
            | Op::Softmax { .. }
            | Op::ReduceSum { .. }
            | Op::ReduceMean { .. }
            | Op::ReduceMax { .. }
            | Op::ArgMax { .. }
            | Op::Less
            | Op::LessOrEqual
            | Op::Where
            | Op::IsNaN
            | Op::ToF32
            | Op::Gather { .. }
    )
}
