//! Matrix products.

use super::{Call, Handler, Results, direct};
use crate::graph::Op;
use crate::onnx::build::{Builder, Value};

pub(super) const TABLE: &[(&str, Handler)] = &[("MatMul", |b, c| direct(b, c, Op::MatMul, 2)), ("Gemm", gemm)];

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
