//! What import and evaluation say about models and inputs that they cannot take; and that no broken file makes them panic.

#[allow(dead_code)]
mod common;

use std::collections::BTreeMap;

use common::*;
use prost::Message;
use sscc::diagnostic::Diagnostic;
use sscc::graph::{Tensor, eval};
use sscc::onnx::proto::*;
use sscc::onnx::{Bindings, import};

fn refused(file: &File) -> Diagnostic {
    import(&file.path(), &Bindings::default()).err().expect("the model must be refused")
}

#[test]
fn unsupported_operators() {
    let nodes = vec![
        node("com.microsoft.Inverse", "x", "a", vec![]),
        node("com.microsoft.Inverse", "a", "b", vec![]),
        node("DequantizeLinear", "b w w", "c", vec![]),
        node("Less", "x x", "t", vec![]),
        node("If", "t", "d", vec![]),
        node("NonMaxSuppression", "d x", "f", vec![]),
        node("Clip", "unread", "unread_too", vec![]),
        node("Mul", "f x", "g", vec![]),
        node("Slice", "x x x", "h", vec![]),
        node("Sum", "c g h", "y", vec![]),
    ];
    let inputs = vec![input("x", DataType::Float, &[2, 3]), input("unread", DataType::Float, &[1])];
    let file = file(17, graph(inputs, vec![floats("w", &[1], &[1.0])], nodes));
    insta::assert_snapshot!(refused(&file));
}

#[test]
fn dimensions() {
    let missing = import(&models().join("dialects/llama__leg17.onnx"), &Bindings::default()).err().unwrap();
    let dims = BTreeMap::from([("sequence".to_string(), 64)]);
    let unknown =
        import(&models().join("tiny-shakespeare/model.onnx"), &Bindings { dims, ..Bindings::default() }).err().unwrap();
    let past = import(&models().join("tiny-shakespeare/model_with_past.onnx"), &Bindings::default()).err().unwrap();
    insta::assert_snapshot!(format!("{missing}\n\n{unknown}\n\n{past}"));
}

#[test]
fn broken_files() {
    let whole = std::fs::read(models().join("dialects/nanogpt__leg17.onnx")).unwrap();
    let add = || vec![node("Add", "x w", "y", vec![])];
    let x = || vec![input("x", DataType::Float, &[2])];
    let external = |location: &str, offset: &str| {
        let entry = |k: &str, v: &str| StringStringEntryProto { key: Some(k.into()), value: Some(v.into()) };
        let external_data = vec![entry("location", location), entry("offset", offset), entry("length", "8")];
        TensorProto { raw_data: None, external_data, data_location: Some(1), ..floats("w", &[2], &[]) }
    };
    let mut deep = GraphProto::default();
    for _ in 0..200 {
        let branch = AttributeProto { g: Some(Box::new(deep)), ..Default::default() };
        deep = graph(vec![], vec![], vec![node("If", "", "y", vec![branch])]);
    }
    let mut cases = vec![
        ("truncated", File::new(&whole[..100_000])),
        ("no model", File::new(b"not a model")),
        ("empty", File::new(b"")),
        ("nested too deep", file(17, deep)),
        ("new opset", file(99, graph(x(), vec![], add()))),
        ("undefined", file(17, graph(x(), vec![], add()))),
        ("circle", file(17, graph(x(), vec![], vec![node("Add", "x y", "w", vec![]), node("Neg", "w", "y", vec![])]))),
        ("twice", file(17, graph(x(), vec![], vec![node("Neg", "x", "y", vec![]), node("Neg", "y", "y", vec![])]))),
        (
            "too few bytes",
            file(
                17,
                graph(x(), vec![TensorProto { dims: vec![1 << 20, 1 << 10], ..floats("w", &[2], &[1.0, 2.0]) }], add()),
            ),
        ),
        (
            "too many elements",
            file(
                17,
                graph(x(), vec![TensorProto { dims: vec![1 << 40, 1 << 40], ..floats("w", &[2], &[1.0, 2.0]) }], add()),
            ),
        ),
        (
            "negative",
            file(17, graph(x(), vec![TensorProto { dims: vec![-2], ..floats("w", &[2], &[1.0, 2.0]) }], add())),
        ),
        ("no shape fits", file(17, graph(x(), vec![floats("w", &[3], &[1.0, 2.0, 3.0])], add()))),
        ("escapes upward", file(17, graph(x(), vec![external("../secret", "0")], add()))),
        ("escapes", file(17, graph(x(), vec![external("/etc/passwd", "0")], add()))),
        ("no file", file(17, graph(x(), vec![external("absent", "0")], add()))),
        ("past the end", file(17, graph(x(), vec![external("model.onnx", "18446744073709551615")], add()))),
        ("huge constant", {
            let expand = vec![node("Expand", "one shape", "w", vec![]), node("Add", "x w", "y", vec![])];
            file(17, graph(x(), vec![floats("one", &[], &[1.0]), integers("shape", &[2], &[1 << 20, 1 << 10])], expand))
        }),
    ];
    let reports: Vec<String> = cases.drain(..).map(|(name, file)| format!("{name}\n{}", refused(&file))).collect();
    insta::assert_snapshot!(reports.join("\n\n"));
}

