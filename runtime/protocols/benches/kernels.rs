//! Speed of the kernels a core: `cargo bench -p protocols --bench kernels [-- GROUP]`, a group being products, rows, gpt2, packing,
//! generator, comparisons, tables, openings, series, cells or choices. Peaks are measured in the same run, by loops of one instruction.
//!
//! `RAYON_NUM_THREADS` sets the number of threads and `SSVM_CPU` forces an instruction set. Where the kernel accounts for
//! it (Linux), time is processor time, averaged over runs, so that other work on the machine disturbs it little; else it
//! is time on the clock by all threads.

#[path = "../../../benches/processor.rs"]
mod processor;

use ir::choose::{Choosing, LIFT};
use ir::dcf::Layout;
use ir::series::Series;
use ir::{Party, Table, Width};
use kernels::cpu::Cpu;
use kernels::masked::Reversed;
use kernels::prg::{Domain, Seed};
use kernels::ring::{self, Tensor};
use processor::processor_seconds;
use protocols::cells::{self, Lines};
use protocols::choose::{self, Chooser};
use protocols::material::{Material, MaterialError};
use protocols::open::{self, Half};
use protocols::series::{self, Terms};
use protocols::{BLOCK, Dealing, Mask, Source, Use, blocks, dcf, ge};
use std::hint::black_box;
use std::time::Instant;

/// Core-seconds of a run, the mean over half a second and at least three runs.
fn seconds(mut f: impl FnMut()) -> f64 {
    f();
    timed(&mut f, 3, 0.5)
}

/// Core-seconds of a run, the mean over so many seconds and runs at least.
fn timed(f: &mut dyn FnMut(), least_runs: u32, least_seconds: f64) -> f64 {
    let (begin, start, mut runs) = (Instant::now(), processor_seconds(), 0);
    while runs < least_runs || begin.elapsed().as_secs_f64() < least_seconds {
        f();
        runs += 1;
    }
    let seconds = match (start, processor_seconds()) {
        (Some(start), Some(end)) => end - start,
        _ => begin.elapsed().as_secs_f64() * rayon::current_num_threads() as f64,
    };
    seconds / f64::from(runs)
}

/// Reads memory once, each thread a part of its own: two that read the same would share what comes from memory.
fn read(data: &[u64]) {
    rayon::broadcast(|thread| {
        let part = data.len() / thread.num_threads();
        let part = &data[thread.index() * part..][..part];
        let sum = part.as_chunks::<32>().0.iter().fold([0u64; 32], |s, x| std::array::from_fn(|i| s[i] ^ x[i]));
        black_box(sum);
    });
}

/// Bytes a core-second of a kernel that reads so many from memory, and what [`read`] has in turn with it, so that what
/// else uses the memory slows both.
fn beside_read(bytes: usize, data: &[u64], mut f: impl FnMut()) -> [f64; 2] {
    let mut times = [0.0; 2];
    f();
    for _ in 0..5 {
        times[0] += timed(&mut f, 1, 0.1) / 5.0;
        times[1] += timed(&mut || read(data), 1, 0.1) / 5.0;
    }
    [bytes as f64 / times[0], size_of_val(data) as f64 / times[1]]
}

fn row(name: &str, value: f64, unit: &str, note: &str) {
    println!("{name:<52} {value:>9.2} {unit:<8} {note}");
}

/// Rounds of a loop that measures a peak.
const ROUNDS: usize = 1 << 18;

/// Loops of one instruction in registers only, sixteen independent chains of it: what the CPU can do at best.
#[cfg(target_arch = "x86_64")]
mod peaks {
    use super::ROUNDS;
    use std::arch::x86_64::*;

