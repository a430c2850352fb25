//! What both parties agree on before a batch: sizes, bits that are not sent, and how far a result may be off.
//!
//! A result is C0 + C1 = A·W + floor(U + E / 2^(64-n)) mod 2^n, with U uniform in [0, 1), so the rounding has no bias, and
//!     E = Σ_k W_kj e_k + e·u + e1·s + d_a·s + d_b
//! where e_k, e and e1 are noise of variance 21 / 2, u and s ternary, and d_a, d_b what was rounded off the answer, uniform in an
//! interval. A sum of coin tosses is sub-Gaussian with its variance, a bounded variable with a quarter of its squared range
//! (Hoeffding 1963), and both survive the fixed factors W, u, s: P(|E| > x) <= 2·exp(-x² / 2v) with
//!     v = 21/2·(|W_j|² + 2N) + 4^a·N / 4 + 4^b / 4
//! for a and b bits rounded off. The bound is taken at 2^-64 for an output. That d_a is uniform rests on the answer's being
//! pseudorandom, like its secrecy.

use crate::ntt::N;
use crate::sample::TOSSES;
use kernels::ring::packed_len;

/// Most rows of a batch, of four secrets.
pub const MAX_ROWS: usize = 4 * N;

/// Most columns of the client's matrix.
pub const MAX_DEPTH: usize = 1 << 16;

/// Greatest bound of an error that is served, in units of the last place of a result.
pub const MAX_ERROR: u64 = 1 << 13;

/// Seconds of a core for a multiplication and addition; for a ciphertext, and for each of its halves under a secret; and of a link
/// for a byte, at a sixth of a gigabit a second.
const PRODUCT: f64 = 1.0 / 17e9;
const COLUMN: f64 = 80e-6;
const BYTE: f64 = 48e-9;

/// Bytes of a public seed.
pub(crate) const SEED_BYTES: usize = 32;

/// Why there is no plan.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too many rows, or none.
    #[error("a product has 1 to {most} rows, not {got}")]
    Rows {
        /// Rows that were asked for.
        got: usize,
        /// What there may be.
        most: usize,
    },
    /// Too many inner places or columns, or none.
    #[error("a product has 1 to {most} inner places or columns, not {got}")]
    Places {
        /// As many as were asked for.
        got: usize,
        /// What there may be.
        most: usize,
    },
    /// A width beyond 64 bits, or none.
    #[error("a result has 1 to 64 bits, not {0}")]
    Width(u8),
    /// The noise reaches too far into the result.
    #[error("at {width} bits a result may be off by {error} units of its last place, more than {MAX_ERROR}")]
    Error {
        /// Bits of the result.
        width: u8,
        /// What [`Plan::error_bound`] would be.
        error: u64,
    },
}

/// A batch: A \[rows, depth\] mod 2^width times columns W of at most a given norm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    rows: usize,
    depth: usize,
    width: u8,
    norm_squared: u64,
    a_dropped: u8,
    b_dropped: u8,
}

/// The square of the norm that no column of `depth` weights of magnitude at most `bound` exceeds.
pub fn norm_squared(depth: usize, bound: u64) -> u64 {
    (depth as u64).saturating_mul(bound.saturating_mul(bound))
}

impl Plan {
    /// For results of `width` bits and server's columns whose sums of squares are at most `norm_squared`. Both parties
    /// need the same numbers.
    pub fn new(rows: usize, depth: usize, width: u8, norm_squared: u64) -> Result<Plan, PlanError> {
        if !(1..=MAX_ROWS).contains(&rows) {
            return Err(PlanError::Rows { got: rows, most: MAX_ROWS });
        }
        if !(1..=MAX_DEPTH).contains(&depth) {
            return Err(PlanError::Places { got: depth, most: MAX_DEPTH });
        }
        if !(1..=64).contains(&width) {
            return Err(PlanError::Width(width));
        }
        // What is rounded off adds to the error: a 64th of the square of the noise or of the last place, whichever is more, and a
        // 1024th. Its variance is 4^bits / 12, times the 2N / 3 coefficients of a secret that are not zero.
        let noise = u128::from(TOSSES) * u128::from(norm_squared) / 2;
        let level = noise.max(1 << (2 * (64 - u32::from(width))));
        let bits = |most: u128| most.checked_ilog2().map_or(0, |log| (log / 2).min(63) as u8);
        let (a_dropped, b_dropped) = (bits((level >> 17) * 9), bits((level >> 8) * 3));
        const _: () = assert!(N as u128 * 2 / 3 / 12 <= (1 << (17 - 6)) / 9);
        let plan = Plan { rows, depth, width, norm_squared, a_dropped, b_dropped };
        match plan.error_bound() {
            ..=MAX_ERROR => Ok(plan),
            error => Err(PlanError::Error { width, error }),
        }
    }

