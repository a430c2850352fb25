//! The same elements in another shape, and questions about shapes.

use super::{Call, Handler, Results, axes_of, axis_of, dimension, direct, size, stated};
use crate::graph::kernel::View;
use crate::graph::shape::broadcast;
use crate::graph::{Op, Tensor};
use crate::onnx::build::{Builder, Value};

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Identity", |_, c| Ok(vec![c.operand(0)?.clone()])),
    ("Dropout", dropout),
    ("DepthToSpace", depth_to_space),
    ("SpaceToDepth", space_to_depth),
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

/// As in inference: nothing is dropped.
fn dropout(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let trains = match c.optional(2).map(Value::view) {
        None => false,
        Some(Some(View::Bool(trains))) => trains.iter().any(|&t| t),
        Some(_) => return Err("whether it drops is not known".into()),
    };
    let idle = matches!(c.optional(1).and_then(Value::view), Some(View::F32(r)) if r.iter().all(|&r| r == 0.0));
    if trains && !idle {
        return Err("it drops at random, as in training".into());
    }
    if c.node.output.iter().skip(1).all(String::is_empty) {
        return Ok(vec![x.clone()]);
    }
    let shape = b.shape(x);
    b.make(&shape)?;
    let kept = Tensor::Bool(ndarray::ArrayD::from_elem(ndarray::IxDyn(&shape), true));
    Ok(vec![x.clone(), Value::public(kept)])
}

/// Size of a block, and the four dimensions.
fn blocks(b: &Builder, c: &Call) -> Result<(usize, [usize; 4]), String> {
    let block = stated(c.int("blocksize", 0))?;
    match b.shape(c.operand(0)?)[..] {
        [n, channels, height, width] if block > 0 => Ok((block, [n, channels, height, width])),
        _ => Err("its operand is no picture".into()),
    }
}

fn depth_to_space(b: &mut Builder, c: &Call) -> Results {
    let (s, [n, channels, height, width]) = blocks(b, c)?;
    if channels % (s * s) != 0 {
        return Err(format!("{channels} channels do not make blocks of {s}"));
    }
    let deep = channels / (s * s);
    let (cut, perm) = match c.text("mode", "DCR")? {
        "DCR" => ([n, s, s, deep, height, width], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([n, deep, s, s, height, width], [0, 1, 4, 2, 5, 3]),
        _ => return Err("its `mode` is not known".into()),
    };
    let mut w = c.write(b);
    let x = w.reshape(c.operand(0)?, &cut)?;
    let x = w.transpose(&x, &perm)?;
    Ok(vec![w.reshape(&x, &[n, deep, height * s, width * s])?])
}

fn space_to_depth(b: &mut Builder, c: &Call) -> Results {
    let (s, [n, channels, height, width]) = blocks(b, c)?;
    if height % s != 0 || width % s != 0 {
        return Err(format!("{height}x{width} is not made of blocks of {s}"));
    }
    let (h, v) = (height / s, width / s);
    let mut w = c.write(b);
    let x = w.reshape(c.operand(0)?, &[n, channels, h, s, v, s])?;
    let perm = match c.text("mode", "DCR")? {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        _ => return Err("its `mode` is not known".into()),
    };
    let x = w.transpose(&x, &perm)?;
    Ok(vec![w.reshape(&x, &[n, channels * s * s, h, v])?])
}
