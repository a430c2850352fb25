//! The `onnx-protobuf` crate, generated from ONNX's own schema, and our reader see the same graph in every model of the
//! repository. It is a test's witness only: its protobuf release does not bound recursion, so untrusted files never get
//! there.

#[allow(dead_code)]
mod common;

use std::path::{Path, PathBuf};

use onnx_protobuf::Message as _;
use prost::Message as _;
use sscc::onnx::proto;

fn models(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            models(&path, found);
        } else if path.extension().is_some_and(|e| e == "onnx") {
            found.push(path);
        }
    }
}

#[test]
fn both_see_the_same_graph() {
    let mut files = Vec::new();
    models(&common::models(), &mut files);
    files.sort();
    assert!(files.len() > 10, "{} models", files.len());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let ours = proto::ModelProto::decode(&bytes[..]).unwrap();
        let theirs = onnx_protobuf::ModelProto::parse_from_bytes(&bytes).unwrap();
        let same = model(&ours, &theirs);
        assert!(same.is_ok(), "{}: {}", file.display(), same.unwrap_err());
    }
}

type Same = Result<(), String>;

/// An error that says where, unless both are equal.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Same {
    if ours == theirs { Ok(()) } else { Err(format!("{what}: {ours:?} and {theirs:?}")) }
}

fn each<A, B>(what: &str, ours: &[A], theirs: &[B], f: impl Fn(&A, &B) -> Same) -> Same {
    same(&format!("number of {what}"), ours.len(), theirs.len())?;
    ours.iter().zip(theirs).enumerate().try_for_each(|(i, (a, b))| f(a, b).map_err(|e| format!("{what} {i}, {e}")))
}

fn model(ours: &proto::ModelProto, theirs: &onnx_protobuf::ModelProto) -> Same {
    same("IR version", ours.ir_version(), theirs.ir_version)?;
    each("operator set", &ours.opset_import, &theirs.opset_import, |a, b| {
        same("domain and version", (a.domain(), a.version()), (&*b.domain, b.version))
    })?;
    each("function", &ours.functions, &theirs.functions, |a, b| {
        same("name", (a.domain(), a.name()), (&*b.domain, &*b.name))?;
        same("operands", &a.input, &b.input)?;
        same("results", &a.output, &b.output)?;
        each("node", &a.node, &b.node, node)
    })?;
    graph(ours.graph.as_ref().unwrap(), &theirs.graph)
}

fn graph(ours: &proto::GraphProto, theirs: &onnx_protobuf::GraphProto) -> Same {
    each("node", &ours.node, &theirs.node, node)?;
    each("initializer", &ours.initializer, &theirs.initializer, tensor)?;
    each("input", &ours.input, &theirs.input, value)?;
    each("output", &ours.output, &theirs.output, value)
}

fn node(ours: &proto::NodeProto, theirs: &onnx_protobuf::NodeProto) -> Same {
    same("operator", (ours.domain(), ours.op_type(), ours.name()), (&theirs.domain, &theirs.op_type, &theirs.name))?;
    same("operands", &ours.input, &theirs.input)?;
    same("results", &ours.output, &theirs.output)?;
    each("attribute", &ours.attribute, &theirs.attribute, |a, b| {
        same("name", (a.name(), a.ref_attr_name()), (&b.name, &b.ref_attr_name))?;
        same("number", (a.i(), a.f().to_bits()), (b.i, b.f.to_bits()))?;
        same("text", a.s.as_deref().unwrap_or_default(), &b.s)?;
        same("integers", &a.ints, &b.ints)?;
        same("floats", &a.floats, &b.floats)?;
        match (&a.t, b.t.as_ref()) {
            (Some(a), Some(b)) => tensor(a, b)?,
            (a, b) => same("tensor", a.is_some(), b.is_some())?,
        }
        match (&a.g, b.g.as_ref()) {
            (Some(a), Some(b)) => graph(a, b),
            (a, b) => same("graph", a.is_some(), b.is_some()),
        }
    })
}

fn tensor(ours: &proto::TensorProto, theirs: &onnx_protobuf::TensorProto) -> Same {
    same("name", ours.name(), &theirs.name)?;
    same("type", (&ours.dims, ours.data_type()), (&theirs.dims, theirs.data_type))?;
    same("data", ours.raw_data.as_deref().unwrap_or_default() == &theirs.raw_data[..], true)?;
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    same("floats", bits(&ours.float_data), bits(&theirs.float_data))?;
    same("integers", (&ours.int32_data, &ours.int64_data), (&theirs.int32_data, &theirs.int64_data))?;
    each("place", &ours.external_data, &theirs.external_data, |a, b| {
        same("entry", (a.key(), a.value()), (&*b.key, &*b.value))
    })
}

/// A dimension's number or name.
fn size(dim: &Option<onnx_protobuf::tensor_shape_proto::dimension::Value>) -> (Option<i64>, Option<&str>) {
    use onnx_protobuf::tensor_shape_proto::dimension::Value;
    match dim {
        Some(Value::DimValue(n)) => (Some(*n), None),
        Some(Value::DimParam(name)) => (None, Some(name.as_str())),
        _ => (None, None),
    }
}

fn value(ours: &proto::ValueInfoProto, theirs: &onnx_protobuf::ValueInfoProto) -> Same {
    same("name", ours.name(), &theirs.name)?;
    let a = ours.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let b = theirs.type_.as_ref().filter(|t| t.has_tensor_type()).map(|t| t.tensor_type());
    same("element type", a.map(proto::TensorTypeProto::elem_type), b.map(|b| b.elem_type))?;
    let a: Vec<(Option<i64>, Option<&str>)> = a
        .and_then(|a| a.shape.as_ref())
        .map_or_else(Vec::new, |s| s.dim.iter().map(|d| (d.dim_value, d.dim_param.as_deref())).collect());
    let b: Vec<(Option<i64>, Option<&str>)> =
        b.and_then(|b| b.shape.as_ref()).map_or_else(Vec::new, |s| s.dim.iter().map(|d| size(&d.value)).collect());
    same("dimensions", a, b)
}
