//! Speed of products of few rows and of batches: `cargo bench -p rlwe`, or one group, `-- few`. Both parties in one process, without a
//! link; batches give results of 47 bits with weights of 12 bits.
//! `RAYON_NUM_THREADS` sets the number of threads and `SSVM_CPU` forces an instruction set.
//!
//! Where the kernel accounts for it (Linux), time is processor time of all threads, so that other work on the machine disturbs it
//! little; else it is time on the clock by all threads.

#[path = "../../../benches/processor.rs"]
mod processor;

use kernels::cpu::Cpu;
use kernels::prg::{Domain, Seed};
use kernels::ring::{self, Tensor};
use processor::processor_seconds;
use rlwe::{Client, Plan, Server, norm_squared, packed};
use std::hint::black_box;
use std::time::Instant;

/// Degree of the ring.
const N: usize = 4096;

/// Columns of W that are answered at once: as ciphertexts are cut into limbs for each answer, a few hundred.
const TILE: usize = 384;

/// Columns of A in a message.
const CHUNK: usize = 64;

/// Rows by which totals are given: a prompt.
const PROMPT: usize = 128;

/// Core-seconds of a call, and what it gives.
fn timed<T>(f: impl FnOnce() -> T) -> (f64, T) {
    let (begin, start) = (Instant::now(), processor_seconds());
    let result = black_box(f());
    let seconds = match (start, processor_seconds()) {
        (Some(start), Some(end)) => end - start,
        _ => begin.elapsed().as_secs_f64() * rayon::current_num_threads() as f64,
    };
    (seconds, result)
}

fn row(name: &str, value: f64, unit: &str, note: &str) {
    println!("{name:<44} {value:>9.2} {unit:<8} {note}");
}

fn elements(count: usize) -> Vec<u64> {
    let mut out = vec![0; count];
    Seed::new([1; 32]).stream(Domain { step: 0, entry: 0, index: 0, kind: 0 }).fill(0, 64, &mut out);
    out
}

/// A batch [rows, depth] x [depth, columns].
fn batch(rows: usize, depth: usize, columns: usize) {
    let plan = Plan::new(rows, depth, 47, norm_squared(depth, 1 << 11)).expect("a plan");
    let weights: Vec<[u8; 2]> =
        elements(depth * columns).iter().map(|x| (((x >> 13) % 4095) as i16 - 2047).to_le_bytes()).collect();
    let a = Tensor::new(vec![rows, depth], elements(rows * depth));
    let mut client = Client::new(plan).expect("randomness");
    let key = client.key();
    let mut server = Server::new(plan, &key).expect("a key");
    let chunks: Vec<Tensor> = (0..depth).step_by(CHUNK).map(|from| a.slice(1, from, depth.min(from + CHUNK))).collect();
    let (encrypt, messages) = timed(|| chunks.iter().map(|chunk| client.encrypt(chunk)).collect::<Vec<_>>());
    let (receive, _) = timed(|| messages.iter().map(|bytes| server.receive(bytes).expect("columns")).min());
    let (up, mut down) = (key.len() + messages.iter().map(Vec::len).sum::<usize>(), 0);
    let [mut product, mut answer, mut decrypt] = [0.0; 3];
    drop((messages, chunks));
    let ciphertexts = elements((N + rows) * depth);
    let mut sums = vec![0; (N + rows) * TILE];
    let mut most = 0;
    for from in (0..columns).step_by(TILE) {
        let tile: Vec<[u8; 2]> =
            weights.chunks_exact(columns).flat_map(|row| &row[from..columns.min(from + TILE)]).copied().collect();
        let count = tile.len() / depth;
        let (seconds, (message, share)) = timed(|| server.answer(&tile, count));
        answer += seconds;
        let sums = &mut sums[..(N + rows) * count];
        product += timed(|| ring::matmul(&ciphertexts, &tile, N + rows, depth, count, 64, sums)).0;
        let (seconds, other) = timed(|| client.decrypt(&message, count).expect("an answer"));
        decrypt += seconds;
        down += message.len();
        if from == 0 {
            let mut exact = vec![0; rows * count];
            ring::matmul(&a.data, &tile, rows, depth, count, 64, &mut exact);
            for ((x, y), z) in share.data.iter().zip(&*other.data).zip(&exact) {
                let error = (x.wrapping_add(*y).wrapping_sub(*z) << 17) as i64 >> 17;
                most = most.max(error.unsigned_abs());
            }
        }
    }
    let per = |seconds: f64, count: usize| seconds / count as f64 * 1e6;
    let work = ((N + rows) * depth * columns) as f64;
    println!("[{rows}, {depth}] x [{depth}, {columns}], 47 bits: off by {most} at most, bound {}", plan.error_bound());
    row("  encrypt", per(encrypt, depth), "us", "a ciphertext");
    row("  receive", per(receive, depth), "us", "a ciphertext");
    row("  product", work / product / 1e9, "G MAC/s", "a matmul of the same shape, alone");
    row("  answer without that product", per(answer - product, columns), "us", "a column: rerandomise, turn, pack");
    row("  decrypt", per(decrypt, columns), "us", "a column");
    let total = encrypt + receive + answer + decrypt;
    let note = format!("{:.0} % of it the product", 100.0 * product / total);
    row("  all, both parties", total * PROMPT as f64 / rows as f64 * 1e3, "ms", &format!("for {PROMPT} rows, {note}"));
    let share = PROMPT as f64 / rows as f64 / 1e6;
    row("  up", up as f64 * share, "MB", &format!("for {PROMPT} rows"));
    row("  down", down as f64 * share, "MB", &format!("for {PROMPT} rows"));
    assert_eq!(up, plan.key_bytes() + plan.upload_bytes(depth));
    assert_eq!(down, plan.answer_bytes(columns));
}

