//! Generation token by token: what the entries of a module compute, against the float graph. Programs run in the clear
//! (`ir::eval`), whose integers are those of a private run up to the rounding of `down` and `series`.

#[allow(dead_code)]
mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use common::{models, noise};
use ir::Pattern;
use ir::noise::NOISE_BOUND;
use ir::weights::{Weights, decode_values};
use ndarray::{Array2, ArrayD, IxDyn};
use ndarray_npy::NpzReader;
use sscc::entries::Generation;
use sscc::exact::{Decoding, Exact, Outcome};
use sscc::graph::{self, Graph, Tensor};
use sscc::lower::Reveal;
use sscc::lower::variant::Link;
use sscc::pass::{Logits, resize};
use sscc::pipeline::{self, Compiled, Options};

/// Greatest error of a logit of the trained model.
const ERROR: f32 = 0.04;

fn compile(file: &str, context: usize, prefill: &[usize], decode: &[usize], reveal: Reveal) -> Compiled {
    let calibration = models().join("tiny-shakespeare/calibration.npz");
    let options = Options {
        model: models().join(file),
        dims: BTreeMap::new(),
        bind: BTreeMap::new(),
        logits: Logits::Last,
        calibrate: file.starts_with("tiny-shakespeare").then_some(calibration),
        link: Link::LAN,
        maker: ir::pair::Maker::Dealer,
        generation: Some(Generation {
            max_context: Some(context),
            prefill: prefill.to_vec(),
            decode: decode.to_vec(),
            reveal,
        }),
    };
    pipeline::compile(&options).unwrap_or_else(|e| panic!("{file}\n{e}"))
}

/// Validation windows of 64 tokens.
fn windows() -> Array2<i64> {
    let path: PathBuf = models().join("tiny-shakespeare/validation.npz");
    NpzReader::new(File::open(path).unwrap()).unwrap().by_name("input_ids").unwrap()
}

/// The exact program of a compiled model, with the weights that its file holds.
fn program(compiled: &Compiled) -> Exact<'_> {
    let artifacts = compiled.artifacts().unwrap();
    let module = ir::bytecode::decode(&artifacts.program).unwrap();
    assert_eq!(module.entries, compiled.schedules, "bytecode holds what was scheduled");
    ir::verify::verify_module(&module, &ir::Limits::default()).unwrap();
    let file = Weights::open(&artifacts.weights).unwrap();
    let integers = |name: &str| {
        let (tensor, bytes) = file.tensor(name).unwrap();
        decode_values(tensor.element, bytes).collect::<Vec<i64>>()
    };
    let weights: Vec<_> = module.entries[0].weights.iter().map(|decl| integers(&decl.name)).collect();
    Exact::new(&compiled.schedules, weights)
}

/// What a step gives that breaks no claim.
fn sound(step: Outcome) -> Vec<f32> {
    assert!(step.broken.is_empty(), "claims hold");
    // Calibration saw windows of 64 tokens: in a longer text a row maximum may lie above all thresholds, and is clipped.
    assert!(step.outside <= 1, "{} elements left their tables", step.outside);
    step.values()
}

fn begin<'a>(model: &'a Exact<'a>, prompt: &[i64], noise: &[f32]) -> (Decoding<'a>, Vec<f32>) {
    let (generation, step) = Decoding::begin(model, prompt, 7, noise).unwrap();
    (generation, sound(step))
}

/// Logits of every position by the float evaluator.
fn float(fused: &Graph, ids: &[i64]) -> Array2<f32> {
    let positions = resize::positions(fused).unwrap();
    let first = resize::first(fused, &positions, ids.len());
    let graph = resize::all(&first, &resize::positions(&first).unwrap());
    graph::verify(&graph, graph::Stage::Fused).unwrap();
    let graph::Op::Input { name } = &graph.node(graph.inputs[0]).op else { panic!("an input") };
    let ids = Tensor::I64(ArrayD::from_shape_vec(IxDyn(&[1, ids.len()]), ids.to_vec()).unwrap());
    let outputs = graph::eval::evaluate(&graph, &BTreeMap::from([(name.clone(), ids)]), None, &mut |_, _| {}).unwrap();
    let Tensor::F32(logits) = &outputs[0].1 else { panic!("logits are floats") };
    logits.index_axis(ndarray::Axis(0), 0).to_owned().into_dimensionality().unwrap()
}

fn worst<'a>(got: &[f32], want: impl IntoIterator<Item = &'a f32>) -> f32 {
    got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max)
}

fn greatest(values: impl IntoIterator<Item = f32>) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, value) in values.into_iter().enumerate() {
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0
}

/// At every position up to the end of the context: decode steps after a short padded prompt, and a prefill of as many
/// tokens, give the logits of the float graph.
fn decode_equals_prefill(file: &str, context: usize, ids: &[i64], bound: f32) {
    let compiled = compile(file, context, &[4, context], &[9, context + 4], Reveal::Outputs);
    let model = program(&compiled);
    let want = float(&compiled.fused, ids);
    let (mut generated, first) = begin(&model, &ids[..3], &[]);
    let mut error = worst(&first, want.row(2));
    for (position, &id) in ids.iter().enumerate().skip(3) {
        let decoded = sound(generated.next(id, &[]).unwrap());
        error = error.max(worst(&decoded, want.row(position)));
        if position % 7 == 0 || position + 1 == ids.len() {
            let (_, prefilled) = begin(&model, &ids[..=position], &[]);
            error = error.max(worst(&prefilled, want.row(position)));
            let between = worst(&decoded, &prefilled);
            assert!(between <= bound, "{file}: decode and prefill differ by {between} at position {position}");
        }
    }
    println!("{file}: greatest logit error {error:.4} over {} positions", ids.len() - 2);
    assert!(error <= bound, "{file}: a logit is off by {error}");
}

