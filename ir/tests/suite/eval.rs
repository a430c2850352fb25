//! The cleartext reference against examples worked out by hand.

use crate::programs::every_op;
use ir::eval::{Arguments, EvalError, Session, eval, eval_with, series_tolerance, signed};
use ir::*;
use std::collections::HashMap;

/// Runs a program of one input and returns every value by its index.
fn values(source: &str, inputs: &[Vec<i64>], weights: &[Vec<i64>], publics: &[u32]) -> HashMap<u32, Vec<i64>> {
    let weights = &weights.to_vec();
    let p = parse(source).unwrap_or_else(|e| panic!("{e}"));
    verify(&p, &Limits::default()).unwrap_or_else(|f| panic!("{}", f[0]));
    let mut all = HashMap::new();
    let result =
        eval_with(&p, Arguments { inputs, weights, publics }, |v, x| drop(all.insert(v.0, x.to_vec()))).unwrap();
    assert_eq!(result.broken_claims, []);
    all
}

#[test]
fn local_ops() {
    let source = r#"
program @local {
  in0 = input "x" [2,3] fixed : share<10.4>[2,3]
  p0 = public "row" < 2
  w0 = weight "b" : server<.4>[3]
  w1 = weight "w" : server<.2>[3,2]
  @c = const {scale=4, shape=[2,1]} [100, -1]
  @f = const {scale=1, shape=[3]} [1, -2, 3]
  @p = pattern {columns=3} [0..1, 1..3]

  v0 = input in0 : share<10.4>[2,3]
  v1 = narrow v0 {width=4} : share<4.4>[2,3]
  v2 = down v0 {by=2} : share<8.2>[2,3]
  v3 = up v0 {by=1} : share<11.5>[2,3]
  v4 = point v0 {scale=6} : share<10.6>[2,3]
  v5 = add_public v0, @c : share<10.4>[2,3]
  v6 = mul_public v0, @f : share<10.5>[2,3]
  v7 = add_weight v0, w0 : share<10.4>[2,3]
  v8 = reshape v0 {shape=[3,2]} : share<10.4>[3,2]
  v9 = transpose v0 {perm=[1,0]} : share<10.4>[3,2]
  v10 = slice v0 {axis=1, from=1, to=3} : share<10.4>[2,2]
  v11 = concat v0, v10 {axis=1} : share<10.4>[2,5]
  v12 = pick v0, p0 {axis=0} : share<10.4>[1,3]
  v13 = sum v0 {axis=0} : share<10.4>[1,3]
  v14 = row_sum v0, @p {axis=1} : share<10.4>[2,2]
  v15 = spread v10, @p {axis=1} : share<10.4>[2,3]
  v16 = linear v0, w1 : share<10.6>[2,2]
  v17 = sub v0, v12 : share<10.4>[2,3]
  v18 = add v0, v13 : share<10.4>[2,3]
  v19 = transpose v0 {perm=[0,1]} : share<10.4>[2,3]
}
"#;
    let v = values(source, &[vec![1, -2, 3, 500, -512, 6]], &[vec![10, 20, 30], vec![1, 0, 0, 1, 2, -1]], &[1]);
    let is = |i: u32, want: &[i64]| assert_eq!(v[&i], want, "v{i}");
    is(1, &[1, -2, 3, 4, 0, 6]); // 500 = 31·16 + 4; 6 < 8.
    is(2, &[0, 0, 1, 125, -128, 2]); // Halves go up: -2/4 to 0, 6/4 to 2.
    is(3, &[2, -4, 6, 1000, -1024, 12]);
    is(4, &[1, -2, 3, 500, -512, 6]);
    is(5, &[101, 98, 103, 499, 511, 5]); // -513 wraps to 511.
    is(6, &[1, 4, 9, 500, 0, 18]); // -2·-512 = 1024 = 0 mod 2^10.
    is(7, &[11, 18, 33, 510, -492, 36]);
    is(8, &[1, -2, 3, 500, -512, 6]);
    is(9, &[1, 500, -2, -512, 3, 6]);
    is(10, &[-2, 3, -512, 6]);
    is(11, &[1, -2, 3, -2, 3, 500, -512, 6, -512, 6]);
    is(12, &[500, -512, 6]);
    is(13, &[501, 510, 9]); // -514 wraps.
    is(14, &[1, 1, 500, -506]);
    is(15, &[-2, 3, 3, -512, 6, 6]);
    is(16, &[7, -5, 512 - 1024, 506]); // 500 + 12 = 512 wraps to -512; -512 - 6 = -518 wraps to 506.
    is(17, &[-499, 510, -3, 0, 0, 0]);
    is(18, &[502, 508, 12, -23, -2, 15]);
    is(19, &[1, -2, 3, 500, -512, 6]);
}

