//! Values that are made of nothing or of shapes.

use super::{Call, Handler, Results, dimension, fold};
use crate::graph::Tensor;
use crate::onnx::build::{Builder, Value};
use crate::onnx::{public, tensor};

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Constant", constant),
    ("ConstantOfShape", constant_of_shape),
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
