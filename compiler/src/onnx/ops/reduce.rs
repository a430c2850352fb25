//! Reductions over axes, and running sums.

use super::{Call, Handler, Results, axes_of, axis_of, fold};
use crate::graph::Op;
use crate::onnx::build::{Builder, Value};
use crate::onnx::public;

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("ReduceMean", |b, c| reduce(b, c, 18, |b, c, x, axes| b.apply(c.origin, Op::ReduceMean { axes }, &[x]))),
    ("ReduceSum", |b, c| reduce(b, c, 13, |b, c, x, axes| b.apply(c.origin, Op::ReduceSum { axes }, &[x]))),
    ("ReduceMax", |b, c| fold_reduce(b, c, f32::max, i64::max)),
    ("ReduceMin", |b, c| fold_reduce(b, c, f32::min, i64::min)),
    ("ReduceProd", |b, c| fold_reduce(b, c, |x, y| x * y, i64::wrapping_mul)),
    ("CumSum", |b, c| {
        let axis = *c.integers(1)?.first().ok_or("its axis is empty")?;
        let axis = axis_of(axis, b.shape(c.operand(0)?).len())?;
        let (exclusive, reverse) = (c.int("exclusive", 0) != 0, c.int("reverse", 0) != 0);
        fold(b, c, 1, |v| public::cumsum(&v[0], axis, exclusive, reverse))
    }),
];

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