#[test]
fn reads() {
    let source = r#"
program @reads {
  in0 = input "x" [2,2] fixed : share<12.2>[2,2]
  @t = thresholds [-3, 0, 5]
  @s = spline {scale=6} knots [-2, 4] a [7, 100, -9] b [0, 1, -2]
  @p = pattern {columns=2} [0..1, 0..2]

  v0 = input in0 : share<12.2>[2,2]
  o1 = open v0 {width=12} : opened<12.2>[2,2]
  o2 = open v0 {width=12, whole} : whole<12.2>[2,2]
  v3 = lift o1 {width=40} : share<40.2>[2,2]
  v4 = square o1 {width=8} : share<8.4>[2,2]
  v5 = sum_squares o1 {width=30} : share<30.4>[2,1]
  v6 = mul o1, o1 {width=20} : share<20.4>[2,2]
  v7 = ge o1, @t {width=5} : share<5.0>[2,2,3]
  v8 = spline o1, @s {width=16} : share<16.6>[2,2]
  v9 = sddmm o2, o2, @p : share<12.4>[3]
  o10 = open v9 {width=12, whole} : whole<12.4>[3]
  v11 = spmm o10, o2, @p : share<12.6>[2,2]
}
"#;
    let v = values(source, &[vec![-3, 4, 5, 20]], &[], &[]);
    let is = |i: u32, want: &[i64]| assert_eq!(v[&i], want, "v{i}");
    is(3, &[-3, 4, 5, 20]);
    is(4, &[9, 16, 25, 400 - 512]);
    is(5, &[25, 425]);
    is(6, &[9, 16, 25, 400]);
    is(7, &[1, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1]);
    is(8, &[7, -9 - 8, -9 - 10, -9 - 40]);
    is(9, &[25, 65, 425]); // Rows (-3, 4), (5, 20): 9 + 16; -15 + 80; 25 + 400.
    is(11, &[-75, 100, 65 * -3 + 425 * 5, 65 * 4 + 425 * 20 - 2 * 4096]); // The last wraps: 8760.
}

#[test]
fn series_is_near_the_function_under_any_mask() {
    let p = parse(
        r#"
program @wave {
  in0 = input "x" [4096] fixed : share<12.8>[4096]
  @wave = series {period_log2=4, public_scale=12, dealt_scale=14, c0=1000} cos [25165824, -4194304] sin [0, 8388608]

  v0 = input in0 : share<12.8>[4096]
  o1 = open v0 {width=12, whole} : whole<12.8>[4096]
  v2 = series o1, @wave {width=40} : share<40.26>[4096]
}
"#,
    )
    .unwrap();
    let Table::Series { c0, .. } = &p.tables[0].table else { unreachable!() };
    let tolerance = series_tolerance(&p.tables[0].table);
    assert!(tolerance < 1 << 18, "{tolerance} ulps of 2^-26");
    let x: Vec<i64> = (0..4096).collect();
    let (mut got, inputs) = (Vec::new(), [x]);
    let visit = |v: Value, y: &[i64]| {
        if v == Value(2) {
            got = y.to_vec()
        }
    };
    eval_with(&p, Arguments { inputs: &inputs, weights: &Vec::<Vec<i64>>::new(), publics: &[] }, visit).unwrap();
    let s = series::Series::new(&p.tables[0].table, 12);
    for (x, &got) in got.iter().enumerate() {
        let t = std::f64::consts::TAU * x as f64 / 4096.0;
        let want = 1000.0 / 2f64.powi(26) + 1.5 * t.cos() - 0.25 * (2.0 * t).cos() + 0.5 * (2.0 * t).sin();
        assert!((got as f64 / 2f64.powi(26) - want).abs() < 2e-3, "f({x})");
        let r = (x as u64 * 2_654_435_761) % 4096;
        let (mut p, mut q, mut c, mut d) = ([0; 2], [0; 2], [0; 2], [0; 2]);
        s.coefficients(x as u64 + r, &mut p, &mut q);
        s.dealt(r, &mut c, &mut d);
        let masked: i64 = c0 + (0..2).map(|k| p[k] * c[k] + q[k] * d[k]).sum::<i64>();
        assert!((masked - got).abs() <= tolerance, "f({x}) under mask {r}: {masked}, {got}");
    }
}

