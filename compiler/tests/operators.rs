//! Operators on secret values: what the importer writes for a node computes what the ONNX specification says. Numbers are
//! worked by hand.

#[allow(dead_code)]
mod common;

use std::collections::BTreeMap;

use common::*;
use sscc::graph::{Op, Stage, Tensor, eval, kernel, verify};
use sscc::onnx::proto::*;
use sscc::onnx::{Bindings, import, ops};

/// Dimensions and elements.
type Array<'a> = (&'a [i64], &'a [f32]);

/// A model of one node `op`, whose operands are secret floats `a`, `b`, ..; then integers `i`, `j`, ..; others may be
/// weights by name.
struct Case<'a> {
    opset: i64,
    op: &'a str,
    operands: &'a str,
    floats: &'a [Array<'a>],
    integers: &'a [(&'a [i64], &'a [i64])],
    attributes: Vec<AttributeProto>,
    expected: Array<'a>,
}

fn check(case: &Case) {
    let names = |first: u8| (0..).map(move |n| char::from(first + n).to_string());
    let inputs = case.floats.iter().zip(names(b'a')).map(|((dims, _), name)| input(&name, DataType::Float, dims));
    let initializers =
        case.integers.iter().zip(names(b'i')).map(|((dims, values), name)| integers(&name, dims, values));
    let nodes = vec![node(case.op, case.operands, "y", case.attributes.clone())];
    let file = file(case.opset, graph(inputs.collect(), initializers.collect(), nodes));
    let label = format!("{} {}", case.op, case.opset);
    let imported = import(&file.path(), &Bindings::default()).unwrap_or_else(|e| panic!("{label}: {e}"));
    verify(&imported.graph, Stage::Graph).unwrap_or_else(|e| panic!("{label}: {e}"));
    let shape = |dims: &[i64]| dims.iter().map(|&d| d as usize).collect::<Vec<_>>();
    let values: BTreeMap<String, Tensor> =
        case.floats.iter().zip(names(b'a')).map(|((dims, values), name)| (name, f32s(&shape(dims), values))).collect();
    let outputs = eval::evaluate(&imported.graph, &values, None, &mut |_, _| {}).unwrap();
    let got = kernel::floats(&outputs[0].1);
    assert_eq!(got.shape(), shape(case.expected.0), "{label}");
    for (got, want) in got.iter().zip(case.expected.1) {
        assert!((got - want).abs() < 1e-5, "{label} gives {got}, not {want}");
    }
}

macro_rules! cases {
    ($($opset:literal $op:literal ($operands:literal) [$($dims:expr => $values:expr),*] [$($idims:expr => $ivalues:expr),*] {$($attribute:expr),*}
        = $edims:expr => $expected:expr;)*) => {
        $( check(&Case {
            opset: $opset,
            op: $op,
            operands: $operands,
            floats: &[$((&$dims, &$values)),*],
            integers: &[$((&$idims, &$ivalues)),*],
            attributes: vec![$($attribute),*],
            expected: (&$edims, &$expected),
        }); )*
    };
}

