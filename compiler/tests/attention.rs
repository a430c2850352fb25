//! What is done to the scores of an attention, in one pass and in a generation: the exact programs of small fused graphs
//! against the float graph.

use std::collections::BTreeMap;
use std::sync::Arc;

use ir::{Limits, Pattern, Program};
use ndarray::{ArrayD, IxDyn};
use sscc::bounds;
use sscc::entries::{Entry, Plan};
use sscc::exact::{Decoding, Exact};
use sscc::graph::ops::windowed;
use sscc::graph::{self, Bias, DType, Graph, Node, NodeId, Op, Owner, Tensor};
use sscc::lower::draft::Draft;
use sscc::lower::variant::Link;
use sscc::lower::{self, Context, Rungs, Step};
use sscc::pass::{assign_width, resize};
use sscc::{calibrate, emit, samples, schedule};

const POSITIONS: usize = 10;
const WIDTH: usize = 16;
const HEADS: usize = 4;
const CLASSES: usize = 24;

/// Greatest error of an element; they are about 1 in size.
const ERROR: f32 = 0.02;

/// Deterministic numbers in [-1, 1].
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

struct Maker {
    graph: Graph,
    numbers: Numbers,
}

impl Maker {
    fn node(&mut self, op: Op, shape: &[usize], owner: Owner, operands: &[NodeId]) -> NodeId {
        let dtype = if matches!(op, Op::Input { .. }) { DType::I64 } else { DType::F32 };
        let origin = format!("node {}", self.graph.dag.node_count());
        self.graph.add(Node { op, shape: shape.to_vec(), dtype, owner, origin }, operands)
    }

    fn weight(&mut self, shape: &[usize], size: f32) -> NodeId {
        let numbers = &mut self.numbers;
        let value = ArrayD::from_shape_simple_fn(IxDyn(shape), || numbers.next() * size);
        let name = format!("weight {}", self.graph.dag.node_count());
        self.node(Op::Weight { name, value: Arc::new(value) }, shape, Owner::Server, &[])
    }
}

/// What is done to scores.
#[derive(Clone, Copy, Default)]
struct About {
    kv_heads: Option<usize>,
    softcap: Option<f32>,
    bias: Option<Bias>,
    /// The bias is a constant.
    public: bool,
    window: Option<u32>,
    sinks: bool,
}

/// Tokens, their queries, keys and values, one attention.
fn attention(about: About) -> Graph {
    let mut m = Maker { graph: Graph::default(), numbers: Numbers(5) };
    let ids = m.node(Op::Input { name: "input_ids".to_owned() }, &[1, POSITIONS], Owner::Client, &[]);
    m.graph.inputs.push(ids);
    let kv_heads = about.kv_heads.unwrap_or(HEADS);
    let kv_width = WIDTH / HEADS * kv_heads;
    let parts: Vec<NodeId> = [(WIDTH, 4.0), (kv_width, 1.0), (kv_width, 1.0)]
        .into_iter()
        .map(|(width, size)| {
            let table = m.weight(&[CLASSES, width], size);
            m.node(Op::Embed, &[1, POSITIONS, width], Owner::Shared, &[ids, table])
        })
        .collect();
    let mut operands = parts;
    if let Some(form) = about.bias {
        let shape = match form {
            Bias::Scores => vec![HEADS, POSITIONS, POSITIONS],
            Bias::Distances => vec![HEADS, POSITIONS],
        };
        let mut bias = m.weight(&shape, 2.0);
        if about.public {
            let Op::Weight { value, .. } = m.graph.node(bias).op.clone() else { unreachable!("a weight") };
            bias = m.node(Op::Const(Arc::new(Tensor::F32((*value).clone()))), &shape, Owner::Public, &[]);
        }
        operands.push(bias);
    }
    if about.sinks {
        operands.push(m.weight(&[HEADS], 2.0));
    }
    let count = POSITIONS as u32;
    let op = Op::Attention {
        heads: HEADS,
        kv_heads,
        pattern: about.window.map_or_else(|| Pattern::causal(count, count), |size| windowed(count, count, size)),
        softcap: about.softcap,
        bias: about.bias,
        window: about.window,
        sinks: about.sinks,
    };
    let y = m.node(op, &[1, POSITIONS, WIDTH], Owner::Shared, &operands);
    m.graph.outputs.push(("y".to_owned(), y));
    m.graph.sweep();
    graph::verify(&m.graph, graph::Stage::Fused).unwrap();
    m.graph
}

