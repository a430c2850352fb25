//! Every protocol against plain integers, through dealer, client and server: random widths, shapes and edge values. The
//! cost model must claim exactly what was counted.

mod support;

use ir::eval::series_tolerance;
use ir::program::{Encoding, Input, Output, Public, WeightDecl};
use ir::{Builder, Kind, Op, Party, Pattern, Scale, Shape, Table, TableId, Type, Value, Width};
use support::{Case, Rng, push};

/// A program under test with its inputs.
struct Test {
    b: Builder,
    inputs: Vec<Vec<i64>>,
    weights: Vec<Vec<i64>>,
}

impl Test {
    fn new() -> Test {
        Test { b: Builder::new("test"), inputs: Vec::new(), weights: Vec::new() }
    }

    /// A client's input of `width` bits.
    fn input(&mut self, shape: &[u32], width: Width, scale: Scale, values: Vec<i64>) -> Value {
        let (name, shape) = (format!("x{}", self.inputs.len()), Shape(shape.to_vec()));
        let ty = Type { kind: Kind::Share, width, scale, shape: shape.clone() };
        let input = self.b.input(Input { name, shape, encoding: Encoding::Fixed, ty });
        self.inputs.push(values);
        push(&mut self.b, Op::Input { input })
    }

    /// Random values within the claim of an opening of `n` bits.
    fn claimed(&mut self, rng: &mut Rng, shape: &[u32], n: Width) -> Value {
        let values = rng.claimed(shape.iter().product::<u32>() as usize, n - 2);
        // The share is often wider than what is opened.
        let width = rng.within(n.into(), 64) as Width;
        let x = self.input(shape, width, 3, values);
        push(&mut self.b, Op::Open { x, width: n, whole: false })
    }

    fn round(&mut self) {
        push(&mut self.b, Op::Round {});
    }

    /// The value goes to the client.
    fn reveal(&mut self, x: Value) {
        let name = format!("y{}", self.b.program().outputs.len());
        let shape = self.b.ty(x).shape.clone();
        let output = self.b.output(Output { name, shape, to: Party::Client });
        push(&mut self.b, Op::Reveal { x, output, to: Party::Client });
    }

    fn finish(mut self) -> Case {
        self.b.scheduled();
        Case { program: self.b.finish(), inputs: self.inputs, weights: self.weights, publics: Vec::new() }
    }
}

fn width(rng: &mut Rng) -> Width {
    // Narrow and full widths more often than chance has it.
    match rng.within(0, 5) {
        0 => 64,
        1 => rng.within(1, 8) as Width,
        _ => rng.within(1, 64) as Width,
    }
}

fn claimed_width(rng: &mut Rng) -> Width {
    width(rng).max(3)
}

#[test]
fn lift() {
    let mut rng = Rng::new(1);
    for _ in 0..60 {
        let mut t = Test::new();
        let n = claimed_width(&mut rng);
        let x = t.claimed(&mut rng, &[3, 7], n);
        t.round();
        // Two readers of different widths share the carry and the top bit.
        for _ in 0..2 {
            let width = width(&mut rng);
            let y = push(&mut t.b, Op::Lift { x, width });
            t.reveal(y);
        }
        t.finish().check_exact(&mut rng);
    }
}

/// What is more than a message of transfers holds is made in parts.
#[test]
fn many_elements() {
    let mut rng = Rng::new(54);
    let mut t = Test::new();
    let x = t.claimed(&mut rng, &[5, 50_000], 20);
    t.round();
    let lifted = push(&mut t.b, Op::Lift { x, width: 30 });
    let squares = push(&mut t.b, Op::Square { x, width: 40 });
    t.reveal(lifted);
    t.reveal(squares);
    t.finish().check_exact(&mut rng);
}

#[test]
fn square_and_sum_squares() {
    let mut rng = Rng::new(2);
    for _ in 0..60 {
        let mut t = Test::new();
        let n = claimed_width(&mut rng);
        let x = t.claimed(&mut rng, &[4, 5], n);
        t.round();
        let (square, sum) = (width(&mut rng), width(&mut rng));
        let y = push(&mut t.b, Op::Square { x, width: square });
        let z = push(&mut t.b, Op::SumSquares { x, width: sum });
        t.reveal(y);
        t.reveal(z);
        t.finish().check_exact(&mut rng);
    }
}

