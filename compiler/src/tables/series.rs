//! Smooth functions on an interval as trigonometric series.
//!
//! Identity  f(x) ≈ c0 + Σ_{k=1..K} cos_k·cos(kωx) + sin_k·sin(kωx) on [lo, hi], ω = 2π/P, period P > hi - lo. The series
//!           is free between hi and lo + P, which is why it converges geometrically although f is not periodic (a
//!           *Fourier extension*: Huybrechs, SIAM J. Numer. Anal. 47(6), 2010, §2-3).
//! Fit       Least squares on a grid, reweighted by its own error towards the minimax fit (Lawson's iteration; Rice and
//!           Usow, Math. Comp. 22, 1968). Coefficients are penalised by the rounding of the dealt cosines that they
//!           multiply, which also makes the normal equations positive definite by a wide margin.
//! Errors    [`Fit::error`] is that of the real series; [`series_error`] that of what two parties compute: coefficients
//!           at [`SERIES_FRACTION`] bits, products with the public cosine rounded to `public_scale`, dealt cosines to
//!           `dealt_scale`.

use std::f64::consts::TAU;

use ir::infer::{MAX_SERIES_WIDTH, MIN_SERIES_WIDTH};
use ir::series::Series;
use ir::{SERIES_FRACTION, Scale, Table, Width};

use super::spread;

/// Grid points on [lo, hi]; an even function takes the upper half of them.
const POINTS: usize = 3001;

/// Reweighted solutions.
const ITERATIONS: usize = 40;

/// A real series.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Constant term.
    pub c0: f64,
    /// Coefficients of cos(kωx), k from 1.
    pub cos: Vec<f64>,
    /// Coefficients of sin(kωx), k from 1; none for an even function.
    pub sin: Vec<f64>,
    /// Greatest absolute error on the grid.
    pub error: f64,
}

/// Fits f on [lo, hi] with `terms` frequencies. An `even` f is fitted on [0, max(-lo, hi)], with cosines alone.
/// `dealt_scale` is the number of fractional bits that the dealt cosines will have. Deterministic.
pub fn fit_series(
    f: &dyn Fn(f64) -> f64,
    lo: f64,
    hi: f64,
    period_log2: i8,
    terms: usize,
    even: bool,
    dealt_scale: u8,
) -> Fit {
    let period = f64::from(period_log2).exp2();
    assert!(terms > 0 && lo < hi && hi - lo < period, "a series needs terms and an interval inside its period");
    let (lo, hi, points) = if even { (0.0, hi.max(-lo), POINTS / 2 + 1) } else { (lo, hi, POINTS) };
    let xs: Vec<f64> = (0..points).map(|i| lo + (hi - lo) * i as f64 / (points - 1) as f64).collect();
    let ys: Vec<f64> = xs.iter().map(|&x| f(x)).collect();

    // Products of two waves are sums of two waves, so waves up to 2K give the whole normal matrix by 2K sums.
    let wave = |g: fn(f64) -> f64, m: usize| xs.iter().map(|x| g(TAU * m as f64 * x / period)).collect::<Vec<f64>>();
    let cosines: Vec<Vec<f64>> = (0..=2 * terms).map(|m| wave(f64::cos, m)).collect();
    let sines: Vec<Vec<f64>> = if even { Vec::new() } else { (0..=2 * terms).map(|m| wave(f64::sin, m)).collect() };
    let columns: Vec<&[f64]> =
        cosines[..=terms].iter().chain(sines.iter().take(terms + 1).skip(1)).map(Vec::as_slice).collect();

    // Rounding of a cosine at scale s has variance 4^-s / 12, which a coefficient multiplies.
    let penalty = points as f64 * 0.25f64.powi(i32::from(dealt_scale)) / 12.0;
    let mut weights = vec![1.0; points];
    let mut best = (f64::INFINITY, Vec::new());
    for _ in 0..ITERATIONS {
        let mut matrix = normal_matrix(&cosines, &sines, &weights, terms);
        let size = columns.len();
        for i in 0..size {
            matrix[i * size + i] += penalty;
        }
        let weighted: Vec<f64> = weights.iter().zip(&ys).map(|(w, y)| w * y).collect();
        let mut solution: Vec<f64> = columns.iter().map(|column| dot(column, &weighted)).collect();
        solve_positive(&mut matrix, &mut solution);

        let mut errors: Vec<f64> = ys.iter().map(|y| -y).collect();
        for (c, column) in solution.iter().zip(&columns) {
            errors.iter_mut().zip(*column).for_each(|(e, v)| *e += c * v);
        }
        errors.iter_mut().for_each(|e| *e = e.abs());
        let worst = errors.iter().copied().fold(0.0, f64::max);
        if worst < best.0 {
            best = (worst, solution);
        }
        weights.iter_mut().zip(&errors).for_each(|(w, e)| *w *= e + 1e-12);
        let mean = weights.iter().sum::<f64>() / points as f64;
        weights.iter_mut().for_each(|w| *w /= mean);
    }
    let (error, solution) = best;
    assert!(error.is_finite(), "a series is fitted to a finite function");
    Fit { c0: solution[0], cos: solution[1..=terms].to_vec(), sin: solution[terms + 1..].to_vec(), error }
}

