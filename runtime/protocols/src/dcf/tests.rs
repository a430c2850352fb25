//! Comparison keys against their definition, and what their bytes look like.

use super::*;
use ir::dcf::STEP_WORDS;
use kernels::ring::{mask, test_elements, unpack};
use std::ops::Range;

const PARTIES: [Party; 2] = [Party::Client, Party::Server];

/// A batch with everything needed to evaluate it.
struct Batch {
    layout: Layout,
    alphas: Vec<u64>,
    betas: Vec<Vec<u64>>,
    roots: [Vec<u128>; 2],
    words: Vec<u8>,
}

fn test_roots(seed: u64, n: usize) -> Vec<u128> {
    test_elements(seed, 2 * n).chunks(2).map(|c| u128::from(c[0]) << 64 | u128::from(c[1])).collect()
}

impl Batch {
    fn new(layout: Layout, alphas: Vec<u64>, seed: u64) -> Batch {
        let n = alphas.len();
        let betas = (0..layout.components() as u64).map(|c| test_elements(seed + 2 + c, n)).collect();
        Batch::with(layout, alphas, betas, [test_roots(seed, n), test_roots(seed + 1, n)])
    }

    fn with(layout: Layout, alphas: Vec<u64>, betas: Vec<Vec<u64>>, roots: [Vec<u128>; 2]) -> Batch {
        let mut words = vec![1, 2, 3];
        let slices: Vec<&[u64]> = betas.iter().map(|beta| &beta[..]).collect();
        deal(layout, &alphas, &slices, &roots[0], &roots[1], &mut words);
        assert_eq!(words.drain(..3).collect::<Vec<_>>(), [1, 2, 3], "deal appends");
        Batch { layout, alphas, betas, roots, words }
    }

    fn evaluate(&self, party: Party, range: Range<usize>, points: &[u64]) -> Vec<Vec<u64>> {
        let wide = wide_keys();
        let shares = self.evaluate_by(wide.as_ref(), party, range.clone(), points);
        if wide.is_some() {
            let portable = self.evaluate_by(None, party, range, points);
            assert!(shares == portable, "the kernels agree: {:?}", self.layout);
        }
        shares
    }

    fn evaluate_by(&self, wide: Option<&Keys>, party: Party, range: Range<usize>, points: &[u64]) -> Vec<Vec<u64>> {
        let key = Key::parse(self.layout, self.alphas.len(), &self.words).unwrap();
        let per_element = points.len().checked_div(range.len()).unwrap_or(0);
        // Rows of shares by component: one array an element and point.
        let mut out = vec![[u64::MAX; MAX_COMPONENTS]; points.len()];
        let row = |i: usize, row: &mut [u64]| row.copy_from_slice(&points[i * per_element..(i + 1) * per_element]);
        let roots = &self.roots[party.index()][range.clone()];
        super::evaluate(wide, party, &key, range, roots, per_element, row, &mut out, |_, shares, out| {
            for (p, out) in out.iter_mut().enumerate() {
                *out = shares.map(|s| s.get(p).copied().unwrap_or_default());
            }
        });
        (0..self.betas.len()).map(|c| out.iter().map(|shares| shares[c]).collect()).collect()
    }

    /// Shares of the range's elements at the points, checked and returned.
    fn check(&self, range: Range<usize>, points: &[u64]) -> [Vec<Vec<u64>>; 2] {
        let shares = PARTIES.map(|p| self.evaluate(p, range.clone(), points));
        let per_element = points.len() / range.len();
        for (c, betas) in self.betas.iter().enumerate() {
            let low = mask(self.layout.widths()[c]);
            for (p, y) in points.iter().enumerate() {
                let e = range.start + p / per_element;
                let want = if *y < self.alphas[e] { betas[e] & low } else { 0 };
                let [a, b] = [0, 1].map(|i: usize| shares[i][c][p]);
                assert!(a <= low && b <= low);
                assert_eq!(a.wrapping_add(b) & low, want, "{:?}, element {e}, point {y}", self.layout);
            }
        }
        shares
    }
}

