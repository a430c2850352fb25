//! Public tables of integers for functions that a program evaluates on secrets, made from real functions.
//!
//! * [`series`]: smooth functions on an interval (GELU, exp), as trigonometric series.
//! * [`spline`]: monotone positive functions over many octaves (1/sqrt(x), 1/x), piecewise linear.
//! * [`functions`]: the functions themselves, in double precision.
//!
//! Tables depend on public ranges alone. They are computed in double precision here, once, and rounded to integers, which
//! both parties then use: no party computes a coefficient in floating point.

pub mod functions;
pub mod series;
pub mod spline;

pub use series::{Choice, Fit, Search, choose_series, fit_series, series_error, series_table};
pub use spline::{SplineFit, TableError, spline_table};
