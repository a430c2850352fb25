//! Every model of the repository imports, and its float evaluation gives what onnxruntime gave.

#[allow(dead_code)]
mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use common::models;
use ndarray::ArrayD;
use ndarray_npy::NpzReader;
use sscc::graph::{Stage, Tensor, eval, verify};
use sscc::onnx::{Bindings, Imported, import};

/// The arrays of a file whose names start with a prefix, which is taken off.
fn arrays(path: &Path, prefix: &str) -> BTreeMap<String, Tensor> {
    let mut npz = NpzReader::new(File::open(path).unwrap()).unwrap();
    let names = npz.names().unwrap();
    let mut out = BTreeMap::new();
    for name in names {
        let Some(short) = name.strip_prefix(prefix) else { continue };
        let short = short.trim_end_matches(".npy").to_string();
        let tensor = match npz.by_name::<ndarray::OwnedRepr<f32>, ndarray::IxDyn>(&name) {
            Ok(array) => Tensor::F32(array),
            Err(_) => Tensor::I64(npz.by_name(&name).unwrap()),
        };
        out.insert(short, tensor);
    }
    out
}

/// Imports a model for the sizes of recorded inputs, and compares with the recorded outputs.
fn agrees(file: &str, io: &str, dims: &[(&str, usize)]) -> Imported {
    let (path, io) = (models().join(file), models().join(io));
    let mut inputs = arrays(&io, "in_");
    let public = ["attention_mask", "token_type_ids", "position_ids"];
    let bindings = Bindings {
        dims: dims.iter().map(|&(name, size)| (name.to_string(), size)).collect(),
        input_shapes: inputs.iter().map(|(name, t)| (name.clone(), t.shape().to_vec())).collect(),
        values: inputs
            .iter()
            .filter(|i| public.contains(&i.0.as_str()))
            .map(|(n, t)| (n.clone(), t.clone().into()))
            .collect(),
        ..Bindings::default()
    };
    let imported = import(&path, &bindings).unwrap_or_else(|e| panic!("{file}\n{e}"));
    verify(&imported.graph, Stage::Graph).unwrap_or_else(|e| panic!("{file}\n{e}"));
    imported.take_bound(&mut inputs).unwrap();
    let outputs =
        eval::evaluate(&imported.graph, &inputs, None, &mut |_, _| {}).unwrap_or_else(|e| panic!("{file}\n{e}"));
    let expected = arrays(&io, "out_");
    assert_eq!(outputs.len(), expected.len());
    for (i, (name, value)) in outputs.iter().enumerate() {
        let difference = difference(value, &expected[&i.to_string()]);
        assert!(difference < 1e-4, "{file}, output {name}: {difference}");
    }
    imported
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    let (Tensor::F32(a), Tensor::F32(b)) = (a, b) else { panic!("outputs are floats") };
    assert_eq!(a.shape(), b.shape());
    let difference: ArrayD<f32> = (a - b).mapv(f32::abs);
    difference.iter().fold(0.0, |m, &x| if x > m || x.is_nan() { x } else { m })
}

/// How many nodes of each op a graph has, in one line.
fn census(imported: &Imported) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for node in imported.graph.dag.node_weights() {
        *counts.entry(node.op.name().to_string()).or_default() += 1;
    }
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn recorded_outputs() {
    let batch = &[("batch", 2)][..];
    let cases = [
        ("tiny-shakespeare/model", &[][..]),
        ("tiny-shakespeare/model_with_past", &[]),
        ("dialects/gpt2__dyn18", &[("s72", 2)]),
        ("dialects/gpt2__leg17", batch),
        ("dialects/gpt2_eager__leg11", batch),
        ("dialects/gpt2_eager__leg13", batch),
        ("dialects/gpt2_kv__leg17", batch),
        ("dialects/gpt2_nomask__leg17_static", &[]),
        ("dialects/nanogpt__leg17", batch),
        ("dialects/nanogpt_manual__leg14", batch),
        ("dialects/bert__leg17", batch),
        ("dialects/distilbert__leg17", batch),
        ("dialects/opt__leg17", batch),
        ("dialects/gptneox__leg17", batch),
        ("dialects/llama__leg17", batch),
        ("dialects/llama_kv__leg17", batch),
        ("dialects/qwen2__leg17", batch),
        ("dialects/vit__leg17", batch),
    ];
    let mut lines = Vec::new();
    for (file, dims) in cases {
        let imported = agrees(&format!("{file}.onnx"), &format!("{file}.io.npz"), dims);
        lines.push(format!("{file}: {}", census(&imported)));
        lines.push(format!("  tied {:?}, structure {:?}", imported.tied, imported.structure));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

/// The same weights as the static export, in a file of their own.
#[test]
fn external_data() {
    agrees("dialects/x_external_gpt2.onnx", "dialects/gpt2_nomask__leg17_static.io.npz", &[]);
}