    /// Rows of the client's matrix and of the result.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the client's matrix, rows of the server's.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Bits of a result.
    pub fn width(&self) -> u8 {
        self.width
    }

    /// What sums of squares of the server's columns are at most.
    pub fn norm_squared(&self) -> u64 {
        self.norm_squared
    }

    /// Secrets of the client, each for up to 4096 rows.
    pub(crate) fn secrets(&self) -> usize {
        self.rows.div_ceil(N)
    }

    /// Bits that a coefficient of the two halves of an answer is rounded by.
    pub(crate) fn dropped(&self) -> [u8; 2] {
        [self.a_dropped, self.b_dropped]
    }

    /// Bits of a result's last place, from 0: 64 - width.
    pub(crate) fn shift(&self) -> u32 {
        64 - u32::from(self.width)
    }

    /// Bytes of the client's first message, [`crate::Client::key`].
    pub fn key_bytes(&self) -> usize {
        SEED_BYTES + self.secrets() * N * 8
    }

    /// Bytes of the client's message for so many columns, [`crate::Client::encrypt`].
    pub fn upload_bytes(&self, columns: usize) -> usize {
        columns * self.rows * 8
    }

    /// Bytes of the server's message for so many columns, [`crate::Server::answer`].
    pub fn answer_bytes(&self, columns: usize) -> usize {
        columns * self.column_bytes()
    }

    /// Bytes of one column of an answer.
    pub(crate) fn column_bytes(&self) -> usize {
        packed_len(N, 64 - self.a_dropped) + packed_len(self.rows, 64 - self.b_dropped)
    }

    /// Bytes that the server holds of a batch, beside an answer.
    pub fn server_bytes(&self) -> usize {
        (N + self.rows) * self.depth * 8
    }

    /// What making so many columns takes, in seconds of a core and of a link of a sixth of a gigabit, none of it at the same time: as
    /// [`crate::packed::Plan::seconds`].
    pub fn seconds(&self, columns: usize) -> f64 {
        let (rows, depth, columns, secrets) =
            (self.rows as f64, self.depth as f64, columns as f64, self.secrets() as f64);
        let products = (N as f64 + rows) * depth * columns * PRODUCT;
        let columns_each = (depth + columns) * (1.0 + secrets) * COLUMN;
        let bytes = self.key_bytes() + self.upload_bytes(self.depth);
        products + columns_each + (bytes as f64 + columns * self.column_bytes() as f64) * BYTE
    }

    /// How far a result may be off, in units of its last place: more has probability 2^-64 at most an output, so below 2^-40
    /// for 2^24 outputs.
    pub fn error_bound(&self) -> u64 {
        let (n, range) = (N as f64, self.dropped().map(|bits| if bits == 0 { 0.0 } else { 4f64.powi(bits.into()) }));
        let noise = f64::from(TOSSES) / 2.0 * (self.norm_squared as f64 + 2.0 * n);
        let proxy = noise + range[0] * n / 4.0 + range[1] / 4.0;
        // 2·ln(2)·65 = 90.1: the exponent at which twice the tail is 2^-64.
        ((91.0 * proxy).sqrt() / 2f64.powi(self.shift() as i32)).ceil() as u64
    }

