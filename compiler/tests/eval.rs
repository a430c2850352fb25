//! Fused ops compute what the ops that they stand for compute, and public arithmetic what ONNX says.

#[allow(dead_code)]
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::*;
use ir::Pattern;
use ndarray::ArrayD;
use sscc::graph::verify::{Stage, verify};
use sscc::graph::{DType, Function, GeluForm, Graph, Node, NodeId, Op, Owner, Tensor, eval, shape};
use sscc::onnx::proto::*;
use sscc::onnx::{Bindings, import};

/// Adds a node whose shape follows from its operands, or is given.
fn add(graph: &mut Graph, op: Op, operands: &[NodeId], declared: &[usize]) -> NodeId {
    let typed: Vec<_> = operands.iter().map(|&o| (graph.node(o).shape.clone(), graph.node(o).dtype)).collect();
    let (shape, dtype) = shape::infer(&op, &typed, (declared, DType::F32)).unwrap();
    let origin = format!("{op:?}").split([' ', '(']).next().unwrap().to_string();
    graph.add(Node { op, shape, dtype, owner: Owner::Shared, origin }, operands)
}

fn weight(graph: &mut Graph, value: ArrayD<f32>) -> NodeId {
    add(graph, Op::Weight { name: "w".into(), value: Arc::new(value) }, &[], &[])
}

fn scalar(graph: &mut Graph, value: f32) -> NodeId {
    add(graph, Op::Const(Arc::new(f32s(&[], &[value]))), &[], &[])
}

/// Builds both, evaluates both, compares.
fn same(one: impl FnOnce(&mut Graph) -> NodeId, other: impl FnOnce(&mut Graph) -> NodeId) {
    let mut graph = Graph::default();
    let (one, other) = (one(&mut graph), other(&mut graph));
    graph.outputs = vec![("one".into(), one), ("other".into(), other)];
    let outputs = eval::evaluate(&graph, &BTreeMap::new(), None, &mut |_, _| {}).unwrap();
    let (Tensor::F32(one), Tensor::F32(other)) = (&outputs[0].1, &outputs[1].1) else { panic!("floats") };
    assert_eq!(one.shape(), other.shape());
    assert!(one.iter().zip(other).all(|(a, b)| (a - b).abs() < 2e-6), "{one}\n{other}");
}

#[test]
fn attention() {
    let (batch, rows, columns, heads, width) = (2, 3, 5, 2, 4);
    let pattern = Pattern::causal(rows as u32, columns as u32);
    let x = move |g: &mut Graph, seed, length| weight(g, noise(seed, &[batch, length, heads * width]));
    same(
        |g| {
            let (q, k, v) = (x(g, 1, rows), x(g, 2, columns), x(g, 3, columns));
            add(g, Op::attention(heads, pattern), &[q, k, v], &[])
        },
        |g| {
            let mut part = |seed, length, perm: Vec<usize>| {
                let x = x(g, seed, length);
                let x = add(g, Op::Reshape, &[x], &[batch, length, heads, width]);
                add(g, Op::Transpose { perm }, &[x], &[])
            };
            let (q, k, v) = (
                part(1, rows, vec![0, 2, 1, 3]),
                part(2, columns, vec![0, 2, 3, 1]),
                part(3, columns, vec![0, 2, 1, 3]),
            );
            let s = add(g, Op::MatMul, &[q, k], &[]);
            let kept = ArrayD::from_shape_fn(ndarray::IxDyn(&[rows, columns]), |i| i[1] <= i[0] + columns - rows);
            let kept = add(g, Op::Const(Arc::new(Tensor::Bool(kept))), &[], &[]);
            let low = scalar(g, f32::NEG_INFINITY);
            let s = add(g, Op::Where, &[kept, s, low], &[]);
            let p = add(g, Op::Softmax { axis: 3 }, &[s], &[]);
            let o = add(g, Op::MatMul, &[p, v], &[]);
            let o = add(g, Op::Transpose { perm: vec![0, 2, 1, 3] }, &[o], &[]);
            add(g, Op::Reshape, &[o], &[batch, rows, heads * width])
        },
    );
}

#[test]
fn normalize() {
    for centred in [false, true] {
        same(
            |g| {
                let x = weight(g, noise(1, &[3, 8]));
                add(g, Op::Normalize { epsilon: 1e-5, centred }, &[x], &[])
            },
            |g| {
                let mut x = weight(g, noise(1, &[3, 8]));
                if !centred {
                    let mean = add(g, Op::ReduceMean { axes: vec![1] }, &[x], &[]);
                    x = add(g, Op::Sub, &[x, mean], &[]);
                }
                let two = scalar(g, 2.0);
                let square = add(g, Op::Pow, &[x, two], &[]);
                let variance = add(g, Op::ReduceMean { axes: vec![1] }, &[square], &[]);
                let epsilon = scalar(g, 1e-5);
                let variance = add(g, Op::Add, &[variance, epsilon], &[]);
                let deviation = add(g, Op::Unary(Function::Sqrt {}), &[variance], &[]);
                add(g, Op::Div, &[x, deviation], &[])
            },
        );
    }
}

