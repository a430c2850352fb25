//! What both parties agree on before a product: how it is cut into polynomials, what is not sent, how far a result may be off.
//!
//! In units of 2^-64, and with g = 2^64 / q, a result is C0 + C1 = L·R + floor(U + E / 2^(64-width)) mod 2^width with U uniform and
//!     E = g·(Σ_l Y_l·(e_l + d_l) + e·u + e1·s) + d_a·s + d_b
//! where e's are noise of variance 21 / 2, d_l what the rounding of a message leaves, at most 1/2, and d_a, d_b what was rounded off
//! the answer and what bringing it to 64 bits is off by. The coefficients of all Y_l are c columns of R, so the proxy of the
//! variance (plan.rs of the batch) is
//!     v = g²·(43/4·c·|R_z|² + 21·N) + (2^a + 2t)²·N / 4 + (2^b + 2t)² / 4
//! for a and b bits rounded off and t = [`TORUS_ERROR`]; of d_a·s the sum is over s, given d_a. The bound is taken at 2^-64 for an
//! output. d_l is taken for uniform, as it is of an L that is uniform mod 2^width: a mask.

use crate::ntt::N;
use crate::plan::{MAX_ERROR, PlanError, SEED_BYTES};
use crate::rns::{PACKED, SCALE, TORUS_ERROR};
use crate::sample::TOSSES;
use kernels::ring::{Tensor, packed_len};
use std::ops::Range;

/// Blocks of rows of a product, each of which has a secret of its own, at most.
pub const MAX_SECRETS: usize = 16;

/// Most inner places and columns of a product, and most products side by side.
const MAX_AXIS: usize = 1 << 20;

/// Picoseconds of a core for a transform modulo one prime; for a multiplication and addition modulo one; and of a link for a byte,
/// at a gigabit a second. They weigh one cut against another; both parties need the same.
const TRANSFORM: u128 = 10_000_000;
const PRODUCT: u128 = 500;
const BYTE: u128 = 8_000;

/// A product [rows, depth] x [depth, columns], results mod 2^width; or several of the same sizes, whose matrices lie below one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Products. More than one if each is a single block.
    count: usize,
    /// Products whose blocks are side by side in a ciphertext.
    beside: usize,
    rows: usize,
    depth: usize,
    columns: usize,
    width: u8,
    norm_squared: u128,
    /// Rows, inner places and columns of a block.
    block: [usize; 3],
    a_dropped: u8,
    b_dropped: u8,
}

