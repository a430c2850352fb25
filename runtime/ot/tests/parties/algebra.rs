//! What the parties' shares add up to, at all boundaries, and what was sent for it.

use crate::common::{PATIENCE, numbers, on, pair, run, seed, since};
use kernels::ring::mask;
use ot::cost::{self, Cost};
use ot::silent::Sizes;
use ot::{Bits, Form, Memory, Pair, SETUP_BYTES, exchange};

const COUNTS: [usize; 6] = [0, 1, 3, 64, 129, 1000];

/// Runs an operation whose correlations are there beforehand, and compares what was sent with the cost.
fn checked<T: Send>(session: u8, cost: Cost, side: impl Fn(&mut Pair, &mut Memory) -> T + Sync) -> [T; 2] {
    run(session, |pair, channel| {
        let own = pair.party().index();
        pair.reserve(channel, cost.choices[own], cost.choices[1 - own]).unwrap();
        let before = channel.meter();
        let result = side(pair, channel);
        let (sent, rounds) = since(before, channel.meter());
        assert_eq!(sent, cost.sent_bytes[own] as u64, "bytes that party {own} sends");
        assert!(rounds <= cost.rounds as u64, "{rounds} rounds");
        result
    })
}

/// What shares stand for.
fn joined(shares: [&[u64]; 2], form: Form) -> Vec<u64> {
    let low = mask(form.width());
    assert!(shares.iter().all(|share| share.iter().all(|x| x & !low == 0)), "shares have their width");
    let of = |(a, b): (&u64, &u64)| match form {
        Form::Sum(_) => a.wrapping_add(*b) & low,
        Form::Xor(_) => a ^ b,
    };
    assert_eq!(shares[0].len(), shares[1].len());
    shares[0].iter().zip(shares[1]).map(of).collect()
}

/// Low bits times rows of numbers.
fn products(bits: &[u64], d: &[u64], len: usize, form: Form) -> Vec<u64> {
    d.iter().enumerate().map(|(i, d)| d.wrapping_mul(bits[i / len] & 1) & mask(form.width())).collect()
}

#[test]
fn bits_times_numbers() {
    for (session, (count, len, width)) in COUNTS
        .iter()
        .flat_map(|&count| [(count, 1, 1), (count, 1, 64), (count, 1, 17), (count, 5, 33), (count, 3, 8)])
        .chain([(2, 1000, 9), (1, 4097, 64), (70, 256, 18)])
        .enumerate()
    {
        for form in [Form::Sum(width), Form::Xor(width)] {
            // Numbers of 64 bits: the high ones do not matter. The server chooses twice as often, or one alone does.
            for counts in [[count, 2 * count], [count, 0], [0, count]] {
                let bits = [0, 1].map(|p| numbers(1 + p as u8, counts[p], 64));
                let d = [0, 1].map(|p| numbers(3 + p as u8, counts[1 - p] * len, 64));
                let cost = cost::correlate(counts, len, form);
                let [[c0, h0], [c1, h1]] = checked(session as u8, cost, |pair, channel| {
                    let own = pair.party().index();
                    pair.correlate(channel, &bits[own], &d[own], len, form).unwrap()
                });
                for (chooser, shares) in [[&c0, &h1], [&c1, &h0]].into_iter().enumerate() {
                    let want = products(&bits[chooser], &d[1 - chooser], len, form);
                    assert_eq!(joined([shares[0], shares[1]], form), want, "{form:?}, {count} rows of {len}");
                }
            }
        }
    }
}

/// Vectors of several shapes, all bits of them in one message and all numbers in another. A choice serves twice.
#[test]
fn vectors_that_go_together() {
    let shapes = [
        ([3, 0], 1, Form::Sum(18)),
        ([0, 0], 2, Form::Sum(5)),
        ([65, 130], 4, Form::Xor(64)),
        ([1, 9], 1, Form::Xor(1)),
        ([129, 63], 3, Form::Sum(33)),
    ];
    let bits = [0, 1].map(|p: u8| shapes.map(|(counts, ..)| numbers(10 + p, counts[usize::from(p)], 64)));
    let held = [0, 1].map(|p: u8| shapes.map(|(counts, len, _)| numbers(20 + p, counts[usize::from(1 - p)] * len, 64)));
    let mut cost = Cost { sent_bytes: [0; 2], choices: [0; 2], rounds: 2 };
    for (counts, len, form) in shapes {
        let each = cost::correlate(counts, len, form);
        for p in 0..2 {
            cost.sent_bytes[p] += each.sent_bytes[p] + form.message_bytes(counts[1 - p] * len);
            cost.choices[p] += each.choices[p];
        }
    }
    let shares = checked(1, cost, |pair, channel| {
        let own = pair.party().index();
        let choices = bits[own].iter().map(|bits| Bits::of(bits, 0)).collect();
        let theirs = shapes.map(|(counts, ..)| counts[1 - own]);
        let (mut chosen, mut offered) = pair.choose(channel, choices, &theirs).unwrap();
        let (mut message, mut expected) = (Vec::new(), 0);
        let mut give = |i: usize| {
            let ((counts, len, form), d) = (shapes[i], &held[own][i]);
            expected += form.message_bytes(counts[own] * len);
            // Known before anything is given, as stages that follow from one another need it.
            let before = offered[i].kept(len, form);
            let kept = offered[i].give(d, len, form, &mut message);
            assert_eq!(before, kept, "shares do not depend on the numbers");
            kept
        };
        let order = || (0..shapes.len()).chain((0..shapes.len()).rev());
        let kept: Vec<Vec<u64>> = order().map(&mut give).collect();
        let got = exchange(channel, message, expected).unwrap();
        let mut rest = &got[..];
        let had: Vec<Vec<u64>> = order().map(|i| chosen[i].get(&mut rest, shapes[i].1, shapes[i].2)).collect();
        assert!(rest.is_empty());
        [had, kept]
    });
    for chooser in 0..2 {
        let [had, kept] = [&shares[chooser][0], &shares[1 - chooser][1]];
        for i in 0..shapes.len() {
            let (_, len, form) = shapes[i];
            let want = products(&bits[chooser][i], &held[1 - chooser][i], len, form);
            for at in [i, had.len() - 1 - i] {
                assert_eq!(joined([&had[at], &kept[at]], form), want, "{form:?}, rows of {len}");
            }
        }
    }
}

