//! Small ONNX models for tests, and arrays for them.

use std::path::PathBuf;

use ndarray::{ArrayD, IxDyn};
use prost::Message;
use sscc::graph::Tensor;
use sscc::onnx::proto::*;

/// The repository's models.
pub fn models() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models")
}

/// A model file in a folder of its own, which lives as long as this.
pub struct File {
    dir: tempfile::TempDir,
}

impl File {
    pub fn new(bytes: &[u8]) -> File {
        let file = File { dir: tempfile::tempdir().unwrap() };
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("model.onnx")
    }
}

/// A model at an opset, with one output `y` unless the nodes say otherwise.
pub fn model(opset: i64, graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(8),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(opset) }],
        ..Default::default()
    }
}

pub fn file(opset: i64, graph: GraphProto) -> File {
    File::new(&model(opset, graph).encode_to_vec())
}

pub fn graph(inputs: Vec<ValueInfoProto>, initializers: Vec<TensorProto>, nodes: Vec<NodeProto>) -> GraphProto {
    GraphProto {
        node: nodes,
        initializer: initializers,
        input: inputs,
        output: vec![ValueInfoProto { name: Some("y".into()), r#type: None }],
        ..Default::default()
    }
}

/// A node `op` with space-separated operands (`-` for one left out) and results.
pub fn node(op: &str, operands: &str, results: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    let names = |s: &str| s.split_whitespace().map(|n| if n == "-" { String::new() } else { n.to_string() }).collect();
    let (domain, op) = op.rsplit_once('.').map_or((None, op), |(d, o)| (Some(d.to_string()), o));
    NodeProto {
        input: names(operands),
        output: names(results),
        name: Some(format!("{op}_{}", results.split_whitespace().next().unwrap_or(""))),
        op_type: Some(op.to_string()),
        attribute: attributes,
        domain,
    }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        i: Some(i),
        r#type: Some(AttributeType::Int as i32),
        ..Default::default()
    }
}

pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        f: Some(f),
        r#type: Some(AttributeType::Float as i32),
        ..Default::default()
    }
}

pub fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        s: Some(s.as_bytes().to_vec().into()),
        r#type: Some(AttributeType::String as i32),
        ..Default::default()
    }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let ints = values.to_vec();
    AttributeProto { name: Some(name.into()), ints, r#type: Some(AttributeType::Ints as i32), ..Default::default() }
}

/// An input; negative dimensions are open and called d0, d1 ...
pub fn input(name: &str, data_type: DataType, dims: &[i64]) -> ValueInfoProto {
    let dim = |(i, &d): (usize, &i64)| match d {
        ..0 => DimensionProto { dim_value: None, dim_param: Some(format!("d{i}")) },
        d => DimensionProto { dim_value: Some(d), dim_param: None },
    };
    let shape = TensorShapeProto { dim: dims.iter().enumerate().map(dim).collect() };
    let tensor_type = TensorTypeProto { elem_type: Some(data_type as i32), shape: Some(shape) };
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(DataType::Float as i32),
        name: Some(name.into()),
        raw_data: Some(values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into()),
        ..Default::default()
    }
}

pub fn integers(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(DataType::Int64 as i32),
        name: Some(name.into()),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

pub fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::F32(ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap())
}

pub fn i64s(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::I64(ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap())
}

/// Numbers without a pattern in [-1, 1), the same every time (a linear congruential generator).
pub fn noise(seed: u64, shape: &[usize]) -> ArrayD<f32> {
    let mut state = seed;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}
