//! Tests, logic, the choice by a condition, conversions.

use super::{Call, Handler, Results, direct, fold};
use crate::graph::kernel::View;
use crate::graph::shape::broadcast;
use crate::graph::{DType, Op};
use crate::onnx::build::{Builder, Value};
use crate::onnx::{public, tensor};

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("IsNaN", |b, c| direct(b, c, Op::IsNaN, 1)),
    ("Equal", |b, c| fold(b, c, 2, |v| public::equal(&v[0], &v[1]))),
    ("Less", |b, c| fold(b, c, 2, |v| public::compare(&v[0], &v[1], f32::lt, i64::lt))),
    ("LessOrEqual", |b, c| fold(b, c, 2, |v| public::compare(&v[0], &v[1], f32::le, i64::le))),
    ("Greater", |b, c| fold(b, c, 2, |v| public::compare(&v[0], &v[1], f32::gt, i64::gt))),
    ("GreaterOrEqual", |b, c| fold(b, c, 2, |v| public::compare(&v[0], &v[1], f32::ge, i64::ge))),
    ("And", |b, c| fold(b, c, 2, |v| public::logic(&v[0], &v[1], |x, y| x & y))),
    ("Or", |b, c| fold(b, c, 2, |v| public::logic(&v[0], &v[1], |x, y| x | y))),
    ("Xor", |b, c| fold(b, c, 2, |v| public::logic(&v[0], &v[1], |x, y| x ^ y))),
    ("Not", |b, c| fold(b, c, 1, |v| public::not(&v[0]))),
    ("Where", select),
    ("Cast", cast),
];

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
