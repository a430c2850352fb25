//! Lowering of fused graphs that are made in code: rounds, widths, schedule, and the values that programs compute.

use std::sync::Arc;

use ir::eval::Arguments;
use ir::program::{Encoding, Input, Output};
use ir::{Kind, Limits, Party, Pattern, Program, Shape, Type, Value};
use ndarray::{ArrayD, IxDyn};
use sscc::graph::{self, DType, Function, GeluForm, Graph, Node, NodeId, Op, Owner, Tensor};
use sscc::lower::draft::Draft;
use sscc::lower::variant::Link;
use sscc::lower::{self, Context, Rungs, Scales};
use sscc::pass::{assign_width, group_channels};
use sscc::samples::Arrays;
use sscc::{calibrate, samples, schedule};

/// Sizes of a GPT-2.
#[derive(Clone, Copy)]
struct Sizes {
    layers: usize,
    width: usize,
    heads: usize,
    vocabulary: usize,
    positions: usize,
}

const SMALL: Sizes = Sizes { layers: 2, width: 64, heads: 4, vocabulary: 100, positions: 16 };

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
    fn node(&mut self, op: Op, shape: &[usize], owner: Owner, origin: &str, operands: &[NodeId]) -> NodeId {
        let dtype = if matches!(op, Op::Input { .. }) { DType::I64 } else { DType::F32 };
        self.graph.add(Node { op, shape: shape.to_vec(), dtype, owner, origin: origin.to_owned() }, operands)
    }

    fn shared(&mut self, op: Op, shape: &[usize], origin: &str, operands: &[NodeId]) -> NodeId {
        self.node(op, shape, Owner::Shared, origin, operands)
    }

    fn weight(&mut self, name: &str, shape: &[usize], size: f32) -> NodeId {
        let numbers = &mut self.numbers;
        let value = ArrayD::from_shape_simple_fn(IxDyn(shape), || numbers.next() * size);
        let op = Op::Weight { name: name.to_owned(), value: Arc::new(value) };
        self.node(op, shape, Owner::Server, name, &[])
    }

    fn linear(&mut self, x: NodeId, name: &str, to: usize) -> NodeId {
        let mut shape = self.graph.node(x).shape.clone();
        let from = *shape.last().unwrap();
        *shape.last_mut().unwrap() = to;
        let w = self.weight(&format!("{name}.weight"), &[from, to], 1.5 / (from as f32).sqrt());
        let b = self.weight(&format!("{name}.bias"), &[to], 0.1);
        self.shared(Op::Linear, &shape, name, &[x, w, b])
    }
}

/// A fused GPT-2 with made-up weights; its rows are not centred, so `centred` is honest.
fn gpt2(sizes: Sizes, centred: bool) -> Graph {
    let Sizes { layers, width: d, heads, vocabulary, positions: t } = sizes;
    let mut m = Maker { graph: Graph::default(), numbers: Numbers(7) };
    let ids = m.node(Op::Input { name: "input_ids".to_owned() }, &[1, t], Owner::Client, "input_ids", &[]);
    m.graph.inputs.push(ids);
    let shape = [1, t, d];
    let table = m.weight("wte", &[vocabulary, d], 0.5);
    let rows = m.weight("wpe", &[1, t, d], 0.5);
    let x = m.shared(Op::Embed, &shape, "wte", &[ids, table]);
    let mut x = m.shared(Op::AddWeight, &shape, "wpe", &[x, rows]);
    let norm = || Op::Normalize { epsilon: 1e-5, centred };
    for layer in 0..layers {
        let name = |part: &str| format!("h.{layer}.{part}");
        let y = m.shared(norm(), &shape, &name("ln_1"), &[x]);
        let qkv = m.linear(y, &name("c_attn"), 3 * d);
        let part: Vec<NodeId> = (0..3)
            .map(|i| m.shared(Op::Slice { axis: 2, from: i * d, to: (i + 1) * d }, &shape, &name("split"), &[qkv]))
            .collect();
        let attention = Op::attention(heads, Pattern::causal(t as u32, t as u32));
        let y = m.shared(attention, &shape, &name("attn"), &part);
        let y = m.linear(y, &name("c_proj"), d);
        x = m.shared(Op::Add, &shape, &name("add_1"), &[x, y]);
        let y = m.shared(norm(), &shape, &name("ln_2"), &[x]);
        let y = m.linear(y, &name("c_fc"), 4 * d);
        let y = m.shared(Op::Unary(Function::Gelu(GeluForm::Tanh)), &[1, t, 4 * d], &name("gelu"), &[y]);
        let y = m.linear(y, &name("mlp"), d);
        x = m.shared(Op::Add, &shape, &name("add_2"), &[x, y]);
    }
    let x = m.shared(Op::Pick { axis: 1 }, &[1, 1, d], "last", &[x]);
    let y = m.shared(norm(), &[1, 1, d], "ln_f", &[x]);
    let y = m.linear(y, "lm_head", vocabulary);
    m.graph.outputs.push(("logits".to_owned(), y));
    m.graph
}