/// Many operations in one session, with whatever correlations are left, give the same whether made ahead or not.
#[test]
fn reserving_changes_nothing() {
    let bits = [60, 61].map(|p| numbers(p, 700, 64));
    let ops = |pair: &mut Pair, channel: &mut Memory| {
        let own = &bits[pair.party().index()];
        let a = pair.correlate(channel, own, own, 1, Form::Sum(9)).unwrap();
        let b = pair.correlate(channel, &own[..33], &own[..66], 2, Form::Xor(64)).unwrap();
        let c = pair.correlate(channel, &own[..600], &own[..600], 1, Form::Sum(30)).unwrap();
        (a, b, c)
    };
    let plain = run(3, ops);
    let ahead = run(3, |pair, channel| {
        let ahead = [2000, 5000];
        let own = pair.party().index();
        pair.reserve(channel, ahead[own], ahead[1 - own]).unwrap();
        ops(pair, channel)
    });
    assert!(plain == ahead);
}

#[test]
fn correlations_cost_what_they_say() {
    for (own, theirs) in [(0, 0), (1, 0), (512, 513), (1 << 20, 3), ((1 << 20) + 1, 40_000)] {
        let choices = [own, theirs];
        let sent = run(1, |pair, channel| {
            let own = pair.party().index();
            pair.reserve(channel, choices[own], choices[1 - own]).unwrap();
            channel.meter().sent_bytes
        });
        assert_eq!(sent, choices.map(|count| cost::soft(count) as u64), "{choices:?}");
    }
}

/// A pair that sets itself up: it costs what it says, and every part of its name matters.
#[test]
fn set_up() {
    let once = |session, of: u8| {
        on(Memory::pair(PATIENCE), |party, channel| {
            let mut pair = Pair::set_up(channel, party, [session; 32], &seed(of + party.index() as u8)).unwrap();
            let meter = channel.meter();
            assert!(meter.sent_bytes == SETUP_BYTES as u64 && meter.rounds == 2);
            pair.correlate(channel, &[1, 0, 1, 1], &[5, 6, 7, 8], 1, Form::Sum(64)).unwrap()
        })
    };
    let all = [once(1, 1), once(2, 1), once(1, 3)];
    assert!(all[0] != all[1] && all[0] != all[2] && all[0] == once(1, 1));
    for [[c0, h0], [c1, h1]] in all {
        for (chosen, held) in [(c0, h1), (c1, h0)] {
            assert_eq!(joined([&chosen, &held], Form::Sum(64)), [5, 0, 7, 8]);
        }
    }
}

/// Transfers on silent correlations, over several extensions, and what these send.
#[test]
fn silent_engines() {
    let (sizes, form) = (Sizes { trees: 40, depth: 6, columns: 300 }, Form::Sum(33));
    let bits = [60, 61].map(|p| numbers(p, 700, 64));
    let both = on(Memory::pair(PATIENCE), |party, channel| {
        let own = party.index();
        let mut pair = pair(party, 8).later_silent([8; 32], &seed(own as u8), sizes, sizes.stock());
        // Once so many are made, silent engines go on, from a stock of these.
        pair.reserve(channel, sizes.stock(), sizes.stock()).unwrap();
        let first = channel.meter();
        pair.reserve(channel, 2 * sizes.stock(), 2 * sizes.stock()).unwrap();
        let each = (sizes.request_bytes() + sizes.response_bytes()) as u64;
        assert_eq!(since(first, channel.meter()).0, each);
        let before = channel.meter();
        // The first extension is there, and the first engine's last batch left some.
        let wanted = 4 * sizes.given();
        pair.reserve(channel, [wanted, 0][own], [wanted, 0][1 - own]).unwrap();
        let each = [sizes.request_bytes(), sizes.response_bytes()][own] as u64;
        assert_eq!(since(before, channel.meter()).0, 3 * each);
        pair.correlate(channel, &bits[own], &bits[own], 1, form).unwrap()
    });
    let [[c0, h0], [c1, h1]] = both;
    for (chooser, shares) in [[&c0, &h1], [&c1, &h0]].into_iter().enumerate() {
        let want = products(&bits[chooser], &bits[1 - chooser], 1, form);
        assert_eq!(joined([shares[0], shares[1]], form), want);
    }
}