#[test]
fn mul_with_broadcasting() {
    let mut rng = Rng::new(3);
    let shapes: [(&[u32], &[u32]); 7] = [
        (&[2, 3, 4], &[2, 3, 4]),
        (&[6, 4], &[6, 1]),
        (&[1, 4], &[6, 1]),
        (&[4], &[2, 3, 4]),
        (&[2, 1, 4], &[3, 1]),
        (&[], &[5]),
        (&[1], &[1, 1]),
    ];
    for i in 0..84 {
        let (of_x, of_y) = shapes[i % shapes.len()];
        let mut t = Test::new();
        let (n_x, n_y, width) = (claimed_width(&mut rng), claimed_width(&mut rng), width(&mut rng));
        let (x, y) = (t.claimed(&mut rng, of_x, n_x), t.claimed(&mut rng, of_y, n_y));
        t.round();
        let xy = push(&mut t.b, Op::Mul { x, y, width });
        let xx = push(&mut t.b, Op::Mul { x, y: x, width });
        t.reveal(xy);
        t.reveal(xx);
        t.finish().check_exact(&mut rng);
    }
}

/// A random pattern, every row of which keeps at least one column.
fn pattern(rng: &mut Rng, rows: u32, columns: u32) -> Pattern {
    let row = |_| {
        let from = rng.within(0, u64::from(columns) - 1);
        (from as u32, rng.within(from + 1, columns.into()) as u32)
    };
    Pattern { columns, rows: (0..rows).map(row).collect() }
}

fn whole(t: &mut Test, rng: &mut Rng, shape: &[u32], n: Width) -> Value {
    let count = shape.iter().product::<u32>() as usize;
    let share = rng.within(n.into(), 64) as Width;
    let values = (0..count).map(|_| (rng.next() as i64) >> (64 - n)).collect();
    let x = t.input(shape, share, 5, values);
    push(&mut t.b, Op::Open { x, width: n, whole: true })
}

#[test]
fn products_of_two_secrets() {
    let mut rng = Rng::new(4);
    let cases: [(&[u32], u32, u32, u32); 6] =
        [(&[], 1, 1, 1), (&[2], 3, 5, 4), (&[3, 2], 70, 9, 3), (&[], 65, 130, 8), (&[2], 64, 64, 16), (&[1], 7, 3, 1)];
    for (batch, rows, columns, k) in cases {
        for pattern in [
            pattern(&mut rng, rows, columns),
            Pattern::full(rows, columns),
            Pattern::causal(rows.min(columns), columns),
        ] {
            let rows = pattern.rows.len() as u32;
            let kept = pattern.kept() as u32;
            let shape = |dims: &[u32]| [batch, dims].concat();
            let (n_x, n_y) = (width(&mut rng), width(&mut rng));
            let mut t = Test::new();
            let x = whole(&mut t, &mut rng, &shape(&[rows, k]), n_x);
            let y = whole(&mut t, &mut rng, &shape(&[columns, k]), n_y);
            let packed = whole(&mut t, &mut rng, &shape(&[kept]), n_x);
            let n = claimed_width(&mut rng);
            let narrow = t.claimed(&mut rng, &shape(&[kept]), n);
            t.round();
            let pattern = t.b.table("pattern", Table::Pattern(pattern));
            let scores = push(&mut t.b, Op::Sddmm { x, y, pattern });
            let mixed = push(&mut t.b, Op::Spmm { x: packed, y, pattern });
            let narrow = push(&mut t.b, Op::Spmm { x: narrow, y, pattern });
            t.reveal(scores);
            t.reveal(mixed);
            t.reveal(narrow);
            t.finish().check_exact(&mut rng);
        }
    }
}

#[test]
fn linear() {
    let mut rng = Rng::new(5);
    for (batch, k, m) in [(vec![], 1, 1), (vec![3], 5, 7), (vec![2, 3], 33, 20), (vec![40], 16, 50)] {
        for _ in 0..4 {
            let mut t = Test::new();
            let n = width(&mut rng);
            let shape = [&batch[..], &[k]].concat();
            let count = shape.iter().product::<u32>();
            let x = t.input(&shape, n, 2, (0..count).map(|_| rng.next() as i64 >> (64 - n)).collect());
            let mut products = Vec::new();
            for name in ["first", "second"] {
                let weight = t.b.weight(WeightDecl { name: name.into(), scale: 4, shape: Shape(vec![k, m]) }).unwrap();
                t.weights.push(rng.claimed((k * m) as usize, 15));
                products.push(push(&mut t.b, Op::Linear { x, weight }));
            }
            push(&mut t.b, Op::Send {});
            products.into_iter().for_each(|y| t.reveal(y));
            t.finish().check_exact(&mut rng);
        }
    }
}

