//! The real functions behind the tables, in double precision.

use std::f64::consts::{FRAC_2_PI, PI, SQRT_2};

use crate::graph::GeluForm;

/// The error function, to about 1e-15: erf(x) = 2/sqrt(π)·exp(-x²)·Σ_n 2^n·x^(2n+1) / (1·3·…·(2n+1)), whose terms all
/// have one sign (Abramowitz and Stegun 7.1.6).
pub fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 6.0 {
        return x.signum(); // 1 - erf(6) is below half an ulp of 1.
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > f64::EPSILON / 4.0 * sum.abs() {
        odd += 2.0;
        term *= 2.0 * x * x / odd;
        sum += term;
    }
    2.0 / PI.sqrt() * (-x * x).exp() * sum
}

/// GELU in either form.
pub fn gelu(form: GeluForm, x: f64) -> f64 {
    match form {
        GeluForm::Erf => 0.5 * x * (1.0 + erf(x / SQRT_2)),
        GeluForm::Tanh => 0.5 * x * (1.0 + (FRAC_2_PI.sqrt() * (x + 0.044715 * x * x * x)).tanh()),
    }
}

/// GELU(x) - x/2. It is even, so its series has cosines only.
pub fn gelu_even(form: GeluForm, x: f64) -> f64 {
    gelu(form, x) - 0.5 * x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_at_known_points() {
        // Digits from the tables in Abramowitz and Stegun, 7.
        for (x, y) in [(0.0, 0.0), (0.5, 0.5204998778130465), (1.0, 0.8427007929497149), (2.0, 0.9953222650189527)] {
            assert!((erf(x) - y).abs() < 4e-16, "erf({x}) = {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        assert!((1.0 - erf(4.0) - 1.541725790028002e-8).abs() < 1e-15);
        assert_eq!(erf(6.5), 1.0);
        assert!(erf(f64::NAN).is_nan());
    }

    #[test]
    fn gelu_parts() {
        for form in [GeluForm::Erf, GeluForm::Tanh] {
            for x in [0.1, 1.0, 3.0, 9.0] {
                assert!((gelu_even(form, x) - gelu_even(form, -x)).abs() < 1e-14);
            }
            assert!((gelu(form, 1.0) - 0.8413).abs() < 2e-4);
        }
    }
}