#[test]
fn arithmetic_and_functions() {
    let ln2 = std::f32::consts::LN_2;
    cases! {
        17 "Clip" ("a b") [[3] => [-1.0, 0.5, 2.0], [] => [0.0]] [] {} = [3] => [0.0, 0.5, 2.0];
        9 "Clip" ("a") [[3] => [-1.0, 0.5, 2.0]] [] { float("min", 0.0), float("max", 1.0) } = [3] => [0.0, 0.5, 1.0];
        16 "PRelu" ("a b") [[2] => [-2.0, 4.0], [1] => [0.5]] [] {} = [2] => [-1.0, 4.0];
        13 "Max" ("a b c") [[2] => [1.0, 5.0], [2] => [3.0, 2.0], [1] => [2.0]] [] {} = [2] => [3.0, 5.0];
        13 "Min" ("a b") [[2] => [1.0, 5.0], [2] => [3.0, 2.0]] [] {} = [2] => [1.0, 2.0];
        13 "Mean" ("a b") [[2] => [1.0, 5.0], [2] => [3.0, 2.0]] [] {} = [2] => [2.0, 3.5];
        13 "Floor" ("a") [[3] => [-1.5, 0.25, 2.0]] [] {} = [3] => [-2.0, 0.0, 2.0];
        13 "Ceil" ("a") [[3] => [-1.5, 0.25, 2.0]] [] {} = [3] => [-1.0, 1.0, 2.0];
        22 "Round" ("a") [[4] => [-1.5, 0.5, 2.5, 2.75]] [] {} = [4] => [-2.0, 0.0, 2.0, 3.0];
        13 "Mod" ("a b") [[2] => [-4.5, 7.0], [2] => [2.0, 4.0]] [] {} = [2] => [1.5, 3.0];
        13 "Mod" ("a b") [[2] => [-4.5, 7.0], [2] => [2.0, 4.0]] [] { int("fmod", 1) } = [2] => [-0.5, 3.0];
        20 "IsInf" ("a") [[2] => [-4.5, 7.0]] [] {} = [2] => [0.0, 0.0];
        15 "Pow" ("a i") [[3] => [2.0, 3.0, -2.0]] [[3] => [1, 2, 3]] {} = [3] => [2.0, 9.0, -8.0];
        15 "Pow" ("a b") [[1] => [3.0], [1] => [2.0]] [] {} = [1] => [9.0];
        24 "Swish" ("a") [[1] => [0.0]] [] {} = [1] => [0.0];
        13 "ReduceL2" ("a") [[1, 2] => [3.0, 4.0]] [] { ints("axes", &[1]), int("keepdims", 0) } = [1] => [5.0];
        18 "ReduceProd" ("a i") [[1, 3] => [2.0, 3.0, 4.0]] [[1] => [1]] {} = [1, 1] => [24.0];
        18 "ReduceMin" ("a i") [[2, 2] => [2.0, 1.0, 3.0, 4.0]] [[1] => [-1]] {} = [2, 1] => [1.0, 3.0];
        18 "ReduceLogSumExp" ("a") [[2] => [0.0, 0.0]] [] {} = [1] => [ln2];
        18 "ReduceSumSquare" ("a") [[2] => [1.0, 2.0]] [] { int("noop_with_empty_axes", 1) } = [2] => [1.0, 4.0];
        13 "ArgMin" ("a") [[3] => [2.0, 1.0, 1.0]] [] { int("select_last_index", 1) } = [1] => [2.0];
        14 "CumSum" ("a i") [[3] => [1.0, 2.0, 3.0]] [[] => [0]] { int("exclusive", 1), int("reverse", 1) }
            = [3] => [5.0, 3.0, 0.0];
    }
}

#[test]
fn normalisations() {
    let ln2 = std::f32::consts::LN_2;
    cases! {
        13 "Hardmax" ("a") [[1, 3] => [1.0, 3.0, 3.0]] [] {} = [1, 3] => [0.0, 1.0, 0.0];
        13 "LogSoftmax" ("a") [[2] => [7.0, 7.0]] [] {} = [2] => [-ln2, -ln2];
        11 "Softmax" ("a") [[1, 2, 2] => [1.0, 1.0, 1.0, 1.0]] [] { int("axis", 1) } = [1, 2, 2] => [0.25; 4];
        13 "Softmax" ("a") [[1, 2, 2] => [1.0, 2.0, 1.0, 2.0]] [] { int("axis", 1) } = [1, 2, 2] => [0.5; 4];
        23 "RMSNormalization" ("a b") [[2] => [3.0, 4.0], [2] => [1.0, 2.0]] [] { float("epsilon", 0.0) }
            = [2] => [0.848528, 2.262742];
        17 "LayerNormalization" ("a b c") [[1, 2, 1] => [1.0, 3.0], [2, 1] => [1.0, 2.0], [2, 1] => [5.0, 6.0]] []
            { int("axis", 1), float("epsilon", 0.0) } = [1, 2, 1] => [4.0, 8.0];
        21 "GroupNormalization" ("a b c") [[1, 2, 2] => [1.0, 1.0, 3.0, 3.0], [2] => [2.0, 3.0], [2] => [0.0, 1.0]] []
            { int("num_groups", 1), float("epsilon", 0.0) } = [1, 2, 2] => [-2.0, -2.0, 4.0, 4.0];
        15 "BatchNormalization" ("a b c d e")
            [[1, 1] => [3.0], [1] => [2.0], [1] => [1.0], [1] => [1.0], [1] => [4.0]] []
            { float("epsilon", 0.0) } = [1, 1] => [3.0];
        15 "BatchNormalization" ("a b c d e")
            [[2, 1] => [1.0, 3.0], [1] => [2.0], [1] => [1.0], [1] => [1.0], [1] => [4.0]] []
            { float("epsilon", 0.0), int("training_mode", 1) } = [2, 1] => [-1.0, 3.0];
        22 "LpNormalization" ("a") [[2] => [3.0, -4.0]] [] {} = [2] => [0.6, -0.8];
        22 "LpNormalization" ("a") [[2] => [0.0, 0.0]] [] {} = [2] => [0.0, 0.0];
    }
}

