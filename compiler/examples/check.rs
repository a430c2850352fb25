//! Compiles every model of a folder and compares the exact program with recorded outputs.
//!
//! usage: cargo run -p sscc --example check -- DIR [FILTER]
//!
//! Beside NAME.onnx lies NAME.io.npz with arrays `in_<input>` and `out_<output>` (or `out_<index>`), rows of the first
//! axis being samples unless there is an array `single`; `calibrate_32` are rows to calibrate with instead; and, if the
//! file leaves dimensions open that the arrays do not tell, NAME.json with {"dims": {"name": size}}. One line a file; files
//! whose names hold FILTER, if it is given.

mod folder;

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::{ArrayD, Axis};
use ndarray_npy::NpzWriter;
use sscc::exact::Exact;
use sscc::graph::{self, Tensor, kernel};
use sscc::lower::variant::Link;
use sscc::pass::Logits;
use sscc::pipeline::{self, Options};
use sscc::samples::{self, Arrays};

/// Samples that are compared.
const SAMPLES: usize = 3;

fn main() {
    folder::check_all("check", folder::has_arrays, check);
}

fn check(model: &Path) -> (&'static str, String) {
    let arrays = samples::read(&model.with_extension("io.npz")).expect("recorded arrays");
    let single = arrays.contains_key("single");
    let given: Arrays =
        arrays.iter().filter_map(|(n, t)| Some((n.strip_prefix("in_")?.to_owned(), t.clone()))).collect();
    let mut calibration = given.clone();
    if let (Some(rows), Some(array)) = (arrays.get("calibrate_32"), calibration.values_mut().next()) {
        *array = rows.clone();
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("calibration.npz");
    write(&path, &calibration);

    let options = Options {
        model: model.to_owned(),
        dims: folder::dims(&model.with_extension("json")),
        bind: BTreeMap::new(),
        logits: Logits::All,
        calibrate: (!calibration.is_empty()).then(|| path.clone()),
        link: Link::LAN,
        maker: ir::pair::Maker::Dealer,
        generation: None,
    };
    let compiled = match pipeline::compile(&options) {
        Ok(compiled) => compiled,
        Err(fault) => return ("refused", fault.to_string().replace('\n', " | ")),
    };
    let exact = Exact::of(&compiled);
    let (_, imported) = pipeline::import(&options).expect("it was imported before");
    let rows = samples::split(&compiled.fused, &given, &path).expect("the arrays fit");
    let (mut float_error, mut error, mut broken, mut outside, mut fits) = (0f32, 0f32, 0, 0, true);
    // What a mask leaves out is compiled as text, so rows with padding have no recorded output.
    let masks: Vec<ArrayD<f32>> =
        given.iter().filter(|(name, _)| name.contains("mask")).map(|(_, mask)| kernel::floats(mask)).collect();
    let padded = |i: usize| masks.iter().any(|mask| mask.index_axis(Axis(0), i).iter().any(|&m| m != 1.0));
    for (i, sample) in rows.iter().enumerate().filter(|(i, _)| single || !padded(*i)).take(SAMPLES) {
        let float = graph::eval::evaluate(&imported.graph, sample, None, &mut |_, _| {}).expect("the graph runs");
        let outcome = match exact.run(sample) {
            Ok(outcome) => outcome,
            Err(fault) => return ("refused", fault.to_string().replace('\n', " | ")),
        };
        outside += outcome.outside;
        broken += outcome.broken.iter().map(|b| b.1).sum::<usize>();
        for (name, got) in outcome.outputs.iter().filter(|output| output.0 != ir::OUTSIDE) {
            let at = float.iter().position(|output| output.0 == *name).expect("an output of the graph");
            let Some(recorded) = arrays.get(&format!("out_{name}")).or_else(|| arrays.get(&format!("out_{at}"))) else {
                continue;
            };
            let recorded = kernel::floats(recorded);
            let spread = spread(&recorded);
            let batch = recorded.shape().first().map_or(1, |&n| n / rows.len().max(1));
            let want: Vec<f32> = match single || recorded.ndim() == 0 {
                true => recorded.iter().copied().collect(),
                false => recorded.slice_axis(Axis(0), (i * batch..(i + 1) * batch).into()).iter().copied().collect(),
            };
            let float = kernel::floats(&float[at].1);
            if want.len() != got.len() || want.len() != float.len() {
                return ("WRONG", format!("output {name} has {} elements, not {}", got.len(), want.len()));
            }
            let scale = if single { 1.0 } else { spread };
            for ((&want, &got), &float) in want.iter().zip(got).zip(&float) {
                let distance = |x: f32| if x == want || (x.is_nan() && want.is_nan()) { 0.0 } else { (x - want).abs() };
                float_error = float_error.max(distance(float) / scale);
                error = error.max(distance(got) / scale);
                let limit = if single { 1e-2 + 1e-2 * want.abs() } else { 0.02 * spread };
                fits &= distance(got) <= limit;
            }
        }
    }
    let rounds = ir::cost::cost(&compiled.schedules[0]).rounds;
    let text = format!(
        "error {error:.5}  float {float_error:.1e}  rounds {rounds}  outside {outside}  broken claims {broken}"
    );
    (if fits { "ok" } else { "WRONG" }, text)
}

/// Greatest less least element.
fn spread(x: &ArrayD<f32>) -> f32 {
    let (least, greatest) = x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, g), &v| (l.min(v), g.max(v)));
    (greatest - least).max(f32::MIN_POSITIVE)
}

fn write(path: &Path, arrays: &Arrays) {
    let mut npz = NpzWriter::new(std::fs::File::create(path).expect("a file"));
    for (name, array) in arrays {
        match array {
            Tensor::F32(a) => npz.add_array(name, a),
            Tensor::I64(a) => npz.add_array(name, a),
            Tensor::Bool(a) => npz.add_array(name, a),
        }
        .expect("an array is written");
    }
    npz.finish().expect("an archive is written");
}
