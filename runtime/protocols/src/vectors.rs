//! Protocols against vectors that an independent implementation made: given inputs and masks, the opened values and the
//! results must be the same integers. Dealer and both parties run in this one thread.
//!
//! `vectors.json`: a list of reads. An opening has `width`, `shape`, the integers `x`, the `mask` and what was `opened`;
//! `width` and `result` are the read's. The implementation, in numpy, computes in its own order and with other randomness.
//!
//! `share_vectors.json`: what works on shares alone, `linear`, `reveal` and the local `down`. `shares` are the client's and
//! the server's, `width` and `result` the result's; the result of `down` is both parties' shares.

use super::*;
use crate::weights::Integers;
use ir::eval::series_tolerance;
use ir::series::Series;
use ir::{Pattern, Table};
use kernels::prg::Seed;
use serde::Deserialize;

#[derive(Deserialize)]
struct Opened {
    width: Width,
    shape: Vec<usize>,
    x: Vec<i64>,
    mask: Vec<u64>,
    opened: Vec<u64>,
}

#[derive(Deserialize)]
struct Read {
    op: String,
    x: Opened,
    y: Option<Opened>,
    width: Width,
    result: Vec<i64>,
    #[serde(default)]
    rows: Vec<(u32, u32)>,
    #[serde(default)]
    thresholds: Vec<i64>,
    #[serde(default)]
    knots: Vec<i64>,
    #[serde(default)]
    a: Vec<i64>,
    #[serde(default)]
    b: Vec<i64>,
    #[serde(default)]
    period_log2: i8,
    #[serde(default)]
    public_scale: u8,
    #[serde(default)]
    dealt_scale: u8,
    #[serde(default)]
    c0: i64,
    #[serde(default)]
    cos: Vec<i64>,
    #[serde(default)]
    sin: Vec<i64>,
}

#[derive(Deserialize)]
struct OfShares {
    op: String,
    width: Width,
    shape: Vec<usize>,
    shares: [Vec<u64>; 2],
    result: Vec<i64>,
    #[serde(default)]
    columns: usize,
    #[serde(default)]
    weight: Vec<i64>,
    #[serde(default)]
    bits: Width,
}

/// Material that was written before.
struct Written(bytes::Bytes);

impl Material for Written {
    fn take(&mut self, length: usize) -> Result<bytes::Bytes, MaterialError> {
        if self.0.len() < length {
            return Err(MaterialError::Short { missing: (length - self.0.len()) as u64 });
        }
        Ok(self.0.split_to(length))
    }
}

/// The three roles of one instruction.
struct Roles {
    seeds: [Seed; 2],
}

impl Roles {
    fn uses(&self, index: u32) -> [Use<'_>; 2] {
        self.seeds.each_ref().map(|seed| Use { seed, step: 2, entry: 3, index })
    }

    /// Deals, then lets each party read; everything that was dealt must be taken.
    fn run<T>(
        &self,
        index: u32,
        deal: impl FnOnce(&mut Dealing) -> io::Result<T>,
        read: impl Fn(Party, &mut Source) -> Tensor,
    ) -> (T, Vec<u64>) {
        let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
        let [client, server] = self.uses(index);
        let dealt = deal(&mut Dealing::new(client, server, &mut to_client, &mut to_server)).expect("memory takes all");
        let party = |party, own, bytes: Vec<u8>| {
            let mut bytes = Written(bytes.into());
            let share = read(party, &mut Source::new(party, own, &mut bytes));
            assert_eq!(bytes.0.len(), 0, "all material is taken");
            share.data
        };
        let (mut x, x1) = (party(Party::Client, client, to_client), party(Party::Server, server, to_server));
        ring::add_assign(&mut x, &x1);
        (dealt, x.to_vec())
    }

