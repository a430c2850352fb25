//! Monotone positive functions over many octaves, piecewise linear on geometric knots.
//!
//! Identity  f(x) ≈ a_i + b_i·x on the integers `knots[i-1] <= x < knots[i]`, x at its scale s (real x = integer / 2^s);
//!           a_i at the table's scale, b_i at that scale less s, so a_i + b_i·x is one integer expression.
//! Ends      Flat: f(lo) below lo, f(hi) from hi on, also for negative x. Or open: the first and last line go on.
//! Errors    Relative. A chord of a convex function lies above it by up to δ; each line is scaled by 1/(1 + δ/2), which
//!           halves that and is the least greatest error that a line can have. With k knots an octave: 0.024/k² for
//!           1/sqrt(x), 0.06/k² for 1/x, plus rounding, which [`SplineFit::error`] contains. b_i is rounded first and a_i
//!           makes up for it in the middle of the interval. [`least_scale`] is where rounding stops to matter.

use ir::{Scale, Table};

use super::spread;

/// A spline table and what it is worth.
#[derive(Clone, Debug)]
pub struct SplineFit {
    /// The table.
    pub table: Table,
    /// Worst relative error over the integers in [lo, hi].
    pub error: f64,
}

/// Why a function has no spline table at the scales asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TableError {
    /// The interval is empty or not positive, or f is not positive and finite on it.
    #[error("a spline needs a positive interval and a positive function on it, not [{lo}, {hi}] -> [{f_lo}, {f_hi}]")]
    Domain {
        /// Lower end.
        lo: f64,
        /// Upper end.
        hi: f64,
        /// f(lo).
        f_lo: f64,
        /// f(hi).
        f_hi: f64,
    },
    /// The interval has no two different integers at the argument's scale.
    #[error("[{lo}, {hi}] is below one unit at scale {x_scale}; try a greater scale for the argument")]
    Coarse {
        /// Lower end.
        lo: f64,
        /// Upper end.
        hi: f64,
        /// Scale of the argument.
        x_scale: Scale,
    },
    /// A coefficient or product does not fit.
    #[error("a coefficient of about 2^{bits} at scale {out_scale} does not fit 62 bits; try scale {}", out_scale - (bits - 61))]
    Overflow {
        /// Its bits.
        bits: Scale,
        /// Scale of the result.
        out_scale: Scale,
    },
}

/// Greatest magnitude of a, b·x and their sum, as a power of two.
const MAX_BITS: Scale = 62;

/// Samples of an interval, where it has more integers than that.
const SAMPLES: i64 = 64;

/// A table for a monotone positive f on the real interval [lo, hi], 0 < lo, with knots at lo·2^(i/knots_per_octave),
/// rounded to integers at `x_scale` and merged where they coincide.
pub fn spline_table(
    f: &dyn Fn(f64) -> f64,
    lo: f64,
    hi: f64,
    knots_per_octave: u32,
    x_scale: Scale,
    out_scale: Scale,
    flat_ends: bool,
) -> Result<SplineFit, TableError> {
    assert!(knots_per_octave > 0, "a spline has knots");
    let positive = |v: f64| v.is_finite() && v > 0.0;
    let (f_lo, f_hi) = (f(lo), f(hi));
    if ![lo, hi, f_lo, f_hi].into_iter().all(positive) || lo >= hi {
        return Err(TableError::Domain { lo, hi, f_lo, f_hi });
    }
    let x_unit = f64::from(x_scale).exp2();
    let knots = integer_knots(lo, hi, knots_per_octave, x_unit);
    if knots.len() < 2 || *knots.last().expect("not empty") as f64 >= f64::from(MAX_BITS).exp2() {
        return Err(TableError::Coarse { lo, hi, x_scale });
    }

    let at = |x: i64| f(x as f64 / x_unit);
    let unit = f64::from(out_scale).exp2();
    let fit_integer = |v: f64| {
        let rounded = v.round();
        let bits = rounded.abs().log2().ceil() as Scale;
        if rounded.abs() < f64::from(MAX_BITS).exp2() {
            Ok(rounded as i64)
        } else {
            Err(TableError::Overflow { bits, out_scale })
        }
    };
    let (mut a, mut b, mut error) = (Vec::new(), Vec::new(), 0.0f64);
    for ends in knots.windows(2) {
        let (from, last) = (ends[0], ends[1] - 1); // Only integers count.
        let line = halved_chord(&at, from, last);
        let slope = fit_integer(line.slope * unit)?;
        // The product must fit over the whole interval, wherever in it the argument is.
        fit_integer(slope as f64 * ends[1] as f64)?;
        let offset = fit_integer(line.middle_value * unit - slope as f64 * line.middle)?;
        for x in spread(from, last, SAMPLES) {
            // Both parts were found to be below 2^62.
            let got = (offset + slope * x) as f64 / unit;
            error = error.max((got / at(x) - 1.0).abs());
        }
        a.push(offset);
        b.push(slope);
    }
    let (mut first, mut last) = (1, knots.len() - 1);
    if flat_ends {
        let (low, high) = (fit_integer(f_lo * unit)?, fit_integer(f_hi * unit)?);
        for (value, x) in [(low, knots[0]), (high, knots[knots.len() - 1])] {
            error = error.max((value as f64 / unit / at(x) - 1.0).abs());
        }
        a.insert(0, low);
        b.insert(0, 0);
        a.push(high);
        b.push(0);
        (first, last) = (0, knots.len());
    }
    Ok(SplineFit { table: Table::Spline { scale: out_scale, knots: knots[first..last].to_vec(), a, b }, error })
}