/// Weighted inner products of all pairs of columns (1, cosines, sines), row-major.
fn normal_matrix(cosines: &[Vec<f64>], sines: &[Vec<f64>], weights: &[f64], terms: usize) -> Vec<f64> {
    let c: Vec<f64> = cosines.iter().map(|wave| dot(wave, weights)).collect();
    let s: Vec<f64> = sines.iter().map(|wave| dot(wave, weights)).collect();
    let even = s.is_empty();
    let size = if even { terms + 1 } else { 2 * terms + 1 };
    let mut matrix = vec![0.0; size * size];
    let mut set = |row: usize, column: usize, value: f64| matrix[row * size + column] = value;
    for i in 0..=terms {
        for j in 0..=terms {
            set(i, j, (c[i.abs_diff(j)] + c[i + j]) / 2.0);
            if even || j == 0 {
                continue;
            }
            // cos(i)·sin(j) = (sin(i + j) + sin(j - i)) / 2
            let lower = if j >= i { s[j - i] } else { -s[i - j] };
            let mixed = (s[i + j] + lower) / 2.0;
            set(i, terms + j, mixed);
            set(terms + j, i, mixed);
            if i > 0 {
                set(terms + i, terms + j, (c[i.abs_diff(j)] - c[i + j]) / 2.0);
            }
        }
    }
    matrix
}

/// Inner product; eight partial sums, so that the compiler can use vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in a8.iter().zip(b8) {
        for i in 0..8 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f64>()
}