fn thresholds(rng: &mut Rng, count: usize, n: Width) -> Vec<i64> {
    let mut knots = rng.claimed(count, n - 2);
    knots.sort_unstable();
    knots.dedup();
    knots
}

#[test]
fn ge() {
    let mut rng = Rng::new(6);
    for _ in 0..60 {
        let mut t = Test::new();
        let (n, width) = (claimed_width(&mut rng), width(&mut rng));
        let count = rng.within(1, 12) as usize;
        let thresholds = thresholds(&mut rng, count, n);
        // Elements at and next to thresholds, too.
        let mut values = rng.claimed(30, n - 2);
        let limit = (1i64 << (n - 2)) - 1;
        for (v, i) in values.iter_mut().zip(0..) {
            if i % 3 == 0 {
                *v = (thresholds[i % thresholds.len()] + (i as i64 % 2) - 1).clamp(-limit, limit);
            }
        }
        let x = t.input(&[5, 6], n, 3, values);
        let x = push(&mut t.b, Op::Open { x, width: n, whole: false });
        t.round();
        let table = t.b.table("t", Table::Thresholds(thresholds));
        let y = push(&mut t.b, Op::Ge { x, table, width });
        t.reveal(y);
        t.finish().check_exact(&mut rng);
    }
}

#[test]
fn spline() {
    let mut rng = Rng::new(7);
    for _ in 0..60 {
        let mut t = Test::new();
        let (n, width) = (claimed_width(&mut rng), width(&mut rng));
        let count = rng.within(1, 20) as usize;
        let knots = thresholds(&mut rng, count, n);
        let several = knots.len() > 1;
        let mut coefficients = || (0..=knots.len()).map(|_| rng.next() as i64).collect::<Vec<i64>>();
        let (a, b) = (coefficients(), coefficients());
        let table = Table::Spline { scale: 9, knots, a, b };
        let x = t.claimed(&mut rng, &[11, 3], n);
        t.round();
        let table: TableId = t.b.table("s", table);
        let ends = several && rng.within(0, 1) == 1;
        let y = push(&mut t.b, Op::Spline { x, table, width, ends });
        t.reveal(y);
        t.finish().check_exact(&mut rng);
    }
}

/// A series with coefficients at [`ir::SERIES_FRACTION`] that fall off, as those of a fit do.
fn series_table(rng: &mut Rng, period_log2: i8, terms: u32, even: bool) -> Table {
    let mut coefficients =
        |count: u32| (0..count).map(|k| rng.next() as i64 >> (63 - 24 + k / 2)).collect::<Vec<i64>>();
    let (cos, sin) = (coefficients(terms), coefficients(if even { 0 } else { terms }));
    Table::Series { period_log2, public_scale: 15, dealt_scale: 14, c0: rng.next() as i64 >> 30, cos, sin }
}

#[test]
fn series() {
    let mut rng = Rng::new(8);
    for (i, terms) in [1, 2, 5, 12, 20, 3, 7].into_iter().enumerate() {
        let mut t = Test::new();
        let n = rng.within(4, 18) as Width;
        let scale = rng.within(1, 6) as Scale;
        let table = series_table(&mut rng, (i16::from(n) - scale) as i8, terms, i % 2 == 0);
        let width = rng.within(34, 64) as Width;
        let mut outputs = Vec::new();
        for is_whole in [true, false] {
            let values = rng.claimed(50, if is_whole { n - 1 } else { n - 2 });
            let x = t.input(&[50], 40, scale, values);
            // More bits than a period do no harm.
            let width = n + rng.within(0, 4) as Width;
            outputs.push(push(&mut t.b, Op::Open { x, width, whole: is_whole }));
        }
        t.round();
        let id = t.b.table("f", table.clone());
        for x in outputs {
            let y = push(&mut t.b, Op::Series { x, table: id, width });
            t.reveal(y);
        }
        let case = t.finish();
        let (got, want, tolerance) = (case.simulate(&mut rng), case.reference(), series_tolerance(&table));
        for (got, want) in got.iter().flatten().zip(want.outputs.iter().flatten()) {
            assert!((got - want).abs() <= tolerance, "{got} for {want}, tolerance {tolerance}");
        }
    }
}

