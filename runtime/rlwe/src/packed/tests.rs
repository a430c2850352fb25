//! Both parties in one thread: shares, their errors, what each party sees, and malformed messages.

use super::{Client, Operand, Plan, Server};
use crate::Error;
use crate::ntt::N;
use crate::rns::{PACKED, Scratch, Sums, Values};
use crate::tests::{looks_uniform, matrix};
use kernels::prg::Seed;
use kernels::ring::{self, Tensor, mask, test_elements};

/// A plan for numbers of both parties as wide as the result.
fn wide(sizes: [usize; 3], width: u8) -> Plan {
    Plan::new(sizes, width, (sizes[1] as u128) << (2 * (width - 1))).unwrap()
}

/// Signed numbers of so many bits, mod 2^64.
fn signed(seed: u64, count: usize, bits: u8) -> Vec<u64> {
    let up = 64 - u32::from(bits);
    test_elements(seed, count).iter().map(|x| ((x << up) as i64 >> up) as u64).collect()
}

/// Parties of seeds that depend on a number.
fn parties(secrets: usize, number: u8) -> (Client, Server) {
    let client = Client::from_seeds(secrets, [number; 32], &Seed::new([number + 100; 32]));
    let server = Server::from_seed(secrets, &client.key(), &Seed::new([number + 200; 32])).unwrap();
    (client, server)
}

fn answer(server: &mut Server, operand: &Operand, right: &[u64], answers: std::ops::Range<usize>) -> (Vec<u8>, Tensor) {
    let columns = operand.plan.columns();
    let rows = |row: usize, first: usize, out: &mut [u64]| {
        out.copy_from_slice(&right[row * columns + first..][..out.len()]);
    };
    server.answer(operand, &rows, answers)
}

/// Errors of the shares' sum, as signed integers.
fn errors(plan: &Plan, left: &[u64], right: &[u64], shares: [&Tensor; 2]) -> Vec<i64> {
    let (rows, depth, columns, width) = (plan.rows(), plan.depth(), plan.columns(), plan.width());
    let cells: Vec<[u8; 8]> = right.iter().map(|x| x.to_le_bytes()).collect();
    let mut exact = vec![0; rows * columns];
    ring::matmul(left, &cells, rows, depth, columns, 64, &mut exact);
    let up = 64 - u32::from(width);
    assert!(shares.iter().all(|share| share.shape == [rows, columns] && share.data.iter().all(|x| *x <= mask(width))));
    let sums = shares[0].data.iter().zip(&*shares[1].data).map(|(x, y)| x.wrapping_add(*y));
    sums.zip(&exact).map(|(sum, exact)| (sum.wrapping_sub(*exact) << up) as i64 >> up).collect()
}

#[test]
fn shares_of_products() {
    let small = |sizes, width, bits: u8| Plan::new(sizes, width, (sizes[1] as u128) << (2 * (bits - 1))).unwrap();
    for (number, (plan, bits)) in [
        (wide([1, 1, 1], 36), 36),
        (wide([128, 64, 128], 30), 30),
        (wide([17, 130, 64], 39), 39),
        (wide([1, 64, 200], 44), 44),
        (wide([200, 64, 1], 2), 2),
        (wide([3, 5, 7], 1), 1),
        (small([128, 300, 96], 47, 12), 12),
        (small([1, 700, 5000], 64, 12), 12),
        (small([4099, 3, 5], 55, 16), 16),
        (small([40, 5000, 2], 33, 20), 20),
    ]
    .into_iter()
    .enumerate()
    {
        let left = test_elements(number as u64, plan.rows() * plan.depth());
        let right = signed(50 + number as u64, plan.depth() * plan.columns(), bits);
        let (mut client, mut server) = parties(plan.secrets(), number as u8);
        let operand = server.receive(&plan, &client.encrypt(&plan, &left)).unwrap();
        let (message, server_share) = answer(&mut server, &operand, &right, 0..plan.answers());
        assert_eq!(message.len(), plan.answer_bytes(0..plan.answers()));
        let client_share = client.decrypt(&plan, 0..plan.answers(), &message).unwrap();
        let errors = errors(&plan, &left, &right, [&client_share, &server_share]);
        let most = errors.iter().map(|e| e.unsigned_abs()).max().unwrap();
        assert!(most <= plan.error_bound(), "{most} of {} at {plan:?}", plan.error_bound());
    }
}

/// Several products whose rows lie side by side in ciphertexts, answered in parts.
#[test]
fn products_side_by_side() {
    for (number, count, sizes, width) in [
        (1, 7, [1, 768, 1], 44),
        (2, 3, [768, 1, 1], 40),
        (3, 11, [1, 1, 700], 40),
        (4, 100, [2, 5, 7], 36),
        (5, 2, [1, 1, 1], 7),
    ] {
        let [rows, depth, columns] = sizes;
        let plan = Plan::many(count, sizes, width, (depth as u128) << (2 * (width - 1))).unwrap().unwrap();
        let left = test_elements(number, count * rows * depth);
        let right = signed(50 + number, count * depth * columns, width);
        let (mut client, mut server) = parties(plan.secrets(), number as u8);
        let operand = server.receive(&plan, &client.encrypt(&plan, &left)).unwrap();
        let mut shares = [Vec::new(), Vec::new()];
        for part in [0..1, 1..plan.answers()] {
            let (message, share) = answer(&mut server, &operand, &right, part.clone());
            shares[0].extend(client.decrypt(&plan, part, &message).unwrap().data.iter());
            shares[1].extend(share.data.iter());
        }
        let one = Plan::new(sizes, width, plan.norm_squared()).unwrap();
        for j in 0..count {
            let share =
                |i: usize| Tensor::new(vec![rows, columns], shares[i][j * rows * columns..][..rows * columns].to_vec());
            let (left, right) =
                (&left[j * rows * depth..][..rows * depth], &right[j * depth * columns..][..depth * columns]);
            let errors = errors(&one, left, right, [&share(0), &share(1)]);
            assert!(errors.iter().all(|e| e.unsigned_abs() <= plan.error_bound()), "{sizes:?}, product {j}");
        }
    }
}

