//! How each ONNX operator is written in ops of the graph: one file for each family, with a row of its table for each
//! operator. Differences between versions of the operator set (attributes that became operands, other defaults) end here.
//!
//! A handler returns the results of a node, or half a sentence that says why it cannot.

mod activation;
mod arithmetic;
mod attention;
mod compare;
mod constant;
mod conv;
mod index;
mod matmul;
mod norm;
mod reduce;
mod resize;
mod shape;

use super::build::{Builder, Value};
use super::proto::{AttributeProto, NodeProto};
use crate::graph::kernel::View;
use crate::graph::shape::broadcast;
use crate::graph::{Function, Op, Tensor};

/// A node with its operands.
pub struct Call<'a> {
    /// The node.
    pub node: &'a NodeProto,
    /// Version of the operator set.
    pub opset: i64,
    /// What messages call it.
    pub origin: &'a str,
    /// Operands, `None` where left out.
    pub operands: Vec<Option<Value>>,
    /// Folder of the model, for data in other files.
    pub dir: &'a std::path::Path,
}

type Results = Result<Vec<Value>, String>;

/// Writes a node in ops of the graph.
pub type Handler = fn(&mut Builder, &Call) -> Results;

/// Operators by family: what the family is called, and a row for each operator, with its domain unless that is the
/// standard one.
const FAMILIES: &[(&str, &[(&str, Handler)])] = &[
    ("arithmetic", arithmetic::TABLE),
    ("functions", activation::TABLE),
    ("comparison", compare::TABLE),
    ("reduction", reduce::TABLE),
    ("normalisation", norm::TABLE),
    ("products", matmul::TABLE),
    ("attention", attention::TABLE),
    ("convolution", conv::TABLE),
    ("resizing", resize::TABLE),
    ("shape", shape::TABLE),
    ("index", index::TABLE),
    ("constants", constant::TABLE),
];

/// The handler of an operator, by its name with its domain unless that is the standard one.
pub fn handler(operator: &str) -> Option<Handler> {
    FAMILIES.iter().flat_map(|family| family.1).find(|row| row.0 == operator).map(|row| row.1)
}

/// An operator that can be imported.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Operator {
    /// Its family, for a listing.
    pub family: &'static str,
    /// Its domain; empty for the standard one.
    pub domain: &'static str,
    /// Its name.
    pub name: &'static str,
}

/// Every operator that can be imported, by family.
pub fn operators() -> Vec<Operator> {
    let rows = FAMILIES.iter().flat_map(|&(family, rows)| rows.iter().map(move |row| (family, row.0)));
    rows.map(|(family, operator)| {
        let (domain, name) = operator.rsplit_once('.').unwrap_or(("", operator));
        Operator { family, domain, name }
    })
    .collect()
}

impl Call<'_> {
    /// Writes for this node.
    fn write<'b>(&'b self, b: &'b mut Builder) -> Writer<'b> {
        Writer { b, origin: self.origin }
    }

    /// An operand that must be there.
    fn operand(&self, i: usize) -> Result<&Value, String> {
        self.optional(i).ok_or_else(|| format!("operand {i} is missing"))
    }

    /// An operand that may be left out.
    fn optional(&self, i: usize) -> Option<&Value> {
        self.operands.get(i)?.as_ref()
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attribute.iter().find(|a| a.name() == name)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).and_then(|a| a.i).unwrap_or(default)
    }

    /// A text attribute.
    fn text<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str, String> {
        match self.attribute(name).and_then(|a| a.s.as_deref()) {
            None => Ok(default),
            Some(bytes) => std::str::from_utf8(bytes).map_err(|_| format!("its `{name}` is no text")),
        }
    }

    fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).and_then(|a| a.f).unwrap_or(default)
    }

    fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name).map(|a| a.ints.clone())
    }

    /// Elements of an operand that is a public tensor of integers.
    fn integers(&self, i: usize) -> Result<Vec<i64>, String> {
        match self.operand(i)?.view() {
            Some(View::I64(a)) => Ok(a.iter().copied().collect()),
            Some(_) => Err(format!("operand {i} does not hold integers")),
            None => Err(format!("operand {i} is secret; it must be known at compile time")),
        }
    }

    /// Integers that were an attribute before opset `since`, and are an operand from then on.
    fn moved(&self, name: &str, i: usize, since: i64) -> Result<Option<Vec<i64>>, String> {
        if self.opset < since {
            return Ok(self.ints(name));
        }
        self.optional(i).map(|_| self.integers(i)).transpose()
    }
}

/// An axis, counted from the end when negative.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize, String> {
    let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    from_start
        .and_then(|a| usize::try_from(a).ok())
        .filter(|&a| a < rank)
        .ok_or_else(|| format!("axis {axis} is not one of a tensor of rank {rank}"))
}

fn axes_of(axes: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut out = axes.iter().map(|&a| axis_of(a, rank)).collect::<Result<Vec<_>, _>>()?;
    out.sort_unstable();
    if out.windows(2).any(|w| w[0] == w[1]) {
        return Err("an axis is named twice".into());
    }
    Ok(out)
}

fn dimension(d: i64) -> Result<usize, String> {
    usize::try_from(d).map_err(|_| format!("dimension {d} is negative"))
}

/// A size that an attribute states, such as a number of heads or a stride. None is beyond [`MAX_STATED`], so that products
/// of two do not overflow.
fn stated(d: i64) -> Result<usize, String> {
    let size = dimension(d)?;
    if size <= MAX_STATED { Ok(size) } else { Err(format!("a size of {size} is beyond {MAX_STATED}")) }
}

