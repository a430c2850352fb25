//! What chains of reshapes, transposes and slices do to the elements of a value, found by applying them to the numbers of
//! its elements.

use ndarray::{ArrayD, Axis, IxDyn, Slice};

use super::super::sole_reader;
use super::scale;
use super::scores::Frame;
use crate::graph::{Graph, NodeId, Op};

/// How many heads in a row look at copies of one, in a value [lead.., n, width] that broadcasts to more heads; `None` where
/// the copies are not made by whole heads.
pub fn group(graph: &Graph, id: NodeId, lead: &[usize], frame: Frame) -> Option<usize> {
    let (batch, heads) = (frame.batch, frame.heads);
    let positions = layout(graph, id).positions;
    let own = &graph.node(id).shape;
    let (a, b) = (own[own.len() - 2], own[own.len() - 1]);
    let count: usize = own[..own.len() - 2].iter().product();
    let wide = positions.broadcast(IxDyn(&[lead, &[a, b]].concat()))?;
    let planes = wide.to_shape((batch * heads, a * b)).ok()?;
    let copies = |g: usize| (0..batch * heads).all(|h| planes.row(h) == planes.row(h / g * g));
    let group = (1..=heads).rev().find(|&g| heads % g == 0 && copies(g)).expect("1 divides all");
    (count == batch * heads || count * group == batch * heads).then_some(group)
}

/// The first head of each group, as [batch, kv_heads, ..].
pub fn first_of_group(graph: &mut Graph, id: NodeId, [batch, kv_heads, group]: [usize; 3]) -> NodeId {
    let (shape, origin) = (graph.node(id).shape.clone(), graph.node(id).origin.clone());
    let (lead, rest) = shape.split_at(shape.len() - 2);
    let held = lead.iter().product::<usize>() / (batch * kv_heads);
    let own = [&[batch, kv_heads], rest].concat();
    if group == 1 || held == 1 {
        return if group == 1 { id } else { graph.push_reshape(id, &own, &origin) };
    }
    let x = graph.push_reshape(id, &[&[batch, kv_heads, held], rest].concat(), &origin);
    let x = graph.push(Op::Slice { axis: 2, from: 0, to: 1 }, &[x], &origin);
    graph.push_reshape(x, &own, &origin)
}

/// Where the elements of a value come from.
pub struct Layout {
    /// The value at the beginning of the chain.
    pub source: NodeId,
    /// For each element, its position in the source.
    pub positions: ArrayD<u32>,
    /// What they were multiplied by on the way.
    pub factor: f64,
}

/// The greatest number of elements of the values that [`layout`] goes through.
pub fn greatest(graph: &Graph, id: NodeId) -> usize {
    let before = |&id: &NodeId| match graph.node(id).op {
        Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Expand => graph.operands(id).first().copied(),
        Op::Mul | Op::Div => scale(graph, id).map(|scaled| scaled.0),
        _ => None,
    };
    let chain = std::iter::successors(Some(id), before);
    chain.map(|id| graph.node(id).shape.iter().product()).max().expect("the chain begins with the value")
}

/// Follows reshapes, transposes, slices and factors back.
pub fn layout(graph: &Graph, id: NodeId) -> Layout {
    let node = graph.node(id);
    let step = |graph: &Graph| Some(layout(graph, *graph.operands(id).first()?));
    match &node.op {
        Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Expand => {
            let mut inner = step(graph).expect("these have an operand");
            inner.positions = moved(&node.op, &node.shape, inner.positions);
            inner
        }
        Op::Mul | Op::Div => match scale(graph, id) {
            Some((x, number)) => {
                let inner = layout(graph, x);
                Layout { factor: inner.factor * number, ..inner }
            }
            None => from_here(graph, id),
        },
        _ => from_here(graph, id),
    }
}

fn from_here(graph: &Graph, id: NodeId) -> Layout {
    let shape = &graph.node(id).shape;
    let count = shape.iter().product::<usize>() as u32;
    let positions = ArrayD::from_shape_vec(IxDyn(shape), (0..count).collect()).expect("as many as the shape has");
    Layout { source: id, positions, factor: 1.0 }
}

