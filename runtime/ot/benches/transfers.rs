//! Speed of transfers a core: `cargo bench -p ot [-- GROUP]`, a group being base, blocks, silent, hash or vectors.
//!
//! `RAYON_NUM_THREADS` sets the number of threads and `SSVM_CPU` forces an instruction set. Where the kernel accounts for
//! it (Linux), time is processor time of all threads, averaged over runs; else it is time on the clock.

#[path = "../../../benches/processor.rs"]
mod processor;

use ir::Party;
use kernels::aes128::Aes128;
use kernels::cpu::Cpu;
use kernels::prg::{Domain, Seed};
use ot::cot::{CotReceiver, CotSender};
use ot::hash::{Hash, Place};
use ot::transpose::transpose;
use ot::{Form, Memory, Pair, base, cost, silent, soft};
use processor::processor_seconds;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Core-seconds of a run, the mean over half a second and at least three runs.
fn seconds(mut f: impl FnMut()) -> f64 {
    f();
    let (begin, start, mut runs) = (Instant::now(), processor_seconds(), 0);
    while runs < 3 || begin.elapsed().as_secs_f64() < 0.5 {
        f();
        runs += 1;
    }
    let seconds = match (start, processor_seconds()) {
        (Some(start), Some(end)) => end - start,
        _ => begin.elapsed().as_secs_f64(),
    };
    seconds / f64::from(runs)
}

fn row(name: &str, value: f64, unit: &str, note: &str) {
    println!("{name:<52} {value:>9.2} {unit:<10} {note}");
}

fn blocks(count: usize) -> Vec<u128> {
    let mut out = vec![0; count];
    Seed::new([7; 32]).stream(Domain { step: 0, entry: 0, index: 0, kind: 0 }).fill_blocks(0, &mut out);
    out
}

fn words(count: usize) -> Vec<u64> {
    blocks(count).into_iter().map(|x| x as u64).collect()
}

/// Blocks a second of AES-128 where they stay in the nearest cache: what all else is held against.
fn aes() -> f64 {
    let (cipher, mut data) = (Aes128::new(Cpu::get(), &[1; 16]), blocks(256));
    256.0 * 1000.0 / seconds(|| (0..1000).for_each(|_| cipher.encrypt(black_box(&mut data))))
}

fn base_transfers(_: f64) {
    let seeds = [1, 2].map(|byte| Seed::new([byte; 32]));
    let count = soft::COLUMNS;
    let time = seconds(|| {
        let (sender, a) = base::Sender::new([0; 32], count, &seeds[0]);
        let (receiver, b) = base::Receiver::new([0; 32], vec![1; count], &seeds[1]);
        black_box((sender.keys(&b).expect("points"), receiver.keys(&a).expect("points")));
    });
    row("base transfers, both parties", time * 1e3, "ms", &format!("{count} of them"));
}

fn ends() -> (soft::Sender, soft::Receiver) {
    let keys: Vec<[Seed; 2]> = (0..soft::COLUMNS as u8).map(|i| [Seed::new([i; 32]), Seed::new([!i; 32])]).collect();
    let chosen: Vec<Seed> = keys.iter().map(|pair| pair[1].clone()).collect();
    let (receiver, sums) = soft::Receiver::new(&[6; 32], &keys, &Seed::new([9; 32]));
    (soft::Sender::new(&[6; 32], u128::MAX, &chosen, &sums).expect("sums"), receiver)
}

fn correlated(aes: f64) {
    row("soft, set-up of both parties", seconds(|| _ = black_box(ends())) * 1e3, "ms", "without base transfers");
    let (mut sender, mut receiver) = ends();
    let batch = CotSender::batch(&sender, 1 << 18);
    let (mut out, mut request) = (Vec::with_capacity(batch), Vec::new());
    let make = seconds(|| {
        request = receiver.request(batch);
        out.clear();
        receiver.complete(batch, &[], &mut out).expect("no response");
    });
    let answer = seconds(|| {
        out.clear();
        sender.respond(batch, &request, &mut out).expect("a request");
    });
    let columns = words(soft::CHUNK / 64 * 128);
    let turn = seconds(|| {
        for rows in out.chunks_exact_mut(soft::CHUNK) {
            transpose(Cpu::get(), &columns, rows);
        }
    });
    for (name, time) in [("receiver", make), ("sender", answer)] {
        let rate = batch as f64 / time;
        // A bit of each of some 2^4 streams for each of 32 groups.
        let note = format!("{:.0} % of its AES alone", 100.0 * rate * 4.0 / aes);
        row(&format!("soft, {name}"), rate / 1e6, "M/s", &note);
    }
    row("  of it transposition, 128 columns", batch as f64 / turn / 1e6, "M rows/s", "");
    let bytes = request.len() as f64 / batch as f64;
    row("soft, both parties", batch as f64 / (make + answer) / 1e6, "M/s", &format!("{bytes:.2} bytes each"));
}