/// Solves matrix·x = right in place, for a symmetric positive definite matrix, by its Cholesky factor.
fn solve_positive(matrix: &mut [f64], right: &mut [f64]) {
    let n = right.len();
    for i in 0..n {
        let (above, row) = matrix.split_at_mut(i * n);
        for j in 0..i {
            let other = &above[j * n..=j * n + j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let pivot = row[i] - dot(&row[..i], &row[..i]);
        assert!(pivot > 0.0, "the penalty keeps the normal matrix positive definite");
        row[i] = pivot.sqrt();
        right[i] = (right[i] - dot(&row[..i], &right[..i])) / row[i];
    }
    for i in (0..n).rev() {
        let below: f64 = (i + 1..n).map(|j| matrix[j * n + i] * right[j]).sum();
        right[i] = (right[i] - below) / matrix[i * n + i];
    }
}

/// Rounds a fit to integers.
pub fn series_table(fit: &Fit, period_log2: i8, public_scale: u8, dealt_scale: u8) -> Table {
    let round = |values: &[f64]| values.iter().map(|&v| to_integer(v, Scale::from(SERIES_FRACTION))).collect();
    Table::Series {
        period_log2,
        public_scale,
        dealt_scale,
        c0: to_integer(fit.c0, Scale::from(public_scale) + Scale::from(dealt_scale)),
        cos: round(&fit.cos),
        sin: round(&fit.sin),
    }
}

/// The integer nearest to value·2^scale.
fn to_integer(value: f64, scale: Scale) -> i64 {
    let scaled = (value * f64::from(scale).exp2()).round();
    assert!(scaled.abs() < 62f64.exp2(), "a coefficient fits 62 bits");
    scaled as i64
}

/// Values of x, and masks for each, that [`series_error`] tries.
const TRIED: (i64, u64) = (2048, 4);

/// Worst error of the integer evaluation of a series table ([`ir::series`]), for x on the grid of 2^-scale in [lo, hi],
/// over a fixed sample of arguments (the ends always among them) and masks.
pub fn series_error(table: &Table, f: &dyn Fn(f64) -> f64, lo: f64, hi: f64, scale: Scale) -> f64 {
    let &Table::Series { period_log2, .. } = table else { panic!("series_error takes a series") };
    let width = Scale::from(period_log2) + scale;
    worst_error(table, width.try_into().expect("a period has few bits"), f, lo, hi, scale)
}

fn worst_error(table: &Table, bits: Width, f: &dyn Fn(f64) -> f64, lo: f64, hi: f64, scale: Scale) -> f64 {
    let &Table::Series { public_scale, dealt_scale, c0, .. } = table else { panic!("a series has an error") };
    let series = Series::new(table, bits);
    let [mut p, mut q, mut c, mut s] = [0; 4].map(|zero| vec![zero; series.terms()]);
    let unit = f64::from(scale).exp2();
    let result_unit = (f64::from(public_scale) + f64::from(dealt_scale)).exp2();
    let (first, last) = ((lo * unit).ceil() as i64, (hi * unit).floor() as i64);
    let (mut worst, mut mask) = (0.0f64, 0u64);
    for x in spread(first, last, TRIED.0) {
        let exact = f(x as f64 / unit);
        for _ in 0..TRIED.1 {
            mask = mask.wrapping_add(0x9e37_79b9_7f4a_7c15); // 2^64 / golden ratio: spreads evenly over the ring.
            let r = mask >> (64 - bits);
            series.coefficients((x as u64).wrapping_add(r), &mut p, &mut q);
            series.dealt(r, &mut c, &mut s);
            let waves: i64 = p.iter().zip(&c).chain(q.iter().zip(&s)).map(|(a, b)| a * b).sum();
            worst = worst.max(((c0 + waves) as f64 / result_unit - exact).abs());
        }
    }
    worst
}

/// Least period in terms of the interval; 1.1, less what rounding may take from an interval of exactly 1/1.1 of a period.
const SLACK: f64 = 1.1 - 1e-9;

/// What [`choose_series`] may choose from.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Periods, as powers of two. Those below 1.1 times the interval, or too long to open at `x_scale`, are passed over.
    pub periods_log2: &'a [i8],
    /// Pairs of public and dealt scale.
    pub scales: &'a [(u8, u8)],
    /// Greatest number of terms.
    pub max_terms: usize,
    /// Scale of the argument.
    pub x_scale: Scale,
    /// Bits of the result's width above its scale.
    pub integer_bits: u8,
}

/// The cheapest table that [`choose_series`] found.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The table.
    pub table: Table,
    /// Number of terms.
    pub terms: usize,
    /// Its [`series_error`].
    pub error: f64,
    /// Width of the opening.
    pub opened_bits: u32,
    /// Bits dealt per element.
    pub dealt_bits: u32,
}

