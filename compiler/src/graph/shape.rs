//! Shape and element type of every op's result, from those of its operands: the graph's type rules. The importer
//! builds by them, the evaluator and [`super::verify()`] check by them, so kernels need not check again.
//!
//! Errors are half sentences about one node; who knows the node adds the place.

use super::{DType, Op};

/// Greatest number of elements of a tensor, dimensions of zero counted as one: 8 GiB of floats.
pub const MAX_ELEMENTS: usize = 1 << 31;

/// Shape and element type.
pub type Typed = (Vec<usize>, DType);

/// Type of the result of `op`. `declared` is what a node claims; only `Input`, `Reshape` and `Expand`, whose shape is a
/// free choice, take it from there.
pub fn infer(op: &Op, operands: &[Typed], declared: (&[usize], DType)) -> Result<Typed, String> {
    let (shape, dtype) = rule(op, operands, declared.0, declared.1)?;
    check_size(&shape)?;
    Ok((shape, dtype))
}

/// An error if a tensor of this shape is beyond what the compiler handles.
pub fn check_size(shape: &[usize]) -> Result<(), String> {
    let size = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
    match size {
        Some(size) if size <= MAX_ELEMENTS => Ok(()),
        _ => Err(format!("a tensor of shape {shape:?} has more than {MAX_ELEMENTS} elements")),
    }
}

/// The shape of an element-wise operation under numpy's broadcasting rule.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (a, b) if a == b => Some(a),
            (1, b) => Some(b),
            (a, 1) => Some(a),
            _ => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| format!("shapes {a:?} and {b:?} do not broadcast"))
}