/// Greatest size that an attribute may state.
const MAX_STATED: usize = 1 << 30;

fn direct(b: &mut Builder, c: &Call, op: Op, operands: usize) -> Results {
    let operands = (0..operands).map(|i| c.operand(i).cloned()).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![b.apply(c.origin, op, &operands)?])
}

/// A function of public values. The result is no larger than the operands, broadcast.
fn fold(b: &mut Builder, c: &Call, operands: usize, f: impl FnOnce(&[View<'_>]) -> Result<Tensor, String>) -> Results {
    let operands = (0..operands).map(|i| c.operand(i).cloned()).collect::<Result<Vec<_>, _>>()?;
    let shape = operands.iter().try_fold(Vec::new(), |s, v| broadcast(&s, &b.shape(v)));
    Ok(vec![b.fold(c.origin, &operands, &shape.unwrap_or_default(), f)?])
}

fn size(shape: &[usize]) -> usize {
    shape.iter().fold(1, |n, &d| n.saturating_mul(d))
}

/// Writes ops of the graph for one node: what is known is computed, the rest become nodes.
struct Writer<'a> {
    b: &'a mut Builder,
    origin: &'a str,
}

/// A value, or half a sentence.
type One = Result<Value, String>;

impl Writer<'_> {
    fn op(&mut self, op: Op, operands: &[&Value]) -> One {
        let operands: Vec<Value> = operands.iter().map(|&v| v.clone()).collect();
        self.b.apply(self.origin, op, &operands)
    }

    fn shape(&self, x: &Value) -> Vec<usize> {
        self.b.shape(x)
    }

    fn add(&mut self, x: &Value, y: &Value) -> One {
        self.op(Op::Add, &[x, y])
    }

    fn sub(&mut self, x: &Value, y: &Value) -> One {
        self.op(Op::Sub, &[x, y])
    }

    fn mul(&mut self, x: &Value, y: &Value) -> One {
        self.op(Op::Mul, &[x, y])
    }

    fn div(&mut self, x: &Value, y: &Value) -> One {
        self.op(Op::Div, &[x, y])
    }

    fn neg(&mut self, x: &Value) -> One {
        self.op(Op::Neg, &[x])
    }

    fn unary(&mut self, function: Function, x: &Value) -> One {
        self.op(Op::Unary(function), &[x])
    }

    fn matmul(&mut self, x: &Value, y: &Value) -> One {
        self.op(Op::MatMul, &[x, y])
    }

    /// x times a number; x itself where that is 1.
    fn times(&mut self, x: &Value, factor: f32) -> One {
        if factor == 1.0 { Ok(x.clone()) } else { self.mul(x, &Value::scalar(factor)) }
    }

    /// x plus a number; x itself where that is 0.
    fn plus(&mut self, x: &Value, summand: f32) -> One {
        if summand == 0.0 { Ok(x.clone()) } else { self.add(x, &Value::scalar(summand)) }
    }

    fn sum(&mut self, x: &Value, axes: &[usize]) -> One {
        self.op(Op::ReduceSum { axes: axes.to_vec() }, &[x])
    }

    fn mean(&mut self, x: &Value, axes: &[usize]) -> One {
        self.op(Op::ReduceMean { axes: axes.to_vec() }, &[x])
    }

    /// The greatest elements, dimensions kept.
    fn greatest(&mut self, x: &Value, axes: &[usize]) -> One {
        self.op(Op::ReduceMax { axes: axes.to_vec() }, &[x])
    }

    /// The greater of two, element by element: y + relu(x - y).
    fn max(&mut self, x: &Value, y: &Value) -> One {
        let above = self.sub(x, y)?;
        let above = self.unary(Function::Relu {}, &above)?;
        self.add(&above, y)
    }

    /// The lesser of two, element by element: y - relu(y - x).
    fn min(&mut self, x: &Value, y: &Value) -> One {
        let below = self.sub(y, x)?;
        let below = self.unary(Function::Relu {}, &below)?;
        self.sub(y, &below)
    }

    fn reshape(&mut self, x: &Value, shape: &[usize]) -> One {
        self.b.shaped(self.origin, Op::Reshape, std::slice::from_ref(x), shape)
    }

    fn expand(&mut self, x: &Value, shape: &[usize]) -> One {
        self.b.shaped(self.origin, Op::Expand, std::slice::from_ref(x), shape)
    }

    /// A public constant of one number everywhere.
    fn constant(&mut self, shape: &[usize], value: f32) -> One {
        self.b.make(shape)?;
        Ok(Value::public(Tensor::F32(ndarray::ArrayD::from_elem(ndarray::IxDyn(shape), value))))
    }

    fn transpose(&mut self, x: &Value, perm: &[usize]) -> One {
        self.op(Op::Transpose { perm: perm.to_vec() }, &[x])
    }

    fn slice(&mut self, x: &Value, axis: usize, from: usize, to: usize) -> One {
        self.op(Op::Slice { axis, from, to }, &[x])
    }

    /// Operands that hold nothing are left out, unless all do.
    fn concat(&mut self, axis: usize, parts: &[Value]) -> One {
        let full: Vec<Value> = parts.iter().filter(|x| self.b.shape(x).get(axis) != Some(&0)).cloned().collect();
        let parts = if full.is_empty() { parts } else { &full };
        self.b.apply(self.origin, Op::Concat { axis }, parts)
    }
}
