//! Every pass on small graphs: snapshots of input and output, and agreement of what they compute; the whole list on a
//! GPT-2 layer; the text form; what is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ndarray::{ArrayD, Axis, IxDyn};
use sscc::graph::eval::evaluate;
use sscc::graph::text::{Store, parse, print, printed_order};
use sscc::graph::{DType, Function, Graph, Node, NodeId, Op, Owner, Stage, Tensor, verify};
use sscc::pass::{Logits, Options, PASSES, run_all};

/// Repeatable numbers between -1 and 1 that depend on a name.
fn numbers(name: &str, shape: &[usize]) -> ArrayD<f32> {
    let mut state =
        name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

/// Values for all weights that a text names.
fn store(text: &str) -> Store {
    let mut store = Store::default();
    for line in text.lines() {
        let Some((_, rest)) = line.split_once("weight \"") else { continue };
        let (name, rest) = rest.split_once('"').expect("a name ends");
        let dims = rest.split_once('[').and_then(|r| r.1.split_once(']')).expect("a shape").0;
        let shape: Vec<usize> = dims.split(',').map(|d| d.parse().expect("a dimension")).collect();
        let value = if name == "cubic" { ArrayD::from_elem(IxDyn(&shape), 0.044715) } else { numbers(name, &shape) };
        store.weights.insert(name.to_owned(), Arc::new(value));
    }
    store
}

fn load(path: &Path) -> Graph {
    let text = std::fs::read_to_string(path).expect("a file");
    let listing = parse(&text, &store(&text)).unwrap_or_else(|e| panic!("{}:{e}", path.display()));
    verify(&listing.graph, listing.stage).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    listing.graph
}

fn outputs(graph: &Graph) -> Vec<(String, Tensor)> {
    let inputs: BTreeMap<String, Tensor> = graph
        .inputs
        .iter()
        .map(|&id| {
            let Node { op: Op::Input { name }, shape, dtype, .. } = graph.node(id) else { panic!("an input") };
            let value = match dtype {
                DType::F32 => Tensor::F32(numbers(name, shape) * 3.0),
                DType::I64 => Tensor::I64(numbers(name, shape).mapv(|x| ((x + 1.0) * 3.99) as i64)),
                DType::Bool => panic!("no test has boolean inputs"),
            };
            (name.clone(), value)
        })
        .collect();
    evaluate(graph, &inputs, None, &mut |_, _| {}).expect("it evaluates")
}

/// Outputs agree; where a pass has picked the last position, there.
fn assert_same(before: &Graph, after: &Graph, what: &str) {
    for ((name, a), (_, b)) in outputs(before).into_iter().zip(outputs(after)) {
        let (Tensor::F32(mut a), Tensor::F32(b)) = (a, b) else { panic!("float outputs") };
        if a.shape() != b.shape() {
            let last = a.len_of(Axis(1)) - 1;
            a = a.slice_axis(Axis(1), (last..=last).into()).to_owned();
        }
        assert_eq!(a.shape(), b.shape(), "{what}: shape of {name}");
        let error = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(error < 1e-4, "{what}: {name} differs by {error}");
    }
}

fn before_after(pass: &str, path: &Path) -> String {
    let before = load(path);
    let mut after = before.clone();
    let pass = PASSES.iter().find(|p| p.name == pass).expect("a pass");
    (pass.run)(&mut after, &Options::default()).expect("the pass runs");
    after.sweep();
    verify(&after, Stage::Graph).expect("the pass keeps the graph sound");
    assert_same(&before, &after, &path.display().to_string());
    let name = path.file_stem().and_then(|n| n.to_str()).expect("a name");
    format!("{}\n{}", print(&before, Stage::Graph, name), print(&after, Stage::Graph, name))
}

macro_rules! snapshots {
    ($($pass:ident)*) => {$(
        #[test]
        fn $pass() {
            insta::glob!(concat!("ir/", stringify!($pass), "/*.ssir"), |path| {
                insta::assert_snapshot!(before_after(stringify!($pass), path));
            });
        }
    )*};
}

snapshots! {
    simplify embedding fuse_norm fuse_linear fuse_activation fuse_rotary fuse_attention masked_softmax last_position fold_affine ride centre fuse_qkv own_weights
}

#[test]
fn every_pass_has_snapshots() {
    for pass in PASSES.iter().filter(|p| p.name != "check_fused") {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ir").join(pass.name);
        assert!(folder.read_dir().is_ok_and(|files| files.count() >= 2), "{} lacks inputs", pass.name);
    }
}

#[test]
fn refused() {
    insta::glob!("ir/refused/*.ssir", |path| {
        let report = run_all(&mut load(path), &Options::default());
        let report = report.expect_err(&format!("{} is refused", path.display()));
        insta::assert_snapshot!(report.to_string());
    });
}

#[test]
fn text_round_trip() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ir");
    let mut count = 0;
    for pass in folder.read_dir().expect("inputs") {
        for file in pass.expect("a folder").path().read_dir().expect("inputs") {
            round_trip(&load(&file.expect("a file").path()), Stage::Graph);
            count += 1;
        }
    }
    assert!(count > 30, "{count} files");
}

