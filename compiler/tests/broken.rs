//! Files that are broken or that no compiler of this kind can take: each is refused with a code, in little time and memory,
//! and nothing panics. The same for small models of which bytes are flipped or cut off.

#[allow(dead_code)]
mod common;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use common::*;
use prost::Message;
use sscc::diagnostic::Diagnostic;
use sscc::lower::variant::Link;
use sscc::onnx::proto::*;
use sscc::pass::Logits;
use sscc::pipeline::{self, Options};

/// What a small file may take that is refused.
const LIMIT: Duration = Duration::from_secs(2);

/// What one may take that compiles: a flip may make a weight that asks for a long series, which is fitted.
const FITTED: Duration = Duration::from_secs(10);

/// Bytes of a model that are skipped between two that are flipped.
const STEP: usize = 97;

/// Whether a file compiles; an error message if it panics or takes too long. `whole`: not the front alone.
fn attempt(path: &Path, whole: bool) -> Result<Result<(), Diagnostic>, String> {
    let options = Options {
        model: path.to_owned(),
        dims: BTreeMap::new(),
        bind: BTreeMap::new(),
        logits: Logits::All,
        calibrate: None,
        link: Link::LAN,
        maker: ir::pair::Maker::Dealer,
        generation: None,
    };
    let (start, began) = (spent(), Instant::now());
    let outcome = catch_unwind(AssertUnwindSafe(|| match whole {
        true => pipeline::compile(&options).and_then(|compiled| compiled.artifacts()).map(|_| ()),
        false => pipeline::front(&options, &BTreeMap::new()).map(|_| ()),
    }));
    let outcome = outcome.map_err(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        format!("panic: {}", text.or(cause.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default())
    })?;
    let time = spent().zip(start).map_or_else(|| began.elapsed(), |(now, then)| now - then);
    let limit = if outcome.is_ok() { FITTED } else { LIMIT };
    if time > limit { Err(format!("took {time:?}")) } else { Ok(outcome) }
}

/// Time that this thread has computed, where the system tells: a busy machine makes no test fail.
fn spent() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

/// Largest memory of this process so far.
fn peak_mebibytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? >> 10)
}

