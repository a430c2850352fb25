//! What the parties' shares add up to, at all boundaries, and what was sent for it.

use crate::common::{PARTIES, PATIENCE, numbers, on, pair, run, seed, since};
use kernels::ring::mask;
use ot::cost::{self, Cost};
use ot::silent::Sizes;
use ot::units::{signs, words};
use ot::{Form, Memory, Pair, SETUP_BYTES};

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

fn added(shares: [&[u64]; 2], width: u8) -> Vec<u64> {
    assert!(shares.iter().all(|share| share.iter().all(|x| x & !mask(width) == 0)), "shares have their width");
    shares[0].iter().zip(shares[1]).map(|(a, b)| a.wrapping_add(*b) & mask(width)).collect()
}

#[test]
fn bits_times_numbers() {
    for (session, (count, len, width)) in COUNTS
        .iter()
        .flat_map(|&count| [(count, 1, 1), (count, 1, 64), (count, 1, 17), (count, 5, 33), (count, 3, 8)])
        .chain([(2, 1000, 9), (1, 4097, 64)])
        .enumerate()
    {
        for form in [Form::Sum(width), Form::Xor(width)] {
            // Numbers of 64 bits: the high ones do not matter. The server chooses twice as often.
            let counts = [count, 2 * count];
            let bits = [1, 2].map(|p| numbers(p, counts[usize::from(p) - 1], 64));
            let d = [3, 4].map(|p| numbers(p, counts[usize::from(4 - p)] * len, 64));
            let cost = cost::correlate(counts, len, form);
            let [[c0, h0], [c1, h1]] = checked(session as u8, cost, |pair, channel| {
                let own = pair.party().index();
                pair.correlate(channel, &bits[own], &d[own], len, form).unwrap()
            });
            for (chooser, [chosen, held]) in [[c0, h1], [c1, h0]].into_iter().enumerate() {
                let all = chosen.iter().zip(&held).zip(&d[1 - chooser]);
                for (i, ((chosen, held), d)) in all.enumerate() {
                    let want = d.wrapping_mul(bits[chooser][i / len] & 1) & mask(width);
                    let got = match form {
                        Form::Sum(_) => chosen.wrapping_add(*held) & mask(width),
                        Form::Xor(_) => chosen ^ held,
                    };
                    assert_eq!(got, want, "{form:?}, {count} rows of {len}");
                    assert!((chosen | held) & !mask(width) == 0);
                }
            }
        }
    }
}

#[test]
fn one_of_two_strings() {
    for (session, (count, len, width)) in [(0, 1, 8), (1, 1, 1), (65, 3, 64), (1000, 2, 33)].into_iter().enumerate() {
        let counts = [count, count + 3];
        let bits = [1, 2].map(|p| numbers(p, counts[usize::from(p) - 1], 64));
        let strings = [3, 4].map(|p| [0, 10].map(|which| numbers(p + which, counts[usize::from(4 - p)] * len, 64)));
        let got = checked(session as u8, cost::transfer(counts, len, width), |pair, channel| {
            let own = pair.party().index();
            pair.transfer(channel, &bits[own], strings[own].each_ref().map(|s| &s[..]), len, width).unwrap()
        });
        for (chooser, got) in got.iter().enumerate() {
            for (i, got) in got.iter().enumerate() {
                let choice = (bits[chooser][i / len] & 1) as usize;
                assert_eq!(*got, strings[1 - chooser][choice][i] & mask(width), "{count} rows of {len}");
            }
        }
    }
}