    macro_rules! peak {
        ($name:ident, $features:literal, $step:expr) => {
            #[target_feature(enable = $features)]
            pub fn $name() -> i64 {
                let factor = _mm512_set1_epi64(std::hint::black_box(0x1234_5678_9abc_def3));
                let mut chains: [_; 16] = std::array::from_fn(|i| _mm512_set1_epi64(i as i64));
                for _ in 0..ROUNDS {
                    for x in &mut chains {
                        *x = $step(*x, factor);
                    }
                }
                chains.into_iter().fold(0, |sum, x| sum ^ _mm512_reduce_add_epi64(x))
            }
        };
    }

    peak!(vpmullq, "avx512f,avx512dq", |x, f| _mm512_add_epi64(f, _mm512_mullo_epi64(x, f)));
    peak!(vpmadd52luq, "avx512f,avx512ifma", |x, f| _mm512_madd52lo_epu64(x, f, f));
    peak!(vpdpwssd, "avx512f,avx512vnni", |x, f| _mm512_dpwssd_epi32(x, f, f));
    peak!(aesenc, "avx512f,vaes", |x, f| _mm512_aesenc_epi128(x, f));
}

/// Units of work a second of a core that does nothing else.
#[derive(Clone, Copy, Default)]
struct Peaks {
    /// Multiply-adds mod 2^64.
    vpmullq: Option<f64>,
    /// Multiply-adds mod 2^52.
    vpmadd52luq: Option<f64>,
    /// Multiply-adds of 16-bit integers.
    vpdpwssd: Option<f64>,
    /// Bytes of AES-128.
    aes: Option<f64>,
    /// Bytes read from memory.
    memory: Option<f64>,
}

impl Peaks {
    fn measure() -> Peaks {
        let data = vec![1u64; 1 << 25];
        let memory = Some(size_of_val(&data[..]) as f64 / seconds(|| read(&data)));
        #[cfg(target_arch = "x86_64")]
        if Cpu::get().name() == "icelake" && is_x86_feature_detected!("vaes") {
            let rate = |run: fn() -> i64, units: f64| {
                let time = seconds(|| {
                    rayon::broadcast(|_| black_box(run()));
                });
                Some((16 * ROUNDS * rayon::current_num_threads()) as f64 * units / time)
            };
            // SAFETY: the features were detected, or `Cpu::get` would not name this set.
            #[allow(unsafe_code)]
            let [vpmullq, vpmadd52luq, vpdpwssd, aes] = unsafe {
                [
                    rate(|| peaks::vpmullq(), 8.0),
                    rate(|| peaks::vpmadd52luq(), 8.0),
                    rate(|| peaks::vpdpwssd(), 32.0),
                    rate(|| peaks::aesenc(), 64.0 / 10.0),
                ]
            };
            return Peaks { vpmullq, vpmadd52luq, vpdpwssd, aes, memory };
        }
        Peaks { memory, ..Peaks::default() }
    }

    /// Multiply-adds a second of the instructions that a product of this kind takes.
    fn product(self, width: u8, bits: u32) -> Option<f64> {
        match (width, bits) {
            (..=16, _) => self.vpdpwssd,
            (..=32, ..=16) => self.vpdpwssd.map(|p| p / 2.0),
            (..=32, _) | (..=40, ..=16) => self.vpdpwssd.map(|p| p / 3.0),
            (..=52, _) => self.vpmadd52luq,
            (_, ..=16) => self.vpdpwssd.map(|p| p / 6.0),
            _ => self.vpmullq,
        }
    }

    fn print(self) {
        for (name, peak, unit) in [
            ("peak of vpmullq and vpaddq", self.vpmullq, "G MAC/s"),
            ("peak of vpmadd52luq", self.vpmadd52luq, "G MAC/s"),
            ("peak of vpdpwssd", self.vpdpwssd, "G MAC/s"),
            ("peak of AES-128 by aesenc", self.aes, "GB/s"),
            ("memory read", self.memory, "GB/s"),
        ] {
            if let Some(peak) = peak {
                row(name, peak / 1e9, unit, "");
            }
        }
    }
}

/// A figure in G units a second, with its share of a peak.
fn rate(name: &str, value: f64, unit: &str, peak: Option<f64>) {
    row(name, value / 1e9, unit, &peak.map_or(String::new(), |peak| format!("{:.0} % of peak", 100.0 * value / peak)));
}

