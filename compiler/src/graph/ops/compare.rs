//! Tests of numbers, which give booleans, and the choice by one.

use ndarray::{ArrayD, ArrayViewD, IxDyn, Zip};

use super::{Family, plain, stranger};
use crate::graph::kernel::{Element, View, for_dtype, wide, zip};
use crate::graph::shape::{Operands, Typed, broadcast};
use crate::graph::{DType, Op, Tensor};

pub(super) const FAMILY: Family = Family {
    name,
    attributes: |_| String::new(),
    parse: |_, name, _| Ok(plain(&[Op::Less, Op::LessOrEqual, Op::IsNaN, Op::Where], name)),
    rule: |op, operands, _| rule(op, operands),
    kernel: |op, operands, shape, _| kernel(op, operands, shape),
};

fn name(op: &Op) -> &'static str {
    match op {
        Op::Less => "less",
        Op::LessOrEqual => "less_or_equal",
        Op::IsNaN => "is_nan",
        Op::Where => "where",
        _ => stranger(op),
    }
}

fn rule(op: &Op, operands: Operands<'_>) -> Result<Typed, String> {
    match op {
        Op::Less | Op::LessOrEqual => {
            operands.count(2..=2)?;
            Ok((broadcast(operands.float(0)?, operands.float(1)?)?, DType::Bool))
        }
        Op::IsNaN => {
            operands.count(1..=1)?;
            Ok((operands.float(0)?.clone(), DType::Bool))
        }
        Op::Where => {
            operands.count(3..=3)?;
            let [cond, x, y] = [0, 1, 2].map(|i| operands.dtype(i));
            if cond != DType::Bool || x != y {
                return Err(format!("operands hold {cond:?}, {x:?} and {y:?}"));
            }
            Ok((broadcast(operands.shape(0), &broadcast(operands.shape(1), operands.shape(2))?)?, x))
        }
        _ => stranger(op),
    }
}

fn kernel(op: &Op, operands: &[View<'_>], shape: &[usize]) -> Result<Tensor, String> {
    let float = |i: usize| f32::of(&operands[i]);
    match op {
        Op::Less => zip(float(0), float(1), |a, b| a < b).map(Tensor::Bool),
        Op::LessOrEqual => zip(float(0), float(1), |a, b| a <= b).map(Tensor::Bool),
        Op::IsNaN => Ok(Tensor::Bool(float(0).mapv(f32::is_nan))),
        Op::Where => {
            let cond = bool::of(&operands[0]);
            Ok(for_dtype!(operands[1].dtype(), T => {
                T::tensor(select(cond, T::of(&operands[1]), T::of(&operands[2]), shape))
            }))
        }
        _ => stranger(op),
    }
}

fn select<T: Element>(
    cond: &ArrayViewD<'_, bool>,
    x: &ArrayViewD<'_, T>,
    y: &ArrayViewD<'_, T>,
    shape: &[usize],
) -> ArrayD<T> {
    let mut out = ArrayD::default(IxDyn(shape));
    Zip::from(&mut out)
        .and(wide(cond, shape))
        .and(wide(x, shape))
        .and(wide(y, shape))
        .for_each(|o, &c, &x, &y| *o = if c { x } else { y });
    out
}
