//! Both parties in one thread: shares, their errors, what each party sees, and malformed messages.

use super::{Client, Operand, Plan, Server};
use crate::Error;
use crate::ntt::N;
use crate::rns::{PACKED, Scratch, Sums, Values};
use crate::tests::{looks_uniform, matrix};
use kernels::prg::Seed;
use kernels::ring::{self, Buffer, mask, test_elements};
use std::ops::Range;

/// A plan of several products of numbers of `bits` bits at the server.
fn several(count: usize, sizes: [usize; 3], width: u8, bits: u8) -> Plan {
    Plan::new(count, sizes, width, (sizes[1] as u128) << (2 * (bits - 1))).unwrap()
}

/// A plan for numbers of both parties as wide as the result.
fn wide(sizes: [usize; 3], width: u8) -> Plan {
    several(1, sizes, width, width)
}

/// Signed numbers of so many bits, mod 2^64.
fn signed(seed: u64, count: usize, bits: u8) -> Vec<u64> {
    let up = 64 - u32::from(bits);
    test_elements(seed, count).iter().map(|x| ((x << up) as i64 >> up) as u64).collect()
}

/// Parties of seeds that depend on a number.
fn parties(number: u8) -> (Client, Server) {
    let client = Client::from_seeds([number; 32], &Seed::new([number + 100; 32]));
    let server = Server::from_seed(&client.key(), &Seed::new([number + 200; 32])).unwrap();
    (client, server)
}

/// The client's messages of a product.
fn upload(plan: &Plan, left: &[u64], client: &mut Client, server: &mut Server) -> (Vec<u8>, Operand) {
    let keys = client.merge_keys(plan);
    assert_eq!(keys.len(), server.merge_key_bytes(plan));
    server.take_merge_keys(plan, &keys).unwrap();
    let message = client.encrypt(plan, left);
    assert_eq!(message.len(), plan.upload_bytes());
    let operand = server.receive(plan, &message).unwrap();
    (message, operand)
}

fn answer(server: &mut Server, operand: &Operand, right: &[u64], answers: Range<usize>) -> (Vec<u8>, Buffer) {
    let columns = operand.plan.columns();
    let rows = |row: usize, first: usize, out: &mut [u64]| {
        out.copy_from_slice(&right[row * columns + first..][..out.len()]);
    };
    server.answer(operand, &rows, answers)
}

/// Both parties' shares of a product whose answers are asked for in parts, and the messages.
fn product(
    plan: &Plan,
    [left, right]: [&[u64]; 2],
    (client, server): &mut (Client, Server),
    parts: &[Range<usize>],
) -> (Vec<Vec<u8>>, [Vec<u64>; 2]) {
    let (message, operand) = upload(plan, left, client, server);
    let (mut messages, mut shares) = (vec![message], [vec![0; plan.results()], vec![0; plan.results()]]);
    for part in parts {
        let (message, share) = answer(server, &operand, right, part.clone());
        assert_eq!(message.len(), plan.answer_bytes(part.clone()));
        plan.put(part.clone(), &client.decrypt(plan, part.clone(), &message).unwrap(), &mut shares[0]);
        plan.put(part.clone(), &share, &mut shares[1]);
        messages.push(message);
    }
    (messages, shares)
}

/// Errors of the shares' sum, as signed integers.
fn errors(plan: &Plan, [left, right]: [&[u64]; 2], shares: &[Vec<u64>; 2]) -> Vec<i64> {
    let (rows, depth, columns, width) = (plan.rows(), plan.depth(), plan.columns(), plan.width());
    let mut exact = vec![0; plan.results()];
    let products = left.chunks(rows * depth).zip(right.chunks(depth * columns)).zip(exact.chunks_mut(rows * columns));
    for ((left, right), exact) in products {
        let cells: Vec<[u8; 8]> = right.iter().map(|x| x.to_le_bytes()).collect();
        ring::matmul(left, &cells, rows, depth, columns, 64, exact);
    }
    let up = 64 - u32::from(width);
    assert!(shares.iter().all(|share| share.iter().all(|x| *x <= mask(width))));
    let sums = shares[0].iter().zip(&shares[1]).map(|(x, y)| x.wrapping_add(*y));
    sums.zip(&exact).map(|(sum, exact)| (sum.wrapping_sub(*exact) << up) as i64 >> up).collect()
}