/// A series sees the low bits of its opening: the function has the period of the ring.
#[test]
fn series_of_a_wider_opening() {
    let source = r#"
program @wider {
  in0 = input "x" [3] fixed : share<20.2>[3]
  @cosine = series {period_log2=2, public_scale=8, dealt_scale=8, c0=0} cos [16777216] sin []

  v0 = input in0 : share<20.2>[3]
  o1 = open v0 {width=20} : opened<20.2>[3]
  v2 = series o1, @cosine {width=30} : share<30.16>[3]
}
"#;
    // 16 steps a turn; a whole turn and a half; three quarters of a turn back.
    assert_eq!(values(source, &[vec![0, 24, -12]], &[], &[])[&2], [65536, -65536, 0]);
}

#[test]
fn broken_claims_are_counted() {
    let p = parse(
        r#"
program @claims {
  in0 = input "x" [4] fixed : share<12.0>[4]
  v0 = input in0 : share<12.0>[4]
  o1 = open v0 {width=10} : opened<10.0>[4]
  o2 = open v0 {width=10, whole} : whole<10.0>[4]
  v3 = extend v0 {claim=10, width=20} : share<20.0>[4]
}
"#,
    )
    .unwrap();
    let inputs = [vec![255, 256, -255, -256]];
    let got = eval(&p, Arguments { inputs: &inputs, weights: &Vec::<Vec<i64>>::new(), publics: &[] }).unwrap();
    assert_eq!(got.broken_claims, [(Value(1), 2), (Value(3), 2)]);
}

#[test]
fn every_op_runs() {
    let p = every_op();
    let inputs = [vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]];
    let weights = vec![
        (0..20).map(|i| i * 100 - 1000).collect(),
        vec![1, 2, 3, 4],
        vec![5, -6, 7, -8, 9, -10, 11, -12],
        (0..24).collect(),
        (0..6).collect(),
    ];
    let run = |publics: &[u32]| eval(&p, Arguments { inputs: &inputs, weights: &weights, publics });
    let got = run(&[1, 4]).unwrap();
    assert_eq!(got.outputs.iter().map(Vec::len).collect::<Vec<_>>(), [2, 3, 1]);
    assert_ne!(run(&[2, 4]).unwrap().outputs[0], got.outputs[0]);
    assert_eq!(run(&[2, 4]).unwrap().outputs[1], got.outputs[1]);
    assert_eq!(run(&[3, 4]), Err(EvalError::Public { name: "position".to_owned(), bound: 3, found: 3 }));
    assert!(matches!(run(&[]), Err(EvalError::Count { .. })));
    assert_eq!(signed(0x1ff, 9), -1);
}

