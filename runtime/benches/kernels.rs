//! Speed of the kernels a core: `cargo bench -p ssvm --bench kernels [-- GROUP]` with one of
//! the groups at the end.
//!
//! `RAYON_NUM_THREADS` sets the number of threads and `SSVM_CPU` forces an instruction set. Where the kernel accounts for
//! it (Linux), time is processor time, averaged over runs, so that other work on the machine disturbs it little; else it
//! is time on the clock by all threads.

use ir::dcf::Layout;
use ir::series::Series;
use ir::{Party, Table, Width};
use ssvm::cpu::Cpu;
use ssvm::material::{Material, MaterialError};
use ssvm::prg::{Domain, Seed};
use ssvm::protocol::open::{self, Half};
use ssvm::protocol::series::{self, Terms};
use ssvm::protocol::{Dealing, Source, Use, blocks, dcf};
use ssvm::ring::{self, Tensor};
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

fn comparisons() {
    for (name, bits, components, width, elements_count, points_count) in [
        ("row maximum", 9, 1, 10, 1 << 17, 25),
        ("row maximum", 9, 1, 10, 1 << 17, 45),
        ("row maximum", 9, 1, 8, 1 << 17, 45),
        ("sign", 28, 1, 40, 1 << 15, 1),
        ("spline", 30, 3, 64, 128, 260),
        ("spline", 40, 3, 64, 128, 260),
    ] {
        let layout = Layout::new(bits, components, width);
        let low = ring::mask(bits);
        let alphas: Vec<u64> = elements(elements_count).iter().map(|x| x & low).collect();
        let betas = vec![elements(elements_count); usize::from(components)];
        let roots: Vec<u128> = elements(elements_count).iter().map(|&x| u128::from(x) << 64 | 99).collect();
        let mut words = Vec::new();
        let time = seconds(|| {
            words.clear();
            dcf::deal(layout, &alphas, &betas, &roots, &roots, &mut words);
        });
        let title = format!("{name}: {bits} bits, {components} x {width}");
        row(&format!("{title}, deal"), elements_count as f64 / time / 1e6, "M keys/s", "");
        // Thresholds at equal distances, from a start that differs by element.
        let step = if bits < 16 { 2 } else { low / 1000 };
        let start = elements(elements_count);
        let points: Vec<u64> =
            start.iter().flat_map(|s| (0..points_count).map(move |k| s.wrapping_sub(k * step) & low)).collect();
        let key = dcf::Key::parse(layout, elements_count, &words).expect("dealt words");
        let mut out = vec![vec![0; points.len()]; usize::from(components)];
        let time = seconds(|| {
            let mut slices: Vec<&mut [u64]> = out.iter_mut().map(|o| &mut o[..]).collect();
            dcf::evaluate(Party::Client, &key, 0..elements_count, &roots, &points, &mut slices);
        });
        let note = format!("{:.2} M keys/s", elements_count as f64 / time / 1e6);
        row(&format!("{title}, {points_count} points"), points.len() as f64 / time / 1e6, "M/s", &note);
    }
}

/// Dealt bytes that are there already.
struct Bytes<'a>(&'a [u8]);

impl Material for Bytes<'_> {
    fn take(&mut self, length: usize) -> Result<Vec<u8>, MaterialError> {
        let (head, tail) = self.0.split_at(length);
        self.0 = tail;
        Ok(head.to_vec())
    }
}

const PARTIES: [(&str, Party); 2] = [("client", Party::Client), ("server", Party::Server)];

/// A party's half of an opening, and the bytes that it sends.
fn half(party: Party, own: Use, x: &Tensor, width: Width) -> (Half, Vec<u8>) {
    let mut bytes = Vec::new();
    let half = open::send(party, x, &open::mask(own, width), width, true, open::Dealt::default(), &mut bytes);
    (half, bytes)
}