#[test]
fn every_alpha_and_point_of_small_trees() {
    for bits in [1, 2, 4, 5, 7] {
        for leaf_log2 in (bits % 2..=bits).step_by(2) {
            for widths in [&[1][..], &[8], &[10], &[16, 16], &[33, 33, 4], &[46, 46, 36], &[64; 3], &[7, 64, 57]] {
                let layout = Layout::with_leaf(bits, widths, leaf_log2);
                let all: Vec<u64> = (0..1 << bits).collect();
                let batch = Batch::new(layout, all.clone(), 1);
                assert_eq!(batch.words.len() as u64, layout.words_bytes(all.len() as u64));
                let points: Vec<u64> = all.iter().flat_map(|_| all.iter().copied()).collect();
                let whole = batch.check(0..all.len(), &points);
                // One point for each element takes the other way through the tree.
                let single: Vec<u64> = all.iter().map(|a| a ^ (a >> 1)).collect();
                let shares = batch.check(0..all.len(), &single);
                for (e, &y) in single.iter().enumerate() {
                    let at = e * all.len() + y as usize;
                    assert!((0..2).all(|p| shares[p][0][e] == whole[p][0][at]), "the two ways agree");
                }
            }
        }
    }
}

#[test]
fn random_points_of_large_trees() {
    for (bits, widths) in [(16, &[9][..]), (31, &[64; 3]), (39, &[60, 60, 8]), (63, &[64, 64]), (63, &[1])] {
        let layout = Layout::new(bits, widths);
        let n = 150;
        let alphas: Vec<u64> = test_elements(9, n).iter().map(|x| x & mask(bits)).collect();
        let batch = Batch::new(layout, alphas.clone(), 10);
        // Points near alpha matter most; then the ends, repetitions, runs and random ones.
        let noise = test_elements(11, n);
        let near = |i: usize| {
            let a = alphas[i];
            [a, a.wrapping_sub(1), a + 1, a ^ 1, a, a, 0, mask(bits), noise[i], noise[i] + 1, noise[i] + 2, !noise[i]]
        };
        let points: Vec<u64> = (0..n).flat_map(near).map(|y| y & mask(bits)).collect();
        let shares = batch.check(0..n, &points);
        // A range of elements gives the same shares.
        let part = batch.check(70..131, &points[12 * 70..12 * 131]);
        for p in 0..2 {
            for c in 0..widths.len() {
                assert!(part[p][c] == shares[p][c][12 * 70..12 * 131]);
            }
        }
    }
}

/// Numbers of points and elements that fill no vector, by every way through the tree.
#[test]
fn odd_sizes() {
    for (bits, widths) in [(6, &[9][..]), (8, &[9]), (5, &[33]), (7, &[3]), (24, &[46, 46, 21]), (14, &[64; 3])] {
        let layout = Layout::new(bits, widths);
        for n in [1, 2, 7, 9, 13] {
            let alphas: Vec<u64> = test_elements(n as u64, n).iter().map(|x| x & mask(bits)).collect();
            let batch = Batch::new(layout, alphas, 5);
            for per_element in [1, 2, 3, 5, 7, 8, 11, 12, 13, 37, 85] {
                let points: Vec<u64> = test_elements(6, n * per_element).iter().map(|x| x & mask(bits)).collect();
                batch.check(0..n, &points);
            }
        }
    }
}

#[test]
fn many_points_ascending_and_cyclic() {
    let layout = Layout::new(37, &[50, 50, 24]);
    let n = 20;
    let alphas: Vec<u64> = test_elements(9, n).iter().map(|x| x & mask(37)).collect();
    let batch = Batch::new(layout, alphas.clone(), 3);
    // Knots at growing distances, shifted around the circle: as a spline has them.
    let points: Vec<u64> =
        alphas.iter().flat_map(|a| (0..300u64).map(move |k| a.wrapping_sub((k * k * k) << 4) & mask(37))).collect();
    batch.check(0..n, &points);
}

#[test]
fn no_elements_and_no_points() {
    let layout = Layout::new(9, &[10]);
    let batch = Batch::new(layout, vec![], 1);
    assert!(batch.words.is_empty());
    batch.evaluate(Party::Client, 0..0, &[]);
    Batch::new(layout, vec![3, 4], 1).evaluate(Party::Client, 1..2, &[]);
}