/// Applies an operation that only moves elements.
fn moved(op: &Op, shape: &[usize], positions: ArrayD<u32>) -> ArrayD<u32> {
    match op {
        Op::Transpose { perm } => positions.permuted_axes(IxDyn(perm)).as_standard_layout().into_owned(),
        Op::Slice { axis, from, to } => positions.slice_axis(Axis(*axis), Slice::from(*from..*to)).to_owned(),
        Op::Expand => positions.broadcast(IxDyn(shape)).expect("the verifier has seen that it fits").to_owned(),
        _ => positions.into_shape_with_order(IxDyn(shape)).expect("the verifier has seen as many elements"),
    }
}

/// `id`, which holds [batch, heads, rows, width] elements in that order (or the last two exchanged), as
/// [batch, rows, heads·width], and the factor that remains.
pub fn merged(graph: &mut Graph, id: NodeId, sizes: [usize; 4], exchanged: bool) -> (NodeId, f64) {
    let [batch, heads, rows, width] = sizes;
    let mut layout = layout(graph, id);
    let shape = if exchanged { [batch, heads, width, rows] } else { sizes };
    let perm = if exchanged { [0, 3, 1, 2] } else { [0, 2, 1, 3] };
    let positions = layout.positions.into_shape_with_order(IxDyn(&shape)).expect("the sizes are the value's");
    let positions = positions.permuted_axes(IxDyn(&perm)).as_standard_layout().into_owned();
    let source = graph.node(layout.source);
    let origin = graph.node(telling(graph, id)).origin.clone();
    // Columns of a source with wider rows are a slice of it.
    let pitch = source.shape.last().copied().unwrap_or(1);
    let first = positions.first().map_or(0, |&p| p as usize);
    let is_slice = source.shape.iter().product::<usize>() == batch * rows * pitch
        && first + heads * width <= pitch
        && positions
            .iter()
            .enumerate()
            .all(|(i, &p)| p as usize == i / (heads * width) * pitch + first + i % (heads * width));
    if is_slice {
        let x = graph.push_reshape(layout.source, &[batch, rows, pitch], &origin);
        let op = Op::Slice { axis: 2, from: first, to: first + heads * width };
        let x = if heads * width == pitch { x } else { graph.push(op, &[x], &origin) };
        return (x, layout.factor);
    }
    // Otherwise factors are taken off the end of the chain only, and elements moved explicitly.
    layout.factor = 1.0;
    let mut x = id;
    while let Some((inner, number)) = scale(graph, x) {
        x = inner;
        layout.factor *= number;
    }
    let x = graph.push_reshape(x, &shape, &origin);
    let x = graph.push(Op::Transpose { perm: perm.to_vec() }, &[x], &origin);
    (graph.push_reshape(x, &[batch, rows, heads * width], &origin), layout.factor)
}

/// The node that says most about where a chain of moves begins: its slice, which some file calls a split.
fn telling(graph: &Graph, id: NodeId) -> NodeId {
    let mut at = id;
    while matches!(graph.node(at).op, Op::Reshape | Op::Transpose { .. }) || scale(graph, at).is_some() {
        at = scale(graph, at).map_or_else(|| graph.operands(at)[0], |scaled| scaled.0);
    }
    if matches!(graph.node(at).op, Op::Slice { .. }) { at } else { id }
}

/// The end of the chain of reshapes and transposes that merges the heads of `result`.
pub fn joined(graph: &Graph, result: NodeId, sizes: [usize; 4]) -> Option<NodeId> {
    let [batch, heads, rows, width] = sizes;
    let count = (batch * heads * rows * width) as u32;
    let merged = ArrayD::from_shape_vec(IxDyn(&[batch, rows, heads, width]), (0..count).collect()).expect("as many");
    let split = merged.permuted_axes(IxDyn(&[0, 2, 1, 3])).as_standard_layout().into_owned();
    let shape = IxDyn(&graph.node(result).shape);
    let mut positions = split.into_shape_with_order(shape).expect("the sizes are the value's");
    let mut at = result;
    loop {
        let width_fits = graph.node(at).shape.last() == Some(&(heads * width));
        if width_fits && positions.iter().copied().eq(0..count) {
            return Some(at);
        }
        at = sole_reader(graph, at)?;
        let node = graph.node(at);
        if !matches!(node.op, Op::Reshape | Op::Transpose { .. }) {
            return None;
        }
        positions = moved(&node.op, &node.shape, positions);
    }
}
