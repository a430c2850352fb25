//! Both ends against each other, and what the sender sees.

use super::*;

const NAME: [u8; 32] = [6; 32];

/// Two ends with base transfers from a trusted hand, and the set-up message.
fn parts(number: u8, delta: Option<u128>) -> (u128, Vec<Seed>, Receiver, Vec<u8>) {
    let seed = Seed::new([number; 32]);
    let mut blocks = [0; 2 * 2 * COLUMNS + 1];
    seed.stream(Domain { step: 0, entry: 0, index: 0, kind: 99 }).fill_blocks(0, &mut blocks);
    let (delta, blocks) = (delta.unwrap_or(blocks[0]) | 1, blocks[1..].as_chunks::<2>().0);
    let keys: Vec<Seed> = blocks
        .iter()
        .map(|[a, b]| Seed::new([a.to_le_bytes(), b.to_le_bytes()].as_flattened().try_into().unwrap()))
        .collect();
    let pairs = keys.as_chunks::<2>().0;
    let chosen: Vec<Seed> = (1..).zip(pairs).map(|(j, pair)| pair[(delta >> j) as usize & 1].clone()).collect();
    let (receiver, message) = Receiver::new(&NAME, pairs, &Seed::new([number + 100; 32]));
    (delta, chosen, receiver, message)
}

fn ends(number: u8, delta: Option<u128>) -> (Sender, Receiver) {
    let (delta, chosen, receiver, message) = parts(number, delta);
    (Sender::new(&NAME, delta, &chosen, &message).unwrap(), receiver)
}

fn extend(ends: &mut (Sender, Receiver), wanted: usize) -> [Vec<u128>; 2] {
    let batch = ends.0.batch(wanted);
    assert_eq!(batch, ends.1.batch(wanted));
    let mut out = [Vec::new(), Vec::new()];
    let request = ends.1.request(batch);
    assert_eq!((request.len(), request.len()), (ends.0.request_bytes(batch), 31 * batch / 8));
    let response = ends.0.respond(batch, &request, &mut out[0]).unwrap();
    ends.1.complete(batch, &response, &mut out[1]).unwrap();
    out
}

#[test]
fn blocks_are_correlated_and_do_not_depend_on_the_split() {
    let mut whole = ends(1, None);
    let [q, t] = extend(&mut whole, 2 * CHUNK + 1);
    let delta = whole.0.delta();
    assert_eq!(q.len(), 2 * CHUNK + ROWS);
    for (q, t) in q.iter().zip(&t) {
        assert_eq!(q ^ t, (t & 1) * delta);
    }
    let mut split = ends(1, None);
    let mut parts = [Vec::new(), Vec::new()];
    while parts[0].len() < q.len() {
        let more = extend(&mut split, 1 + parts[0].len() / 3);
        parts.iter_mut().zip(more).for_each(|(all, more)| all.extend(more));
    }
    assert!(parts[0][..q.len()] == q && parts[1][..q.len()] == t);
}

/// Extensions in a row, of odd sizes, for the Δ at the ends of its range.
#[test]
fn every_delta() {
    for delta in [1, u128::MAX, 0x0180_ff00_7f01_fe80_55aa_0000_ffff_8000_u128 | 1, 1 << 127 | 1] {
        let mut both = ends(2, Some(delta));
        for wanted in [0, 1, 511, 513, 1001, 7 * ROWS + 3] {
            let [q, t] = extend(&mut both, wanted);
            assert!(q.len() == t.len() && q.len() >= wanted);
            assert!(q.iter().zip(&t).all(|(q, t)| q ^ t == (t & 1) * delta && q & 1 == 0), "Δ {delta:x}");
            let ones = t.iter().filter(|t| *t & 1 == 1).count();
            assert!(ones.abs_diff(t.len() / 2) < 3 * t.len().isqrt(), "choices are balanced");
        }
    }
}

/// Columns by their definition, leaf by leaf.
#[test]
fn columns_are_those_of_the_paper() {
    let (sender, receiver) = ends(3, None);
    let words = 8;
    let sum = |leaves: &Leaves, part: &dyn Fn(usize) -> bool| {
        let mut sum = vec![0; words];
        for (_, leaf) in leaves.iter().enumerate().filter(|(x, _)| part(*x)) {
            let mut stream = vec![0; words];
            leaf.as_ref().unwrap().fill(5, 64, &mut stream);
            sum.iter_mut().zip(stream).for_each(|(sum, x)| *sum ^= x);
        }
        sum
    };
    let [v, u] = matrix(&receiver.groups, 5, words);
    let [w, _] = matrix(&sender.groups, 5, words);
    let column = |matrix: &[u64], j: usize| matrix[j * words..][..words].to_vec();
    assert!(column(&v, 0) == [0; 8] && column(&w, 0) == [0; 8]);
    for (group, leaves) in receiver.groups.iter().enumerate() {
        assert_eq!(column(&u, group), sum(leaves, &|_| true));
        let columns = columns(group);
        assert_eq!(leaves.len(), 1 << columns.len());
        let missing = (*sender.delta >> columns.start) as usize % leaves.len();
        for (bit, j) in columns.enumerate() {
            assert_eq!(column(&v, j), sum(leaves, &|x| x >> bit & 1 == 1));
            assert_eq!(column(&w, j), sum(leaves, &|x| x != missing && (x ^ missing) >> bit & 1 == 1));
        }
    }
}

