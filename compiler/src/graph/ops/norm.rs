//! Normalisation of rows.

use ndarray::{ArrayD, ArrayViewD, Axis};

use super::{Family, stranger};
use crate::graph::kernel::{Element, View};
use crate::graph::shape::{Operands, Typed, axis_in};
use crate::graph::text::{ParseError, Parser};
use crate::graph::{DType, Op, Tensor};

pub(super) const FAMILY: Family = Family {
    name,
    attributes,
    parse: |parser, name, _| parse(parser, name),
    rule: |op, operands, _| rule(op, operands),
    kernel: |op, operands, _, _| Ok(Tensor::F32(kernel(op, operands))),
};

fn name(op: &Op) -> &'static str {
    match op {
        Op::LayerNormalization { .. } => "layer_normalization",
        Op::Normalize { .. } => "normalize",
        _ => stranger(op),
    }
}

fn attributes(op: &Op) -> String {
    match op {
        Op::LayerNormalization { epsilon } | Op::Normalize { epsilon, centred: false } => {
            format!("epsilon {epsilon:?}")
        }
        Op::Normalize { epsilon, centred: true } => format!("epsilon {epsilon:?}, centred"),
        _ => stranger(op),
    }
}

fn parse(parser: &mut Parser<'_>, name: &str) -> Result<Option<Op>, ParseError> {
    match name {
        "layer_normalization" => Ok(Some(Op::LayerNormalization { epsilon: parser.named("epsilon")? })),
        "normalize" => {
            let epsilon = parser.named("epsilon")?;
            let centred = parser.eat(',');
            if centred {
                parser.keyword("centred")?;
            }
            Ok(Some(Op::Normalize { epsilon, centred }))
        }
        _ => Ok(None),
    }
}

fn rule(op: &Op, operands: Operands<'_>) -> Result<Typed, String> {
    operands.count(if matches!(op, Op::Normalize { .. }) { 1..=1 } else { 2..=3 })?;
    let shape = operands.float(0)?;
    axis_in(0, shape)?;
    for i in 1..operands.len() {
        if operands.float(i)?[..] != shape[shape.len() - 1..] {
            return Err(format!("operand {i} is {:?}, not one value per column of {shape:?}", operands.shape(i)));
        }
    }
    Ok((shape.clone(), DType::F32))
}

fn kernel(op: &Op, operands: &[View<'_>]) -> ArrayD<f32> {
    match *op {
        Op::LayerNormalization { epsilon } => {
            let mut x = normalize(f32::of(&operands[0]), epsilon, false);
            x *= f32::of(&operands[1]);
            if operands.len() == 3 {
                x += f32::of(&operands[2]);
            }
            x
        }
        Op::Normalize { epsilon, centred } => normalize(f32::of(&operands[0]), epsilon, centred),
        _ => stranger(op),
    }
}

/// See [`Op::Normalize`].
fn normalize(x: &ArrayViewD<'_, f32>, epsilon: f32, centred: bool) -> ArrayD<f32> {
    let mut x = x.to_owned();
    let last = Axis(x.ndim() - 1);
    for mut row in x.lanes_mut(last) {
        let count = row.len() as f64;
        let mean = if centred { 0.0 } else { row.iter().map(|&x| f64::from(x)).sum::<f64>() / count };
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
        let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
        row.mapv_inplace(|x| ((f64::from(x) - mean) * scale) as f32);
    }
    x
}