/// Products of few rows, of numbers of `bits` bits at the server and results of `width`.
fn few(count: usize, [rows, depth, columns]: [usize; 3], width: u8, bits: u8) {
    let square = (depth as u128) << (2 * (bits - 1));
    let plan = packed::Plan::new(count, [rows, depth, columns], width, square).expect("a plan");
    let right: Vec<u64> = elements(count * depth * columns).iter().map(|x| (*x as i64 >> (64 - bits)) as u64).collect();
    let left = elements(count * rows * depth);
    let run = |row: usize, first: usize, out: &mut [u64]| {
        out.copy_from_slice(&right[row * columns + first..][..out.len()]);
    };
    let mut client = packed::Client::new().expect("randomness");
    let mut server = packed::Server::new(&client.key()).expect("a key");
    let (keys, key_bytes) = timed(|| {
        let keys = client.merge_keys(&plan);
        server.take_merge_keys(&plan, &keys).expect("keys");
        keys.len()
    });
    let (encrypt, upload) = timed(|| client.encrypt(&plan, &left));
    let (receive, operand) = timed(|| server.receive(&plan, &upload).expect("ciphertexts"));
    let all = 0..plan.answers();
    let (answer, (message, _)) = timed(|| server.answer(&operand, &run, all.clone()));
    let (decrypt, _) = timed(|| client.decrypt(&plan, all.clone(), &message).expect("an answer"));
    let bound = plan.error_bound();
    println!(
        "packed {count} x [{rows}, {depth}] x [{depth}, {columns}], {width} bits times {bits}: off by {bound} at most"
    );
    println!("  {}", plan.describe());
    for (name, seconds) in [("encrypt", encrypt), ("receive", receive), ("answer", answer), ("decrypt", decrypt)] {
        row(&format!("  {name}"), seconds * 1e3, "ms", "");
    }
    row("  all, both parties", (encrypt + receive + answer + decrypt) * 1e3, "ms", "");
    let (keys, key_bytes) = (keys * 1e3, key_bytes as f64 / 1e6);
    row("  up", upload.len() as f64 / 1e6, "MB", &format!("beside keys of {key_bytes:.2} MB, {keys:.0} ms, once"));
    row("  down", message.len() as f64 / 1e6, "MB", "");
}

fn main() {
    println!("{} instructions, {} threads, core time", Cpu::get().name(), rayon::current_num_threads());
    // A word after `--` picks one group.
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let asked = |group: &str| only.as_deref().is_none_or(|only| only == group);
    if asked("few") {
        // Of the heads of GPT-2 small, of its norms; of its layers; of its vocabulary.
        for (count, sizes, width, bits) in [
            (12, [128, 64, 128], 36, 36),
            (12, [128, 128, 64], 39, 39),
            (128, [1, 768, 1], 60, 30),
            (128, [1, 1, 768], 34, 34),
            (12, [1, 64, 128], 36, 36),
            (1, [128, 768, 2304], 47, 12),
            (1, [128, 768, 768], 47, 12),
            (1, [128, 768, 3072], 47, 12),
            (1, [128, 3072, 768], 47, 12),
            (1, [1, 768, 50_257], 40, 12),
            (1, [32, 768, 50_257], 40, 12),
        ] {
            few(count, sizes, width, bits);
        }
    }
    if asked("batch") {
        batch(N, 768, 768);
        batch(N, 768, 3072);
        batch(N, 3072, 768);
        batch(4 * N, 768, 768);
        batch(N / 4, 768, 768);
    }
}