/// Every claim and every width, and all values of the narrow ones.
#[test]
fn extend() {
    let mut rng = Rng::new(50);
    for claim in 3..=63 {
        for more in [1, rng.within(1, 64 - u64::from(claim)) as Width, 64 - claim] {
            let mut t = Test::new();
            let half = 1i64 << (claim - 2);
            let values = match claim {
                3..=9 => (1 - half..half).collect(),
                _ => [vec![1 - half, half - 1, 0, -1, 1], rng.claimed(30, claim - 2)].concat(),
            };
            let width = rng.within(claim.into(), 64) as Width;
            let x = t.input(&[values.len() as u32], width, 5, values);
            let y = push(&mut t.b, Op::Extend { x, claim, width: claim + more });
            t.round();
            t.reveal(y);
            t.finish().check_exact(&mut rng);
        }
    }
}

/// A line on each of 2^n cells, of a smooth function.
fn cells_table(n: u32, cell_bits: u8) -> Table {
    let (count, cell) = (1i64 << n, 1i64 << cell_bits);
    let f = |j: i64| (20_000.0 * (std::f64::consts::TAU * j as f64 / count as f64).sin()) as i64;
    let a: Vec<i64> = (0..count).map(f).collect();
    let b = (0..count).map(|j| (f(j + 1) - f(j - 1)) / (2 * cell)).collect();
    Table::Cells { scale: 9, cell_bits, a, b }
}

/// What a run gives is the line of the cell or of the next one, and nothing else, wherever the opening came from.
#[test]
fn cells() {
    let mut rng = Rng::new(51);
    for n in 1..=10u32 {
        let cell_bits = rng.within(1, 9) as u8;
        let mut t = Test::new();
        let table = cells_table(n, cell_bits);
        let bits = n as u8 + cell_bits;
        let width = rng.within(1, 64) as Width;
        let id = t.b.table("f", table.clone());
        let mut outputs = Vec::new();
        for is_whole in [true, false] {
            let opening = (bits + rng.within(0, 4) as Width).max(3);
            let values = rng.claimed(150, if is_whole { bits } else { opening - 2 });
            let x = t.input(&[150], 40, 3, values);
            outputs.push(push(&mut t.b, Op::Open { x, width: opening, whole: is_whole }));
        }
        t.round();
        let ys: Vec<Value> = outputs.into_iter().map(|x| push(&mut t.b, Op::Cells { x, table: id, width })).collect();
        t.round();
        ys.into_iter().for_each(|y| t.reveal(y));
        let case = t.finish();
        let Table::Cells { a, b, .. } = &table else { unreachable!() };
        for _ in 0..3 {
            let all = case.simulations(&mut rng);
            assert_eq!(all.len(), 2, "cells can be made");
            for (got, x) in all.iter().flat_map(|outputs| outputs.iter().zip(&case.inputs)) {
                for (&got, &x) in got.iter().zip(x) {
                    let (cell, d) = ((x >> cell_bits) as usize, x & ((1 << cell_bits) - 1));
                    let line = |j: usize, d: i64| {
                        ir::eval::signed(a[j & (a.len() - 1)].wrapping_add(b[j & (a.len() - 1)].wrapping_mul(d)), width)
                    };
                    let lines = [line(cell, d), line(cell.wrapping_add(1), d - (1 << cell_bits))];
                    assert!(lines.contains(&got), "f({x}) = {got}, not of {lines:?}; {n} and {cell_bits} bits");
                }
            }
        }
    }
}

/// Comparisons by digits, of openings with and without a claim, at every width; and their bits at any width.
#[test]
fn compare_and_bit() {
    let mut rng = Rng::new(53);
    let [least, most] = ir::digits::OPENINGS;
    for n in least..=most {
        let mut t = Test::new();
        let (x, y) = (t.claimed(&mut rng, &[9], n), whole(&mut t, &mut rng, &[3, 5], n));
        t.round();
        let reach = (1i64 << (n - 2)) - 1;
        let mut thresholds = vec![-reach, -1, 0, 1, reach];
        thresholds.extend((0..3).map(|_| rng.within(0, 2 * reach as u64) as i64 - reach));
        thresholds.sort_unstable();
        thresholds.dedup();
        let table = t.b.table("t", Table::Thresholds(thresholds));
        let reached = [x, y].map(|x| push(&mut t.b, Op::Compare { x, table }));
        t.round();
        let bits = reached.map(|x| push(&mut t.b, Op::Bit { x, width: width(&mut rng) }));
        t.round();
        bits.into_iter().for_each(|x| t.reveal(x));
        t.finish().check_exact(&mut rng);
    }
}

