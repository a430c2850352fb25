//! Lowerings of single operations, outside any construct: what their programs compute against the float graph.

use std::collections::BTreeMap;
use std::sync::Arc;

use ir::Limits;
use ir::eval::Arguments;
use ir::pair::Maker as Source;
use ndarray::{ArrayD, IxDyn};
use sscc::calibrate;
use sscc::graph::{self, DType, Function, Graph, Node, NodeId, Op, Owner, Stage, Tensor};
use sscc::lower::draft::Draft;
use sscc::lower::variant::Link;
use sscc::lower::{self, Context, Rungs};
use sscc::pass::assign_width;

/// Greatest error, absolute and relative.
const ERROR: f64 = 4e-3;

/// A graph of secret inputs "0", "1", ..
struct Maker(Graph);

impl Maker {
    fn new(shapes: &[&[usize]]) -> (Maker, Vec<NodeId>) {
        let mut graph = Graph::default();
        for (i, shape) in shapes.iter().enumerate() {
            let op = Op::Input { name: i.to_string() };
            let (shape, origin) = (shape.to_vec(), i.to_string());
            let node = Node { op, shape, dtype: DType::F32, owner: Owner::Client, origin };
            let id = graph.add(node, &[]);
            graph.inputs.push(id);
        }
        let inputs = graph.inputs.clone();
        (Maker(graph), inputs)
    }

    fn constant(&mut self, shape: &[usize], values: &[f32]) -> NodeId {
        let value = ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap();
        self.0.push(Op::Const(Arc::new(Tensor::F32(value))), &[], "constant")
    }

    fn truth(&mut self, values: &[bool]) -> NodeId {
        let value = ArrayD::from_shape_vec(IxDyn(&[values.len()]), values.to_vec()).unwrap();
        self.0.push(Op::Const(Arc::new(Tensor::Bool(value))), &[], "truth")
    }

    fn weight(&mut self, shape: &[usize], values: &[f32]) -> NodeId {
        let value = Arc::new(ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap());
        self.0.push(Op::Weight { name: "w".to_owned(), value }, &[], "w")
    }

    fn op(&mut self, op: Op, operands: &[NodeId]) -> NodeId {
        self.0.push(op, operands, "op")
    }

    /// Compiles with `y` as the output, runs in the clear and compares; gives the number of elements outside of tables.
    fn check(self, y: NodeId, calibration: &[&[f32]], inputs: &[&[f32]]) -> i64 {
        self.check_made((Source::Dealer, ERROR), y, calibration, inputs)
    }

    /// The same for who makes the material, with a greatest error.
    fn check_made(
        mut self,
        (maker, error): (Source, f64),
        y: NodeId,
        calibration: &[&[f32]],
        inputs: &[&[f32]],
    ) -> i64 {
        self.0.outputs.push(("y".to_owned(), y));
        let graph = self.0;
        graph::verify(&graph, Stage::Fused).unwrap();
        let sample = |values: &[&[f32]]| -> BTreeMap<String, Tensor> {
            let array = |(i, id): (usize, &NodeId)| {
                let shape = IxDyn(&graph.node(*id).shape);
                (i.to_string(), Tensor::F32(ArrayD::from_shape_vec(shape, values[i].to_vec()).unwrap()))
            };
            graph.inputs.iter().enumerate().map(array).collect()
        };
        let ranges = calibrate::run(&graph, &graph, &[sample(calibration)], 1.0).unwrap();
        let rungs = Rungs::default();
        let context = Context { maker, ..Context::new(&graph, &ranges, &rungs, Link::LAN) };
        let draft = lower::run(&context, Draft::default()).unwrap();
        let Ok((mut program, draft)) = assign_width::run(draft, &|_| true) else { panic!("it fits 64 bits") };
        program.name = "model".to_owned();
        ir::verify(&program, &Limits::default()).unwrap_or_else(|faults| panic!("{faults:#?}"));
        let text = ir::print::program(&program);
        assert_eq!(ir::parse(&text).as_ref(), Ok(&program), "{text}");

        let weights: Vec<Vec<i64>> = program
            .weights
            .iter()
            .zip(&draft.weights)
            .map(|(w, v)| v.iter().map(|&v| (f64::from(v) * f64::from(w.scale).exp2()).round() as i64).collect())
            .collect();
        let encoded: Vec<Vec<i64>> = program
            .inputs
            .iter()
            .enumerate()
            .map(|(i, input)| {
                let unit = f64::from(input.ty.scale).exp2();
                inputs[i].iter().map(|&v| (f64::from(v) * unit).round() as i64).collect()
            })
            .collect();
        let got = ir::eval::eval(&program, Arguments { inputs: &encoded, weights: &weights, publics: &[] }).unwrap();
        assert_eq!(got.broken_claims, []);
        let scale = program.instrs.iter().find_map(|i| match i.op {
            ir::Op::Reveal { x, .. } => Some(program.ty(x).scale),
            _ => None,
        });
        let unit = f64::from(scale.unwrap()).exp2();
        let want = graph::eval::evaluate(&graph, &sample(inputs), None, &mut |_, _| {}).unwrap();
        let want = graph::kernel::floats(&want[0].1);
        let outside = got.outputs.get(1).map_or(0, |o| o[0]);
        assert_eq!(got.outputs[0].len(), want.len());
        for (&got, &want) in got.outputs[0].iter().zip(&want) {
            let (got, want) = (got as f64 / unit, f64::from(want));
            let near = (got - want).abs() <= error * (1.0 + want.abs());
            assert!(near || outside > 0, "{got} is not {want}; {outside} outside");
        }
        outside
    }
}