fn openings() {
    for width in [9, 17, 19, 30, 41] {
        let count = 1 << 19;
        let (seed, x) = (Seed::new([3; 32]), Tensor::new(vec![count], elements(count)));
        let own = Use { seed: &seed, entry: 0, index: 0 };
        let send = seconds(|| drop(black_box(half(Party::Client, own, &x, width))));
        let both = seconds(|| {
            let (half, bytes) = half(Party::Client, own, &x, width);
            black_box(half.complete(&bytes));
        });
        // Three passes that have to be: the mask's bytes are made, the share is read, mask and half are written.
        let stream = seed.stream(Domain { entry: 0, index: 0, kind: 0 });
        let mut out = vec![0; count];
        let bound = seconds(|| stream.fill(0, width, &mut out)) + seconds(|| ring::add_assign(&mut out, &x.data));
        for (name, time) in [("send", send), ("complete", both - send)] {
            let note = format!("{:.1} x generator and sum", time / bound);
            row(&format!("open at {width} bits, {name}"), time * 1e9 / count as f64, "ns", &note);
        }
    }
}

fn serieses() {
    for (name, width, terms, even) in [("gelu", 48, 13, true), ("exp", 32, 12, false)] {
        let (period_bits, count) = (17, 1 << 17);
        let coefficients: Vec<i64> = (0..terms).map(|k| 54_000_000 >> k).collect();
        let sin = if even { Vec::new() } else { coefficients.clone() };
        let table = Table::Series { period_log2: 5, public_scale: 15, dealt_scale: 15, c0: 7, cos: coefficients, sin };
        let terms = Terms { period_bits, count: terms, scale: 15 };
        let seeds = [Seed::new([3; 32]), Seed::new([4; 32])];
        let own = seeds.each_ref().map(|seed| Use { seed, entry: 0, index: 1 });
        let mut bytes = Vec::new();
        let masks = own.map(|own| open::mask(own, period_bits));
        let mut nothing = std::io::sink();
        let mut unsent = Vec::new();
        let mask =
            open::deal(&[count], masks, period_bits, 0, &mut Dealing::new(own[0], own[1], &mut nothing, &mut unsent))
                .expect("memory takes all");
        let time = seconds(|| {
            bytes.clear();
            let mut to = Dealing::new(own[0], own[1], &mut nothing, &mut bytes);
            for block in blocks(count) {
                series::deal(&mask, block, terms, width, &mut to).expect("memory takes all");
            }
        });
        let values = (count * 2 * terms.count) as f64;
        row(
            &format!("series {name}, deal"),
            time * 1e9 / count as f64,
            "ns",
            &format!("{:.2} ns a value", time * 1e9 / values),
        );
        let x = Tensor::new(vec![count], elements(count));
        let series = Series::new(&table, period_bits);
        let mut out = vec![0; count];
        for (party_name, party) in PARTIES {
            let own = own[party.index()];
            let (half, message) = half(party, own, &x, period_bits);
            let opening = half.complete(&message);
            let mut run = |with: bool| {
                seconds(|| {
                    let mut material = Bytes(&bytes);
                    let mut source = Source::new(party, own, &mut material);
                    for block in blocks(count) {
                        let dealt = series::Dealt::take(&mut source, block.clone(), terms.count, width).expect("dealt");
                        if with {
                            series::read(party, &opening, block.clone(), &series, 7, dealt, &mut out[block]);
                        }
                    }
                })
            };
            let time = run(true) - run(false);
            let mut values = vec![0; 1 << 13];
            let expand = match party {
                Party::Client => {
                    let stream = seeds[0].stream(Domain { entry: 0, index: 0, kind: 0 });
                    seconds(|| stream.fill(0, width, &mut values))
                }
                Party::Server => seconds(|| ring::unpack_range(&bytes, width, 0, &mut values)),
            };
            let bound = expand / values.len() as f64 * (2 * terms.count) as f64;
            let note = format!("{:.1} x expansion", time / count as f64 / bound);
            row(&format!("series {name}, {party_name}"), time * 1e9 / count as f64, "ns", &note);
        }
    }
}

fn main() {
    println!("instruction set {}, {} threads; a core's speed:", Cpu::get().name(), rayon::current_num_threads());
    // A word after `--` picks one group.
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let groups: [(&str, fn()); 6] = [
        ("products", products),
        ("packing", packing),
        ("generator", generator),
        ("comparisons", comparisons),
        ("openings", openings),
        ("series", serieses),
    ];
    for (name, run) in groups {
        if only.as_deref().is_none_or(|o| o == name) {
            run();
        }
    }
}