/// A table of exp up to cell `top`.
fn exp_table(n: u32, top: i64) -> Table {
    let count = 1i64 << n;
    let end = |j: i64| 2.0 * (if j <= top { j + 1 } else { j + 1 - count }) as f64;
    let values = (0..count).map(|j| (end(j).exp() * 65536.0).round() as i64).collect();
    Table::Exp { public_scale: 14, dealt_scale: 15, values }
}

#[test]
fn exp() {
    let mut rng = Rng::new(52);
    for (n, scale) in [(4u32, 10), (5, 0), (6, 12), (6, 10), (7, 6), (9, 16)] {
        let (top, bits) = (3, n as u8 + ir::exp::cell_bits(scale));
        let width = rng.within(40, 64) as Width;
        let mut t = Test::new();
        let table = t.b.table("exp", exp_table(n, top));
        let (lowest, highest) = ((2 * (top + 2 - (1 << n))) << scale, 2 << scale);
        let values: Vec<i64> = [lowest, highest, 0, -1, 1]
            .into_iter()
            .chain((0..400).map(|_| lowest + rng.within(0, (highest - lowest) as u64) as i64))
            .collect();
        let count = values.len() as u32;
        let mut outputs = Vec::new();
        for is_whole in [true, false] {
            let opening = if is_whole { bits } else { bits + 3 };
            let x = t.input(&[count], 50, scale, values.clone());
            outputs.push(push(&mut t.b, Op::Open { x, width: opening, whole: is_whole }));
        }
        t.round();
        let ys: Vec<Value> = outputs.into_iter().map(|x| push(&mut t.b, Op::Exp { x, table, width })).collect();
        t.round();
        ys.into_iter().for_each(|y| t.reveal(y));
        let case = t.finish();
        let reference = case.reference().outputs;
        let all = case.simulations(&mut rng);
        assert_eq!(all.len(), 2, "exp can be made");
        for outputs in all.iter().chain([&reference]) {
            for (got, &x) in outputs.iter().flat_map(|got| got.iter().zip(&values)) {
                let want = (x as f64 / f64::from(scale).exp2()).exp();
                let error = (*got as f64 / 2f64.powi(29) - want).abs();
                assert!(error < 1.3e-4 + 4e-4 * want, "exp({x} / 2^{scale}) is off by {error}");
            }
        }
    }
}

#[test]
fn select() {
    let mut rng = Rng::new(15);
    for (batch, components) in [(vec![], 1), (vec![7], 2), (vec![3, 5], 1), (vec![2, 3], 2), (vec![33], 1)] {
        for round in 0..6 {
            let mut t = Test::new();
            let d_whole = round % 2 == 1;
            let n = if d_whole { rng.within(2, 60) as Width } else { claimed_width(&mut rng) };
            let d = if d_whole { whole(&mut t, &mut rng, &batch, n) } else { t.claimed(&mut rng, &batch, n) };
            let n_y = width(&mut rng);
            let y = whole(&mut t, &mut rng, &[&batch[..], &[components]].concat(), n_y);
            t.round();
            let all = push(&mut t.b, Op::Select { d, y, width: n_y });
            let part = push(&mut t.b, Op::Select { d, y, width: rng.within(1, n_y.into()) as Width });
            t.reveal(all);
            t.reveal(part);
            t.finish().check_exact(&mut rng);
        }
    }
}

