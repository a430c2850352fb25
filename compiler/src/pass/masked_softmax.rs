//! Mask a softmax by a choice.
//!
//! Rewrites  `softmax(x + mask)`, the mask being public numbers of which some drop an element (-10000 and less), into
//!           `softmax(where(kept, x + rest, min x - 16)) * kept`; `rest` is what the mask adds to kept elements. Masks may
//!           be several, chosen by `where`, and stand before other sums, reshapes and factors.
//! Why       No ring holds a mask's numbers. Below the least element by 16, a dropped one weighs e^-16 of the least kept
//!           one, whatever the range of the scores.
//! Needs     `fuse_attention`, which computes kept scores only where one pattern suits all heads.
//! Keeps     Shapes; real values up to e^-16, provided that a dropped element would not have outweighed its mask.
//! Skips     A mask that drops a whole row, unless a choice behind the softmax drops it too; numbers that are the server's.

use std::sync::Arc;

use ndarray::{ArrayD, Axis, IxDyn, Zip};

use super::fuse_attention::scores::DROPS;
use super::{Options, elements, known, most_elements, rewrite};
use crate::diagnostic::Diagnostic;
use crate::graph::shape::broadcast;
use crate::graph::{Graph, NodeId, Op, Tensor};

/// How far below the least element a dropped one is put.
const BELOW: f32 = -16.0;

/// Nodes that are looked at for masks before one softmax.
const MOST_NODES: usize = 64;

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    rewrite(graph, |graph, id| {
        let Op::Softmax { axis } = graph.node(id).op else { return Ok(false) };
        let operand = graph.operands(id)[0];
        let mut budget = Budget::of(graph);
        let (Some(mut kept), true) = (kept(graph, operand, &mut budget), budget.nodes > 0) else { return Ok(false) };
        let shape = graph.node(id).shape.clone();
        // Its own axes alone are looked at: those along which it is the same may be long.
        while kept.ndim() < shape.len() {
            kept.insert_axis_inplace(Axis(0));
        }
        let filled = kept.map_axis(Axis(axis), |row| row.iter().any(|&k| k)).insert_axis(Axis(axis));
        if !filled.iter().all(|&filled| filled) {
            if !dropped(graph, id, &filled, budget.elements) {
                return Ok(false);
            }
            Zip::from(&mut kept).and_broadcast(&filled).for_each(|kept, &filled| *kept |= !filled);
        }
        let origin = graph.node(id).origin.clone();
        let origin = origin.as_str();
        let x = without(graph, operand, origin);
        let x = graph.push_expand(x, &shape, origin);
        let negative = graph.push(Op::Neg, &[x], origin);
        let greatest = graph.push(Op::ReduceMax { axes: vec![axis] }, &[negative], origin);
        let least = graph.push(Op::Neg, &[greatest], origin);
        let below = constant(graph, Tensor::F32(ArrayD::from_elem(IxDyn(&[]), BELOW)), origin);
        let low = graph.push(Op::Add, &[least, below], origin);
        let numbers = kept.mapv(|k| f32::from(u8::from(k)));
        let truths = constant(graph, Tensor::Bool(kept), origin);
        let chosen = graph.push(Op::Where, &[truths, x, low], origin);
        let probabilities = graph.push(Op::Softmax { axis }, &[chosen], origin);
        let numbers = constant(graph, Tensor::F32(numbers), origin);
        let new = graph.push(Op::Mul, &[probabilities, numbers], origin);
        graph.replace(id, new);
        Ok(true)
    })
}

/// Whether whoever reads a softmax chooses other numbers in the place of rows that are not `filled`.
fn dropped(graph: &Graph, id: NodeId, filled: &ArrayD<bool>, most: usize) -> bool {
    let shape = &graph.node(id).shape;
    let discards = |reader: NodeId| {
        let operands = graph.operands(reader);
        let (Op::Where, &[condition, yes, no]) = (&graph.node(reader).op, &operands[..]) else { return false };
        let Op::Const(value) = &graph.node(condition).op else { return false };
        let Tensor::Bool(condition) = &**value else { return false };
        if (yes == id) == (no == id) || graph.node(reader).shape != *shape {
            return false;
        }
        combined(condition, filled, most, |condition, filled| filled || condition != (yes == id))
            .is_some_and(|kept| kept.iter().all(|&kept| kept))
    };
    graph.outputs.iter().all(|output| output.1 != id) && graph.readers(id).into_iter().all(discards)
}

fn constant(graph: &mut Graph, value: Tensor, origin: &str) -> NodeId {
    graph.push(Op::Const(Arc::new(value)), &[], origin)
}

/// The numbers of a public operand that drops something, and the other operand with its place.
fn mask(graph: &Graph, id: NodeId) -> Option<(NodeId, usize, &ArrayD<f32>)> {
    let operands = graph.operands(id);
    let places: &[usize] = match graph.node(id).op {
        Op::Add => &[1, 0],
        _ => return None,
    };
    places.iter().find_map(|&place| match &graph.node(operands[place]).op {
        Op::Const(value) => match &**value {
            Tensor::F32(a) if a.iter().any(|&x| drops(x)) && !a.iter().any(|&x| x.is_nan() || x == f32::INFINITY) => {
                Some((operands[1 - place], place, a))
            }
            _ => None,
        },
        _ => None,
    })
}