fn rule(op: &Op, operands: &[Typed], declared: &[usize], declared_dtype: DType) -> Result<Typed, String> {
    use DType::{Bool, F32, I64};
    let expect = |counts: std::ops::RangeInclusive<usize>| {
        if counts.contains(&operands.len()) {
            Ok(())
        } else {
            Err(format!("it has {} operands, not {} to {}", operands.len(), counts.start(), counts.end()))
        }
    };
    let float = |i: usize| match operands[i].1 {
        F32 => Ok(&operands[i].0),
        other => Err(format!("operand {i} holds {other:?}, not F32")),
    };
    let axis_in = |axis: usize, shape: &[usize]| {
        if axis < shape.len() { Ok(()) } else { Err(format!("axis {axis} of a tensor of rank {}", shape.len())) }
    };
    match op {
        Op::Input { .. } => {
            expect(0..=0)?;
            Ok((declared.to_vec(), declared_dtype))
        }
        Op::Const(value) => {
            expect(0..=0)?;
            Ok((value.shape().to_vec(), value.dtype()))
        }
        Op::Weight { value, .. } => {
            expect(0..=0)?;
            Ok((value.shape().to_vec(), F32))
        }
        Op::Gather { axis } => {
            expect(2..=2)?;
            let (data, ids) = (&operands[0].0, &operands[1]);
            axis_in(*axis, data)?;
            if ids.1 != I64 {
                return Err(format!("indices hold {:?}, not I64", ids.1));
            }
            Ok(([&data[..*axis], &ids.0, &data[*axis + 1..]].concat(), operands[0].1))
        }
        Op::MatMul => {
            expect(2..=2)?;
            Ok((matmul(float(0)?, float(1)?)?, F32))
        }
        Op::Add | Op::Sub | Op::Mul | Op::Div => {
            expect(2..=2)?;
            if operands[0].1 != operands[1].1 || operands[0].1 == Bool {
                return Err(format!("operands hold {:?} and {:?}", operands[0].1, operands[1].1));
            }
            Ok((broadcast(&operands[0].0, &operands[1].0)?, operands[0].1))
        }
        Op::Pow => {
            expect(2..=2)?;
            if operands[0].1 == Bool || operands[1].1 == Bool || (operands[0].1, operands[1].1) == (I64, F32) {
                return Err(format!("operands hold {:?} and {:?}", operands[0].1, operands[1].1));
            }
            Ok((broadcast(&operands[0].0, &operands[1].0)?, operands[0].1))
        }
        Op::Neg => {
            expect(1..=1)?;
            if operands[0].1 == Bool {
                return Err("operand 0 holds Bool".into());
            }
            Ok(operands[0].clone())
        }
        Op::Unary(_) => {
            expect(1..=1)?;
            Ok((float(0)?.clone(), F32))
        }
        Op::Where => {
            expect(3..=3)?;
            if operands[0].1 != Bool || operands[1].1 != operands[2].1 {
                return Err(format!("operands hold {:?}, {:?} and {:?}", operands[0].1, operands[1].1, operands[2].1));
            }
            Ok((broadcast(&operands[0].0, &broadcast(&operands[1].0, &operands[2].0)?)?, operands[1].1))
        }
        Op::IsNaN => {
            expect(1..=1)?;
            Ok((float(0)?.clone(), Bool))
        }
        Op::ToF32 => {
            expect(1..=1)?;
            Ok((operands[0].0.clone(), F32))
        }
        Op::Reshape => {
            expect(1..=1)?;
            check_size(declared)?;
            let (from, to) = (operands[0].0.iter().product::<usize>(), declared.iter().product::<usize>());
            if from != to {
                return Err(format!("{:?} has {from} elements, {declared:?} has {to}", operands[0].0));
            }
            Ok((declared.to_vec(), operands[0].1))
        }
        Op::Transpose { perm } => {
            expect(1..=1)?;
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if !sorted.into_iter().eq(0..operands[0].0.len()) {
                return Err(format!("{perm:?} does not permute the axes of {:?}", operands[0].0));
            }
            Ok((perm.iter().map(|&a| operands[0].0[a]).collect(), operands[0].1))
        }
        &Op::Slice { axis, from, to } => {
            expect(1..=1)?;
            let mut shape = operands[0].0.clone();
            axis_in(axis, &shape)?;
            if from > to || to > shape[axis] {
                return Err(format!("{from}..{to} is not a part of dimension {}", shape[axis]));
            }
            shape[axis] = to - from;
            Ok((shape, operands[0].1))
        }
        &Op::Concat { axis } => {
            expect(1..=usize::MAX)?;
            let mut shape = operands[0].0.clone();
            axis_in(axis, &shape)?;
            for (other, dtype) in &operands[1..] {
                let fits = other.len() == shape.len() && (0..shape.len()).all(|i| i == axis || shape[i] == other[i]);
                if !fits || *dtype != operands[0].1 {
                    return Err(format!("{other:?} does not continue {:?} along axis {axis}", operands[0].0));
                }
                shape[axis] = shape[axis].saturating_add(other[axis]);
            }
            Ok((shape, operands[0].1))
        }
        Op::Expand => {
            expect(1..=1)?;
            if broadcast(&operands[0].0, declared)? != declared {
                return Err(format!("{:?} does not broadcast to {declared:?}", operands[0].0));
            }
            Ok((declared.to_vec(), operands[0].1))
        }
        Op::Softmax { axis } => {
            expect(1..=1)?;
            axis_in(*axis, float(0)?)?;
            Ok(operands[0].clone())
        }
        Op::Less | Op::LessOrEqual => {
            expect(2..=2)?;
            Ok((broadcast(float(0)?, float(1)?)?, Bool))
        }
        Op::ArgMax { axis, .. } => {
            expect(1..=1)?;
            let mut shape = float(0)?.clone();
            axis_in(*axis, &shape)?;
            if shape[*axis] == 0 {
                return Err(format!("axis {axis} of {shape:?} has no greatest element"));
            }
            shape[*axis] = 1;
            Ok((shape, I64))
        }
        Op::ReduceMax { axes } => {
            expect(1..=1)?;
            let mut shape = float(0)?.clone();
            for &axis in axes {
                axis_in(axis, &shape)?;
                if shape[axis] == 0 {
                    return Err(format!("axis {axis} of {:?} has no greatest element", operands[0].0));
                }
                shape[axis] = 1;
            }
            Ok((shape, F32))
        }
        Op::ReduceMean { axes } | Op::ReduceSum { axes } => {
            expect(1..=1)?;
            if !(operands[0].1 == F32 || operands[0].1 == I64 && matches!(op, Op::ReduceSum { .. })) {
                return Err(format!("operand 0 holds {:?}", operands[0].1));
            }
            let mut shape = operands[0].0.clone();
            for &axis in axes {
                axis_in(axis, &shape)?;
                shape[axis] = 1;
            }
            Ok((shape, operands[0].1))
        }
        Op::LayerNormalization { .. } => {
            expect(2..=3)?;
            let shape = float(0)?;
            axis_in(0, shape)?;
            for (i, (found, _)) in operands.iter().enumerate().skip(1) {
                if float(i)?[..] != shape[shape.len() - 1..] {
                    return Err(format!("operand {i} is {found:?}, not one value per column of {shape:?}"));
                }
            }
            Ok(operands[0].clone())
        }
        Op::Embed => {
            expect(2..=2)?;
            let (ids, table) = (&operands[0], float(1)?);
            if ids.1 != I64 || table.len() != 2 {
                return Err(format!("ids hold {:?}, the table is {table:?}", ids.1));
            }
            Ok(([&ids.0, &table[1..]].concat(), F32))
        }
        Op::Linear => {
            expect(2..=3)?;
            let (x, w) = (float(0)?, float(1)?);
            if w.len() != 2 || x.last() != Some(&w[0]) || operands.len() == 3 && float(2)?[..] != w[1..] {
                return Err(format!("{x:?} times {w:?} and a bias"));
            }
            Ok(([&x[..x.len() - 1], &w[1..]].concat(), F32))
        }
        Op::AddWeight => {
            expect(2..=2)?;
            let (x, w) = (float(0)?, float(1)?);
            if broadcast(x, w)? != *x {
                return Err(format!("{w:?} does not broadcast to {x:?}"));
            }
            Ok((x.clone(), F32))
        }
        Op::AddRow => {
            expect(2..=2)?;
            let (x, w) = (float(0)?, float(1)?);
            if w.len() != 2 || w[0] == 0 || x.last() != Some(&w[1]) {
                return Err(format!("no row of {w:?} to add to {x:?}"));
            }
            Ok((x.clone(), F32))
        }
        Op::Normalize { .. } => {
            expect(1..=1)?;
            axis_in(0, float(0)?)?;
            Ok(operands[0].clone())
        }
        Op::Rotary { heads, partner, at_position } => {
            expect(3..=3)?;
            let (x, cos, sin) = (float(0)?, float(1)?, float(2)?);
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
                true => Ok((x.clone(), F32)),
                false => Err(format!("x {x:?}, {heads} heads, cos {cos:?}, sin {sin:?}, {} partners", partner.len())),
            }
        }
        Op::Attention { heads, kv_heads, pattern, biased, sinks, .. } => {
            let extras = usize::from(*biased) + usize::from(*sinks);
            expect(3 + extras..=3 + extras)?;
            let (q, k, v) = (float(0)?, float(1)?, float(2)?);
            let fits = [q, k, v].iter().all(|s| s.len() == 3 && s[0] == q[0])
                && *heads > 0
                && *kv_heads > 0
                && heads % kv_heads == 0
                && [(q, heads), (k, kv_heads), (v, kv_heads)].iter().all(|(s, parts)| s[2] % **parts == 0)
                && q[2] / heads == k[2] / kv_heads
                && k[1] == v[1]
                && (pattern.rows.len(), pattern.columns as usize) == (q[1], k[1])
                && pattern.rows.iter().all(|r| r.0 <= r.1 && r.1 <= pattern.columns);
            if !fits {
                let rows = pattern.rows.len();
                return Err(format!("q {q:?}, k {k:?}, v {v:?}, {heads} heads on {kv_heads}, {rows} rows kept"));
            }
            if *biased && ![1, *heads].iter().any(|&h| float(3).is_ok_and(|b| b[..] == [h, q[1], k[1]])) {
                return Err(format!(
                    "a bias of shape {:?} on {heads} heads of {}x{} scores",
                    operands[3].0, q[1], k[1]
                ));
            }
            if *sinks && operands[2 + extras].0 != [*heads] {
                return Err(format!("sinks of shape {:?} for {heads} heads", operands[2 + extras].0));
            }
            Ok((vec![q[0], q[1], v[2] / kv_heads * heads], F32))
        }
        &Op::Pick { axis } => {
            expect(1..=1)?;
            let mut shape = operands[0].0.clone();
            axis_in(axis, &shape)?;
            if shape[axis] == 0 {
                return Err(format!("axis {axis} of {shape:?} has no element to pick"));
            }
            shape[axis] = 1;
            Ok((shape, operands[0].1))
        }
    }
}

/// numpy's rule: the last two axes multiply, the others broadcast, a vector is a row or a column.
fn matmul(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let fault = || format!("shapes {a:?} and {b:?} do not multiply");
    let (a_batch, a_last) = a.split_at(a.len().saturating_sub(2));
    let (b_batch, b_last) = b.split_at(b.len().saturating_sub(2));
    let (rows, inner) = match *a_last {
        [k] => (None, k),
        [m, k] => (Some(m), k),
        _ => return Err(fault()),
    };
    let (other, columns) = match *b_last {
        [k] => (k, None),
        [k, n] => (k, Some(n)),
        _ => return Err(fault()),
    };
    if inner != other {
        return Err(fault());
    }
    let mut shape = broadcast(a_batch, b_batch).map_err(|_| fault())?;
    shape.extend(rows);
    shape.extend(columns);
    Ok(shape)
}
