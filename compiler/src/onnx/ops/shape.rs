//! The same elements in another shape, and questions about shapes.

use super::{Call, Handler, Results, axes_of, axis_of, dimension, direct, size};
use crate::graph::shape::broadcast;
use crate::graph::{Op, Tensor};
use crate::onnx::build::{Builder, Value};

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Identity", |_, c| Ok(vec![c.operand(0)?.clone()])),
    ("Dropout", |_, c| Ok(vec![c.operand(0)?.clone()])),
    ("Reshape", reshape),
    ("Flatten", flatten),
    ("Squeeze", squeeze),
    ("Unsqueeze", unsqueeze),
    ("Transpose", transpose),
    ("Expand", expand),
    ("Tile", tile),
    ("Shape", shape),
    ("Size", |b, c| {
        let count = b.shape(c.operand(0)?).iter().product::<usize>() as i64;
        Ok(vec![Value::public(Tensor::I64(ndarray::arr0(count).into_dyn()))])
    }),
];

fn reshape(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let from = b.shape(x);
    let wanted = c.integers(1)?;
    let keeps_zero = c.int("allowzero", 0) != 0;
    let mut shape = Vec::new();
    let mut free = None;
    for (i, &d) in wanted.iter().enumerate() {
        shape.push(match d {
            0 if !keeps_zero => *from.get(i).ok_or("a 0 in its shape has no dimension to copy")?,
            -1 if free.replace(i).is_none() => 1,
            d => dimension(d)?,
        });
    }
    if let Some(i) = free {
        let (have, rest) = (size(&from), size(&shape));
        if rest == 0 || have % rest != 0 {
            return Err(format!("{from:?} does not reshape to {wanted:?}"));
        }
        shape[i] = have / rest;
    }
    Ok(vec![b.shaped(c.origin, Op::Reshape, std::slice::from_ref(x), &shape)?])
}

fn flatten(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let shape = b.shape(x);
    let axis = match c.int("axis", 1) {
        axis if axis == shape.len() as i64 => shape.len(),
        axis => axis_of(axis, shape.len())?,
    };
    let to = [size(&shape[..axis]), size(&shape[axis..])];
    Ok(vec![b.shaped(c.origin, Op::Reshape, std::slice::from_ref(x), &to)?])
}

fn squeeze(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let shape = b.shape(x);
    let axes = match c.moved("axes", 1, 13)? {
        Some(axes) => axes_of(&axes, shape.len())?,
        None => (0..shape.len()).filter(|&i| shape[i] == 1).collect(),
    };
    if let Some(axis) = axes.iter().find(|&&a| shape[a] != 1) {
        return Err(format!("axis {axis} of {shape:?} is not 1"));
    }
    let to: Vec<usize> = (0..shape.len()).filter(|i| !axes.contains(i)).map(|i| shape[i]).collect();
    Ok(vec![b.shaped(c.origin, Op::Reshape, std::slice::from_ref(x), &to)?])
}

fn unsqueeze(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let mut shape = b.shape(x);
    let axes = c.moved("axes", 1, 13)?.ok_or("its axes are missing")?;
    for axis in axes_of(&axes, shape.len() + axes.len())? {
        shape.insert(axis, 1);
    }
    Ok(vec![b.shaped(c.origin, Op::Reshape, std::slice::from_ref(x), &shape)?])
}

fn transpose(b: &mut Builder, c: &Call) -> Results {
    let rank = b.shape(c.operand(0)?).len();
    let perm = match c.ints("perm") {
        Some(perm) => perm.iter().map(|&a| axis_of(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).rev().collect(),
    };
    direct(b, c, Op::Transpose { perm }, 1)
}

fn expand(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let wanted = c.integers(1)?.into_iter().map(dimension).collect::<Result<Vec<_>, _>>()?;
    let shape = broadcast(&b.shape(x), &wanted)?;
    Ok(vec![b.shaped(c.origin, Op::Expand, std::slice::from_ref(x), &shape)?])
}

/// [a, b] repeated r, s times is [1, a, 1, b] expanded to [r, a, s, b].
fn tile(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let shape = b.shape(x);
    let repeats = c.integers(1)?.into_iter().map(dimension).collect::<Result<Vec<_>, _>>()?;
    if repeats.len() != shape.len() {
        return Err(format!("{} repeats for a tensor of rank {}", repeats.len(), shape.len()));
    }
    let cut: Vec<usize> = shape.iter().flat_map(|&d| [1, d]).collect();
    let wide: Vec<usize> = repeats.iter().zip(&shape).flat_map(|(&r, &d)| [r, d]).collect();
    let to: Vec<usize> = repeats.iter().zip(&shape).map(|(&r, &d)| r.saturating_mul(d)).collect();
    let x = b.shaped(c.origin, Op::Reshape, std::slice::from_ref(x), &cut)?;
    let x = b.shaped(c.origin, Op::Expand, &[x], &wide)?;
    Ok(vec![b.shaped(c.origin, Op::Reshape, &[x], &to)?])
}

fn shape(b: &mut Builder, c: &Call) -> Results {
    let shape: Vec<i64> = b.shape(c.operand(0)?).into_iter().map(|d| d as i64).collect();
    let rank = shape.len() as i64;
    let place = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let (from, to) = (place(c.int("start", 0)), place(c.int("end", rank)));
    Ok(vec![Value::integers(shape.get(from..to).unwrap_or_default().to_vec())])
}
