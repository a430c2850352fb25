//! Both parties in one thread: shares, their errors, what each party sees, and malformed messages.

use crate::ntt::N;
use crate::{Client, Error, Plan, Server, norm_squared};
use kernels::prg::Seed;
use kernels::ring::{self, Cell, Tensor, mask, test_elements};

type I16 = [u8; 2];

/// Weights of magnitude at most `bound`.
fn weights(seed: u64, count: usize, bound: i64) -> Vec<I16> {
    let small = |x: &u64| ((x >> 11) % (2 * bound as u64 + 1)) as i64 - bound;
    test_elements(seed, count).iter().map(|x| (small(x) as i16).to_le_bytes()).collect()
}

pub(crate) fn matrix(seed: u64, rows: usize, columns: usize) -> Tensor {
    Tensor::new(vec![rows, columns], test_elements(seed, rows * columns))
}

/// Parties of seeds that depend on a number.
fn parties(plan: Plan, number: u8) -> (Client, Server) {
    let client = Client::from_seeds(plan, [number; 32], &Seed::new([number + 100; 32]));
    let server = Server::from_seed(plan, &client.key(), &Seed::new([number + 200; 32])).unwrap();
    (client, server)
}

fn upload(a: &Tensor, parts: &[usize], client: &mut Client, server: &mut Server) {
    let mut from = 0;
    for part in parts {
        let bytes = client.encrypt(&a.slice(1, from, from + part));
        from += part;
        assert_eq!(server.receive(&bytes).unwrap(), a.shape[1] - from);
    }
}

/// Errors of the shares' sum, as signed integers.
fn errors<B: Cell>(plan: Plan, a: &Tensor, w: &[B], columns: usize, shares: [&Tensor; 2]) -> Vec<i64> {
    let mut exact = vec![0; plan.rows() * columns];
    ring::matmul(&a.data, w, plan.rows(), plan.depth(), columns, 64, &mut exact);
    let up = 64 - u32::from(plan.width());
    let low = mask(plan.width());
    assert!(shares.iter().all(|share| share.shape == [plan.rows(), columns] && share.data.iter().all(|x| *x <= low)));
    let sums = shares[0].data.iter().zip(&*shares[1].data).map(|(x, y)| x.wrapping_add(*y));
    sums.zip(&exact).map(|(sum, exact)| (sum.wrapping_sub(*exact) << up) as i64 >> up).collect()
}

