//! Normalisations whose gain no layer takes up, and other ways of encoders and vision models: the exact program of small files
//! against recorded outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::Axis;
use ndarray_npy::NpzWriter;
use sscc::exact::Exact;
use sscc::graph::{Tensor, kernel};
use sscc::lower::variant::Link;
use sscc::pass::Logits;
use sscc::pipeline::{self, Compiled, Options};
use sscc::samples::{self, Arrays};

/// Greatest error, of the spread of the recorded outputs.
const ERROR: f32 = 0.02;

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/faults").join(name).with_extension("onnx")
}

/// Compiles a file, calibrated with its recorded inputs.
fn compile(name: &str) -> (Compiled, Arrays, Vec<Arrays>) {
    let arrays = samples::read(&model(name).with_extension("io.npz")).expect("recorded arrays");
    let given: Arrays =
        arrays.iter().filter_map(|(n, t)| Some((n.strip_prefix("in_")?.to_owned(), t.clone()))).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("calibration.npz");
    let mut npz = NpzWriter::new(std::fs::File::create(&path).expect("a file"));
    for (name, array) in &given {
        match array {
            Tensor::F32(a) => npz.add_array(name, a),
            Tensor::I64(a) => npz.add_array(name, a),
            Tensor::Bool(a) => npz.add_array(name, a),
        }
        .expect("an array is written");
    }
    npz.finish().expect("an archive is written");
    let options = Options {
        model: model(name),
        dims: BTreeMap::new(),
        bind: BTreeMap::new(),
        logits: Logits::All,
        calibrate: Some(path.clone()),
        link: Link::LAN,
        maker: ir::pair::Maker::Dealer,
        generation: None,
    };
    let compiled = pipeline::compile(&options).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    let rows = samples::split(&compiled.fused, &given, &path).expect("the arrays fit");
    (compiled, arrays, rows)
}

/// Runs the first recorded inputs and compares every output.
fn agrees(name: &str) -> Compiled {
    let (compiled, arrays, rows) = compile(name);
    let exact = Exact::of(&compiled);
    for (i, row) in rows.iter().enumerate().take(3) {
        let outcome = exact.run(row).expect("it runs");
        assert!(outcome.broken.is_empty(), "{name}: claims broken at {:?}", outcome.broken);
        for (output, got) in &outcome.outputs {
            let recorded = kernel::floats(&arrays[&format!("out_{output}")]);
            let (least, greatest) = recorded.iter().fold((f32::MAX, f32::MIN), |(l, g), &v| (l.min(v), g.max(v)));
            let batch = recorded.shape()[0] / rows.len();
            let want = recorded.slice_axis(Axis(0), (i * batch..(i + 1) * batch).into());
            assert_eq!(want.len(), got.len(), "{name}: {output}");
            let error = want.iter().zip(got).map(|(want, got)| (want - got).abs()).fold(0.0, f32::max);
            assert!(error < ERROR * (greatest - least), "{name}: {output} is off by {error}");
        }
    }
    drop(exact);
    compiled
}

#[test]
fn gains_of_post_norm_blocks_ride() {
    let compiled = agrees("post_ln");
    let program = &compiled.schedules[0];
    // Every product of two openings is one with a reciprocal: of a deviation, or of a softmax's sum. A gain has none.
    let products = program.instrs.iter().filter_map(|instr| match instr.op {
        ir::Op::Mul { x, y, .. } => Some([x, y].map(|v| program.ty(v).shape.0.iter().product::<u32>())),
        _ => None,
    });
    for [x, y] in products {
        assert!(x != y, "a gain is opened");
    }
}

#[test]
fn gain_before_an_output_takes_no_round() {
    let compiled = agrees("ln_output");
    let cost = ir::cost::cost(&compiled.schedules[0]);
    assert_eq!(cost.rounds, 3, "those of the normalisation");
}

#[test]
fn vision_and_heads() {
    for name in ["class_token", "gelu_head_gather", "gelu_head_slice", "rank1_matmul"] {
        agrees(name);
    }
}