fn round_trip(graph: &Graph, stage: Stage) {
    let text = print(graph, stage, "g");
    let again = parse(&text, &Store::of(graph)).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!((again.stage, again.name.as_str()), (stage, "g"));
    assert_eq!(text, print(&again.graph, stage, "g"));
    // Beyond the text: nodes in the printed order have equal data, constants and weights to the last bit.
    let order = printed_order(graph);
    for (i, &id) in order.iter().enumerate() {
        assert_eq!(graph.node(id), again.graph.node(NodeId::new(i)));
        let operands: Vec<usize> =
            graph.operands(id).iter().map(|o| order.iter().position(|x| x == o).expect("it is printed")).collect();
        let parsed: Vec<usize> = again.graph.operands(NodeId::new(i)).iter().map(|o| o.index()).collect();
        assert_eq!(operands, parsed);
    }
}

/// A GPT-2 in the form of the TorchScript exporter: reshapes around each product, the square root of the score factor on
/// both operands, an additive mask.
fn gpt2(layers: usize, batch: usize, seq: usize) -> Graph {
    let (classes, d, heads) = (8, 6, 2);
    let mut g = Graph::default();
    let ids = g.add(
        Node {
            op: Op::Input { name: "input_ids".into() },
            shape: vec![batch, seq],
            dtype: DType::I64,
            owner: Owner::Client,
            origin: "input_ids".into(),
        },
        &[],
    );
    g.inputs.push(ids);
    let weight = |g: &mut Graph, name: &str, shape: &[usize]| {
        g.push(Op::Weight { name: name.into(), value: Arc::new(numbers(name, shape)) }, &[], name)
    };
    let number =
        |g: &mut Graph, x: f32| g.push(Op::Const(Arc::new(Tensor::F32(ArrayD::from_elem(IxDyn(&[]), x)))), &[], "");
    let norm = |g: &mut Graph, x: NodeId, name: &str| {
        let gamma = weight(g, &format!("{name}.weight"), &[d]);
        let beta = weight(g, &format!("{name}.bias"), &[d]);
        g.push(Op::LayerNormalization { epsilon: 1e-5 }, &[x, gamma, beta], &format!("/{name}/LayerNormalization"))
    };
    let conv1d = |g: &mut Graph, x: NodeId, name: &str, from: usize, to: usize| {
        let w = weight(g, &format!("{name}.weight"), &[from, to]);
        let b = weight(g, &format!("{name}.bias"), &[to]);
        let flat = g.push_reshape(x, &[batch * seq, from], &format!("/{name}/Reshape"));
        let product = g.push(Op::MatMul, &[flat, w], &format!("/{name}/Gemm"));
        let sum = g.push(Op::Add, &[product, b], &format!("/{name}/Gemm"));
        g.push_reshape(sum, &[batch, seq, to], &format!("/{name}/Reshape_1"))
    };
    let table = weight(&mut g, "wte.weight", &[classes, d]);
    let rows = g.push(Op::Gather { axis: 0 }, &[table, ids], "/wte/Gather");
    let positions = weight(&mut g, "wpe.weight[0..seq]", &[1, seq, d]);
    let mut x = g.push(Op::Add, &[rows, positions], "/Add");
    let mask = ArrayD::from_shape_fn(IxDyn(&[1, 1, seq, seq]), |i| if i[3] > i[2] { f32::MIN } else { 0.0 });
    let mask = g.push(Op::Const(Arc::new(Tensor::F32(mask))), &[], "/Where");
    for layer in 0..layers {
        let at = |name: &str| format!("h.{layer}.{name}");
        let n = norm(&mut g, x, &at("ln_1"));
        let qkv = conv1d(&mut g, n, &at("attn.c_attn"), d, 3 * d);
        let part = |g: &mut Graph, i: usize, perm: [usize; 4]| {
            let slice = Op::Slice { axis: 2, from: i * d, to: (i + 1) * d };
            let part = g.push(slice, &[qkv], &format!("/{}", at("attn/Split")));
            let part = g.push_reshape(part, &[batch, seq, heads, d / heads], "");
            g.push(Op::Transpose { perm: perm.to_vec() }, &[part], "")
        };
        let (q, k, v) = (part(&mut g, 0, [0, 2, 1, 3]), part(&mut g, 1, [0, 2, 3, 1]), part(&mut g, 2, [0, 2, 1, 3]));
        let root = number(&mut g, ((d / heads) as f32).powf(-0.25));
        let (q, k) = (g.push(Op::Mul, &[q, root], ""), g.push(Op::Mul, &[k, root], ""));
        let scores = g.push(Op::MatMul, &[q, k], &format!("/{}", at("attn/MatMul")));
        let scores = g.push(Op::Add, &[scores, mask], "");
        let p = g.push(Op::Softmax { axis: 3 }, &[scores], &format!("/{}", at("attn/Softmax")));
        let o = g.push(Op::MatMul, &[p, v], "");
        let o = g.push(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[o], "");
        let o = g.push_reshape(o, &[batch, seq, d], "");
        let o = conv1d(&mut g, o, &at("attn.c_proj"), d, d);
        x = g.push(Op::Add, &[o, x], &format!("/{}", at("Add")));

        let n = norm(&mut g, x, &at("ln_2"));
        let f = conv1d(&mut g, n, &at("mlp.c_fc"), d, 4 * d);
        let [half, one, three, c, s] = [0.5, 1.0, 3.0, 0.044715, 0.797_884_6].map(|x| number(&mut g, x));
        let h = g.push(Op::Mul, &[f, half], "");
        let t = g.push(Op::Pow, &[f, three], "");
        let t = g.push(Op::Mul, &[t, c], "");
        let t = g.push(Op::Add, &[f, t], "");
        let t = g.push(Op::Mul, &[t, s], "");
        let t = g.push(Op::Unary(Function::Tanh {}), &[t], &format!("/{}", at("mlp/act/Tanh")));
        let t = g.push(Op::Add, &[t, one], "");
        let f = g.push(Op::Mul, &[h, t], "");
        let f = conv1d(&mut g, f, &at("mlp.c_proj"), 4 * d, d);
        x = g.push(Op::Add, &[x, f], &format!("/{}", at("Add_1")));
    }
    let n = norm(&mut g, x, "ln_f");
    let head = weight(&mut g, "lm_head.weight", &[d, classes]);
    let logits = g.push(Op::MatMul, &[n, head], "/lm_head/MatMul");
    g.outputs.push(("logits".into(), logits));
    verify(&g, Stage::Graph).expect("the model is sound");
    g
}