/// Two steps over a state: the second sees the rows of the first, whatever is beyond them is zero.
#[test]
fn steps_of_a_session() {
    let entry = |name: &str, rows: usize, capacity: usize| {
        parse(&format!(
            r#"
schedule @{name} {{
  in0 = input "x" [2,{rows},2] fixed : share<20.0>[2,{rows},2]
  p0 = public "first" < 10
  p1 = public "from" < 10
  p2 = public "to" < 10
  s0 = state "k" : whole<20.0>[2,2]
  @all = pattern {{columns={capacity}}} [0..{capacity}]
  out0 = output "y" [2,{capacity}] to client

  v0 = input in0 : share<20.0>[2,{rows},2]
  v1 = slice v0 {{axis=1, from=0, to=1}} : share<20.0>[2,1,2]
  o2 = open v0 {{width=20, whole}} : whole<20.0>[2,{rows},2]
  o3 = open v1 {{width=20, whole}} : whole<20.0>[2,1,2]
  round
  o5 = cache o2, s0 {{capacity={capacity}}} : whole<20.0>[2,{capacity},2]
  v6 = sddmm o3, o5, @all : share<20.0>[2,{capacity}]
  v7 = keep v6, p0, p1, p2 {{axis=1}} : share<20.0>[2,{capacity}]
  reveal v7, out0 {{to=client}}
}}
"#
        ))
        .unwrap()
    };
    let entries = [entry("prefill", 2, 3), entry("decode", 1, 4)];
    let module = bytecode::Module { entries: entries.to_vec(), ..Default::default() };
    verify_module(&module, &Limits::default()).unwrap_or_else(|f| panic!("{}", f[0]));
    let mut session = Session::default();
    let mut step = |entry: usize, x: &[i64], publics: [u32; 3]| {
        let arguments = Arguments { inputs: &[x.to_vec()], weights: &Vec::<Vec<i64>>::new(), publics: &publics };
        session.step(&entries[entry], arguments).map(|e| e.outputs.concat())
    };
    // Rows [1,2] and [3,4] of the first head, [5,6] and [7,8] of the second.
    assert_eq!(step(0, &[1, 2, 3, 4, 5, 6, 7, 8], [3, 0, 0]).unwrap(), [5, 11, 0, 61, 83, 0]);
    // The second row is padding: 1, 1 against [1,2], -, [1,1], - and 1, 0 against [5,6], -, [1,0], -.
    assert_eq!(step(1, &[1, 1, 1, 0], [1, 2, 3]).unwrap(), [3, 0, 2, 0, 5, 0, 1, 0]);
    assert_eq!(step(1, &[0, 1, 0, 1], [1, 2, 4]).unwrap(), [2, 0, 1, 1, 6, 0, 0, 1]);
    let full = step(1, &[0; 4], [1, 2, 4]).unwrap_err();
    insta::assert_snapshot!(full, @r#"entry "decode" has room for 4 rows of state "k": 4 are filled, 1 more were to come"#);
}

#[test]
fn rows_and_selections() {
    let source = r#"
program @select {
  in0 = input "x" [3,2] fixed : share<20.4>[3,2]
  p0 = public "position" < 4
  w0 = weight "positions" : server<.4>[4,2]

  v0 = input in0 : share<20.4>[3,2]
  v1 = add_row v0, w0, p0 : share<20.4>[3,2]
  v2 = slice v0 {axis=1, from=0, to=1} : share<20.4>[3,1]
  v3 = reshape v2 {shape=[3]} : share<20.4>[3]
  o4 = open v3 {width=20} : opened<20.4>[3]
  o5 = open v1 {width=12, whole} : whole<12.4>[3,2]
  v6 = select o4, o5 {width=10} : share<10.4>[3,2]
}
"#;
    let v = values(source, &[vec![0, 5, -1, 7, 300, -200]], &[vec![9, 9, 9, 9, 100, 400, 9, 9]], &[2]);
    assert_eq!(v[&1], [100, 405, 99, 407, 400, 200]);
    assert_eq!(v[&6], [100, 405, 0, 0, 400, 200]);
}

#[test]
fn bands() {
    let source = r#"
program @band {
  in0 = input "x" [2,4] fixed : share<12.4>[2,4]
  p0 = public "newest" < 4
  w0 = weight "both" : server<.4>[2,3]
  w1 = weight "one" : server<.4>[1,9]

  v0 = input in0 : share<12.4>[2,4]
  v1 = add_band v0, w0, p0 : share<12.4>[2,4]
  v2 = add_band v0, w1, p0 : share<12.4>[2,4]
}
"#;
    let weights = [vec![1, 2, 3, 10, 20, 30], (1..10).collect()];
    let of = |newest: u32| {
        let v = values(source, &[vec![0, 0, 0, 0, 100, 100, 100, -2040]], &weights, &[newest]);
        (v[&1].clone(), v[&2].clone())
    };
    // Distances 3, 2, 1, 0 of the slots.
    assert_eq!(of(3), (vec![0, 3, 2, 1, 100, 130, 120, -2030], vec![4, 3, 2, 1, 104, 103, 102, -2039]));
    // Behind the newest slot is nothing.
    assert_eq!(of(0), (vec![1, 0, 0, 0, 110, 100, 100, -2040], vec![1, 0, 0, 0, 101, 100, 100, -2040]));
}

#[test]
fn rows_of_constants_and_copies() {
    let source = r#"
program @rotate {
  in0 = input "x" [2,1,2] fixed : share<12.4>[2,1,2]
  p0 = public "position" < 3
  @cos = const {scale=3, shape=[3,2]} [9, 9, 5, -6, 9, 9]

  v0 = input in0 : share<12.4>[2,1,2]
  v1 = mul_row v0, @cos, p0 : share<12.7>[2,1,2]
  v2 = expand v1 {shape=[1,2,3,2]} : share<12.7>[1,2,3,2]
  v3 = slice v0 {axis=2, from=0, to=1} : share<12.4>[2,1,1]
  v4 = expand v3 {shape=[2,2,2]} : share<12.4>[2,2,2]
}
"#;
    let v = values(source, &[vec![1, 2, -3, 500]], &[], &[1]);
    // -6 * 500 mod 2^12.
    assert_eq!(v[&1], [5, -12, -15, 1096]);
    assert_eq!(v[&2], [[5, -12]; 3].concat().into_iter().chain([[-15, 1096]; 3].concat()).collect::<Vec<_>>());
    assert_eq!(v[&4], [1, 1, 1, 1, -3, -3, -3, -3]);
}