#[test]
fn decode_equals_prefill_of_a_plain_export() {
    let ids: Vec<i64> = windows().row(3).iter().chain(&windows().row(4)).copied().collect();
    decode_equals_prefill("tiny-shakespeare/model.onnx", 128, &ids, ERROR);
}

#[test]
fn decode_equals_prefill_of_an_export_with_a_cache() {
    let ids = windows().row(5).to_vec();
    decode_equals_prefill("tiny-shakespeare/model_with_past.onnx", 64, &ids, ERROR);
    let ids: Vec<i64> = noise(3, &[40]).iter().map(|x| ((x + 1.0) * 250.0) as i64).collect();
    decode_equals_prefill("dialects/gpt2_kv__leg17.onnx", 40, &ids, 0.004);
}

/// A file with a cache and one without give the same float graph, once the cache is empty.
#[test]
fn a_cache_is_no_other_model() {
    let ids = windows().row(6).to_vec();
    let of = |file| float(&compile(file, 64, &[4], &[5], Reveal::Outputs).fused, &ids);
    let difference = worst(
        of("tiny-shakespeare/model.onnx").as_slice().unwrap(),
        of("tiny-shakespeare/model_with_past.onnx").as_slice().unwrap(),
    );
    assert!(difference < 1e-3, "{difference}");
}

/// What 20 prompts of 14 tokens give in 50 steps: every token that differs from the float graph's choice.
fn choices(noise_of: impl Fn(u64) -> Vec<f32>) {
    let compiled = compile("tiny-shakespeare/model.onnx", 64, &[16], &[32, 66], Reveal::Token);
    let model = program(&compiled);
    let (mut total, mut margins) = (0, Vec::new());
    for (row, window) in windows().rows().into_iter().take(20).enumerate() {
        let mut ids = window.to_vec()[..14].to_vec();
        let (mut generated, first) = begin(&model, &ids, &noise_of(50 * row as u64));
        ids.push(first[0] as i64);
        for step in 1..50 {
            let token = sound(generated.next(*ids.last().unwrap(), &noise_of(50 * row as u64 + step)).unwrap());
            ids.push(token[0] as i64);
        }
        let logits = float(&compiled.fused, &ids);
        for step in 0..50 {
            let noise = noise_of(50 * row as u64 + step);
            let row = logits.row(13 + step as usize);
            let sum = |i: usize| row[i] + noise.get(i).unwrap_or(&0.0);
            let want = greatest((0..row.len()).map(sum));
            let got = ids[14 + step as usize] as usize;
            total += 1;
            if got != want {
                margins.push(sum(want) - sum(got));
            }
        }
    }
    println!(
        "{} of {total} tokens as the float graph chooses; margins of the others {margins:.4?}",
        total - margins.len()
    );
    assert!(margins.len() * 100 <= total, "{} of {total} tokens differ", margins.len());
    assert!(margins.iter().all(|&margin| margin < 0.05), "{margins:?}");
}

#[test]
fn greedy_tokens() {
    choices(|_| Vec::new());
}

/// A temperature of 0.8: Gumbel numbers from the client.
#[test]
fn sampled_tokens() {
    choices(|seed| {
        let uniform = noise(seed + 1, &[1024]).mapv(|x| f64::from(x) / 2.0 + 0.5);
        let bound = NOISE_BOUND as f32;
        uniform.iter().map(|u| (0.8 * -(-(u.max(1e-9)).ln()).ln()) as f32).map(|g| g.clamp(-bound, bound)).collect()
    });
}

/// What is no causal model is refused with a reason.
#[test]
fn models_that_mix_positions() {
    let compiled = compile("dialects/gpt2__leg17.onnx", 16, &[4], &[8], Reveal::Token);
    let mut graph = compiled.fused;
    for node in graph.dag.node_weights_mut() {
        if let graph::Op::Attention { pattern, .. } = &mut node.op {
            *pattern = Pattern::full(16, 16);
        }
    }
    let refused = resize::positions(&graph).err().expect("attention to later positions").to_string();
    assert!(refused.contains("a position looks at others than itself and those before"), "{refused}");
}

/// Sizes differ, nodes do not: entries of any length are fused graphs that verify.
#[test]
fn resized_graphs_verify() {
    let compiled = compile("dialects/nanogpt__leg17.onnx", 32, &[4], &[8], Reveal::Token);
    let positions = resize::positions(&compiled.fused).unwrap();
    let graphs = [resize::first(&compiled.fused, &positions, 1), resize::one(&compiled.fused, &positions)];
    for graph in graphs {
        graph::verify(&graph, graph::Stage::Fused).unwrap();
        assert!(graph.order().iter().eq(&compiled.fused.order()), "the same nodes");
        let text = graph::text::print(&graph, graph::Stage::Fused, "m");
        let parsed = graph::text::parse(&text, &graph::text::Store::of(&graph)).unwrap();
        assert_eq!(graph::text::print(&parsed.graph, graph::Stage::Fused, "m"), text);
    }
}
