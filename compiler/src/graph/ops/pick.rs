//! One position, known at run time.

use ndarray::{Axis, Slice};

use super::{Family, stranger};
use crate::graph::Op;
use crate::graph::kernel::{Element, for_dtype, index, standard};
use crate::graph::shape::{Operands, Typed, axis_in};

pub(super) const FAMILY: Family = Family {
    name: |_| "pick",
    attributes: |op| format!("axis {}", axis(op)),
    parse: |parser, name, _| match name {
        "pick" => Ok(Some(Op::Pick { axis: parser.named("axis")? })),
        _ => Ok(None),
    },
    rule: |op, operands, _| rule(axis(op), operands),
    kernel: |op, operands, _, position| {
        let axis = axis(op);
        let at = index(position, operands[0].shape()[axis])?;
        Ok(for_dtype!(operands[0].dtype(), T => {
            T::tensor(standard(T::of(&operands[0]).slice_axis(Axis(axis), Slice::from(at..at + 1))))
        }))
    },
};

fn axis(op: &Op) -> usize {
    match op {
        Op::Pick { axis } => *axis,
        _ => stranger(op),
    }
}

fn rule(axis: usize, operands: Operands<'_>) -> Result<Typed, String> {
    operands.count(1..=1)?;
    let mut shape = operands.shape(0).clone();
    axis_in(axis, &shape)?;
    if shape[axis] == 0 {
        return Err(format!("axis {axis} of {shape:?} has no element to pick"));
    }
    shape[axis] = 1;
    Ok((shape, operands.dtype(0)))
}