impl Plan {
    /// For server's columns whose sums of squares are at most `norm_squared`. Both parties need the same numbers.
    pub fn new(sizes @ [rows, depth, columns]: [usize; 3], width: u8, norm_squared: u128) -> Result<Plan, PlanError> {
        if !(1..=MAX_SECRETS * N).contains(&rows) {
            return Err(PlanError::Rows { got: rows, most: MAX_SECRETS * N });
        }
        if let Some(axis) = [depth, columns].into_iter().find(|axis| !(1..=MAX_AXIS).contains(axis)) {
            return Err(PlanError::Places { got: axis, most: MAX_AXIS });
        }
        if !(1..=64).contains(&width) {
            return Err(PlanError::Width(width));
        }
        let mut best: Option<(u128, Plan)> = None;
        let cuts = |all: usize, least: usize, most: usize| {
            let blocks = all.div_ceil(most)..=all.div_ceil(least.max(1));
            let mut sizes: Vec<usize> = blocks.map(|blocks| all.div_ceil(blocks)).collect();
            sizes.dedup();
            sizes
        };
        for r in cuts(rows, rows.div_ceil(MAX_SECRETS), N) {
            for k in cuts(depth, 1, N / r) {
                let block = [r, k, columns.min(N / (r * k))];
                let plan = Plan::of(sizes, width, norm_squared, block).rounded();
                let cost = plan.cost();
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, plan));
                }
            }
        }
        let (_, plan) = best.expect("a block of one row, place and column is a cut");
        plan.checked()
    }

    /// For so many products of the same sizes; `None` if less than two of them have room in a ciphertext, so that each needs a plan
    /// of its own.
    pub fn many(
        count: usize,
        sizes @ [rows, depth, columns]: [usize; 3],
        width: u8,
        norm_squared: u128,
    ) -> Option<Result<Plan, PlanError>> {
        let block = [rows, depth, columns].into_iter().try_fold(1, usize::checked_mul)?;
        if !(1..=N / 2).contains(&block) || !(1..=64).contains(&width) || !(2..=MAX_AXIS).contains(&count) {
            return None;
        }
        let plan = Plan::of(sizes, width, norm_squared, sizes);
        Some(Plan { count, beside: (N / block).min(count), ..plan }.rounded().checked())
    }

    fn of([rows, depth, columns]: [usize; 3], width: u8, norm_squared: u128, block: [usize; 3]) -> Plan {
        let (count, beside, a_dropped, b_dropped) = (1, 1, 0, 0);
        Plan { count, beside, rows, depth, columns, width, norm_squared, block, a_dropped, b_dropped }
    }

    fn checked(self) -> Result<Plan, PlanError> {
        match self.error_bound() {
            ..=MAX_ERROR => Ok(self),
            error => Err(PlanError::Error { width: self.width, error }),
        }
    }

    /// With as many bits dropped as add little to the error: see plan.rs of the batch. Products and powers of four of doubles are the
    /// same on every machine.
    fn rounded(self) -> Plan {
        let noise = f64::from(TOSSES) / 2.0 * self.noise_squared() * SCALE * SCALE;
        let level = noise.max(4f64.powi(64 - i32::from(self.width)));
        let bits = |most: f64| (0..63).take_while(|bits| 4f64.powi(bits + 1) <= most).count() as u8;
        Plan { a_dropped: bits(level / 131_072.0 * 9.0), b_dropped: bits(level / 256.0 * 3.0), ..self }
    }

    /// The greatest sum of squares of the coefficients that the server multiplies by for an answer.
    fn noise_squared(&self) -> f64 {
        self.block[2] as f64 * self.norm_squared as f64
    }

    /// What making the product takes, in picoseconds: bytes on a link and work of a core, none of it at the same time.
    fn cost(&self) -> u128 {
        let (rows, answers) = (self.secrets() as u128, self.answers() as u128);
        // Answers times ciphertexts.
        let pairs = answers * self.ciphertexts_of(0).len() as u128;
        let transforms = 3 * (rows * self.ciphertexts() as u128 + pairs + answers * (3 + 3 * (rows + 1)));
        let products = 3 * N as u128 * pairs * (rows + 1);
        let bytes = (self.upload_bytes() + self.answer_bytes(0..self.answers())) as u128;
        transforms * TRANSFORM + products * PRODUCT + bytes * BYTE
    }

    /// What making the product takes, in seconds of a core and of a link of a gigabit a second.
    pub fn seconds(&self) -> f64 {
        self.cost() as f64 * 1e-12
    }

    /// Products.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Rows of the client's matrix and of the result, of each product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the client's matrix, rows of the server's.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the server's matrix and of the result.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bits of a result.
    pub fn width(&self) -> u8 {
        self.width
    }

    /// What sums of squares of the server's columns are at most.
    pub fn norm_squared(&self) -> u128 {
        self.norm_squared
    }

    /// Blocks of rows, inner places and columns.
    pub(crate) fn blocks(&self) -> [usize; 3] {
        let [r, k, c] = self.block;
        [self.rows.div_ceil(r), self.depth.div_ceil(k), self.columns.div_ceil(c)]
    }

    /// Rows, inner places and columns of a block.
    pub(crate) fn block(&self) -> [usize; 3] {
        self.block
    }

    /// Bits that a coefficient of the two halves of an answer is rounded by.
    pub(crate) fn dropped(&self) -> [u8; 2] {
        [self.a_dropped, self.b_dropped]
    }

    /// Bits of a result's last place, from 0: 64 - width.
    pub(crate) fn shift(&self) -> u32 {
        64 - u32::from(self.width)
    }

    /// Where row x and column z of answer j are among the coefficients.
    pub(crate) fn place(&self, j: usize, x: usize, z: usize) -> usize {
        let [r, k, _] = self.block;
        self.beside_at(j) + k * x + k - 1 + r * k * z
    }

    /// Where the block of answer j begins among the coefficients of its ciphertext.
    fn beside_at(&self, j: usize) -> usize {
        j % self.beside * self.block.iter().product::<usize>()
    }

    /// Ciphertexts of a block of rows: one for each block of inner places, or for the products that are side by side.
    pub(crate) fn ciphertexts(&self) -> usize {
        if self.count > 1 { self.count.div_ceil(self.beside) } else { self.blocks()[1] }
    }

    /// The ciphertexts that answer j is a sum over.
    pub(crate) fn ciphertexts_of(&self, j: usize) -> Range<usize> {
        if self.count > 1 { j / self.beside..j / self.beside + 1 } else { 0..self.blocks()[1] }
    }

    /// What ciphertext l of block i of rows has: where among its coefficients, which row and which inner places.
    pub(crate) fn rows_of(&self, i: usize, l: usize) -> Vec<(usize, usize, Range<usize>)> {
        let [r, k, _] = self.block;
        if self.count > 1 {
            let products = l * self.beside..self.count.min((l + 1) * self.beside);
            return products.flat_map(|j| (0..r).map(move |x| (self.beside_at(j) + k * x, j * r + x, 0..k))).collect();
        }
        let places = l * k..self.depth.min((l + 1) * k);
        (i * r..self.rows.min((i + 1) * r)).enumerate().map(|(x, row)| (k * x, row, places.clone())).collect()
    }

    /// The rows of the server's matrix that ciphertext l is multiplied by for answer j.
    pub(crate) fn factor_rows(&self, l: usize, j: usize) -> Range<usize> {
        let k = self.block[1];
        if self.count > 1 { j * k..(j + 1) * k } else { l * k..self.depth.min((l + 1) * k) }
    }

    /// Secrets that the client needs for it.
    pub fn secrets(&self) -> usize {
        self.blocks()[0]
    }

    /// Answers: one for each block of columns, or for each of several products.
    pub fn answers(&self) -> usize {
        if self.count > 1 { self.count } else { self.blocks()[2] }
    }

    /// The columns that some answers have.
    pub fn columns_of(&self, answers: Range<usize>) -> Range<usize> {
        if self.count > 1 {
            return 0..self.columns;
        }
        let c = self.block[2];
        answers.start * c..self.columns.min(answers.end * c)
    }

    /// The rows that some answers have, of the results of all products below one another.
    pub fn rows_in(&self, answers: Range<usize>) -> Range<usize> {
        if self.count > 1 { answers.start * self.rows..answers.end * self.rows } else { 0..self.rows }
    }

    /// Shares of neighbouring answers as one.
    pub(crate) fn joined(&self, shares: &[Tensor]) -> Tensor {
        Tensor::concat(&shares.iter().collect::<Vec<_>>(), if self.count > 1 { 0 } else { 1 })
    }

    /// Answers whose bytes make up a message of a few megabytes.
    pub fn answers_at_once(&self) -> usize {
        (MESSAGE / self.answer_bytes(0..1)).max(1)
    }

    /// Bytes of the client's message, [`super::Client::encrypt`].
    pub fn upload_bytes(&self) -> usize {
        self.secrets() * self.ciphertexts() * PACKED
    }

    /// Bytes of the server's message for some answers, [`super::Server::answer`].
    pub fn answer_bytes(&self, answers: Range<usize>) -> usize {
        let count = answers.len();
        if self.count > 1 {
            return count * self.bytes_of(self.columns);
        }
        let last = self.answers() - 1;
        let whole = count - usize::from(answers.contains(&last));
        let narrow = if whole < count { self.bytes_of(self.columns - last * self.block[2]) } else { 0 };
        whole * self.bytes_of(self.block[2]) + narrow
    }

    /// Bytes of an answer of so many columns.
    fn bytes_of(&self, columns: usize) -> usize {
        packed_len(N, 64 - self.a_dropped) + packed_len(self.rows * columns, 64 - self.b_dropped)
    }

    /// How far a result may be off, in units of its last place: more has probability 2^-64 at most an output.
    pub fn error_bound(&self) -> u64 {
        let n = N as f64;
        let range = self.dropped().map(|bits| 2f64.powi(bits.into()) + 2.0 * TORUS_ERROR as f64);
        let noise = (f64::from(TOSSES) / 2.0 + 0.25) * self.noise_squared() + f64::from(TOSSES) * n;
        let proxy = noise * SCALE * SCALE + range[0] * range[0] * n / 4.0 + range[1] * range[1] / 4.0;
        // 2·ln(2)·65 = 90.1: the exponent at which twice the tail is 2^-64.
        ((91.0 * proxy).sqrt() / 2f64.powi(self.shift() as i32)).ceil() as u64
    }
}