/// Products of a session, one after another and in parts, are each as alone.
#[test]
fn shares_do_not_depend_on_the_split() {
    let plans = [wide([20, 33, 300], 36), wide([2, 64, 70], 31)];
    let secrets = plans.iter().map(Plan::secrets).max().unwrap();
    let run = |parts: &dyn Fn(usize) -> Vec<std::ops::Range<usize>>| {
        let (mut client, mut server) = parties(secrets, 1);
        let mut all = Vec::new();
        for (i, plan) in plans.iter().enumerate() {
            let left = test_elements(i as u64, plan.rows() * plan.depth());
            let right = signed(10 + i as u64, plan.depth() * plan.columns(), plan.width());
            let upload = client.encrypt(plan, &left);
            let operand = server.receive(plan, &upload).unwrap();
            let (mut messages, mut shares) = (upload, [Vec::new(), Vec::new()]);
            for part in parts(plan.answers()) {
                let (message, share) = answer(&mut server, &operand, &right, part.clone());
                shares[0].push(client.decrypt(plan, part, &message).unwrap());
                shares[1].push(share);
                messages.extend(message);
            }
            let shares = shares.map(|parts| Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1));
            let errors = errors(plan, &left, &right, shares.each_ref());
            assert!(errors.iter().all(|e| e.unsigned_abs() <= plan.error_bound()));
            all.push((messages, shares));
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
    let (mut client, mut server) = parties(plan.secrets(), 11);
    let upload = client.encrypt(&plan, &test_elements(12, 128 * 64));
    let operand = server.receive(&plan, &upload).unwrap();
    let (message, _) = answer(&mut server, &operand, &signed(13, 64 * 128, 36), 0..2);
    assert_eq!([&client.key(), &upload, &message].map(|bytes| digest(bytes)), KNOWN);
}

const KNOWN: [u64; 3] = [15000396854956181876, 13007395433844547448, 14995686711454970182];

/// Ten million outputs: none is off by more than the bound.
#[test]
fn errors_are_within_the_bound() {
    for (number, plan, repeats, bits) in [
        (3, wide([128, 64, 512], 36), 80, 36),
        (4, wide([128, 64, 512], 45), 40, 45),
        (5, Plan::new([64, 256, 1024], 47, 256 << 22).unwrap(), 40, 12),
    ] {
        let (mut client, mut server) = parties(plan.secrets(), number);
        let (mut most, mut sum, mut count) = (0, 0.0, 0.0);
        for repeat in 0..repeats {
            let left = test_elements(200 + repeat, plan.rows() * plan.depth());
            let right = signed(300 + repeat, plan.depth() * plan.columns(), bits);
            let operand = server.receive(&plan, &client.encrypt(&plan, &left)).unwrap();
            let (message, share) = answer(&mut server, &operand, &right, 0..plan.answers());
            let other = client.decrypt(&plan, 0..plan.answers(), &message).unwrap();
            for error in errors(&plan, &left, &right, [&share, &other]) {
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
    let (mut client, mut server) = parties(plan.secrets(), 6);
    let key = client.key();
    for key in [&key[1..], &[], &[&key[..], &[0]].concat()] {
        let error = Server::new(plan.secrets(), key).err().unwrap();
        assert!(matches!(error, Error::Length { what: "key", got, .. } if got == key.len()), "{error}");
    }
    let mut bad = key.clone();
    bad[40..48].fill(0xff);
    assert!(matches!(Server::new(plan.secrets(), &bad).err(), Some(Error::Residue { what: "key" })));
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
        let (mut client, _) = parties(plan.secrets(), 9);
        assert!(looks_uniform(&coefficients(&client.key()[32..]), 64, 1));
        assert!(looks_uniform(&coefficients(&client.encrypt(&plan, &left)), 64, N));
    }
    // A ciphertext's half used twice, a secret of zero: seen.
    let zeros = vec![0; 64 * 64];
    let (mut client, _) = parties(plan.secrets(), 9);
    let first = coefficients(&client.encrypt(&plan, &zeros));
    client.restart();
    let second = coefficients(&client.encrypt(&plan, &zeros));
    assert!(!looks_uniform(&[&first[..], &second].concat(), 64, first.len()));
    client.forget_secrets();
    assert!(!looks_uniform(&coefficients(&client.encrypt(&plan, &zeros)), 64, 1));
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
            halves[1].extend(ring::unpack(b, b_bits, 64 * plan.columns_of(j..j + 1).len()).iter());
        }
        halves
    };
    let uniform = |[a, b]: [Vec<u64>; 2]| [looks_uniform(&a, a_bits.into(), N), looks_uniform(&b, b_bits.into(), 64)];
    let (mut client, mut server) = parties(plan.secrets(), 10);
    let operand = server.receive(&plan, &client.encrypt(&plan, &vec![0; 64 * 64])).unwrap();
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
