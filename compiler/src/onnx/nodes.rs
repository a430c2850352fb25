//! How each ONNX operator is written in ops of the graph: one row of [`TABLE`] each. Differences between versions of the
//! operator set (attributes that became operands, other defaults) end here.
//!
//! A handler returns the results of a node, or half a sentence that says why it cannot.

use super::build::{Builder, Value};
use super::proto::{AttributeProto, NodeProto};
use super::{public, tensor};
use crate::graph::kernel::View;
use crate::graph::shape::broadcast;
use crate::graph::{DType, Function, GeluForm, Op, Tensor};

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
type Handler = fn(&mut Builder, &Call) -> Results;

/// The handler of an operator of the standard domain.
pub fn handler(op_type: &str) -> Option<Handler> {
    TABLE.iter().find(|row| row.0 == op_type).map(|row| row.1)
}

const TABLE: &[(&str, Handler)] = &[
    // The same op of the graph.
    ("Add", |b, c| direct(b, c, Op::Add, 2)),
    ("Sub", |b, c| direct(b, c, Op::Sub, 2)),
    ("Mul", |b, c| direct(b, c, Op::Mul, 2)),
    ("Div", |b, c| direct(b, c, Op::Div, 2)),
    ("Pow", |b, c| direct(b, c, Op::Pow, 2)),
    ("MatMul", |b, c| direct(b, c, Op::MatMul, 2)),
    ("Sqrt", |b, c| direct(b, c, Op::Unary(Function::Sqrt {}), 1)),
    ("Erf", |b, c| direct(b, c, Op::Unary(Function::Erf {}), 1)),
    ("Tanh", |b, c| direct(b, c, Op::Unary(Function::Tanh {}), 1)),
    ("Exp", |b, c| direct(b, c, Op::Unary(Function::Exp {}), 1)),
    ("Neg", |b, c| direct(b, c, Op::Neg, 1)),
    ("Reciprocal", |b, c| direct(b, c, Op::Unary(Function::Reciprocal {}), 1)),
    ("Sigmoid", |b, c| direct(b, c, Op::Unary(Function::Sigmoid {}), 1)),
    ("Relu", |b, c| direct(b, c, Op::Unary(Function::Relu {}), 1)),
    ("IsNaN", |b, c| direct(b, c, Op::IsNaN, 1)),
    // A few ops of the graph.
    ("Identity", |_, c| Ok(vec![c.operand(0)?.clone()])),
    ("Dropout", |_, c| Ok(vec![c.operand(0)?.clone()])),
    ("Sum", sum),
    ("Gather", gather),
    ("Gemm", gemm),
    ("Conv", conv),
    ("Where", select),
    ("Cast", cast),
    ("Gelu", gelu),
    ("Softmax", softmax),
    ("LayerNormalization", layer_normalization),
    ("ReduceMean", |b, c| reduce(b, c, 18, |b, c, x, axes| b.apply(c.origin, Op::ReduceMean { axes }, &[x]))),
    ("ReduceSum", |b, c| reduce(b, c, 13, |b, c, x, axes| b.apply(c.origin, Op::ReduceSum { axes }, &[x]))),
    ("Reshape", reshape),
    ("Flatten", flatten),
    ("Squeeze", squeeze),
    ("Unsqueeze", unsqueeze),
    ("Transpose", transpose),
    ("Expand", expand),
    ("Tile", tile),
    ("Concat", concat),
    ("Split", split),
    ("Slice", slice),
    // Public values only.
    ("Constant", constant),
    ("ConstantOfShape", constant_of_shape),
    ("Shape", shape),
    ("Size", |b, c| {
        let count = b.shape(c.operand(0)?).iter().product::<usize>() as i64;
        Ok(vec![Value::public(Tensor::I64(ndarray::arr0(count).into_dyn()))])
    }),
    ("Range", |b, c| fold(b, c, 3, |v| public::range(&v[0], &v[1], &v[2]))),
    ("Equal", |b, c| fold(b, c, 2, |v| public::equal(&v[0], &v[1]))),
    ("Less", |b, c| fold(b, c, 2, |v| public::compare(&v[0], &v[1], f32::lt, i64::lt))),
    ("LessOrEqual", |b, c| fold(b, c, 2, |v| public::compare(&v[0], &v[1], f32::le, i64::le))),
    ("Greater", |b, c| fold(b, c, 2, |v| public::compare(&v[0], &v[1], f32::gt, i64::gt))),
    ("GreaterOrEqual", |b, c| fold(b, c, 2, |v| public::compare(&v[0], &v[1], f32::ge, i64::ge))),
    ("And", |b, c| fold(b, c, 2, |v| public::logic(&v[0], &v[1], |x, y| x & y))),
    ("Or", |b, c| fold(b, c, 2, |v| public::logic(&v[0], &v[1], |x, y| x | y))),
    ("Xor", |b, c| fold(b, c, 2, |v| public::logic(&v[0], &v[1], |x, y| x ^ y))),
    ("Not", |b, c| fold(b, c, 1, |v| public::not(&v[0]))),
    ("Min", |b, c| chain(b, c, |v| public::numbers(&v[0], &v[1], f32::min, i64::min))),
    ("Max", |b, c| chain(b, c, |v| public::numbers(&v[0], &v[1], f32::max, i64::max))),
    ("Mod", modulo),
    ("Abs", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::abs, Some(i64::wrapping_abs)))),
    ("Sign", |b, c| {
        fold(b, c, 1, |v| public::map(&v[0], |x| if x == 0.0 { 0.0 } else { x.signum() }, Some(i64::signum)))
    }),
    ("Log", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::ln, None))),
    ("Cos", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::cos, None))),
    ("Sin", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::sin, None))),
    ("Floor", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::floor, None))),
    ("Ceil", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::ceil, None))),
    ("Round", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::round_ties_even, None))),
    ("Trilu", |b, c| {
        let k = match c.optional(1) {
            Some(_) => c.integers(1)?.first().copied().ok_or("its diagonal is empty")?,
            None => 0,
        };
        let upper = c.int("upper", 1) != 0;
        fold(b, c, 1, |v| public::trilu(&v[0], k, upper))
    }),
    ("CumSum", |b, c| {
        let axis = *c.integers(1)?.first().ok_or("its axis is empty")?;
        let axis = axis_of(axis, b.shape(c.operand(0)?).len())?;
        let (exclusive, reverse) = (c.int("exclusive", 0) != 0, c.int("reverse", 0) != 0);
        fold(b, c, 1, |v| public::cumsum(&v[0], axis, exclusive, reverse))
    }),
    ("ScatterND", |b, c| match c.attribute("reduction").and_then(|a| a.s.as_deref()) {
        None | Some(b"none") => fold(b, c, 3, |v| public::scatter_nd(&v[0], &v[1], &v[2])),
        Some(_) => Err("its `reduction` is not supported".into()),
    }),
    ("ReduceMax", |b, c| fold_reduce(b, c, f32::max, i64::max)),
    ("ReduceMin", |b, c| fold_reduce(b, c, f32::min, i64::min)),
    ("ReduceProd", |b, c| fold_reduce(b, c, |x, y| x * y, i64::wrapping_mul)),
];

