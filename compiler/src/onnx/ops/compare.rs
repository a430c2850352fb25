//! Tests, logic, the choice by a condition, conversions. A secret truth is chosen by another: x and y is "y if x, else
//! false".

use super::{Call, Handler, One, Results, Writer, direct, fold};
use crate::graph::kernel::View;
use crate::graph::shape::broadcast;
use crate::graph::{DType, Op, Tensor};
use crate::onnx::build::{Builder, Value};
use crate::onnx::{public, tensor};

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Equal", equal),
    ("Less", |b, c| compare(b, c, Op::Less, false)),
    ("LessOrEqual", |b, c| compare(b, c, Op::LessOrEqual, false)),
    ("Greater", |b, c| compare(b, c, Op::Less, true)),
    ("GreaterOrEqual", |b, c| compare(b, c, Op::LessOrEqual, true)),
    ("And", |b, c| logic(b, c, |x, y| x & y, and)),
    ("Or", |b, c| logic(b, c, |x, y| x | y, or)),
    ("Xor", |b, c| logic(b, c, |x, y| x ^ y, xor)),
    ("Not", |b, c| match c.operand(0)?.view() {
        Some(_) => fold(b, c, 1, |v| public::not(&v[0])),
        None => Ok(vec![not(&mut c.write(b), c.operand(0)?)?]),
    }),
    ("IsNaN", |b, c| direct(b, c, Op::IsNaN, 1)),
    ("IsInf", |b, c| {
        let (below, above) = (c.int("detect_negative", 1) != 0, c.int("detect_positive", 1) != 0);
        if c.operand(0)?.view().is_none() {
            return Err("an infinite number takes part in what it looks at, and shares hold none".into());
        }
        fold(b, c, 1, |v| public::test(&v[0], |x| x.is_infinite() && if x < 0.0 { below } else { above }))
    }),
    ("Where", select),
    ("Cast", |b, c| {
        let to = i32::try_from(c.int("to", 0)).map_err(|_| "its target type is out of range")?;
        cast(b, c, tensor::dtype(to)?)
    }),
    ("CastLike", |b, c| {
        let to = b.typed(c.operand(1)?).1;
        cast(b, c, to)
    }),
];

fn truth(value: bool) -> Value {
    Value::public(Tensor::Bool(ndarray::arr0(value).into_dyn()))
}

fn and(w: &mut Writer, x: &Value, y: &Value) -> One {
    w.op(Op::Where, &[x, y, &truth(false)])
}

fn or(w: &mut Writer, x: &Value, y: &Value) -> One {
    w.op(Op::Where, &[x, &truth(true), y])
}

fn not(w: &mut Writer, x: &Value) -> One {
    w.op(Op::Where, &[x, &truth(false), &truth(true)])
}

fn xor(w: &mut Writer, x: &Value, y: &Value) -> One {
    let (x, y) = if y.view().is_some() { (y, x) } else { (x, y) };
    let other = not(w, y)?;
    w.op(Op::Where, &[x, &other, y])
}

fn logic(
    b: &mut Builder,
    c: &Call,
    known: fn(bool, bool) -> bool,
    secret: fn(&mut Writer, &Value, &Value) -> One,
) -> Results {
    let (x, y) = (c.operand(0)?, c.operand(1)?);
    match x.view().is_some() && y.view().is_some() {
        true => fold(b, c, 2, |v| public::logic(&v[0], &v[1], known)),
        false => Ok(vec![secret(&mut c.write(b), x, y)?]),
    }
}

/// `swapped` says that the operands change places.
fn compare(b: &mut Builder, c: &Call, op: Op, swapped: bool) -> Results {
    let (x, y) = (c.operand(0)?, c.operand(1)?);
    let (x, y) = if swapped { (y, x) } else { (x, y) };
    if let (Some(View::I64(_)), Some(View::I64(_))) = (x.view(), y.view()) {
        let integer: fn(i64, i64) -> bool = if op == Op::Less { |x, y| x < y } else { |x, y| x <= y };
        let (shape, both) = (broadcast(&b.shape(x), &b.shape(y))?, [x.clone(), y.clone()]);
        return Ok(vec![b.fold(c.origin, &both, &shape, |v| public::compare(&v[0], &v[1], integer))?]);
    }
    if b.typed(x).1 == DType::I64 {
        return Err(COMPARES.into());
    }
    Ok(vec![c.write(b).op(op, &[x, y])?])
}

/// Positions and masks are made of integers, and are public.
const COMPARES: &str =
    "it compares secret integers; where they are no token ids, --bind NAME=VALUE makes the input public";

/// Secret numbers are equal if neither is less.
fn equal(b: &mut Builder, c: &Call) -> Results {
    let (x, y) = (c.operand(0)?, c.operand(1)?);
    if x.view().is_some() && y.view().is_some() {
        return fold(b, c, 2, |v| public::equal(&v[0], &v[1]));
    }
    let dtype = b.typed(x).1;
    if dtype == DType::I64 {
        return Err(COMPARES.into());
    }
    let mut w = c.write(b);
    if dtype == DType::Bool {
        let other = xor(&mut w, x, y)?;
        return Ok(vec![not(&mut w, &other)?]);
    }
    let below = w.op(Op::LessOrEqual, &[x, y])?;
    let above = w.op(Op::LessOrEqual, &[y, x])?;
    Ok(vec![and(&mut w, &below, &above)?])
}

fn select(b: &mut Builder, c: &Call) -> Results {
    let (cond, x, y) = (c.operand(0)?, c.operand(1)?, c.operand(2)?);
    let shape = broadcast(&b.shape(cond), &broadcast(&b.shape(x), &b.shape(y))?)?;
    if let Value::Secret(id) = cond {
        // Where(IsNaN(s), 0, s): a guard for rows that a mask empties. A pattern keeps something of every row.
        let guards = b.graph.node(*id).op == Op::IsNaN
            && matches!(y, Value::Secret(y) if b.graph.operands(*id) == [*y])
            && matches!(x.view(), Some(View::F32(x)) if x.iter().all(|&x| x == 0.0));
        if guards && b.shape(y) == shape {
            return Ok(vec![y.clone()]);
        }
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
fn cast(b: &mut Builder, c: &Call, to: DType) -> Results {
    let x = c.operand(0)?;
    let from = b.typed(x).1;
    if from == to {
        return Ok(vec![x.clone()]);
    }
    match (to, x.view()) {
        (DType::F32, _) => direct(b, c, Op::ToF32, 1),
        (_, Some(_)) => fold(b, c, 1, |v| Ok(public::cast(&v[0], to))),
        (DType::Bool, None) => Err("a secret number is compared with zero, where noise decides".into()),
        (DType::I64, None) if from == DType::Bool => {
            Err("a secret truth becomes an integer, which is not supported".into())
        }
        (DType::I64, None) => {
            Err("rounding a secret number to integers jumps where its last bits, which are noise, decide".into())
        }
    }
}
