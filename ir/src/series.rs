//! Public arithmetic of `series`, in integers only, so that both parties and the dealer get the same numbers.
//!
//! An opening of n bits is a point on a circle of 2^n steps: x and the mask r turn by 2π/2^n per step, and e = x + r mod
//! 2^n is public. With w = 2π/2^n and f(x) = c0 + Σ_k a_k·cos(kwx) + b_k·sin(kwx), the angle sum formulas give
//!
//! ```text
//! f(x) = c0 + Σ_k p_k·cos(kwr) + q_k·sin(kwr)
//! p_k = a_k·cos(kwe) + b_k·sin(kwe)        q_k = a_k·sin(kwe) - b_k·cos(kwe)
//! ```
//!
//! where p_k, q_k are public (`public_scale` fractional bits) and the dealer shares cos(kwr), sin(kwr) (`dealt_scale`).
//! Cosines have [`SERIES_FRACTION`] fractional bits and an error below 1 ulp; p_k and q_k round to nearest, halves up.

use crate::infer::{MAX_SERIES_WIDTH, MIN_SERIES_WIDTH};
use crate::types::{SERIES_FRACTION, Table};

/// Fractional bits of the arithmetic that makes the table of cosines.
const FRACTION: u32 = 60;

/// floor(2π·2^60).
const TAU: i128 = 0x6487_ED51_10B4_611A;

/// round(cos(2πi/2^bits)·2^24) for i in 0 .. 2^bits.
pub struct Cosine {
    bits: u8,
    table: Vec<i32>,
}

impl Cosine {
    /// The table for openings of `bits` bits; 4 bytes for each of 2^bits steps.
    ///
    /// Panics unless [`MIN_SERIES_WIDTH`] <= `bits` <= [`MAX_SERIES_WIDTH`], as the verifier ensures.
    pub fn new(bits: u8) -> Cosine {
        assert!((MIN_SERIES_WIDTH..=MAX_SERIES_WIDTH).contains(&bits), "no table of 2^{bits} cosines");
        let steps = 1usize << bits;
        // An eighth of the circle: coarse steps times fine steps, each from its Taylor series.
        let fine_bits = u32::from(bits) / 2;
        let coarse = steps >> 3 >> fine_bits;
        let turn = |i: usize| cos_sin((TAU * i as i128) >> bits);
        let fine: Vec<(i128, i128)> = (0..1 << fine_bits).map(turn).collect();
        let mut table = vec![0i32; steps];
        for h in 0..=coarse {
            let (ch, sh) = turn(h << fine_bits);
            for (j, &(cl, sl)) in fine.iter().enumerate() {
                let i = (h << fine_bits) + j;
                if i > steps / 8 {
                    break;
                }
                table[i] = rounded(product(ch, cl) - product(sh, sl));
                table[steps / 4 - i] = rounded(product(sh, cl) + product(ch, sl));
            }
        }
        for i in 1..=steps / 4 {
            table[steps / 4 + i] = -table[steps / 4 - i];
        }
        for i in 1..steps / 2 {
            table[steps / 2 + i] = table[steps / 2 - i];
        }
        Cosine { bits, table }
    }

    /// Bits of the openings that it is for.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// cos and sin of `i` steps, mod 2^bits.
    pub fn turn(&self, i: u64) -> (i64, i64) {
        let mask = self.table.len() - 1;
        let i = i as usize;
        // sin(t) = cos(t - π/2).
        (i64::from(self.table[i & mask]), i64::from(self.table[i.wrapping_sub(self.table.len() / 4) & mask]))
    }
}

/// A series and the circle that it lives on.
pub struct Series<'a> {
    cosine: &'a Cosine,
    cos: &'a [i64],
    sin: &'a [i64],
    public_shift: u32,
    dealt_shift: u32,
}