#[test]
fn products_and_windows() {
    cases! {
        12 "Einsum" ("a b") [[2, 2] => [1.0, 2.0, 3.0, 4.0], [1, 2] => [1.0, 1.0]] [] { text("equation", "ij,kj->ik") }
            = [2, 1] => [3.0, 7.0];
        12 "Einsum" ("a") [[2, 2] => [1.0, 2.0, 3.0, 4.0]] [] { text("equation", "...ii") } = [] => [5.0];
        13 "MatMul" ("a b") [[2] => [1.0, 2.0], [2, 2] => [1.0, 2.0, 3.0, 4.0]] [] {} = [2] => [7.0, 10.0];
        13 "Gemm" ("a b c") [[1, 2] => [1.0, 2.0], [1, 2] => [3.0, 4.0], [1] => [10.0]] []
            { int("transB", 1), float("alpha", 0.5), float("beta", 2.0) } = [1, 1] => [25.5];
        11 "Conv" ("a b") [[1, 1, 3] => [1.0, 2.0, 3.0], [1, 1, 3] => [1.0, 1.0, 1.0]] []
            { ints("pads", &[1, 1]), ints("strides", &[2]) } = [1, 1, 2] => [3.0, 5.0];
        11 "Conv" ("a b c") [[1, 2, 2] => [1.0, 2.0, 3.0, 4.0], [2, 1, 1] => [10.0, 100.0], [2] => [0.5, 0.0]] []
            { int("group", 2) } = [1, 2, 2] => [10.5, 20.5, 300.0, 400.0];
        12 "MaxPool" ("a") [[1, 1, 3] => [-1.0, -2.0, -3.0]] [] { ints("kernel_shape", &[2]), ints("pads", &[1, 0]) }
            = [1, 1, 3] => [-1.0, -1.0, -2.0];
        11 "AveragePool" ("a") [[1, 1, 3] => [1.0, 2.0, 3.0]] [] { ints("kernel_shape", &[2]), ints("pads", &[1, 1]) }
            = [1, 1, 4] => [1.0, 1.5, 2.5, 3.0];
        19 "Resize" ("a - - i") [[1, 2] => [1.0, 3.0]] [[2] => [1, 4]] { text("mode", "linear") }
            = [1, 4] => [1.0, 1.5, 2.5, 3.0];
    }
}