    /// Opens a vector's integers under its mask, with random shares of both.
    fn open(&self, index: u32, opened: &Opened, whole: bool, lift_bits: Width) -> (Mask, [Opening; 2]) {
        let (n, len) = (opened.width, opened.x.len());
        let split = |v: Vec<u64>, kind: u8| {
            let mut other = v;
            let share = self.uses(index)[0].elements(kind, 0..len, 64).to_vec();
            ring::sub_assign(&mut other, &share);
            [share, other]
        };
        let x = split(opened.x.iter().map(|&x| x as u64).collect(), 100);
        let r = split(opened.mask.clone(), 101).map(|r| r.into_iter().map(|r| r & ring::mask(n)).collect::<Vec<u64>>());
        let packed = |r: &Vec<u64>| {
            let mut bytes = Vec::new();
            ring::pack(r, n, &mut bytes);
            Vector::Packed { bytes: bytes.into(), bits: n }
        };
        let halves = std::cell::RefCell::new(Vec::new());
        let (mask, _) = self.run(
            index,
            |to| open::deal(&opened.shape, r.each_ref().map(packed), n, lift_bits, to),
            |party, source| {
                let i = party.index();
                let dealt = open::Dealt::take(source, len, lift_bits).expect("dealt");
                let x = Tensor::new(opened.shape.clone(), x[i].clone());
                let mut message = vec![0; ring::packed_len(len, n)];
                let half = open::send(party, &x, packed(&r[i]), n, whole, dealt, &mut message);
                halves.borrow_mut().push((half, message));
                Tensor::zeros(&[0])
            },
        );
        assert!(mask.r.data[..] == opened.mask, "the dealer's mask is the parties'");
        let halves: [(open::Half, Vec<u8>); 2] = halves.into_inner().try_into().ok().expect("one half a party");
        let [(client, of_client), (server, of_server)] = halves;
        let openings = [client.complete(&of_server), server.complete(&of_client)];
        for opening in &openings {
            assert_eq!(opening.opened.data[..], opened.opened, "what both parties see");
        }
        (mask, openings)
    }
}

fn signed(v: &[u64], width: Width) -> Vec<i64> {
    reveal::read(v, &vec![0; v.len()], width)
}

#[test]
fn reads_give_the_same_integers() {
    let vectors: Vec<Read> = serde_json::from_str(include_str!("vectors.json")).expect("vectors");
    let mut seen = std::collections::BTreeSet::new();
    for (number, v) in vectors.iter().enumerate() {
        let roles = Roles { seeds: [1, 2].map(|i| Seed::new([i + 2 * number as u8; 32])) };
        let is_whole = matches!(&v.op[..], "sddmm" | "spmm" | "series");
        let lift_bits = |o: &Opened| v.width.saturating_sub(o.width);
        let (mask, openings) = roles.open(0, &v.x, is_whole, lift_bits(&v.x));
        let other = v.y.as_ref().map(|y| roles.open(1, y, is_whole, lift_bits(y)));
        let (count, width, all) = (v.x.x.len(), v.width, 0..v.x.x.len());
        let x = |party: Party| &openings[party.index()];
        let y = |party: Party| &other.as_ref().expect("a second operand").1[party.index()];
        let mask_y = || &other.as_ref().expect("a second operand").0;
        let mut tolerance = 0;
        let (_, sum) = match &v.op[..] {
            "lift" => roles.run(2, |_| Ok(()), |party, _| lift::read(party, x(party))),
            "square" | "sum_squares" => {
                let over = if v.op == "square" { square::Over::Elements } else { square::Over::Rows };
                roles.run(
                    2,
                    |to| square::deal(&mask, over, width, to),
                    |party, source| {
                        let dealt = square::Dealt::take(source, x(party), over, width).expect("dealt");
                        square::read(party, x(party), over, dealt)
                    },
                )
            }
            "mul" => roles.run(
                2,
                |to| mul::deal(&mask, mask_y(), width, to),
                |party, source| {
                    let dealt = mul::Dealt::take(source, x(party), y(party), width).expect("dealt");
                    mul::read(party, x(party), y(party), dealt)
                },
            ),
            "sddmm" | "spmm" => {
                let columns = mask_y().r.shape[0] as u32;
                let (product, pattern) = if v.op == "sddmm" {
                    (matmul::Product::Sddmm, Pattern::full(v.x.shape[0] as u32, columns))
                } else {
                    (matmul::Product::Spmm, Pattern { columns, rows: v.rows.clone() })
                };
                roles.run(
                    2,
                    |to| matmul::deal(product, (&mask, false), mask_y(), &pattern, width, to),
                    |party, source| {
                        let (x, y) = (x(party), y(party));
                        let dealt = matmul::Dealt::take(source, v.result.len(), x, y, width).expect("dealt");
                        matmul::read(party, product, x, y, &pattern, dealt)
                    },
                )
            }
            "ge" => roles.run(
                2,
                |to| ge::deal(&mask, all.clone(), width, to),
                |party, source| {
                    let dealt = ge::Dealt::take(source, x(party), all.clone(), width).expect("dealt");
                    let mut out = Tensor::zeros(&[count, v.thresholds.len()]);
                    ge::read(party, x(party), all.clone(), &v.thresholds, dealt, &mut out.data);
                    out
                },
            ),
            "spline" => roles.run(
                2,
                |to| spline::deal(&mask, all.clone(), width, to),
                |party, source| {
                    let dealt = spline::Dealt::take(source, x(party), all.clone(), width).expect("dealt");
                    let steps = spline::Steps::new(&v.knots, &v.a, &v.b);
                    let mut out = Tensor::zeros(&[count]);
                    spline::read(party, x(party), all.clone(), &steps, dealt, &mut out.data);
                    out
                },
            ),
            "series" => {
                let table = Table::Series {
                    period_log2: v.period_log2,
                    public_scale: v.public_scale,
                    dealt_scale: v.dealt_scale,
                    c0: v.c0,
                    cos: v.cos.clone(),
                    sin: v.sin.clone(),
                };
                tolerance = series_tolerance(&table);
                let terms = series::Terms { period_bits: v.x.width, count: v.cos.len(), scale: v.dealt_scale };
                roles.run(
                    2,
                    |to| series::deal(&mask, all.clone(), terms, width, to),
                    |party, source| {
                        let dealt = series::Dealt::take(source, all.clone(), terms.count, width).expect("dealt");
                        let series = Series::new(&table, v.x.width);
                        let mut out = Tensor::zeros(&[count]);
                        series::read(party, x(party), all.clone(), &series, v.c0, dealt, &mut out.data);
                        out
                    },
                )
            }
            op => panic!("no such read: {op}"),
        };
        seen.insert(v.op.clone());
        let got = signed(&sum, width);
        assert_eq!(got.len(), v.result.len());
        for (i, (got, want)) in got.iter().zip(&v.result).enumerate() {
            assert!((got - want).abs() <= tolerance, "vector {number}, {}, element {i}: {got} for {want}", v.op);
        }
    }
    assert_eq!(seen.len(), 9, "every read has vectors: {seen:?}");
}