/// Programs of the entries, and the weights as integers.
fn programs(graph: &Graph, entries: &[Entry]) -> (Vec<Program>, Vec<Vec<i64>>) {
    let ranges = calibrate::run(graph, graph, &samples::make_up(graph), 1.0).unwrap();
    assert!(bounds::provable(graph).contains_key(&graph.outputs[0].1), "values bound what an attention gives");
    let rungs = Rungs::default();
    let mut drafts: Vec<Draft> = Vec::new();
    for entry in entries {
        let context = Context { step: entry.step, ..Context::new(&entry.graph, &ranges, &rungs, Link::LAN) };
        drafts.push(lower::run(&context, drafts.last().map_or_else(Draft::default, Draft::beside)).unwrap());
    }
    let (last, others) = drafts.split_last_mut().unwrap();
    others.iter_mut().for_each(|draft| draft.share(last));
    let Ok(lowered) = assign_width::run_all(drafts, &|_| true) else { panic!("it fits") };
    let weights = lowered[0].0.weights.iter().zip(&lowered[0].1.weights);
    let weights = weights.map(|(decl, value)| emit::integers(value, decl.scale)).collect();
    let named = |(entry, (program, _)): (&Entry, (Program, Draft))| {
        let program = schedule::run(&Program { name: entry.name.clone(), ..program });
        ir::verify(&program, &Limits::default()).unwrap_or_else(|faults| panic!("{faults:#?}"));
        assert_eq!(ir::parse(&ir::print::program(&program)).as_ref(), Ok(&program));
        program
    };
    (entries.iter().zip(lowered).map(named).collect(), weights)
}

fn float(graph: &Graph, ids: &[i64]) -> Vec<f32> {
    let ids = Tensor::I64(ArrayD::from_shape_vec(IxDyn(&[1, ids.len()]), ids.to_vec()).unwrap());
    let sample = BTreeMap::from([("input_ids".to_owned(), ids)]);
    let outputs = graph::eval::evaluate(graph, &sample, None, &mut |_, _| {}).unwrap();
    let Tensor::F32(y) = &outputs[0].1 else { panic!("floats") };
    y.iter().copied().collect()
}

fn worst(got: &[f32], want: &[f32]) -> f32 {
    got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max)
}

/// Every position by a prefill of three tokens with one of padding and decode steps, and by one pass.
fn agrees(about: About, generates: bool) {
    let graph = attention(about);
    let ids: Vec<i64> = (0..POSITIONS as i64).map(|i| (i * 7 + 3) % CLASSES as i64).collect();
    let want = float(&graph, &ids);
    let once = [Entry { name: "prefill.10".to_owned(), step: Step::Once, graph: graph.clone() }];
    let (entries, weights) = programs(&graph, &once);
    let model = Exact::new(&entries, weights);
    let (_, step) = Decoding::begin(&model, &ids, 0, &[]).unwrap();
    assert!(step.broken.is_empty());
    let error = worst(&step.values(), &want);
    assert!(error < ERROR, "one pass is off by {error}");
    let positions = resize::positions(&graph);
    assert_eq!(positions.is_ok(), generates);
    let Ok(positions) = positions else { return };
    let plan = Plan { context: POSITIONS, prefill: vec![4], decode: vec![POSITIONS + 1] };
    let (entries, weights) = programs(&graph, &plan.entries(&graph, &positions));
    let model = Exact::new(&entries, weights);
    let (mut generation, step) = Decoding::begin(&model, &ids[..3], 1, &[]).unwrap();
    let mut error = worst(&step.values()[..3 * WIDTH], &want);
    for (at, &id) in ids.iter().enumerate().skip(3) {
        let step = generation.next(id, &[]).unwrap();
        assert!(step.broken.is_empty());
        error = error.max(worst(&step.values(), &want[at * WIDTH..]));
    }
    assert!(error < ERROR, "a generation is off by {error}");
}

#[test]
fn plain_scores() {
    agrees(About::default(), true);
    agrees(About { kv_heads: Some(1), ..About::default() }, true);
}

#[test]
fn bias_by_distance() {
    let about = About { bias: Some(Bias::Distances), ..About::default() };
    agrees(about, true);
    agrees(About { public: true, kv_heads: Some(2), ..about }, true);
}

#[test]
fn bias_of_every_score() {
    agrees(About { bias: Some(Bias::Scores), ..About::default() }, false);
    agrees(About { bias: Some(Bias::Scores), kv_heads: Some(2), public: true, ..About::default() }, false);
}

#[test]
fn windows() {
    for size in [1, 3, 9, 10] {
        agrees(About { window: Some(size), ..About::default() }, true);
    }
    agrees(About { window: Some(4), kv_heads: Some(2), bias: Some(Bias::Distances), ..About::default() }, true);
}

#[test]
fn capped_scores() {
    agrees(About { softcap: Some(12.0), ..About::default() }, true);
    agrees(About { softcap: Some(60.0), kv_heads: Some(2), ..About::default() }, true);
}

#[test]
fn sinks() {
    agrees(About { sinks: true, ..About::default() }, true);
    agrees(About { sinks: true, window: Some(4), softcap: Some(20.0), kv_heads: Some(2), ..About::default() }, true);
}
