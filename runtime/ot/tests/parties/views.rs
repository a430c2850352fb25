//! What each party sees is uniform given what it knows, whatever the inputs; and bad messages are errors.

use crate::common::{PATIENCE, deviate, on, pair, recorded, run, seed};
use ir::Party;
use kernels::ring::{mask, unpack};
use ot::silent::Sizes;
use ot::{Bits, Error, Form, Memory, Pair};

/// Numbers in a test of a view.
const COUNT: usize = 40_000;

/// The worst deviate of the low and high bits of the values, and of pairs of neighbours.
fn worst(values: &[u64], width: u8) -> f64 {
    let bits = width.min(4);
    let high: Vec<u64> = values.iter().map(|v| v >> (width - bits)).collect();
    let pairs: Vec<u64> = values.windows(2).map(|pair| (pair[0] & mask(bits)) << bits | pair[1] & mask(bits)).collect();
    let of = [deviate(values, bits), deviate(&high, bits), deviate(&pairs, 2 * bits)];
    of.into_iter().fold(f64::MIN, f64::max)
}

/// Whether a value passes for uniform: false alarms are rarer than one in a million.
const LIMIT: f64 = 5.0;

struct View {
    /// Choice bits as the holder sees them.
    choices: Vec<u64>,
    /// Numbers as the chooser sees them.
    message: Vec<u64>,
    chosen: Vec<u64>,
    held: Vec<u64>,
}

/// P0 chooses by `bits` among P1's `d`.
fn view(session: u8, bits: &[u64], d: &[u64], form: Form) -> View {
    let (ends, logs) = recorded();
    let [[chosen, _], [_, held]] = on(ends, |party, channel| {
        let mut pair = pair(party, session);
        let [own, numbers] = [[bits, &[]], [&[], d]][party.index()];
        pair.correlate(channel, own, numbers, 1, form).unwrap()
    });
    let last = logs.map(|log| log.lock().unwrap().last().unwrap().clone());
    let [choices, message] = [(&last[0], 1), (&last[1], form.width())].map(|(bytes, width)| {
        let bytes: &[u8] = bytes;
        unpack(bytes, width, bits.len()).to_vec()
    });
    View { choices, message, chosen, held }
}

/// Worst deviates of what the holder sees and of what the chooser sees, each given its own part.
fn deviates(view: &View, form: Form) -> [f64; 2] {
    let width = form.width();
    let low = |v: Vec<u64>| v.into_iter().map(|v| v & mask(width)).collect::<Vec<u64>>();
    let each = |f: fn(u64, u64) -> u64| low(view.message.iter().zip(&view.chosen).map(|(m, x)| f(*m, *x)).collect());
    // The chooser's pad is its share, or its share less the message: neither tells of the message or of the other pad.
    let with_pads = [
        view.message.clone(),
        view.chosen.clone(),
        each(|m, x| x.wrapping_sub(m)),
        each(|m, x| x.wrapping_add(m)),
        each(|m, x| x ^ m),
    ];
    let of_chooser = with_pads.iter().map(|v| worst(v, width)).fold(f64::MIN, f64::max);
    let parity: Vec<u64> = view.choices.iter().zip(&view.held).map(|(c, h)| c ^ h & 1).collect();
    let of_holder = worst(&view.choices, 1).max(worst(&view.held, width)).max(worst(&parity, 1));
    [of_holder, of_chooser]
}

fn differ(a: &[u64], b: &[u64]) -> Vec<u64> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

#[test]
fn views_are_uniform() {
    let mut session = 0;
    for form in [Form::Sum(1), Form::Sum(7), Form::Sum(33), Form::Sum(64), Form::Xor(9)] {
        for (bit, number) in [(0, 0), (1, 0), (0, u64::MAX), (1, u64::MAX)] {
            session += 1;
            let view = view(session, &vec![bit; COUNT], &vec![number; COUNT], form);
            let got = deviates(&view, form);
            assert!(got.iter().all(|z| *z < LIMIT), "{form:?}, bit {bit}, number {number:x}: {got:?}");
        }
    }
}

