//! Arithmetic element by element with broadcasting.

use super::{Family, plain, stranger};
use crate::graph::kernel::{Element, View, zip};
use crate::graph::shape::{Operands, Typed, broadcast};
use crate::graph::{DType, Op, Tensor};

pub(super) const FAMILY: Family = Family {
    name,
    attributes: |_| String::new(),
    parse: |_, name, _| Ok(plain(&[Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Pow, Op::Neg, Op::ToF32], name)),
    rule: |op, operands, _| rule(op, operands),
    kernel: |op, operands, _, _| kernel(op, operands),
};

fn name(op: &Op) -> &'static str {
    match op {
        Op::Add => "add",
        Op::Sub => "sub",
        Op::Mul => "mul",
        Op::Div => "div",
        Op::Pow => "pow",
        Op::Neg => "neg",
        Op::ToF32 => "to_f32",
        _ => stranger(op),
    }
}

fn rule(op: &Op, operands: Operands<'_>) -> Result<Typed, String> {
    use DType::{Bool, F32, I64};
    operands.count(if matches!(op, Op::Neg | Op::ToF32) { 1..=1 } else { 2..=2 })?;
    let first = operands.dtype(0);
    match op {
        Op::Neg if first == Bool => Err("operand 0 holds Bool".into()),
        Op::Neg => Ok((operands.shape(0).clone(), first)),
        Op::ToF32 => Ok((operands.shape(0).clone(), F32)),
        _ => {
            let second = operands.dtype(1);
            let fits = match op {
                Op::Pow => first != Bool && second != Bool && (first, second) != (I64, F32),
                _ => first == second && first != Bool,
            };
            if !fits {
                return Err(format!("operands hold {first:?} and {second:?}"));
            }
            Ok((broadcast(operands.shape(0), operands.shape(1))?, first))
        }
    }
}

fn kernel(op: &Op, operands: &[View<'_>]) -> Result<Tensor, String> {
    match op {
        Op::Add => arithmetic(operands, |a, b| a + b, |a, b| Ok(a.wrapping_add(b))),
        Op::Sub => arithmetic(operands, |a, b| a - b, |a, b| Ok(a.wrapping_sub(b))),
        Op::Mul => arithmetic(operands, |a, b| a * b, |a, b| Ok(a.wrapping_mul(b))),
        Op::Div => arithmetic(
            operands,
            |a, b| a / b,
            |a, b| if b == 0 { Err("an integer is divided by zero".into()) } else { Ok(a.wrapping_div(b)) },
        ),
        Op::Pow => pow(operands),
        Op::Neg => Ok(match &operands[0] {
            View::I64(x) => Tensor::I64(x.mapv(i64::wrapping_neg)),
            x => Tensor::F32(f32::of(x).mapv(|x| -x)),
        }),
        Op::ToF32 => Ok(Tensor::F32(match &operands[0] {
            View::F32(a) => a.to_owned(),
            View::I64(a) => a.mapv(|x| x as f32),
            View::Bool(a) => a.mapv(|x| f32::from(u8::from(x))),
        })),
        _ => stranger(op),
    }
}

fn arithmetic(
    operands: &[View<'_>],
    float: impl Fn(f32, f32) -> f32,
    integer: impl Fn(i64, i64) -> Result<i64, String>,
) -> Result<Tensor, String> {
    if operands[0].dtype() == DType::F32 {
        return zip(f32::of(&operands[0]), f32::of(&operands[1]), float).map(Tensor::F32);
    }
    let mut fault = None;
    let out = zip(i64::of(&operands[0]), i64::of(&operands[1]), |a, b| {
        integer(a, b).unwrap_or_else(|e| {
            fault = Some(e);
            0
        })
    })?;
    fault.map_or(Ok(Tensor::I64(out)), Err)
}

fn pow(operands: &[View<'_>]) -> Result<Tensor, String> {
    let power = |x: f32, y: f32| match y {
        2.0 => x * x,
        3.0 => x * x * x,
        _ => x.powf(y),
    };
    match (&operands[0], &operands[1]) {
        (View::F32(x), View::F32(y)) => zip(x, y, power).map(Tensor::F32),
        (View::F32(x), View::I64(y)) => zip(x, y, |x, y| power(x, y as f32)).map(Tensor::F32),
        (View::I64(x), View::I64(y)) => {
            if y.iter().any(|y| u32::try_from(*y).is_err()) {
                return Err("an integer power is negative or too great".into());
            }
            zip(x, y, |x, y| x.wrapping_pow(y as u32)).map(Tensor::I64)
        }
        _ => unreachable!("checked by the type rules"),
    }
}
