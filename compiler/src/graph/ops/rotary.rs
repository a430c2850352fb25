//! Rotary position embedding.

use std::sync::Arc;

use ndarray::{ArrayD, ArrayViewD, Axis, Slice};

use super::{Family, stranger};
use crate::graph::kernel::{Element, View, from_vec, index};
use crate::graph::shape::{Operands, Typed};
use crate::graph::text::{ParseError, Parser, list};
use crate::graph::{DType, Op, Tensor};

pub(super) const FAMILY: Family = Family {
    name: |_| "rotary",
    attributes,
    parse: |parser, name, _| parse(parser, name),
    rule: |op, operands, _| rule(op, operands),
    kernel: |op, operands, _, position| kernel(op, operands, position),
};

fn attributes(op: &Op) -> String {
    let Op::Rotary { heads, partner, at_position } = op else { stranger(op) };
    let at = if *at_position { ", at_position" } else { "" };
    format!("heads {heads}{at}, partner {}", list(partner))
}

fn parse(parser: &mut Parser<'_>, name: &str) -> Result<Option<Op>, ParseError> {
    if name != "rotary" {
        return Ok(None);
    }
    let heads = parser.named("heads")?;
    parser.expect(',')?;
    let at_position = parser.flag("at_position")?;
    parser.keyword("partner")?;
    Ok(Some(Op::Rotary { heads, partner: Arc::new(parser.numbers()?), at_position }))
}

fn rule(op: &Op, operands: Operands<'_>) -> Result<Typed, String> {
    let Op::Rotary { heads, partner, at_position } = op else { stranger(op) };
    operands.count(3..=3)?;
    let (x, cos, sin) = (operands.float(0)?, operands.float(1)?, operands.float(2)?);
    let fits = x.len() == 3
        && cos == sin
        && cos.len() == 2
        && (if *at_position { cos[0] >= x[1] } else { cos[0] == x[1] })
        && cos[0] > 0
        && *heads > 0
        && Some(x[2]) == cos[1].checked_mul(*heads)
        && partner.len() == cos[1]
        && partner.iter().all(|&p| p < cos[1]);
    match fits {
        true => Ok((x.clone(), DType::F32)),
        false => Err(format!("x {x:?}, {heads} heads, cos {cos:?}, sin {sin:?}, {} partners", partner.len())),
    }
}

fn kernel(op: &Op, operands: &[View<'_>], position: Option<usize>) -> Result<Tensor, String> {
    let Op::Rotary { heads, partner, at_position } = op else { stranger(op) };
    let (x, cos, sin) = (f32::of(&operands[0]), f32::of(&operands[1]), f32::of(&operands[2]));
    let (rows, from) = (x.shape()[1], cos.shape()[0] - x.shape()[1]);
    let from = if *at_position { index(position, from + 1)? } else { 0 };
    let tables = Slice::from(from..from + rows);
    let (cos, sin) = (cos.slice_axis(Axis(0), tables), sin.slice_axis(Axis(0), tables));
    Ok(Tensor::F32(rotate(x, cos, sin, *heads, partner)))
}

/// See [`Op::Rotary`].
fn rotate(
    x: &ArrayViewD<'_, f32>,
    cos: ArrayViewD<'_, f32>,
    sin: ArrayViewD<'_, f32>,
    heads: usize,
    partner: &[usize],
) -> ArrayD<f32> {
    let (x, cos, sin) = (x.as_standard_layout(), cos.as_standard_layout(), sin.as_standard_layout());
    let [flat, cos, sin] = [&x, &cos, &sin].map(|a| a.as_slice().expect("in standard layout"));
    let (rows, d) = (x.shape()[1], partner.len());
    let mut out = Vec::with_capacity(x.len());
    for (t, row) in flat.chunks(heads * d).enumerate() {
        let at = t % rows * d..(t % rows + 1) * d;
        for head in row.chunks(d) {
            let waves = cos[at.clone()].iter().zip(&sin[at.clone()]);
            out.extend(waves.zip(head).zip(partner).map(|(((c, s), v), &p)| c * v + s * head[p]));
        }
    }
    from_vec(x.shape(), out)
}
