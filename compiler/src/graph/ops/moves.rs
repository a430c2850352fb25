//! The same elements in other places.

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice};

use super::{Family, plain, stranger};
use crate::graph::kernel::{Element, View, for_dtype, from_vec, standard, wide};
use crate::graph::shape::{Operands, Typed, axis_in, broadcast, check_count};
use crate::graph::text::{ParseError, Parser, list};
use crate::graph::{DType, Op, Tensor};

pub(super) const FAMILY: Family = Family {
    name,
    attributes,
    parse: |parser, name, _| parse(parser, name),
    rule,
    kernel: |op, operands, shape, _| kernel(op, operands, shape),
};

fn name(op: &Op) -> &'static str {
    match op {
        Op::Gather { .. } => "gather",
        Op::Reshape => "reshape",
        Op::Transpose { .. } => "transpose",
        Op::Slice { .. } => "slice",
        Op::Concat { .. } => "concat",
        Op::Expand => "expand",
        _ => stranger(op),
    }
}

fn attributes(op: &Op) -> String {
    match op {
        Op::Gather { axis } | Op::Concat { axis } => format!("axis {axis}"),
        Op::Transpose { perm } => format!("perm {}", list(perm)),
        Op::Slice { axis, from, to } => format!("axis {axis}, {from}..{to}"),
        _ => String::new(),
    }
}

fn parse(parser: &mut Parser<'_>, name: &str) -> Result<Option<Op>, ParseError> {
    Ok(Some(match name {
        "gather" => Op::Gather { axis: parser.named("axis")? },
        "concat" => Op::Concat { axis: parser.named("axis")? },
        "transpose" => {
            parser.keyword("perm")?;
            Op::Transpose { perm: parser.numbers()? }
        }
        "slice" => {
            let axis = parser.named("axis")?;
            parser.expect(',')?;
            let (from, to) = parser.range()?;
            Op::Slice { axis, from, to }
        }
        _ => return Ok(plain(&[Op::Reshape, Op::Expand], name)),
    }))
}

fn rule(op: &Op, operands: Operands<'_>, (declared, _): (&[usize], DType)) -> Result<Typed, String> {
    match op {
        Op::Gather { .. } => operands.count(2..=2)?,
        Op::Concat { .. } => operands.count(1..=usize::MAX)?,
        _ => operands.count(1..=1)?,
    }
    let (from, dtype) = (operands.shape(0), operands.dtype(0));
    let shape = match op {
        Op::Gather { axis } => {
            axis_in(*axis, from)?;
            if operands.dtype(1) != DType::I64 {
                return Err(format!("indices hold {:?}, not I64", operands.dtype(1)));
            }
            [&from[..*axis], operands.shape(1), &from[*axis + 1..]].concat()
        }
        Op::Reshape => {
            check_count(declared)?;
            let (have, want) = (from.iter().product::<usize>(), declared.iter().product::<usize>());
            if have != want {
                return Err(format!("{from:?} has {have} elements, {declared:?} has {want}"));
            }
            declared.to_vec()
        }
        Op::Transpose { perm } => {
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if !sorted.into_iter().eq(0..from.len()) {
                return Err(format!("{perm:?} does not permute the axes of {from:?}"));
            }
            perm.iter().map(|&a| from[a]).collect()
        }
        &Op::Slice { axis, from: first, to } => {
            axis_in(axis, from)?;
            if first > to || to > from[axis] {
                return Err(format!("{first}..{to} is not a part of dimension {}", from[axis]));
            }
            let mut shape = from.clone();
            shape[axis] = to - first;
            shape
        }
        &Op::Concat { axis } => {
            let mut shape = from.clone();
            axis_in(axis, &shape)?;
            for (other, other_dtype) in &operands.0[1..] {
                let fits = other.len() == shape.len() && (0..shape.len()).all(|i| i == axis || shape[i] == other[i]);
                if !fits || *other_dtype != dtype {
                    return Err(format!("{other:?} does not continue {from:?} along axis {axis}"));
                }
                shape[axis] = shape[axis].saturating_add(other[axis]);
            }
            shape
        }
        Op::Expand => {
            if broadcast(from, declared)? != declared {
                return Err(format!("{from:?} does not broadcast to {declared:?}"));
            }
            declared.to_vec()
        }
        _ => stranger(op),
    };
    Ok((shape, dtype))
}

fn kernel(op: &Op, operands: &[View<'_>], shape: &[usize]) -> Result<Tensor, String> {
    for_dtype!(operands[0].dtype(), T => {
        let x = T::of(&operands[0]);
        Ok(T::tensor(match op {
            &Op::Gather { axis } => gather(x, i64::of(&operands[1]), axis)?,
            Op::Reshape => from_vec(shape, x.iter().copied().collect()),
            Op::Transpose { perm } => standard(x.view().permuted_axes(IxDyn(perm))),
            &Op::Slice { axis, from, to } => standard(x.slice_axis(Axis(axis), Slice::from(from..to))),
            &Op::Concat { axis } => concat(&operands.iter().map(T::of).collect::<Vec<_>>(), axis, shape),
            Op::Expand => standard(wide(x, shape)),
            _ => stranger(op),
        }))
    })
}

/// Indices count from the end when negative.
pub(super) fn gather<T: Element>(
    data: &ArrayViewD<'_, T>,
    ids: &ArrayViewD<'_, i64>,
    axis: usize,
) -> Result<ArrayD<T>, String> {
    let size = data.shape()[axis];
    let (outer, inner) =
        (data.shape()[..axis].iter().product::<usize>(), data.shape()[axis + 1..].iter().product::<usize>());
    let picked: Vec<usize> = ids
        .iter()
        .map(|&id| {
            let id = if id < 0 { id + size as i64 } else { id };
            usize::try_from(id).ok().filter(|&id| id < size)
        })
        .collect::<Option<_>>()
        .ok_or_else(|| format!("an index is outside a dimension of {size}"))?;
    let data = data.as_standard_layout();
    let flat = data.as_slice().expect("standard layout");
    let shape = [&data.shape()[..axis], ids.shape(), &data.shape()[axis + 1..]].concat();
    let mut out = Vec::with_capacity(outer * picked.len() * inner);
    for o in 0..outer {
        for id in &picked {
            let from = (o * size + id) * inner;
            out.extend_from_slice(&flat[from..from + inner]);
        }
    }
    Ok(from_vec(&shape, out))
}

fn concat<T: Element>(parts: &[&ArrayViewD<'_, T>], axis: usize, shape: &[usize]) -> ArrayD<T> {
    let mut out = ArrayD::default(IxDyn(shape));
    let mut at = 0;
    for part in parts {
        let next = at + part.shape()[axis];
        out.slice_axis_mut(Axis(axis), Slice::from(at..next)).assign(part);
        at = next;
    }
    out
}