/// Bytes of a message of answers, about.
const MESSAGE: usize = 8 << 20;

/// Bytes of a key for so many secrets, [`super::Client::key`].
pub fn key_bytes(secrets: usize) -> usize {
    SEED_BYTES + secrets * PACKED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(sizes: [usize; 3], width: u8, norm_squared: u128) -> Plan {
        Plan::new(sizes, width, norm_squared).unwrap()
    }

    #[test]
    fn cuts_cover_and_fit() {
        for sizes in
            [[1, 1, 1], [1, 768, 50_257], [128, 64, 128], [128, 768, 768], [16, 50_257, 768], [4096, 30, 3], [3, 5, 7]]
        {
            let plan = plan(sizes, 40, 1 << 30);
            let ([r, k, c], blocks) = (plan.block(), plan.blocks());
            assert!(r * k * c <= N && blocks[0] <= MAX_SECRETS, "{plan:?}");
            assert!(
                [0, 1, 2]
                    .iter()
                    .all(|&i| blocks[i] * [r, k, c][i] >= sizes[i] && (blocks[i] - 1) * [r, k, c][i] < sizes[i])
            );
            // Places of results are apart, and no other sum falls on one.
            let mut seen = std::collections::HashSet::new();
            for (x, z) in (0..r).flat_map(|x| (0..c).map(move |z| (x, z))) {
                let place = plan.place(0, x, z);
                assert!(place < N && place % k == k - 1 && seen.insert(place));
            }
        }
    }

    #[test]
    fn sizes() {
        // Queries times keys of a head of GPT-2 small, 128 tokens: a megabyte and a bit.
        let p = plan([128, 64, 128], 36, 64 << 70);
        let bytes = p.upload_bytes() + p.answer_bytes(0..p.answers());
        assert!((900_000..1_300_000).contains(&bytes), "{bytes}, {p:?}");
        assert!(p.error_bound() <= 4, "{}", p.error_bound());
        // One row times the vocabulary: of a batch, 1.4 GB.
        let p = plan([1, 768, 50_257], 40, 768 << 22);
        let bytes = p.upload_bytes() + p.answer_bytes(0..p.answers());
        assert!(bytes < 8_000_000, "{bytes}, {p:?}");
        let parts = (0..p.answers()).map(|i| p.answer_bytes(i..i + 1)).sum::<usize>();
        assert_eq!(parts, p.answer_bytes(0..p.answers()));
        assert_eq!(p.columns_of(0..p.answers()), 0..50_257);
    }

    #[test]
    fn several_lie_side_by_side() {
        // Sums of squares of 128 rows of 768: five to a ciphertext.
        let p = Plan::many(128, [1, 768, 1], 60, 768 << 40).unwrap().unwrap();
        assert_eq!((p.ciphertexts(), p.answers(), p.upload_bytes()), (26, 128, 26 * PACKED));
        assert_eq!((p.place(0, 0, 0), p.place(4, 0, 0), p.place(5, 0, 0)), (767, 4 * 768 + 767, 767));
        assert_eq!((p.ciphertexts_of(5), p.factor_rows(1, 5), p.rows_in(3..5)), (1..2, 5 * 768..6 * 768, 3..5));
        assert_eq!(p.rows_of(0, 25), [(0, 125, 0..768), (768, 126, 0..768), (1536, 127, 0..768)]);
        // Two must have room.
        assert!(Plan::many(3, [1, 64, 128], 36, 1).is_none() && Plan::many(1, [1, 1, 1], 36, 1).is_none());
    }

    #[test]
    fn limits() {
        assert_eq!(Plan::new([0, 1, 1], 40, 1), Err(PlanError::Rows { got: 0, most: MAX_SECRETS * N }));
        assert_eq!(Plan::new([1, 0, 1], 40, 1), Err(PlanError::Places { got: 0, most: MAX_AXIS }));
        assert_eq!(
            Plan::new([1, 1, MAX_AXIS + 1], 40, 1),
            Err(PlanError::Places { got: MAX_AXIS + 1, most: MAX_AXIS })
        );
        assert_eq!(Plan::new([1, 1, 1], 65, 1), Err(PlanError::Width(65)));
        // Numbers of both parties as wide as the result: up to 46 bits or so in one piece.
        let both = |width: u8| Plan::new([128, 64, 128], width, 64 << (2 * (width - 1)));
        assert!(both(44).unwrap().error_bound() <= 400, "{}", both(44).unwrap().error_bound());
        assert!(matches!(both(52), Err(PlanError::Error { width: 52, .. })));
    }
}