#[test]
fn places() {
    cases! {
        18 "Pad" ("a i") [[3] => [1.0, 2.0, 3.0]] [[2] => [2, 1]] { text("mode", "reflect") }
            = [6] => [3.0, 2.0, 1.0, 2.0, 3.0, 2.0];
        18 "Pad" ("a i b") [[2] => [1.0, 2.0], [] => [9.0]] [[2] => [1, -1]] {} = [2] => [9.0, 1.0];
        13 "Slice" ("a i j k l") [[5] => [0.0, 1.0, 2.0, 3.0, 4.0]] [[1] => [-1], [1] => [-9], [1] => [0], [1] => [-2]] {}
            = [3] => [4.0, 2.0, 0.0];
        13 "Slice" ("a i j k l") [[5] => [0.0, 1.0, 2.0, 3.0, 4.0]] [[1] => [0], [1] => [5], [1] => [0], [1] => [2]] {}
            = [3] => [0.0, 2.0, 4.0];
        13 "GatherElements" ("a i") [[2, 2] => [1.0, 2.0, 3.0, 4.0]] [[2, 2] => [0, 0, 1, 0]] { int("axis", 1) }
            = [2, 2] => [1.0, 1.0, 4.0, 3.0];
        13 "GatherND" ("a i") [[2, 2] => [1.0, 2.0, 3.0, 4.0]] [[2, 1] => [1, 0]] { int("batch_dims", 1) }
            = [2] => [2.0, 3.0];
        18 "ScatterElements" ("a i b") [[3] => [1.0, 2.0, 3.0], [3] => [10.0, 20.0, 30.0]] [[3] => [1, 1, -1]]
            { text("reduction", "add") } = [3] => [1.0, 32.0, 33.0];
        18 "ScatterND" ("a i b") [[2, 2] => [1.0, 2.0, 3.0, 4.0], [1, 2] => [7.0, 8.0]] [[1, 1] => [1]] {}
            = [2, 2] => [1.0, 2.0, 7.0, 8.0];
        24 "TensorScatter" ("a b i") [[1, 3, 1] => [1.0, 2.0, 3.0], [1, 2, 1] => [8.0, 9.0]] [[1] => [2]]
            { text("mode", "circular") } = [1, 3, 1] => [9.0, 2.0, 8.0];
        14 "Trilu" ("a") [[2, 2] => [1.0, 2.0, 3.0, 4.0]] [] { int("upper", 0) } = [2, 2] => [1.0, 0.0, 3.0, 4.0];
        13 "DepthToSpace" ("a") [[1, 4, 1, 1] => [1.0, 2.0, 3.0, 4.0]] [] { int("blocksize", 2) }
            = [1, 1, 2, 2] => [1.0, 2.0, 3.0, 4.0];
        11 "OneHot" ("i j a") [[2] => [0.5, 2.0]] [[2] => [1, -1], [] => [3]] {}
            = [2, 3] => [0.5, 2.0, 0.5, 0.5, 0.5, 2.0];
        10 "ReverseSequence" ("a i") [[1, 3] => [1.0, 2.0, 3.0]] [[1] => [2]] { int("batch_axis", 0), int("time_axis", 1) }
            = [1, 3] => [2.0, 1.0, 3.0];
        13 "Tile" ("a i") [[2] => [1.0, 2.0]] [[1] => [2]] {} = [4] => [1.0, 2.0, 1.0, 2.0];
    }
}

#[test]
fn attentions() {
    // Equal scores: each row is the mean of the values that it sees.
    let (zeros, v) = ([0.0; 2], [1.0, 3.0]);
    cases! {
        23 "Attention" ("a b c") [[1, 1, 2, 1] => zeros, [1, 1, 2, 1] => zeros, [1, 1, 2, 1] => v] []
            { int("is_causal", 1) } = [1, 1, 2, 1] => [1.0, 2.0];
        23 "Attention" ("a b c - d e")
            [[1, 1, 1] => [0.0], [1, 1, 1] => [0.0], [1, 1, 1] => [3.0], [1, 1, 1, 1] => [0.0], [1, 1, 1, 1] => [1.0]] []
            { int("q_num_heads", 1), int("kv_num_heads", 1), int("is_causal", 1) } = [1, 1, 1] => [2.0];
        23 "RotaryEmbedding" ("a b c") [[1, 1, 1, 2] => [1.0, 0.0], [1, 1, 1] => [0.0], [1, 1, 1] => [1.0]] [] {}
            = [1, 1, 1, 2] => [0.0, 1.0];
        23 "RotaryEmbedding" ("a b c i")
            [[1, 1, 1, 4] => [1.0, 0.0, 0.0, 2.0], [2, 2] => [1.0, 1.0, 0.0, 0.0], [2, 2] => [0.0, 0.0, 1.0, 1.0]] [[1, 1] => [1]]
            { int("interleaved", 1) } = [1, 1, 1, 4] => [0.0, 1.0, -2.0, 0.0];
        17 "com.microsoft.MultiHeadAttention" ("a b c - i") [[1, 2, 1] => zeros, [1, 2, 1] => zeros, [1, 2, 1] => v]
            [[1, 2] => [1, 0]] { int("num_heads", 1) } = [1, 2, 1] => [1.0, 1.0];
        17 "com.microsoft.Attention" ("a b") [[1, 2, 1] => v, [1, 3] => [0.0, 0.0, 1.0]] []
            { int("num_heads", 1), int("unidirectional", 1) } = [1, 2, 1] => [1.0, 2.0];
        17 "com.microsoft.GroupQueryAttention" ("a b c d e i j")
            [[1, 1, 2] => zeros, [1, 1, 1] => [0.0], [1, 1, 1] => [3.0], [1, 1, 1, 1] => [0.0], [1, 1, 1, 1] => [1.0]]
            [[1] => [1], [] => [2]] { int("num_heads", 2), int("kv_num_heads", 1) } = [1, 1, 2] => [2.0, 2.0];
        17 "com.microsoft.SkipLayerNormalization" ("a b c d")
            [[1, 2] => [0.0, 1.0], [1, 2] => [1.0, 2.0], [2] => [1.0, 2.0], [2] => [0.5, 0.0]] [] {}
            = [1, 2] => [-0.5, 2.0];
        17 "com.microsoft.FusedMatMul" ("a b") [[1, 2] => [1.0, 2.0], [1, 2] => [3.0, 4.0]] []
            { int("transB", 1), float("alpha", 2.0) } = [1, 1] => [22.0];
        17 "com.microsoft.QuickGelu" ("a") [[1] => [0.0]] [] {} = [1] => [0.0];
    }
}

