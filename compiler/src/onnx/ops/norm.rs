//! Normalisations, softmax among them.

use super::{Call, Handler, Results, axis_of, direct};
use crate::graph::Op;
use crate::onnx::build::Builder;

pub(super) const TABLE: &[(&str, Handler)] = &[("Softmax", softmax), ("LayerNormalization", layer_normalization)];

/// Before opset 13 the operand is taken as a matrix, cut before `axis`, and its rows are normalised.
fn softmax(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?.clone();
    let shape = b.shape(&x);
    let axis = axis_of(c.int("axis", if c.opset < 13 { 1 } else { -1 }), shape.len())?;
    if c.opset >= 13 || axis + 1 == shape.len() {
        return Ok(vec![b.apply(c.origin, Op::Softmax { axis }, &[x])?]);
    }
    let matrix = [shape[..axis].iter().product(), shape[axis..].iter().product()];
    let x = b.shaped(c.origin, Op::Reshape, &[x], &matrix)?;
    let x = b.apply(c.origin, Op::Softmax { axis: 1 }, &[x])?;
    Ok(vec![b.shaped(c.origin, Op::Reshape, &[x], &shape)?])
}

fn layer_normalization(b: &mut Builder, c: &Call) -> Results {
    let rank = b.shape(c.operand(0)?).len();
    if axis_of(c.int("axis", -1), rank)? + 1 != rank {
        return Err("it normalises more than the last axis".into());
    }
    let epsilon = c.float("epsilon", 1e-5);
    direct(b, c, Op::LayerNormalization { epsilon }, if c.optional(2).is_some() { 3 } else { 2 })
}