/// The index of the greatest of any number of values, by a tournament: pairs of a value and its index, halved by a round.
#[test]
fn argmax() {
    let mut rng = Rng::new(16);
    for count in [2u32, 3, 8, 13, 100] {
        let mut t = Test::new();
        let values: Vec<i64> = (0..count).map(|_| rng.within(0, 1 << 20) as i64 - (1 << 19)).collect();
        let greatest = (0..count as usize).max_by_key(|&i| (values[i], i)).unwrap();
        let value = t.input(&[count, 1], 30, 0, values);
        let none = t.b.table("none", Table::Const { scale: 0, shape: Shape(vec![]), values: vec![0] });
        let numbers = Table::Const { scale: 0, shape: Shape(vec![count, 1]), values: (0..count.into()).collect() };
        let numbers = t.b.table("numbers", numbers);
        let index = push(&mut t.b, Op::MulPublic { x: value, table: none });
        let index = push(&mut t.b, Op::AddPublic { x: index, table: numbers });
        let mut best = push(&mut t.b, Op::Concat { xs: vec![value, index], axis: 1 });
        let mut left = count;
        while left > 1 {
            let half = left / 2;
            let part = |t: &mut Test, from, to| push(&mut t.b, Op::Slice { x: best, axis: 0, from, to });
            let (a, b) = (part(&mut t, 0, half), part(&mut t, half, 2 * half));
            let odd = (left > 2 * half).then(|| part(&mut t, 2 * half, left));
            let delta = push(&mut t.b, Op::Sub { x: a, y: b });
            let d = push(&mut t.b, Op::Slice { x: delta, axis: 1, from: 0, to: 1 });
            let d = push(&mut t.b, Op::Reshape { x: d, shape: Shape(vec![half]) });
            let d = push(&mut t.b, Op::Open { x: d, width: 23, whole: false });
            let delta = push(&mut t.b, Op::Open { x: delta, width: 30, whole: true });
            t.round();
            let more = push(&mut t.b, Op::Select { d, y: delta, width: 30 });
            best = push(&mut t.b, Op::Add { x: b, y: more });
            if let Some(odd) = odd {
                best = push(&mut t.b, Op::Concat { xs: vec![best, odd], axis: 0 });
            }
            left = left.div_ceil(2);
        }
        t.reveal(best);
        let case = t.finish();
        case.check_exact(&mut rng);
        let got = case.simulate(&mut rng);
        assert_eq!(got[0][0], case.inputs[0][greatest], "{count} values");
        assert_eq!(case.inputs[0][got[0][1] as usize], got[0][0], "{count} values");
    }
}

/// More elements than a block, and not a multiple of eight.
#[test]
fn blocks_follow_each_other() {
    let mut rng = Rng::new(9);
    let count = 2 * protocols::BLOCK as u32 + 77;
    let mut t = Test::new();
    let x = t.claimed(&mut rng, &[count], 9);
    let values = rng.claimed(count as usize, 11);
    let y = t.input(&[count], 20, 7, values);
    let narrow = y;
    let y = push(&mut t.b, Op::Open { x: y, width: 12, whole: true });
    let pairs = whole(&mut t, &mut rng, &[count, 2], 17);
    t.round();
    let reached = t.b.table("t", Table::Thresholds(vec![-40, 0, 3]));
    let line = Table::Spline { scale: 9, knots: vec![-7, 50], a: vec![3, -2, 1], b: vec![5, 6, -7] };
    let line = t.b.table("s", line);
    let ge = push(&mut t.b, Op::Ge { x, table: reached, width: 11 });
    let spline = push(&mut t.b, Op::Spline { x, table: line, width: 27, ends: true });
    let table = series_table(&mut rng, 5, 3, false);
    let f = t.b.table("f", table.clone());
    let series = push(&mut t.b, Op::Series { x: y, table: f, width: 45 });
    let select = push(&mut t.b, Op::Select { d: x, y: pairs, width: 14 });
    let (claim, lines) = (19, cells_table(8, 4));
    let wide = push(&mut t.b, Op::Extend { x: narrow, claim, width: 40 });
    let f = t.b.table("cells", lines.clone());
    let cells = push(&mut t.b, Op::Cells { x: y, table: f, width: 30 });
    let e = t.b.table("exp", exp_table(4, 3));
    let exp = push(&mut t.b, Op::Exp { x: y, table: e, width: 50 });
    t.round();
    [ge, spline, series, select, wide, cells, exp].into_iter().for_each(|y| t.reveal(y));
    let case = t.finish();
    let (got, want) = (case.simulate(&mut rng), case.reference().outputs);
    assert_eq!(got[0], want[0]);
    assert_eq!(got[1], want[1]);
    assert_eq!(got[3], want[3]);
    let worst = got[2].iter().zip(&want[2]).map(|(a, b)| (a - b).abs()).max().unwrap();
    assert!(worst <= series_tolerance(&table), "{worst}");
    assert_eq!(got[4], want[4]);
    let worst = got[5].iter().zip(&want[5]).map(|(a, b)| (a - b).abs()).max().unwrap();
    assert!(worst <= ir::eval::cells_tolerance(&lines), "{worst}");
    for (got, want) in got[6].iter().zip(&want[6]).filter(|(_, want)| **want < 8 << 29) {
        assert!((got - want).abs() < (1 << 16) + want / 1000, "{got} for {want}");
    }
}