fn elements(count: usize) -> Vec<u64> {
    let mut out = vec![0; count];
    Seed::new([7; 32]).stream(Domain { step: 0, entry: 0, index: 0, kind: 0 }).fill(0, 64, &mut out);
    out
}

fn cells(elements: &[u64]) -> Vec<[u8; 2]> {
    elements.iter().map(|&x| (x as i16).to_le_bytes()).collect()
}

fn products(peaks: Peaks) {
    for (m, k, n) in [(128, 768, 768), (128, 3072, 768), (128, 768, 3072), (64, 64, 128)] {
        let (a, b, mut out) = (elements(m * k), elements(k * n), vec![0; m * n]);
        let narrow = cells(&b);
        let work = (m * k * n) as f64;
        for width in [16, 32, 40, 52, 64] {
            for (name, bits, time) in [
                ("i16", 16, seconds(|| ring::matmul(&a, &narrow, m, k, n, width, &mut out))),
                ("u64", 64, seconds(|| ring::matmul(&a, &b, m, k, n, width, &mut out))),
                ("u64 transposed", 64, seconds(|| ring::matmul_nt(&a, &b, m, k, n, width, &mut out))),
            ] {
                let title = format!("product {m} x {k} x {n}, {width} bits, {name}");
                rate(&title, work / time, "G MAC/s", peaks.product(width, bits));
            }
        }
    }
}

/// Products of one row, with operands that come from memory: as many in turn as are larger than the caches. They lie in
/// small pages like those of mapped weights.
fn rows(_: Peaks) {
    let wide = elements(768 * 50257);
    let narrow = cells(&wide);
    for (k, n) in [(768, 768), (768, 2304), (768, 3072), (3072, 768), (768, 50257)] {
        let (a, count, mut out) = (elements(k), wide.len() / (k * n), vec![0; n]);
        let print = |name: &str, [speed, read]: [f64; 2]| {
            rate(&format!("one row {k} x {n}, {name}"), speed, "GB/s", Some(read));
        };
        for width in [16, 32, 33, 46, 64] {
            let speed = beside_read(count * 2 * k * n, &wide, || {
                narrow.chunks_exact(k * n).for_each(|b| ring::matmul(&a, b, 1, k, n, width, &mut out));
            });
            print(&format!("{width} bits, i16"), speed);
            let mut packed = Vec::new();
            ring::pack(&wide, width, &mut packed);
            let bytes = ring::packed_len(k * n, width);
            let speed = beside_read(count * bytes, &wide, || {
                for b in packed.chunks_exact(bytes) {
                    ring::matmul_packed(&a, ring::Packed::new(b, width), [1, k, n], width, false, &mut out);
                }
            });
            print(&format!("{width} bits, packed"), speed);
            let stream = Seed::new([1; 32]).stream(Domain { step: 0, entry: 0, index: 0, kind: 0 });
            let fill = |first: usize, out: &mut [u64]| stream.fill(first as u64, width, out);
            let time = seconds(|| ring::matmul_filled(&a, fill, [1, k, n], width, false, &mut out));
            row(&format!("one row {k} x {n}, {width} bits, generated"), (k * n) as f64 / time / 1e9, "G MAC/s", "");
        }
        let speed = beside_read(count * 2 * k * n, &wide, || {
            narrow.chunks_exact(k * n).for_each(|b| ring::matmul_nt(&a, b, 1, k, n, 64, &mut out));
        });
        print("i16 transposed", speed);
    }
}

