//! Functions of one number, element by element.

use super::{Call, Handler, One, Results, Writer, fold};
use crate::graph::kernel::View;
use crate::graph::{DType, Function, GeluForm, Op};
use crate::onnx::build::{Builder, Value};
use crate::onnx::public;

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Abs", |b, c| signed(b, c, Function::Abs {}, i64::wrapping_abs)),
    ("Sign", |b, c| signed(b, c, Function::Sign {}, i64::signum)),
    ("Acos", |b, c| unary(b, c, Function::Acos {})),
    ("Acosh", |b, c| unary(b, c, Function::Acosh {})),
    ("Asin", |b, c| unary(b, c, Function::Asin {})),
    ("Asinh", |b, c| unary(b, c, Function::Asinh {})),
    ("Atan", |b, c| unary(b, c, Function::Atan {})),
    ("Atanh", |b, c| unary(b, c, Function::Atanh {})),
    ("Cos", |b, c| unary(b, c, Function::Cos {})),
    ("Cosh", |b, c| unary(b, c, Function::Cosh {})),
    ("Erf", |b, c| unary(b, c, Function::Erf {})),
    ("Exp", |b, c| unary(b, c, Function::Exp {})),
    ("Log", |b, c| unary(b, c, Function::Log {})),
    ("Reciprocal", |b, c| unary(b, c, Function::Reciprocal {})),
    ("Sin", |b, c| unary(b, c, Function::Sin {})),
    ("Sinh", |b, c| unary(b, c, Function::Sinh {})),
    ("Sqrt", |b, c| unary(b, c, Function::Sqrt {})),
    ("Tan", |b, c| unary(b, c, Function::Tan {})),
    ("Tanh", |b, c| unary(b, c, Function::Tanh {})),
    ("Celu", |b, c| unary(b, c, Function::Celu { alpha: c.float("alpha", 1.0) })),
    ("Elu", |b, c| unary(b, c, Function::Elu { alpha: c.float("alpha", 1.0) })),
    ("Gelu", |b, c| match c.text("approximate", "none")? {
        "none" => unary(b, c, Function::Gelu(GeluForm::Erf)),
        "tanh" => unary(b, c, Function::Gelu(GeluForm::Tanh)),
        _ => Err("its `approximate` is neither none nor tanh".into()),
    }),
    ("HardSigmoid", |b, c| {
        unary(b, c, Function::HardSigmoid { alpha: c.float("alpha", 0.2), beta: c.float("beta", 0.5) })
    }),
    ("HardSwish", |b, c| unary(b, c, Function::HardSwish {})),
    ("LeakyRelu", |b, c| unary(b, c, Function::LeakyRelu { alpha: c.float("alpha", 0.01) })),
    ("Mish", |b, c| unary(b, c, Function::Mish {})),
    ("Relu", |b, c| unary(b, c, Function::Relu {})),
    ("Selu", |b, c| {
        let (alpha, gamma) = (c.float("alpha", 1.673_263_2), c.float("gamma", 1.050_701));
        unary(b, c, Function::Selu { alpha, gamma })
    }),
    ("Shrink", |b, c| unary(b, c, Function::Shrink { lambda: c.float("lambd", 0.5), bias: c.float("bias", 0.0) })),
    ("Sigmoid", |b, c| unary(b, c, Function::Sigmoid {})),
    ("Softplus", |b, c| unary(b, c, Function::Softplus {})),
    ("Softsign", |b, c| unary(b, c, Function::Softsign {})),
    ("Swish", |b, c| unary(b, c, Function::Swish { beta: c.float("alpha", 1.0) })),
    ("ThresholdedRelu", |b, c| unary(b, c, Function::ThresholdedRelu { alpha: c.float("alpha", 1.0) })),
    ("SwiGLU", |b, c| {
        let mut w = c.write(b);
        let gate = w.unary(Function::Swish { beta: c.float("alpha", 1.0) }, c.operand(0)?)?;
        Ok(vec![w.mul(&gate, c.operand(1)?)?])
    }),
    ("Clip", clip),
    ("PRelu", p_relu),
    // Within the last bits of a jump, noise decides which side of it a share is on, as it does for comparisons.
    ("Ceil", |b, c| unary(b, c, Function::Ceil {})),
    ("Floor", |b, c| unary(b, c, Function::Floor {})),
    ("Round", |b, c| unary(b, c, Function::Round {})),
    ("com.microsoft.BiasGelu", |b, c| biased(b, c, Function::Gelu(GeluForm::Erf))),
    ("com.microsoft.FastGelu", |b, c| biased(b, c, Function::Gelu(GeluForm::Tanh))),
    ("com.microsoft.Gelu", |b, c| unary(b, c, Function::Gelu(GeluForm::Erf))),
    ("com.microsoft.QuickGelu", |b, c| unary(b, c, Function::Swish { beta: c.float("alpha", 1.702) })),
];