impl<'a> Series<'a> {
    /// For a verified [`Table::Series`] that reads openings of `cosine.bits()` bits; panics for another table.
    pub fn new(table: &'a Table, cosine: &'a Cosine) -> Series<'a> {
        let Table::Series { public_scale, dealt_scale, cos, sin, .. } = table else { panic!("not a series") };
        Series {
            cosine,
            cos,
            sin,
            public_shift: 2 * u32::from(SERIES_FRACTION) - u32::from(*public_scale),
            dealt_shift: u32::from(SERIES_FRACTION) - u32::from(*dealt_scale),
        }
    }

    /// Number of cosines, and of sines, that are dealt per element: K.
    pub fn terms(&self) -> usize {
        self.cos.len()
    }

    /// The public factors of an element: p_k in `cos[k - 1]`, q_k in `sin[k - 1]`, for k = 1 ..= K. `e` counts mod 2^n.
    pub fn coefficients(&self, e: u64, cos: &mut [i64], sin: &mut [i64]) {
        let half = 1i64 << (self.public_shift - 1);
        let round = |v: i64| (v + half) >> self.public_shift;
        let mut angle = 0u64;
        let out = cos.iter_mut().zip(sin.iter_mut());
        if self.sin.is_empty() {
            for (&a, (p, q)) in self.cos.iter().zip(out) {
                angle = angle.wrapping_add(e);
                let (c, s) = self.cosine.turn(angle);
                (*p, *q) = (round(a * c), round(a * s));
            }
        } else {
            for ((&a, &b), (p, q)) in self.cos.iter().zip(self.sin).zip(out) {
                angle = angle.wrapping_add(e);
                let (c, s) = self.cosine.turn(angle);
                (*p, *q) = (round(a * c + b * s), round(a * s - b * c));
            }
        }
    }

    /// What the dealer shares for an element: cos(kwr) in `cos[k - 1]`, sin(kwr) in `sin[k - 1]`, for k = 1 ..= K.
    pub fn dealt(&self, r: u64, cos: &mut [i64], sin: &mut [i64]) {
        let half = (1i64 << self.dealt_shift) >> 1;
        let round = |v: i64| (v + half) >> self.dealt_shift;
        let mut angle = 0u64;
        for (c, s) in cos.iter_mut().zip(sin).take(self.terms()) {
            angle = angle.wrapping_add(r);
            let (cosine, sine) = self.cosine.turn(angle);
            (*c, *s) = (round(cosine), round(sine));
        }
    }
}

/// cos(x) and sin(x) for 0 <= x < 1, at [`FRACTION`] fractional bits, by their Taylor series.
fn cos_sin(x: i128) -> (i128, i128) {
    let square = product(x, x);
    let sum = |first: i128, from: i128| {
        let (mut term, mut total, mut k) = (first, first, from);
        while term != 0 {
            term = -(product(term, square) / (k * (k + 1)));
            total += term;
            k += 2;
        }
        total
    };
    (sum(1 << FRACTION, 1), sum(x, 2))
}

fn product(x: i128, y: i128) -> i128 {
    (x * y) >> FRACTION
}

fn rounded(x: i128) -> i32 {
    let shift = FRACTION - u32::from(SERIES_FRACTION);
    ((x + (1 << (shift - 1))) >> shift) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_are_within_an_ulp() {
        for bits in [2, 3, 4, 7, 12, 17] {
            let cosine = Cosine::new(bits);
            for i in 0..1u64 << bits {
                let angle = i as f64 * std::f64::consts::TAU / 2f64.powi(bits.into());
                let (c, s) = cosine.turn(i);
                assert!((c as f64 - angle.cos() * 2f64.powi(24)).abs() <= 0.5 + 1e-6, "cos {i} of 2^{bits}");
                assert!((s as f64 - angle.sin() * 2f64.powi(24)).abs() <= 0.5 + 1e-6, "sin {i} of 2^{bits}");
            }
        }
    }

    #[test]
    fn masked_series_is_the_function() {
        // Period 2^4 at scale 8: 12 bits.
        let unit = f64::from(1 << SERIES_FRACTION);
        let (a, b) = ([1.5, -0.25, 0.125], [0.75, 0.5, -2.0]);
        let fixed = |v: &[f64]| v.iter().map(|x| (x * unit) as i64).collect::<Vec<_>>();
        let cosine = Cosine::new(12);
        for sin in [fixed(&b), vec![]] {
            let odd = f64::from(u8::from(!sin.is_empty()));
            let table = Table::Series { period_log2: 4, public_scale: 14, dealt_scale: 15, c0: 0, cos: fixed(&a), sin };
            let series = Series::new(&table, &cosine);
            let mut worst = 0f64;
            for (x, r) in [(0u64, 0u64), (1, 4095), (2048, 17), (3000, 2999), (77, 1234)] {
                let (mut p, mut q, mut c, mut s) = ([0; 3], [0; 3], [0; 3], [0; 3]);
                series.coefficients((x + r) % 4096, &mut p, &mut q);
                series.dealt(r, &mut c, &mut s);
                let got: i64 = (0..3).map(|k| p[k] * c[k] + q[k] * s[k]).sum();
                let want: f64 = (0..3)
                    .map(|k| {
                        let t = (k + 1) as f64 * x as f64 * std::f64::consts::TAU / 4096.0;
                        a[k] * t.cos() + odd * b[k] * t.sin()
                    })
                    .sum();
                worst = worst.max((got as f64 / 2f64.powi(29) - want).abs());
            }
            assert!(worst < 4e-4, "error {worst}");
        }
    }
}