/// One input of six numbers through an op.
fn one(op: Op, values: [f32; 6]) {
    let (mut m, inputs) = Maker::new(&[&[2, 3]]);
    let y = m.op(op, &inputs);
    assert_eq!(m.check(y, &[&values], &[&values]), 0);
}

#[test]
fn functions() {
    use Function::*;
    let any = [-3.0, -0.5, 0.0, 0.25, 1.75, 6.0];
    for f in [
        Relu {},
        LeakyRelu { alpha: 0.1 },
        Abs {},
        Clip { low: -1.0, high: 2.0 },
        HardSigmoid { alpha: 0.2, beta: 0.5 },
        HardSwish {},
        ThresholdedRelu { alpha: 0.5 },
        Sign {},
        Floor {},
        Ceil {},
        Round {},
        Tanh {},
        Sigmoid {},
        Softplus {},
        Softsign {},
        Exp {},
        Erf {},
        Elu { alpha: 1.0 },
        Selu { alpha: 1.6733, gamma: 1.0507 },
        Celu { alpha: 2.0 },
        Mish {},
        Sin {},
        Cos {},
        Atan {},
        Shrink { lambda: 0.5, bias: 0.25 },
        Power { exponent: 2.0 },
        Power { exponent: 3.0 },
    ] {
        one(Op::Unary(f), any);
    }
    let positive = [0.2, 0.5, 1.0, 1.25, 3.0, 9.0];
    for f in [Log {}, Sqrt {}, Reciprocal {}, Power { exponent: -0.5 }, Power { exponent: 1.5 }] {
        one(Op::Unary(f), positive);
    }
    one(Op::Unary(Reciprocal {}), positive.map(|x| -x));
    one(Op::Unary(Acos {}), [-1.0, -0.5, 0.0, 0.3, 0.9, 1.0]);
}

#[test]
fn reductions() {
    let values = [-3.0, 1.5, 1.5, 0.25, -1.75, 6.0];
    for axes in [vec![0], vec![1], vec![0, 1]] {
        one(Op::ReduceSum { axes: axes.clone() }, values);
        one(Op::ReduceMean { axes: axes.clone() }, values);
        one(Op::ReduceMax { axes }, values);
    }
    for (axis, last) in [(0, false), (1, false), (1, true)] {
        one(Op::ArgMax { axis, last }, values);
        one(Op::ArgMax { axis, last }, [2.0; 6]);
    }
    for axis in [0, 1] {
        one(Op::Softmax { axis }, values);
    }
    one(Op::Softmax { axis: 1 }, [100.0, 99.0, 0.0, -40.0, -41.0, -40.5]);
}

#[test]
fn two_secrets() {
    let (x, y) = ([-3.0, 1.5, 2.0, 0.25, -1.75, 6.0], [2.0, 0.5, 4.0]);
    for op in [Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Less, Op::LessOrEqual] {
        let (mut m, inputs) = Maker::new(&[&[2, 3], &[3]]);
        let y_id = m.op(op, &inputs);
        assert_eq!(m.check(y_id, &[&x, &y], &[&x, &y]), 0);
    }
    let base = [3.0, 1.5, 2.0, 0.5, 1.75, 4.0];
    let (mut m, inputs) = Maker::new(&[&[2, 3], &[3]]);
    let power = m.op(Op::Pow, &inputs);
    m.check(power, &[&base, &y], &[&base, &y]);
    for (a, b) in [(&[2, 3][..], &[3, 2][..]), (&[6], &[6]), (&[2, 1, 3], &[3, 2]), (&[2, 3], &[3])] {
        let (mut m, inputs) = Maker::new(&[a, b]);
        let product = m.op(Op::MatMul, &inputs);
        let other: Vec<f32> = x[..b.iter().product()].iter().map(|v| 1.0 - v).collect();
        m.check(product, &[&x, &other], &[&x, &other]);
    }
}