fn worst(errors: &[i64]) -> u64 {
    errors.iter().map(|e| e.unsigned_abs()).max().unwrap()
}

#[test]
fn shares_of_products() {
    for (number, (count, sizes, width, bits)) in [
        (1, [1, 1, 1], 36, 36),
        (1, [128, 64, 128], 30, 30),
        (1, [17, 130, 64], 39, 39),
        (1, [1, 64, 200], 44, 44),
        (1, [200, 64, 1], 2, 2),
        (1, [3, 5, 7], 1, 1),
        (1, [128, 300, 96], 47, 12),
        (1, [1, 700, 5000], 64, 12),
        (1, [4099, 3, 5], 55, 16),
        (1, [40, 5000, 2], 33, 20),
        // Whose results share answers, or rows ciphertexts.
        (7, [1, 768, 1], 44, 44),
        (3, [768, 1, 1], 40, 40),
        (11, [1, 1, 700], 40, 40),
        (100, [2, 5, 7], 36, 36),
        (2, [1, 1, 1], 7, 7),
        (12, [1, 64, 200], 39, 39),
        (5, [130, 64, 33], 36, 36),
        (3, [2, 5000, 3], 40, 12),
    ]
    .into_iter()
    .enumerate()
    {
        let plan = several(count, sizes, width, bits);
        let left = test_elements(number as u64, count * plan.rows() * plan.depth());
        let right = signed(50 + number as u64, count * plan.depth() * plan.columns(), bits);
        let all = 0..plan.answers();
        let (_, shares) = product(&plan, [&left, &right], &mut parties(number as u8), &[all]);
        let most = worst(&errors(&plan, [&left, &right], &shares));
        assert!(most <= plan.error_bound(), "{most} of {} at {plan:?}", plan.error_bound());
    }
}

/// Products of a session, one after another and in parts, are each as alone.
#[test]
fn shares_do_not_depend_on_the_split() {
    let plans = [wide([20, 33, 300], 36), several(9, [2, 64, 70], 31, 31)];
    let run = |parts: &dyn Fn(usize) -> Vec<Range<usize>>| {
        let mut parties = parties(1);
        let mut all = Vec::new();
        for (i, plan) in plans.iter().enumerate() {
            let left = test_elements(i as u64, plan.count() * plan.rows() * plan.depth());
            let right = signed(10 + i as u64, plan.count() * plan.depth() * plan.columns(), plan.width());
            let (messages, shares) = product(plan, [&left, &right], &mut parties, &parts(plan.answers()));
            assert!(worst(&errors(plan, [&left, &right], &shares)) <= plan.error_bound());
            all.push((messages.concat(), shares));
        }
        all
    };
    assert!(
        run(&|answers| std::iter::once(0..answers).collect())
            == run(&|answers| (0..answers).map(|j| j..j + 1).collect())
    );
}

fn digest(bytes: &[u8]) -> u64 {
    crate::tests::digest(bytes)
}

#[test]
fn known_messages() {
    // Made by this code; a change of these values is a change of the protocol.
    let plan = wide([128, 64, 128], 36);
    let (mut client, mut server) = parties(11);
    let mut messages = vec![client.key(), client.merge_keys(&plan)];
    server.take_merge_keys(&plan, &messages[1]).unwrap();
    let (message, operand) = upload(&plan, &test_elements(12, 128 * 64), &mut client, &mut server);
    messages.extend([message, answer(&mut server, &operand, &signed(13, 64 * 128, 36), 0..2).0]);
    assert_eq!(messages.iter().map(|bytes| digest(bytes)).collect::<Vec<_>>(), KNOWN);
}

