//! Parts of tensors, by place.

use super::{Call, Handler, Results, axis_of, dimension, fold};
use crate::graph::Op;
use crate::onnx::build::{Builder, Value};
use crate::onnx::public;

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Gather", gather),
    ("Concat", concat),
    ("Split", split),
    ("Slice", slice),
    ("Trilu", |b, c| {
        let k = match c.optional(1) {
            Some(_) => c.integers(1)?.first().copied().ok_or("its diagonal is empty")?,
            None => 0,
        };
        let upper = c.int("upper", 1) != 0;
        fold(b, c, 1, |v| public::trilu(&v[0], k, upper))
    }),
    ("ScatterND", |b, c| match c.attribute("reduction").and_then(|a| a.s.as_deref()) {
        None | Some(b"none") => fold(b, c, 3, |v| public::scatter_nd(&v[0], &v[1], &v[2])),
        Some(_) => Err("its `reduction` is not supported".into()),
    }),
];

fn gather(b: &mut Builder, c: &Call) -> Results {
    let (data, ids) = (c.operand(0)?, c.operand(1)?);
    let data_shape = b.shape(data);
    let axis = axis_of(c.int("axis", 0), data_shape.len())?;
    if data.view().is_some() || ids.view().is_none() {
        return Ok(vec![b.apply(c.origin, Op::Gather { axis }, &[data.clone(), ids.clone()])?]);
    }
    // Known places of a secret tensor.
    let size = data_shape[axis] as i64;
    let ids_shape = b.shape(ids);
    let ids: Vec<i64> = c.integers(1)?.into_iter().map(|i| if i < 0 { i.saturating_add(size) } else { i }).collect();
    let taken = take(b, c.origin, data, axis, &ids)?;
    let shape = [&data_shape[..axis], &ids_shape, &data_shape[axis + 1..]].concat();
    Ok(vec![b.shaped(c.origin, Op::Reshape, &[taken], &shape)?])
}

/// Known places along an axis: each run of consecutive ones is a slice.
pub(super) fn take(b: &mut Builder, origin: &str, x: &Value, axis: usize, ids: &[i64]) -> Result<Value, String> {
    let size = b.shape(x)[axis];
    if ids.iter().any(|&i| usize::try_from(i).map_or(true, |i| i >= size)) {
        return Err(format!("an index is outside a dimension of {size}"));
    }
    if x.view().is_some() {
        return b.apply(origin, Op::Gather { axis }, &[x.clone(), Value::integers(ids.to_vec())]);
    }
    let runs = ids.chunk_by(|a, b| a + 1 == *b);
    let mut parts = Vec::new();
    for run in runs {
        let (from, to) = (run[0] as usize, run[0] as usize + run.len());
        parts.push(b.apply(origin, Op::Slice { axis, from, to }, std::slice::from_ref(x))?);
    }
    match parts.is_empty() {
        true => b.apply(origin, Op::Slice { axis, from: 0, to: 0 }, std::slice::from_ref(x)),
        false => b.apply(origin, Op::Concat { axis }, &parts),
    }
}

fn concat(b: &mut Builder, c: &Call) -> Results {
    let operands = (0..c.operands.len()).map(|i| c.operand(i).cloned()).collect::<Result<Vec<_>, _>>()?;
    let rank = b.shape(c.operand(0)?).len();
    let axis = axis_of(c.attribute("axis").and_then(|a| a.i).ok_or("its axis is missing")?, rank)?;
    // What is empty adds nothing: a cache of keys and values before the first token.
    let parts: Vec<Value> = operands.iter().filter(|x| b.shape(x).get(axis) != Some(&0)).cloned().collect();
    let operands = if parts.is_empty() { operands } else { parts };
    Ok(vec![b.apply(c.origin, Op::Concat { axis }, &operands)?])
}

fn split(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let shape = b.shape(x);
    let axis = axis_of(c.int("axis", 0), shape.len())?;
    let sizes = match c.moved("split", 1, 13)? {
        Some(sizes) => sizes.into_iter().map(dimension).collect::<Result<Vec<_>, _>>()?,
        None => {
            let parts = c.node.output.len();
            let part = shape[axis].div_ceil(parts.max(1));
            (0..parts).map(|i| part.min(shape[axis].saturating_sub(i * part))).collect()
        }
    };
    if sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s)) != Some(shape[axis]) {
        return Err(format!("parts {sizes:?} do not make up dimension {}", shape[axis]));
    }
    let mut from = 0;
    let mut parts = Vec::new();
    for size in sizes {
        let op = Op::Slice { axis, from, to: from + size };
        parts.push(b.apply(c.origin, op, std::slice::from_ref(x))?);
        from += size;
    }
    Ok(parts)
}

fn slice(b: &mut Builder, c: &Call) -> Results {
    let mut x = c.operand(0)?.clone();
    let rank = b.shape(&x).len();
    let starts = c.moved("starts", 1, 10)?.ok_or("its starts are missing")?;
    let ends = c.moved("ends", 2, 10)?.ok_or("its ends are missing")?;
    let axes = c.moved("axes", 3, 10)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = if c.opset >= 10 { c.moved("steps", 4, 10)? } else { None };
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("its starts, ends, axes and steps differ in number".into());
    }
    for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
        let axis = axis_of(axis, rank)?;
        let size = b.shape(&x)[axis] as i64;
        let place =
            |i: i64, low: i64, high: i64| (if i < 0 { i.saturating_add(size) } else { i }).clamp(low, high.max(low));
        x = match step {
            0 => return Err("a step is zero".into()),
            1 => {
                let from = place(start, 0, size);
                let to = place(end, 0, size).max(from);
                b.apply(c.origin, Op::Slice { axis, from: from as usize, to: to as usize }, &[x])?
            }
            step => {
                let (from, to) = match step > 0 {
                    true => (place(start, 0, size), place(end, 0, size)),
                    false => (place(start, -1, size - 1), place(end, -1, size - 1)),
                };
                let inside = |i: &i64| if step > 0 { *i < to } else { *i > to };
                let ids: Vec<i64> =
                    std::iter::successors(Some(from), |i| i.checked_add(step)).take_while(inside).collect();
                take(b, c.origin, &x, axis, &ids)?
            }
        };
    }
    Ok(vec![x])
}
