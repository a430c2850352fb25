//! What is taken as known of secrets. Of token ids, so that positions and picks that a model computes from them are public: a
//! prompt has no padding, and a token that ends texts stands at its end. Of numbers, that they are finite, as shares hold no
//! others: a test for an infinity tells where public masks put one. Each assumption is recorded
//! ([`super::Imported::assumed`]).
//!
//! Models compare ids with the padding token to count positions (RoBERTa) and to find the last token of a text (sequence
//! classifiers), and look for the end token (CLIP).

use std::collections::{HashMap, HashSet};

use ndarray::{ArrayD, Axis, IxDyn};

use super::build::{Builder, Value};
use super::ops::Call;
use super::proto::NodeProto;
use super::public::check_made;
use crate::graph::kernel::View;
use crate::graph::shape::broadcast;
use crate::graph::{DType, Graph, NodeId, Op, Tensor};

/// The result of an operator, and the assumption in a sentence, none where nothing need be assumed.
pub type Assumed = (Value, Option<String>);

/// The result of an operator, if it is assumed; an error if it takes more room than the model explains.
pub fn result(b: &mut Builder, call: &Call, ends: &HashSet<&str>) -> Option<Result<Assumed, String>> {
    let operand = |i: usize| call.operands.get(i).and_then(Option::as_ref);
    let secret = |i: usize| match operand(i) {
        Some(Value::Secret(id)) => token_input(&b.graph, *id).map(|name| (*id, name.to_owned())),
        _ => None,
    };
    let every = |b: &mut Builder, shape: &[usize], value: bool, assumption| {
        b.make(shape).map(|_| (Value::public(Tensor::Bool(ArrayD::from_elem(IxDyn(shape), value))), assumption))
    };
    // A number that no infinite constant takes part in is finite.
    let finite = |i: usize| match operand(i) {
        Some(Value::Secret(id)) if b.graph.node(*id).dtype == DType::F32 && is_finite(&b.graph, *id) => Some(*id),
        _ => None,
    };
    let infinite =
        |i: usize| matches!(operand(i).and_then(Value::view), Some(View::F32(a)) if a.iter().all(|x| x.is_infinite()));
    let no_infinity = || Some(format!("no number that `{}` looks at is infinite", call.origin));
    match call.node.op_type() {
        "IsInf" => {
            let shape = b.graph.node(finite(0)?).shape.clone();
            Some(every(b, &shape, false, no_infinity()))
        }
        "Equal" if infinite(0) || infinite(1) => {
            let (tested, other) = if infinite(1) { (operand(0)?, operand(1)?) } else { (operand(1)?, operand(0)?) };
            let Value::Secret(id) = tested else { return None };
            let shape = broadcast(&b.graph.node(*id).shape, &b.shape(other)).ok()?;
            if let Err(why) = b.make(&shape) {
                return Some(Err(why));
            }
            let below = below_all(&b.graph, *id, b.most_made(), &mut MOST_NODES.clone())?;
            let View::F32(other) = other.view()? else { return None };
            let mut equal = below.broadcast(IxDyn(&shape))?.to_owned();
            equal.zip_mut_with(&other, |equal, &x| *equal &= x < 0.0);
            Some(Ok((Value::public(Tensor::Bool(equal)), no_infinity())))
        }
        "Equal" => {
            let ((id, name), other) = match (secret(0), secret(1)) {
                (Some(ids), None) => (ids, operand(1)?),
                (None, Some(ids)) => (ids, operand(0)?),
                _ => return None,
            };
            let token = match other.view()? {
                View::I64(a) if a.len() == 1 => *a.first()?,
                _ => return None,
            };
            let shape = broadcast(&b.graph.node(id).shape, &b.shape(other)).ok()?;
            if token < 0 {
                return Some(every(b, &shape, false, None)); // No token has such a number.
            }
            let ends = call.node.output.first().is_some_and(|name| ends.contains(name.as_str()));
            if ends && let Some(&length) = shape.last() {
                let text = format!("the last number of `{name}` is {token}, which ends a text, and no other is");
                let last = |at: usize| at % length.max(1) + 1 == length;
                return Some(b.make(&shape).map(|count| {
                    let elements = (0..count).map(last).collect();
                    (Value::public(Tensor::Bool(crate::graph::kernel::from_vec(&shape, elements))), Some(text))
                }));
            }
            let text = format!("no number of `{name}` is {token}, which stands for padding");
            Some(every(b, &shape, false, Some(text)))
        }
        "Cast" if i32::try_from(call.int("to", 0)).is_ok_and(|to| super::tensor::dtype(to) == Ok(DType::Bool)) => {
            let (id, name) = secret(0)?;
            let text = format!("no number of `{name}` is 0, which stands for padding");
            let shape = b.graph.node(id).shape.clone();
            Some(every(b, &shape, true, Some(text)))
        }
        "ArgMax" => {
            let (id, name) = secret(0)?;
            let mut shape = b.graph.node(id).shape.clone();
            let axis = super::ops::axis_of(call.int("axis", 0), shape.len()).ok()?;
            let last = shape[axis].checked_sub(1)? as i64;
            if call.int("keepdims", 1) != 0 {
                shape[axis] = 1;
            } else {
                shape.remove(axis);
            }
            let text = format!("the greatest number of `{name}`, which ends a text, is its last");
            Some(b.make(&shape).map(|_| {
                let value = Value::public(Tensor::I64(ArrayD::from_elem(IxDyn(&shape), last)));
                (value, Some(text))
            }))
        }
        _ => None,
    }
}