    /// What the root of the mean square of errors is expected to be for a column of weights whose sum of squares is
    /// `norm_squared`, in units of the last place.
    pub fn error_rms(&self, norm_squared: f64) -> f64 {
        let (secret, variance) = (N as f64 * 2.0 / 3.0, f64::from(TOSSES) / 2.0);
        let range = self.dropped().map(|bits| (4f64.powi(bits.into()) - 1.0) / 12.0);
        let noise = variance * (norm_squared + 2.0 * secret) + range[0] * secret + range[1];
        let noise = noise / 4f64.powi(self.shift() as i32);
        // Rounding x up or down without bias adds f·(1 - f) of its fraction f, by its Fourier series for a normal x.
        let square = std::f64::consts::PI.powi(2);
        let wave = |k: i32| (-2.0 * square * noise * f64::from(k * k)).exp() / (square * f64::from(k * k));
        (noise + 1.0 / 6.0 - (1..1000).map(wave).sum::<f64>()).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rows: usize, depth: usize, width: u8, bound: u64) -> Result<Plan, PlanError> {
        Plan::new(rows, depth, width, norm_squared(depth, bound))
    }

    #[test]
    fn sizes() {
        let p = plan(N, 768, 47, 1 << 11).unwrap();
        assert_eq!(p.dropped(), [10, 14]);
        assert_eq!([p.key_bytes(), p.upload_bytes(3), p.answer_bytes(2)], [32 + 8 * N, 24 * N, 2 * N * 104 / 8]);
        let p = plan(3 * N + 1, 1, 64, 1).unwrap();
        assert_eq!(p.dropped(), [0, 0]);
        assert_eq!([p.key_bytes(), p.answer_bytes(1)], [32 + 4 * 8 * N, 8 * (4 * N + 1)]);
        let p = plan(3, 1, 1, 1).unwrap();
        assert_eq!(p.dropped(), [56, 59]);
        assert_eq!([p.key_bytes(), p.answer_bytes(1)], [32 + 8 * N, N + 2]);
    }

    #[test]
    fn limits() {
        // Weights of 12 bits: what GPT-2's products need at the greatest widths.
        for depth in [768, 3072] {
            assert!((45..=55).all(|width| plan(N, depth, width, 1 << 11).is_ok()));
        }
        assert!(plan(N, 768, 47, 1 << 11).unwrap().error_bound() <= 16);
        assert!(plan(N, 768, 40, 1 << 11).unwrap().error_bound() <= 4);
        let errors = [
            (plan(0, 1, 40, 1), PlanError::Rows { got: 0, most: MAX_ROWS }),
            (plan(MAX_ROWS + 1, 1, 40, 1), PlanError::Rows { got: MAX_ROWS + 1, most: MAX_ROWS }),
            (plan(1, 0, 40, 1), PlanError::Places { got: 0, most: MAX_DEPTH }),
            (plan(1, MAX_DEPTH + 1, 40, 1), PlanError::Places { got: MAX_DEPTH + 1, most: MAX_DEPTH }),
            (plan(1, 1, 0, 1), PlanError::Width(0)),
            (plan(1, 1, 65, 1), PlanError::Width(65)),
        ];
        for (got, want) in errors {
            assert_eq!(got.unwrap_err(), want);
        }
        assert!(matches!(plan(1, 768, 57, 1 << 11), Err(PlanError::Error { width: 57, error: 8193.. })));
        assert!(matches!(plan(1, MAX_DEPTH, 64, u64::MAX), Err(PlanError::Error { .. })));
    }

    #[test]
    fn errors_grow_with_everything() {
        let bound = |depth, width, most| plan(N, depth, width, most).unwrap().error_bound();
        for width in 1..54 {
            assert!(bound(64, width, 100) <= bound(64, width + 1, 100));
            assert!(bound(64, width, 100) <= bound(65, width, 100));
            assert!(bound(64, width, 100) <= bound(64, width, 101));
            let p = plan(N, 64, width, 100).unwrap();
            assert!(p.error_rms(640_000.0) < p.error_bound() as f64);
        }
    }
}