/// Names of the operations, weights left out.
fn computed(graph: &Graph) -> Vec<&'static str> {
    let ops = graph.order().into_iter().map(|id| graph.node(id).op.name());
    ops.filter(|&name| name != "weight").collect()
}

#[test]
fn gpt2_fuses_to_one_list() {
    for (layers, batch) in [(1, 1), (3, 2)] {
        let before = gpt2(layers, batch, 5);
        for logits in [Logits::Last, Logits::All] {
            let mut after = before.clone();
            run_all(&mut after, &Options { logits }).expect("it fuses");
            assert_same(&before, &after, "gpt2");
            round_trip(&after, Stage::Fused);
            let mut want = vec!["input", "embed", "add_weight"];
            for _ in 0..layers {
                want.extend("normalize linear slice slice slice attention linear add".split(' '));
                want.extend("normalize linear gelu linear add".split(' '));
            }
            // Of the stream and of the last attention's result.
            want.extend(if logits == Logits::Last { vec!["pick"; 2] } else { vec![] });
            want.extend(["normalize", "linear"]);
            let mut found = computed(&after);
            want.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, want);
            let centred = |id: &NodeId| matches!(after.node(*id).op, Op::Normalize { centred: true, .. });
            assert_eq!(after.order().iter().filter(|id| centred(id)).count(), 2 * layers + 1);
        }
    }
}