fn drops(x: f32) -> bool {
    f64::from(x) <= DROPS
}

/// The condition of a choice between computed numbers and public ones that drop, whether it keeps where it holds, and
/// the computed ones.
fn choice(graph: &Graph, id: NodeId) -> Option<(&ArrayD<bool>, bool, NodeId)> {
    let (Op::Where, &[condition, yes, no]) = (&graph.node(id).op, &graph.operands(id)[..]) else { return None };
    let Op::Const(value) = &graph.node(condition).op else { return None };
    let Tensor::Bool(condition) = &**value else { return None };
    let keep = matches!(graph.node(no).op, Op::Const(_));
    let (x, other) = if keep { (yes, no) } else { (no, yes) };
    let Op::Const(other) = &graph.node(other).op else { return None };
    match &**other {
        Tensor::F32(a) if a.iter().all(|&x| drops(x)) => Some((condition, keep, x)),
        _ => None,
    }
}

/// A factor that keeps the order of what it multiplies, and that.
fn scaled(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let (x, number, second) = known::split(graph, id)?;
    let fits = match graph.node(id).op {
        Op::Mul => true,
        Op::Div => second,
        _ => false,
    };
    known::scalar(graph, number).filter(|&n| fits && n > 0.0 && n.is_finite()).map(|_| x)
}

/// What the search for masks before one softmax may take.
struct Budget {
    /// Nodes that are still looked at.
    nodes: usize,
    /// The most elements of what is known of one value.
    elements: usize,
}

impl Budget {
    fn of(graph: &Graph) -> Budget {
        Budget { nodes: MOST_NODES, elements: most_elements(graph) }
    }
}

/// Which elements masks leave, in a shape that broadcasts to the node's; none where no mask is found.
fn kept(graph: &Graph, id: NodeId, budget: &mut Budget) -> Option<ArrayD<bool>> {
    budget.nodes = budget.nodes.checked_sub(1)?;
    if let Some((x, _, numbers)) = mask(graph, id) {
        let here = numbers.mapv(|x| !drops(x));
        return both(kept(graph, x, budget), here, budget);
    }
    if let Some((condition, keep, x)) = choice(graph, id) {
        return both(kept(graph, x, budget), condition.mapv(|c| c == keep), budget);
    }
    if let Some(x) = scaled(graph, id) {
        return kept(graph, x, budget);
    }
    match (&graph.node(id).op, &graph.operands(id)[..]) {
        (Op::Add, &[x, y]) => match (kept(graph, x, budget), kept(graph, y, budget)) {
            (x, Some(y)) => both(x, y, budget),
            (x, None) => x,
        },
        (Op::Reshape, &[x]) => {
            let inner = kept(graph, x, budget)?;
            let shape = &graph.node(x).shape;
            let wide = (elements(shape) <= budget.elements).then(|| inner.broadcast(IxDyn(shape)))??.to_owned();
            wide.into_shape_with_order(IxDyn(&graph.node(id).shape)).ok()
        }
        (Op::Expand, &[x]) => kept(graph, x, budget),
        _ => None,
    }
}

fn both(a: Option<ArrayD<bool>>, b: ArrayD<bool>, budget: &Budget) -> Option<ArrayD<bool>> {
    let Some(a) = a else { return Some(b) };
    combined(&a, &b, budget.elements, |a, b| a && b)
}

/// Element by element, with broadcasting both ways; none where that takes more than `most` elements.
fn combined(a: &ArrayD<bool>, b: &ArrayD<bool>, most: usize, f: impl Fn(bool, bool) -> bool) -> Option<ArrayD<bool>> {
    let shape = broadcast(a.shape(), b.shape()).ok().filter(|shape| elements(shape) <= most)?;
    let (a, b) = (a.broadcast(IxDyn(&shape))?, b.broadcast(IxDyn(&shape))?);
    Some(Zip::from(&a).and(&b).map_collect(|&a, &b| f(a, b)))
}

/// The node without masks: what was found by [`kept`] and nothing else is built anew.
fn without(graph: &mut Graph, id: NodeId, origin: &str) -> NodeId {
    if kept(graph, id, &mut Budget::of(graph)).is_none() {
        return id;
    }
    let shape = graph.node(id).shape.clone();
    if let Some((x, _, numbers)) = mask(graph, id) {
        let rest = numbers.mapv(|x| if drops(x) { 0.0 } else { x });
        let x = without(graph, x, origin);
        if rest.iter().all(|&x| x == 0.0) {
            return graph.push_expand(x, &shape, origin);
        }
        let rest = constant(graph, Tensor::F32(rest), origin);
        return graph.push(Op::Add, &[x, rest], origin);
    }
    if let Some((_, _, x)) = choice(graph, id) {
        let x = without(graph, x, origin);
        return graph.push_expand(x, &shape, origin);
    }
    let operands: Vec<NodeId> = graph.operands(id).into_iter().map(|x| without(graph, x, origin)).collect();
    match graph.node(id).op.clone() {
        Op::Reshape => graph.push_reshape(operands[0], &shape, origin),
        Op::Expand => graph.push_expand(operands[0], &shape, origin),
        op => graph.push(op, &operands, origin),
    }
}
