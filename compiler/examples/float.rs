//! Imports every model of a folder and compares the float evaluator with recorded outputs: what `check` does, without
//! compiling.
//!
//! usage: cargo run -p sscc --example float -- DIR [FILTER]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sscc::graph::{Stage, Tensor, eval, kernel, verify};
use sscc::onnx::{Bindings, import};
use sscc::samples;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(dir) = arguments.first() else {
        eprintln!("usage: float DIR [FILTER]");
        std::process::exit(2);
    };
    let mut models: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{dir}: {e}"))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "onnx") && path.with_extension("io.npz").exists())
        .filter(|path| arguments.get(1).is_none_or(|filter| path.to_string_lossy().contains(filter)))
        .collect();
    models.sort();
    std::panic::set_hook(Box::new(|_| {}));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for model in &models {
        let (verdict, text) = catch_unwind(AssertUnwindSafe(|| check(model))).unwrap_or_else(|cause| {
            let text = cause.downcast_ref::<String>().cloned();
            let text = text.or_else(|| cause.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            ("PANIC", text.replace('\n', " "))
        });
        *counts.entry(verdict).or_default() += 1;
        println!("{verdict:7} {:40} {text}", model.file_stem().unwrap_or_default().to_string_lossy());
    }
    println!("{} files: {counts:?}", models.len());
}

fn check(model: &Path) -> (&'static str, String) {
    let arrays = samples::read(&model.with_extension("io.npz")).expect("recorded arrays");
    let mut inputs: BTreeMap<String, Tensor> =
        arrays.iter().filter_map(|(n, t)| Some((n.strip_prefix("in_")?.to_owned(), t.clone()))).collect();
    let bindings = Bindings {
        input_shapes: inputs.iter().map(|(n, t)| (n.clone(), t.shape().to_vec())).collect(),
        dims: dims(&model.with_extension("json")),
        // Masks and the like are bound as they were recorded.
        values: inputs.iter().filter(|(n, _)| is_public(n)).map(|(n, t)| (n.clone(), t.clone().into())).collect(),
        ..Bindings::default()
    };
    let imported = match import(model, &bindings) {
        Ok(imported) => imported,
        Err(fault) => return ("refused", fault.to_string().replace('\n', " | ")),
    };
    if let Err(fault) = verify(&imported.graph, Stage::Graph) {
        return ("BROKEN", fault.to_string().replace('\n', " | "));
    }
    let graph = &imported.graph;
    // The first sample, as long as the batch that the model is bound to.
    let mut samples: Option<usize> = None;
    inputs.retain(|name, value| {
        let id = graph
            .inputs
            .iter()
            .find(|&&id| matches!(&graph.node(id).op, sscc::graph::Op::Input { name: n } if n == name));
        let Some(&id) = id else { return false };
        let shape = &graph.node(id).shape;
        if value.shape() != shape && value.shape().get(1..) == shape.get(1..) {
            samples = samples.or(Some(value.shape()[0] / shape[0].max(1)));
            *value = first(value, shape[0]);
        }
        true
    });
    let outputs = match eval::evaluate(graph, &inputs, None, &mut |_, _| {}) {
        Ok(outputs) => outputs,
        Err(fault) => return ("BROKEN", fault.to_string().replace('\n', " | ")),
    };
    let mut error = 0f32;
    for (at, (name, got)) in outputs.iter().enumerate() {
        let Some(want) = arrays.get(&format!("out_{name}")).or_else(|| arrays.get(&format!("out_{at}"))) else {
            continue;
        };
        let want = match samples {
            Some(n) if n > 1 && want.shape().first().is_some_and(|&d| d % n == 0) => first(want, want.shape()[0] / n),
            _ => want.clone(),
        };
        if want.shape() != got.shape() {
            return ("WRONG", format!("output {name} is {:?}, not {:?}", got.shape(), want.shape()));
        }
        for (&want, &got) in kernel::floats(&want).iter().zip(&kernel::floats(got)) {
            let distance = if got == want || got.is_nan() && want.is_nan() { 0.0 } else { (got - want).abs() };
            error = error.max(distance / (1.0 + want.abs()));
            if !distance.is_finite() {
                return ("WRONG", format!("output {name} holds {got}, not {want}"));
            }
        }
    }
    (if error < 1e-4 { "ok" } else { "WRONG" }, format!("error {error:.1e}"))
}

fn is_public(name: &str) -> bool {
    ["attention_mask", "token_type_ids", "position_ids"].iter().any(|end| name.ends_with(end))
}

fn first(value: &Tensor, rows: usize) -> Tensor {
    use ndarray::{Axis, Slice};
    let cut = Slice::from(0..rows);
    match value {
        Tensor::F32(a) => Tensor::F32(a.slice_axis(Axis(0), cut).to_owned()),
        Tensor::I64(a) => Tensor::I64(a.slice_axis(Axis(0), cut).to_owned()),
        Tensor::Bool(a) => Tensor::Bool(a.slice_axis(Axis(0), cut).to_owned()),
    }
}

fn dims(path: &Path) -> BTreeMap<String, usize> {
    let Ok(text) = std::fs::read(path) else { return BTreeMap::new() };
    let facts: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let dims = facts["dims"].as_object().cloned().unwrap_or_default();
    dims.into_iter().filter_map(|(name, size)| Some((name, size.as_u64()? as usize))).collect()
}
