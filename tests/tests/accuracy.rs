//! How near a private pass comes to the float evaluator, on text that calibration has not seen.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ndarray::Array2;
use ndarray_npy::NpzReader;
use prost::Message;
use sscc::onnx::proto::{ModelProto, TensorProto};
use tests::private::{Private, options};
use tests::processes::repository;

/// What a comparison on validation windows gave.
struct Outcome {
    /// Windows with the same greatest logit.
    equal: usize,
    /// Greatest error of a logit in each window, ascending.
    errors: Vec<f32>,
}

impl Outcome {
    fn median(&self) -> f32 {
        self.errors[self.errors.len() / 2]
    }

    fn worst(&self) -> f32 {
        self.errors[self.errors.len() - 1]
    }
}

/// Runs the first `count` validation windows.
fn compare(private: &Private, count: usize) -> Outcome {
    let path = repository().join("models/tiny-shakespeare/validation.npz");
    let windows: Array2<i64> = NpzReader::new(File::open(path).unwrap()).unwrap().by_name("input_ids").unwrap();
    let mut outcome = Outcome { equal: 0, errors: Vec::new() };
    for ids in windows.rows().into_iter().take(count) {
        let ids = ids.to_vec();
        let [client, _] = private.run(&ids);
        let (got, want) = (private.logits(&client), private.float(&ids));
        outcome.equal += usize::from(greatest(&got) == greatest(&want));
        outcome.errors.push(got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max));
    }
    outcome.errors.sort_by(f32::total_cmp);
    println!(
        "next token equal in {} of {}; greatest logit error: median {:.4}, worst {:.4}",
        outcome.equal,
        outcome.errors.len(),
        outcome.median(),
        outcome.worst()
    );
    outcome
}

fn greatest(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap()
}

/// Compiles a model with the trained model's calibration.
fn calibrated(model: &Path) -> Private {
    let calibration = repository().join("models/tiny-shakespeare/calibration.npz");
    Private::compile(&options(model, Some(calibration))).unwrap_or_else(|e| panic!("{e}"))
}

fn trained() -> PathBuf {
    repository().join("models/tiny-shakespeare/model.onnx")
}

#[test]
fn tiny_shakespeare() {
    let outcome = compare(&calibrated(&trained()), 200);
    let windows = outcome.errors.len();
    assert!(outcome.equal * 1000 >= windows * 995, "next token equal in {} of {windows}", outcome.equal);
    let (median, worst) = (outcome.median(), outcome.worst());
    assert!(median <= 0.02 && worst <= 0.08, "logit errors: median {median}, worst {worst}");
}

/// Multiplies the first third of the last axis: the queries of a joint projection.
fn scale_queries(tensor: &mut TensorProto, factor: f32) {
    let columns = *tensor.dims.last().unwrap() as usize;
    let raw = tensor.raw_data.take().expect("the exporter writes raw data");
    let values = raw.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).enumerate();
    let scaled = values.map(|(i, value)| if i % columns < columns / 3 { value * factor } else { value });
    tensor.raw_data = Some(scaled.flat_map(f32::to_le_bytes).collect());
}

/// Scores eight times as large: rows whose greatest and least score lie so far apart that exp has to be clipped.
#[test]
fn wide_scores() {
    let mut model = ModelProto::decode(fs::read(trained()).unwrap().as_slice()).unwrap();
    let projections: Vec<&mut TensorProto> = model
        .graph
        .as_mut()
        .unwrap()
        .initializer
        .iter_mut()
        .filter(|t| [".attn.c_attn.weight", ".attn.c_attn.bias"].iter().any(|end| t.name().ends_with(end)))
        .collect();
    assert_eq!(projections.len(), 2 * 4, "weights and biases of four layers");
    projections.into_iter().for_each(|tensor| scale_queries(tensor, 8.0));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.onnx");
    fs::write(&path, model.encode_to_vec()).unwrap();

    let private = calibrated(&path);
    let span = private.compiled.ranges.seen.values().map(|range| range.span).fold(0.0, f64::max);
    println!("greatest distance of a score from its row's maximum: {span:.0} nats");
    assert!(span > 100.0, "scores span {span} nats: too little for this test to mean anything");
    let outcome = compare(&private, 100);
    let windows = outcome.errors.len();
    assert!(outcome.equal * 100 >= windows * 98, "next token equal in {} of {windows}", outcome.equal);
}
