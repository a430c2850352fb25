//! Whole blocks of a transformer, written by hand, against floating point and against the cleartext reference.

mod support;

use ir::parse;
use ir::program::Input;
use support::{Case, Rng};

/// A program with inputs that are uniform in -range .. range.
fn case(source: &str, ranges: &[f64], rng: &mut Rng) -> Case {
    let program = parse(source).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(program.inputs.len(), ranges.len());
    let encode = |(input, range): (&Input, &f64)| {
        let unit = range * 2f64.powi(input.ty.scale.into());
        let mut element = |_| (((rng.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0) * unit).round() as i64;
        (0..input.ty.shape.elements().unwrap()).map(&mut element).collect()
    };
    let inputs = program.inputs.iter().zip(ranges).map(encode).collect();
    Case { program, inputs, weights: Vec::new(), publics: Vec::new() }
}

/// The reals that input number `i` encodes.
fn reals(case: &Case, i: usize) -> Vec<f64> {
    let unit = 2f64.powi(case.program.inputs[i].ty.scale.into());
    case.inputs[i].iter().map(|&v| v as f64 / unit).collect()
}

/// Simulates; the output differs from `want` by at most `tolerance`, and from the cleartext reference by at most `ulps`.
fn check(case: &Case, rng: &mut Rng, scale: i32, want: &[f64], tolerance: f64, ulps: i64) {
    let reference = case.reference();
    assert!(reference.broken_claims.is_empty(), "{:?}", reference.broken_claims);
    let got = case.simulate(rng);
    assert_eq!(got[0].len(), want.len());
    for (i, ((got, reference), want)) in got[0].iter().zip(&reference.outputs[0]).zip(want).enumerate() {
        let real = *got as f64 / 2f64.powi(scale);
        assert!((real - want).abs() <= tolerance, "element {i}: {real}, in floating point {want}");
        assert!((got - reference).abs() <= ulps, "element {i}: {got}, the cleartext reference has {reference}");
    }
}

#[test]
fn layer_norm() {
    let mut rng = Rng::new(40);
    for _ in 0..5 {
        let case = case(include_str!("programs/layer_norm.ssir"), &[4.0], &mut rng);
        let want: Vec<f64> = reals(&case, 0)
            .chunks_exact(48)
            .flat_map(|row| {
                let sigma = (row.iter().map(|x| x * x).sum::<f64>() / 48.0).sqrt();
                row.iter().map(move |x| x / sigma)
            })
            .collect();
        // 1/sigma is within 4e-4 by the spline and 2^-16 by its rounding; both for values of 2 at most.
        check(&case, &mut rng, 13, &want, 1.5e-3, 3);
    }
}

#[test]
fn gelu() {
    let mut rng = Rng::new(41);
    for range in [0.01, 1.0, 13.9] {
        let case = case(include_str!("programs/gelu.ssir"), &[range], &mut rng);
        let want: Vec<f64> = reals(&case, 0)
            .into_iter()
            .map(|t| 0.5 * t * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (t + 0.044715 * t * t * t)).tanh()))
            .collect();
        check(&case, &mut rng, 12, &want, 1.2e-3, 4);
    }
}

#[test]
fn attention() {
    let mut rng = Rng::new(42);
    const HEADS: usize = 2;
    const T: usize = 12;
    const D: usize = 16;
    for _ in 0..5 {
        let case = case(include_str!("programs/attention.ssir"), &[1.5, 1.5, 4.0], &mut rng);
        let [q, k, v] = [0, 1, 2].map(|i| reals(&case, i));
        let at = |x: &[f64], head: usize, t: usize, column: usize| x[(head * T + t) * D + column];
        let mut want = Vec::new();
        for t in 0..T {
            for head in 0..HEADS {
                let score = |u: usize| (0..D).map(|c| at(&q, head, t, c) * at(&k, head, u, c)).sum::<f64>();
                let weights: Vec<f64> = (0..=t).map(|u| score(u).exp()).collect();
                let total: f64 = weights.iter().sum();
                want.extend(
                    (0..D)
                        .map(|c| weights.iter().enumerate().map(|(u, w)| w * at(&v, head, u, c)).sum::<f64>() / total),
                );
            }
        }
        check(&case, &mut rng, 13, &want, 0.02, 160);
    }
}
