//! Distances of one output from its float.

use super::widen;

/// Pairs that are kept of an output, for a plot.
const POINTS: usize = 1500;

/// A float and the private value for it.
pub type Point = (f32, f32);

/// Sums over rows; see [`Errors`].
pub struct Measure {
    name: String,
    classes: bool,
    greatest: f64,
    sum: f64,
    elements: u64,
    ends: Option<(f64, f64)>,
    not_numbers: u64,
    rows: u64,
    agree: u64,
    divergence: f64,
    points: Vec<Point>,
}

/// What is known of an output in the end.
#[derive(Clone, Debug)]
pub struct Errors {
    /// Its name.
    pub name: String,
    /// Greatest absolute difference of an element.
    pub greatest: f64,
    /// Mean absolute difference.
    pub mean: f64,
    /// Greatest less least float.
    pub spread: f64,
    /// Greatest absolute float.
    pub reach: f64,
    /// Floats that are no finite numbers; they are left out.
    pub not_numbers: u64,
    /// Of logits.
    pub classes: Option<Classes>,
    /// Some elements.
    pub points: Vec<Point>,
}

/// How rows of logits compare.
#[derive(Clone, Copy, Debug)]
pub struct Classes {
    /// Rows whose greatest element is the same.
    pub agree: u64,
    /// All rows.
    pub rows: u64,
    /// Mean Kullback-Leibler divergence of the private softmax from the float one, in nats.
    pub divergence: f64,
}

impl Errors {
    /// The greatest difference as a part of the spread, or of a tenth of the greatest float where that is more: an output
    /// of a single number has no spread.
    pub fn relative(&self) -> f64 {
        match self.greatest {
            0.0 => 0.0,
            greatest => greatest / self.spread.max(0.1 * self.reach).max(f64::MIN_POSITIVE),
        }
    }
}

impl Measure {
    /// Of an output; `classes` says that its rows are logits.
    pub fn new(name: &str, classes: bool) -> Measure {
        Measure {
            name: name.to_owned(),
            classes,
            greatest: 0.0,
            sum: 0.0,
            elements: 0,
            ends: None,
            not_numbers: 0,
            rows: 0,
            agree: 0,
            divergence: 0.0,
            points: Vec::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds elements, in rows of `row`.
    pub fn add(&mut self, private: &[f32], float: &[f32], row: usize) {
        assert_eq!(private.len(), float.len(), "an output has as many elements as its float");
        let step = (float.len() / 256).max(1);
        for (i, (&p, &f)) in private.iter().zip(float).enumerate() {
            if !f.is_finite() {
                self.not_numbers += 1;
                continue;
            }
            let difference = (f64::from(p) - f64::from(f)).abs();
            self.greatest = self.greatest.max(difference);
            self.sum += difference;
            self.elements += 1;
            widen(&mut self.ends, f64::from(f));
            if i % step == 0 && self.points.len() < POINTS {
                self.points.push((f, p));
            }
        }
        if self.classes && row > 1 {
            for (p, f) in private.chunks_exact(row).zip(float.chunks_exact(row)) {
                self.rows += 1;
                self.agree += u64::from(greatest(p) == greatest(f));
                self.divergence += divergence(f, p);
            }
        }
    }

    /// The result.
    pub fn finish(self) -> Errors {
        let rows = self.rows.max(1) as f64;
        let classes = Classes { agree: self.agree, rows: self.rows, divergence: self.divergence / rows };
        Errors {
            name: self.name,
            greatest: self.greatest,
            mean: self.sum / self.elements.max(1) as f64,
            spread: self.ends.map_or(0.0, |(lo, hi)| hi - lo),
            reach: self.ends.map_or(0.0, |(lo, hi)| hi.max(-lo)),
            not_numbers: self.not_numbers,
            classes: (self.rows > 0).then_some(classes),
            points: self.points,
        }
    }
}

/// Place of the greatest element, the first of equal ones.
pub fn greatest(row: &[f32]) -> Option<usize> {
    (0..row.len()).reduce(|best, i| if row[i] > row[best] { i } else { best })
}

/// Σ p·log(p/q) of the softmaxes of two rows of logits, in nats.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let logarithms = |row: &[f32]| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shifted = row.iter().map(|&v| f64::from(v) - f64::from(most));
        let total: f64 = shifted.clone().map(f64::exp).sum();
        shifted.map(|v| v - total.ln()).collect::<Vec<f64>>()
    };
    let terms = logarithms(p).into_iter().zip(logarithms(q));
    terms.map(|(p, q)| if p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) }).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_logits() {
        let mut measure = Measure::new("logits", true);
        measure.add(&[1.0, 2.5, 3.0, 5.0, 1.0, 1.0], &[1.0, 2.0, 3.0, 1.0, 5.0, 1.0], 3);
        let errors = measure.finish();
        assert_eq!((errors.greatest, errors.spread, errors.relative()), (4.0, 4.0, 1.0));
        let classes = errors.classes.unwrap();
        assert_eq!((classes.agree, classes.rows), (1, 2));
        assert!(classes.divergence > 1.0);
        assert_eq!(divergence(&[0.0, 1.0], &[5.0, 6.0]), 0.0);
        assert!((divergence(&[0.0, 0.0], &[0.0, f32::ln(3.0)]) - 0.5 * (4f64 / 3.0).ln()).abs() < 1e-6);
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut measure = Measure::new("x", false);
        measure.add(&[0.0, 2.0], &[f32::NAN, 1.0], 2);
        let errors = measure.finish();
        assert_eq!((errors.greatest, errors.not_numbers, errors.classes.is_none()), (1.0, 1, true));
        // A single number has no spread.
        assert_eq!((errors.spread, errors.relative()), (0.0, 10.0));
    }
}