fn text(name: &str, value: &str) -> AttributeProto {
    let s = Some(value.as_bytes().to_vec().into());
    AttributeProto { name: Some(name.into()), s, r#type: Some(AttributeType::String as i32), ..Default::default() }
}

fn branch(name: &str, g: GraphProto) -> AttributeProto {
    let g = Some(Box::new(g));
    AttributeProto { name: Some(name.into()), g, r#type: Some(AttributeType::Graph as i32), ..Default::default() }
}

/// An input `x` of two by three floats.
fn x() -> Vec<ValueInfoProto> {
    vec![input("x", DataType::Float, &[2, 3])]
}

/// A graph of `x`, weights `w` [3, 3] and `b` [3], integers `i` and one node that makes `y`.
fn one(node: NodeProto, i: &[i64]) -> Vec<u8> {
    with(vec![node], vec![integers("i", &[i.len() as i64], i)])
}

fn with(nodes: Vec<NodeProto>, mut more: Vec<TensorProto>) -> Vec<u8> {
    more.push(floats("w", &[3, 3], &[0.5; 9]));
    more.push(floats("b", &[3], &[0.5; 3]));
    model(17, graph(x(), more, nodes)).encode_to_vec()
}

/// `x + t` with a tensor that is somehow wrong.
fn tensor(t: TensorProto) -> Vec<u8> {
    model(17, graph(x(), vec![t], vec![node("Add", "x t", "y", vec![])])).encode_to_vec()
}

/// `x + 1`, with something wrong about the model.
fn altered(alter: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut whole = model(17, graph(x(), vec![floats("w", &[3], &[1.0; 3])], vec![node("Add", "x w", "y", vec![])]));
    alter(&mut whole);
    whole.encode_to_vec()
}

fn external(entries: &[(&str, &str)]) -> Vec<u8> {
    let entry = |&(k, v): &(&str, &str)| StringStringEntryProto { key: Some(k.to_owned()), value: Some(v.to_owned()) };
    let external_data = entries.iter().map(entry).collect();
    tensor(TensorProto { raw_data: None, external_data, data_location: Some(1), ..floats("t", &[3], &[]) })
}

fn bytes() -> Vec<(&'static str, Vec<u8>)> {
    let whole = altered(|_| ());
    vec![
        ("empty", vec![]),
        ("a text", b"#!/bin/sh\necho hello\n".to_vec()),
        ("zeros", vec![0; 4096]),
        ("ones", vec![255; 4096]),
        ("an archive", b"PK\x03\x04\x14\x00\x00\x00\x08\x00".to_vec()),
        ("GGUF", b"GGUF\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec()),
        (
            "safetensors",
            b"\x40\x00\x00\x00\x00\x00\x00\x00{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"
                .to_vec(),
        ),
        ("a number without end", vec![0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("a length beyond the file", vec![0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x0a]),
        ("cut in half", whole[..whole.len() / 2].to_vec()),
        ("twice the file", [&whole[..], &whole[..]].concat()),
    ]
}

fn models_at_odds() -> Vec<(&'static str, Vec<u8>)> {
    let opset = |domain: Option<&str>, version| OperatorSetIdProto { domain: domain.map(String::from), version };
    let value = |name: &str| ValueInfoProto { name: Some(name.into()), r#type: None };
    let g = |m: &mut ModelProto, alter: &dyn Fn(&mut GraphProto)| alter(m.graph.as_mut().unwrap());
    vec![
        ("no graph", altered(|m| m.graph = None)),
        ("no opset", altered(|m| m.opset_import.clear())),
        ("opset 0", altered(|m| m.opset_import[0].version = Some(0))),
        ("opset -1", altered(|m| m.opset_import[0].version = Some(-1))),
        ("opset 5", altered(|m| m.opset_import[0].version = Some(5))),
        ("opset 99", altered(|m| m.opset_import[0].version = Some(99))),
        ("opset of another domain", altered(|m| m.opset_import = vec![opset(Some("com.example"), Some(1))])),
        ("no outputs", altered(|m| g(m, &|g| g.output.clear()))),
        ("an output without a name", altered(|m| g(m, &|g| g.output[0].name = None))),
        ("an output that nothing makes", altered(|m| g(m, &|g| g.output.push(value("z"))))),
        ("an input twice", altered(|m| g(m, &|g| g.input.push(g.input[0].clone())))),
        ("a weight twice", altered(|m| g(m, &|g| g.initializer.push(g.initializer[0].clone())))),
        ("an output twice", altered(|m| g(m, &|g| g.output.push(g.output[0].clone())))),
        ("an input without a type", altered(|m| g(m, &|g| g.input.push(value("z"))))),
        ("an input of strings", altered(|m| g(m, &|g| g.input[0] = input("x", DataType::String, &[2])))),
        ("an input of complex numbers", altered(|m| g(m, &|g| g.input[0] = input("x", DataType::Complex64, &[2])))),
        ("an input too large", altered(|m| g(m, &|g| g.input[0] = input("x", DataType::Float, &[1 << 40, 1 << 40])))),
        ("an input of open size", altered(|m| g(m, &|g| g.input[0] = input("x", DataType::Float, &[-1, 3])))),
        ("an input that a node makes", altered(|m| g(m, &|g| g.node[0].output[0] = "x".into()))),
        ("a sparse weight", altered(|m| g(m, &|g| g.sparse_initializer.push(vec![0x0a, 0x00].into())))),
        ("a node without a name of its op", altered(|m| g(m, &|g| g.node[0].op_type = None))),
        ("a node without results", altered(|m| g(m, &|g| g.node[0].output.clear()))),
        ("a node without operands", altered(|m| g(m, &|g| g.node[0].input.clear()))),
        ("a node with too many operands", altered(|m| g(m, &|g| g.node[0].input = vec!["x".into(); 9]))),
        ("an operand that nothing makes", altered(|m| g(m, &|g| g.node[0].input[1] = "nobody".into()))),
        ("a circle", with(vec![node("Add", "x z", "y", vec![]), node("Neg", "y", "z", vec![])], vec![])),
        ("a name with two makers", with(vec![node("Neg", "x", "y", vec![]), node("Abs", "x", "y", vec![])], vec![])),
        (
            "a function that calls itself",
            altered(|m| {
                g(m, &|g| g.node[0].op_type = Some("Again".into()));
                g(m, &|g| g.node[0].domain = Some("local".into()));
                m.opset_import.push(opset(Some("local"), Some(1)));
                m.functions = vec![FunctionProto {
                    name: Some("Again".into()),
                    domain: Some("local".into()),
                    input: vec!["a".into(), "b".into()],
                    output: vec!["c".into()],
                    node: vec![node("local.Again", "a b", "c", vec![])],
                    ..Default::default()
                }];
            }),
        ),
        (
            "functions that double each other",
            altered(|m| {
                // The last of them does nothing, so no nodes are left to count.
                let function = |i: usize| FunctionProto {
                    name: Some(format!("F{i}")),
                    domain: Some("local".into()),
                    input: vec!["a".into()],
                    output: vec!["c".into()],
                    node: match i {
                        0 => vec![],
                        i => ["c", "d", "e", "f"]
                            .map(|result| node(&format!("local.F{}", i - 1), "a", result, vec![]))
                            .to_vec(),
                    },
                    ..Default::default()
                };
                m.functions = (0..15).map(function).collect();
                m.opset_import.push(opset(Some("local"), Some(1)));
                g(m, &|g| g.node.push(node("local.F14", "x", "z", vec![])));
            }),
        ),
        ("a domain that nobody knows", with(vec![node("com.example.Magic", "x", "y", vec![])], vec![])),
    ]
}

fn tensors() -> Vec<(&'static str, Vec<u8>)> {
    let t = || floats("t", &[3], &[1.0; 3]);
    let typed = |data_type| TensorProto { data_type: Some(data_type), ..t() };
    vec![
        ("too few bytes", tensor(TensorProto { dims: vec![4], ..t() })),
        ("too many bytes", tensor(TensorProto { dims: vec![2], ..t() })),
        ("a product of sizes that overflows", tensor(TensorProto { dims: vec![1 << 33, 1 << 33], ..t() })),
        ("a negative size", tensor(TensorProto { dims: vec![-3], ..t() })),
        ("no data", tensor(TensorProto { raw_data: None, ..t() })),
        ("two fields of data", tensor(TensorProto { float_data: vec![1.0; 2], ..t() })),
        ("type 0", tensor(typed(0))),
        ("type 99", tensor(typed(99))),
        ("type -1", tensor(typed(-1))),
        (
            "strings",
            tensor(TensorProto {
                raw_data: None,
                string_data: vec![vec![65].into(); 3],
                ..typed(DataType::String as i32)
            }),
        ),
        ("complex numbers", tensor(typed(DataType::Complex64 as i32))),
        ("floats of eight bits", tensor(typed(17))),
        ("integers of four bits", tensor(typed(22))),
        ("not a number", tensor(floats("t", &[3], &[f32::NAN; 3]))),
        ("infinite", tensor(floats("t", &[3], &[f32::INFINITY; 3]))),
        ("huge", tensor(floats("t", &[3], &[3e38; 3]))),
        ("outside without a place", external(&[])),
        ("outside, absent", external(&[("location", "absent.bin")])),
        ("outside, a path upwards", external(&[("location", "../../etc/passwd")])),
        ("outside, a path from the root", external(&[("location", "/etc/passwd")])),
        ("outside, a folder", external(&[("location", ".")])),
        (
            "outside, an offset beyond the end",
            external(&[("location", "model.onnx"), ("offset", "18446744073709551615")]),
        ),
        (
            "outside, a length that overflows",
            external(&[("location", "model.onnx"), ("offset", "8"), ("length", "18446744073709551615")]),
        ),
        ("outside, an offset that is no number", external(&[("location", "model.onnx"), ("offset", "eight")])),
    ]
}

fn uses() -> Vec<(&'static str, Vec<u8>)> {
    let folded = |op: &str, operands: &str, attributes, tensors| {
        with(vec![node(op, operands, "c", attributes), node("Add", "x c", "y", vec![])], tensors)
    };
    let i = |values: &[i64]| integers("i", &[values.len() as i64], values);
    let j = |values: &[i64]| integers("j", &[values.len() as i64], values);
    let scalar = |name: &str, value| integers(name, &[], &[value]);
    let nothing = || GraphProto::default();
    // An operand whose sizes cost the file nothing.
    let pictures = |made: NodeProto, tensors| {
        let x = input("x", DataType::Float, &[1, 1 << 18, 4, 1 << 10]);
        model(17, graph(vec![x], tensors, vec![made])).encode_to_vec()
    };
    let wide = |op: &str, attributes| pictures(node(op, "x", "y", attributes), vec![]);
    let wide_to = |op: &str, results: &str, attributes| pictures(node(op, "x", results, attributes), vec![]);
    let wide_axis = |op: &str, axis| pictures(node(op, "x p", "y", vec![]), vec![scalar("p", axis)]);
    vec![
        ("Transpose: no permutation", one(node("Transpose", "x", "y", vec![ints("perm", &[0, 0])]), &[])),
        ("Transpose: three axes of two", one(node("Transpose", "x", "y", vec![ints("perm", &[2, 1, 0])]), &[])),
        ("Transpose: a negative axis", one(node("Transpose", "x", "y", vec![ints("perm", &[-1, 0])]), &[])),
        ("Reshape: two open sizes", one(node("Reshape", "x i", "y", vec![]), &[-1, -1])),
        ("Reshape: other elements", one(node("Reshape", "x i", "y", vec![]), &[4, 4])),
        ("Reshape: a size of -2", one(node("Reshape", "x i", "y", vec![]), &[-2, 3])),
        ("Reshape: a size that overflows", one(node("Reshape", "x i", "y", vec![]), &[i64::MAX, i64::MAX])),
        ("Reshape: a shape that is secret", with(vec![node("Reshape", "x x", "y", vec![])], vec![])),
        ("Split: other sum", one(node("Split", "x i", "y z", vec![int("axis", 1)]), &[1, 1])),
        ("Split: a negative part", one(node("Split", "x i", "y z", vec![int("axis", 1)]), &[4, -1])),
        ("Slice: a step of 0", with(vec![node("Slice", "x i i i j", "y", vec![])], vec![i(&[0]), j(&[0])])),
        (
            "Slice: a step that overflows",
            with(vec![node("Slice", "x i j i j", "y", vec![])], vec![i(&[0]), j(&[i64::MIN])]),
        ),
        ("Gather: an index out of range", one(node("Gather", "w i", "y", vec![]), &[3])),
        ("Gather: the least index", one(node("Gather", "x i", "y", vec![]), &[i64::MIN])),
        ("Gather: an axis out of range", one(node("Gather", "x i", "y", vec![int("axis", 2)]), &[0])),
        ("Gather: an index that is a float", with(vec![node("Gather", "w b", "y", vec![])], vec![])),
        ("Concat: other sizes", with(vec![node("Concat", "x w", "y", vec![int("axis", 1)])], vec![])),
        ("Concat: no axis", with(vec![node("Concat", "x x", "y", vec![])], vec![])),
        ("MatMul: other sizes", with(vec![node("MatMul", "w x", "y", vec![])], vec![])),
        ("MatMul: integers", one(node("MatMul", "x i", "y", vec![]), &[1, 2, 3])),
        ("Gemm: three axes", with(vec![node("Gemm", "x q", "y", vec![])], vec![floats("q", &[1, 3, 3], &[0.5; 9])])),
        (
            "Add: shapes that do not broadcast",
            with(vec![node("Add", "x q", "y", vec![])], vec![floats("q", &[2], &[0.5; 2])]),
        ),
        ("Softmax: an axis out of range", one(node("Softmax", "x", "y", vec![int("axis", 7)]), &[])),
        ("LayerNormalization: a gain too long", with(vec![node("LayerNormalization", "x w b", "y", vec![])], vec![])),
        ("Squeeze: a size that is not 1", one(node("Squeeze", "x i", "y", vec![]), &[1])),
        ("Unsqueeze: an axis twice", one(node("Unsqueeze", "x i", "y", vec![]), &[0, 0])),
        ("Unsqueeze: an axis out of range", one(node("Unsqueeze", "x i", "y", vec![]), &[i64::MAX])),
        ("ReduceSum: an axis out of range", one(node("ReduceSum", "x i", "y", vec![]), &[5])),
        ("Cast: to a type that is none", one(node("Cast", "x", "y", vec![int("to", 99)]), &[])),
        ("Einsum: no equation", one(node("Einsum", "x x", "y", vec![text("equation", "->->,,")]), &[])),
        ("Einsum: other sizes", one(node("Einsum", "x w", "y", vec![text("equation", "ij,ij->i")]), &[])),
        ("Conv: no image", with(vec![node("Conv", "x w", "y", vec![])], vec![])),
        ("Pad: less than nothing", one(node("Pad", "x i", "y", vec![]), &[-9, -9, -9, -9])),
        ("Pad: sizes that overflow", one(node("Pad", "x i", "y", vec![]), &[i64::MAX, 0, i64::MAX, 0])),
        ("Tile: too often", one(node("Tile", "x i", "y", vec![]), &[1 << 40, 1 << 40])),
        ("Tile: a negative number of times", one(node("Tile", "x i", "y", vec![]), &[-1, 2])),
        ("Expand: a constant that is too large", folded("Expand", "b i", vec![], vec![i(&[1 << 30, 1 << 30, 3])])),
        ("Expand: a negative size", folded("Expand", "b i", vec![], vec![i(&[-5, 3])])),
        ("ConstantOfShape: too large", folded("ConstantOfShape", "i", vec![], vec![i(&[1 << 40, 1 << 40])])),
        (
            "IsInf: a large input that is assumed to be finite",
            model(
                20,
                graph(
                    vec![input("x", DataType::Float, &[3, 64, 1 << 20])],
                    vec![],
                    vec![node("IsInf", "x", "y", vec![])],
                ),
            )
            .encode_to_vec(),
        ),
        ("ConstantOfShape: a negative size", folded("ConstantOfShape", "i", vec![], vec![i(&[-7])])),
        ("Range: a step of 0", folded("Range", "p q p", vec![], vec![scalar("p", 0), scalar("q", 9)])),
        (
            "Range: too long",
            folded("Range", "p q r", vec![], vec![scalar("p", i64::MIN), scalar("q", i64::MAX), scalar("r", 1)]),
        ),
        ("Div: integers by 0", folded("Div", "i j", vec![], vec![i(&[1]), j(&[0])])),
        ("Div: the least integer by -1", folded("Div", "i j", vec![], vec![i(&[i64::MIN]), j(&[-1])])),
        ("Mod: integers by 0", folded("Mod", "i j", vec![], vec![i(&[1]), j(&[0])])),
        ("Mod: the least integer by -1", folded("Mod", "i j", vec![], vec![i(&[i64::MIN]), j(&[-1])])),
        ("Neg: the least integer", folded("Neg", "i", vec![], vec![i(&[i64::MIN])])),
        ("Mul: integers that overflow", folded("Mul", "i i", vec![], vec![i(&[i64::MAX])])),
        ("Pow: integers that overflow", folded("Pow", "i j", vec![], vec![i(&[10]), j(&[1000])])),
        ("CumSum: an axis out of range", folded("CumSum", "b p", vec![], vec![scalar("p", 4)])),
        (
            "ScatterND: an index out of range",
            folded("ScatterND", "b j b", vec![], vec![integers("j", &[3, 1], &[0, 1, 9])]),
        ),
        ("OneHot: a depth that is negative", folded("OneHot", "i p b", vec![], vec![i(&[0, 1]), scalar("p", -4)])),
        ("TopK: more than there are", one(node("TopK", "x i", "y z", vec![]), &[9])),
        ("Trilu: of a vector", with(vec![node("Trilu", "b", "c", vec![]), node("Add", "x c", "y", vec![])], vec![])),
        (
            "Attention: keys without heads",
            with(
                vec![node("Attention", "q i i", "y", vec![])],
                vec![floats("q", &[1, 1, 3, 3], &[0.5; 9]), floats("i", &[3], &[0.5; 3])],
            ),
        ),
        (
            "RotaryEmbedding: a vector",
            with(vec![node("RotaryEmbedding", "b q q", "y", vec![])], vec![floats("q", &[1, 1, 1], &[0.5; 1])]),
        ),
        (
            "RotaryEmbedding: positions of a size that is stated alone",
            model(
                17,
                graph(
                    vec![input("x", DataType::Float, &[1, 1, 1 << 20, 2])],
                    vec![scalar("p", 0), floats("t", &[2, 1], &[0.5; 2])],
                    vec![node("com.microsoft.RotaryEmbedding", "x p t t", "y", vec![])],
                ),
            )
            .encode_to_vec(),
        ),
        (
            "RotaryEmbedding: a position that overflows",
            model(
                17,
                graph(
                    vec![input("x", DataType::Float, &[1, 1, 3, 2])],
                    vec![scalar("p", i64::MAX), floats("t", &[2, 1], &[0.5; 2])],
                    vec![node("com.microsoft.RotaryEmbedding", "x p t t", "y", vec![])],
                ),
            )
            .encode_to_vec(),
        ),
        (
            "GroupQueryAttention: heads that overflow",
            one(
                node(
                    "com.microsoft.GroupQueryAttention",
                    "x - - - - i",
                    "y",
                    vec![int("num_heads", 1), int("kv_num_heads", i64::MAX)],
                ),
                &[1],
            ),
        ),
        (
            "Attention: widths that overflow",
            with(
                vec![node(
                    "com.microsoft.Attention",
                    "q w",
                    "y",
                    vec![int("num_heads", 1), ints("qkv_hidden_sizes", &[i64::MAX, i64::MAX, i64::MAX])],
                )],
                vec![floats("q", &[1, 2, 3], &[0.5; 6])],
            ),
        ),
        (
            "SkipSimplifiedLayerNormalization: of numbers",
            with(
                vec![node("com.microsoft.SkipSimplifiedLayerNormalization", "p p p", "y", vec![])],
                vec![floats("p", &[], &[0.5])],
            ),
        ),
        ("DepthToSpace: a block that overflows", wide("DepthToSpace", vec![int("blocksize", 1 << 62)])),
        (
            "AveragePool: steps that overflow",
            wide(
                "AveragePool",
                vec![ints("kernel_shape", &[2, 2]), ints("dilations", &[i64::MAX, 1]), text("auto_pad", "SAME_UPPER")],
            ),
        ),
        ("Dropout: a mask of a size that is stated alone", wide_to("Dropout", "z y", vec![])),
        ("CumSum: a matrix of a size that is stated alone", wide_axis("CumSum", 1)),
        ("LRN: a band of a size that is stated alone", wide("LRN", vec![int("size", 3)])),
        (
            "ReduceMax: of nothing, many times",
            model(
                17,
                graph(
                    vec![input("x", DataType::Float, &[1 << 20, 0, 63])],
                    vec![],
                    vec![node("ReduceMax", "x", "y", vec![ints("axes", &[1])])],
                ),
            )
            .encode_to_vec(),
        ),
        (
            "Softmax: of nothing, many times",
            model(
                17,
                graph(
                    vec![input("x", DataType::Float, &[1 << 20, 2047, 0])],
                    vec![],
                    vec![node("Softmax", "x", "y", vec![])],
                ),
            )
            .encode_to_vec(),
        ),
        (
            "ReduceSum: of nothing, by way of many zeros",
            model(
                17,
                graph(
                    vec![input("x", DataType::Float, &[0, 1 << 20, 16])],
                    vec![],
                    vec![node("ReduceSum", "x", "y", vec![])],
                ),
            )
            .encode_to_vec(),
        ),
        ("EyeLike: a diagonal that overflows", folded("EyeLike", "w", vec![int("k", i64::MAX)], vec![])),
        ("Split: more parts than results", one(node("Split", "x i", "y", vec![int("axis", 1)]), &[3, 0, 0])),
        ("Slice: an axis twice", one(node("Slice", "x i i i", "y", vec![]), &[0, 0])),
        (
            "Einsum: an equation without end",
            one(node("Einsum", "x", "y", vec![text("equation", &"i".repeat(5000))]), &[]),
        ),
        ("NonZero of a secret", one(node("NonZero", "x", "y", vec![]), &[])),
        (
            "If: on a secret",
            one(node("If", "x", "y", vec![branch("then_branch", nothing()), branch("else_branch", nothing())]), &[]),
        ),
        ("If: no branches", one(node("If", "i", "y", vec![]), &[1])),
        ("Loop", one(node("Loop", "i - x", "y", vec![branch("body", nothing())]), &[3])),
        ("Scan", one(node("Scan", "x", "y", vec![branch("body", nothing()), int("num_scan_inputs", 1)]), &[])),
        ("LSTM", with(vec![node("LSTM", "x w w", "y", vec![int("hidden_size", 3)])], vec![])),
        ("GRU", with(vec![node("GRU", "x w w", "y", vec![int("hidden_size", 3)])], vec![])),
        ("experts", with(vec![node("com.microsoft.MoE", "x w w b", "y", vec![])], vec![])),
        (
            "quantised",
            with(
                vec![
                    node("DynamicQuantizeLinear", "x", "q s z", vec![]),
                    node("MatMulInteger", "q q z z", "y", vec![]),
                ],
                vec![],
            ),
        ),
        ("random", one(node("RandomNormalLike", "x", "y", vec![]), &[])),
    ]
}

#[test]
fn refused_by_name() {
    let (mut lines, mut failures) = (Vec::new(), Vec::new());
    for (group, cases) in [("bytes", bytes()), ("model", models_at_odds()), ("tensor", tensors()), ("use", uses())] {
        for (name, bytes) in cases {
            let file = File::new(&bytes);
            let line = match attempt(&file.path(), true) {
                Ok(Ok(())) => "compiles".to_owned(),
                Ok(Err(report)) => format!("{} {}", report.faults()[0].code, report.faults()[0].title),
                Err(why) => {
                    failures.push(format!("{group}, {name}: {why}"));
                    continue;
                }
            };
            lines.push(format!("{group}, {name}: {line}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(peak_mebibytes().is_none_or(|peak| peak < 512), "{:?} MiB", peak_mebibytes());
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn no_file() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("absent.onnx"), dir.path().to_owned()] {
        assert!(attempt(&path, true).unwrap().is_err());
    }
}

/// Models small enough that a third of their bytes can be broken.
fn small_models() -> Vec<Vec<u8>> {
    let names = ["gelu_head_slice", "panic_positions", "post_ln", "class_token", "act_silu"];
    names.iter().map(|name| std::fs::read(models().join(format!("faults/{name}.onnx"))).unwrap()).collect()
}

/// What goes wrong when `whole` is put in place of a file, one line a failure.
fn survives(file: &File, bytes: &[u8], whole: bool, what: impl FnOnce() -> String) -> Option<String> {
    std::fs::write(file.path(), bytes).unwrap();
    attempt(&file.path(), whole).err().map(|why| format!("{}: {why}", what()))
}

/// The byte at `at` inverted, and set to 0.
fn flips(bytes: &[u8], at: usize) -> [Vec<u8>; 2] {
    [!bytes[at], 0].map(|byte| {
        let mut flipped = bytes.to_vec();
        flipped[at] = byte;
        flipped
    })
}

#[test]
fn flips_of_bytes() {
    let file = File::new(&[]);
    let mut failures = Vec::new();
    for (m, bytes) in small_models().iter().enumerate() {
        for at in (m % 3..bytes.len()).step_by(3) {
            for (kind, flipped) in flips(bytes, at).iter().enumerate() {
                let whole = at / 3 % STEP == m;
                failures.extend(survives(&file, flipped, whole, || format!("model {m}, byte {at}, kind {kind}")));
            }
        }
        for length in (0..bytes.len()).step_by(7) {
            failures.extend(survives(&file, &bytes[..length], true, || format!("model {m}, cut at {length}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn flips_in_an_export() {
    let bytes = std::fs::read(models().join("dialects/gpt2_nomask__leg17_static.onnx")).unwrap();
    let file = File::new(&[]);
    let mut failures = Vec::new();
    // Nodes lie in the first part of the file, weights after them.
    for at in (0..40_000).step_by(3 * STEP).chain((40_000..bytes.len()).step_by(300 * STEP)) {
        for flipped in flips(&bytes, at) {
            failures.extend(survives(&file, &flipped, false, || format!("byte {at}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