/// Numbers of this size, as masks have them, may add up to an infinite one.
const HUGE: f32 = 1e30;

/// Nodes that are looked at for infinities before one comparison.
const MOST_NODES: usize = 64;

/// Which elements are -∞ because a public mask makes them so, in a shape that broadcasts to the value's; none where that
/// cannot be told within `most` elements.
fn below_all(graph: &Graph, id: NodeId, most: usize, budget: &mut usize) -> Option<ArrayD<bool>> {
    *budget = budget.checked_sub(1)?;
    let (node, operands) = (graph.node(id), graph.operands(id));
    if node.dtype != DType::F32 {
        return None;
    }
    if is_finite(graph, id) {
        return Some(ArrayD::from_elem(IxDyn(&[]), false));
    }
    let wide = |x: ArrayD<bool>, shape: &[usize]| {
        check_made(shape.iter().product(), most).ok()?;
        Some(x.broadcast(IxDyn(shape))?.to_owned())
    };
    match (&node.op, &operands[..]) {
        (Op::Const(value), _) => match &**value {
            Tensor::F32(a) if a.iter().all(|&x| x.abs() < HUGE || x == f32::NEG_INFINITY) => {
                Some(a.mapv(|x| x == f32::NEG_INFINITY))
            }
            _ => None,
        },
        (Op::Add, &[x, y]) => {
            let mut out = wide(below_all(graph, x, most, budget)?, &node.shape)?;
            let other = wide(below_all(graph, y, most, budget)?, &node.shape)?;
            out.zip_mut_with(&other, |x, &y| *x |= y);
            Some(out)
        }
        (Op::ReduceMax { axes }, &[x]) => {
            let inner = wide(below_all(graph, x, most, budget)?, &graph.node(x).shape)?;
            Some(axes.iter().fold(inner, |x, &axis| {
                x.map_axis(Axis(axis), |lane| lane.iter().all(|&below| below)).insert_axis(Axis(axis))
            }))
        }
        (Op::Reshape, &[x]) => {
            let inner = wide(below_all(graph, x, most, budget)?, &graph.node(x).shape)?;
            inner.into_shape_with_order(IxDyn(&node.shape)).ok()
        }
        (Op::Expand, &[x]) => below_all(graph, x, most, budget),
        _ => None,
    }
}

/// Whether nothing that a value is made of is infinite, or nearly so.
fn is_finite(graph: &Graph, id: NodeId) -> bool {
    let mut seen = HashSet::from([id]);
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        let small = |x: &f32| x.abs() < HUGE;
        let fits = match &graph.node(id).op {
            Op::Weight { value, .. } => value.iter().all(small),
            Op::Const(value) => match &**value {
                Tensor::F32(a) => a.iter().all(small),
                _ => true,
            },
            _ => true,
        };
        if !fits {
            return false;
        }
        open.extend(graph.operands(id).into_iter().filter(|&operand| seen.insert(operand)));
    }
    true
}

/// The client's input of integers that a value consists of, moved.
fn token_input(graph: &Graph, id: NodeId) -> Option<&str> {
    let node = graph.node(id);
    match &node.op {
        Op::Input { name } if node.dtype == DType::I64 => Some(name),
        Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Expand => token_input(graph, graph.operands(id)[0]),
        Op::Concat { .. } => graph.operands(id).into_iter().find_map(|operand| token_input(graph, operand)),
        _ => None,
    }
}

/// Names of comparisons whose greatest place is looked for and read as it is: a search for the token that ends a text. What
/// is looked for one place before is the first padding.
pub fn searches_for_ends<'a>(nodes: &[&'a NodeProto]) -> HashSet<&'a str> {
    let mut readers = Readers::default();
    for &node in nodes {
        for name in &node.input {
            readers.0.entry(name).or_default().push(node);
        }
    }
    let moves = |node: &NodeProto| matches!(node.op_type(), "Sub" | "Add" | "Mod");
    let finds = |node: &NodeProto| {
        let place = node.output.first().map_or("", String::as_str);
        node.op_type() == "ArgMax" && !readers.any(place, &moves, DEPTH)
    };
    let comparisons = nodes.iter().filter(|node| node.op_type() == "Equal").filter_map(|node| node.output.first());
    comparisons.map(String::as_str).filter(|name| readers.any(name, &finds, DEPTH)).collect()
}

/// Nodes that may rename a value one after another.
const DEPTH: usize = 4;

/// Nodes that read a name.
#[derive(Default)]
struct Readers<'a>(HashMap<&'a str, Vec<&'a NodeProto>>);

impl Readers<'_> {
    /// Whether such a node reads the value, as far as it is only renamed.
    fn any(&self, name: &str, found: &dyn Fn(&NodeProto) -> bool, depth: usize) -> bool {
        let renames = ["Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"];
        self.0.get(name).is_some_and(|readers| {
            readers.iter().any(|node| {
                let next = node.output.first().map_or("", String::as_str);
                found(node) || depth > 0 && renames.contains(&node.op_type()) && self.any(next, found, depth - 1)
            })
        })
    }
}
