//! Speed of the kernels a core: `cargo bench -p ssvm --bench kernels [-- products|packing|generator|comparisons]`.
//!
//! `RAYON_NUM_THREADS` sets the number of threads and `SSVM_CPU` forces an instruction set. Where the kernel accounts for
//! it (Linux), time is processor time, averaged over runs, so that other work on the machine disturbs it little; else it
//! is time on the clock by all threads.

use ir::Party;
use ir::dcf::Layout;
use ssvm::aes128::Aes128;
use ssvm::cpu::Cpu;
use ssvm::prg::{Domain, Seed};
use ssvm::protocol::dcf;
use ssvm::ring;
use std::hint::black_box;
use std::time::Instant;

/// Processor seconds that all threads of this process have used.
fn processor_seconds() -> Option<f64> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += text.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(nanoseconds as f64 / 1e9)
}

/// Core-seconds of a run, the mean over half a second and at least three runs.
fn seconds(mut f: impl FnMut()) -> f64 {
    f();
    let (begin, start, mut runs) = (Instant::now(), processor_seconds(), 0.0);
    while runs < 3.0 || begin.elapsed().as_secs_f64() < 0.5 {
        f();
        runs += 1.0;
    }
    match (start, processor_seconds()) {
        (Some(start), Some(end)) => (end - start) / runs,
        _ => begin.elapsed().as_secs_f64() * rayon::current_num_threads() as f64 / runs,
    }
}

fn row(name: &str, value: f64, unit: &str, note: &str) {
    println!("{name:<44} {value:>9.2} {unit:<8} {note}");
}

/// Multiply-adds of one round of [`multiply_loop`].
const LOOP_WORK: u64 = 16 * 8;

/// Sixteen independent chains of vpmullq and vpaddq, in registers only.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
fn multiply_loop(start: i64, rounds: u64) -> i64 {
    use std::arch::x86_64::{_mm512_add_epi64, _mm512_mullo_epi64, _mm512_reduce_add_epi64, _mm512_set1_epi64};
    let factor = _mm512_set1_epi64(start);
    let mut chains: [_; LOOP_WORK as usize / 8] = std::array::from_fn(|i| _mm512_set1_epi64(start + i as i64));
    for _ in 0..rounds {
        for x in &mut chains {
            *x = _mm512_add_epi64(_mm512_mullo_epi64(*x, factor), factor);
        }
    }
    chains.into_iter().fold(0, |sum, x| sum ^ _mm512_reduce_add_epi64(x))
}

/// Multiply-adds a second of a loop that does nothing else, on all threads: the ceiling of the products with AVX-512.
fn peak() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if Cpu::get().name() == "avx512" {
        const ROUNDS: u64 = 1 << 20;
        let time = seconds(|| {
            rayon::broadcast(|_| {
                // SAFETY: the features were detected, or `Cpu::get` would not name this set.
                #[allow(unsafe_code)]
                unsafe {
                    black_box(multiply_loop(black_box(3), ROUNDS))
                }
            });
        });
        return Some((ROUNDS * LOOP_WORK * rayon::current_num_threads() as u64) as f64 / time);
    }
    None
}

fn elements(count: usize) -> Vec<u64> {
    let mut out = vec![0; count];
    Seed::new([7; 32]).stream(Domain { entry: 0, index: 0, kind: 0 }).fill(0, 64, &mut out);
    out
}

fn products() {
    let peak = peak();
    if let Some(peak) = peak {
        row("multiply-add in registers", peak / 1e9, "G MAC/s", "");
    }
    for (m, k, n) in [(128, 768, 768), (128, 3072, 768), (128, 768, 3072), (128, 64, 128)] {
        let (a, b, mut out) = (elements(m * k), elements(k * n), vec![0; m * n]);
        let narrow: Vec<i16> = b.iter().map(|&x| x as i16).collect();
        let work = (m * k * n) as f64;
        for (name, time) in [
            ("u64", seconds(|| ring::matmul(&a, &b, m, k, n, &mut out))),
            ("i16", seconds(|| ring::matmul(&a, &narrow, m, k, n, &mut out))),
            ("u64 transposed", seconds(|| ring::matmul_nt(&a, &b, m, k, n, &mut out))),
        ] {
            let share = peak.map_or(String::new(), |peak| format!("{:.0} % of peak", 100.0 * work / time / peak));
            row(&format!("product {m} x {k} x {n}, {name}"), work / time / 1e9, "G MAC/s", &share);
        }
    }
    // Larger than the caches, so that it comes from memory.
    let (k, n) = (768, 50257);
    let a = elements(k);
    let cells: Vec<i16> = elements(k * n).iter().map(|&x| x as i16).collect();
    let mut out = vec![0; n];
    let time = seconds(|| ring::matmul(&a, &cells, 1, k, n, &mut out));
    row("one row 768 x 50257, i16", (k * n) as f64 / time / 1e9, "G MAC/s", "");
    let time = seconds(|| ring::matmul_nt(&a, &cells, 1, k, n, &mut out));
    row("one row 768 x 50257, i16 transposed", (k * n) as f64 / time / 1e9, "G MAC/s", "");
    let wide: Vec<u64> = cells.iter().map(|&x| x as u64).collect();
    let time = seconds(|| ring::matmul(&a, &wide, 1, k, n, &mut out));
    row("one row 768 x 50257, u64", (k * n) as f64 / time / 1e9, "G MAC/s", "");
}