#[test]
fn wrong_inputs() {
    let dims = BTreeMap::from([("seq".to_string(), 4)]);
    let imported =
        import(&models().join("tiny-shakespeare/model.onnx"), &Bindings { dims, ..Bindings::default() }).unwrap();
    let run = |inputs: &[(&str, Tensor)]| {
        let inputs = inputs.iter().map(|(n, t)| (n.to_string(), t.clone())).collect();
        eval::evaluate(&imported.graph, &inputs, None, &mut |_, _| {}).err().unwrap().to_string()
    };
    insta::assert_snapshot!(
        [
            run(&[]),
            run(&[("input_ids", i64s(&[1, 5], &[1; 5]))]),
            run(&[("input_ids", f32s(&[1, 4], &[1.0; 4])), ("ids", i64s(&[1], &[1]))]),
            run(&[("input_ids", i64s(&[1, 4], &[1, 2, 3, 1024]))]),
        ]
        .join("\n\n")
    );
}

#[test]
fn other_mask() {
    let dims = BTreeMap::from([("seq".to_string(), 3)]);
    let imported =
        import(&models().join("dialects/gpt2__leg17.onnx"), &Bindings { dims, ..Bindings::default() }).unwrap();
    let mut inputs = BTreeMap::from([("attention_mask".to_string(), i64s(&[1, 3], &[1, 1, 0]))]);
    insta::assert_snapshot!(imported.take_bound(&mut inputs).unwrap_err());
    let mut inputs = BTreeMap::from([("attention_mask".to_string(), i64s(&[1, 3], &[1, 1, 1]))]);
    imported.take_bound(&mut inputs).unwrap();
    assert!(inputs.is_empty());
}

/// A model of every kind of field, small enough to be broken in many places.
fn small_model() -> Vec<u8> {
    let zero = TensorProto { name: None, ..floats("", &[1], &[0.0]) };
    let value = AttributeProto { name: Some("value".into()), t: Some(zero), ..Default::default() };
    let nodes = vec![
        node("Gather", "table ids", "e", vec![int("axis", 0)]),
        node("Shape", "ids", "shape", vec![]),
        node("Gather", "shape one", "t", vec![]),
        node("Range", "zero t one", "r", vec![]),
        node("Unsqueeze", "r axis0", "row", vec![]),
        node("Unsqueeze", "r axis1", "column", vec![]),
        node("Less", "column row", "future", vec![]),
        node("Unsqueeze", "t axis0", "tt", vec![]),
        node("ConstantOfShape", "tt", "zeros", vec![value]),
        node("Where", "future low zeros", "mask", vec![]),
        node("Transpose", "e", "k", vec![ints("perm", &[0, 2, 1])]),
        node("MatMul", "e k", "s", vec![]),
        node("Add", "s mask", "m", vec![]),
        node("Softmax", "m", "p", vec![int("axis", -1)]),
        node("MatMul", "p e", "o", vec![]),
        node("Split", "o sizes", "o0 o1", vec![int("axis", 2)]),
        node("Concat", "o1 o0", "c", vec![int("axis", 2)]),
        node("Slice", "c zero1 one1 one1 one1", "l", vec![]),
        node("Reshape", "l flat", "y", vec![]),
    ];
    let table: Vec<f32> = noise(1, &[5, 4]).iter().copied().collect();
    let initializers = vec![
        floats("table", &[5, 4], &table),
        floats("low", &[], &[-1e9]),
        integers("zero", &[], &[0]),
        integers("one", &[], &[1]),
        integers("zero1", &[1], &[0]),
        integers("one1", &[1], &[1]),
        integers("axis0", &[1], &[0]),
        integers("axis1", &[1], &[1]),
        integers("sizes", &[2], &[1, 3]),
        integers("flat", &[2], &[0, -1]),
    ];
    model(17, graph(vec![input("ids", DataType::Int64, &[1, 3])], initializers, nodes)).encode_to_vec()
}

/// Imports and, if that works, evaluates: anything may come out but a panic. Whether import worked.
fn survives(file: &File, bytes: &[u8]) -> bool {
    std::fs::write(file.path(), bytes).unwrap();
    let Ok(imported) = import(&file.path(), &Bindings::default()) else { return false };
    let work: usize = imported.graph.dag.node_weights().map(|n| n.shape.iter().product::<usize>()).sum();
    if work < 1 << 20 {
        let inputs = BTreeMap::from([("ids".to_string(), i64s(&[1, 3], &[0, 4, 2]))]);
        let _ = eval::evaluate(&imported.graph, &inputs, None, &mut |_, _| {});
    }
    true
}

#[test]
fn truncations_and_flips() {
    let bytes = small_model();
    let file = File::new(&bytes);
    assert!(survives(&file, &bytes));
    for length in (0..bytes.len()).step_by(3) {
        survives(&file, &bytes[..length]);
    }
    let mut accepted = 0;
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at * 5 % 8);
        accepted += usize::from(survives(&file, &bytes));
    }
    assert!(accepted > 0, "flips of weights alone leave a valid model");
}

#[test]
fn flips_in_an_exported_model() {
    let whole = std::fs::read(models().join("dialects/nanogpt__leg17.onnx")).unwrap();
    let file = File::new(&whole);
    for n in 0..300 {
        let mut bytes = whole.clone();
        // Nodes lie in the first part of the file, weights after them.
        let at = (n * 7919) % if n % 4 == 0 { bytes.len() } else { 40_000 };
        bytes[at] ^= 1 << (n % 8);
        std::fs::write(file.path(), &bytes).unwrap();
        let dims = BTreeMap::from([("seq".to_string(), 4)]);
        let _ = import(&file.path(), &Bindings { dims, ..Bindings::default() });
    }
}