/// The products of GPT-2 small with 128 tokens, at the widths that its program has, as each process computes them: time
/// by all threads, divided by their number.
fn gpt2(peaks: Peaks) {
    println!("GPT-2 small, 128 tokens, milliseconds a thread of {}", rayon::current_num_threads());
    let mut total = [0.0; 3];
    for (name, count, [m, k, n], width) in [
        ("embedding", 1, [128, 50257, 768], 16),
        ("query, key, value", 12, [128, 768, 2304], 46),
        ("projection", 12, [128, 768, 768], 31),
        ("first layer", 12, [128, 768, 3072], 34),
        ("second layer", 12, [128, 3072, 768], 31),
        ("head", 1, [1, 768, 50257], 33),
    ] {
        let (a, wide) = (elements(m * k), elements(k * n));
        let (narrow, mut out, mut packed) = (cells(&wide), vec![0; m * n], Vec::new());
        ring::pack(&wide, width, &mut packed);
        drop(wide);
        let stream = Seed::new([1; 32]).stream(Domain { step: 0, entry: 0, index: 0, kind: 0 });
        let times = [0, 1, 2].map(|who| {
            let masked = ring::Packed::new(&packed, width);
            let fill = |first: usize, out: &mut [u64]| stream.fill(first as u64, width, out);
            let product = || match who {
                0 => ring::matmul(&a, &narrow, m, k, n, width, &mut out),
                1 => ring::matmul_packed(&a, masked, [m, k, n], width, true, &mut out),
                _ => ring::matmul_filled(&a, fill, [m, k, n], width, true, &mut out),
            };
            seconds(product) / rayon::current_num_threads() as f64
        });
        let work = (count * m * k * n) as f64;
        let speed = work / (times[0] * f64::from(count as u32)) / rayon::current_num_threads() as f64;
        let [server, client, dealer] = times.map(|t| 1e3 * t * count as f64);
        let note = format!("client {client:.1}, dealer {dealer:.1}");
        row(&format!("{count} x {name}, {width} bits: server"), server, "ms", &note);
        // One row is as fast as memory: two bytes a multiply-add.
        let peak = if m == 1 { peaks.memory.map(|p| p / 2.0) } else { peaks.product(width, 16) };
        rate("  of the server, a core", speed, "G MAC/s", peak);
        total.iter_mut().zip([server, client, dealer]).for_each(|(t, x)| *t += x);
    }
    row("all: server", total[0], "ms", &format!("client {:.1}, dealer {:.1}", total[1], total[2]));
}

fn packing(peaks: Peaks) {
    // Bytes of elements and of packed ones together: all that moves.
    for count in [1 << 12, 1 << 22] {
        let x = elements(count);
        for width in [2, 8, 10, 16, 29, 33, 47, 57, 63, 64] {
            let (mut bytes, mut out) = (Vec::new(), vec![0; count]);
            let time = seconds(|| {
                bytes.clear();
                ring::pack(&x, width, &mut bytes);
            });
            let size = (8 * count + bytes.len()) as f64;
            let note = |time: f64| format!("{:.2} G elements/s", count as f64 / time / 1e9);
            row(&format!("pack {count} of {width} bits"), size / time / 1e9, "GB/s", &note(time));
            let time = seconds(|| ring::unpack_range(&bytes, width, 0, &mut out));
            row(&format!("unpack {count} of {width} bits"), size / time / 1e9, "GB/s", &note(time));
            let time = seconds(|| ring::unpack_range(&bytes, width, 3, &mut out[3..]));
            row(&format!("unpack {count} of {width} bits from 3 on"), size / time / 1e9, "GB/s", &note(time));
        }
    }
    if let Some(memory) = peaks.memory {
        row("memory read", memory / 1e9, "GB/s", "");
    }
}

fn generator(peaks: Peaks) {
    let stream = Seed::new([1; 32]).stream(Domain { step: 0, entry: 0, index: 0, kind: 0 });
    for count in [192, 1 << 14, 1 << 22] {
        let mut out = vec![0; count];
        for (width, bytes) in [(8, 1), (16, 2), (32, 4), (64, 8)] {
            let time = seconds(|| stream.fill(0, width, &mut out));
            let title = format!("generator, {count} of {width} bits");
            rate(&title, (count * bytes) as f64 / time, "GB/s", peaks.aes);
            row("  as elements", (count * 8) as f64 / time / 1e9, "GB/s", "");
        }
    }
}