impl Call<'_> {
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

    fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).and_then(|a| a.i).unwrap_or(default)
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
fn axis_of(axis: i64, rank: usize) -> Result<usize, String> {
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

/// A function of two public values, over any number of operands.
fn chain(b: &mut Builder, c: &Call, f: fn(&[View<'_>]) -> Result<Tensor, String>) -> Results {
    let mut result = c.operand(0)?.clone();
    for i in 1..c.operands.len() {
        let pair = [result, c.operand(i)?.clone()];
        let shape = broadcast(&b.shape(&pair[0]), &b.shape(&pair[1]))?;
        result = b.fold(c.origin, &pair, &shape, f)?;
    }
    if result.view().is_none() {
        return Err("it works on public values only, and its operand is secret".into());
    }
    Ok(vec![result])
}

fn sum(b: &mut Builder, c: &Call) -> Results {
    let mut result = c.operand(0)?.clone();
    for i in 1..c.operands.len() {
        result = b.apply(c.origin, Op::Add, &[result, c.operand(i)?.clone()])?;
    }
    Ok(vec![result])
}

fn modulo(b: &mut Builder, c: &Call) -> Results {
    if c.int("fmod", 0) == 0
        && let Some(View::I64(divisor)) = c.operand(1)?.view()
        && divisor.iter().any(|&d| d == 0)
    {
        return Err("an integer is divided by zero".into());
    }
    let fmod = c.int("fmod", 0) != 0;
    fold(b, c, 2, |v| match fmod {
        true => public::numbers(&v[0], &v[1], |x, y| x % y, |x, y| x.checked_rem(y).unwrap_or(0)),
        // The sign of the divisor, as in Python.
        false => public::numbers(
            &v[0],
            &v[1],
            |x, y| x - y * (x / y).floor(),
            |x, y| {
                let rest = x.checked_rem(y).unwrap_or(0);
                if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest }
            },
        ),
    })
}

fn gather(b: &mut Builder, c: &Call) -> Results {
    let (data, ids) = (c.operand(0)?, c.operand(1)?);
    let data_shape = b.shape(data);
    let axis = axis_of(c.int("axis", 0), data_shape.len())?;
    if data.view().is_some() || ids.view().is_none() {
        return Ok(vec![b.apply(c.origin, Op::Gather { axis }, &[data.clone(), ids.clone()])?]);
    }
    // Known places of a secret tensor.
    let size = data_shape[axis] as i64;
    let ids_shape = b.shape(ids);
    let ids: Vec<i64> = c.integers(1)?.into_iter().map(|i| if i < 0 { i.saturating_add(size) } else { i }).collect();
    let taken = take(b, c.origin, data, axis, &ids)?;
    let shape = [&data_shape[..axis], &ids_shape, &data_shape[axis + 1..]].concat();
    Ok(vec![b.shaped(c.origin, Op::Reshape, &[taken], &shape)?])
}

/// Known places along an axis: each run of consecutive ones is a slice.
fn take(b: &mut Builder, origin: &str, x: &Value, axis: usize, ids: &[i64]) -> Result<Value, String> {
    let size = b.shape(x)[axis];
    if ids.iter().any(|&i| usize::try_from(i).map_or(true, |i| i >= size)) {
        return Err(format!("an index is outside a dimension of {size}"));
    }
    if x.view().is_some() {
        return b.apply(origin, Op::Gather { axis }, &[x.clone(), Value::integers(ids.to_vec())]);
    }
    let runs = ids.chunk_by(|a, b| a + 1 == *b);
    let mut parts = Vec::new();
    for run in runs {
        let (from, to) = (run[0] as usize, run[0] as usize + run.len());
        parts.push(b.apply(origin, Op::Slice { axis, from, to }, std::slice::from_ref(x))?);
    }
    match parts.is_empty() {
        true => b.apply(origin, Op::Slice { axis, from: 0, to: 0 }, std::slice::from_ref(x)),
        false => b.apply(origin, Op::Concat { axis }, &parts),
    }
}

fn gemm(b: &mut Builder, c: &Call) -> Results {
    let mut factors = Vec::new();
    for (i, name) in [(0, "transA"), (1, "transB")] {
        let x = c.operand(i)?.clone();
        if b.shape(&x).len() != 2 {
            return Err(format!("operand {i} is not a matrix"));
        }
        factors.push(match c.int(name, 0) {
            0 => x,
            _ => b.apply(c.origin, Op::Transpose { perm: vec![1, 0] }, &[x])?,
        });
    }
    let mut y = b.apply(c.origin, Op::MatMul, &factors)?;
    let scaled = |b: &mut Builder, x: Value, factor: f32| match factor {
        1.0 => Ok(x),
        factor => b.apply(c.origin, Op::Mul, &[x, Value::scalar(factor)]),
    };
    y = scaled(b, y, c.float("alpha", 1.0))?;
    if let Some(bias) = c.optional(2) {
        let bias = scaled(b, bias.clone(), c.float("beta", 1.0))?;
        y = b.apply(c.origin, Op::Add, &[y, bias])?;
    }
    Ok(vec![y])
}

/// A convolution whose windows do not overlap, as vision transformers cut patches: each patch is a row times a matrix.
fn conv(b: &mut Builder, c: &Call) -> Results {
    let (x, w) = (c.operand(0)?.clone(), c.operand(1)?.clone());
    let (x_shape, w_shape) = (b.shape(&x), b.shape(&w));
    let (&[n, channels, height, width], &[out, w_channels, kh, kw]) = (&x_shape[..], &w_shape[..]) else {
        return Err("only two-dimensional convolutions are supported".into());
    };
    let stride = c.ints("strides").unwrap_or_else(|| vec![1, 1]);
    let plain = c.int("group", 1) == 1
        && c.ints("pads").is_none_or(|p| p.iter().all(|&p| p == 0))
        && c.ints("dilations").is_none_or(|d| d.iter().all(|&d| d == 1))
        && matches!(c.attribute("auto_pad").and_then(|a| a.s.as_deref()), None | Some(b"NOTSET" | b"VALID"));
    if !plain || channels != w_channels || stride != [kh as i64, kw as i64] || kh == 0 || kw == 0 {
        return Err(
            "only convolutions with stride equal to kernel, without padding, dilation or groups, are supported".into(),
        );
    }
    let (rows, columns) = (height / kh, width / kw);
    let o = c.origin;
    let x = b.apply(o, Op::Slice { axis: 2, from: 0, to: rows * kh }, &[x])?;
    let x = b.apply(o, Op::Slice { axis: 3, from: 0, to: columns * kw }, &[x])?;
    let x = b.shaped(o, Op::Reshape, &[x], &[n, channels, rows, kh, columns, kw])?;
    let x = b.apply(o, Op::Transpose { perm: vec![0, 2, 4, 1, 3, 5] }, &[x])?;
    let x = b.shaped(o, Op::Reshape, &[x], &[n, rows * columns, channels * kh * kw])?;
    let w = b.shaped(o, Op::Reshape, &[w], &[out, channels * kh * kw])?;
    let w = b.apply(o, Op::Transpose { perm: vec![1, 0] }, &[w])?;
    let mut y = b.apply(o, Op::MatMul, &[x, w])?;
    if let Some(bias) = c.optional(2) {
        y = b.apply(o, Op::Add, &[y, bias.clone()])?;
    }
    let y = b.apply(o, Op::Transpose { perm: vec![0, 2, 1] }, &[y])?;
    Ok(vec![b.shaped(o, Op::Reshape, &[y], &[n, out, rows, columns])?])
}

fn select(b: &mut Builder, c: &Call) -> Results {
    let (cond, x, y) = (c.operand(0)?, c.operand(1)?, c.operand(2)?);
    let shape = broadcast(&b.shape(cond), &broadcast(&b.shape(x), &b.shape(y))?)?;
    if let Value::Secret(id) = cond {
        // Where(IsNaN(s), 0, s): a guard for rows that a mask empties. A pattern keeps something of every row.
        let guards = b.graph.node(*id).op == Op::IsNaN
            && matches!(y, Value::Secret(y) if b.graph.operands(*id) == [*y])
            && matches!(x.view(), Some(View::F32(x)) if x.iter().all(|&x| x == 0.0));
        return match guards && b.shape(y) == shape {
            true => Ok(vec![y.clone()]),
            false => Err("its condition is secret".into()),
        };
    }
    if let Some(View::Bool(cond)) = cond.view() {
        for (keeps, chosen) in [(true, x), (false, y)] {
            if cond.iter().all(|&k| k == keeps) && b.typed(x).1 == b.typed(y).1 {
                return Ok(vec![b.shaped(c.origin, Op::Expand, std::slice::from_ref(chosen), &shape)?]);
            }
        }
    }
    direct(b, c, Op::Where, 3)
}

/// float16 and float64 are computed as 32-bit floats, narrow integers as 64-bit ones: a cast between them does nothing.
fn cast(b: &mut Builder, c: &Call) -> Results {
    let to = i32::try_from(c.int("to", 0)).map_err(|_| "its target type is out of range")?;
    let to = tensor::dtype(to)?;
    let x = c.operand(0)?;
    if b.typed(x).1 == to {
        return Ok(vec![x.clone()]);
    }
    match to {
        DType::F32 => direct(b, c, Op::ToF32, 1),
        _ => fold(b, c, 1, |v| Ok(public::cast(&v[0], to))),
    }
}

fn gelu(b: &mut Builder, c: &Call) -> Results {
    match c.attribute("approximate").and_then(|a| a.s.as_deref()) {
        None | Some(b"none") => direct(b, c, Op::Unary(Function::Gelu(GeluForm::Erf)), 1),
        Some(b"tanh") => direct(b, c, Op::Unary(Function::Gelu(GeluForm::Tanh)), 1),
        Some(_) => Err("its `approximate` is neither none nor tanh".into()),
    }
}

/// Before opset 13 the operand is taken as a matrix, cut before `axis`, and its rows are normalised.
fn softmax(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?.clone();
    let shape = b.shape(&x);
    let axis = axis_of(c.int("axis", if c.opset < 13 { 1 } else { -1 }), shape.len())?;
    if c.opset >= 13 || axis + 1 == shape.len() {
        return Ok(vec![b.apply(c.origin, Op::Softmax { axis }, &[x])?]);
    }
    let matrix = [shape[..axis].iter().product(), shape[axis..].iter().product()];
    let x = b.shaped(c.origin, Op::Reshape, &[x], &matrix)?;
    let x = b.apply(c.origin, Op::Softmax { axis: 1 }, &[x])?;
    Ok(vec![b.shaped(c.origin, Op::Reshape, &[x], &shape)?])
}

fn layer_normalization(b: &mut Builder, c: &Call) -> Results {
    let rank = b.shape(c.operand(0)?).len();
    if axis_of(c.int("axis", -1), rank)? + 1 != rank {
        return Err("it normalises more than the last axis".into());
    }
    let epsilon = c.float("epsilon", 1e-5);
    direct(b, c, Op::LayerNormalization { epsilon }, if c.optional(2).is_some() { 3 } else { 2 })
}

/// Axes are an operand from opset `since` on. All axes by default.
fn reduce(
    b: &mut Builder,
    c: &Call,
    since: i64,
    f: impl FnOnce(&mut Builder, &Call, Value, Vec<usize>) -> Result<Value, String>,
) -> Results {
    let x = c.operand(0)?.clone();
    let shape = b.shape(&x);
    let axes = match c.moved("axes", 1, since)? {
        Some(axes) if !axes.is_empty() => axes_of(&axes, shape.len())?,
        _ if c.int("noop_with_empty_axes", 0) != 0 => return Ok(vec![x]),
        _ => (0..shape.len()).collect(),
    };
    let y = f(b, c, x, axes.clone())?;
    if c.int("keepdims", 1) != 0 {
        return Ok(vec![y]);
    }
    let left: Vec<usize> = (0..shape.len()).filter(|i| !axes.contains(i)).map(|i| shape[i]).collect();
    Ok(vec![b.shaped(c.origin, Op::Reshape, &[y], &left)?])
}

fn fold_reduce(b: &mut Builder, c: &Call, float: fn(f32, f32) -> f32, integer: fn(i64, i64) -> i64) -> Results {
    reduce(b, c, 18, |b, c, x, axes| b.fold(c.origin, &[x], &[], |v| public::reduce(&v[0], &axes, float, integer)))
}

fn reshape(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let from = b.shape(x);
    let wanted = c.integers(1)?;
    let keeps_zero = c.int("allowzero", 0) != 0;
    let mut shape = Vec::new();
    let mut free = None;
    for (i, &d) in wanted.iter().enumerate() {
        shape.push(match d {
            0 if !keeps_zero => *from.get(i).ok_or("a 0 in its shape has no dimension to copy")?,
            -1 if free.replace(i).is_none() => 1,
            d => dimension(d)?,
        });
    }
    if let Some(i) = free {
        let (have, rest) = (size(&from), size(&shape));
        if rest == 0 || have % rest != 0 {
            return Err(format!("{from:?} does not reshape to {wanted:?}"));
        }
        shape[i] = have / rest;
    }
    Ok(vec![b.shaped(c.origin, Op::Reshape, std::slice::from_ref(x), &shape)?])
}

fn size(shape: &[usize]) -> usize {
    shape.iter().fold(1, |n, &d| n.saturating_mul(d))
}

fn flatten(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let shape = b.shape(x);
    let axis = match c.int("axis", 1) {
        axis if axis == shape.len() as i64 => shape.len(),
        axis => axis_of(axis, shape.len())?,
    };
    let to = [size(&shape[..axis]), size(&shape[axis..])];
    Ok(vec![b.shaped(c.origin, Op::Reshape, std::slice::from_ref(x), &to)?])
}

fn squeeze(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let shape = b.shape(x);
    let axes = match c.moved("axes", 1, 13)? {
        Some(axes) => axes_of(&axes, shape.len())?,
        None => (0..shape.len()).filter(|&i| shape[i] == 1).collect(),
    };
    if let Some(axis) = axes.iter().find(|&&a| shape[a] != 1) {
        return Err(format!("axis {axis} of {shape:?} is not 1"));
    }
    let to: Vec<usize> = (0..shape.len()).filter(|i| !axes.contains(i)).map(|i| shape[i]).collect();
    Ok(vec![b.shaped(c.origin, Op::Reshape, std::slice::from_ref(x), &to)?])
}

fn unsqueeze(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let mut shape = b.shape(x);
    let axes = c.moved("axes", 1, 13)?.ok_or("its axes are missing")?;
    for axis in axes_of(&axes, shape.len() + axes.len())? {
        shape.insert(axis, 1);
    }
    Ok(vec![b.shaped(c.origin, Op::Reshape, std::slice::from_ref(x), &shape)?])
}

fn transpose(b: &mut Builder, c: &Call) -> Results {
    let rank = b.shape(c.operand(0)?).len();
    let perm = match c.ints("perm") {
        Some(perm) => perm.iter().map(|&a| axis_of(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).rev().collect(),
    };
    direct(b, c, Op::Transpose { perm }, 1)
}

fn expand(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let wanted = c.integers(1)?.into_iter().map(dimension).collect::<Result<Vec<_>, _>>()?;
    let shape = broadcast(&b.shape(x), &wanted)?;
    Ok(vec![b.shaped(c.origin, Op::Expand, std::slice::from_ref(x), &shape)?])
}

/// [a, b] repeated r, s times is [1, a, 1, b] expanded to [r, a, s, b].
fn tile(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let shape = b.shape(x);
    let repeats = c.integers(1)?.into_iter().map(dimension).collect::<Result<Vec<_>, _>>()?;
    if repeats.len() != shape.len() {
        return Err(format!("{} repeats for a tensor of rank {}", repeats.len(), shape.len()));
    }
    let cut: Vec<usize> = shape.iter().flat_map(|&d| [1, d]).collect();
    let wide: Vec<usize> = repeats.iter().zip(&shape).flat_map(|(&r, &d)| [r, d]).collect();
    let to: Vec<usize> = repeats.iter().zip(&shape).map(|(&r, &d)| r.saturating_mul(d)).collect();
    let x = b.shaped(c.origin, Op::Reshape, std::slice::from_ref(x), &cut)?;
    let x = b.shaped(c.origin, Op::Expand, &[x], &wide)?;
    Ok(vec![b.shaped(c.origin, Op::Reshape, &[x], &to)?])
}

fn concat(b: &mut Builder, c: &Call) -> Results {
    let operands = (0..c.operands.len()).map(|i| c.operand(i).cloned()).collect::<Result<Vec<_>, _>>()?;
    let rank = b.shape(c.operand(0)?).len();
    let axis = axis_of(c.attribute("axis").and_then(|a| a.i).ok_or("its axis is missing")?, rank)?;
    // What is empty adds nothing: a cache of keys and values before the first token.
    let parts: Vec<Value> = operands.iter().filter(|x| b.shape(x).get(axis) != Some(&0)).cloned().collect();
    let operands = if parts.is_empty() { operands } else { parts };
    Ok(vec![b.apply(c.origin, Op::Concat { axis }, &operands)?])
}

fn split(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let shape = b.shape(x);
    let axis = axis_of(c.int("axis", 0), shape.len())?;
    let sizes = match c.moved("split", 1, 13)? {
        Some(sizes) => sizes.into_iter().map(dimension).collect::<Result<Vec<_>, _>>()?,
        None => {
            let parts = c.node.output.len();
            let part = shape[axis].div_ceil(parts.max(1));
            (0..parts).map(|i| part.min(shape[axis].saturating_sub(i * part))).collect()
        }
    };
    if sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s)) != Some(shape[axis]) {
        return Err(format!("parts {sizes:?} do not make up dimension {}", shape[axis]));
    }
    let mut from = 0;
    let mut parts = Vec::new();
    for size in sizes {
        let op = Op::Slice { axis, from, to: from + size };
        parts.push(b.apply(c.origin, op, std::slice::from_ref(x))?);
        from += size;
    }
    Ok(parts)
}

fn slice(b: &mut Builder, c: &Call) -> Results {
    let mut x = c.operand(0)?.clone();
    let rank = b.shape(&x).len();
    let starts = c.moved("starts", 1, 10)?.ok_or("its starts are missing")?;
    let ends = c.moved("ends", 2, 10)?.ok_or("its ends are missing")?;
    let axes = c.moved("axes", 3, 10)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = if c.opset >= 10 { c.moved("steps", 4, 10)? } else { None };
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("its starts, ends, axes and steps differ in number".into());
    }
    for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
        let axis = axis_of(axis, rank)?;
        let size = b.shape(&x)[axis] as i64;
        let place =
            |i: i64, low: i64, high: i64| (if i < 0 { i.saturating_add(size) } else { i }).clamp(low, high.max(low));
        x = match step {
            0 => return Err("a step is zero".into()),
            1 => {
                let from = place(start, 0, size);
                let to = place(end, 0, size).max(from);
                b.apply(c.origin, Op::Slice { axis, from: from as usize, to: to as usize }, &[x])?
            }
            step => {
                let (from, to) = match step > 0 {
                    true => (place(start, 0, size), place(end, 0, size)),
                    false => (place(start, -1, size - 1), place(end, -1, size - 1)),
                };
                let inside = |i: &i64| if step > 0 { *i < to } else { *i > to };
                let ids: Vec<i64> =
                    std::iter::successors(Some(from), |i| i.checked_add(step)).take_while(inside).collect();
                take(b, c.origin, &x, axis, &ids)?
            }
        };
    }
    Ok(vec![x])
}

