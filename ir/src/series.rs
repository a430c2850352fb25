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
//! Cosines have [`TURN_FRACTION`] fractional bits ([`Turn`]); p_k and q_k round to nearest, halves up. Everything that is
//! done for an element has neither branches nor tables, so it runs in vector registers.

use crate::types::{SERIES_FRACTION, Table, Width};

/// Fractional bits of the public cosines and sines.
pub const TURN_FRACTION: u8 = 30;

/// An angle by its cosine and sine, at [`TURN_FRACTION`] fractional bits. For k·w·e, reached from w·e by k - 1 additions,
/// both are off by less than k·2^-27: w·e is off by less than 2^-28, and every addition adds that and its own rounding.
#[derive(Clone, Copy)]
pub struct Turn {
    /// Cosine.
    pub cos: i64,
    /// Sine.
    pub sin: i64,
}

/// cos(π/4·√z) = Σ c_i·z^i on [0, 1] with 60 fractional bits, by interpolation at Chebyshev's nodes; error 2^-34.
const COS: [i64; 5] = [1152921504552071003, -355589970885266485, 18278792496904632, -375781604913248, 4069579023032];

/// sin(π/4·√z)/√z in the same way; error 2^-38.
const SIN: [i64; 5] = [905502432255722315, -93093237206445657, 2871227886938740, -42165097938829, 356248924872];

impl Turn {
    /// `steps` of 2^`bits` that make a whole turn; more than a turn wraps. 1 <= `bits` <= 32.
    #[inline(always)]
    pub fn of(steps: u64, bits: Width) -> Turn {
        let angle = (steps as u32) << (32 - bits);
        // The nearest quarter, and what is left: at most an eighth of a turn, as a fraction of which it is y.
        let quarter = angle.wrapping_add(1 << 29) >> 30;
        let y = i64::from((angle << 2) as i32 >> 1);
        let z = rounded(product(y, y));
        let cos = COS[..4].iter().rev().fold(rounded(COS[4]), |sum, c| rounded(c + product(sum, z)));
        let ratio = SIN[..4].iter().rev().fold(rounded(SIN[4]), |sum, c| rounded(c + product(sum, z)));
        let sin = rounded(product(ratio, y));
        let (cos, sin) = if quarter & 1 == 0 { (cos, sin) } else { (sin, cos) };
        Turn { cos: if (quarter + 1) & 2 == 0 { cos } else { -cos }, sin: if quarter & 2 == 0 { sin } else { -sin } }
    }

    /// The sum of two angles.
    #[inline(always)]
    pub fn plus(self, other: Turn) -> Turn {
        let cos = product(self.cos, other.cos) - product(self.sin, other.sin);
        let sin = product(self.sin, other.cos) + product(self.cos, other.sin);
        Turn { cos: cos >> TURN_FRACTION, sin: sin >> TURN_FRACTION }
    }
}

/// x·y of numbers that fit 32 bits, which vector registers multiply faster than what might not.
#[inline(always)]
fn product(x: i64, y: i64) -> i64 {
    i64::from(x as i32) * i64::from(y as i32)
}

/// From 60 fractional bits to [`TURN_FRACTION`].
#[inline(always)]
fn rounded(x: i64) -> i64 {
    (x + (1 << (TURN_FRACTION - 1))) >> TURN_FRACTION
}

/// A series and the circle that it lives on.
#[derive(Clone, Copy)]
pub struct Series<'a> {
    bits: Width,
    cos: &'a [i64],
    sin: &'a [i64],
    public_shift: u32,
    dealt_shift: u32,
}