/// A program before scheduling, and what belongs to it.
struct Lowered {
    graph: Graph,
    samples: Vec<Arrays>,
    program: Program,
    draft: Draft,
}

/// The pipeline from calibration to widths.
fn lowered(mut graph: Graph, link: Link) -> Lowered {
    let samples = samples::make_up(&graph);
    let mut ranges = calibrate::run(&graph, &graph, &samples, 1.0).unwrap();
    group_channels::run(&mut graph, &mut ranges);
    let fits = |rung| {
        let rungs = Rungs(graph.order().into_iter().map(|id| (id, rung)).collect());
        let context = Context::new(&graph, &ranges, &rungs, link);
        assign_width::run(lower::run(&context, Draft::default()).unwrap(), &|_| false).ok()
    };
    let (mut program, draft) = (0..Scales::LADDER.len()).find_map(fits).expect("scales that fit");
    program.name = "model".to_owned();
    Lowered { graph, samples, program, draft }
}

/// It verifies and survives its text form.
fn check(program: &Program) {
    ir::verify(program, &Limits::default()).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let text = ir::print::program(program);
    assert_eq!(ir::parse(&text).as_ref(), Ok(program), "{text}");
}

/// Rounds and one-way messages of a layer: what a third one adds.
fn of_a_layer(link: Link) -> (u64, u64) {
    let [two, three] = [2, 3].map(|layers| {
        let program = lowered(gpt2(Sizes { layers, ..SMALL }, true), link).program;
        check(&program);
        let schedule = schedule::run(&program);
        check(&schedule);
        ir::cost::cost(&schedule)
    });
    (three.rounds - two.rounds, three.one_way_messages - two.one_way_messages)
}

#[test]
fn rounds_of_a_layer() {
    // Where a round costs no time, exponentials and activations are read narrow and extended.
    let near = Link { rtt_seconds: 0.0, bits_per_second: 1e9 };
    assert_eq!(of_a_layer(near), (17, 4));
    assert_eq!(of_a_layer(Link::WAN), (14, 4));
}

/// The integers of every weight at its scale, as the server holds them.
fn encoded(program: &Program, draft: &Draft) -> Vec<Vec<i64>> {
    let pairs = program.weights.iter().zip(&draft.weights);
    let encode = |scale: ir::Scale, v: f32| (f64::from(v) * f64::from(scale).exp2()).round() as i64;
    pairs.map(|(decl, value)| value.iter().map(|&v| encode(decl.scale, v)).collect()).collect()
}