fn unary(b: &mut Builder, c: &Call, function: Function) -> Results {
    Ok(vec![c.write(b).unary(function, c.operand(0)?)?])
}

/// A function that integers have too.
fn signed(b: &mut Builder, c: &Call, function: Function, integer: fn(i64) -> i64) -> Results {
    match b.typed(c.operand(0)?).1 {
        DType::I64 => fold(b, c, 1, |v| public::integers(&v[0], integer)),
        _ => unary(b, c, function),
    }
}

/// A function of a sum with a vector.
fn biased(b: &mut Builder, c: &Call, function: Function) -> Results {
    let mut x = c.operand(0)?.clone();
    let mut w = c.write(b);
    if let Some(bias) = c.optional(1) {
        x = w.add(&x, bias)?;
    }
    Ok(vec![w.unary(function, &x)?])
}

/// Bounds are attributes before opset 11, operands from then on.
fn clip(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?.clone();
    let bound = |name: &str, i: usize| match c.opset < 11 {
        true => c.attribute(name).and_then(|a| a.f).map(Value::scalar),
        false => c.optional(i).cloned(),
    };
    let (low, high) = (bound("min", 1), bound("max", 2));
    Ok(vec![clipped(&mut c.write(b), x, low, high)?])
}

/// x within bounds; the upper one has the last word.
pub(super) fn clipped(w: &mut Writer, x: Value, low: Option<Value>, high: Option<Value>) -> One {
    let number = |bound: &Option<Value>| match bound.as_ref().and_then(Value::view) {
        Some(View::F32(a)) if a.len() == 1 && matches!(bound, Some(Value::Public(_))) => a.first().copied(),
        _ => None,
    };
    if let (DType::F32, Some(low), Some(high)) = (w.b.typed(&x).1, number(&low), number(&high))
        && low <= high
        && low > f32::MIN
        && high < f32::MAX
    {
        return w.op(Op::Unary(Function::Clip { low, high }), &[&x]);
    }
    let mut x = x;
    if let Some(low) = low {
        x = super::arithmetic::extreme(w, &x, &low, true)?;
    }
    if let Some(high) = high {
        x = super::arithmetic::extreme(w, &x, &high, false)?;
    }
    Ok(x)
}

/// slope·x below zero: slope·x + (1 - slope)·relu(x).
fn p_relu(b: &mut Builder, c: &Call) -> Results {
    let (x, slope) = (c.operand(0)?, c.operand(1)?);
    let mut w = c.write(b);
    if let (Value::Public(_), Some(View::F32(slope))) = (slope, slope.view())
        && slope.len() == 1
    {
        let alpha = *slope.first().expect("one element");
        return Ok(vec![w.unary(Function::LeakyRelu { alpha }, x)?]);
    }
    let above = w.unary(Function::Relu {}, x)?;
    let rest = w.sub(&Value::scalar(1.0), slope)?;
    let above = w.mul(&rest, &above)?;
    let all = w.mul(slope, x)?;
    Ok(vec![w.add(&all, &above)?])
}