#[test]
fn shares_of_products() {
    for (number, (rows, depth, columns, width, bound)) in [
        (1, 1, 1, 47, 1),
        (1, 3, 2, 1, 7),
        (5, 1, 3, 2, 0),
        (100, 40, 7, 47, 2048),
        (N - 1, 33, 3, 55, 2048),
        (N, 64, 2, 64, 1),
        (N + 1, 5, 4, 40, 30_000),
        (3 * N + 17, 9, 5, 50, 100),
        (4 * N, 2, 1, 33, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let plan = Plan::new(rows, depth, width, norm_squared(depth, bound as u64)).unwrap();
        let (a, w) = (matrix(1, rows, depth), weights(2, depth * columns, bound));
        let (mut client, mut server) = parties(plan, number as u8);
        upload(&a, &[depth], &mut client, &mut server);
        let (bytes, server_share) = server.answer(&w, columns);
        assert_eq!(bytes.len(), plan.answer_bytes(columns));
        let client_share = client.decrypt(&bytes, columns).unwrap();
        let errors = errors(plan, &a, &w, columns, [&client_share, &server_share]);
        let most = errors.iter().map(|e| e.unsigned_abs()).max().unwrap();
        assert!(most <= plan.error_bound(), "{most} of {} at {rows} {depth} {columns} {width}", plan.error_bound());
    }
}

/// A digest of words, of bytes that are not.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| chunk.iter().rfold(0, |word, byte| word << 8 | u64::from(*byte)));
    words.fold(0, |sum: u64, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

#[test]
fn known_messages() {
    // Made by this code; a change of these values is a change of the protocol.
    let plan = Plan::new(N + 3, 2, 47, norm_squared(2, 100)).unwrap();
    let (mut client, mut server) = parties(plan, 11);
    let upload = client.encrypt(&matrix(12, N + 3, 2));
    server.receive(&upload).unwrap();
    let (answer, _) = server.answer(&weights(13, 2, 100), 1);
    assert_eq!([&client.key(), &upload, &answer].map(|bytes| digest(bytes)), KNOWN);
}

const KNOWN: [u64; 3] = [18123324801508819895, 3183431829194607141, 4902278146028321384];

#[test]
fn shares_do_not_depend_on_the_split() {
    let (rows, depth, columns) = (700, 80, 6);
    let plan = Plan::new(rows, depth, 47, norm_squared(depth, 300)).unwrap();
    let (a, w) = (matrix(3, rows, depth), weights(4, depth * columns, 300));
    let run = |parts: &[usize], tiles: &[usize]| {
        let (mut client, mut server) = parties(plan, 1);
        upload(&a, parts, &mut client, &mut server);
        let (mut messages, mut shares, mut from) = (Vec::new(), [Vec::new(), Vec::new()], 0);
        for tile in tiles {
            let tile_weights: Vec<I16> =
                w.chunks_exact(columns).flat_map(|row| &row[from..from + tile]).copied().collect();
            let (message, share) = server.answer(&tile_weights, *tile);
            shares[0].push(client.decrypt(&message, *tile).unwrap());
            shares[1].push(share);
            messages.extend(message);
            from += tile;
        }
        (messages, shares.map(|parts| Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1)))
    };
    let want = run(&[80], &[6]);
    for (parts, tiles) in [(&[1, 0, 33, 46][..], &[1, 5][..]), (&[32, 48], &[0, 2, 2, 2]), (&[40, 40], &[6, 0])] {
        assert!(run(parts, tiles) == want, "{parts:?} {tiles:?}");
    }
}

#[test]
fn cells_of_all_sizes() {
    let (rows, depth) = (10, 3);
    let plan = Plan::new(rows, depth, 40, norm_squared(depth, 1 << 20)).unwrap();
    let a = matrix(5, rows, depth);
    let values: [i32; 3] = [-(1 << 20), 1 << 20, 12345];
    let (mut client, mut server) = parties(plan, 2);
    upload(&a, &[depth], &mut client, &mut server);
    let check = |(message, share): (Vec<u8>, Tensor), w: &[[u8; 8]]| {
        let other = client.decrypt(&message, 1).unwrap();
        let errors = errors(plan, &a, w, 1, [&share, &other]);
        assert!(errors.iter().all(|e| e.unsigned_abs() <= plan.error_bound()));
    };
    let wide = values.map(|x| i64::from(x).to_le_bytes());
    check(server.answer(&values.map(i32::to_le_bytes), 1), &wide);
    check(server.answer(&wide, 1), &wide);
    let narrow = [i16::MIN, i16::MAX, -1];
    check(server.answer(&narrow.map(i16::to_le_bytes), 1), &narrow.map(|x| i64::from(x).to_le_bytes()));
}

/// Ten million outputs: none is off by more than the bound, and errors are as large as predicted.
#[test]
fn errors_are_as_predicted() {
    let (rows, depth, tile) = (N, 16, 64);
    let a = matrix(6, rows, depth);
    for (number, width, bound, tiles) in [(3, 47, 12_000, 20), (4, 54, 12_000, 10), (5, 40, 12_000, 10)] {
        let plan = Plan::new(rows, depth, width, norm_squared(depth, bound as u64)).unwrap();
        let (mut client, mut server) = parties(plan, number);
        upload(&a, &[depth], &mut client, &mut server);
        let (mut count, mut sum, mut squares, mut predicted, mut most) = (0.0, 0.0, 0.0, 0.0, 0);
        for t in 0..tiles {
            let w = weights(100 + t, depth * tile, bound);
            let (message, share) = server.answer(&w, tile);
            let client_share = client.decrypt(&message, tile).unwrap();
            for error in errors(plan, &a, &w, tile, [&client_share, &share]) {
                sum += error as f64;
                squares += (error * error) as f64;
                most = most.max(error.unsigned_abs());
            }
            count += (rows * tile) as f64;
            for column in 0..tile {
                let norm = |row: &[I16]| f64::from(i16::from_le_bytes(row[column])).powi(2);
                let norm: f64 = w.chunks_exact(tile).map(norm).sum();
                predicted += plan.error_rms(norm).powi(2) / (tiles * tile as u64) as f64;
            }
        }
        let (mean, rms) = (sum / count, (squares / count).sqrt());
        let text = format!("{width} bits: mean {mean:.5}, rms {rms:.4} of {:.4}, most {most}", predicted.sqrt());
        println!("{text}, bound {}", plan.error_bound());
        assert!(most <= plan.error_bound(), "{text}");
        // Outputs of a row share the noise of its 16 ciphertexts, so a mean varies more than independent errors would let it.
        assert!((rms / predicted.sqrt() - 1.0).abs() < 0.02, "{text}");
        assert!(mean.abs() < 0.02 * rms.max(1.0), "{text}");
    }
}

#[test]
fn malformed_messages() {
    let plan = Plan::new(300, 5, 47, norm_squared(5, 10)).unwrap();
    let (mut client, mut server) = parties(plan, 6);
    let key = client.key();
    for key in [&key[1..], &[], &[&key[..], &[0]].concat()] {
        let error = Server::new(plan, key).err().unwrap();
        assert!(matches!(error, Error::Length { what: "key", got, .. } if got == key.len()), "{error}");
    }
    let all = client.encrypt(&matrix(7, 300, 5));
    assert_eq!(all.len(), plan.upload_bytes(5));
    let column = plan.upload_bytes(1);
    for bytes in [&all[1..], &all[..column - 1], &[&all[..], &all[..column]].concat()] {
        let error = server.receive(bytes).unwrap_err();
        assert!(matches!(error, Error::Columns { left: 5, .. }), "{error}");
    }
    assert_eq!(server.receive(&all[..2 * column]).unwrap(), 3);
    assert_eq!(server.receive(&[]).unwrap(), 3);
    assert!(server.receive(&all).is_err(), "two columns too many");
    // Any content is a ciphertext.
    assert_eq!(server.receive(&vec![0xff; 3 * column]).unwrap(), 0);
    assert!(server.receive(&all[..column]).is_err(), "one too many");
    let (message, _) = server.answer(&weights(8, 10, 10), 2);
    for bytes in [&message[1..], &[], &[&message[..], &[0]].concat()] {
        let error = client.decrypt(bytes, 2).err().unwrap();
        assert!(matches!(error, Error::Length { what: "answer", .. }), "{error}");
    }
    assert!(client.decrypt(&vec![0xff; message.len()], 2).is_ok());
    assert!(client.decrypt(&[], 0).unwrap().is_empty());
}

#[test]
#[should_panic(expected = "a column of weights is beyond the plan")]
fn weights_beyond_the_plan() {
    let plan = Plan::new(1, 1, 47, 99).unwrap();
    let (mut client, mut server) = parties(plan, 7);
    upload(&matrix(9, 1, 1), &[1], &mut client, &mut server);
    server.answer(&[10i16.to_le_bytes()], 1);
}

#[test]
#[should_panic(expected = "columns of the client's matrix")]
fn an_answer_too_early() {
    let plan = Plan::new(1, 2, 47, 100).unwrap();
    let (mut client, mut server) = parties(plan, 8);
    server.receive(&client.encrypt(&matrix(9, 1, 1))).unwrap();
    server.answer(&[[1, 0], [2, 0]], 1);
}

/// The greatest chi-square of the four bit quarters' values of some words: 63 degrees of freedom each, standard deviation 11.
fn chi_square(words: &[u64], width: u32) -> f64 {
    let square = |shift: u32| {
        let mut counts = [0u32; 64];
        words.iter().for_each(|x| counts[(x >> shift & 63) as usize] += 1);
        let mean = words.len() as f64 / 64.0;
        counts.iter().map(|c| (f64::from(*c) - mean).powi(2) / mean).sum()
    };
    [0, width / 3, width / 2, width - 6].into_iter().map(square).fold(0.0, f64::max)
}

/// Chi-square of words and of their differences at a distance: what an observer of both would look at first.
pub(crate) fn looks_uniform(words: &[u64], width: u32, distance: usize) -> bool {
    let differences: Vec<u64> = words.iter().zip(&words[distance..]).map(|(x, y)| x.wrapping_sub(*y)).collect();
    chi_square(words, width) < 140.0 && chi_square(&differences, width) < 140.0
}

#[test]
fn the_server_sees_uniform_words() {
    let (rows, depth) = (N, 4);
    let plan = Plan::new(rows, depth, 47, norm_squared(depth, 10)).unwrap();
    let words = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|x| u64::from_le_bytes(*x)).collect::<Vec<_>>();
    let zeros = Tensor::zeros(&[rows, depth]);
    for a in [zeros, matrix(10, rows, depth)] {
        let (mut client, _) = parties(plan, 9);
        assert!(looks_uniform(&words(&client.key()[32..]), 64, 1));
        let sound = words(&client.encrypt(&a));
        assert!(looks_uniform(&sound, 64, N));
    }
    // A column's half used twice, a secret of zero: seen.
    let encrypt = |client: &mut Client| words(&client.encrypt(&Tensor::zeros(&[rows, 1])));
    let (mut client, _) = parties(plan, 9);
    let first = encrypt(&mut client);
    client.restart();
    let second = encrypt(&mut client);
    assert!(first == second && !looks_uniform(&[first, second].concat(), 64, N));
    client.forget_secrets();
    assert!(!looks_uniform(&encrypt(&mut client), 64, 1));
}

