//! Values that are made of nothing or of shapes.

use super::{Call, Handler, Results, axis_of, dimension, fold, size};
use crate::graph::kernel::{View, from_vec};
use crate::graph::{Op, Tensor};
use crate::onnx::build::{Builder, Value};
use crate::onnx::{public, tensor};

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Constant", constant),
    ("ConstantOfShape", constant_of_shape),
    ("EyeLike", eye_like),
    ("OneHot", one_hot),
    ("Range", |b, c| fold(b, c, 3, |v| public::range(&v[0], &v[1], &v[2]))),
];

/// A single number is public; what holds more may be a weight, and is treated as an initializer.
fn constant(b: &mut Builder, c: &Call) -> Results {
    let attribute = c.node.attribute.first().ok_or("it holds nothing")?;
    let value = match attribute.name() {
        "value" => tensor::read(attribute.t.as_ref().ok_or("its value is missing")?, c.dir)?,
        "value_float" => Tensor::F32(ndarray::arr0(attribute.f.unwrap_or(0.0)).into_dyn()),
        "value_int" => Tensor::I64(ndarray::arr0(attribute.i.unwrap_or(0)).into_dyn()),
        "value_floats" => Tensor::F32(ndarray::Array1::from(attribute.floats.clone()).into_dyn()),
        "value_ints" => Tensor::I64(ndarray::Array1::from(attribute.ints.clone()).into_dyn()),
        other => return Err(format!("its attribute `{other}` is not supported")),
    };
    Ok(vec![match value {
        Tensor::F32(value) if value.len() > 1 => b.float(c.origin, value),
        value => Value::public(value),
    }])
}

fn constant_of_shape(b: &mut Builder, c: &Call) -> Results {
    let shape = c.integers(0)?.into_iter().map(dimension).collect::<Result<Vec<_>, _>>()?;
    crate::graph::shape::check_size(&shape)?;
    let element = match c.attribute("value").and_then(|a| a.t.as_ref()) {
        Some(t) => tensor::read(t, c.dir)?,
        None => Tensor::F32(ndarray::arr0(0.0).into_dyn()),
    };
    Ok(vec![b.fold(c.origin, &[], &shape, |_| public::filled(&shape, &element))?])
}

fn eye_like(b: &mut Builder, c: &Call) -> Results {
    let x = c.operand(0)?;
    let (shape, dtype) = b.typed(x);
    let dtype = match c.attribute("dtype").and_then(|a| a.i) {
        None => dtype,
        Some(to) => tensor::dtype(i32::try_from(to).map_err(|_| "its type is out of range")?)?,
    };
    let &[rows, columns] = &shape[..] else { return Err("its operand is not a matrix".into()) };
    let k = c.int("k", 0);
    let one = |at: usize| k.checked_add((at / columns) as i64) == Some((at % columns) as i64);
    let ones = Tensor::Bool(from_vec(&shape, (0..b.make(&[rows, columns])?).map(one).collect()));
    Ok(vec![Value::public(public::cast(&ones.view(), dtype))])
}

/// The place of the one is public; what stands there and elsewhere need not be.
fn one_hot(b: &mut Builder, c: &Call) -> Results {
    let (ids, values) = (c.operand(0)?, c.operand(2)?);
    let shape = b.shape(ids);
    let depth = match c.operand(1)?.view() {
        Some(View::I64(a)) if a.len() == 1 => a.first().copied(),
        Some(View::F32(a)) if a.len() == 1 => a.first().map(|&d| d as i64),
        _ => None,
    };
    let depth = dimension(depth.ok_or("its depth is not one known number")?)?;
    let axis = match c.int("axis", -1) {
        -1 => shape.len(),
        axis => axis_of(axis, shape.len() + 1)?,
    };
    let ids: Vec<i64> = match ids.view() {
        Some(View::F32(a)) => a.iter().map(|&i| i as i64).collect(),
        _ => c.integers(0)?,
    };
    let (outer, inner) = (size(&shape[..axis]), size(&shape[axis..]));
    let to = [&shape[..axis], &[depth], &shape[axis..]].concat();
    let mut hot = vec![false; b.make(&to)?];
    for (at, &id) in ids.iter().enumerate() {
        // Indices outside have no one.
        let id = if id < 0 { id.saturating_add(depth as i64) } else { id };
        if (0..depth as i64).contains(&id) && outer > 0 {
            hot[(at / inner * depth + id as usize) * inner + at % inner] = true;
        }
    }
    let hot = Value::public(Tensor::Bool(from_vec(&to, hot)));
    let mut w = c.write(b);
    let (off, on) = (w.slice(values, 0, 0, 1)?, w.slice(values, 0, 1, 2)?);
    Ok(vec![w.op(Op::Where, &[&hot, &on, &off])?])
}
