//! Write the artifacts: the program as bytecode, the weights as integers with a commitment that the program carries.
//!
//! Weights are encoded piece by piece into the file, so that a model's integers are never in memory as a whole.

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use ir::bytecode::{self, Module};
use ir::weights::{self, Element, Header, Tensor};
use ir::{Program, Scale};
use ndarray::{ArrayD, Axis};
use rayon::prelude::*;

use crate::diagnostic::{Code, Diagnostic};
use crate::graph::{self, kernel};

/// Elements that a thread encodes at a time.
const PIECE: usize = 1 << 18;

/// Pieces that are encoded at once.
const AT_ONCE: usize = 8;

/// What [`run`] cannot do.
#[derive(Debug)]
pub enum EmitError {
    /// The model's fault, or the system's.
    Refused(Diagnostic),
    /// The weights could not be written.
    Write(io::Error),
}

impl From<io::Error> for EmitError {
    fn from(error: io::Error) -> EmitError {
        EmitError::Write(error)
    }
}

impl From<Diagnostic> for EmitError {
    fn from(fault: Diagnostic) -> EmitError {
        EmitError::Refused(fault)
    }
}

/// Encodes scheduled entries and their weights, real values in the order of their declarations. The bytes of the `.ssw`
/// file go to `out`, those of the `.ssb` file are returned. `metadata` are facts that are known beside those of this file.
pub fn run(
    entries: &[Program],
    values: &[Arc<ArrayD<f32>>],
    mut metadata: BTreeMap<String, String>,
    bound: &BTreeMap<String, graph::Tensor>,
    out: &mut (impl Write + Seek),
) -> Result<Vec<u8>, EmitError> {
    let declared = entries.first().map_or(&[][..], |entry| &entry.weights);
    let mut tensors = Vec::new();
    for (decl, value) in declared.iter().zip(values) {
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

    // The header stands before the data, whose digest it holds; its length is known.
    let mut salt = [0; 32];
    getrandom::fill(&mut salt)
        .map_err(|e| Diagnostic::new(Code::NoRandomness, format!("the operating system gives no randomness: {e}")))?;
    let mut header = Header { program: [0; 32], salt, digest: [0; 32], tensors };
    let start = header.encode().len() as u64;
    out.seek(SeekFrom::Start(start))?;
    let mut data = Data { out, hasher: blake3::Hasher::new(), length: 0 };
    for (tensor, value) in header.tensors.iter().zip(values) {
        data.pad(tensor.offset)?;
        let unit = unit(tensor.scale);
        let encode = |piece: &[f32]| {
            let (integers, mut bytes): (Vec<i64>, _) =
                (piece.iter().map(|&v| round(v, unit) as i64).collect(), Vec::new());
            weights::encode_values(tensor.element, &integers, &mut bytes);
            bytes
        };
        let mut put = |part: &[f32]| -> io::Result<()> {
            for batch in part.chunks(PIECE * AT_ONCE) {
                let encoded: Vec<Vec<u8>> = batch.par_chunks(PIECE).map(encode).collect();
                encoded.iter().try_for_each(|bytes| data.put(bytes))?;
            }
            Ok(())
        };
        match value.as_slice() {
            Some(flat) => put(flat)?,
            // A transposed weight is put in order some rows at a time.
            None => {
                let rows = (PIECE * AT_ONCE * value.shape()[0]).div_ceil(value.len().max(1));
                for part in value.axis_chunks_iter(Axis(0), rows.max(1)) {
                    put(part.as_standard_layout().as_slice().expect("in standard layout"))?;
                }
            }
        }
    }
    data.pad(length)?;
    header.digest = data.hasher.finalize().into();

    metadata.insert("compiler".to_owned(), format!("sscc {}", env!("CARGO_PKG_VERSION")));
    metadata.insert("public_inputs".to_owned(), describe(bound));
    let module = Module { metadata, commitment: header.commitment(), entries: entries.to_vec() };
    let program = bytecode::encode(&module);
    header.program = bytecode::hash(&program);
    let encoded = header.encode();
    assert_eq!(encoded.len() as u64, start, "a header's length does not depend on its hashes");
    out.seek(SeekFrom::Start(0))?;
    out.write_all(&encoded)?;
    out.flush()?;
    Ok(program)
}

/// The data part of a `.ssw` file on its way out.
struct Data<'a, W> {
    out: &'a mut W,
    hasher: blake3::Hasher,
    length: u64,
}

impl<W: Write> Data<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Zeros up to a place.
    fn pad(&mut self, to: u64) -> io::Result<()> {
        self.put(&vec![0; (to - self.length) as usize])
    }
}

/// A weight as it is written; elements that 62 bits do not hold are refused by [`run`].
pub fn integers(value: &ArrayD<f32>, scale: Scale) -> Vec<i64> {
    let unit = unit(scale);
    match value.as_slice() {
        Some(values) => values.par_iter().map(|&v| round(v, unit) as i64).collect(),
        None => value.iter().map(|&v| round(v, unit) as i64).collect(),
    }
}

/// The integer of 1 at a scale.
fn unit(scale: Scale) -> f64 {
    f64::from(scale).exp2()
}

fn round(value: f32, unit: f64) -> f64 {
    (f64::from(value) * unit).round()
}

/// Least and greatest integer of a tensor; none if one is no number or has more than 62 bits.
fn range(values: &ArrayD<f32>, scale: Scale) -> Option<(i64, i64)> {
    // Rounding keeps the order.
    let (least, greatest) = kernel::ends(values).unwrap_or((0.0, 0.0));
    let unit = unit(scale);
    let (least, greatest) = (round(least.min(0.0), unit), round(greatest.max(0.0), unit));
    let fits = greatest.max(-least) < 62f64.exp2() && !values.iter().any(|v| v.is_nan());
    fits.then_some((least as i64, greatest as i64))
}

/// Greatest public input whose elements are listed.
const MAX_LISTED: usize = 1 << 12;

/// The public inputs as the runtime reads them (`runtime/processes/src/inputs.rs`): JSON, shape and content by name.
fn describe(bound: &BTreeMap<String, graph::Tensor>) -> String {
    let by_name: serde_json::Map<String, serde_json::Value> =
        bound.iter().map(|(name, tensor)| (name.clone(), content(tensor))).collect();
    serde_json::Value::Object(by_name).to_string()
}

/// What a public input holds.
fn content(tensor: &graph::Tensor) -> serde_json::Value {
    let values: Vec<f64> = match tensor {
        graph::Tensor::F32(a) => a.iter().copied().map(f64::from).collect(),
        graph::Tensor::I64(a) => a.iter().map(|&x| x as f64).collect(),
        graph::Tensor::Bool(a) => a.iter().map(|&x| f64::from(u8::from(x))).collect(),
    };
    let shape = tensor.shape();
    let row = shape.last().copied().unwrap_or(1).max(1);
    let listed = values.len() <= MAX_LISTED && values.iter().all(|x| x.is_finite());
    if values.iter().all(|&v| v == 1.0) {
        serde_json::json!({ "shape": shape, "kind": "ones" })
    } else if values.iter().all(|&v| v == 0.0) {
        serde_json::json!({ "shape": shape, "kind": "zeros" })
    } else if values.iter().enumerate().all(|(i, &v)| v == (i % row) as f64) {
        serde_json::json!({ "shape": shape, "kind": "arange" })
    } else if listed {
        serde_json::json!({ "shape": shape, "kind": "values", "values": values })
    } else {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        serde_json::json!({ "shape": shape, "kind": "hash", "blake3": blake3::hash(&bytes).to_hex().as_str() })
    }
}