/// A product with a weight, from setup to result; the masks are not the vector's, the integers are.
fn linear_sum(roles: &Roles, v: &OfShares) -> Vec<u64> {
    let (width, sizes) = (v.width, linear::Sizes { rows: v.shape[0], k: v.shape[1], m: v.columns });
    let (cells, seed): (Vec<[u8; 8]>, _) = (v.weight.iter().map(|w| w.to_le_bytes()).collect(), Seed::new([99; 32]));
    let (weight, mask) = (Integers::Eight(&cells), linear::WeightMask::new(&seed, (ir::Weight(0), width)));
    let mut packed = Vec::new();
    linear::mask_weight(mask, weight, &mut packed).expect("memory takes all");
    let masked = ring::Packed::new(&packed, width);
    let client = roles.uses(0)[0];
    let (_, sum) = roles.run(
        0,
        |to| linear::deal(client, mask, sizes, width, to),
        |party, source| {
            let share = match party {
                Party::Client => {
                    let factors = [linear::Factor { client, sizes, width }];
                    linear::prepare(&factors, Some(masked)).remove(0)
                }
                Party::Server => {
                    let dealt = linear::Dealt::take(source, sizes, width).expect("dealt");
                    let mut product = linear::Product::new(Some(v.shares[1].clone().into()), dealt, sizes, width);
                    for columns in [0..1, 1..sizes.k] {
                        let message = linear::send(client, sizes, columns.clone(), &v.shares[0], width);
                        product.add(columns, message, weight);
                    }
                    product.complete()
                }
            };
            Tensor::new(vec![sizes.rows, sizes.m], share)
        },
    );
    sum
}

#[test]
fn shares_give_the_same_integers() {
    let vectors: Vec<OfShares> = serde_json::from_str(include_str!("share_vectors.json")).expect("vectors");
    let mut seen = std::collections::BTreeSet::new();
    for (number, v) in vectors.iter().enumerate() {
        let roles = Roles { seeds: [1, 2].map(|i| Seed::new([i + 2 * number as u8; 32])) };
        let got = match &v.op[..] {
            "linear" => signed(&linear_sum(&roles, v), v.width),
            "reveal" => {
                let [client, server] = &v.shares;
                assert_eq!(reveal::read(server, client, v.width), v.result, "either party may learn it");
                reveal::read(client, server, v.width)
            }
            "down" => {
                let mut shares = v.shares.clone();
                for (party, share) in [Party::Client, Party::Server].into_iter().zip(&mut shares) {
                    ring::down_assign(party, share, v.width + v.bits, v.bits);
                }
                signed(&shares.concat(), v.width)
            }
            op => panic!("no such protocol: {op}"),
        };
        seen.insert(&v.op);
        assert_eq!(got, v.result, "vector {number}, {}", v.op);
    }
    assert_eq!(seen.len(), 3, "each has vectors: {seen:?}");
}