/// Faults that the test of views has to see.
#[test]
fn the_test_sees_faults() {
    let (zeros, ones, form) = (vec![0; COUNT], vec![1; COUNT], Form::Sum(16));
    // Two runs from the same seeds: what differs between them shows.
    let [a, b] = [(&zeros, &zeros), (&ones, &ones)].map(|(bits, d)| view(99, bits, d, form));
    assert!(worst(&differ(&a.choices, &b.choices), 1) > LIMIT);
    assert!(worst(&differ(&a.message, &b.message), 16) > LIMIT);
    let c = view(98, &ones, &ones, form);
    assert!(worst(&differ(&a.choices, &c.choices), 1) < LIMIT, "other seeds, nothing to see");
    assert!(worst(&differ(&a.message, &c.message), 16) < LIMIT);
    // A holder that does not mask its numbers, and a chooser that sends its bits as they are.
    let mut open = view(97, &ones, &zeros, form);
    open.message = open.chosen.clone();
    assert!(deviates(&open, form)[1] > LIMIT);
    open.choices = ones;
    assert!(deviates(&open, form)[0] > LIMIT);
}

/// All messages of transfers, those that make correlations too, and what is shared, for numbers that are all alike.
#[test]
fn messages_and_shares_are_uniform() {
    let count = 20_000;
    for (session, (len, form)) in (60..).zip([(1, Form::Sum(32)), (3, Form::Sum(40)), (2, Form::Xor(64))]) {
        for value in [0, u64::MAX, 37] {
            let (ends, logs) = recorded();
            let shares = on(ends, |party, channel| {
                let mut pair = pair(party, session ^ value as u8);
                let (bits, d) = (vec![value; count], vec![value; count * len]);
                pair.correlate(channel, &bits, &d, len, form).unwrap()
            });
            for message in logs.iter().flat_map(|log| log.lock().unwrap().clone()) {
                let bytes: Vec<u64> = message.iter().map(|b| u64::from(*b)).collect();
                let z = deviate(&bytes, 8);
                assert!(z < LIMIT, "{form:?} of {value}: {z}");
            }
            for share in shares.as_flattened() {
                let z = worst(share, form.width());
                assert!(z < LIMIT, "{form:?} of {value}, shares: {z}");
            }
        }
    }
}

/// What P1 sends and keeps when P0 chooses by ones among zeros, twice by the same choices.
fn twice(session: u8, form: Form) -> [[Vec<u64>; 2]; 2] {
    let [_, of_holder] = run(session, |pair, channel| {
        let (own, theirs) = match pair.party() {
            Party::Client => (vec![Bits::of(&[1; COUNT], 0)], vec![]),
            Party::Server => (vec![], vec![COUNT]),
        };
        let (_, mut offered) = pair.choose(channel, own, &theirs).unwrap();
        offered
            .iter_mut()
            .flat_map(|offered| {
                [(); 2].map(|()| {
                    let mut message = Vec::new();
                    let kept = offered.give(&[0; COUNT], 1, form, &mut message);
                    [unpack(&message, form.width(), COUNT).to_vec(), kept]
                })
            })
            .collect::<Vec<_>>()
    });
    of_holder.try_into().expect("two transfers")
}

/// A second transfer by the same choices has pads of its own: neither message nor share tells of the first. Transfers with
/// the same pads, which two runs from the same seeds have, show.
#[test]
fn a_choice_that_serves_again_has_other_pads() {
    let form = Form::Sum(16);
    let [first, second] = twice(96, form);
    let [other, _] = twice(96, form);
    for ((first, second), other) in first.iter().zip(&second).zip(&other) {
        assert!(worst(&differ(first, second), form.width()) < LIMIT);
        assert!(worst(&differ(first, other), form.width()) > LIMIT);
    }
}