/// `down` rounds up or down, without bias, and never further; all other local ops are exact.
#[test]
fn local_ops() {
    let mut rng = Rng::new(10);
    for _ in 0..20 {
        let mut t = Test::new();
        let n = rng.within(20, 56) as Width;
        let by = rng.within(1, 10) as u8;
        let values = rng.claimed(24, n - 6);
        let x = t.input(&[2, 3, 4], n, 6, values);
        let row_values = rng.claimed(4, n - 6);
        let row = t.input(&[4], n, 6, row_values);
        let pattern = pattern(&mut rng, 3, 5);
        let kept_count = pattern.kept() as u32;
        let kept_values = rng.claimed(2 * kept_count as usize, n - 6);
        let kept = t.input(&[kept_count, 2], n, 6, kept_values);
        let pattern = t.b.table("p", Table::Pattern(pattern));
        let constant = Table::Const { scale: 6, shape: Shape(vec![3, 1]), values: vec![5, -6, 7] };
        let constant = t.b.table("c", constant);
        let turns = (0..20).map(|i| 3 * i - 31).collect();
        let turns = t.b.table("turns", Table::Const { scale: 6, shape: Shape(vec![5, 4]), values: turns });
        let weight = t.b.weight(WeightDecl { name: "bias".into(), scale: 6, shape: Shape(vec![4]) }).unwrap();
        t.weights.push(rng.claimed(4, 12));
        let rows = t.b.weight(WeightDecl { name: "rows".into(), scale: 6, shape: Shape(vec![5, 4]) }).unwrap();
        t.weights.push(rng.claimed(20, 12));
        let band = t.b.weight(WeightDecl { name: "band".into(), scale: 6, shape: Shape(vec![1, 3]) }).unwrap();
        t.weights.push(rng.claimed(3, 12));
        let [index, first, end] =
            [("last", 3), ("first", 2), ("end", 10)].map(|(n, bound)| t.b.public(Public { name: n.into(), bound }));
        let slice = push(&mut t.b, Op::Slice { x, axis: 1, from: 1, to: 3 });
        let sums = push(&mut t.b, Op::RowSum { x: kept, pattern, axis: 0 });
        let exact = [
            Op::Narrow { x, width: 12 },
            Op::Up { x, by: 64 - n },
            Op::Point { x, scale: -3 },
            Op::Add { x, y: row },
            Op::Sub { x: row, y: x },
            Op::AddPublic { x, table: constant },
            Op::MulPublic { x, table: constant },
            Op::AddWeight { x, weight },
            Op::Reshape { x, shape: Shape(vec![4, 6]) },
            Op::Transpose { x, perm: vec![2, 0, 1] },
            Op::Concat { xs: vec![slice, x, slice], axis: 1 },
            Op::Pick { x, index, axis: 1 },
            Op::Sum { x, axis: 1 },
            Op::Spread { x: sums, pattern, axis: 0 },
            Op::AddRow { x, weight: rows, index },
            Op::AddBand { x: kept, weight: band, index },
            Op::AddBand { x: kept, weight: band, index: end },
            Op::MulRow { x, table: turns, index },
            Op::MulRow { x: row, table: turns, index },
            Op::Expand { x, shape: Shape(vec![3, 2, 3, 4]) },
            Op::Expand { x: sums, shape: Shape(vec![1, 3, 2]) },
            Op::Keep { x, first, from: index, to: end, axis: 2 },
            Op::Keep { x: kept, first: index, from: end, to: first, axis: 0 },
        ]
        .map(|op| push(&mut t.b, op));
        exact.into_iter().for_each(|y| t.reveal(y));
        let down = push(&mut t.b, Op::Down { x, by });
        t.reveal(down);
        let mut case = t.finish();
        case.publics = vec![2, rng.within(0, 1) as u32, rng.within(0, 9) as u32];
        let (got, want) = (case.simulate(&mut rng), case.reference().outputs);
        assert_eq!(got[..23], want[..23], "{}", ir::print::program(&case.program));
        for (got, x) in got[23].iter().zip(&case.inputs[0]) {
            let floor = x >> by;
            assert!(*got == floor || *got == floor + i64::from(x % (1 << by) != 0), "{x} down {by} gives {got}");
        }
    }
}