/// The least scale of a table whose rounding moves a result at `result_scale` by at most a quarter of its unit: a wider
/// table costs a wider key and gives nothing. The slope's rounding counts most, in the widest interval, the last.
pub fn least_scale(hi: f64, knots_per_octave: u32, x_scale: Scale, result_scale: Scale) -> Scale {
    let widest = hi * f64::from(x_scale).exp2() * (1.0 - (-1.0 / f64::from(knots_per_octave)).exp2());
    // Half a unit of b over half the interval, and half a unit of a.
    result_scale + 2 + (widest / 4.0 + 0.5).log2().ceil().max(0.0) as Scale
}

/// Ascending knots from lo to hi inclusive, at least 1.
fn integer_knots(lo: f64, hi: f64, per_octave: u32, x_unit: f64) -> Vec<i64> {
    let steps = ((hi / lo).log2() * f64::from(per_octave) - 1e-9).ceil() as u32;
    let mut knots: Vec<i64> = (0..=steps)
        .map(|i| if i == steps { hi } else { lo * (f64::from(i) / f64::from(per_octave)).exp2() })
        .map(|x| (x * x_unit).round().max(1.0) as i64)
        .collect();
    knots.dedup();
    knots
}

/// A line by its slope per integer and its value at a point.
struct Line {
    slope: f64,
    middle: f64,
    middle_value: f64,
}