/// A single number is public; what holds more may be a weight, and is treated as an initializer.
fn constant(b: &mut Builder, c: &Call) -> Results {
    let attribute = c.node.attribute.first().ok_or("it holds nothing")?;
    let value = match attribute.name() {
        "value" => tensor::read(attribute.t.as_ref().ok_or("its value is missing")?, c.dir)?,
        "value_float" => Tensor::F32(ndarray::arr0(attribute.f.unwrap_or(0.0)).into_dyn()),
        "value_int" => Tensor::I64(ndarray::arr0(attribute.i.unwrap_or(0)).into_dyn()),
        "value_floats" => Tensor::F32(ndarray::Array1::from(attribute.floats.clone()).into_dyn()),
        "value_ints" => Tensor::I64(ndarray::Array1::from(attribute.ints.clone()).into_dyn()),
        other => return Err(format!("its attribute `{other}` is not supported")),
    };
    Ok(vec![match value {
        Tensor::F32(value) if value.len() > 1 => b.float(c.origin, value),
        value => Value::public(value),
    }])
}

fn constant_of_shape(b: &mut Builder, c: &Call) -> Results {
    let shape = c.integers(0)?.into_iter().map(dimension).collect::<Result<Vec<_>, _>>()?;
    crate::graph::shape::check_size(&shape)?;
    let element = match c.attribute("value").and_then(|a| a.t.as_ref()) {
        Some(t) => tensor::read(t, c.dir)?,
        None => Tensor::F32(ndarray::arr0(0.0).into_dyn()),
    };
    Ok(vec![b.fold(c.origin, &[], &shape, |_| public::filled(&shape, &element))?])
}

fn shape(b: &mut Builder, c: &Call) -> Results {
    let shape: Vec<i64> = b.shape(c.operand(0)?).into_iter().map(|d| d as i64).collect();
    let rank = shape.len() as i64;
    let place = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let (from, to) = (place(c.int("start", 0)), place(c.int("end", rank)));
    Ok(vec![Value::integers(shape.get(from..to).unwrap_or_default().to_vec())])
}
