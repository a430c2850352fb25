//! The passes on the models of the repository: GPT-2s of every exporter fuse to one list of operations and give what
//! the imported graph gives (which another test compares with onnxruntime); what is refused is refused by name.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, Axis, IxDyn, OwnedRepr};
use ndarray_npy::NpzReader;
use sscc::graph::text::{Store, parse, print};
use sscc::graph::{Graph, Op, Stage, Tensor, eval};
use sscc::onnx::{Bindings, import};
use sscc::pass::{Logits, Options, run_all};

fn arrays(file: &str, prefix: &str) -> BTreeMap<String, Tensor> {
    let mut npz = NpzReader::new(File::open(path(file, "io.npz")).expect("recorded values")).expect("an npz");
    let names = npz.names().expect("names");
    let mut arrays = BTreeMap::new();
    for name in names {
        let Some(short) = name.strip_prefix(prefix) else { continue };
        let tensor = match npz.by_name::<OwnedRepr<f32>, IxDyn>(&name) {
            Ok(array) => Tensor::F32(array),
            Err(_) => Tensor::I64(npz.by_name(&name).expect("an integer array")),
        };
        arrays.insert(short.trim_end_matches(".npy").to_owned(), tensor);
    }
    arrays
}

fn path(file: &str, ending: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(format!("{file}.{ending}"))
}

/// A model bound to the sizes of its recorded inputs, without padding, and those inputs that are not public.
fn load(file: &str) -> (Graph, BTreeMap<String, Tensor>) {
    let mut inputs = arrays(file, "in_");
    let batch = match file {
        "dialects/gpt2__dyn18" => Some("s72"),
        file if file.starts_with("tiny-shakespeare") || file.ends_with("static") => None,
        _ => Some("batch"),
    };
    let bindings = Bindings {
        dims: batch.map(|name| (name.to_owned(), 2)).into_iter().collect(),
        input_shapes: inputs.iter().map(|(name, t)| (name.clone(), t.shape().to_vec())).collect(),
        ..Bindings::default()
    };
    let imported = import(&path(file, "onnx"), &bindings).unwrap_or_else(|e| panic!("{file}\n{e}"));
    inputs.retain(|name, _| !imported.bound.contains_key(name));
    (imported.graph, inputs)
}

fn floats(tensor: Tensor) -> ArrayD<f32> {
    match tensor {
        Tensor::F32(array) => array,
        _ => panic!("outputs are floats"),
    }
}

/// Fuses a model, compares its outputs with those of the imported graph, and gives how often each operation stands in it.
fn fused(file: &str, logits: Logits) -> (Graph, String) {
    let (mut graph, inputs) = load(file);
    let imported = eval::evaluate(&graph, &inputs, None, &mut |_, _| {}).expect("it evaluates");
    run_all(&mut graph, &Options { logits }).unwrap_or_else(|e| panic!("{file}\n{e}"));
    let outputs = eval::evaluate(&graph, &inputs, None, &mut |_, _| {}).expect("it evaluates");
    for (i, ((name, output), (_, want))) in outputs.into_iter().zip(imported).enumerate() {
        let (output, mut want) = (floats(output), floats(want));
        if logits == Logits::Last && i == 0 {
            let last = want.len_of(Axis(1)) - 1;
            want = want.slice_axis(Axis(1), (last..=last).into()).to_owned();
        }
        assert_eq!(output.shape(), want.shape(), "{file}: {name}");
        let error = output.iter().zip(&want).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(error < 1e-4, "{file}: {name} differs by {error}");
    }
    let text = print(&graph, Stage::Fused, "model");
    let again = parse(&text, &Store::of(&graph)).unwrap_or_else(|e| panic!("{file}: {e}"));
    assert_eq!(print(&again.graph, Stage::Fused, "model"), text);

    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for node in graph.dag.node_weights().filter(|n| !matches!(n.op, Op::Weight { .. })) {
        *counts.entry(node.op.name()).or_default() += 1;
    }
    let census = counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ");
    (graph, census)
}

#[test]
fn gpt2s_fuse_to_one_list() {
    let models = [
        ("tiny-shakespeare/model", 4),
        ("dialects/gpt2__dyn18", 2),
        ("dialects/gpt2__leg17", 2),
        ("dialects/gpt2_eager__leg11", 2),
        ("dialects/gpt2_eager__leg13", 2),
        ("dialects/gpt2_nomask__leg17_static", 2),
        ("dialects/nanogpt__leg17", 2),
        ("dialects/nanogpt_manual__leg14", 2),
    ];
    for (file, layers) in models {
        let (graph, census) = fused(file, Logits::Last);
        let want = format!(
            "add {}, add_weight 1, attention {layers}, embed 1, gelu {layers}, input 1, linear {}, normalize {}, pick 2, slice {}",
            2 * layers,
            4 * layers + 1,
            2 * layers + 1,
            3 * layers
        );
        assert_eq!(census, want, "{file}");
        for node in graph.dag.node_weights() {
            match &node.op {
                Op::Normalize { centred, .. } => assert!(centred, "{file}: {} is not centred", node.origin),
                Op::Attention { pattern, .. } => {
                    let (rows, columns) = (pattern.rows.len() as u32, pattern.columns);
                    assert_eq!(*pattern, ir::Pattern::causal(rows, columns), "{file}");
                }
                _ => {}
            }
        }
        let (_, census) = fused(file, Logits::All);
        assert!(!census.contains("pick"), "{file}");
    }
}

#[test]
fn caches_fuse() {
    let mut lines = Vec::new();
    for file in ["tiny-shakespeare/model_with_past", "dialects/gpt2_kv__leg17"] {
        lines.push(format!("{file}: {}", fused(file, Logits::Last).1));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn others_are_refused_by_name() {
    let models = [
        "bert__leg17",
        "distilbert__leg17",
        "opt__leg17",
        "gptneox__leg17",
        "llama__leg17",
        "qwen2__leg17",
        "vit__leg17",
    ];
    let mut out = String::new();
    for file in models {
        let (mut graph, _) = load(&format!("dialects/{file}"));
        let report = match run_all(&mut graph, &Options::default()) {
            Ok(()) => "fuses".into(),
            Err(report) => report.to_string(),
        };
        out += &format!("{file}\n{report}\n\n");
    }
    insta::assert_snapshot!(out);
}
