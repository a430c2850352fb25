//! How near private sentence embeddings come to recorded ones.
//!
//! usage: cargo run --release -p sscc --example sentences -- MODEL.onnx [LENGTH ..]
//!
//! MODEL is `pooled.onnx` or `model.onnx` as `models/minilm.py` wrote it, beside `sentences.npz` (`input_ids`, `lengths`,
//! `embeddings`) and `calibration.npz`; of the latter the client takes the mean of the tokens' vectors. One program for each
//! length, or for the lengths that are named; one line each: least cosine between exact and recorded embeddings, costs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ndarray::{Array2, ArrayD, ArrayView1, Axis, s};
use ndarray_npy::NpzWriter;
use sscc::exact::Exact;
use sscc::graph::{Tensor, kernel};
use sscc::lower::variant::Link;
use sscc::pass::Logits;
use sscc::pipeline::{self, Options};
use sscc::samples::{self, Arrays};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((model, lengths)) = arguments.split_first() else {
        eprintln!("usage: sentences MODEL.onnx [LENGTH ..]");
        std::process::exit(2);
    };
    let model = Path::new(model);
    let dir = model.parent().unwrap_or(Path::new("."));
    let wanted: BTreeSet<usize> = lengths.iter().map(|length| length.parse().expect("a length")).collect();
    let sentences = samples::read(&dir.join("sentences.npz")).expect("recorded sentences");
    let floats = |name: &str| -> ArrayD<f32> { kernel::floats(&sentences[name]) };
    let (ids, embeddings, of) = (whole(&sentences, "input_ids"), floats("embeddings"), floats("lengths"));
    let calibration = whole(&samples::read(&dir.join("calibration.npz")).expect("calibration rows"), "input_ids");
    let all: BTreeSet<usize> = of.iter().map(|&length| length as usize).collect();
    let mut least = 1f64;
    for &length in all.iter().filter(|length| wanted.is_empty() || wanted.contains(length)) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("calibration.npz");
        let mut npz = NpzWriter::new(std::fs::File::create(&path).expect("a file"));
        let rows = windows(&calibration, length);
        npz.add_array("input_ids", &rows).expect("an array is written");
        npz.add_array("attention_mask", &Array2::<i64>::ones(rows.dim())).expect("an array is written");
        npz.finish().expect("an archive is written");
        let options = Options {
            model: model.to_owned(),
            dims: BTreeMap::new(),
            bind: BTreeMap::new(),
            logits: Logits::All,
            calibrate: Some(path),
            link: Link::LAN,
            maker: ir::pair::Maker::Dealer,
            generation: None,
        };
        let compiled = pipeline::compile(&options).unwrap_or_else(|fault| panic!("{fault}"));
        let exact = Exact::of(&compiled);
        let (mut worst, mut outside, mut count) = (1f64, 0, 0);
        for (i, _) in of.iter().enumerate().filter(|(_, of)| **of as usize == length) {
            let row = ids.slice(s![i..=i, ..length]).to_owned();
            let mask = Array2::<i64>::ones(row.dim());
            let sample = Arrays::from([
                ("input_ids".to_owned(), Tensor::I64(row.into_dyn())),
                ("attention_mask".to_owned(), Tensor::I64(mask.into_dyn())),
            ]);
            let outcome = exact.run(&sample).unwrap_or_else(|fault| panic!("{fault}"));
            let mut got = outcome.outputs[0].1.clone();
            if got.ndim() == 3 {
                got = got.mean_axis(Axis(1)).expect("tokens");
            }
            let want = embeddings.index_axis(Axis(0), i);
            worst = worst.min(cosine(got.flatten().view(), want.flatten().view()));
            outside += outcome.outside;
            count += 1;
        }
        let cost = ir::cost::cost(&compiled.schedules[0]);
        println!(
            "{length:3} tokens: {count} sentences, least cosine {worst:.7}, {outside} outside; {} rounds, {} one-way, {:.2} + {:.2} MB, material {:.1} MB",
            cost.rounds,
            cost.one_way_messages,
            cost.client_sent_bytes as f64 / 1e6,
            cost.server_sent_bytes as f64 / 1e6,
            (cost.client_material_bytes + cost.server_material_bytes) as f64 / 1e6,
        );
        least = least.min(worst);
    }
    println!("least cosine {least:.7}");
    assert!(least >= 0.9999, "a private embedding is {least} from the float model's");
}

fn whole(arrays: &Arrays, name: &str) -> Array2<i64> {
    let Some(Tensor::I64(rows)) = arrays.get(name) else { panic!("no whole numbers {name}") };
    rows.clone().into_dimensionality().expect("rows")
}

/// Rows of another length: the beginnings of rows, or rows one after another.
fn windows(rows: &Array2<i64>, length: usize) -> Array2<i64> {
    let (count, width) = rows.dim();
    if length <= width {
        return rows.slice(s![.., ..length]).to_owned();
    }
    let joined = length.div_ceil(width);
    let wide: Vec<i64> = rows.slice(s![..count / joined * joined, ..]).iter().copied().collect();
    let wide = Array2::from_shape_vec((count / joined, joined * width), wide).expect("whole rows");
    wide.slice(s![.., ..length]).to_owned()
}

fn cosine(x: ArrayView1<f32>, y: ArrayView1<f32>) -> f64 {
    let dot = |x: ArrayView1<f32>, y: ArrayView1<f32>| -> f64 {
        x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
}
