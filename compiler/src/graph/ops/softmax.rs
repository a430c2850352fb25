//! Softmax along one axis.

use ndarray::Axis;

use super::{Family, stranger};
use crate::graph::kernel::Element;
use crate::graph::shape::axis_in;
use crate::graph::{DType, Op, Tensor};

pub(super) const FAMILY: Family = Family {
    name: |_| "softmax",
    attributes: |op| format!("axis {}", axis(op)),
    parse: |parser, name, _| match name {
        "softmax" => Ok(Some(Op::Softmax { axis: parser.named("axis")? })),
        _ => Ok(None),
    },
    rule: |op, operands, _| {
        operands.count(1..=1)?;
        axis_in(axis(op), operands.float(0)?)?;
        Ok((operands.shape(0).clone(), DType::F32))
    },
    kernel: |op, operands, _, _| {
        let mut x = f32::of(&operands[0]).to_owned();
        for mut lane in x.lanes_mut(Axis(axis(op))) {
            softmax(lane.iter_mut());
        }
        Ok(Tensor::F32(x))
    },
};

fn axis(op: &Op) -> usize {
    match op {
        Op::Softmax { axis } => *axis,
        _ => stranger(op),
    }
}

/// In place; a row without a finite element becomes NaN, as in onnxruntime.
pub(super) fn softmax<'a>(row: impl Iterator<Item = &'a mut f32>) {
    let mut row: Vec<&mut f32> = row.collect();
    let max = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(**x));
    let mut sum = 0.0;
    for x in &mut row {
        **x = (**x - max).exp();
        sum += f64::from(**x);
    }
    for x in row {
        *x = (f64::from(*x) / sum) as f32;
    }
}