#[test]
fn a_secret_and_what_is_known() {
    let x = [-3.0, 1.5, 2.0, 0.25, -1.75, 6.0];
    let known = [0.5, -2.0, 8.0];
    for op in [Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Less] {
        for server in [false, true] {
            for first in [false, true] {
                let (mut m, inputs) = Maker::new(&[&[2, 3]]);
                let k = if server { m.weight(&[3], &known) } else { m.constant(&[3], &known) };
                let y = m.op(op.clone(), &if first { [k, inputs[0]] } else { [inputs[0], k] });
                if first && op == Op::Div {
                    let positive = x.map(f32::abs);
                    m.check(y, &[&positive], &[&positive]);
                } else {
                    m.check(y, &[&x], &[&x]);
                }
            }
        }
    }
    for server in [false, true] {
        for (shape, first) in [(&[3, 2][..], false), (&[3, 2], true), (&[3], false), (&[2], true), (&[2, 3, 1], false)]
        {
            let (mut m, inputs) = Maker::new(&[&[2, 3]]);
            let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32 * 0.5 - 1.0).collect();
            let k = if server { m.weight(shape, &values) } else { m.constant(shape, &values) };
            let y = m.op(Op::MatMul, &if first { [k, inputs[0]] } else { [inputs[0], k] });
            m.check(y, &[&x], &[&x]);
        }
    }
    let (mut m, inputs) = Maker::new(&[&[2, 3]]);
    let exponents = m.constant(&[3], &[2.0, 3.0, 1.0]);
    let y = m.op(Op::Pow, &[inputs[0], exponents]);
    m.check(y, &[&x], &[&x]);
}

#[test]
fn choices() {
    let (x, y) = ([-3.0, 1.5, 2.0], [2.0, 1.5, -4.0]);
    let (mut m, inputs) = Maker::new(&[&[3], &[3]]);
    let less = m.op(Op::Less, &inputs);
    let chosen = m.op(Op::Where, &[less, inputs[0], inputs[1]]);
    m.check(chosen, &[&x, &y], &[&x, &y]);

    let (mut m, inputs) = Maker::new(&[&[3], &[3]]);
    let mask = m.truth(&[true, false, true]);
    let chosen = m.op(Op::Where, &[mask, inputs[0], inputs[1]]);
    m.check(chosen, &[&x, &y], &[&x, &y]);

    // What is not chosen may be of any size.
    let (mut m, inputs) = Maker::new(&[&[3]]);
    let mask = m.truth(&[true, false, true]);
    let other = m.constant(&[3], &[-3e38, 0.5, 3e38]);
    let chosen = m.op(Op::Where, &[mask, inputs[0], other]);
    m.check(chosen, &[&x], &[&x]);

    // not(x < y), as a number.
    let (mut m, inputs) = Maker::new(&[&[3], &[3]]);
    let less = m.op(Op::Less, &inputs);
    let (no, yes) = (m.truth(&[false]), m.truth(&[true]));
    let not = m.op(Op::Where, &[less, no, yes]);
    let number = m.op(Op::ToF32, &[not]);
    m.check(number, &[&x, &y], &[&x, &y]);
}

/// What calibration did not see is counted.
#[test]
fn elements_outside_are_counted() {
    let (mut m, inputs) = Maker::new(&[&[3]]);
    let y = m.op(Op::Unary(Function::Tanh {}), &inputs);
    assert_eq!(m.check(y, &[&[-1.0, 0.5, 1.0]], &[&[-1.2, 2.5, -1.9]]), 2);
}

/// Activations whose inputs reach far, as in models with massive channels: whoever makes the material.
#[test]
fn activations_of_any_reach() {
    // What reaches farthest is off by a little more.
    let (near, far) = ([2.0, 12.0], [30.0, 60.0, 150.0, 400.0]);
    for (maker, reaches, error) in [
        (Source::Dealer, &near[..], ERROR),
        (Source::Dealer, &far[..2], 2.0 * ERROR),
        (Source::Pair, &near, ERROR),
        (Source::Pair, &far, 3.0 * ERROR),
    ] {
        for reach in reaches.iter().copied() {
            let values = [-reach, -0.3 * reach, -0.5, 0.0, 1.25, 0.5 * reach, reach, 0.01 * reach];
            let (mut m, inputs) = Maker::new(&[&[1, 8]]);
            let y = m.op(Op::Unary(Function::Swish { beta: 1.0 }), &inputs);
            m.check_made((maker, error), y, &[&values], &[&values]);
        }
    }
}
