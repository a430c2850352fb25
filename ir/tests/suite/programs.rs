//! Programs that several tests share.

use ir::program::{Encoding, Input, Output, Public, State, WeightDecl};
use ir::*;

pub fn shape(dims: &[u32]) -> Shape {
    Shape(dims.to_vec())
}

pub fn share(width: Width, scale: Scale, dims: &[u32]) -> Type {
    Type { kind: Kind::Share, width, scale, shape: shape(dims) }
}

pub fn fixed_input(name: &str, ty: Type) -> Input {
    Input { name: name.to_owned(), shape: ty.shape.clone(), encoding: Encoding::Fixed, ty }
}

pub fn weight(name: &str, scale: Scale, dims: &[u32]) -> WeightDecl {
    WeightDecl { name: name.to_owned(), scale, shape: shape(dims) }
}

/// A scheduled program with every op and every kind of table. Some names need quotes.
pub fn every_op() -> Program {
    let mut b = Builder::new("every op");
    b.scheduled();
    let tokens = b.input(Input {
        name: "tokens".to_owned(),
        shape: shape(&[3]),
        encoding: Encoding::OneHot { classes: 5 },
        ty: share(30, 0, &[3, 5]),
    });
    let table = b.weight(weight("embedding", 12, &[5, 4])).unwrap();
    let bias = b.weight(weight("bias \"b\"\n\u{202e}", 12, &[4])).unwrap();
    let head = b.weight(weight("head", 9, &[4, 2])).unwrap();
    let positions = b.weight(weight("positions", 12, &[6, 4])).unwrap();
    let band = b.weight(weight("band", 12, &[3, 2])).unwrap();
    let position = b.public(Public { name: "position".to_owned(), bound: 3 });
    let used = b.public(Public { name: "used".to_owned(), bound: 7 });
    let rows = b.state(State { name: "rows \"k\"".to_owned(), width: 30, scale: 12, row: shape(&[4]) });
    let logits = b.output(Output { name: "logits".to_owned(), shape: shape(&[1, 2]), to: Party::Client });
    let flags = b.output(Output { name: "flags".to_owned(), shape: shape(&[3]), to: Party::Client });
    let place = b.output(Output { name: "place".to_owned(), shape: shape(&[1]), to: Party::Client });
    let causal = b.table("causal", Table::Pattern(Pattern::causal(3, 3)));
    let steps = b.table("steps", Table::Thresholds(vec![-3, 0, 1 << 20]));
    let half = b.table("half", Table::Const { scale: -1, shape: shape(&[]), values: vec![1] });
    let shift = b.table("a shift", Table::Const { scale: 12, shape: shape(&[4]), values: vec![-1, 0, 1, 4096] });
    let turns = b.table("turns", Table::Const { scale: 0, shape: shape(&[3, 2]), values: vec![1, 0, -1, 2, 0, 1] });
    let knots: Vec<i64> = (0..40).map(|i| (i - 20) * 1000 + 7).collect();
    let reciprocal = b.table(
        "reciprocal",
        Table::Spline { scale: 20, a: (0..41).map(|i| i << 18).collect(), b: (0..41).map(|i| -i).collect(), knots },
    );
    let wave = Table::Series {
        period_log2: -2,
        public_scale: 13,
        dealt_scale: 14,
        c0: -77,
        cos: vec![1 << 23, -3],
        sin: vec![0, 1 << 22],
    };
    let wave = b.table("wave", wave);
    let values = vec![3 << 16, 1 << 19, 9, 1 << 14];
    let powers = b.table("powers", Table::Exp { public_scale: 12, dealt_scale: 15, values });
    let lines =
        Table::Cells { scale: 20, cell_bits: 9, a: vec![1, 2, -3, 4, 5, 6, 7, 8], b: vec![0, -1, 1, 0, 2, 3, 4, 5] };
    let lines = b.table("lines", lines);
    let node = b.origin("block/0");
    let norm = b.origin("block/0/ln");

    let mut op = |op: Op| {
        let origin = match op {
            Op::Input { .. } | Op::Round {} | Op::Send {} => None,
            Op::SumSquares { .. } | Op::Spline { .. } => Some(norm),
            _ => Some(node),
        };
        b.push(op, origin).unwrap()
    };
    let x = op(Op::Input { input: tokens });
    let x = op(Op::Linear { x, weight: table }); // 30.12 [3,4]
    op(Op::Send {});
    let x = op(Op::AddWeight { x, weight: bias });
    let x = op(Op::AddRow { x, weight: positions, index: position });
    let x = op(Op::AddBand { x, weight: band, index: position });
    let x = op(Op::AddPublic { x, table: shift });
    let y = op(Op::MulPublic { x, table: half }); // 30.11
    let y = op(Op::Point { x: y, scale: 12 });
    let y = op(Op::Sub { x: y, y: x });
    let x = op(Op::Add { x, y });
    let narrow = op(Op::Narrow { x, width: 28 });
    let o = op(Op::Open { x: narrow, width: 26, whole: false });
    let whole = op(Op::Open { x, width: 30, whole: true });
    let low = op(Op::Open { x, width: 10, whole: true });
    let sign = op(Op::Slice { x, axis: 1, from: 0, to: 1 });
    let sign = op(Op::Reshape { x: sign, shape: shape(&[3]) });
    let sign = op(Op::Open { x: sign, width: 20, whole: false });
    let pair = op(Op::Slice { x, axis: 1, from: 0, to: 2 });
    let pair = op(Op::Open { x: pair, width: 30, whole: true });
    op(Op::Round {});
    let lifted = op(Op::Lift { x: o, width: 48 }); // 48.12
    let square = op(Op::Square { x: o, width: 48 }); // 48.24
    let square = op(Op::Down { x: square, by: 12 }); // 36.12
    let square = op(Op::Up { x: square, by: 12 }); // 48.24
    let sums = op(Op::SumSquares { x: o, width: 40 }); // 40.24 [3,1]
    let product = op(Op::Mul { x: o, y: o, width: 60 }); // 60.24 [3,4]
    let product = op(Op::Narrow { x: product, width: 48 });
    let product = op(Op::Add { x: product, y: square });
    let scores = op(Op::Sddmm { x: whole, y: whole, pattern: causal }); // 30.24 [6]
    let chosen = op(Op::Select { d: sign, y: pair, width: 28 }); // 28.12 [3,2]
    let cached = op(Op::Cache { x: whole, state: rows, capacity: 5 }); // 30.12 [5,4]
    let rows = op(Op::RowSum { x: scores, pattern: causal, axis: 0 }); // [3]
    let spread = op(Op::Spread { x: rows, pattern: causal, axis: 0 }); // [6]
    let scores = op(Op::Sub { x: scores, y: spread });
    let scores = op(Op::Keep { x: scores, first: position, from: used, to: used, axis: 0 });
    let probabilities = op(Op::Open { x: scores, width: 30, whole: true });
    let extended = op(Op::Extend { x: narrow, claim: 20, width: 50 }); // 50.12 [3,4]
    let power = op(Op::Exp { x: whole, table: powers, width: 44 }); // 44.27 [3,4]
    let reached = op(Op::Compare { x: o, table: steps }); // 1.0 [3,4,3]
    let line = op(Op::Cells { x: o, table: lines, width: 33 }); // 33.20 [3,4]
    op(Op::Round {});
    let reached = op(Op::Bit { x: reached, width: 20 }); // 20.0 [3,4,3]
    op(Op::Round {});
    let mixed = op(Op::Spmm { x: probabilities, y: whole, pattern: causal }); // 30.36 [3,4]
    let smooth = op(Op::Series { x: low, table: wave, width: 30 }); // 30.27 [3,4]
    let curve = op(Op::Spline { x: o, table: reciprocal, width: 44, ends: true }); // 44.20 [3,4,2]
    let curve = op(Op::Slice { x: curve, axis: 2, from: 0, to: 1 });
    let curve = op(Op::Reshape { x: curve, shape: shape(&[3, 4]) });
    let above = op(Op::Ge { x: o, table: steps, width: 16 }); // 16.0 [3,4,3]
    let count = op(Op::Sum { x: above, axis: 1 }); // [3,1,3]
    let count = op(Op::Slice { x: count, axis: 2, from: 1, to: 2 }); // [3,1,1]
    let count = op(Op::Reshape { x: count, shape: shape(&[3]) });
    op(Op::Reveal { x: count, output: flags, to: Party::Client });
    let curve = op(Op::Transpose { x: curve, perm: vec![1, 0] }); // [4,3]
    let curve = op(Op::Transpose { x: curve, perm: vec![1, 0] });
    let curve = op(Op::Down { x: curve, by: 8 }); // 36.12
    let last = op(Op::Pick { x: curve, index: position, axis: 0 }); // [1,4]
    let last = op(Op::Linear { x: last, weight: head }); // 36.21 [1,2]
    op(Op::Send {});
    let last = op(Op::MulRow { x: last, table: turns, index: position });
    let wide = op(Op::Expand { x: last, shape: shape(&[2, 3, 2]) });
    op(Op::Reveal { x: last, output: logits, to: Party::Client });
    op(Op::Choose { x: sign, output: place });
    let both = op(Op::Concat { xs: vec![mixed, mixed, mixed], axis: 1 });
    let _ = (reached, extended, power, line, lifted, sums, product, smooth, both, chosen, cached, wide);
    b.finish()
}
