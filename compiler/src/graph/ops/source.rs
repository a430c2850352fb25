//! Where values come from: graph inputs, constants, weights. Their names and elements are read and written by
//! [`crate::graph::text`].

use super::{Family, stranger};
use crate::graph::shape::{Operands, Typed};
use crate::graph::{DType, Op};

pub(super) const FAMILY: Family = Family {
    name,
    attributes: |_| String::new(),
    parse: |_, _, _| Ok(None),
    rule,
    kernel: |_, _, _, _| panic!("a source is not computed"),
};

fn name(op: &Op) -> &'static str {
    match op {
        Op::Input { .. } => "input",
        Op::Const(_) => "const",
        Op::Weight { .. } => "weight",
        _ => stranger(op),
    }
}

fn rule(op: &Op, operands: Operands<'_>, declared: (&[usize], DType)) -> Result<Typed, String> {
    operands.count(0..=0)?;
    Ok(match op {
        Op::Input { .. } => (declared.0.to_vec(), declared.1),
        Op::Const(value) => (value.shape().to_vec(), value.dtype()),
        Op::Weight { value, .. } => (value.shape().to_vec(), DType::F32),
        _ => stranger(op),
    })
}