#[test]
fn words_of_another_size_are_refused() {
    let layout = Layout::new(9, &[10]);
    let error = Key::parse(layout, 2, &[0; 5]).err().unwrap();
    assert_eq!(error.to_string(), "correction words of 2 comparison keys take 288 bytes, not 5");
}

/// Words and shares of a few keys; a change of these is a change of the protocol. Each line: layout, then in
/// hexadecimal the BLAKE3 hash of words and of either party's outputs, 16 bytes of each.
#[test]
fn known_answers() {
    let layouts: [(u8, &[u8]); 7] =
        [(9, &[8]), (9, &[10]), (28, &[40]), (30, &[64; 3]), (31, &[33, 33]), (5, &[7, 7, 3]), (63, &[46, 46, 21])];
    let mut got = String::new();
    for (bits, widths) in layouts {
        let layout = Layout::new(bits, widths);
        let alphas: Vec<u64> = test_elements(40, 10).iter().map(|x| x & mask(bits)).collect();
        let batch = Batch::new(layout, alphas.clone(), 41);
        let points: Vec<u64> = alphas.iter().flat_map(|&a| [a, a.saturating_sub(1), a / 2, mask(bits)]).collect();
        let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex()[..32].to_owned();
        let shares = batch
            .check(0..10, &points)
            .map(|out| hash(&out.concat().iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()));
        got += &format!("{bits} {widths:?} {} {} {}\n", hash(&batch.words), shares[0], shares[1]);
    }
    assert_eq!(got, include_str!("known_answers.txt"));
}

/// The smallest key with a step worked out from the head of [`super`] (one step, a leaf of one payload), with the block
/// cipher of the `aes` crate and none of this file's code.
#[test]
fn one_step_by_the_formulas() {
    use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
    let hash = |key: u128, x: u128| {
        let mut block = Array::from(x.to_le_bytes());
        aes::Aes128::new(&Array::from(key.to_be_bytes())).encrypt_block(&mut block);
        x ^ u128::from_le_bytes(block.into())
    };
    let child = |x: u128, c: u128| hash(0x243f_6a88_85a3_08d3_1319_8a2e_0370_7344, x ^ (2 * c));
    let payloads = |x: u128| {
        let pair = |tweak: u128| hash(0xa409_3822_299f_31d0_082e_fa98_ec4e_6c89, x ^ tweak);
        [pair(0) as u64, (pair(0) >> 64) as u64, pair(4) as u64, (pair(4) >> 64) as u64]
    };
    let leaf = |x: u128| hash(0x4528_21e6_38d0_1377_be54_66cf_34e9_0c6c, x) as u64;
    for alpha in 0..4 {
        let batch = Batch::new(Layout::with_leaf(2, &[64], 0), vec![alpha], 8);
        let (beta, keep) = (batch.betas[0][0], alpha as usize);
        let x = [batch.roots[0][0] & !1, batch.roots[1][0] | 1];
        let g = x.map(|x| [0, 1, 2, 3].map(|c| child(x, c)));
        let v = x.map(payloads);
        let lost: Vec<usize> = (0..4).filter(|&c| c != keep).collect();
        let mut seeds: [u128; 4] = std::array::from_fn(|c| g[0][c] ^ g[1][c]);
        let control = seeds[keep] & 1 ^ 1;
        seeds[keep] = lost.iter().fold(0, |x, &c| x ^ seeds[c]) & !1 | control;
        // P1's control bit at the root is one: signs flip.
        let mut words: [u64; 4] = std::array::from_fn(|c| {
            let word = v[0][c].wrapping_sub(v[1][c]);
            if (c as u64) < alpha { word.wrapping_sub(beta) } else { word }
        });
        let [a, b, c, d] = words;
        words[keep] = match keep {
            0 => d.wrapping_sub(b).wrapping_sub(c),
            1 => d.wrapping_sub(a).wrapping_sub(c),
            2 => d.wrapping_sub(a).wrapping_sub(b),
            _ => a.wrapping_add(b).wrapping_add(c),
        };
        let total = v[0][keep].wrapping_sub(v[1][keep]).wrapping_sub(words[keep]);
        let ends = [g[0][keep], g[1][keep] ^ seeds[keep]];
        assert_eq!((ends[0] ^ ends[1]) & 1, 1, "on alpha's path the control bits differ");
        let last = leaf(ends[1]).wrapping_sub(leaf(ends[0])).wrapping_sub(total);
        let last = if ends[1] & 1 == 1 { last.wrapping_neg() } else { last };
        let mut want: Vec<u8> = seeds[..3].iter().flat_map(|seed| seed.to_le_bytes()).collect();
        want.push((seeds[3] & 1) as u8);
        want.extend(words[..3].iter().flat_map(|word| word.to_le_bytes()));
        want.extend(last.to_le_bytes());
        assert_eq!(batch.words, want, "alpha {alpha}");
    }
}

