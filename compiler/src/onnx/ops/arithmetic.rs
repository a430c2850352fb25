//! Arithmetic element by element.

use super::{Call, Handler, One, Results, Writer, direct, fold};
use crate::graph::kernel::View;
use crate::graph::shape::broadcast;
use crate::graph::{DType, Function, Op, Tensor};
use crate::onnx::build::{Builder, Value};
use crate::onnx::public;

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Add", |b, c| direct(b, c, Op::Add, 2)),
    ("Sub", |b, c| direct(b, c, Op::Sub, 2)),
    ("Mul", |b, c| direct(b, c, Op::Mul, 2)),
    ("Div", |b, c| direct(b, c, Op::Div, 2)),
    ("Neg", |b, c| direct(b, c, Op::Neg, 1)),
    ("Pow", pow),
    ("Mod", modulo),
    ("Sum", |b, c| Ok(vec![total(b, c)?])),
    ("Mean", |b, c| {
        let sum = total(b, c)?;
        Ok(vec![c.write(b).times(&sum, 1.0 / c.operands.len() as f32)?])
    }),
    ("Max", |b, c| variadic(b, c, true)),
    ("Min", |b, c| variadic(b, c, false)),
    ("com.microsoft.BiasAdd", |b, c| Ok(vec![total(b, c)?])),
    ("com.microsoft.BiasSplitGelu", split_gelu),
];

fn total(b: &mut Builder, c: &Call) -> One {
    (1..c.operands.len()).try_fold(c.operand(0)?.clone(), |sum, i| c.write(b).add(&sum, c.operand(i)?))
}

fn variadic(b: &mut Builder, c: &Call, greater: bool) -> Results {
    let mut result = c.operand(0)?.clone();
    for i in 1..c.operands.len() {
        result = extreme(&mut c.write(b), &result, c.operand(i)?, greater)?;
    }
    Ok(vec![result])
}

/// The greater or the lesser of two, element by element.
pub(super) fn extreme(w: &mut Writer, x: &Value, y: &Value, greater: bool) -> One {
    let shape = broadcast(&w.shape(x), &w.shape(y))?;
    if x.view().is_some() && y.view().is_some() || w.b.typed(x).1 != DType::F32 {
        let pair = [x.clone(), y.clone()];
        return w.b.fold(w.origin, &pair, &shape, |v| match greater {
            true => public::numbers(&v[0], &v[1], f32::max, i64::max),
            false => public::numbers(&v[0], &v[1], f32::min, i64::min),
        });
    }
    // No number is beyond the least and the greatest float: a guard against infinities.
    for (guard, other) in [(x, y), (y, x)] {
        let idle = |x: &f32| if greater { *x <= f32::MIN } else { *x >= f32::MAX };
        if matches!(guard.view(), Some(View::F32(a)) if a.iter().all(idle)) && w.shape(other) == shape {
            return Ok(other.clone());
        }
    }
    // A known value goes where it is read once more than the other.
    let (x, y) = if x.view().is_some() { (y, x) } else { (x, y) };
    if greater { w.max(x, y) } else { w.min(x, y) }
}

/// A known exponent of one number is a function; where it has several, each has a part of the result. A secret one goes by
/// exp(y·ln x).
fn pow(b: &mut Builder, c: &Call) -> Results {
    let (x, y) = (c.operand(0)?, c.operand(1)?);
    if x.view().is_some() && y.view().is_some() {
        return direct(b, c, Op::Pow, 2);
    }
    if b.typed(x).1 == DType::I64 {
        return Err("its result is cut to integers, and the exponent is secret".into());
    }
    let exponents: Option<Vec<f32>> = match (y, y.view()) {
        (Value::Public(_), Some(View::F32(y))) => Some(y.iter().copied().collect()),
        (Value::Public(_), Some(View::I64(y))) => Some(y.iter().map(|&y| y as f32).collect()),
        (Value::Server { .. }, Some(View::F32(y))) if y.len() == 1 => Some(y.iter().copied().collect()),
        _ => None,
    };
    let shape = broadcast(&b.shape(x), &b.shape(y))?;
    let mut w = c.write(b);
    let Some(exponents) = exponents else {
        if matches!(x.view(), Some(View::F32(x)) if x.iter().any(|&x| x <= 0.0)) {
            return Err("a base that is not positive has a secret exponent".into());
        }
        let log = w.unary(Function::Log {}, x)?;
        let log = w.mul(&log, y)?;
        return Ok(vec![w.unary(Function::Exp {}, &log)?]);
    };
    let mut distinct = exponents.clone();
    distinct.sort_by(f32::total_cmp);
    distinct.dedup();
    if let [exponent] = distinct[..] {
        let power = power(&mut w, x, exponent)?;
        return Ok(vec![w.expand(&power, &shape)?]);
    }
    if distinct.len() > 16 {
        return Err("its exponents take more than 16 values".into());
    }
    let mut sum: Option<Value> = None;
    for exponent in distinct {
        let mask = exponents.iter().map(|&e| f32::from(u8::from(e == exponent))).collect();
        let mask = Value::public(Tensor::F32(crate::graph::kernel::from_vec(&w.shape(y), mask)));
        let power = power(&mut w, x, exponent)?;
        let part = w.mul(&power, &mask)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => w.add(&sum, &part)?,
        });
    }
    Ok(vec![sum.ok_or("it has no exponent")?])
}