/// The table with the fewest bits, dealt (2·terms·width of the result) and opened (period and scale) together, whose
/// [`series_error`] on [lo, hi] is at most `tolerance`; none if no candidate reaches it. An `even` f is fitted on the
/// larger half of the interval.
pub fn choose_series(
    f: &dyn Fn(f64) -> f64,
    lo: f64,
    hi: f64,
    even: bool,
    tolerance: f64,
    search: &Search,
) -> Option<Choice> {
    let span = if even { 2.0 * hi.max(-lo) } else { hi - lo };
    let mut best: Option<Choice> = None;
    for &period_log2 in search.periods_log2.iter().filter(|&&p| f64::from(p).exp2() >= SLACK * span) {
        let opened_bits = Scale::from(period_log2) + search.x_scale;
        if !(Scale::from(MIN_SERIES_WIDTH)..=Scale::from(MAX_SERIES_WIDTH)).contains(&opened_bits) {
            continue;
        }
        let (bits, opened_bits) = (opened_bits as Width, opened_bits as u32);
        for &(public_scale, dealt_scale) in search.scales {
            let width = u32::from(public_scale) + u32::from(dealt_scale) + u32::from(search.integer_bits);
            let attempt = |terms: usize| {
                let fit = fit_series(f, lo, hi, period_log2, terms, even, dealt_scale);
                let table = series_table(&fit, period_log2, public_scale, dealt_scale);
                // A fit that is too coarse needs no closer look.
                let error = match fit.error > tolerance {
                    true => fit.error,
                    false => worst_error(&table, bits, f, lo, hi, search.x_scale),
                };
                let dealt_bits = 2 * terms as u32 * width;
                (error <= tolerance).then_some(Choice { table, terms, error, opened_bits, dealt_bits })
            };
            // More terms than this cost more than the best so far.
            let affordable = best.as_ref().map_or(search.max_terms, |b| {
                let bits = (b.dealt_bits + b.opened_bits).saturating_sub(opened_bits + 1);
                search.max_terms.min((bits / (2 * width)) as usize)
            });
            if let Some(choice) = least(affordable, attempt) {
                best = Some(choice);
            }
        }
    }
    best
}