/// Chi-square of 16 equally likely values, over its degrees of freedom: about 1 ± 0.37.
fn chi_square(values: impl Iterator<Item = u64>) -> f64 {
    let mut counts = [0u32; 16];
    values.for_each(|v| counts[(v & 15) as usize] += 1);
    let expected = f64::from(counts.iter().sum::<u32>()) / 16.0;
    counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum::<f64>() / 15.0
}

/// The greatest statistic over every word of the key and every output of either party, many keys of one alpha.
fn worst_statistic(alpha: u64, roots: [Vec<u128>; 2]) -> f64 {
    let n = roots[0].len();
    let layout = Layout::with_leaf(5, &[8], 1);
    let batch = Batch::with(layout, vec![alpha; n], vec![vec![77; n]], roots);
    let key = Key::parse(layout, n, &batch.words).unwrap();
    let (steps, per_key) = (layout.steps(), STEP_WORDS * layout.steps());
    let (seeds, _) = key.seeds.as_chunks();
    let (controls, payloads) = (unpack(key.controls, 1, steps * n), unpack(key.payloads[0], 8, per_key * n));
    let last = unpack(key.last[0], 8, 2 * n);
    let seed = |at: usize| u128::from_le_bytes(seeds[at]);
    let mut statistics = Vec::new();
    for step in 0..steps {
        // The control bits of all four children.
        let bits = |e: usize| {
            let seeds = (0..STEP_WORDS).fold(0, |x, c| (2 * x) | seed(e * per_key + step * STEP_WORDS + c) as u64 & 1);
            (2 * seeds) | controls[e * steps + step]
        };
        statistics.push(chi_square((0..n).map(bits)));
    }
    // Words, and what they make together: that of the last child, and differences of two.
    for step in 0..steps {
        for combination in 1..1 << STEP_WORDS {
            let chosen = |e: usize| {
                let first = e * per_key + step * STEP_WORDS;
                (0..STEP_WORDS).filter(move |c| combination >> c & 1 == 1).map(move |c| first + c)
            };
            let seed = |e: usize| chosen(e).fold(0, |x, at| x ^ seed(at));
            let payload = |e: usize| chosen(e).fold(0, |x: u64, at| x.wrapping_add(payloads[at]));
            for shift in [1, 60, 65, 124] {
                statistics.push(chi_square((0..n).map(|e| (seed(e) >> shift) as u64)));
            }
            for shift in [0, 4] {
                statistics.push(chi_square((0..n).map(|e| payload(e) >> shift)));
            }
        }
    }
    for i in 0..2 {
        statistics.push(chi_square((0..n).map(|e| last[2 * e + i])));
    }
    for party in PARTIES {
        for y in 0..32 {
            let out = batch.evaluate(party, 0..n, &vec![y; n]);
            statistics.push(chi_square(out[0].iter().copied()));
            statistics.push(chi_square(out[0].iter().map(|v| v >> 4)));
        }
    }
    statistics.into_iter().fold(0.0, f64::max)
}

#[test]
fn words_and_outputs_are_uniform() {
    let n = 8000;
    for alpha in [0, 5, 14, 27, 31] {
        // 6 standard deviations of the statistic above its mean.
        let worst = worst_statistic(alpha, [test_roots(21, n), test_roots(22, n)]);
        assert!(worst < 3.2, "statistic {worst} for alpha {alpha}");
    }
    // The statistic sees roots that repeat.
    let repeat = |seed| test_roots(seed, 100).into_iter().cycle().take(n).collect::<Vec<_>>();
    let repeated = worst_statistic(5, [repeat(21), repeat(22)]);
    assert!(repeated > 100.0, "repeated roots give {repeated}");
}
