//! Reductions over axes, running sums, greatest places.

use super::{Call, Handler, One, Results, Writer, axes_of, axis_of};
use crate::graph::kernel::from_vec;
use crate::graph::{DType, Function, Op, Tensor};
use crate::onnx::build::{Builder, Value};
use crate::onnx::public;

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("ReduceSum", |b, c| reduce(b, c, 13, |w, x, axes| w.sum(x, axes))),
    ("ReduceMean", |b, c| reduce(b, c, 18, |w, x, axes| w.mean(x, axes))),
    ("ReduceMax", |b, c| reduce(b, c, 18, greatest)),
    ("ReduceMin", |b, c| reduce(b, c, 18, least)),
    ("ReduceProd", |b, c| reduce(b, c, 18, product)),
    ("ReduceL1", |b, c| {
        reduce(b, c, 18, |w, x, axes| {
            let x = w.unary(Function::Abs {}, x)?;
            w.sum(&x, axes)
        })
    }),
    ("ReduceL2", |b, c| {
        reduce(b, c, 18, |w, x, axes| {
            let sum = squares(w, x, axes)?;
            w.unary(Function::Sqrt {}, &sum)
        })
    }),
    ("ReduceSumSquare", |b, c| reduce(b, c, 18, squares)),
    ("ReduceLogSum", |b, c| {
        reduce(b, c, 18, |w, x, axes| {
            let sum = w.sum(x, axes)?;
            w.unary(Function::Log {}, &sum)
        })
    }),
    ("ReduceLogSumExp", |b, c| reduce(b, c, 18, |w, x, axes| Ok(log_sum_exp(w, x, axes)?.0))),
    ("GlobalAveragePool", |b, c| pool_all(b, c, |w, x, axes| w.mean(x, axes))),
    ("GlobalMaxPool", |b, c| pool_all(b, c, |w, x, axes| w.greatest(x, axes))),
    ("ArgMax", |b, c| arg_max(b, c, false)),
    ("ArgMin", |b, c| arg_max(b, c, true)),
    ("CumSum", cum_sum),
];

/// Axes are an operand from opset `since` on. All axes by default.
fn reduce(b: &mut Builder, c: &Call, since: i64, f: impl Fn(&mut Writer, &Value, &[usize]) -> One) -> Results {
    let x = c.operand(0)?.clone();
    let shape = b.shape(&x);
    let axes = match c.moved("axes", 1, since)? {
        Some(axes) if !axes.is_empty() => axes_of(&axes, shape.len())?,
        // Nothing is reduced, but what a reduction does to each element is done.
        _ if c.int("noop_with_empty_axes", 0) != 0 => return Ok(vec![f(&mut c.write(b), &x, &[])?]),
        _ => (0..shape.len()).collect(),
    };
    let mut w = c.write(b);
    let y = f(&mut w, &x, &axes)?;
    if c.int("keepdims", 1) != 0 {
        return Ok(vec![y]);
    }
    let left: Vec<usize> = (0..shape.len()).filter(|i| !axes.contains(i)).map(|i| shape[i]).collect();
    Ok(vec![w.reshape(&y, &left)?])
}

fn known(
    w: &mut Writer,
    x: &Value,
    axes: &[usize],
    float: (fn(f32, f32) -> f32, f32),
    integer: (fn(i64, i64) -> i64, i64),
) -> One {
    // Nothing at all may give many neutral elements.
    let mut shape = w.shape(x);
    axes.iter().for_each(|&axis| shape[axis] = 1);
    w.b.fold(w.origin, std::slice::from_ref(x), &shape, |v| public::reduce(&v[0], axes, float, integer))
}

/// Known values may be integers and truths, or nothing at all.
fn greatest(w: &mut Writer, x: &Value, axes: &[usize]) -> One {
    match x.view() {
        Some(_) => known(w, x, axes, (f32::max, f32::NEG_INFINITY), (i64::max, i64::MIN)),
        None => w.greatest(x, axes),
    }
}

fn least(w: &mut Writer, x: &Value, axes: &[usize]) -> One {
    if x.view().is_some() {
        return known(w, x, axes, (f32::min, f32::INFINITY), (i64::min, i64::MAX));
    }
    let x = w.neg(x)?;
    let greatest = w.greatest(&x, axes)?;
    w.neg(&greatest)
}

