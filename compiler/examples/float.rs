//! Imports every model of a folder and compares the float evaluator with recorded outputs: what `check` does, without
//! compiling.
//!
//! usage: cargo run -p sscc --example float -- DIR [FILTER]

mod folder;

use std::collections::BTreeMap;
use std::path::Path;

use sscc::graph::{Stage, Tensor, eval, kernel, verify};
use sscc::onnx::{Bindings, import};
use sscc::samples;

fn main() {
    folder::check_all("float", folder::has_arrays, check);
}

fn check(model: &Path) -> (&'static str, String) {
    let arrays = samples::read(&model.with_extension("io.npz")).expect("recorded arrays");
    let mut inputs: BTreeMap<String, Tensor> =
        arrays.iter().filter_map(|(n, t)| Some((n.strip_prefix("in_")?.to_owned(), t.clone()))).collect();
    let bindings = Bindings {
        input_shapes: inputs.iter().map(|(n, t)| (n.clone(), t.shape().to_vec())).collect(),
        dims: folder::dims(&model.with_extension("json")),
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