#[test]
fn down_has_no_bias() {
    let mut rng = Rng::new(11);
    let mut t = Test::new();
    // Three quarters of an ulp above 10, 40,000 times, from a share that is not the plain input: a lifted opening.
    let x = t.input(&[40_000], 30, 2, vec![43; 40_000]);
    let x = push(&mut t.b, Op::Open { x, width: 30, whole: false });
    t.round();
    let x = push(&mut t.b, Op::Lift { x, width: 30 });
    let y = push(&mut t.b, Op::Down { x, by: 2 });
    t.reveal(y);
    let case = t.finish();
    let ups = case.simulate(&mut rng)[0].iter().filter(|&&v| v == 11).count();
    // Mean 30,000, standard deviation 87.
    assert!(ups.abs_diff(30_000) < 600, "{ups} of 40,000 rounded up");
}

/// Operands no narrower than the product may be opened whole, and so may what is compared.
#[test]
fn reads_of_whole_openings() {
    let mut rng = Rng::new(13);
    for _ in 0..30 {
        let mut t = Test::new();
        let width = rng.within(3, 40) as Width;
        let (n_x, n_y) = (rng.within(width.into(), 64) as Width, rng.within(3, 64) as Width);
        let x = whole(&mut t, &mut rng, &[3, 5], n_x);
        let y = t.claimed(&mut rng, &[3, 1], n_y);
        let n = rng.within(2, 30) as Width;
        let thresholds = thresholds(&mut rng, 6, n);
        let values = rng.claimed(30, n - 2);
        let compared = t.input(&[30], 40, 0, values);
        let compared = push(&mut t.b, Op::Open { x: compared, width: n, whole: true });
        t.round();
        let xy = push(&mut t.b, Op::Mul { x, y, width });
        let yx = push(&mut t.b, Op::Mul { x: y, y: x, width });
        let table = t.b.table("t", Table::Thresholds(thresholds));
        let ge = push(&mut t.b, Op::Ge { x: compared, table, width });
        [xy, yx, ge].into_iter().for_each(|y| t.reveal(y));
        t.finish().check_exact(&mut rng);
    }
}

/// A revealed share is a message of its own, also while an opening waits for its round.
#[test]
fn reveal_between_open_and_round() {
    let mut rng = Rng::new(14);
    let mut t = Test::new();
    let values = rng.claimed(9, 10);
    let x = t.input(&[9], 17, 0, values);
    let opened = push(&mut t.b, Op::Open { x, width: 12, whole: false });
    t.reveal(x);
    t.round();
    let y = push(&mut t.b, Op::Lift { x: opened, width: 40 });
    t.reveal(y);
    t.finish().check_exact(&mut rng);
}

/// Several openings and products share a message; a product between openings keeps its place in it.
#[test]
fn one_message_carries_many() {
    let mut rng = Rng::new(12);
    let mut t = Test::new();
    let a = t.claimed(&mut rng, &[7], 13);
    let values = rng.claimed(12, 20);
    let x = t.input(&[3, 4], 41, 2, values);
    let weight = t.b.weight(WeightDecl { name: "w".into(), scale: 1, shape: Shape(vec![4, 5]) }).unwrap();
    t.weights.push(rng.claimed(20, 15));
    let product = push(&mut t.b, Op::Linear { x, weight });
    let b = t.claimed(&mut rng, &[7], 29);
    let c = whole(&mut t, &mut rng, &[2, 3], 31);
    t.round();
    let again = push(&mut t.b, Op::Open { x: product, width: 41, whole: true });
    t.round();
    let pattern = t.b.table("p", Table::Pattern(Pattern::full(2, 2)));
    let ab = push(&mut t.b, Op::Mul { x: a, y: b, width: 50 });
    let cc = push(&mut t.b, Op::Sddmm { x: c, y: c, pattern });
    let all = t.b.table("q", Table::Pattern(Pattern::full(3, 3)));
    let pp = push(&mut t.b, Op::Sddmm { x: again, y: again, pattern: all });
    [ab, cc, pp, product].into_iter().for_each(|y| t.reveal(y));
    t.finish().check_exact(&mut rng);
}