/// Truths of secret numbers: -2 < x < 0 or x = 3.
#[test]
fn secret_truths() {
    let nodes = vec![
        node("Less", "x zero", "below", vec![]),
        node("Greater", "x low", "above", vec![]),
        node("And", "below above", "between", vec![]),
        node("Equal", "x three", "is", vec![]),
        node("Or", "between is", "either", vec![]),
        node("Not", "either", "neither", vec![]),
        node("Where", "neither x ten", "y", vec![]),
    ];
    let numbers =
        [("zero", 0.0), ("low", -2.0), ("three", 3.0), ("ten", 10.0)].map(|(name, x)| floats(name, &[], &[x]));
    let file = file(17, graph(vec![input("x", DataType::Float, &[5])], numbers.to_vec(), nodes));
    let graph = import(&file.path(), &Bindings::default()).unwrap().graph;
    let x = BTreeMap::from([("x".to_owned(), f32s(&[5], &[-3.0, -1.0, 0.0, 3.0, 4.0]))]);
    let outputs = eval::evaluate(&graph, &x, None, &mut |_, _| {}).unwrap();
    assert_eq!(outputs[0].1, f32s(&[5], &[-3.0, 10.0, 0.0, 10.0, 4.0]));
}

/// A function of the model with an attribute of its caller's, used by another; and the branch of a public condition.
#[test]
fn functions_and_branches() {
    let reference = |name: &str| AttributeProto {
        name: Some("alpha".into()),
        ref_attr_name: Some(name.into()),
        r#type: Some(AttributeType::Float as i32),
        ..Default::default()
    };
    let function = |name: &str, nodes: Vec<NodeProto>| FunctionProto {
        name: Some(name.into()),
        domain: Some("own".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        attribute: vec!["slope".into()],
        node: nodes,
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        ..Default::default()
    };
    let branch = |factor: &str| AttributeProto {
        name: Some(if factor == "two" { "then_branch" } else { "else_branch" }.into()),
        g: Some(Box::new(GraphProto {
            node: vec![node("Mul", &format!("h {factor}"), "inner", vec![])],
            output: vec![ValueInfoProto { name: Some("inner".into()), r#type: None }],
            ..Default::default()
        })),
        r#type: Some(AttributeType::Graph as i32),
        ..Default::default()
    };
    let inner = AttributeProto { name: Some("slope".into()), ..reference("slope") };
    let nodes = vec![
        node("own.Outer", "x", "h", vec![float("slope", 0.5)]),
        node("Greater", "two ten", "no", vec![]),
        node("If", "no", "y", vec![branch("two"), branch("ten")]),
    ];
    let numbers = [("two", 2.0), ("ten", 10.0)].map(|(name, x)| floats(name, &[], &[x]));
    let mut model = model(17, graph(vec![input("x", DataType::Float, &[2])], numbers.to_vec(), nodes));
    model.functions = vec![
        function("Outer", vec![node("own.Inner", "a", "c", vec![inner]), node("Neg", "c", "b", vec![])]),
        function("Inner", vec![node("LeakyRelu", "a", "b", vec![reference("slope")])]),
    ];
    let file = File::new(&prost::Message::encode_to_vec(&model));
    let graph = import(&file.path(), &Bindings::default()).unwrap_or_else(|e| panic!("{e}")).graph;
    let x = BTreeMap::from([("x".to_owned(), f32s(&[2], &[-4.0, 4.0]))]);
    let outputs = eval::evaluate(&graph, &x, None, &mut |_, _| {}).unwrap();
    assert_eq!(outputs[0].1, f32s(&[2], &[20.0, -40.0]));
}

/// Positions that a model counts from token ids, and the place of the token that ends a text.
#[test]
fn assumptions() {
    let nodes = vec![
        node("Equal", "ids pad", "padding", vec![]),
        node("Not", "padding", "mask", vec![]),
        node("Cast", "mask", "ones", vec![int("to", DataType::Int64 as i64)]),
        node("CumSum", "ones axis", "positions", vec![]),
        node("Equal", "ids end", "ends", vec![]),
        node("Cast", "ends", "hits", vec![int("to", DataType::Int32 as i64)]),
        node("ArgMax", "hits", "last", vec![int("axis", 1), int("keepdims", 0)]),
        node("Mul", "positions last", "y", vec![]),
    ];
    let numbers = vec![integers("pad", &[], &[1]), integers("end", &[], &[2]), integers("axis", &[], &[1])];
    let file = file(17, graph(vec![input("ids", DataType::Int64, &[1, 4])], numbers, nodes));
    let imported = import(&file.path(), &Bindings::default()).unwrap_or_else(|e| panic!("{e}"));
    let Op::Const(y) = &imported.graph.node(imported.graph.outputs[0].1).op else { panic!("positions are public") };
    assert_eq!(**y, i64s(&[1, 4], &[3, 6, 9, 12]));
    insta::assert_snapshot!(imported.assumed.join("\n"), @r#"
    no number of `ids` is 1, which stands for padding
    the last number of `ids` is 2, which ends a text, and no other is
    "#);
}

/// An input that is made public, and one that must be.
#[test]
fn bound_inputs() {
    use sscc::onnx::Given;
    let nodes =
        vec![node("Cast", "class", "c", vec![int("to", DataType::Float as i64)]), node("Add", "x c", "y", vec![])];
    let inputs = vec![input("x", DataType::Float, &[1, 2]), input("class", DataType::Int64, &[1, -1])];
    let file = file(17, graph(inputs, vec![], nodes));
    let with = |value: Option<Given>| {
        let values = value.into_iter().map(|value| ("class".to_owned(), value)).collect();
        import(&file.path(), &Bindings { values, dims: BTreeMap::from([("d1".to_owned(), 2)]), ..Bindings::default() })
    };
    for (given, class) in [(Given::Fill(3.0), [3, 3]), (Given::Count, [0, 1]), (i64s(&[1, 2], &[4, 5]).into(), [4, 5])]
    {
        let imported = with(Some(given)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(imported.bound["class"], i64s(&[1, 2], &class));
        assert_eq!(imported.graph.inputs.len(), 1);
    }
    let wrong = with(Some(Given::Fill(0.5))).err().unwrap();
    let missing = with(None).err().unwrap();
    insta::assert_snapshot!(format!("{wrong}\n{missing}"), @r#"
    error[SSC0206]: the value for input `class` does not fit
      model.onnx
      The model takes I64 [1, 2], the value is 0.5.
    error[SSC0504]: integer input `class` is not token ids
      model.onnx, node "Cast_c"
      Secret integers choose rows of an embedding table; this node computes with them.
      try: --bind class=VALUE, which makes it public and part of the program
    "#);
}

#[test]
fn every_operator_is_listed_once() {
    let operators = ops::operators();
    let mut names: Vec<_> = operators.iter().map(|o| (o.domain, o.name)).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), operators.len());
    for operator in operators {
        let name = if operator.domain.is_empty() {
            operator.name.to_owned()
        } else {
            format!("{}.{}", operator.domain, operator.name)
        };
        assert!(ops::handler(&name).is_some(), "{name}");
    }
}