#[test]
fn products_of_private_numbers() {
    for (session, (count, len, x_bits, width)) in [
        (0, 1, 8, 8),
        (1, 1, 1, 1),
        (1, 1, 64, 64),
        (3, 5, 18, 38),
        (129, 1, 8, 24),
        (7, 33, 40, 40),
        (65, 2, 64, 3),
        (100, 1, 1, 64),
    ]
    .into_iter()
    .enumerate()
    {
        for counts in [[count, count], [count, 0], [0, count]] {
            let x = [0, 1].map(|p| numbers(10 + p as u8, counts[p], 64));
            let y = [0, 1].map(|p| numbers(20 + p as u8, counts[1 - p] * len, 64));
            let cost = cost::products(counts, x_bits, len, width);
            let [[c0, h0], [c1, h1]] = checked(session as u8, cost, |pair, channel| {
                let own = pair.party().index();
                pair.products(channel, &x[own], x_bits, &y[own], len, width).unwrap()
            });
            for (chooser, shares) in [[&c0, &h1], [&c1, &h0]].into_iter().enumerate() {
                let sum = added([shares[0], shares[1]], width);
                for (i, got) in sum.into_iter().enumerate() {
                    let want = (x[chooser][i / len] & mask(x_bits)).wrapping_mul(y[1 - chooser][i]);
                    assert_eq!(got, want & mask(width), "{count} rows of {len}, {x_bits} bits, mod 2^{width}");
                }
            }
        }
    }
}

#[test]
fn numbers_from_bits() {
    for (bits, width) in [(1, 1), (1, 2), (1, 20), (1, 64), (5, 5), (5, 3), (17, 24), (64, 64), (64, 9), (3, 64)] {
        for count in COUNTS {
            let shares = [30, 31].map(|p| numbers(p, count, 64));
            let got = checked(bits ^ width, cost::number(count, bits, width), |pair, channel| {
                pair.number(channel, &shares[pair.party().index()], bits, width).unwrap()
            });
            let want: Vec<u64> =
                shares[0].iter().zip(&shares[1]).map(|(a, b)| (a ^ b) & mask(bits) & mask(width)).collect();
            assert_eq!(added([&got[0], &got[1]], width), want, "{count} numbers of {bits} bits mod 2^{width}");
        }
    }
    let got = checked(1, cost::b2a(3, 9), |pair, channel| {
        pair.b2a(channel, &[[0, 1, 1], [1, 1, 0]][pair.party().index()], 9).unwrap()
    });
    assert_eq!(added([&got[0], &got[1]], 9), [1, 0, 1]);
}

#[test]
fn products_of_bits() {
    for width in [1, 2, 23, 64] {
        let bits = [[0, 0, 1, 1], [0, 1, 0, 1]];
        let got = checked(width, cost::and(4, width), |pair, channel| {
            pair.and(channel, &bits[pair.party().index()], width).unwrap()
        });
        assert_eq!(added([&got[0], &got[1]], width), [0, 0, 0, 1]);
    }
}

#[test]
fn unit_vectors_and_their_signs() {
    for bits in 1..=ot::units::MAX_BITS {
        let (each, width) = (words(bits), 1u64 << bits.min(6));
        // Every place, in some sharing.
        for count in [0, 1, 1 << bits] {
            let client = numbers(40 + bits, count, 64);
            let server: Vec<u64> = client.iter().zip(0..).map(|(a, i)| a ^ i).collect();
            let shares = [client, server];
            let plain = checked(bits, cost::units(count, bits), |pair, channel| {
                pair.units(channel, &shares[pair.party().index()], bits).unwrap()
            });
            let with = checked(bits, cost::index(count, bits), |pair, channel| {
                pair.index(channel, &shares[pair.party().index()], bits).unwrap()
            });
            for vectors in [[&plain[0], &plain[1]], [&with[0].0, &with[1].0]] {
                let sign = [0, 1].map(|p| signs(PARTIES[p], vectors[p], each));
                assert_eq!(vectors[0].len(), count * each);
                for i in 0..count {
                    let of = |p: usize| &vectors[p][i * each..][..each];
                    let mut want = vec![0; each];
                    want[i / 64] = 1 << (i % 64);
                    let got: Vec<u64> = of(0).iter().zip(of(1)).map(|(a, b)| a ^ b).collect();
                    assert_eq!(got, want, "place {i} of {bits} bits");
                    assert!(of(0).iter().all(|word| word & !mask(width as u8) == 0));
                    let at = of(0)[i / 64] >> (i % 64) & 1;
                    assert_eq!(sign[0][i] ^ sign[1][i], at ^ 1, "the sign is -1 where P1 holds the odd one");
                }
            }
            assert_eq!(added([&with[0].1, &with[1].1], bits), (0..count as u64).collect::<Vec<_>>());
        }
    }
}