/// The product of the halves of each axis, halved again.
fn product(w: &mut Writer, x: &Value, axes: &[usize]) -> One {
    if x.view().is_some() {
        return known(w, x, axes, (|x, y| x * y, 1.0), (i64::wrapping_mul, 1));
    }
    let mut x = x.clone();
    for &axis in axes {
        loop {
            let size = w.shape(&x)[axis];
            if size <= 1 {
                break;
            }
            let (first, second) = (w.slice(&x, axis, 0, size / 2)?, w.slice(&x, axis, size / 2, size / 2 * 2)?);
            let rest = w.slice(&x, axis, size / 2 * 2, size)?;
            let pairs = w.mul(&first, &second)?;
            x = if size.is_multiple_of(2) { pairs } else { w.concat(axis, &[pairs, rest])? };
        }
    }
    Ok(x)
}

pub(super) fn squares(w: &mut Writer, x: &Value, axes: &[usize]) -> One {
    let x = w.mul(x, x)?;
    w.sum(&x, axes)
}

/// ln Σ exp x, and x less it.
pub(super) fn log_sum_exp(w: &mut Writer, x: &Value, axes: &[usize]) -> Result<(Value, Value), String> {
    if w.shape(x).contains(&0) {
        let sum = w.unary(Function::Exp {}, x)?;
        let sum = w.sum(&sum, axes)?;
        return Ok((w.unary(Function::Log {}, &sum)?, x.clone()));
    }
    let greatest = greatest(w, x, axes)?;
    let below = w.sub(x, &greatest)?;
    let sum = w.unary(Function::Exp {}, &below)?;
    let sum = w.sum(&sum, axes)?;
    let log = w.unary(Function::Log {}, &sum)?;
    Ok((w.add(&log, &greatest)?, w.sub(&below, &log)?))
}

/// Over all axes but the first two.
fn pool_all(b: &mut Builder, c: &Call, f: impl Fn(&mut Writer, &Value, &[usize]) -> One) -> Results {
    let x = c.operand(0)?;
    let axes: Vec<usize> = (2..b.shape(x).len()).collect();
    Ok(vec![f(&mut c.write(b), x, &axes)?])
}

fn arg_max(b: &mut Builder, c: &Call, least: bool) -> Results {
    let x = c.operand(0)?.clone();
    let shape = b.shape(&x);
    let axis = axis_of(c.int("axis", 0), shape.len())?;
    let last = c.int("select_last_index", 0) != 0;
    let mut w = c.write(b);
    // The order of integers is that of floats here: positions and truths.
    let x = if w.b.typed(&x).1 == DType::F32 || x.view().is_none() { x } else { w.op(Op::ToF32, &[&x])? };
    let x = if least { w.neg(&x)? } else { x };
    let y = w.op(Op::ArgMax { axis, last }, &[&x])?;
    if c.int("keepdims", 1) != 0 {
        return Ok(vec![y]);
    }
    let left: Vec<usize> = (0..shape.len()).filter(|&i| i != axis).map(|i| shape[i]).collect();
    Ok(vec![w.reshape(&y, &left)?])
}

/// Of secret values a product with a matrix of zeros and ones.
fn cum_sum(b: &mut Builder, c: &Call) -> Results {
    let axis = *c.integers(1)?.first().ok_or("its axis is empty")?;
    let x = c.operand(0)?;
    let axis = axis_of(axis, b.shape(x).len())?;
    let (exclusive, reverse) = (c.int("exclusive", 0) != 0, c.int("reverse", 0) != 0);
    let mut w = c.write(b);
    Ok(vec![running_sum(&mut w, x, axis, exclusive, reverse)?])
}

pub(super) fn running_sum(w: &mut Writer, x: &Value, axis: usize, exclusive: bool, reverse: bool) -> One {
    if x.view().is_some() {
        let shape = w.shape(x);
        return w
            .b
            .fold(w.origin, std::slice::from_ref(x), &shape, |v| public::cumsum(&v[0], axis, exclusive, reverse));
    }
    let n = w.shape(x)[axis];
    let counts = |from: usize, to: usize| match (if reverse { (to, from) } else { (from, to) }, exclusive) {
        ((from, to), false) => from <= to,
        ((from, to), true) => from < to,
    };
    let ones = (0..w.b.make(&[n, n])?).map(|at| f32::from(u8::from(counts(at / n, at % n)))).collect();
    let ones = Value::public(Tensor::F32(from_vec(&[n, n], ones)));
    along_last(w, x, axis, |w, x| w.matmul(x, &ones))
}

/// Brings an axis to the end, does something to it, and brings it back.
pub(super) fn along_last(w: &mut Writer, x: &Value, axis: usize, f: impl FnOnce(&mut Writer, &Value) -> One) -> One {
    let rank = w.shape(x).len();
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 1);
    let x = w.transpose(x, &perm)?;
    let y = f(w, &x)?;
    w.transpose(&y, &perm)
}