/// x^exponent, in the words that patterns know.
fn power(w: &mut Writer, x: &Value, exponent: f32) -> One {
    match exponent {
        0.0 => w.constant(&w.shape(x), 1.0),
        1.0 => Ok(x.clone()),
        -1.0 => w.unary(Function::Reciprocal {}, x),
        0.5 => w.unary(Function::Sqrt {}, x),
        -0.5 => {
            let root = w.unary(Function::Sqrt {}, x)?;
            w.unary(Function::Reciprocal {}, &root)
        }
        2.0 | 3.0 => w.op(Op::Pow, &[x, &Value::scalar(exponent)]),
        exponent => w.unary(Function::Power { exponent }, x),
    }
}

/// x - y·floor(x / y), or with the quotient cut toward zero. Within the last bits of a multiple of y, noise decides which.
fn remainder(w: &mut Writer, x: &Value, y: &Value, toward_zero: bool) -> One {
    if w.b.typed(x).1 != DType::F32 || w.b.typed(y).1 != DType::F32 {
        return Err("it divides secret integers".into());
    }
    let zero_or_not = |x: &f32| *x == 0.0 || !x.is_finite();
    if matches!(y.view(), Some(View::F32(y)) if y.iter().any(zero_or_not)) {
        return Err("a divisor is zero or not finite".into());
    }
    let quotient = w.div(x, y)?;
    let whole = match toward_zero {
        false => w.unary(Function::Floor {}, &quotient)?,
        true => {
            let negative = w.neg(&quotient)?;
            let (up, down) = (w.unary(Function::Relu {}, &quotient)?, w.unary(Function::Relu {}, &negative)?);
            let (up, down) = (w.unary(Function::Floor {}, &up)?, w.unary(Function::Floor {}, &down)?);
            w.sub(&up, &down)?
        }
    };
    let multiple = w.mul(&whole, y)?;
    w.sub(x, &multiple)
}

fn modulo(b: &mut Builder, c: &Call) -> Results {
    if let Some(View::I64(divisor)) = c.operand(1)?.view()
        && divisor.iter().any(|&d| d == 0)
    {
        return Err("an integer is divided by zero".into());
    }
    if c.operand(0)?.view().is_none() || c.operand(1)?.view().is_none() {
        return Ok(vec![remainder(&mut c.write(b), c.operand(0)?, c.operand(1)?, c.int("fmod", 0) != 0)?]);
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

/// A half of a sum with a bias, times the GELU of the other half.
fn split_gelu(b: &mut Builder, c: &Call) -> Results {
    let sum = total(b, c)?;
    let mut w = c.write(b);
    let shape = w.shape(&sum);
    let (axis, width) = match shape[..] {
        [.., width] if width % 2 == 0 => (shape.len() - 1, width),
        _ => return Err("its last dimension has no halves".into()),
    };
    let (left, right) = (w.slice(&sum, axis, 0, width / 2)?, w.slice(&sum, axis, width / 2, width)?);
    let gate = w.unary(Function::Gelu(crate::graph::GeluForm::Erf), &right)?;
    Ok(vec![w.mul(&left, &gate)?])
}