const KNOWN: [u64; 4] = [13855274607631335318, 4965353405436308288, 4436408902063170486, 15874605278479630831];

/// Ten million outputs: none is off by more than the bound.
#[test]
fn errors_are_within_the_bound() {
    for (number, plan, repeats, bits) in [
        (3, wide([128, 64, 512], 36), 80, 36),
        (4, wide([128, 64, 512], 45), 40, 45),
        (5, several(1, [64, 256, 1024], 47, 12), 40, 12),
        (6, several(60, [1, 768, 1], 60, 30), 3, 30),
    ] {
        let mut parties = parties(number);
        let (mut most, mut sum, mut count) = (0, 0.0, 0.0);
        for repeat in 0..repeats {
            let left = test_elements(200 + repeat, plan.count() * plan.rows() * plan.depth());
            let right = signed(300 + repeat, plan.count() * plan.depth() * plan.columns(), bits);
            let all = 0..plan.answers();
            let (_, shares) = product(&plan, [&left, &right], &mut parties, &[all]);
            for error in errors(&plan, [&left, &right], &shares) {
                most = most.max(error.unsigned_abs());
                sum += error as f64;
                count += 1.0;
            }
        }
        let text = format!("{count} outputs of {} bits: most {most}, bound {}", plan.width(), plan.error_bound());
        println!("{text}, mean {:.4}", sum / count);
        assert!(most <= plan.error_bound() && (sum / count).abs() < 0.05 * (most as f64).max(1.0), "{text}");
    }
}

#[test]
fn malformed_messages() {
    let plan = wide([100, 64, 30], 36);
    let (mut client, mut server) = parties(6);
    let key = client.key();
    for key in [&key[1..], &[], &[&key[..], &[0]].concat()] {
        let error = Server::new(key).err().unwrap();
        assert!(matches!(error, Error::Length { what: "key", got, .. } if got == key.len()), "{error}");
    }
    let mut bad = key.clone();
    bad[40..48].fill(0xff);
    assert!(matches!(Server::new(&bad).err(), Some(Error::Residue { what: "key" })));
    let keys = client.merge_keys(&plan);
    for bytes in [&keys[1..], &[], &[&keys[..], &[0]].concat()] {
        let error = server.take_merge_keys(&plan, bytes).err().unwrap();
        assert!(matches!(error, Error::Length { what: "keys", .. }), "{error}");
    }
    let mut bad = keys.clone();
    bad[..8].fill(0xff);
    assert!(matches!(server.take_merge_keys(&plan, &bad), Err(Error::Residue { what: "keys" })));
    server.take_merge_keys(&plan, &keys).unwrap();
    let upload = client.encrypt(&plan, &test_elements(1, 6400));
    for bytes in [&upload[1..], &[], &[&upload[..], &[0]].concat()] {
        let error = server.receive(&plan, bytes).err().unwrap();
        assert!(matches!(error, Error::Length { what: "matrix", .. }), "{error}");
    }
    let mut bad = upload.clone();
    bad[upload.len() - 8..].fill(0xff);
    assert!(matches!(server.receive(&plan, &bad).err(), Some(Error::Residue { what: "matrix" })));
    let operand = server.receive(&plan, &upload).unwrap();
    let (message, _) = answer(&mut server, &operand, &signed(2, 64 * 30, 36), 0..plan.answers());
    for bytes in [&message[1..], &[], &[&message[..], &[0]].concat()] {
        let error = client.decrypt(&plan, 0..plan.answers(), bytes).err().unwrap();
        assert!(matches!(error, Error::Length { what: "answer", .. }), "{error}");
    }
    assert!(client.decrypt(&plan, 0..plan.answers(), &vec![0xff; message.len()]).is_ok());
}

