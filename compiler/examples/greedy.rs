//! Compiles every decoder of a folder for generation and compares the exact program's greedy tokens with recorded ones.
//!
//! usage: cargo run -p sscc --example greedy -- DIR [FILTER]
//!
//! Beside NAME.onnx lies NAME.greedy.npz with `prompts` [rows, p] and `tokens` [rows, n]; a file NAME_kv.onnx takes
//! NAME.greedy.npz too. All rows are what the ranges are calibrated on. One line a file; files whose names hold FILTER, if
//! it is given.

mod folder;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::{Array2, Axis, Ix2, concatenate};
use ndarray_npy::NpzWriter;
use sscc::entries::Generation;
use sscc::exact::{Decoding, Exact};
use sscc::graph::Tensor;
use sscc::lower::Reveal;
use sscc::lower::variant::Link;
use sscc::pass::Logits;
use sscc::pipeline::{self, Options};
use sscc::samples;

/// Slots of a prompt beyond its tokens, so that padding is met.
const PADDING: usize = 3;

fn main() {
    folder::check_all("greedy", |model| recorded(model).exists(), check);
}

/// Where the tokens of a model lie.
fn recorded(model: &Path) -> PathBuf {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    let plain = stem.strip_suffix("_kv").unwrap_or(&stem);
    let own = model.with_extension("greedy.npz");
    if own.exists() { own } else { model.with_file_name(format!("{plain}.greedy.npz")) }
}

fn check(model: &Path) -> (&'static str, String) {
    let arrays = samples::read(&recorded(model)).expect("recorded tokens");
    let matrix = |name: &str| -> Array2<i64> {
        let Some(Tensor::I64(array)) = arrays.get(name) else { panic!("an array of integers called {name}") };
        array.clone().into_dimensionality::<Ix2>().expect("a matrix")
    };
    let (prompts, tokens) = (matrix("prompts"), matrix("tokens"));
    let rows = concatenate(Axis(1), &[prompts.view(), tokens.view()]).expect("as many rows");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("calibration.npz");
    let mut npz = NpzWriter::new(std::fs::File::create(&path).expect("a file"));
    npz.add_array("input_ids", &rows).expect("an array is written");
    npz.finish().expect("an archive is written");

    let (prompt, context) = (prompts.ncols(), rows.ncols());
    let options = Options {
        model: model.to_owned(),
        dims: BTreeMap::new(),
        bind: BTreeMap::new(),
        logits: Logits::Last,
        calibrate: Some(path),
        link: Link::LAN,
        maker: ir::pair::Maker::Dealer,
        generation: Some(Generation {
            max_context: Some(context),
            prefill: vec![prompt + PADDING],
            decode: vec![prompt + PADDING + 2, context + PADDING],
            reveal: Reveal::Token,
        }),
    };
    let compiled = match pipeline::compile(&options) {
        Ok(compiled) => compiled,
        Err(fault) => return ("refused", fault.to_string().replace('\n', " | ")),
    };
    let exact = Exact::of(&compiled);
    let (mut right, mut broken, mut first_wrong) = (0, 0, None);
    for (row, (prompt, tokens)) in prompts.outer_iter().zip(tokens.outer_iter()).enumerate() {
        let (mut generation, mut step) =
            Decoding::begin(&exact, &prompt.to_vec(), 0, &[]).expect("an entry for the prompt");
        for (i, &token) in tokens.iter().enumerate() {
            broken += step.broken_elements();
            match step.values()[0] as i64 == token {
                true => right += 1,
                false => drop(first_wrong.get_or_insert((row, i))),
            }
            // The recorded token goes on, so that one difference is counted once.
            if i + 1 < tokens.len() {
                step = generation.next(token, &[]).expect("an entry for the context");
            }
        }
    }
    let rounds: Vec<u64> = compiled.schedules.iter().map(|entry| ir::cost::cost(entry).rounds).collect();
    let wrong = first_wrong.map_or(String::new(), |(row, i)| format!("  first difference: row {row}, token {i}"));
    let text = format!("{right} of {} tokens  rounds {rounds:?}  broken claims {broken}{wrong}", tokens.len());
    (if right == tokens.len() { "ok" } else { "WRONG" }, text)
}