#[test]
fn flips() {
    for (count, len, width) in [(0, 1, 8), (1, 1, 1), (5, 3, 64), (129, 2, 33)] {
        let signs = [50, 51].map(|p| numbers(p, count, 64));
        let values = [52, 53].map(|p| numbers(p, count * len, 64));
        let got = checked(7, cost::flip(count, len, width), |pair, channel| {
            let own = pair.party().index();
            pair.flip(channel, &signs[own], &values[own], len, width).unwrap()
        });
        for (i, got) in added([&got[0], &got[1]], width).into_iter().enumerate() {
            let value = values[0][i].wrapping_add(values[1][i]);
            let flipped = (signs[0][i / len] ^ signs[1][i / len]) & 1 == 1;
            let want = if flipped { value.wrapping_neg() } else { value };
            assert_eq!(got, want & mask(width));
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
        let b = pair.units(channel, &own[..33], 7).unwrap();
        let c = pair.products(channel, &own[..5], 12, &own[..10], 2, 30).unwrap();
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
    for (own, theirs) in [(0, 0), (1, 0), (512, 513), (1 << 18, 3), ((1 << 19) + 1, 40_000)] {
        let choices = [own, theirs];
        let sent = run(1, |pair, channel| {
            let own = pair.party().index();
            pair.reserve(channel, choices[own], choices[1 - own]).unwrap();
            channel.meter().sent_bytes
        });
        assert_eq!(sent, choices.map(|count| cost::iknp(count) as u64), "{choices:?}");
    }
}

/// A pair that sets itself up: it costs what it says, and every part of its name matters.
#[test]
fn set_up() {
    let once = |session, of: u8| {
        on(Memory::pair(PATIENCE), |party, channel| {
            let mut pair = Pair::iknp(channel, party, [session; 32], &seed(of + party.index() as u8)).unwrap();
            let meter = channel.meter();
            assert!(meter.sent_bytes == SETUP_BYTES as u64 && meter.rounds == 1);
            pair.correlate(channel, &[1, 0, 1, 1], &[5, 6, 7, 8], 1, Form::Sum(64)).unwrap()
        })
    };
    let all = [once(1, 1), once(2, 1), once(1, 3)];
    assert!(all[0] != all[1] && all[0] != all[2] && all[0] == once(1, 1));
    for [[c0, h0], [c1, h1]] in all {
        for (chosen, held) in [(c0, h1), (c1, h0)] {
            assert_eq!(added([&chosen, &held], 64), [5, 0, 7, 8]);
        }
    }
}

/// Transfers on silent correlations, over several extensions, and what these send.
#[test]
fn silent_engines() {
    let sizes = Sizes { trees: 40, depth: 6, columns: 300 };
    let bits = [60, 61].map(|p| numbers(p, 700, 64));
    let both = on(Memory::pair(PATIENCE), |party, channel| {
        let own = party.index();
        let mut pair = pair(party, 8).silent(channel, [8; 32], &seed(own as u8), sizes).unwrap();
        let before = channel.meter();
        // The dealt engine's last batch left some.
        let wanted = 3 * sizes.given();
        pair.reserve(channel, [wanted, 0][own], [wanted, 0][1 - own]).unwrap();
        let each = [sizes.request_bytes(), sizes.response_bytes()][own] as u64;
        assert_eq!(since(before, channel.meter()).0, 3 * each);
        pair.correlate(channel, &bits[own], &bits[own], 1, Form::Sum(33)).unwrap()
    });
    let [[c0, h0], [c1, h1]] = both;
    for (chooser, shares) in [[&c0, &h1], [&c1, &h0]].into_iter().enumerate() {
        let want = bits[chooser].iter().zip(&bits[1 - chooser]).map(|(c, d)| (c & 1) * (d & mask(33)));
        assert_eq!(added([shares[0], shares[1]], 33), want.collect::<Vec<_>>());
    }
}
