//! How near the exact program of a language model comes to the float graph, on text that calibration has not seen.
//!
//! usage: cargo run --release -p sscc --example chat -- teacher-forced MODEL.onnx CALIBRATION.npz HELD_OUT.npz [NAME=SIZE ..]
//!        cargo run --release -p sscc --example chat -- greedy MODEL.onnx CALIBRATION.npz PROMPTS.json CONTEXT
//!
//! Teacher-forced: rows of `input_ids` in HELD_OUT.npz in one pass each, the greatest logit at every position; NAME=SIZE
//! bind open dimensions for that pass, such as an empty past. Greedy: PROMPTS.json holds [{"input_ids": [..],
//! "tokens": [..]}, ..], the ids of a prompt and the float model's greedy tokens, which a session of prefill and decode
//! steps follows until it departs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use ndarray::{Array2, ArrayD, Axis};
use ndarray_npy::NpzWriter;
use sscc::entries::Generation;
use sscc::exact::{Decoding, Exact};
use sscc::graph::{self, Tensor, kernel};
use sscc::lower::Reveal;
use sscc::lower::variant::Link;
use sscc::pass::Logits;
use sscc::pipeline::{self, Compiled, Options};
use sscc::samples::{self, Arrays};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["teacher-forced", model, calibration, held_out, ref dims @ ..] => {
            let dims = dims.iter().map(|dim| {
                let (name, size) = dim.split_once('=').expect("NAME=SIZE");
                (name.to_owned(), size.parse().expect("SIZE is a number"))
            });
            teacher_forced(Path::new(model), Path::new(calibration), Path::new(held_out), dims.collect());
        }
        ["greedy", model, calibration, prompts, context] => {
            let context = context.parse().expect("CONTEXT is a number");
            greedy(Path::new(model), Path::new(calibration), Path::new(prompts), context);
        }
        _ => {
            eprintln!("usage: chat teacher-forced MODEL.onnx CALIBRATION.npz HELD_OUT.npz [NAME=SIZE ..]");
            eprintln!("       chat greedy MODEL.onnx CALIBRATION.npz PROMPTS.json CONTEXT");
            std::process::exit(2);
        }
    }
}

fn compile(options: &Options) -> Compiled {
    let started = Instant::now();
    let compiled = pipeline::compile(options).unwrap_or_else(|e| panic!("{e}"));
    println!("compiled in {:.0} s", started.elapsed().as_secs_f32());
    for entry in &compiled.schedules {
        let cost = ir::cost::cost(entry);
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        println!(
            "{}: {} rounds, {} one-way, {:.2} + {:.2} MB, material {:.1} MB",
            entry.name,
            cost.rounds,
            cost.one_way_messages,
            megabytes(cost.client_sent_bytes),
            megabytes(cost.server_sent_bytes),
            megabytes(cost.client_material_bytes + cost.server_material_bytes),
        );
    }
    compiled
}

/// Rows of token ids.
fn rows(path: &Path) -> Array2<i64> {
    let arrays = samples::read(path).unwrap_or_else(|e| panic!("{e}"));
    let Some(Tensor::I64(ids)) = arrays.get("input_ids") else { panic!("{}: no input_ids", path.display()) };
    ids.clone().into_dimensionality().expect("rows of ids")
}

fn greatest<'a>(values: impl Iterator<Item = &'a f32>) -> usize {
    values.enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("logits").0
}

