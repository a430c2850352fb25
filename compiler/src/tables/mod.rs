//! Public tables of integers for functions that a program evaluates on secrets, made from real functions.
//!
//! * [`series`]: smooth functions on an interval (GELU, exp), as trigonometric series.
//! * [`cells()`]: smooth functions with a period, by lines.
//! * [`spline`]: monotone positive functions over many octaves (1/sqrt(x), 1/x), piecewise linear.
//!
//! Tables depend on public ranges alone. They are computed in double precision here, once, and rounded to integers, which
//! both parties then use: no party computes a coefficient in floating point.

mod cells;
pub mod series;
pub mod spline;

pub use cells::cells;
pub use series::{Choice, Fit, Search, choose_series, fit_series, series_error, series_table};
pub use spline::{SplineFit, TableError, least_scale, spline_table};

/// All integers first ..= last, or about `count` of them at even distances, both ends among them.
fn spread(first: i64, last: i64, count: i64) -> impl Iterator<Item = i64> {
    let steps = (last - first).clamp(1, count);
    // first + (last - first)·i / steps, without a product that may not fit.
    let (each, rest) = ((last - first) / steps, (last - first) % steps);
    let at = move |i: i64| first + each * i + rest * i / steps;
    (0..=if first == last { 0 } else { steps }).map(at)
}