/// The cleartext reference of a program against the float graph.
#[test]
fn programs_compute_what_graphs_compute() {
    for centred in [true, false] {
        let Lowered { graph, samples, program, draft } = lowered(gpt2(SMALL, centred), Link::LAN);
        let weights = encoded(&program, &draft);
        let revealed = program.instrs.iter().find_map(|i| match i.op {
            ir::Op::Reveal { x, output, .. } if output.index() == 0 => Some(x),
            _ => None,
        });
        let unit = f64::from(program.ty(revealed.unwrap()).scale).exp2();
        for sample in &samples[..2] {
            let Tensor::I64(ids) = &sample["input_ids"] else { panic!("ids are integers") };
            let classes = 0..SMALL.vocabulary as i64;
            let one_hot = ids.iter().flat_map(|&id| classes.clone().map(move |class| i64::from(class == id))).collect();
            let last = SMALL.positions as u32 - 1;
            let value = |name: &str| if name == "prompt" { last + 1 } else { last };
            let publics: Vec<u32> = program.publics.iter().map(|public| value(&public.name)).collect();
            let arguments = Arguments { inputs: &[one_hot], weights: &weights, publics: &publics };
            let got = ir::eval::eval(&program, arguments).unwrap();
            assert_eq!(got.broken_claims, [], "centred: {centred}");
            assert_eq!(got.outside(&program), Some(0), "centred: {centred}");
            let want = graph::eval::evaluate(&graph, sample, None, &mut |_, _| {}).unwrap();
            let Tensor::F32(want) = &want[0].1 else { panic!("logits are floats") };
            let error = |(&g, &w): (&i64, &f32)| (g as f64 / unit - f64::from(w)).abs();
            assert_eq!(got.outputs[0].len(), want.len());
            let worst = got.outputs[0].iter().zip(want).map(error).fold(0.0, f64::max);
            assert!(worst < 0.005, "centred: {centred}, a logit is off by {worst}");
        }
    }
}

/// Reveals x² + 0 of |x| < 1 at few fractional bits but with a wide bound: `down` reads 50 bits more than the 22 that are
/// revealed. |x²| < 1 is said where `lift_point` is set.
fn square_and_round(lift_point: bool) -> Draft {
    let mut draft = Draft::default();
    draft.set_origin(NodeId::new(0), "square");
    let ty = Type { kind: Kind::Share, width: 0, scale: 30, shape: Shape(vec![4]) };
    let x = draft.input(Input { name: "x".to_owned(), shape: Shape(vec![4]), encoding: Encoding::Fixed, ty });
    let opened = draft.open_within(x, 1.0);
    let square = draft.square(opened);
    draft.set_origin(NodeId::new(1), "round");
    let rounded = draft.down_to(square, 10);
    if lift_point {
        draft.may_lift(rounded, 1.0);
    }
    draft.output_bounds.push(1024.0);
    draft.reveal(rounded, Output { name: "y".to_owned(), shape: Shape(vec![4]), to: Party::Client });
    draft
}

#[test]
fn width_runs_out() {
    let Err(overflow) = assign_width::run(square_and_round(false), &|_| true) else { panic!("72 bits fit no ring") };
    assert_eq!((overflow.origin.as_str(), overflow.needed), ("square", 72));
}

#[test]
fn lift_points_regain_width() {
    let Ok((mut program, _)) = assign_width::run(square_and_round(true), &|_| true) else { panic!("a lift helps") };
    program.name = "square_and_round".to_owned();
    let names: Vec<&str> = program.instrs.iter().map(|i| i.op.mnemonic()).collect();
    assert_eq!(names, ["input", "open", "square", "down", "extend", "reveal"]);
    let widths = [0, 2, 3, 4].map(|i| program.ty(Value(i)).width);
    assert_eq!(widths, [33, 63, 13, 22]);
    check(&program);
    check(&schedule::run(&program));
    let half = 1 << 29;
    let inputs = [vec![half, -half, 0, 3 * half / 2]];
    let got = ir::eval::eval(&program, Arguments { inputs: &inputs, weights: &Vec::<Vec<i64>>::new(), publics: &[] })
        .unwrap();
    assert_eq!((got.outputs, got.broken_claims), (vec![vec![256, 256, 0, 576]], vec![]));
}

/// Activations that are bounded far below their period leave the series a whole one.
#[test]
fn narrow_claims_of_activations() {
    let lowered = lowered(gpt2(Sizes { width: 8, heads: 2, ..SMALL }, true), Link::LAN);
    check(&lowered.program);
}
