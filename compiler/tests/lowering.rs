//! Lowering of fused graphs that are made in code: rounds, widths, schedule.

use std::collections::BTreeMap;
use std::sync::Arc;

use ir::Pattern;
use ndarray::{ArrayD, IxDyn};
use sscc::graph::{DType, GeluForm, Graph, Node, NodeId, Op, Owner, Tensor};
use sscc::lower::variant::Link;
use sscc::lower::{self, Scales};
use sscc::pass::assign_width;
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

const SMALL: Sizes = Sizes { layers: 1, width: 64, heads: 4, vocabulary: 100, positions: 16 };

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
        let attention = Op::Attention { heads, pattern: Pattern::causal(t as u32, t as u32) };
        let y = m.shared(attention, &shape, &name("attn"), &part);
        let y = m.linear(y, &name("c_proj"), d);
        x = m.shared(Op::Add, &shape, &name("add_1"), &[x, y]);
        let y = m.shared(norm(), &shape, &name("ln_2"), &[x]);
        let y = m.linear(y, &name("c_fc"), 4 * d);
        let y = m.shared(Op::Gelu(GeluForm::Tanh), &[1, t, 4 * d], &name("gelu"), &[y]);
        let y = m.linear(y, &name("mlp"), d);
        x = m.shared(Op::Add, &shape, &name("add_2"), &[x, y]);
    }
    let x = m.shared(Op::Pick { axis: 1 }, &[1, 1, d], "last", &[x]);
    let y = m.shared(norm(), &[1, 1, d], "ln_f", &[x]);
    let y = m.linear(y, "lm_head", vocabulary);
    m.graph.outputs.push(("logits".to_owned(), y));
    m.graph
}

fn compile(graph: &Graph, link: Link) -> ir::Program {
    let ranges = calibrate::run(graph, &samples::make_up(graph), 1.0).unwrap();
    for &scales in Scales::LADDER {
        let draft = lower::run(graph, &ranges, scales, link).unwrap();
        match assign_width::run(draft) {
            Ok((program, _)) => {
                eprintln!("{scales:?}");
                return schedule::run(&program);
            }
            Err(overflow) => eprintln!("{overflow:?}"),
        }
    }
    panic!("no scales fit");
}

#[test]
fn show() {
    let mut costs = Vec::new();
    for layers in [1, 2] {
        let p = compile(&gpt2(Sizes { layers, ..SMALL }, true), Link::LAN);
        let c = ir::cost::cost(&p);
        if layers == 1 {
            println!("{}", ir::print::program(&p));
        }
        costs.push((c.rounds, c.one_way_messages));
    }
    println!("{costs:?}");
    let _: BTreeMap<String, Tensor> = BTreeMap::new();
}

/// The cleartext reference of a program against the float graph.
#[test]
fn reference() {
    let sizes = Sizes { layers: 2, ..SMALL };
    for centred in [true] {
        let graph = gpt2(sizes, centred);
        let inputs = samples::make_up(&graph);
        let ranges = calibrate::run(&graph, &inputs, 1.0).unwrap();
        let draft = lower::run(&graph, &ranges, Scales::LADDER[0], Link::LAN).unwrap();
        let (program, draft) = assign_width::run(draft).unwrap();
        let weights: Vec<Vec<i64>> = program
            .weights
            .iter()
            .zip(&draft.weights)
            .map(|(d, w)| w.iter().map(|v| (f64::from(*v) * f64::from(d.scale).exp2()).round() as i64).collect())
            .collect();
        let mut worst = 0f64;
        for sample in &inputs[..1] {
            let Tensor::I64(ids) = &sample["input_ids"] else { panic!() };
            let one_hot: Vec<i64> =
                ids.iter().flat_map(|&id| (0..sizes.vocabulary as i64).map(move |c| i64::from(c == id))).collect();
            let arguments =
                ir::eval::Arguments { inputs: &[one_hot], weights: &weights, publics: &[sizes.positions as u32 - 1] };
            let mut float: BTreeMap<String, Vec<f32>> = BTreeMap::new();
            sscc::graph::eval::evaluate(&graph, sample, None, &mut |id, t| {
                if let Tensor::F32(t) = t {
                    float.insert(graph.node(id).origin.clone(), t.iter().copied().collect());
                }
            })
            .unwrap();
            let mut last: BTreeMap<String, (usize, f64)> = BTreeMap::new();
            let got = ir::eval::eval_with(&program, arguments, |v, x| {
                let i = &program.instrs[v.index()];
                let o = &program.origins[i.origin.unwrap().index()];
                let Some(f) = float.get(o) else { return };
                if f.len() == x.len() {
                    let s = f64::from(i.ty.as_ref().unwrap().scale).exp2();
                    let e = x.iter().zip(f).map(|(a, b)| (*a as f64 / s - f64::from(*b)).abs()).fold(0.0, f64::max);
                    last.insert(o.clone(), (v.index(), e));
                }
            })
            .unwrap();
            let mut l: Vec<_> = last.into_iter().collect();
            l.sort_by_key(|x| x.1.0);
            for (o, (i, e)) in l {
                println!("{i} {o} {e:.5}");
            }
            println!("broken {}", got.broken_claims.len());
            for (v, n) in got.broken_claims.iter().take(5) {
                println!("{n}: {}", ir::print::instr(&program, v.index(), &program.instrs[v.index()]));
            }
            let want = sscc::graph::eval::evaluate(&graph, sample, None, &mut |_, _| {}).unwrap();
            let Tensor::F32(want) = &want[0].1 else { panic!() };
            let scale = program
                .ty(match program.instrs.last().unwrap().op {
                    ir::Op::Reveal { x, .. } => x,
                    _ => panic!(),
                })
                .scale;
            println!("{worst}");
            for (g, w) in got.outputs[0].iter().zip(want) {
                worst = worst.max((*g as f64 / f64::from(scale).exp2() - f64::from(*w)).abs());
            }
        }
        println!("centred {centred}: worst {worst}");
    }
}