fn packing() {
    for count in [1 << 14, 1 << 22] {
        let x = elements(count);
        for width in [8, 10, 29, 47, 64] {
            let mut bytes = Vec::new();
            let time = seconds(|| {
                bytes.clear();
                ring::pack(&x, width, &mut bytes);
            });
            let size = bytes.len() as f64 / 1e9;
            row(&format!("pack {count} of {width} bits"), size / time, "GB/s", "");
            let mut out = vec![0; count];
            let time = seconds(|| ring::unpack_range(&bytes, width, 0, &mut out));
            row(&format!("unpack {count} of {width} bits"), size / time, "GB/s", "");
        }
    }
}

fn generator() {
    let stream = Seed::new([1; 32]).stream(Domain { entry: 0, index: 0, kind: 0 });
    let mut out = vec![0; 1 << 22];
    for (width, bytes) in [(8, 1), (16, 2), (32, 4), (64, 8)] {
        let time = seconds(|| stream.fill(0, width, &mut out));
        let rate = (out.len() * bytes) as f64 / time / 1e9;
        let note = format!("{:.2} G elements/s", out.len() as f64 / time / 1e9);
        row(&format!("generator, {width} bits"), rate, "GB/s", &note);
    }
    let mut out = vec![0; 1 << 14];
    let time = seconds(|| stream.fill(0, 64, &mut out));
    row("generator, 64 bits, in cache, one thread", (out.len() * 8) as f64 / time / 1e9, "GB/s", "");
}

/// Cipher blocks a second of counter mode in the cache: comparison keys are made of such.
fn cipher_peak() -> f64 {
    let mut out = vec![[0; 16]; 1 << 11];
    let cipher = Aes128::new(Cpu::get(), &[3; 16]);
    let time = seconds(|| {
        for _ in 0..64 {
            cipher.counter(0, black_box(&mut out));
        }
    });
    (64 * out.len()) as f64 / time
}

/// An evaluation takes two blocks a level (child and payload) and one at the leaf, but for what points share.
fn comparisons() {
    let peak = cipher_peak();
    row("cipher, counter mode in cache", peak / 1e9, "G blk/s", "");
    for (name, bits, widths, elements_count, points_count) in [
        ("row maximum", 8, &[9][..], 1 << 15, 12),
        ("row maximum", 9, &[10], 1 << 15, 45),
        ("one component", 32, &[32], 1 << 14, 1),
        ("one component", 32, &[32], 1 << 12, 8),
        ("one component", 32, &[32], 1 << 9, 64),
        ("one component", 32, &[32], 128, 256),
        ("three components", 32, &[46, 46, 21], 128, 256),
        ("three components", 32, &[64, 64, 64], 128, 256),
        ("spline", 24, &[46, 46, 21], 1 << 9, 85),
    ] {
        let layout = Layout::new(bits, widths);
        let low = ring::mask(bits);
        let alphas: Vec<u64> = elements(elements_count).iter().map(|x| x & low).collect();
        let betas = vec![elements(elements_count); widths.len()];
        let roots: Vec<u128> = elements(elements_count).iter().map(|&x| u128::from(x) << 64 | 99).collect();
        let mut words = Vec::new();
        let time = seconds(|| {
            words.clear();
            dcf::deal(layout, &alphas, &betas, &roots, &roots, &mut words);
        });
        let title = format!("{name}: {bits} bits to {widths:?}");
        // Both parties' nodes, each with both children.
        let payload_blocks = if widths.len() == 1 { 1 } else { 2 };
        let blocks = elements_count * (2 * usize::from(layout.levels) * (2 + payload_blocks) + 2);
        let share = format!("{:.0} % of peak", 100.0 * blocks as f64 / time / peak);
        row(&format!("{title}, deal"), elements_count as f64 / time / 1e6, "M keys/s", &share);
        // Thresholds at equal distances, from a start that differs by element.
        let step = if bits < 16 { 4 } else { low / 1000 };
        let start = elements(elements_count);
        let points = |i: usize, row: &mut [u64]| {
            (0..).zip(row).for_each(|(k, y)| *y = start[i].wrapping_sub(k * step) & low);
        };
        let key = dcf::Key::parse(layout, elements_count, &words).expect("dealt words");
        let mut out = vec![0; elements_count];
        let time = seconds(|| {
            dcf::evaluate(
                Party::Client,
                &key,
                0..elements_count,
                &roots,
                points_count,
                points,
                &mut out,
                |_, shares, out| {
                    out[0] = shares[0].iter().fold(0, |sum, x| sum ^ x);
                },
            );
        });
        let count = (elements_count * points_count) as f64;
        let blocks = count * f64::from(2 * layout.levels + 1);
        let note = format!(
            "{:.2} M keys/s, {:.0} % of peak",
            elements_count as f64 / time / 1e6,
            100.0 * blocks / time / peak
        );
        row(&format!("{title}, {points_count} points"), count / time / 1e6, "M/s", &note);
    }
}

fn main() {
    println!("instruction set {}, {} threads; a core's speed:", Cpu::get().name(), rayon::current_num_threads());
    // A word after `--` picks one group.
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let groups: [(&str, fn()); 4] =
        [("products", products), ("packing", packing), ("generator", generator), ("comparisons", comparisons)];
    for (name, run) in groups {
        if only.as_deref().is_none_or(|o| o == name) {
            run();
        }
    }
}
