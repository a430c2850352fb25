//! Arithmetic element by element.

use super::{Call, Handler, Results, direct, fold};
use crate::graph::kernel::View;
use crate::graph::shape::broadcast;
use crate::graph::{Op, Tensor};
use crate::onnx::build::Builder;
use crate::onnx::public;

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Add", |b, c| direct(b, c, Op::Add, 2)),
    ("Sub", |b, c| direct(b, c, Op::Sub, 2)),
    ("Mul", |b, c| direct(b, c, Op::Mul, 2)),
    ("Div", |b, c| direct(b, c, Op::Div, 2)),
    ("Pow", |b, c| direct(b, c, Op::Pow, 2)),
    ("Neg", |b, c| direct(b, c, Op::Neg, 1)),
    ("Sum", sum),
    ("Min", |b, c| chain(b, c, |v| public::numbers(&v[0], &v[1], f32::min, i64::min))),
    ("Max", |b, c| chain(b, c, |v| public::numbers(&v[0], &v[1], f32::max, i64::max))),
    ("Mod", modulo),
];

fn sum(b: &mut Builder, c: &Call) -> Results {
    let mut result = c.operand(0)?.clone();
    for i in 1..c.operands.len() {
        result = b.apply(c.origin, Op::Add, &[result, c.operand(i)?.clone()])?;
    }
    Ok(vec![result])
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
