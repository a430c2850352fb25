//! Costs against numbers worked out by hand.

use crate::programs::*;
use ir::cost::{Cost, cost};
use ir::dcf::Layout;
use ir::liveness::{frees, last_uses, peak_elements};
use ir::material::{Dealt, Piece, Receiver, lift_bits, pieces};
use ir::program::Output;
use ir::*;

/// One layer: product, opening, three reads, product, reveal.
const SOURCE: &str = r#"
schedule @small {
  in0 = input "x" [3,5] fixed : share<21.8>[3,5]
  w0 = weight "a" : server<.6>[5,7]
  w1 = weight "b" : server<.6>[7,2]
  @steps = thresholds [-4, 9]
  @relu = spline {scale=14} knots [0] a [0, 0] b [0, 1]
  out0 = output "y" [3,2] to client

  v0 = input in0 : share<21.8>[3,5]
  v1 = linear v0, w0 : share<21.14>[3,7]
  send
  o3 = open v1 {width=19} : opened<19.14>[3,7]
  round
  v5 = lift o3 {width=30} : share<30.14>[3,7]
  v6 = sum_squares o3 {width=33} : share<33.28>[3,1]
  v7 = ge o3, @steps {width=9} : share<9.0>[3,7,2]
  v8 = spline o3, @relu {width=31} : share<31.14>[3,7]
  v9 = narrow v8 {width=30} : share<30.14>[3,7]
  v10 = add v9, v5 : share<30.14>[3,7]
  v11 = linear v10, w1 : share<30.20>[3,2]
  send
  reveal v11, out0 {to=client}
}
"#;