/// The result of the least argument in 1..=max that gives one. Goes up by steps of about a quarter, then bisects: a
/// series improves with its terms until rounding takes over, so the greatest argument need not give a result.
fn least<T>(max: usize, attempt: impl Fn(usize) -> Option<T>) -> Option<T> {
    let (mut below, mut at) = (0, 1.min(max));
    while below < max {
        if let Some(mut found) = attempt(at) {
            while at - below > 1 {
                let middle = (below + at) / 2;
                match attempt(middle) {
                    Some(better) => (found, at) = (better, middle),
                    None => below = middle,
                }
            }
            return Some(found);
        }
        (below, at) = (at, (at + at.div_ceil(4)).min(max));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Function;
    use crate::graph::GeluForm;

    fn gelu_even(form: GeluForm, x: f64) -> f64 {
        Function::Gelu(form).value(x) - 0.5 * x
    }

    /// Interval, period, terms and greatest error of the least-squares solver in numpy (QR, 6001 points).
    #[test]
    fn fits_are_as_good_as_the_reference() {
        let erf = |x| gelu_even(GeluForm::Erf, x);
        let tanh = |x| gelu_even(GeluForm::Tanh, x);
        type Case<'a> = (&'a dyn Fn(f64) -> f64, bool, f64, f64, i8, usize, f64);
        let cases: [Case; 11] = [
            (&erf, true, -3.5, 3.5, 3, 6, 1.746e-3),
            (&erf, true, -7.0, 7.0, 4, 10, 3.805e-4),
            (&erf, true, -14.0, 14.0, 5, 20, 1.444e-5),
            (&erf, true, -28.0, 28.0, 6, 40, 1.436e-5),
            (&tanh, true, -7.0, 7.0, 4, 10, 3.844e-4),
            (&tanh, true, -14.0, 14.0, 5, 20, 2.310e-5),
            (&tanh, true, -28.0, 28.0, 6, 40, 2.444e-5),
            (&f64::exp, false, -22.0, 0.75, 5, 12, 1.203e-4),
            (&f64::exp, false, -44.0, 1.5, 6, 16, 4.370e-4),
            (&f64::exp, false, -44.0, 1.5, 6, 20, 1.673e-4),
            (&f64::exp, false, -44.0, 0.75, 6, 24, 3.736e-5),
        ];
        for (f, even, lo, hi, period_log2, terms, reference) in cases {
            let fit = fit_series(f, lo, hi, period_log2, terms, even, 15);
            assert!(fit.error <= 1.01 * reference, "[{lo}, {hi}], {terms} terms: {:e} > {reference:e}", fit.error);
            assert_eq!(fit, fit_series(f, lo, hi, period_log2, terms, even, 15), "deterministic");
        }
    }

    /// The reference's protocol on shares, 4,000 random arguments: 3e-4 for GELU, 3e-3 for exp with 8 terms.
    #[test]
    fn integer_evaluation_adds_rounding_alone() {
        let f = |x| gelu_even(GeluForm::Erf, x);
        let fit = fit_series(&f, -14.0, 14.0, 5, 20, true, 15);
        let error = |public, dealt| series_error(&series_table(&fit, 5, public, dealt), &f, -14.0, 14.0, 11);
        assert!((fit.error..3e-4).contains(&error(15, 15)));
        assert!(error(20, 20) < 3e-5 && error(12, 12) > 5e-4 && error(12, 12) < 3e-3);
        // A wrong table is seen.
        let mut table = series_table(&fit, 5, 15, 15);
        let Table::Series { cos, .. } = &mut table else { unreachable!() };
        cos[7] += 1 << 14;
        assert!(series_error(&table, &f, -14.0, 14.0, 11) > 9e-4);
    }

    #[test]
    fn the_cheapest_table_is_chosen() {
        let search = Search {
            periods_log2: &[3, 4, 5, 6, 7],
            scales: &[(15, 15), (13, 13)],
            max_terms: 64,
            x_scale: 11,
            integer_bits: 8,
        };
        let gelu = |x| gelu_even(GeluForm::Erf, x);
        type Case<'a> = (&'a dyn Fn(f64) -> f64, bool, f64, f64, f64, (i8, usize, u8));
        let cases: [Case; 11] = [
            (&gelu, true, -3.5, 3.5, 2e-4, (4, 7, 15)),
            (&gelu, true, -7.0, 7.0, 2e-4, (4, 13, 15)),
            (&gelu, true, -7.0, 7.0, 5e-4, (4, 10, 15)),
            (&gelu, true, -7.0, 7.0, 1e-3, (4, 10, 13)),
            (&gelu, true, -14.0, 14.0, 2e-4, (5, 19, 15)),
            (&gelu, true, -14.0, 14.0, 5e-4, (5, 16, 15)),
            (&gelu, true, -14.0, 14.0, 1e-3, (5, 16, 13)),
            (&gelu, true, -28.0, 28.0, 1e-3, (6, 30, 15)),
            (&f64::exp, false, -22.0, 0.75, 4e-4, (5, 12, 15)),
            (&f64::exp, false, -44.0, 1.5, 1e-3, (6, 20, 15)),
            (&f64::exp, false, -44.0, 0.75, 4e-4, (6, 21, 15)),
        ];
        for (f, even, lo, hi, tolerance, expected) in cases {
            let choice = choose_series(f, lo, hi, even, tolerance, &search).expect("a candidate is good enough");
            let Table::Series { period_log2, public_scale, cos, sin, .. } = &choice.table else { unreachable!() };
            assert_eq!((*period_log2, choice.terms, *public_scale), expected, "[{lo}, {hi}] to {tolerance:e}");
            assert!(choice.error <= tolerance && cos.len() == choice.terms && sin.is_empty() == even);
            assert_eq!(choice.opened_bits, u32::from(period_log2.unsigned_abs()) + 11);
            assert_eq!(choice.dealt_bits, 2 * choice.terms as u32 * (2 * u32::from(*public_scale) + 8));
        }
        assert!(choose_series(&gelu, -28.0, 28.0, true, 1e-5, &search).is_none(), "rounding alone is worse");
        assert!(choose_series(&gelu, -90.0, 90.0, true, 1e-1, &search).is_none(), "no period is long enough");
    }
}