impl<'a> Series<'a> {
    /// For a verified [`Table::Series`] whose period has `bits` bits at the scale of its opening; panics for another table.
    pub fn new(table: &'a Table, bits: Width) -> Series<'a> {
        let Table::Series { public_scale, dealt_scale, cos, sin, .. } = table else { panic!("not a series") };
        Series {
            bits,
            cos,
            sin,
            public_shift: u32::from(TURN_FRACTION) + u32::from(SERIES_FRACTION) - u32::from(*public_scale),
            dealt_shift: u32::from(TURN_FRACTION) - u32::from(*dealt_scale),
        }
    }

    /// Number of cosines, and of sines, that are dealt per element: K.
    #[inline(always)]
    pub fn terms(&self) -> usize {
        self.cos.len()
    }

    /// True if there are no sines.
    #[inline(always)]
    pub fn is_even(&self) -> bool {
        self.sin.is_empty()
    }

    /// w·e. `e` counts mod 2^n.
    #[inline(always)]
    pub fn turn(&self, e: u64) -> Turn {
        Turn::of(e, self.bits)
    }

    /// The public factors p_k and q_k, k from 1, of an element that turns by k·w·e. `EVEN` says what
    /// [`Series::is_even`] does, outside the caller's loop.
    #[inline(always)]
    pub fn factors<const EVEN: bool>(&self, k: usize, turn: Turn) -> (i64, i64) {
        let half = 1i64 << (self.public_shift - 1);
        let round = |v: i64| (v + half) >> self.public_shift;
        let (a, Turn { cos: c, sin: s }) = (self.cos[k - 1], turn);
        if EVEN {
            return (round(a * c), round(a * s));
        }
        let b = self.sin[k - 1];
        (round(a * c + b * s), round(a * s - b * c))
    }

    /// The public factors of an element: p_k in `cos[k - 1]`, q_k in `sin[k - 1]`, for k = 1 ..= K.
    pub fn coefficients(&self, e: u64, cos: &mut [i64], sin: &mut [i64]) {
        self.each_turn(e, |k, turn| {
            let factors = if self.is_even() { Self::factors::<true> } else { Self::factors::<false> };
            (cos[k - 1], sin[k - 1]) = factors(self, k, turn);
        });
    }

    /// What the dealer shares for an element: cos(kwr) in `cos[k - 1]`, sin(kwr) in `sin[k - 1]`, for k = 1 ..= K.
    pub fn dealt(&self, r: u64, cos: &mut [i64], sin: &mut [i64]) {
        let half = 1i64 << (self.dealt_shift - 1);
        let round = |v: i64| (v + half) >> self.dealt_shift;
        self.each_turn(r, |k, turn| (cos[k - 1], sin[k - 1]) = (round(turn.cos), round(turn.sin)));
    }

    /// Calls `f` with k and k·w·e for k = 1 ..= K.
    fn each_turn(&self, e: u64, mut f: impl FnMut(usize, Turn)) {
        let first = self.turn(e);
        let mut turn = first;
        for k in 1..=self.terms() {
            f(k, turn);
            turn = turn.plus(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors of all turns of 2^bits, in units of 2^-27 and per addition.
    fn worst(bits: Width, steps: impl Iterator<Item = u64>, terms: u64) -> f64 {
        let mut worst = 0f64;
        for e in steps {
            let first = Turn::of(e, bits);
            let mut turn = first;
            for k in 1..=terms {
                // The product is exact, and so is its place on the circle.
                let step = (e * k) & ((1 << bits) - 1);
                let angle = step as f64 * std::f64::consts::TAU / 2f64.powi(bits.into());
                let unit = 2f64.powi(TURN_FRACTION.into());
                let error =
                    (turn.cos as f64 - angle.cos() * unit).abs().max((turn.sin as f64 - angle.sin() * unit).abs());
                worst = worst.max(error / 8.0 / k as f64);
                turn = turn.plus(first);
            }
        }
        worst
    }

    #[test]
    fn cosines_are_within_their_bound() {
        for bits in [2, 3, 4, 7, 12, 17] {
            assert!(worst(bits, 0..1 << bits, 20) < 1.0, "2^{bits} steps");
        }
        let spread = |count: u64| (0..count).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32);
        assert!(worst(32, spread(200_000), 1) < 0.5);
        assert!(worst(32, spread(200), 4096) < 1.0);
    }

    #[test]
    fn quarters_are_exact() {
        for bits in [2, 24, 32] {
            let turns = [0, 1, 2, 3, 4].map(|i| Turn::of(i << (bits - 2), bits)).map(|t| (t.cos, t.sin));
            let one = 1 << TURN_FRACTION;
            assert_eq!(turns, [(one, 0), (0, one), (-one, 0), (0, -one), (one, 0)]);
        }
    }

    #[test]
    fn masked_series_is_the_function() {
        // Period 2^4 at scale 8: 12 bits.
        let unit = f64::from(1 << SERIES_FRACTION);
        let (a, b) = ([1.5, -0.25, 0.125], [0.75, 0.5, -2.0]);
        let fixed = |v: &[f64]| v.iter().map(|x| (x * unit) as i64).collect::<Vec<_>>();
        for sin in [fixed(&b), vec![]] {
            let odd = f64::from(u8::from(!sin.is_empty()));
            let table = Table::Series { period_log2: 4, public_scale: 14, dealt_scale: 15, c0: 0, cos: fixed(&a), sin };
            let series = Series::new(&table, 12);
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
