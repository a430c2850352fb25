//! Functions of one number, element by element.

use super::{Call, Handler, Results, direct, fold};
use crate::graph::{Function, GeluForm, Op};
use crate::onnx::build::Builder;
use crate::onnx::public;

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Sqrt", |b, c| direct(b, c, Op::Unary(Function::Sqrt {}), 1)),
    ("Erf", |b, c| direct(b, c, Op::Unary(Function::Erf {}), 1)),
    ("Tanh", |b, c| direct(b, c, Op::Unary(Function::Tanh {}), 1)),
    ("Exp", |b, c| direct(b, c, Op::Unary(Function::Exp {}), 1)),
    ("Reciprocal", |b, c| direct(b, c, Op::Unary(Function::Reciprocal {}), 1)),
    ("Sigmoid", |b, c| direct(b, c, Op::Unary(Function::Sigmoid {}), 1)),
    ("Relu", |b, c| direct(b, c, Op::Unary(Function::Relu {}), 1)),
    ("Gelu", gelu),
    ("Abs", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::abs, Some(i64::wrapping_abs)))),
    ("Sign", |b, c| {
        fold(b, c, 1, |v| public::map(&v[0], |x| if x == 0.0 { 0.0 } else { x.signum() }, Some(i64::signum)))
    }),
    ("Log", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::ln, None))),
    ("Cos", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::cos, None))),
    ("Sin", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::sin, None))),
    ("Floor", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::floor, None))),
    ("Ceil", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::ceil, None))),
    ("Round", |b, c| fold(b, c, 1, |v| public::map(&v[0], f32::round_ties_even, None))),
];

fn gelu(b: &mut Builder, c: &Call) -> Results {
    match c.attribute("approximate").and_then(|a| a.s.as_deref()) {
        None | Some(b"none") => direct(b, c, Op::Unary(Function::Gelu(GeluForm::Erf)), 1),
        Some(b"tanh") => direct(b, c, Op::Unary(Function::Gelu(GeluForm::Tanh)), 1),
        Some(_) => Err("its `approximate` is neither none nor tanh".into()),
    }
}