/// An evaluation takes two blocks a level (child and payload) and one at the leaf, but for what points share.
fn comparisons(peaks: Peaks) {
    // Of cipher blocks.
    let peak = peaks.aes.map(|bytes| bytes / 16.0);
    let share_of_peak = |blocks: f64, time: f64| {
        peak.map_or(String::new(), |peak| format!("{:.0} % of the cipher's peak", 100.0 * blocks / time / peak))
    };
    // Points at equal distances, or the knots of a spline: octaves of eight.
    let even = |bits: u8| if bits < 16 { 4 } else { ring::mask(bits) / 1000 };
    let knots = |count: usize, bits: u8| -> Vec<u64> {
        let octave = |k: usize| (8 + k as u64 % 8) << (k / 8);
        (0..count).map(|k| octave(k) << bits >> (4 + count.div_ceil(8))).collect()
    };
    for (name, bits, widths, elements_count, points_count) in [
        ("row maximum", 9, &[10][..], 1 << 15, 45),
        ("one component", 8, &[16], 1 << 14, 1),
        ("one component", 16, &[32], 1 << 14, 1),
        ("one component", 32, &[32], 1 << 14, 1),
        ("one component", 32, &[32], 1 << 12, 8),
        ("one component", 32, &[32], 1 << 9, 64),
        ("one component", 32, &[32], 128, 256),
        ("three components", 32, &[46, 46, 21], 128, 256),
        ("three components", 32, &[64, 64, 64], 128, 256),
        ("spline", 22, &[45, 45, 22], 1 << 9, 80),
        ("spline", 24, &[45, 45, 20], 1 << 9, 106),
    ] {
        let layout = Layout::new(bits, widths);
        let low = ring::mask(bits);
        let alphas: Vec<u64> = elements(elements_count).iter().map(|x| x & low).collect();
        let beta = elements(elements_count);
        let betas = vec![&beta[..]; widths.len()];
        let roots: Vec<u128> = elements(elements_count).iter().map(|&x| u128::from(x) << 64 | 99).collect();
        let mut words = Vec::new();
        let time = seconds(|| {
            words.clear();
            dcf::deal(layout, &alphas, &betas, &roots, &roots, &mut words);
        });
        let title = format!("{name}: {bits} bits to {widths:?}");
        // Both parties' nodes, each with all children.
        let payload_blocks = if widths.len() == 1 { 2 } else { 4 };
        let blocks = elements_count * (2 * layout.steps() * (4 + payload_blocks) + 2);
        let share = share_of_peak(blocks as f64, time);
        row(&format!("{title}, deal"), elements_count as f64 / time / 1e6, "M keys/s", &share);
        // From a start that differs by element.
        let distances = match name {
            "spline" => knots(points_count, bits),
            _ => (0..points_count as u64).map(|k| k * even(bits)).collect(),
        };
        let start = elements(elements_count);
        let points = |i: usize, row: &mut [u64]| {
            row.iter_mut().zip(&distances).for_each(|(y, distance)| *y = start[i].wrapping_sub(*distance) & low);
        };
        let key = dcf::Key::parse(layout, elements_count, &words).expect("dealt words");
        let mut out = vec![0; elements_count];
        let time = seconds(|| {
            dcf::evaluate(
                dcf::wide_keys().as_ref(),
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
        let blocks = count * (2 * layout.steps() + 1) as f64;
        let note = format!("{:.2} M keys/s, {}", elements_count as f64 / time / 1e6, share_of_peak(blocks, time));
        row(&format!("{title}, {points_count} points"), count / time / 1e6, "M/s", &note);
    }
}

/// Dealt bytes that are there already.
struct Bytes<'a>(&'a [u8]);

impl Material for Bytes<'_> {
    fn take(&mut self, length: usize) -> Result<bytes::Bytes, MaterialError> {
        let (head, tail) = self.0.split_at(length);
        self.0 = tail;
        Ok(bytes::Bytes::copy_from_slice(head))
    }
}

const PARTIES: [(&str, Party); 2] = [("client", Party::Client), ("server", Party::Server)];

/// The mask of an opening of which the dealer sends nothing.
fn dealt_mask(own: [Use; 2], count: usize, width: Width) -> Mask {
    let (mut client, mut server) = (std::io::sink(), std::io::sink());
    let masks = own.map(|own| open::mask(own, width));
    open::deal(&[count], masks, width, 0, &mut Dealing::new(own[0], own[1], &mut client, &mut server))
        .expect("a sink takes all")
}

/// A party's half of an opening, and the bytes that it sends.
fn half(party: Party, own: Use, x: &Tensor, width: Width) -> (Half, Vec<u8>) {
    let mut bytes = vec![0; ring::packed_len(x.len(), width)];
    let half = open::send(party, x, open::mask(own, width), width, true, open::Dealt::default(), &mut bytes);
    (half, bytes)
}

/// Comparisons that are dealt as tables: scores against every step, and counts against one.
fn tables(_: Peaks) {
    for (name, opened, width, thresholds) in [("row maximum", 7, 9, 13), ("counts", 9, 6, 1)] {
        let count = 1 << 17;
        let seeds = [Seed::new([3; 32]), Seed::new([4; 32])];
        let own = seeds.each_ref().map(|seed| Use { seed, step: 0, entry: 0, index: 1 });
        let (mask, mut nothing, mut bytes) = (dealt_mask(own, count, opened), std::io::sink(), Vec::new());
        let time = seconds(|| {
            bytes.clear();
            let mut to = Dealing::new(own[0], own[1], &mut nothing, &mut bytes);
            blocks(count).try_for_each(|block| ge::deal(&mask, block, width, &mut to)).expect("memory takes all");
        });
        let title = format!("{name}: {opened} bits opened, {thresholds} thresholds");
        let per = |time: f64| time * 1e9 / count as f64;
        row(&format!("{title}, deal"), per(time), "ns", &format!("{:.1} bytes", bytes.len() as f64 / count as f64));
        let thresholds: Vec<i64> = (0..thresholds).map(|t| t - 6).collect();
        let mut out = vec![0; count * thresholds.len()];
        for (party_name, party) in PARTIES {
            let own = own[party.index()];
            let (half, message) = half(party, own, &Tensor::new(vec![count], elements(count)), opened);
            let opening = half.complete(&message);
            let time = seconds(|| {
                let mut material = Bytes(&bytes);
                let mut source = Source::new(party, own, &mut material);
                let rows = blocks(count).zip(out.chunks_mut(BLOCK * thresholds.len()));
                for (block, out) in rows {
                    let dealt = ge::Dealt::take(&mut source, &opening, block.clone(), width).expect("dealt");
                    ge::read(party, &opening, block, &thresholds, dealt, out);
                }
            });
            let note = format!("{:.2} ns a threshold", per(time) / thresholds.len() as f64);
            row(&format!("{title}, {party_name}"), per(time), "ns", &note);
        }
    }
}

fn openings(_: Peaks) {
    for width in [9, 17, 19, 30, 41] {
        let count = 1 << 19;
        let (seed, x) = (Seed::new([3; 32]), Tensor::new(vec![count], elements(count)));
        let own = Use { seed: &seed, step: 0, entry: 0, index: 0 };
        let send = seconds(|| drop(black_box(half(Party::Client, own, &x, width))));
        let both = seconds(|| {
            let (half, bytes) = half(Party::Client, own, &x, width);
            black_box(half.complete(&bytes));
        });
        // Three passes that have to be: the mask's bytes are made, the share is read, mask and half are written.
        let stream = seed.stream(Domain { step: 0, entry: 0, index: 0, kind: 0 });
        let mut out = vec![0; count];
        let bound = seconds(|| stream.fill(0, width, &mut out)) + seconds(|| ring::add_assign(&mut out, &x.data));
        for (name, time) in [("send", send), ("send and complete", both)] {
            let note = format!("{:.1} x generator and sum", time / bound);
            row(&format!("open at {width} bits, {name}"), time * 1e9 / count as f64, "ns", &note);
        }
    }
}

fn serieses(_: Peaks) {
    for (name, width, terms, even) in [("gelu", 48, 13, true), ("exp", 32, 12, false)] {
        let (period_bits, count) = (17, 1 << 17);
        let coefficients: Vec<i64> = (0..terms).map(|k| 54_000_000 >> k).collect();
        let sin = if even { Vec::new() } else { coefficients.clone() };
        let table = Table::Series { period_log2: 5, public_scale: 15, dealt_scale: 15, c0: 7, cos: coefficients, sin };
        let terms = Terms { period_bits, count: terms, scale: 15 };
        let seeds = [Seed::new([3; 32]), Seed::new([4; 32])];
        let own = seeds.each_ref().map(|seed| Use { seed, step: 0, entry: 0, index: 1 });
        let (mask, mut nothing, mut bytes) = (dealt_mask(own, count, period_bits), std::io::sink(), Vec::new());
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
                    let stream = seeds[0].stream(Domain { step: 0, entry: 0, index: 0, kind: 0 });
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

/// Lines on cells, dealt and read; and the sums alone that an element's bits select, two tables of 32 bits a bit.
fn linear_cells(_: Peaks) {
    let (count, width, cell_bits) = (1 << 17, 32, 8);
    for cells_log2 in [7, 8, 9] {
        let positions = 1usize << cells_log2;
        let [a, b]: [Vec<i64>; 2] = [1000, 7].map(|step| (0..positions as i64).map(|j| step * j).collect());
        let reversed = Reversed::new([&a[..], &b[..]]);
        let words = elements(count * reversed.words());
        let places = elements(count);
        let mut readings = vec![[0; 2]; count];
        let time = seconds(|| reversed.sums(Cpu::get(), &words, &places, &mut readings));
        let per = |time: f64| time * 1e9 / count as f64;
        let note = format!("{:.1} numbers of the tables a ns", (2 * positions) as f64 / per(time));
        row(&format!("{positions} cells, sums"), per(time), "ns", &note);

        let table = Table::Cells { cell_bits, scale: 16, a, b };
        let lines = Lines::new(&table);
        let opened = cells_log2 + cell_bits;
        let seeds = [Seed::new([3; 32]), Seed::new([4; 32])];
        let own = seeds.each_ref().map(|seed| Use { seed, step: 0, entry: 0, index: 1 });
        let (mask, mut nothing, mut bytes) = (dealt_mask(own, count, opened), std::io::sink(), Vec::new());
        let time = seconds(|| {
            bytes.clear();
            let mut to = Dealing::new(own[0], own[1], &mut nothing, &mut bytes);
            cells::deal(&mask, lines, width, own[0], own[1], &mut to).expect("memory takes all");
        });
        row(&format!("{positions} cells, deal"), per(time), "ns", &format!("{} bytes", bytes.len() / count));
        for (party_name, party) in PARTIES {
            let own = own[party.index()];
            let (half, message) = half(party, own, &Tensor::new(vec![count], elements(count)), opened);
            let opening = half.complete(&message);
            let mut message = vec![0; 2 * ring::packed_len(count, width)];
            let peer = message.clone();
            let mut send = || {
                let mut material = Bytes(&bytes);
                let mut source = Source::new(party, own, &mut material);
                cells::send(&mut source, &opening, lines, width, &mut message).expect("dealt")
            };
            let first = seconds(|| drop(black_box(send())));
            let both = seconds(|| drop(black_box(send().complete(&peer))));
            row(
                &format!("{positions} cells, {party_name}"),
                per(both),
                "ns",
                &format!("{:.0} before the message", per(first)),
            );
        }
    }
}

/// The choice of a token of GPT-2's vocabulary: dealing, and both parties in turn.
fn choices(_: Peaks) {
    let (count, width) = (50_257, 16);
    let choosing = Choosing::new(count as u64, width);
    let seeds = [Seed::new([3; 32]), Seed::new([4; 32])];
    let [opens, chooses] = [0, 1].map(|index| seeds.each_ref().map(|seed| Use { seed, step: 0, entry: 0, index }));
    let (mut nothing, mut of_opening, mut of_choice) = (std::io::sink(), Vec::new(), Vec::new());
    let mut to = Dealing::new(opens[0], opens[1], &mut nothing, &mut of_opening);
    let masks = opens.map(|own| open::mask(own, width));
    open::deal(&[count], masks, width, LIFT, &mut to).expect("memory takes all");
    let time = seconds(|| {
        of_choice.clear();
        let mut to = Dealing::new(chooses[0], chooses[1], &mut nothing, &mut of_choice);
        choose::deal(&choosing, chooses[0], chooses[1], &mut to).expect("memory takes all");
    });
    let units = count as f64 + choosing.comparisons() as f64;
    let note = format!("{:.0} ns a number or comparison, {} bytes", time * 1e9 / units, of_choice.len());
    row("choose among 50,257, deal", time * 1e3, "ms", &note);

    let values = [elements(count).iter().map(|v| v >> 52).collect(), vec![0; count]];
    let halves = [0, 1].map(|p| {
        let (party, mut message) = (PARTIES[p].1, vec![0; ring::packed_len(count, width)]);
        let mut material = Bytes(&of_opening);
        let dealt = open::Dealt::take(&mut Source::new(party, opens[p], &mut material), count, LIFT).expect("dealt");
        let x = Tensor::new(vec![count], values[p].clone());
        (open::send(party, &x, open::mask(opens[p], width), width, false, dealt, &mut message), message)
    });
    let [(client, to_server), (server, to_client)] = halves;
    let openings = [client.complete(&to_client), server.complete(&to_server)];
    let time = seconds(|| {
        let mut of_choice = Bytes(&of_choice);
        let [mut client, mut server] = [0, 1].map(|p| {
            let mut source = Source::new(PARTIES[p].1, chooses[p], &mut of_choice);
            let dealt = choose::Dealt::take(&mut source, &choosing).expect("dealt");
            Chooser::new(PARTIES[p].1, chooses[p], choosing.clone(), &openings[p], dealt)
        });
        server.shuffle_by_server(&client.give_to_server());
        let [numbers, places] = server.give_to_client();
        client.shuffle_by_client(&numbers, &places);
        for &level in &choosing.levels {
            let (ours, theirs) = (client.differences(level).to_vec(), server.differences(level).to_vec());
            let (ours, theirs) = (client.bits(&theirs).to_vec(), server.bits(&ours).to_vec());
            let (ours, theirs) = (client.outcomes(&theirs).to_vec(), server.outcomes(&ours).to_vec());
            assert!(client.decide(&theirs, level) && server.decide(&ours, level), "a ranking");
        }
        black_box(client.index(server.winner()));
    });
    let note = format!("{:.0} ns a number or comparison and party", time * 1e9 / units / 2.0);
    row("choose among 50,257, both parties", time * 1e3, "ms", &note);
}

/// A name on the command line, and what it measures.
type Group = (&'static str, fn(Peaks));

fn main() {
    println!("instruction set {}, {} threads; a core's speed:", Cpu::get().name(), rayon::current_num_threads());
    // A word after `--` picks one group.
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let peaks = Peaks::measure();
    peaks.print();
    let groups: [Group; 11] = [
        ("products", products),
        ("rows", rows),
        ("gpt2", gpt2),
        ("packing", packing),
        ("generator", generator),
        ("comparisons", comparisons),
        ("tables", tables),
        ("openings", openings),
        ("series", serieses),
        ("cells", linear_cells),
        ("choices", choices),
    ];
    for (name, run) in groups {
        if only.as_deref().is_none_or(|o| o == name) {
            run(peaks);
        }
    }
}