/// Silent extensions: both parties in turn.
fn silent_blocks(_: f64) {
    let sizes = silent::SIZES;
    let (delta, t) = (blocks(1)[0] | 1, blocks(sizes.stock()));
    let q = t.iter().map(|t| t ^ ((t & 1) * delta)).collect();
    let [a, b] = [1, 2].map(|byte| Seed::new([byte; 32]));
    let mut sender = silent::Sender::new(delta, q, &[6; 32], &a, sizes);
    let mut receiver = silent::Receiver::new(t, &[6; 32], &b, sizes);
    let mut out = [Vec::with_capacity(sizes.made()), Vec::with_capacity(sizes.made())];
    let mut times = [0.0; 2];
    let mut bytes = 0;
    let runs = 3;
    let now = || processor_seconds().unwrap_or_else(clock);
    for run in 0..=runs {
        out.iter_mut().for_each(Vec::clear);
        let start = now();
        let request = receiver.request(0);
        let middle = now();
        let response = sender.respond(0, &request, &mut out[0]).expect("a request");
        let end = now();
        receiver.complete(0, &response, &mut out[1]).expect("a response");
        let times_of = [end - middle, now() - end + middle - start];
        if run > 0 {
            times.iter_mut().zip(times_of).for_each(|(sum, time)| *sum += time / f64::from(runs));
        }
        bytes = request.len() + response.len();
    }
    assert!(out[0].iter().zip(&out[1]).all(|(q, t)| q ^ t == (t & 1) * delta), "correlated");
    let given = sizes.given() as f64;
    for (name, time) in [("sender", times[0]), ("receiver", times[1])] {
        row(&format!("silent, {name}"), given / time / 1e6, "M/s", &format!("{:.2} s an extension", time));
    }
    let note = format!("{:.3} bytes each, aim 10 M/s a party", bytes as f64 / given);
    row("silent, both parties", given / (times[0] + times[1]) / 1e6, "M/s", &note);
}

fn hashes(aes: f64) {
    let (hash, x) = (Hash::new(&[3; 16]), blocks(1 << 14));
    for (len, width) in [(1, 64), (1, 16), (16, 64), (768, 40)] {
        let mut out = vec![0; x.len() * len];
        let time = seconds(|| hash.pads(&x, 1, Place { first: 0, from: 0 }, len, width, &mut out));
        let blocks = x.len() * ot::hash::blocks_each(len, width);
        // The hash takes one block of AES for a correlation and one for each block of pad.
        let (rate, calls) = (blocks as f64 / time, (blocks + x.len()) as f64 / blocks as f64);
        let note = format!("{:.0} % of its AES alone", 100.0 * rate * calls / aes);
        row(&format!("pads for {len} of {width} bits"), rate / 1e6, "M blocks/s", &note);
    }
}

/// Both parties, each on a thread: core-seconds of both for one run, without making the correlations.
fn both(cost: cost::Cost, side: impl Fn(&mut Pair, &mut Memory) + Sync) -> f64 {
    let [begin, end] = [(); 2].map(|()| std::sync::Barrier::new(2));
    let [mut a, mut b] = Memory::pair(Duration::from_secs(60));
    let run = |party: Party, channel: &mut Memory| {
        let seed = Seed::new([party.index() as u8; 32]);
        let mut pair = Pair::set_up(channel, party, [0; 32], &seed).expect("a pair");
        let own = party.index();
        let runs = 40;
        pair.reserve(channel, runs * cost.choices[own], runs * cost.choices[1 - own]).expect("correlations");
        side(&mut pair, channel);
        begin.wait();
        let start = processor_seconds().unwrap_or_else(clock);
        (1..runs).for_each(|_| side(&mut pair, channel));
        end.wait();
        (processor_seconds().unwrap_or_else(clock) - start) / (runs - 1) as f64
    };
    std::thread::scope(|scope| {
        scope.spawn(|| run(Party::Server, &mut b));
        run(Party::Client, &mut a)
    })
}

/// Seconds on the clock.
fn clock() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

fn vectors(aes: f64) {
    let count = 1 << 13;
    for (name, len, width) in [("bits times 18 bits", 1, 18), ("bits times rows of 256 of 18 bits", 256, 18)] {
        let (bits, d, form) = (words(count / len), words(count), Form::Sum(width));
        let cost = cost::correlate([bits.len(); 2], len, form);
        let time = both(cost, |pair, channel| {
            _ = black_box(pair.correlate(channel, &bits, &d, len, form).expect("a peer"));
        });
        // A pad for the chooser and two for the holder, in both directions.
        let calls = 6 * bits.len() * (1 + ot::hash::blocks_each(len, width));
        let bytes = cost.sent_bytes.iter().sum::<usize>() as f64 / (2 * count) as f64;
        let note = format!("{bytes:.2} bytes each, {:.0} % of its AES alone", 100.0 * calls as f64 / (time * aes));
        row(&format!("{name}, both parties"), time * 1e9 / (2 * count) as f64, "ns each", &note);
    }
}

/// A name on the command line, and what it measures.
type Group = (&'static str, fn(f64));

fn main() {
    println!("instruction set {}; a core's speed:", Cpu::get().name());
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let aes = aes();
    row("AES-128 by `encrypt`", aes / 1e9, "G blocks/s", "limit 2.8 on Zen 5");
    let groups: [Group; 5] = [
        ("base", base_transfers),
        ("blocks", correlated),
        ("silent", silent_blocks),
        ("hash", hashes),
        ("vectors", vectors),
    ];
    for (name, run) in groups {
        if only.as_deref().is_none_or(|o| o == name) {
            run(aes);
        }
    }
}