#[test]
fn the_client_sees_uniform_words() {
    let (rows, depth, columns) = (N, 4, 3);
    let plan = Plan::new(rows, depth, 47, norm_squared(depth, 2000)).unwrap();
    let [a_bits, b_bits] = plan.dropped().map(|dropped| 64 - dropped);
    let view = |server: &mut Server, w: &[I16]| {
        let (message, _) = server.answer(w, columns);
        let mut halves = [Vec::new(), Vec::new()];
        for column in message.chunks_exact(plan.column_bytes()) {
            let (a, b) = column.split_at(ring::packed_len(N, a_bits));
            halves[0].extend(ring::unpack(a, a_bits, N).iter());
            halves[1].extend(ring::unpack(b, b_bits, rows).iter());
        }
        halves
    };
    let uniform = |[a, b]: [Vec<u64>; 2]| [looks_uniform(&a, a_bits.into(), N), looks_uniform(&b, b_bits.into(), N)];
    let (mut client, mut server) = parties(plan, 10);
    upload(&Tensor::zeros(&[rows, depth]), &[depth], &mut client, &mut server);
    let zeros = vec![[0; 2]; depth * columns];
    for w in [zeros.clone(), weights(11, depth * columns, 2000), vec![[1, 0]; depth * columns]] {
        assert!(uniform(view(&mut server, &w)) == [true, true]);
    }
    // Randomness used twice is seen in both halves.
    let mut both = view(&mut server, &zeros);
    server.restart(columns as u64);
    view(&mut server, &zeros).into_iter().zip(&mut both).for_each(|(again, half)| half.extend(again));
    let [a, b] = &both;
    assert!(!looks_uniform(a, a_bits.into(), columns * N) && !looks_uniform(b, b_bits.into(), columns * N));
    // An encryption of zero that is missing, in the first: there a matrix of zeros shows as zeros.
    server.forget_key();
    assert!(uniform(view(&mut server, &zeros)) == [false, true]);
}
