//! Both ends against each other, at small sizes.

use super::*;
use kernels::ring::test_elements;

const SMALL: Sizes = Sizes { trees: 37, depth: 5, columns: 200 };

fn blocks(number: u64, count: usize) -> Vec<u128> {
    let words = test_elements(number, 2 * count);
    words.chunks(2).map(|w| u128::from(w[0]) << 64 | u128::from(w[1])).collect()
}

fn ends(sizes: Sizes, number: u8) -> (Sender, Receiver) {
    let delta = blocks(3, 1)[0] | 1;
    let t = blocks(4, sizes.stock());
    let q = t.iter().map(|t| t ^ ((t & 1) * delta)).collect();
    let [a, b] = [number, !number].map(|byte| Seed::new([byte; 32]));
    (Sender::new(delta, q, &[6; 32], &a, sizes), Receiver::new(t, &[6; 32], &b, sizes))
}

fn extend(ends: &mut (Sender, Receiver)) -> [Vec<u128>; 2] {
    // What is there already stays.
    let mut out = [vec![1, 2], vec![3]];
    let request = ends.1.request(0);
    let response = ends.0.respond(0, &request, &mut out[0]).unwrap();
    ends.1.complete(0, &response, &mut out[1]).unwrap();
    assert!(out[0][..2] == [1, 2] && out[1][0] == 3);
    [out[0].split_off(2), out[1].split_off(1)]
}

#[test]
fn extensions_are_correlated_one_after_the_other() {
    let mut both = ends(SMALL, 1);
    let mut all = Vec::new();
    for _ in 0..4 {
        let [q, t] = extend(&mut both);
        assert_eq!((q.len(), t.len()), (SMALL.given(), SMALL.given()));
        for (q, t) in q.iter().zip(&t) {
            assert!(q ^ t == (t & 1) * both.0.delta() && q & 1 == 0);
        }
        all.extend(q);
    }
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "blocks differ");
}

/// Bits of work of the best attack that is known (the head of the module), for the share of the columns that an attacker gets down to.
fn subset_attack(sizes: Sizes, share: f64) -> f64 {
    let unknowns = share * sizes.columns as f64;
    let clean = -unknowns * (1.0 - 0.5f64.powi(sizes.depth as i32)).log2();
    clean + 2.0 * unknowns.log2()
}

#[test]
fn sizes_are_out_of_reach() {
    assert_eq!((SIZES.made(), SIZES.given()), (1 << 22, (1 << 22) - 327_680 - 11 * 2_048));
    // The measured share, and as a margin one tenth less.
    assert!(subset_attack(SIZES, 0.64) > 165.0 && subset_attack(SIZES, 0.58) > 150.0);
    let published = Sizes { trees: 1_319, depth: 13, columns: 589_760 };
    assert!(subset_attack(published, 0.614) < 110.0, "what made us look for others");
}

/// Choices and blocks of the receiver look random. They would without noise too: that noise hides is what is assumed.
#[test]
fn choices_are_balanced() {
    let mut both = ends(Sizes { trees: 200, depth: 8, columns: 3000 }, 2);
    let [_, t] = extend(&mut both);
    for bit in [0, 1, 64, 127] {
        assert!(far(t.iter().map(|t| (t >> bit) as u64 & 1)) < 5.0, "bit {bit}");
    }
}

#[test]
fn messages_of_a_wrong_length_are_errors() {
    let (mut sender, mut receiver) = ends(SMALL, 3);
    let mut request = receiver.request(0);
    let response = sender.respond(0, &request, &mut Vec::new()).unwrap();
    request.push(0);
    assert!(matches!(sender.respond(0, &request, &mut Vec::new()), Err(Error::Length { .. })));
    assert!(matches!(sender.respond(0, &[], &mut Vec::new()), Err(Error::Length { .. })));
    for length in [0, 1, response.len() - 1] {
        assert!(matches!(receiver.complete(0, &response[..length], &mut Vec::new()), Err(Error::Length { .. })));
    }
}

/// Any bytes of the right length are taken, and choices stay the receiver's: results are wrong, and nothing else happens.
#[test]
fn altered_bytes_are_no_panic() {
    let choices = |alter: u8| {
        let (mut sender, mut receiver) = ends(SMALL, 4);
        let mut request = receiver.request(0);
        request.iter_mut().for_each(|b| *b ^= alter);
        let mut response = sender.respond(0, &request, &mut Vec::new()).unwrap();
        response.iter_mut().for_each(|b| *b ^= alter);
        let mut out = Vec::new();
        receiver.complete(0, &response, &mut out).unwrap();
        out.iter().map(|t| t & 1).collect::<Vec<_>>()
    };
    assert!(choices(0) == choices(0xa5));
}

/// How far the ones among some bits are from half of them, in standard deviations.
fn far(bits: impl Iterator<Item = u64>) -> f64 {
    let (ones, all) = bits.fold((0.0, 0.0), |(ones, all), bit| (ones + bit as f64, all + 1.0));
    (ones - all / 2.0).abs() / (all / 4.0_f64).sqrt()
}

/// What the sender sees, the derandomised choices, tells nothing of the paths; from a stock that is not random it does.
#[test]
fn requests_tell_no_paths() {
    let sizes = Sizes { trees: 3000, depth: 6, columns: 64 };
    let deviation = |mut receiver: Receiver| {
        let request = receiver.request(0);
        let places = 0..sizes.trees * sizes.depth;
        let sent = |i: usize| u64::from(request[i / 8] >> (i % 8) & 1);
        let path = |i: usize| receiver.paths[i / sizes.depth] >> (i % sizes.depth) & 1;
        far(places.clone().map(sent)).max(far(places.clone().map(path))).max(far(places.map(|i| sent(i) ^ path(i))))
    };
    assert!(deviation(ends(sizes, 5).1) < 5.0);
    let constant = vec![1; sizes.stock()];
    assert!(deviation(Receiver::new(constant, &[6; 32], &Seed::new([1; 32]), sizes)) > 5.0);
}