#[test]
fn gpt2_layer() {
    let mut graph = gpt2(1, 1, 4);
    insta::assert_snapshot!("gpt2_graph", print(&graph, Stage::Graph, "gpt2"));
    run_all(&mut graph, &Options::default()).expect("it fuses");
    insta::assert_snapshot!("gpt2_fused", print(&graph, Stage::Fused, "gpt2"));
}

#[test]
fn broken_texts() {
    let x = "v0 = input \"x\" : f32[2,3] shared\n";
    let w = "v1 = weight \"w\" : f32[3,3] server\n";
    let texts = [
        ("unknown operation", format!("graph @g {{\n{x}  v1 = conv v0 : f32[2,3] shared\n}}\n")),
        ("later value", format!("graph @g {{\n{x}  v1 = erf v2 : f32[2,3] shared\n}}\n")),
        ("numbering", format!("graph @g {{\n{x}  v2 = erf v0 : f32[2,3] shared\n}}\n")),
        ("unknown weight", "graph @g {\n  v0 = weight \"nowhere\" : f32[3,3] server\n}\n".into()),
        ("wrong digest", "graph @g {\n  v0 = weight \"w\" : f32[3,3] server, blake3 0000\n}\n".into()),
        ("missing attribute", format!("graph @g {{\n{x}  v1 = softmax v0 : f32[2,3] shared\n}}\n")),
        ("elements", "graph @g {\n  v0 = const [1, 2] : i64[3] public\n}\n".into()),
        ("open string", "graph @g {\n  v0 = input \"x : f32[2,3] shared\n}\n".into()),
        ("huge pattern", format!("graph @g {{\n{x}  v1 = attention v0, v0, v0 {{heads 1, full 4000000000x1}}")),
        ("no end", format!("graph @g {{\n{x}")),
        ("shape", format!("graph @g {{\n{x}  v1 = transpose v0 {{perm 1, 0}} : f32[2,3] shared\n}}\n")),
        ("owner", format!("graph @g {{\n{x}  v1 = erf v0 : f32[2,3] public\n}}\n")),
        ("operand count", format!("graph @g {{\n{x}  v1 = add v0 : f32[2,3] shared\n}}\n")),
        ("element type", format!("graph @g {{\n{x}  v1 = is_nan v0 : f32[2,3] shared\n}}\n")),
        ("product", format!("graph @g {{\n{x}  v1 = mat_mul v0, v0 : f32[2,3] shared\n}}\n")),
        (
            "not fused",
            format!(
                "fused @g {{\n  v0 = input \"x\" : i64[2] client\n{w}  v2 = gather v1, v0 {{axis 0}} : f32[2,3] shared\n}}\n"
            ),
        ),
        (
            "computed weight",
            format!(
                "fused @g {{\n{x}{w}  v2 = add v1, v1 : f32[3,3] server\n  v3 = linear v0, v2 : f32[2,3] shared\n}}\n"
            ),
        ),
        ("huge shape", "graph @g {\n  v0 = input \"x\" : f32[4294967296,4294967296] client\n}\n".into()),
    ];
    let mut out = String::new();
    for (name, text) in texts {
        let report = match parse(&text, &store(w)) {
            Err(error) => format!("error: {error}"),
            Ok(listing) => verify(&listing.graph, listing.stage).expect_err(name).to_string(),
        };
        out += &format!("{name}\n{report}\n\n");
    }
    insta::assert_snapshot!(out);
}