#[test]
fn linear_and_layer_normalization() {
    let x = |g: &mut Graph| weight(g, noise(1, &[2, 3, 4]));
    same(
        |g| {
            let operands = [x(g), weight(g, noise(2, &[4, 5])), weight(g, noise(3, &[5]))];
            add(g, Op::Linear, &operands, &[])
        },
        |g| {
            let factors = [x(g), weight(g, noise(2, &[4, 5]))];
            let y = add(g, Op::MatMul, &factors, &[]);
            let bias = weight(g, noise(3, &[5]));
            add(g, Op::AddWeight, &[y, bias], &[])
        },
    );
    same(
        |g| {
            let operands = [x(g), weight(g, noise(2, &[4])), weight(g, noise(3, &[4]))];
            add(g, Op::LayerNormalization { epsilon: 1e-3 }, &operands, &[])
        },
        |g| {
            let x = x(g);
            let x = add(g, Op::Normalize { epsilon: 1e-3, centred: false }, &[x], &[]);
            let (gamma, beta) = (weight(g, noise(2, &[4])), weight(g, noise(3, &[4])));
            let x = add(g, Op::Mul, &[x, gamma], &[]);
            add(g, Op::Add, &[x, beta], &[])
        },
    );
}

/// Expected values are computed in 64-bit floats with the C library's erf and tanh.
#[test]
fn gelu_and_erf() {
    let mut graph = Graph::default();
    let x = weight(&mut graph, ndarray::arr1(&[-3.0, -1.0, -0.1, 0.0, 0.5, 2.0, 7.0]).into_dyn());
    for op in [
        Op::Unary(Function::Gelu(GeluForm::Erf)),
        Op::Unary(Function::Gelu(GeluForm::Tanh)),
        Op::Unary(Function::Erf {}),
    ] {
        let y = add(&mut graph, op, &[x], &[]);
        graph.outputs.push((String::new(), y));
    }
    let outputs = eval::evaluate(&graph, &BTreeMap::new(), None, &mut |_, _| {}).unwrap();
    let expected: [[f32; 7]; 3] = [
        [-0.004049694, -0.15865526, -0.04601722, 0.0, 0.34573123, 1.9544997, 7.0],
        [-0.003637392, -0.15880801, -0.04601725, 0.0, 0.345714, 1.9545977, 7.0],
        [-0.9999779, -0.8427008, -0.11246292, 0.0, 0.5204999, 0.9953223, 1.0],
    ];
    for ((_, output), expected) in outputs.iter().zip(expected) {
        let Tensor::F32(output) = output else { panic!("floats") };
        assert!(output.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-7), "{output} {expected:?}");
    }
}

#[test]
fn embed_and_pick() {
    let mut graph = Graph::default();
    let ids = add(&mut graph, Op::Input { name: "ids".into() }, &[], &[1, 3]);
    graph.dag[ids].dtype = DType::I64;
    graph.inputs.push(ids);
    let table = weight(&mut graph, ndarray::arr2(&[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]).into_dyn());
    let rows = add(&mut graph, Op::Embed, &[ids, table], &[]);
    let picked = add(&mut graph, Op::Pick { axis: 1 }, &[rows], &[]);
    graph.outputs.push(("y".into(), picked));
    let inputs = |ids: [i64; 3]| BTreeMap::from([("ids".to_string(), i64s(&[1, 3], &ids))]);
    let mut seen = Vec::new();
    let mut run = |ids, position| {
        eval::evaluate(&graph, &inputs(ids), position, &mut |id, _| seen.push(id)).map(|mut o| o.remove(0).1)
    };
    assert_eq!(run([2, 0, 1], None), Ok(f32s(&[1, 1, 2], &[2.0, 3.0])));
    assert_eq!(run([2, 0, 1], Some(0)), Ok(f32s(&[1, 1, 2], &[4.0, 5.0])));
    let outside = run([2, 0, 1], Some(3)).unwrap_err();
    let id = run([2, 0, -1], None).unwrap_err();
    assert_eq!(seen[..3], [ids, rows, picked]);
    insta::assert_snapshot!(format!("{outside}\n{id}"));
}