#[test]
fn small() {
    let p = parse(SOURCE).unwrap();
    verify(&p, &Limits::default()).unwrap();
    let got = cost(&p);

    // x: 15 elements of 21 bits; opening: 21 of 19 bits; second product: 21 of 30 bits; output: 6 of 30 bits.
    let (product, opening, second, output) = (40, 50, 79, 23);
    assert_eq!(got.client_sent_bytes, (16 + product) + (16 + opening) + (16 + second));
    // The product opens what only the client's seed determines at its side; the second operand is read from an opening.
    assert_eq!(got.client_ahead_bytes, 16 + opening);
    assert_eq!(got.server_sent_bytes, (16 + opening) + (16 + output));
    assert_eq!((got.rounds, got.one_way_messages), (1, 3));
    assert_eq!(got.setup_bytes, (35u64 * 21).div_ceil(8) + (14u64 * 30).div_ceil(8));
    assert_eq!(got.macs, 3 * 5 * 7 + 3 * 7 * 2);

    // Lifted by 33 - 19 at most: carry and top bit, 21 elements of 14 bits each.
    assert_eq!(lift_bits(&p), [0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let opened = 2 * 37;
    // r² of 3 rows at 33 bits, m·r of 21 elements at 33 - 19 - 1 bits.
    let sum_squares = 13 + 35;
    // Top bits at 9 bits. Keys on 18 bits with 9 bits of payload: 7 steps and leaves of 16 payloads are the least,
    // 7·(385 + 3·9) + 16·9 = 3028 bits (6 and 64: 3048; 8 and 4: 3332).
    let ge = 24;
    let ge_key = 21 * 7 * 48 + (21u64 * 7).div_ceil(8) + (21u64 * 7 * 3 * 9).div_ceil(8) + (21u64 * 16 * 9).div_ceil(8);
    // Top bits and m·r at 31 bits. Components of 31, 31 and 31 - 19 bits: 8 steps and leaves of 4 payloads are the least,
    // 8·(385 + 3·74) + 4·74 = 5152 bits (7 and 16: 5433; 9 and 1: 5537).
    let spline = 2 * 82;
    let spline_key = 21 * 8 * 48
        + (21u64 * 8).div_ceil(8)
        + 2 * (21u64 * 8 * 3 * 31).div_ceil(8)
        + (21u64 * 8 * 3 * 12).div_ceil(8)
        + 2 * (21u64 * 4 * 31).div_ceil(8)
        + (21u64 * 4 * 12).div_ceil(8);
    // A·B: 21 elements at 21 bits, 6 at 30 bits.
    let linear = 56 + 23;
    assert_eq!(got.client_material_bytes, ge_key + spline_key);
    assert_eq!(got.server_material_bytes, ge_key + spline_key + opened + sum_squares + ge + spline + linear);
    assert_eq!(got.per_instruction[7].dealt, Dealt { to_server_bytes: ge, to_both_bytes: ge_key });
    assert_eq!(got.per_instruction[8].dealt, Dealt { to_server_bytes: spline, to_both_bytes: spline_key });
    assert_eq!(got.per_instruction[3].client_payload_bytes, opening);
    assert_eq!(got.per_instruction[1].server_payload_bytes, 0);
}

#[test]
fn products_of_openings() {
    let p = parse(
        r#"
schedule @products {
  in0 = input "x" [2,3,4] fixed : share<20.4>[2,3,4]
  @causal = pattern {columns=3} [0..1, 0..2, 0..3]
  @wave = series {period_log2=4, public_scale=10, dealt_scale=11, c0=0} cos [1, 2, 3] sin []
  out0 = output "y" [2,3,4] to client

  v0 = input in0 : share<20.4>[2,3,4]
  v1 = sum v0 {axis=1} : share<20.4>[2,1,4]
  o2 = open v0 {width=10} : opened<10.4>[2,3,4]
  o3 = open v1 {width=13} : opened<13.4>[2,1,4]
  o4 = open v0 {width=20, whole} : whole<20.4>[2,3,4]
  o5 = open v0 {width=8, whole} : whole<8.4>[2,3,4]
  round
  v7 = mul o2, o3 {width=25} : share<25.8>[2,3,4]
  v8 = square o2 {width=10} : share<10.8>[2,3,4]
  v9 = sddmm o4, o4, @causal : share<20.8>[2,6]
  v10 = series o5, @wave {width=27} : share<27.21>[2,3,4]
  o11 = open v9 {width=20, whole} : whole<20.8>[2,6]
  round
  v13 = spmm o11, o4, @causal : share<20.12>[2,3,4]
  o14 = open v9 {width=13} : opened<13.8>[2,6]
  round
  v16 = spmm o14, o4, @causal : share<20.12>[2,3,4]
  v17 = add v13, v16 : share<20.12>[2,3,4]
  reveal v17, out0 {to=client}
}
"#,
    )
    .unwrap();
    verify(&p, &Limits::default()).unwrap();
    let lift = lift_bits(&p);
    assert_eq!(lift[2..6], [15, 12, 0, 0]);
    let of = |i: usize| pieces(&p, i, &lift).into_iter().map(|p| (p.elements, p.bits)).collect::<Vec<_>>();
    assert_eq!(of(2), [(24, 15), (24, 15)]);
    assert_eq!(of(3), [(8, 12), (8, 12)]);
    assert_eq!(of(4), []);
    // r·q, r·m', m·q, m·m'.
    assert_eq!(of(7), [(24, 25), (24, 12), (24, 15), (24, 2)]);
    // At N = n the correction by m vanishes.
    assert_eq!(of(8), [(24, 10)]);
    assert_eq!(of(9), [(12, 20)]);
    assert_eq!(of(10), [(144, 27)]);
    assert_eq!(of(13), [(24, 20)]);
    // A·B, then m·B for every kept element and column; of the opening, carry and top bit.
    assert_eq!(of(16), [(24, 20), (48, 7)]);
    assert_eq!((of(14), lift[14]), (vec![(12, 7), (12, 7)], 7));

    let got = cost(&p);
    // First round: 24·10 + 8·13 + 24·20 + 24·8 bits; second: 12·20 bits; third: 12·13 bits.
    let opened = 16 + 30 + 13 + 60 + 24 + 16 + 30 + 16 + 20;
    assert_eq!(got.client_sent_bytes, opened);
    assert_eq!(got.server_sent_bytes, opened + 16 + 60);
    assert_eq!(got.client_material_bytes, 0);
    assert_eq!(
        got.server_material_bytes,
        2 * 45 + 2 * 12 + (75 + 36 + 45 + 6) + 30 + 30 + 2 * 243 + 60 + 2 * 11 + 60 + 42
    );
    // [2] batches of 6 kept elements times 4, three times.
    assert_eq!(got.macs, 2 * 6 * 4 * 3);
}

#[test]
fn frames_have_headers() {
    let mut b = Builder::new("frames");
    b.scheduled();
    let input = b.input(fixed_input("x", share(64, 0, &[1 << 15]))); // Exactly 2^18 bytes: one frame.
    let more = b.input(fixed_input("y", share(64, 0, &[(1 << 15) + 1]))); // 8 bytes more: two frames.
    let y = b.output(Output { name: "z".to_owned(), shape: shape(&[1]), to: Party::Client });
    for input in [input, more] {
        let x = b.push(Op::Input { input }, None).unwrap();
        let o = b.push(Op::Open { x, width: 64, whole: false }, None).unwrap();
        b.push(Op::Round {}, None).unwrap();
        let x = b.push(Op::Lift { x: o, width: 1 }, None).unwrap();
        let x = b.push(Op::Sum { x, axis: 0 }, None).unwrap();
        if input == more {
            b.push(Op::Reveal { x, output: y, to: Party::Client }, None).unwrap();
        }
    }
    let p = b.finish();
    verify(&p, &Limits::default()).unwrap();
    let got = cost(&p);
    let both = (1 << 18) + 16 + (1 << 18) + 8 + 32;
    assert_eq!((got.client_sent_bytes, got.server_sent_bytes), (both, both + 16 + 1));
    // A lift to one bit needs neither carry nor top bit.
    assert_eq!((got.client_material_bytes, got.server_material_bytes), (0, 0));
}

#[test]
fn keys_are_those_of_the_layout() {
    let p = parse(SOURCE).unwrap();
    let keys: u64 = pieces(&p, 8, &lift_bits(&p)).iter().filter(|p| p.to == Receiver::Both).map(Piece::bytes).sum();
    assert_eq!(keys, Layout::new(18, &[31, 31, 12]).words_bytes(21));
}

#[test]
fn liveness() {
    let p = parse(SOURCE).unwrap();
    // Products live at least to their message, openings to their round; the unread v6, v7 die at once.
    assert_eq!(last_uses(&p), [1, 3, 2, 8, 4, 10, 6, 7, 9, 10, 11, 13, 12, 13]);
    let frees = frees(&p);
    assert_eq!(frees[1], [Value(0)]);
    assert_eq!(frees[10], [Value(5), Value(9)]);
    assert_eq!(frees[2], []);
    // Most is alive while `ge` runs: the opening, the lifted value and 42 comparison bits.
    assert_eq!(peak_elements(&p), 21 + 21 + 42);
    assert_eq!(peak_elements(&Program::default()), 0);
    assert_eq!(cost(&Program { scheduled: true, ..Program::default() }), Cost::default());
}

#[test]
fn ahead_of_the_input() {
    let p = parse(
        r#"
schedule @early {
  in0 = input "x" [2,8] fixed : share<40.8>[2,8]
  p0 = public "last" < 2
  w0 = weight "a" : server<.6>[8,8]
  w1 = weight "b" : server<.6>[8,8]
  w2 = weight "c" : server<.14>[8]
  out0 = output "y" [2,8] to client

  v0 = input in0 : share<40.8>[2,8]
  v1 = linear v0, w0 : share<40.14>[2,8]
  send
  v3 = add_weight v1, w2 : share<40.14>[2,8]
  v4 = down v3 {by=6} : share<34.8>[2,8]
  v5 = linear v4, w1 : share<34.14>[2,8]
  send
  v7 = narrow v1 {width=34} : share<34.14>[2,8]
  v8 = add v5, v7 : share<34.14>[2,8]
  v9 = pick v8, p0 {axis=0} : share<34.14>[1,8]
  v10 = narrow v0 {width=34} : share<34.8>[2,8]
  v11 = point v10 {scale=14} : share<34.14>[2,8]
  v12 = add v8, v11 : share<34.14>[2,8]
  o13 = open v8 {width=20} : opened<20.14>[2,8]
  o14 = open v9 {width=20} : opened<20.14>[1,8]
  o15 = open v12 {width=20} : opened<20.14>[2,8]
  round
  v17 = lift o13 {width=24} : share<24.14>[2,8]
  v18 = lift o14 {width=24} : share<24.14>[1,8]
  v19 = lift o15 {width=24} : share<24.14>[2,8]
  v20 = add v17, v18 : share<24.14>[2,8]
  v21 = add v20, v19 : share<24.14>[2,8]
  reveal v21, out0 {to=client}
}
"#,
    )
    .unwrap();
    verify(&p, &Limits::default()).unwrap_or_else(|f| panic!("{}", f[0]));
    let got = ir::ahead::ahead(&p);
    let list = |of: &[bool]| (0..of.len()).filter(|&i| of[i]).collect::<Vec<_>>();
    // Neither the input nor what a public number selects; a product of such shares goes ahead itself.
    assert_eq!(list(&got.known), [1, 3, 4, 5, 7, 8]);
    assert_eq!(list(&got.sent), [5, 13]);
    // v8 is read by the selection and by a sum with the input.
    assert_eq!(list(&got.kept), [8]);
    let frees: Vec<(usize, u32)> =
        got.frees.iter().enumerate().flat_map(|(i, vs)| vs.iter().map(move |v| (i, v.0))).collect();
    assert_eq!(frees, [(4, 3), (5, 4), (7, 1), (8, 5), (8, 7)]);
    // 16 elements of 34 bits and of 20 bits, each in a message of its own.
    assert_eq!(cost(&p).client_ahead_bytes, (16 + 68) + (16 + 40));
}