/// What silent engines send, but for the low bit of each tree's last block, which is always 1.
#[test]
fn silent_messages_are_uniform() {
    let sizes = Sizes { trees: 1000, depth: 7, columns: 5000 };
    let (ends, logs) = recorded();
    on(ends, |party, channel| {
        let mut pair = pair(party, 90).later_silent([1; 32], &seed(party.index() as u8), sizes, 0);
        pair.reserve(channel, sizes.given(), sizes.given()).unwrap();
    });
    for log in logs {
        let log = log.lock().unwrap();
        let [.., request, response] = &log[..] else { panic!("two messages of the silent engine at least") };
        assert_eq!((request.len(), response.len()), (sizes.request_bytes(), sizes.response_bytes()));
        let mut response = response.clone();
        for tree in response.chunks_mut(16 * (2 * sizes.depth + 1)) {
            let low = 16 * 2 * sizes.depth;
            assert_eq!(tree[low] & 1, 1);
            // A bit that takes its place.
            tree[low] ^= tree[0] & 1;
        }
        for message in [request, &response] {
            let z = deviate(&message.iter().map(|b| u64::from(*b)).collect::<Vec<_>>(), 8);
            assert!(z < LIMIT, "{z}");
        }
    }
}

/// Alters the message of this number that P0 sends, and gives what P1 has then.
fn altered(number: usize, alter: impl Fn(&mut Vec<u8>) + Send + 'static) -> Result<(), Error> {
    let mut ends = Memory::pair(PATIENCE);
    let mut sent = 0;
    ends[0].tap(Box::new(move |bytes| {
        if sent == number {
            alter(bytes);
        }
        sent += 1;
    }));
    let [_, server] = on(ends, |party, channel| -> Result<(), Error> {
        let mut pair = Pair::set_up(channel, party, [1; 32], &seed(party.index() as u8))?;
        let words = vec![3; 500];
        pair.correlate(channel, &words[..100], &words[..100], 1, Form::Xor(20))?;
        pair.correlate(channel, &words, &words, 1, Form::Sum(20))?;
        Ok(())
    });
    server
}

#[test]
fn messages_of_a_wrong_length_are_errors() {
    assert!(altered(0, |_| ()).is_ok());
    // Set-up in two; correlations, choices and numbers, twice.
    for number in 0..8 {
        let short = altered(number, |bytes| bytes.truncate(bytes.len() - 1));
        assert!(matches!(short, Err(Error::Length { .. })), "message {number}: {short:?}");
        let long = altered(number, |bytes| bytes.push(0));
        assert!(matches!(long, Err(Error::Length { .. })), "message {number}: {long:?}");
        let none = altered(number, |bytes| bytes.clear());
        assert!(matches!(none, Err(Error::Length { got: 0, .. })), "message {number}: {none:?}");
    }
    assert!(altered(8, Vec::clear).is_ok(), "there are no more messages");
    let point = altered(0, |bytes| bytes[32..64].fill(0xff));
    assert!(matches!(point, Err(Error::Point { index: 0 })));
}

/// Any bytes of the right length are taken: results are wrong, and nothing else happens.
#[test]
fn altered_bytes_are_no_panic() {
    for number in 1..8 {
        assert!(altered(number, |bytes| bytes.iter_mut().for_each(|b| *b ^= 0xa5)).is_ok());
    }
}

#[test]
fn a_lost_peer_is_an_error() {
    let set_up = |mut channel: Memory| Pair::set_up(&mut channel, Party::Client, [1; 32], &seed(1));
    let [a, b] = Memory::pair(PATIENCE);
    drop(b);
    assert!(matches!(set_up(a), Err(Error::Lost)));
    let [a, _silent] = Memory::pair(std::time::Duration::from_millis(20));
    assert!(matches!(set_up(a), Err(Error::Lost)));
    let [client, _] = run(1, |pair, channel| match pair.party() {
        Party::Client => pair.correlate(channel, &[1], &[2], 1, Form::Sum(2)),
        Party::Server => Ok([vec![], vec![]]),
    });
    assert!(matches!(client, Err(Error::Lost)));
}
