//! Values known at compile time, and arithmetic on them: computed in float64, stored as float32.
//!
//! A pattern's small numbers (0.044715, an epsilon, a mask) are constants in most files, but some exporters store them
//! as initializers, so that they arrive as weights. They belong to the architecture, not to the training, and both are
//! accepted.

use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayD, ArrayViewD, Ix1, Ix2, Zip};

use crate::graph::{Graph, NodeId, Op, Tensor, kernel};

/// Whether the value is known at compile time, to the server at least.
pub fn is_known(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).op, Op::Const(_) | Op::Weight { .. })
}

/// A known numeric tensor.
pub fn tensor(graph: &Graph, id: NodeId) -> Option<ArrayD<f64>> {
    match &graph.node(id).op {
        Op::Weight { value, .. } => Some(value.mapv(f64::from)),
        Op::Const(value) => match &**value {
            Tensor::F32(a) => Some(a.mapv(f64::from)),
            Tensor::I64(a) => Some(a.mapv(|x| x as f64)),
            Tensor::Bool(_) => None,
        },
        _ => None,
    }
}

/// The one number of which a known tensor is made: it has one element, or is a constant of equal ones.
pub fn scalar(graph: &Graph, id: NodeId) -> Option<f64> {
    fn common<T: Copy + PartialEq>(values: &ArrayD<T>) -> Option<T> {
        let first = *values.first()?;
        values.iter().all(|&x| x == first).then_some(first)
    }
    match &graph.node(id).op {
        Op::Weight { value, .. } if value.len() == 1 => common(value).map(f64::from),
        Op::Const(value) => match &**value {
            Tensor::F32(a) => common(a).map(f64::from),
            Tensor::I64(a) => common(a).map(|x| x as f64),
            Tensor::Bool(_) => None,
        },
        _ => None,
    }
}

/// A known tensor that varies along the last axis only, as a vector of `width` elements.
pub fn vector(graph: &Graph, id: NodeId, width: usize) -> Option<Vec<f64>> {
    let shape = &graph.node(id).shape;
    let (last, others) = shape.split_last().unwrap_or((&1, &[]));
    if others.iter().any(|&d| d != 1) || *last != 1 && *last != width {
        return None;
    }
    let value = tensor(graph, id)?;
    Some(if *last == width { value.into_iter().collect() } else { vec![*value.first()?; width] })
}

/// Splits the operands of a binary operation into the computed and the known one, and says whether the known one is
/// second.
pub fn split(graph: &Graph, id: NodeId) -> Option<(NodeId, NodeId, bool)> {
    match graph.operands(id)[..] {
        [x, c] if is_known(graph, c) && !is_known(graph, x) => Some((x, c, true)),
        [c, x] if is_known(graph, c) && !is_known(graph, x) => Some((x, c, false)),
        _ => None,
    }
}

/// A weight that must be a matrix.
pub fn matrix(graph: &Graph, id: NodeId) -> Array2<f64> {
    tensor(graph, id).and_then(|a| a.into_dimensionality::<Ix2>().ok()).expect("the verifier has seen a matrix")
}

/// A known numeric tensor as its file has it. Unlike [`tensor`] it takes no more memory than the result of what is made of
/// it, which counts where that is a table of all tokens.
pub fn floats(graph: &Graph, id: NodeId) -> ArrayD<f32> {
    match &graph.node(id).op {
        Op::Weight { value, .. } => ArrayD::clone(value),
        Op::Const(value) => kernel::floats(value),
        _ => panic!("a known tensor"),
    }
}

/// A known tensor times factors that broadcast to it.
pub fn times(graph: &Graph, id: NodeId, factors: ArrayViewD<'_, f64>) -> ArrayD<f32> {
    let mut out = floats(graph, id);
    Zip::from(&mut out).and_broadcast(factors).for_each(|v, &factor| *v = (f64::from(*v) * factor) as f32);
    out
}

/// A bias; zeros where there is none.
pub fn bias(graph: &Graph, id: Option<&NodeId>, width: usize) -> Array1<f64> {
    id.map_or_else(
        || Array1::zeros(width),
        |&id| {
            tensor(graph, id).and_then(|a| a.into_dimensionality::<Ix1>().ok()).expect("the verifier has seen a vector")
        },
    )
}

/// What a name made of this value's calls it.
pub fn label(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    match (&node.op, scalar(graph, id)) {
        (Op::Weight { name, .. }, _) => name.clone(),
        (_, Some(x)) => format!("{}", x as f32),
        _ => node.origin.clone(),
    }
}

/// Adds a weight under `name`, numbered where that name is taken.
pub fn add_weight<D: ndarray::Dimension>(graph: &mut Graph, name: &str, value: &ndarray::Array<f64, D>) -> NodeId {
    add_value(graph, name, Arc::new(value.mapv(|x| x as f32).into_dyn()))
}

/// Adds a weight of a value that exists already.
pub fn add_value(graph: &mut Graph, name: &str, value: Arc<ArrayD<f32>>) -> NodeId {
    let taken =
        |wanted: &str| graph.dag.node_weights().any(|n| matches!(&n.op, Op::Weight { name, .. } if name == wanted));
    let mut unique = name.to_owned();
    for number in 2.. {
        if !taken(&unique) {
            break;
        }
        unique = format!("{name} #{number}");
    }
    graph.push(Op::Weight { name: unique.clone(), value }, &[], &unique)
}
