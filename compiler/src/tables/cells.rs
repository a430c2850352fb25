//! Lines on cells.

use ir::{Scale, Table};

/// Places at which a cell is fitted, on either side of its middle.
const SAMPLES: i32 = 32;

/// The table of a function of period 2^period_log2: 2^per_unit_log2 cells for each unit of an argument of scale `x_scale`, the result
/// at `scale`.
///
/// A cell reaches to the middles of both its neighbours, and the mask decides where in it an argument falls, near the middle more
/// often: a least-squares line under that triangular weight leaves no mean error. Slopes are rounded first, and values are
/// fitted to them.
pub fn cells(f: &dyn Fn(f64) -> f64, period_log2: i8, per_unit_log2: i8, x_scale: Scale, scale: Scale) -> Table {
    let count = 1i64 << (period_log2 + per_unit_log2);
    let cell = f64::from(-per_unit_log2).exp2();
    let period = f64::from(period_log2).exp2();
    let slope_unit = f64::from(scale - x_scale).exp2();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for j in 0..count {
        let middle = cell * (if j < count / 2 { j } else { j - count }) as f64;
        // At the seam the other side is that of the period before.
        let at = |d: f64| {
            let x = middle + d;
            f(x - period * (x / period).round())
        };
        let samples = (-SAMPLES..=SAMPLES).map(|i| {
            let part = f64::from(i) / f64::from(SAMPLES);
            (part * cell, 1.0 - part.abs())
        });
        let (mut weights, mut squares, mut values, mut products) = (0.0, 0.0, 0.0, 0.0);
        for (d, weight) in samples {
            let value = at(d);
            weights += weight;
            squares += weight * d * d;
            values += weight * value;
            products += weight * value * d;
        }
        // The weight is even, so the slope does not change the best value.
        b.push((products / squares * slope_unit).round() as i64);
        a.push((values / weights * f64::from(scale).exp2()).round() as i64);
    }
    Table::Cells { scale, cell_bits: (x_scale - Scale::from(per_unit_log2)) as u8, a, b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Function, GeluForm};

    /// The error wherever a mask puts an argument: its worst, its root mean square and its mean.
    #[test]
    fn cells_of_an_activation() {
        let f = Function::Gelu(GeluForm::Tanh);
        let even = |v: f64| f.value(v) - 0.5 * v;
        for (period_log2, scale) in [(3, 12), (4, 11), (5, 12)] {
            let table = cells(&even, period_log2, 4, scale, 19);
            let Table::Cells { cell_bits, a, b, .. } = &table else { unreachable!() };
            let (unit, cell) = (f64::from(scale).exp2(), 1i64 << cell_bits);
            let (mut worst, mut squares, mut sum, mut count) = (0f64, 0.0, 0.0, 0.0);
            let end = (1i64 << period_log2 << scale) / 2 - cell;
            for x in (-end..end).step_by(37) {
                for low in (0..cell).step_by(61) {
                    let j = (x + low) >> cell_bits;
                    let at = j as usize & (a.len() - 1);
                    let got = (a[at] + b[at] * (x - j * cell)) as f64 / f64::from(19).exp2();
                    let error = got - even(x as f64 / unit);
                    worst = worst.max(error.abs());
                    (squares, sum, count) = (squares + error * error, sum + error, count + 1.0);
                }
            }
            let (rms, mean) = ((squares / count).sqrt(), sum / count);
            assert!(worst < 1.5e-3 && rms < 3e-4 && mean.abs() < 2e-5, "{worst} {rms} {mean}");
        }
    }
}