/// One output `y` of a model of constants.
fn folded(opset: i64, initializers: Vec<TensorProto>, nodes: Vec<NodeProto>) -> Tensor {
    let file = file(opset, graph(vec![], initializers, nodes));
    let imported = import(&file.path(), &Bindings::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(imported.graph.dag.node_count(), 1, "all is folded");
    eval::evaluate(&imported.graph, &BTreeMap::new(), None, &mut |_, _| {}).unwrap().remove(0).1
}

/// Values follow numpy and the ONNX operator pages.
#[test]
fn public_arithmetic() {
    let count = |n: i64| (0..n).collect::<Vec<_>>();
    let m = || integers("m", &[2, 3], &count(6));
    let v = |name: &str, values: &[i64]| integers(name, &[values.len() as i64], values);
    let s = |name: &str, value| integers(name, &[], &[value]);
    let one = |opset, initializers: Vec<TensorProto>, op: &str, operands: &str, attributes| {
        folded(opset, initializers, vec![node(op, operands, "y", attributes)])
    };

    assert_eq!(one(13, vec![s("a", 10), s("b", 3), s("c", -3)], "Range", "a b c", vec![]), i64s(&[3], &[10, 7, 4]));
    assert_eq!(one(13, vec![v("a", &[-7, 7]), v("b", &[2])], "Div", "a b", vec![]), i64s(&[2], &[-3, 3]));
    assert_eq!(one(13, vec![v("a", &[-7, 7]), v("b", &[3, -3])], "Mod", "a b", vec![]), i64s(&[2], &[2, -2]));
    assert_eq!(
        one(13, vec![v("a", &[-7, 7]), v("b", &[3, -3])], "Mod", "a b", vec![int("fmod", 1)]),
        i64s(&[2], &[-1, 1])
    );
    assert_eq!(one(13, vec![m(), s("k", 1)], "Gather", "m k", vec![int("axis", -1)]), i64s(&[2], &[1, 4]));
    assert_eq!(one(13, vec![m(), v("k", &[-1])], "Gather", "m k", vec![]), i64s(&[1, 3], &[3, 4, 5]));
    assert_eq!(
        one(9, vec![m()], "Slice", "m", vec![ints("starts", &[1]), ints("ends", &[i64::MAX]), ints("axes", &[1])]),
        i64s(&[2, 2], &[1, 2, 4, 5])
    );
    let bounds = || vec![m(), v("from", &[-1]), v("to", &[i64::MIN]), v("axis", &[-1]), v("step", &[-2])];
    assert_eq!(one(13, bounds(), "Slice", "m from to axis step", vec![]), i64s(&[2, 2], &[2, 0, 5, 3]));
    assert_eq!(one(14, vec![m(), v("to", &[0, -1, 1])], "Reshape", "m to", vec![]), i64s(&[2, 3, 1], &count(6)));
    let empty = || integers("e", &[0, 3], &[]);
    assert_eq!(
        one(14, vec![empty(), v("to", &[3, 0])], "Reshape", "e to", vec![int("allowzero", 1)]),
        i64s(&[3, 0], &[])
    );
    assert_eq!(one(11, vec![m()], "Unsqueeze", "m", vec![ints("axes", &[0, -1])]), i64s(&[1, 2, 3, 1], &count(6)));
    assert_eq!(one(13, vec![integers("a", &[1, 2, 1], &[1, 2])], "Squeeze", "a", vec![]), i64s(&[2], &[1, 2]));
    assert_eq!(
        one(13, vec![m(), v("r", &[2, 1])], "Tile", "m r", vec![]),
        i64s(&[4, 3], &[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5])
    );
    assert_eq!(one(15, vec![m()], "Shape", "m", vec![int("start", -1)]), i64s(&[1], &[3]));
    assert_eq!(
        one(14, vec![integers("a", &[3, 3], &[1; 9]), s("k", 1)], "Trilu", "a k", vec![int("upper", 1)]),
        i64s(&[3, 3], &[0, 1, 1, 0, 0, 1, 0, 0, 0])
    );
    assert_eq!(
        one(14, vec![integers("a", &[2, 2], &[1; 4])], "Trilu", "a", vec![int("upper", 0)]),
        i64s(&[2, 2], &[1, 0, 1, 1])
    );
    assert_eq!(one(14, vec![m(), s("axis", 1)], "CumSum", "m axis", vec![]), i64s(&[2, 3], &[0, 1, 3, 3, 7, 12]));
    assert_eq!(
        one(14, vec![m(), s("axis", 1)], "CumSum", "m axis", vec![int("exclusive", 1), int("reverse", 1)]),
        i64s(&[2, 3], &[3, 2, 0, 9, 5, 0])
    );
    let scatter = vec![m(), integers("at", &[1, 2], &[1, -1]), v("u", &[9])];
    assert_eq!(one(16, scatter, "ScatterND", "m at u", vec![]), i64s(&[2, 3], &[0, 1, 2, 3, 4, 9]));
    assert_eq!(
        one(13, vec![m()], "ReduceMax", "m", vec![ints("axes", &[0]), int("keepdims", 0)]),
        i64s(&[3], &[3, 4, 5])
    );
    assert_eq!(one(13, vec![m(), v("axes", &[1])], "ReduceSum", "m axes", vec![]), i64s(&[2, 1], &[3, 12]));
    assert_eq!(one(17, vec![m()], "ReduceProd", "m", vec![]), i64s(&[1, 1], &[0]));
    assert_eq!(one(13, vec![v("a", &[1, 5]), s("b", 3), s("c", 2)], "Max", "a b c", vec![]), i64s(&[2], &[3, 5]));
    assert_eq!(
        one(13, vec![v("a", &[2, 3]), s("b", 2)], "Equal", "a b", vec![]),
        Tensor::Bool(ndarray::arr1(&[true, false]).into_dyn())
    );
    assert_eq!(
        one(13, vec![floats("a", &[], &[-1.5])], "Cast", "a", vec![int("to", DataType::Int32 as i64)]),
        i64s(&[], &[-1])
    );
    let halves = TensorProto {
        data_type: Some(DataType::Float16 as i32),
        int32_data: vec![0x3c00, 0xc000],
        raw_data: None,
        ..floats("h", &[2], &[])
    };
    assert_eq!(one(13, vec![halves], "Identity", "h", vec![]), f32s(&[2], &[1.0, -2.0]));

    // The last part of a split is smaller; results nobody reads have no name.
    let parts = vec![node("Split", "m", "- y", vec![int("axis", 1), int("num_outputs", 2)])];
    assert_eq!(folded(18, vec![m()], parts), i64s(&[2, 1], &[2, 5]));
    // Before opset 13, softmax takes all axes from the given one on together.
    let x = floats("x", &[1, 2, 2], &[0.0; 4]);
    assert_eq!(one(11, vec![x.clone()], "Softmax", "x", vec![]), f32s(&[1, 2, 2], &[0.25; 4]));
    assert_eq!(one(13, vec![x], "Softmax", "x", vec![]), f32s(&[1, 2, 2], &[0.5; 4]));
    let gemm = vec![
        floats("a", &[2, 1], &[1.0, 2.0]),
        floats("b", &[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
        floats("c", &[1], &[10.0]),
    ];
    let two = AttributeProto { name: Some("alpha".into()), f: Some(2.0), ..Default::default() };
    assert_eq!(
        one(13, gemm, "Gemm", "a b c", vec![int("transA", 1), int("transB", 1), two]),
        f32s(&[1, 3], &[12.0, 14.0, 16.0])
    );
}

/// Parts of one weight are weights of different names.
#[test]
fn split_weight() {
    let nodes = vec![
        node("Split", "w", "a b", vec![int("axis", 1)]),
        node("MatMul", "x a", "p", vec![]),
        node("MatMul", "x b", "q", vec![]),
        node("Add", "p q", "y", vec![]),
    ];
    let w = floats("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let file = file(13, graph(vec![input("x", DataType::Float, &[1, 2])], vec![w], nodes));
    let imported = import(&file.path(), &Bindings::default()).unwrap();
    verify(&imported.graph, Stage::Graph).unwrap();
    let mut names: Vec<&str> = imported
        .graph
        .dag
        .node_weights()
        .filter(|n| matches!(n.op, Op::Weight { .. }))
        .map(|n| n.origin.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["Split_a", "Split_a#2"]);
}

/// Nodes in any order, an initializer behind an `Identity`, a guard against NaN, an operand left out.
#[test]
fn habits_of_exporters() {
    let nodes = vec![
        node("Where", "nan zero p", "y", vec![]),
        node("IsNaN", "p", "nan", vec![]),
        node("Softmax", "s", "p", vec![int("axis", -1)]),
        node("Slice", "t from to - step", "s", vec![]),
        node("MatMul", "x v", "t", vec![]),
        node("Identity", "w", "v", vec![]),
    ];
    let bounds = [("from", 0), ("to", 9), ("step", 1)].map(|(name, value)| integers(name, &[1], &[value]));
    let mut initializers = vec![floats("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]), floats("zero", &[], &[0.0])];
    initializers.extend(bounds);
    let file = file(17, graph(vec![input("x", DataType::Float, &[1, 2])], initializers, nodes));
    let imported = import(&file.path(), &Bindings::default()).unwrap();
    let nodes: Vec<String> = imported
        .graph
        .order()
        .into_iter()
        .map(|id| imported.graph.node(id))
        .map(|n| format!("{} {:?} {:?}", n.origin, n.owner, n.shape))
        .collect();
    assert_eq!(nodes, ["x Client [1, 2]", "w Server [2, 2]", "MatMul_t Shared [1, 2]", "Softmax_p Shared [1, 2]"]);
}
