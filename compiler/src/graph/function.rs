//! Functions of one real number that a graph applies element by element.
//!
//! One row of the macro `functions` each: name in the text form, parameters, value in double precision. Everything else about a
//! function (how it is lowered, how far its values reach) is worked out from these values where it is needed.

use std::f64::consts::{FRAC_2_PI, PI, SQRT_2};

/// Form of the GELU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum GeluForm {
    /// x·Φ(x).
    Erf,
    /// The tanh approximation.
    Tanh,
}

macro_rules! functions {
    ($( $(#[$doc:meta])* $name:literal $variant:ident ($($parameter:ident),*) = |$x:ident| $value:expr; )*) => {
        /// See the module head. Parameters are ONNX's.
        #[derive(Clone, Copy, PartialEq, Debug)]
        pub enum Function {
            $( $(#[$doc])* $variant { $( #[allow(missing_docs)] $parameter: f32 ),* }, )*
            /// x·Φ(x), or its approximation by tanh.
            Gelu(GeluForm),
        }

        impl Function {
            /// Name in the text form.
            pub fn name(self) -> &'static str {
                match self {
                    $( Function::$variant { .. } => $name, )*
                    Function::Gelu(_) => "gelu",
                }
            }

            /// Parameters in order.
            pub fn parameters(self) -> Vec<f32> {
                match self {
                    $( Function::$variant { $($parameter),* } => vec![$($parameter),*], )*
                    Function::Gelu(_) => Vec::new(),
                }
            }

            /// The function of a name and parameters; `None` if there is none, or its parameters are not as many.
            pub fn named(name: &str, parameters: &[f32]) -> Option<Function> {
                match name {
                    $( $name => {
                        let [$($parameter),*] = *parameters else { return None };
                        Some(Function::$variant { $($parameter),* })
                    } )*
                    _ => None,
                }
            }

            /// f(x).
            pub fn value(self, x: f64) -> f64 {
                match self {
                    $( Function::$variant { $($parameter),* } => {
                        $( let $parameter = f64::from($parameter); )*
                        let $x = x;
                        $value
                    } )*
                    Function::Gelu(form) => gelu(form, x),
                }
            }
        }

        /// Names of all functions that have no form to choose.
        pub const NAMES: &[&str] = &[$($name),*];
    };
}

functions! {
    /// |x|.
    "abs" Abs() = |x| x.abs();
    /// Arc cosine.
    "acos" Acos() = |x| x.acos();
    /// Inverse hyperbolic cosine.
    "acosh" Acosh() = |x| x.acosh();
    /// Arc sine.
    "asin" Asin() = |x| x.asin();
    /// Inverse hyperbolic sine.
    "asinh" Asinh() = |x| x.asinh();
    /// Arc tangent.
    "atan" Atan() = |x| x.atan();
    /// Inverse hyperbolic tangent.
    "atanh" Atanh() = |x| x.atanh();
    /// The least integer not below x.
    "ceil" Ceil() = |x| x.ceil();
    /// max(0, x) + min(0, alpha·(exp(x/alpha) - 1)).
    "celu" Celu(alpha) = |x| x.max(0.0) + (alpha * ((x / alpha).exp() - 1.0)).min(0.0);
    /// x, but within [low, high].
    "clip" Clip(low, high) = |x| x.max(low).min(high);
    /// Cosine.
    "cos" Cos() = |x| x.cos();
    /// Hyperbolic cosine.
    "cosh" Cosh() = |x| x.cosh();
    /// x, below 0 alpha·(exp(x) - 1).
    "elu" Elu(alpha) = |x| if x < 0.0 { alpha * x.exp_m1() } else { x };
    /// The error function.
    "erf" Erf() = |x| erf(x);
    /// e^x.
    "exp" Exp() = |x| x.exp();
    /// The greatest integer not above x.
    "floor" Floor() = |x| x.floor();
    /// max(0, min(1, alpha·x + beta)).
    "hard_sigmoid" HardSigmoid(alpha, beta) = |x| (alpha * x + beta).clamp(0.0, 1.0);
    /// x·max(0, min(1, x/6 + 1/2)).
    "hard_swish" HardSwish() = |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0);
    /// x, below 0 alpha·x.
    "leaky_relu" LeakyRelu(alpha) = |x| if x < 0.0 { alpha * x } else { x };
    /// Natural logarithm.
    "log" Log() = |x| x.ln();
    /// x·tanh(softplus(x)).
    "mish" Mish() = |x| x * softplus(x).tanh();
    /// x^exponent.
    "power" Power(exponent) = |x| power(x, exponent);
    /// 1/x.
    "reciprocal" Reciprocal() = |x| 1.0 / x;
    /// max(0, x).
    "relu" Relu() = |x| x.max(0.0);
    /// The nearest integer, ties to even.
    "round" Round() = |x| x.round_ties_even();
    /// gamma·(x, below 0 alpha·(exp(x) - 1)).
    "selu" Selu(alpha, gamma) = |x| gamma * if x < 0.0 { alpha * x.exp_m1() } else { x };
    /// x - bias above lambda, x + bias below -lambda, else 0.
    "shrink" Shrink(lambda, bias) = |x| if x < -lambda { x + bias } else if x > lambda { x - bias } else { 0.0 };
    /// 1/(1 + exp(-x)).
    "sigmoid" Sigmoid() = |x| 1.0 / (1.0 + (-x).exp());
    /// -1, 0 or 1.
    "sign" Sign() = |x| if x == 0.0 { 0.0 } else { x.signum() };
    /// Sine.
    "sin" Sin() = |x| x.sin();
    /// Hyperbolic sine.
    "sinh" Sinh() = |x| x.sinh();
    /// ln(1 + exp(x)).
    "softplus" Softplus() = |x| softplus(x);
    /// x/(1 + |x|).
    "softsign" Softsign() = |x| x / (1.0 + x.abs());
    /// Square root.
    "sqrt" Sqrt() = |x| x.sqrt();
    /// x·sigmoid(beta·x): SiLU where beta is 1, QuickGelu where it is 1.702.
    "swish" Swish(beta) = |x| x / (1.0 + (-beta * x).exp());
    /// Tangent.
    "tan" Tan() = |x| x.tan();
    /// Hyperbolic tangent.
    "tanh" Tanh() = |x| x.tanh();
    /// x above alpha, else 0.
    "thresholded_relu" ThresholdedRelu(alpha) = |x| if x > alpha { x } else { 0.0 };
}

impl Function {
    /// f(x) as the float evaluator has it: 32-bit operands and result.
    pub fn value_f32(self, x: f32) -> f32 {
        match self {
            // Exact in 32 bits, and common enough to be worth a short way.
            Function::Relu {} => x.max(0.0),
            Function::Sqrt {} => x.sqrt(),
            Function::Reciprocal {} => x.recip(),
            Function::Exp {} => x.exp(),
            Function::Tanh {} => x.tanh(),
            Function::Sigmoid {} => 1.0 / (1.0 + (-x).exp()),
            Function::Swish { beta } => x / (1.0 + (-beta * x).exp()),
            _ => self.value(f64::from(x)) as f32,
        }
    }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn power(x: f64, exponent: f64) -> f64 {
    if exponent == exponent.trunc() && exponent.abs() < 64.0 { x.powi(exponent as i32) } else { x.powf(exponent) }
}

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
    fn names_are_read_back() {
        for &name in NAMES {
            let found = (0..3).filter_map(|n| Function::named(name, &[0.5, 2.0][..n.min(2)])).next();
            let function = found.unwrap_or_else(|| panic!("{name} takes up to two parameters"));
            assert_eq!(function.name(), name);
            assert_eq!(Function::named(name, &function.parameters()), Some(function));
        }
        assert_eq!(Function::named("relu", &[1.0]), None);
    }

    #[test]
    fn values_at_points() {
        for (function, x, y) in [
            (Function::Swish { beta: 1.0 }, 1.0, 0.731058578630005),
            (Function::Softplus {}, 0.0, std::f64::consts::LN_2),
            (Function::Mish {}, 1.0, 0.865098388),
            (Function::HardSwish {}, 1.0, 2.0 / 3.0),
            (Function::Shrink { lambda: 0.5, bias: 0.25 }, -1.0, -0.75),
            (Function::Power { exponent: 3.0 }, -2.0, -8.0),
            (Function::Gelu(GeluForm::Erf), 1.0, 0.8413447460685429),
        ] {
            assert!((function.value(x) - y).abs() < 1e-8, "{function:?}: {}", function.value(x));
        }
    }
}
