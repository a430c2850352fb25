//! Write the artifacts: the program as bytecode, the weights as integers with a commitment that the program carries.

use std::collections::BTreeMap;
use std::sync::Arc;

use ir::bytecode::{self, Module};
use ir::weights::{self, Element, Header, Tensor};
use ir::{Program, Scale};
use ndarray::ArrayD;

use crate::diagnostic::{Code, Diagnostic};
use crate::graph;

/// The bytes of the two files.
pub struct Artifacts {
    /// The `.ssb` file.
    pub program: Vec<u8>,
    /// The `.ssw` file.
    pub weights: Vec<u8>,
}

/// Encodes scheduled entries and their weights, real values in the order of their declarations. `metadata` are facts that
/// are known beside those of this file.
pub fn run(
    entries: &[Program],
    values: &[Arc<ArrayD<f32>>],
    mut metadata: BTreeMap<String, String>,
    bound: &BTreeMap<String, graph::Tensor>,
) -> Result<Artifacts, Diagnostic> {
    let weights = entries.first().map_or(&[][..], |entry| &entry.weights);
    let mut tensors = Vec::new();
    for (decl, value) in weights.iter().zip(values) {
        let (least, greatest) = range(value, decl.scale).ok_or_else(|| {
            Diagnostic::new(
                Code::LargeWeight,
                format!("weight \"{}\" does not fit 62 bits at scale {}", decl.name, decl.scale),
            )
            .help("look for infinities, NaNs and outliers in this tensor")
        })?;
        tensors.push(Tensor {
            name: decl.name.clone(),
            shape: decl.shape.clone(),
            scale: decl.scale,
            element: Element::smallest(&[least, greatest]),
            offset: 0,
        });
    }
    let length = weights::layout(&mut tensors).expect("tensors that are in memory have a length");
    let mut data = Vec::with_capacity(length as usize);
    for (tensor, value) in tensors.iter().zip(values) {
        data.resize(tensor.offset as usize, 0);
        weights::encode_values(tensor.element, &integers(value, tensor.scale), &mut data);
    }
    data.resize(length as usize, 0);

    let mut salt = [0; 32];
    getrandom::fill(&mut salt)
        .map_err(|e| Diagnostic::new(Code::NoRandomness, format!("the operating system gives no randomness: {e}")))?;
    let mut header = Header { program: [0; 32], salt, digest: blake3::hash(&data).into(), tensors };
    metadata.insert("compiler".to_owned(), format!("sscc {}", env!("CARGO_PKG_VERSION")));
    metadata.insert("public_inputs".to_owned(), describe(bound));
    let module = Module { metadata, commitment: header.commitment(), entries: entries.to_vec() };
    let program = bytecode::encode(&module);
    header.program = bytecode::hash(&program);
    let mut weights = header.encode();
    weights.append(&mut data);
    Ok(Artifacts { program, weights })
}

/// A weight as it is written; elements that 62 bits do not hold are refused by [`run`].
pub fn integers(value: &ArrayD<f32>, scale: Scale) -> Vec<i64> {
    value.iter().map(|&v| round(v, scale) as i64).collect()
}

fn round(value: f32, scale: Scale) -> f64 {
    (f64::from(value) * f64::from(scale).exp2()).round()
}

/// Least and greatest integer of a tensor; none if one is no number or has more than 62 bits.
fn range(values: &ArrayD<f32>, scale: Scale) -> Option<(i64, i64)> {
    let (mut least, mut greatest) = (0f64, 0f64);
    for &value in values {
        let rounded = round(value, scale);
        if rounded.is_nan() {
            return None;
        }
        (least, greatest) = (least.min(rounded), greatest.max(rounded));
    }
    (greatest.max(-least) < 62f64.exp2()).then_some((least as i64, greatest as i64))
}

/// The public inputs as the runtime reads them: JSON, shape and kind of content by name.
fn describe(bound: &BTreeMap<String, graph::Tensor>) -> String {
    let by_name: serde_json::Map<String, serde_json::Value> = bound
        .iter()
        .map(|(name, tensor)| (name.clone(), serde_json::json!({ "shape": tensor.shape(), "kind": kind(tensor) })))
        .collect();
    serde_json::Value::Object(by_name).to_string()
}

/// What a public input holds.
fn kind(tensor: &graph::Tensor) -> &'static str {
    let graph::Tensor::I64(values) = tensor else { return "ones" };
    let row = values.shape().last().copied().unwrap_or(1) as i64;
    if values.iter().all(|&v| v == 1) {
        "ones"
    } else if values.iter().all(|&v| v == 0) {
        "zeros"
    } else {
        assert!(values.iter().zip(0..).all(|(&v, i)| v == i % row), "public inputs count, or are all ones or zeros");
        "arange"
    }
}