/// The chord of f on the integers from ..= last, scaled to halve its greatest relative error. Exact for one or two.
fn halved_chord(f: &dyn Fn(i64) -> f64, from: i64, last: i64) -> Line {
    let start = f(from);
    let slope = if from == last { 0.0 } else { (f(last) - start) / (last - from) as f64 };
    let value = |x: f64| start + slope * (x - from as f64);
    let (least, greatest) = spread(from, last, SAMPLES)
        .map(|x| value(x as f64) / f(x) - 1.0)
        .fold((0.0f64, 0.0f64), |(least, greatest), e| (least.min(e), greatest.max(e)));
    let factor = 1.0 / (1.0 + (least + greatest) / 2.0);
    let middle = (from as f64 + last as f64) / 2.0;
    Line { slope: slope * factor, middle, middle_value: value(middle) * factor }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(fit: &SplineFit) -> (&[i64], &[i64], &[i64]) {
        match &fit.table {
            Table::Spline { knots, a, b, .. } => (knots, a, b),
            other => panic!("not a spline: {other:?}"),
        }
    }

    /// What the protocol's shares sum to.
    fn evaluate(fit: &SplineFit, x: i64) -> i64 {
        let (knots, a, b) = parts(fit);
        let i = knots.partition_point(|&k| k <= x);
        a[i] + b[i] * x
    }

    /// Worst relative error over integers, and their images, by evaluation at each.
    fn scan(fit: &SplineFit, f: &dyn Fn(f64) -> f64, xs: impl Iterator<Item = i64>, scales: (i32, i32)) -> f64 {
        let (x_unit, unit) = (2f64.powi(scales.0), 2f64.powi(scales.1));
        xs.map(|x| (evaluate(fit, x) as f64 / unit / f(x as f64 / x_unit) - 1.0).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn reciprocal_root_of_the_reference() {
        // 1/sqrt on [2^-3, 2^17], 12 knots an octave, x at 12 bits: the chord alone errs by 3.4e-4.
        let f = |x: f64| x.powf(-0.5);
        let fit = spline_table(&f, 0.125, 131072.0, 12, 12, 58, true).unwrap();
        let (knots, a, b) = parts(&fit);
        assert_eq!((knots.len(), a.len(), b.len()), (241, 242, 242));
        let (lo, hi) = (knots[0], knots[240]);
        let worst = scan(&fit, &f, (lo..lo + 100_000).chain((lo..=hi).step_by(997)), (12, 58));
        assert!((1.5e-4..1.9e-4).contains(&fit.error), "{:e}", fit.error);
        assert!(worst <= fit.error * 1.001, "{worst:e} > {:e}", fit.error);
        for x in [i64::MIN / 4, -1, 0, 1, lo - 1] {
            assert_eq!(evaluate(&fit, x), a[0]);
        }
        for x in [hi, hi + 1, i64::MAX / 4] {
            assert_eq!(evaluate(&fit, x), *a.last().unwrap());
        }
        assert_eq!(a[0], (f(0.125) * 2f64.powi(58)).round() as i64);
        // Never above the flat end: 1/sigma has a bound that needs no claim.
        assert!((lo..hi).step_by(499).all(|x| evaluate(&fit, x) <= a[0]));
    }

    #[test]
    fn reciprocal_at_coarse_scales() {
        // 1/x from 4 units on: the first knots coincide, and slopes have few bits at the upper end.
        let f = |x: f64| 1.0 / x;
        let fit = spline_table(&f, 2f64.powi(-10), 1024.0, 12, 12, 40, true).unwrap();
        let (knots, ..) = parts(&fit);
        assert!(knots.windows(2).all(|k| k[0] < k[1]) && knots[0] == 4 && knots.len() < 240);
        let worst = scan(&fit, &f, 4..=1024 << 12, (12, 40));
        assert!(worst <= fit.error * 1.001 && fit.error < 4.6e-4, "{worst:e}, {:e}", fit.error);
        for x in 4..32 {
            assert!(
                (evaluate(&fit, x) as f64 / 2f64.powi(40 + 12) * x as f64 - 1.0).abs() < 1e-6,
                "exact at single integers"
            );
        }
    }

    #[test]
    fn rounding_is_a_quarter_of_a_unit_at_the_least_scale() {
        let f = |x: f64| 1.0 / x;
        for (knots_per_octave, x_scale, result_scale) in [(6, 12, 20), (12, 8, 16), (3, 0, 10)] {
            let scale = least_scale(1024.0, knots_per_octave, x_scale, result_scale);
            let table = |scale| spline_table(&f, 1.0, 1024.0, knots_per_octave, x_scale, scale, true).unwrap();
            let (coarse, fine) = (table(scale), table(44));
            assert!(scale < 44);
            let quarter = 0.25 / f64::from(result_scale).exp2();
            for x in (1 << x_scale..=1024 << x_scale).step_by(17) {
                let value = |fit, scale: Scale| evaluate(fit, x) as f64 / f64::from(scale).exp2();
                assert!((value(&coarse, scale) - value(&fine, 44)).abs() <= 1.01 * quarter);
            }
        }
    }

    #[test]
    fn open_ends_go_on() {
        let fit = spline_table(&|x| x.sqrt(), 1.0, 16.0, 4, 8, 30, false).unwrap();
        let (knots, a, b) = parts(&fit);
        assert_eq!((knots.len(), a.len()), (15, 16));
        assert!(b.iter().all(|&b| b > 0) && fit.error < 2e-3);
    }

    #[test]
    fn coefficients_fit_62_bits() {
        let f = |x: f64| x.powf(-0.5);
        let fit = spline_table(&f, 2f64.powi(-8), 2f64.powi(20), 12, 12, 56, true).unwrap();
        let (knots, a, b) = parts(&fit);
        let bound = 1i128 << 62;
        for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
            let x = knots.get(i).or(knots.last()).copied().unwrap();
            assert!(i128::from(a).abs() < bound && (i128::from(b) * i128::from(x)).abs() < bound);
        }
        let error = spline_table(&f, 2f64.powi(-8), 2f64.powi(20), 12, 12, 60, true).unwrap_err();
        let TableError::Overflow { bits, .. } = error else { panic!("{error}") };
        let lower = 60 - (bits - 61);
        assert!(error.to_string().ends_with(&format!("try scale {lower}")), "{error}");
        assert!(spline_table(&f, 2f64.powi(-8), 2f64.powi(20), 12, 12, lower, true).is_ok());
    }

    #[test]
    fn bad_intervals_are_errors() {
        let f = |x: f64| 1.0 / x;
        for (lo, hi) in [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            assert!(matches!(spline_table(&f, lo, hi, 12, 12, 30, true), Err(TableError::Domain { .. })), "{lo} {hi}");
        }
        assert!(matches!(spline_table(&f, 1.0, 1.1, 12, 2, 30, true), Err(TableError::Coarse { .. })));
    }
}
