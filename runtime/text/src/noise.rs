//! The client's Gumbel noise, which makes an argmax a sample.
//!
//! If G_i are independent standard Gumbel variables, argmax_i(l_i + T·G_i) has the distribution softmax(l / T) (Gumbel
//! 1954; Maddison, Tarlow, Minka, "A* Sampling", NeurIPS 2014, section 2). The client adds T·G to its own share of the
//! logits, so sampling costs nothing in the protocol, and nobody else learns the noise.
//!
//! Shapes      One number per entry of the vocabulary and step: T·G in fixed point.
//! Bounds      |G| <= [`GUMBEL_BOUND`] and T <= [`TEMPERATURE_BOUND`], so |T·G| <= 44: the claim on noisy logits is wider by
//!             this. G exceeds its bound with probability 2.8e-10 an entry (and is never below -3.7), so clipping changes a
//!             token of a vocabulary of 50,257 with probability below 1.5e-5.
//! Rounding    To the nearest 2^-scale; entries that are equal then are a tie, which the argmax breaks its way.
//! Randomness  52 bits of a keyed generator per entry, in a domain per step under a key for this purpose alone: a given
//!             seed repeats the noise, and concerns nothing but the noise. The arithmetic is the same on every machine,
//!             and has no branch and no table that depends on the numbers.

use ir::noise::{GUMBEL_BOUND, TEMPERATURE_BOUND};

use kernels::prg::{Domain, Seed};
use processes::generation;

/// Tells uses of the seed apart.
const KIND: u8 = 0;

/// Noise for the steps of one session. No `Debug`: it is secret.
pub struct Noise {
    temperature: f64,
    seed: Seed,
}

impl Noise {
    /// No noise: the greatest logit wins.
    pub fn greedy() -> Noise {
        Noise { temperature: 0.0, seed: Seed::new([0; 32]) }
    }

    /// For a temperature of 0 to [`TEMPERATURE_BOUND`]; from a seed that a person gave, else from the system.
    pub fn new(temperature: f64, seed: Option<u64>) -> Result<Noise, getrandom::Error> {
        assert!((0.0..=TEMPERATURE_BOUND).contains(&temperature), "temperature {temperature} was to be checked before");
        let seed = match seed {
            Some(number) => Seed::new(blake3::derive_key("ssvm 2026-11 Gumbel noise", &number.to_le_bytes())),
            None => Seed::random()?,
        };
        Ok(Noise { temperature, seed })
    }

    /// Whether all of it is zero.
    pub fn is_zero(&self) -> bool {
        self.temperature == 0.0
    }

    /// Noise of the token that comes `step`-th, from 0, in units of 2^-scale: one number per entry of the vocabulary.
    pub fn fill(&self, step: u32, scale: u8, out: &mut [i64]) {
        assert!(scale <= 40, "the greatest noise has 6 integer bits");
        if self.is_zero() {
            out.fill(0);
            return;
        }
        let mut words = zeroize::Zeroizing::new(vec![0; out.len()]);
        self.seed.stream(Domain { step, entry: 0, index: 0, kind: KIND }).fill(0, 64, &mut words);
        let ulps = self.temperature * (1u64 << scale) as f64;
        for (out, &word) in out.iter_mut().zip(words.iter()) {
            *out = (ulps * gumbel(word)).round_ties_even() as i64;
        }
    }
}

impl generation::Noise for Noise {
    fn fill(&self, step: u32, scale: u8, out: &mut [i64]) {
        self.fill(step, scale, out);
    }
}

/// A standard Gumbel variable, clipped, from uniform bits.
fn gumbel(word: u64) -> f64 {
    // An odd multiple of 2^-53 within (0, 1), exactly. Great values come from u near 1, where ln u is exact too.
    let u = ((word >> 12) as f64 + 0.5) * (-52f64).exp2();
    (-ln(-ln(u))).clamp(-GUMBEL_BOUND, GUMBEL_BOUND)
}