#[test]
fn blocks_change_places() {
    for (count, by) in [(1, 0), (2, 1), (128, 77), (256, 0), (256, 255), (256, 130)] {
        let mut blocks: Vec<u128> = (0..count).collect();
        shift(&mut blocks, by);
        assert!(blocks.iter().zip(0..).all(|(x, place)| x ^ by == place));
    }
}

#[test]
fn messages_of_a_wrong_length_are_errors() {
    let (delta, keys, mut receiver, message) = parts(4, None);
    assert_eq!(message.len(), SUMS_BYTES);
    for length in [0, 1, message.len() - 1] {
        let got = Sender::new(&NAME, delta, &keys, &message[..length]).map(|_| ());
        assert!(matches!(got, Err(Error::Length { got, .. }) if got == length));
    }
    let mut sender = Sender::new(&NAME, delta, &keys, &message).unwrap();
    let request = receiver.request(ROWS);
    for length in [0, 1, request.len() - 1] {
        let got = sender.respond(ROWS, &request[..length], &mut Vec::new());
        assert!(matches!(got, Err(Error::Length { got, .. }) if got == length));
    }
    assert!(matches!(receiver.complete(ROWS, &[1], &mut Vec::new()), Err(Error::Length { .. })));
}

/// How far the bits of the sender's view are from balanced, in standard deviations at worst: all that it can take from a
/// request by the leaves that it knows is taken from it, group by group and between neighbours.
fn view(sender: &Sender, receiver: &mut Receiver) -> f64 {
    let words = CHUNK / 64;
    let request = receiver.request(CHUNK);
    let [_, known] = matrix(&sender.groups, 0, words);
    let (of_first, known) = known.split_at(words);
    let sent = request.as_chunks::<8>().0.iter().map(|x| u64::from_le_bytes(*x));
    let left: Vec<u64> = sent.zip(known).zip(of_first.iter().cycle()).map(|((d, x), first)| d ^ x ^ first).collect();
    let far = |bits: Vec<u64>| {
        let ones: u32 = bits.iter().map(|x| x.count_ones()).sum();
        let all = 64.0 * bits.len() as f64;
        (f64::from(ones) - all / 2.0).abs() / (all / 4.0).sqrt()
    };
    let groups: Vec<&[u64]> = left.chunks(words).collect();
    let alone = groups.iter().map(|group| far(group.to_vec()));
    let pairs = groups.windows(2).map(|pair| far(pair[0].iter().zip(pair[1]).map(|(a, b)| a ^ b).collect()));
    alone
        .chain(pairs)
        .chain([far(request.as_chunks::<8>().0.iter().map(|x| u64::from_le_bytes(*x)).collect())])
        .fold(0.0, f64::max)
}

#[test]
fn requests_tell_nothing_and_the_test_sees_faults() {
    let (sender, mut receiver) = ends(5, None);
    assert!(view(&sender, &mut receiver) < 5.0);
    // A missing leaf that the sender could know, as another group has it, too.
    let place = |group: usize| {
        let columns = columns(group);
        (*sender.delta >> columns.start) as usize % (1 << columns.len())
    };
    for (group, other) in [(3, 0), (9, 8)] {
        let (_, mut receiver) = ends(5, None);
        let leaf = receiver.groups[other][place(other)].take();
        receiver.groups[group][place(group)] = leaf;
        let (_, mut again) = ends(5, None);
        receiver.groups[other][place(other)] = again.groups[other][place(other)].take();
        assert!(view(&sender, &mut receiver) > 5.0);
    }
}

/// The sender's keys open one sum a level, and the other only where both keys are the same.
#[test]
fn sums_that_are_not_chosen_stay_hidden() {
    let delta: u128 = 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978 | 1;
    let opened = |pairs: &[[Seed; 2]]| {
        let seed = Seed::new([8; 32]);
        let (_, message) = Receiver::new(&NAME, pairs, &seed);
        let mut roots = [0; GROUPS];
        seed.stream(Domain { step: 0, entry: 0, index: 0, kind: kind::GROUPS }).fill_blocks(0, &mut roots);
        let mut sums = Vec::new();
        for (group, root) in roots.iter().enumerate() {
            trees(&NAME).grow(*root, &mut vec![0; 1 << columns(group).len()], &mut sums);
        }
        let mut opened = [0, 0];
        let sent = message.as_chunks::<16>().0.as_chunks::<2>().0;
        for (j, (sent, (sums, keys))) in (1..).zip(sent.iter().zip(sums.iter().zip(pairs))) {
            let half = (delta >> j) as usize & 1;
            let got = [half, 1 - half].map(|i| u128::from_le_bytes(sent[i]) ^ pad(&keys[half]));
            opened[0] += usize::from(got[0] == sums[1 - half]);
            opened[1] += usize::from(got[1] == sums[half]);
        }
        opened
    };
    let pairs: Vec<[Seed; 2]> = (0..COLUMNS as u8).map(|i| [Seed::new([i; 32]), Seed::new([!i; 32])]).collect();
    assert_eq!(opened(&pairs), [COLUMNS, 0]);
    let same: Vec<[Seed; 2]> = pairs.iter().map(|[key, _]| [key.clone(), key.clone()]).collect();
    assert_eq!(opened(&same), [COLUMNS, COLUMNS]);
}