fn teacher_forced(model: &Path, calibration: &Path, held_out: &Path, dims: BTreeMap<String, usize>) {
    let held_out = rows(held_out);
    let length = held_out.ncols();
    // The one pass is bound to the length of the rows that it is calibrated with.
    let cut = rows(calibration);
    let cut: Vec<i64> = cut
        .outer_iter()
        .flat_map(|row| row.to_vec().chunks_exact(length).flatten().copied().collect::<Vec<_>>())
        .collect();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("calibration.npz");
    let mut npz = NpzWriter::new(std::fs::File::create(&path).expect("a file"));
    let cut = Array2::from_shape_vec((cut.len() / length, length), cut).expect("rows");
    npz.add_array("input_ids", &cut).expect("an array is written");
    npz.finish().expect("an archive is written");

    let (model, calibrate) = (model.to_owned(), Some(path));
    let options = Options {
        model,
        dims,
        bind: BTreeMap::new(),
        logits: Logits::All,
        calibrate,
        link: Link::LAN,
        maker: ir::pair::Maker::Dealer,
        generation: None,
    };
    let compiled = compile(&options);
    let exact = Exact::of(&compiled);
    let (mut equal, mut count, mut errors, mut broken) = (0, 0, Vec::new(), 0);
    for row in held_out.outer_iter() {
        let ids = Tensor::I64(row.insert_axis(Axis(0)).to_owned().into_dyn());
        let sample = Arrays::from([("input_ids".to_owned(), ids)]);
        let outcome = exact.run(&sample).unwrap_or_else(|e| panic!("{e}"));
        broken += outcome.broken_elements();
        for (node, elements) in outcome.broken.iter().take(5) {
            println!("  claim broken at {node} by {elements}");
        }
        let float = graph::eval::evaluate(&compiled.fused, &sample, None, &mut |_, _| {}).expect("it runs");
        let float: ArrayD<f32> = kernel::floats(&float[0].1);
        let got = &outcome.outputs[0].1;
        for (got, want) in got.rows().into_iter().zip(float.rows()) {
            count += 1;
            equal += usize::from(greatest(got.iter()) == greatest(want.iter()));
            errors.push(got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max));
        }
    }
    errors.sort_by(f32::total_cmp);
    println!(
        "teacher-forced: {equal} of {count} equal ({:.2} %), greatest logit error: median {:.4}, 99 % {:.4}, worst {:.4}; broken claims {broken}",
        100.0 * equal as f32 / count as f32,
        errors[errors.len() / 2],
        errors[errors.len() * 99 / 100],
        errors[errors.len() - 1]
    );
}

fn greedy(model: &Path, calibration: &Path, prompts: &Path, context: usize) {
    let prompts: serde_json::Value =
        serde_json::from_slice(&std::fs::read(prompts).expect("prompts")).expect("prompts are JSON");
    let numbers = |list: &serde_json::Value| -> Vec<i64> {
        list.as_array().expect("a list").iter().map(|v| v.as_i64().expect("an id")).collect()
    };
    let generation = Generation {
        max_context: Some(context),
        prefill: vec![context / 2],
        decode: vec![context],
        reveal: Reveal::Token,
    };
    let options = Options {
        model: model.to_owned(),
        dims: BTreeMap::new(),
        bind: BTreeMap::new(),
        logits: Logits::Last,
        calibrate: Some(calibration.to_owned()),
        link: Link::LAN,
        maker: ir::pair::Maker::Dealer,
        generation: Some(generation),
    };
    let compiled = compile(&options);
    let exact = Exact::of(&compiled);
    let (mut texts, mut equal) = (0, 0);
    for prompt in prompts.as_array().expect("a list of prompts") {
        let (ids, tokens) = (numbers(&prompt["input_ids"]), numbers(&prompt["tokens"]));
        let (mut session, step) = Decoding::begin(&exact, &ids, 0, &[]).unwrap_or_else(|e| panic!("{e}"));
        let (mut got, mut broken) = (vec![step.values()[0] as i64], step.broken_elements());
        while got.len() < tokens.len() && got.last() == tokens.get(got.len() - 1) {
            let step = session.next(got[got.len() - 1], &[]).unwrap_or_else(|e| panic!("{e}"));
            got.push(step.values()[0] as i64);
            broken += step.broken_elements();
        }
        texts += 1;
        equal += usize::from(got == tokens);
        let same = got.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
        println!("prompt {texts}: {same} of {} tokens equal, {broken} broken claims", tokens.len());
    }
    println!("greedy: {equal} of {texts} texts equal");
}