/// Natural logarithm of a positive normal number, to a few units of the last place.
///
/// With x = m·2^e, m in [sqrt(1/2), sqrt(2)) and s = (m - 1)/(m + 1): ln x = e·ln 2 + 2·(s + s³/3 + s⁵/5 + ...).
/// |s| < 0.1716, so the terms after s^23 add less than 2^-60.
fn ln(x: f64) -> f64 {
    // Subtracting the bits of sqrt(1/2) puts the carry into the exponent where the mantissa is sqrt(2) or more.
    const SQRT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    const FRACTION: u64 = (1 << 52) - 1;
    let bits = x.to_bits().wrapping_sub(SQRT_HALF);
    let exponent = (bits as i64 >> 52) as f64;
    let m = f64::from_bits((bits & FRACTION) + SQRT_HALF);
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let sum = (0..12).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    exponent * std::f64::consts::LN_2 + 2.0 * s * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: u8 = 12;

    #[test]
    fn logarithms_are_those_of_the_library() {
        let step = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for i in 0..100_000 {
            let x = ((step(i) >> 12) as f64 + 0.5) * (-52f64).exp2();
            for x in [x, 1.0 - x * 1e-9, x * 40.0, x * 1e-12] {
                let (own, wanted) = (ln(x), x.ln());
                assert!((own - wanted).abs() <= 1e-15 * wanted.abs(), "ln {x}: {own}, not {wanted}");
            }
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn the_tails_are_clipped_and_finite() {
        assert_eq!(gumbel(u64::MAX), GUMBEL_BOUND);
        let least = gumbel(0);
        assert!((-3.7..-3.5).contains(&least), "{least}");
        // The bound is reached where it should be: -ln(u) < exp(-22).
        let words = [23, 21].map(|g: i32| u64::MAX - ((f64::from(-g)).exp() * 2f64.powi(64)) as u64);
        assert_eq!(gumbel(words[0]), GUMBEL_BOUND);
        assert!((gumbel(words[1]) - 21.0).abs() < 1e-5);
    }

    #[test]
    fn noise_has_the_moments_of_a_gumbel_variable() {
        let mut out = vec![0; 200_000];
        Noise::new(1.0, Some(1)).unwrap().fill(0, SCALE, &mut out);
        let values: Vec<f64> = out.iter().map(|&g| g as f64 / f64::from(1 << SCALE)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / values.len() as f64;
        // Euler's constant and π²/6; four standard errors are 0.012 and 0.031.
        assert!((mean - 0.5772).abs() < 0.012, "mean {mean}");
        assert!((variance - 1.6449).abs() < 0.031, "variance {variance}");
    }

    #[test]
    fn noise_is_within_its_bound_and_scales_with_the_temperature() {
        let (mut one, mut two) = (vec![0; 1000], vec![0; 1000]);
        Noise::new(1.0, Some(3)).unwrap().fill(4, 20, &mut one);
        Noise::new(2.0, Some(3)).unwrap().fill(4, 20, &mut two);
        assert!(one.iter().zip(&two).all(|(one, two)| (2 * one - two).abs() <= 1));
        assert!(two.iter().all(|g| g.abs() <= 44 << 20));
        Noise::greedy().fill(4, 20, &mut two);
        assert!(two.iter().all(|g| *g == 0));
    }

    #[test]
    fn a_seed_repeats_and_steps_differ() {
        let noise = |seed, step| {
            let mut out = vec![0; 100];
            Noise::new(0.8, seed).unwrap().fill(step, SCALE, &mut out);
            out
        };
        assert_eq!(noise(Some(1), 0), noise(Some(1), 0));
        assert_ne!(noise(Some(1), 0), noise(Some(2), 0));
        assert_ne!(noise(Some(1), 0), noise(Some(1), 1));
        assert_ne!(noise(None, 0), noise(None, 0));
        // Made by this code; the same on every machine.
        assert_eq!(noise(Some(7), 0)[..4], KNOWN);
    }

    const KNOWN: [i64; 4] = [-731, 12517, -2101, 727];

    #[test]
    fn argmax_of_noisy_logits_is_a_sample() {
        // Logits of 12 tokens, the last of which is rare.
        let logits: Vec<f64> = (0..12).map(|i| 2.0 - 0.31 * f64::from(i) + 0.4 * f64::from(i % 3)).collect();
        for temperature in [0.5, 1.0, 2.0] {
            let noise = Noise::new(temperature, Some(2026)).unwrap();
            let mut counts = vec![0u32; logits.len()];
            let mut out = vec![0; logits.len()];
            const DRAWS: u32 = 10_000;
            for step in 0..DRAWS {
                noise.fill(step, SCALE, &mut out);
                let noisy = |i: usize| (logits[i] * f64::from(1 << SCALE)).round() as i64 + out[i];
                counts[(0..logits.len()).max_by_key(|&i| noisy(i)).unwrap()] += 1;
            }
            let weights: Vec<f64> = logits.iter().map(|l| (l / temperature).exp()).collect();
            let total: f64 = weights.iter().sum();
            let chi: f64 = counts
                .iter()
                .zip(&weights)
                .map(|(&count, weight)| {
                    let expected = f64::from(DRAWS) * weight / total;
                    assert!(expected > 5.0, "a cell too rare for the test");
                    (f64::from(count) - expected).powi(2) / expected
                })
                .sum();
            // 11 degrees of freedom: 24.7 is exceeded with probability 0.01.
            assert!(chi < 24.7, "chi-square {chi} at temperature {temperature}");
        }
    }
}