/// The coefficients of packed polynomials, brought to 64 bits.
fn coefficients(bytes: &[u8]) -> Vec<u64> {
    let (mut scratch, mut one, mut unit) = (Scratch::new(), Values::new(), vec![0; N]);
    unit[0] = 1;
    one.set_signed(&unit, &mut scratch);
    let mut all = Vec::new();
    for bytes in bytes.chunks_exact(PACKED) {
        let values = Values::unpack(bytes, &mut scratch).unwrap();
        let mut sums = Sums::new();
        sums.add_products(std::iter::once((&values, &one)));
        let mut out = vec![0; N];
        sums.coefficients(&mut out, &mut scratch);
        all.extend(out);
    }
    all
}

#[test]
fn the_server_sees_uniform_numbers() {
    let plan = wide([64, 64, 64], 36);
    for left in [vec![0; 64 * 64], matrix(10, 64, 64).data.to_vec()] {
        let (mut client, _) = parties(9);
        assert!(looks_uniform(&coefficients(&client.key()[32..]), 64, 1));
        assert!(looks_uniform(&coefficients(&client.merge_keys(&plan)), 64, N));
        assert!(looks_uniform(&coefficients(&client.encrypt(&plan, &left)), 64, N));
    }
    // A ciphertext's half used twice, a secret of zero: seen.
    let zeros = vec![0; 64 * 64];
    let (mut client, _) = parties(9);
    assert!(plan.secrets() > 1 || plan.keys().count() > 1, "{}", plan.describe());
    let first = coefficients(&client.encrypt(&plan, &zeros));
    client.restart();
    let second = coefficients(&client.encrypt(&plan, &zeros));
    assert!(!looks_uniform(&[&first[..], &second].concat(), 64, first.len()));
    client.forget_secrets();
    assert!(!looks_uniform(&coefficients(&client.encrypt(&plan, &zeros)), 64, 1));
    client.forget_keys();
    assert!(!looks_uniform(&coefficients(&client.merge_keys(&plan)), 64, 1));
}

#[test]
fn the_client_sees_uniform_numbers() {
    let plan = wide([64, 64, 1024], 36);
    let [a_bits, b_bits] = plan.dropped().map(|dropped| 64 - dropped);
    let view = |server: &mut Server, operand: &Operand, right: &[u64]| {
        let (message, _) = answer(server, operand, right, 0..plan.answers());
        let (mut halves, mut rest) = ([Vec::new(), Vec::new()], &message[..]);
        for j in 0..plan.answers() {
            let (a, b) = rest.split_off(..plan.answer_bytes(j..j + 1)).unwrap().split_at(ring::packed_len(N, a_bits));
            halves[0].extend(ring::unpack(a, a_bits, N).iter());
            halves[1].extend(ring::unpack(b, b_bits, plan.results_of(j..j + 1)).iter());
        }
        halves
    };
    let uniform = |[a, b]: [Vec<u64>; 2]| [looks_uniform(&a, a_bits.into(), N), looks_uniform(&b, b_bits.into(), 64)];
    let (mut client, mut server) = parties(10);
    let (_, operand) = upload(&plan, &vec![0; 64 * 64], &mut client, &mut server);
    let zeros = vec![0; 64 * 1024];
    for right in [zeros.clone(), signed(11, 64 * 1024, 36), vec![1; 64 * 1024]] {
        assert!(uniform(view(&mut server, &operand, &right)) == [true, true]);
    }
    // Randomness used twice is seen in both halves.
    let mut both = view(&mut server, &operand, &zeros);
    let distances = both.each_ref().map(Vec::len);
    server.restart(plan.answers() as u64);
    view(&mut server, &operand, &zeros).into_iter().zip(&mut both).for_each(|(again, half)| half.extend(again));
    let [a, b] = &both;
    assert!(!looks_uniform(a, a_bits.into(), distances[0]) && !looks_uniform(b, b_bits.into(), distances[1]));
    // An encryption of zero that is missing, in the first: there a matrix of zeros shows as zeros.
    server.forget_key();
    assert!(uniform(view(&mut server, &operand, &zeros)) == [false, true]);
}
