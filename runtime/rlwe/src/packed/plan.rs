//! What both parties agree on before a product: how it is cut into polynomials, what is not sent, how far a result may be off.
//!
//! In units of 2^-64, and with g = 2^64 / q, a result is C0 + C1 = L·R + floor(U + E / 2^(64-width)) mod 2^width with U uniform and
//!     E = g·(Σ_l Y_l·(e_l + d_l) + Σ_i 2^(m-i)·Σ_t D_it·f_it + e·u + e1·s) + d_a·s + d_b
//! where e's and f's are noise of variance 21 / 2, d_l what the rounding of a message leaves, at most 1/2, D_it the digits of what is
//! merged at level i of m, and d_a, d_b what was rounded off the answer and what bringing it to 64 bits is off by. The coefficients
//! of all Y_l are c columns of R, so the proxy of the variance (plan.rs of the batch) is
//!     v = g²·(43/4·c·|R_z|² + 21/2·(4^m - 1) / 3·Σ|D|² + 21·N) + (2^a + 2t)²·N / 4 + (2^b + 2t)² / 4
//! for a and b bits rounded off and t = [`TORUS_ERROR`]; of d_a·s the sum is over s, given d_a. Digits are of first halves, which do
//! not depend on noise. The bound is taken at 2^-64 for an output. d_l is taken for uniform, as it is of an L that is uniform mod
//! 2^width: a mask.

use super::merge::{DIGITS, PARTS, digits_squared};
use crate::ntt::{N, SIDE};
use crate::plan::{MAX_ERROR, PlanError, SEED_BYTES};
use crate::rns::{PACKED, SCALE, TORUS_ERROR};
use crate::sample::TOSSES;
use kernels::ring::{add_assign, packed_len};
use std::ops::Range;

/// Blocks of rows of a product, each of which has a secret of its own, at most.
pub const MAX_SECRETS: usize = 16;

/// Most rows of a product.
const MAX_ROWS: usize = MAX_SECRETS * N;

/// Products that share a key, about.
const SHARING: usize = 8;

/// Most inner places and columns of a product, and most products.
const MAX_AXIS: usize = 1 << 20;

/// Picoseconds of a core for a transform modulo one prime; for a multiplication and addition modulo one; and of a link for a byte,
/// at a sixth of a gigabit a second. They weigh one cut against another; both parties need the same.
const TRANSFORM: u128 = 16_000_000;
const PRODUCT: u128 = 300;
/// What merging takes for each half beside the products of digits, in multiplications.
const MERGE: u128 = 7;
const BYTE: u128 = 48_000;

/// How far a result may be off, in units of its last place, if that can be had: 64, and more for results of more than 41 bits,
/// which are rescaled by as many more afterwards; 4096 at most.
pub fn good_error(width: u8) -> u64 {
    1 << width.saturating_sub(35).clamp(6, 12)
}

/// Products \[rows, depth\] x \[depth, columns\] of the same sizes, results mod 2^width; their matrices lie below one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    count: usize,
    /// Products whose blocks are side by side in a ciphertext. More than one if each product's matrix is one block.
    beside: usize,
    rows: usize,
    depth: usize,
    columns: usize,
    width: u8,
    norm_squared: u128,
    /// Rows, inner places and columns of a block: powers of two.
    block: [usize; 3],
    /// Parts that residues are cut into when ciphertexts are merged: 1 or 2.
    parts: usize,
    a_dropped: u8,
    b_dropped: u8,
}

/// Results of a block of columns: which product, and which block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    pub product: usize,
    pub columns: usize,
}

impl Plan {
    /// For server's columns whose sums of squares are at most `norm_squared`. Both parties need the same numbers.
    pub fn new(
        count: usize,
        [rows, depth, columns]: [usize; 3],
        width: u8,
        norm_squared: u128,
    ) -> Result<Plan, PlanError> {
        if !(1..=MAX_ROWS).contains(&rows) {
            return Err(PlanError::Rows { got: rows, most: MAX_ROWS });
        }
        if let Some(axis) = [count, depth, columns].into_iter().find(|axis| !(1..=MAX_AXIS).contains(axis)) {
            return Err(PlanError::Places { got: axis, most: MAX_AXIS });
        }
        if !(1..=64).contains(&width) {
            return Err(PlanError::Width(width));
        }
        let powers = |most: usize| (0..=most.ilog2()).map(|log| 1usize << log);
        // Errors that are no good last, then by cost.
        let mut best: Option<((u64, u128), Plan)> = None;
        for r in powers(N.min(rows.next_power_of_two())).filter(|r| rows.div_ceil(*r) <= MAX_SECRETS) {
            for k in powers((N / r).min(depth.next_power_of_two())) {
                let most = (N / (r * k)).min(columns.next_power_of_two());
                // Fewer columns leave room for other products.
                let alone = count == 1 || r < rows || k < depth;
                let cuts = powers(most).filter(|c| !alone || *c == most);
                for (c, parts) in cuts.flat_map(|c| (1..=PARTS).map(move |parts| (c, parts))) {
                    let beside = if alone { 1 } else { (N / (r * k * c)).min(count) };
                    let (block, a_dropped, b_dropped) = ([r, k, c], 0, 0);
                    let plan = Plan {
                        count,
                        beside,
                        rows,
                        depth,
                        columns,
                        width,
                        norm_squared,
                        block,
                        parts,
                        a_dropped,
                        b_dropped,
                    };
                    let plan = plan.rounded();
                    let badness = (plan.error_bound().max(good_error(width)), plan.cost());
                    if best.is_none_or(|(least, _)| badness < least) {
                        best = Some((badness, plan));
                    }
                }
            }
        }
        let (_, plan) = best.expect("a block of one row, place and column is a cut");
        plan.checked()
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
        let noise = (f64::from(TOSSES) / 2.0 * self.noise_squared() + self.merging()) * SCALE * SCALE;
        let level = noise.max(4f64.powi(64 - i32::from(self.width)));
        let bits = |most: f64| (0..63).take_while(|bits| 4f64.powi(bits + 1) <= most).count() as u8;
        Plan { a_dropped: bits(level / 131_072.0 * 9.0), b_dropped: bits(level / 256.0 * 3.0), ..self }
    }

    /// The greatest sum of squares of the coefficients that the server multiplies by for a result.
    fn noise_squared(&self) -> f64 {
        self.block[2].min(self.columns) as f64 * self.norm_squared as f64
    }

    /// The proxy of the variance of what merging adds, mod q.
    fn merging(&self) -> f64 {
        f64::from(TOSSES) / 2.0 * digits_squared(self.parts) * (4f64.powi(self.levels(self.leaves()) as i32) - 1.0)
            / 3.0
    }

    /// What making the product takes, in picoseconds: bytes on a link and work of a core, none of it at the same time.
    fn cost(&self) -> u128 {
        let (inner, halves) = (self.blocks()[1] as u128, self.secrets() as u128 + 1);
        let (uploads, leaves, answers) = (self.ciphertexts() as u128, self.leaves() as u128, self.answers() as u128);
        // Answers are merged of leaves, each a sum over inner places.
        let (merges, factors) = (leaves - answers, leaves * inner);
        // First halves are drawn twice; an answer's are turned at both parties.
        let transforms =
            3 * ((halves + 2) * uploads + 2 * halves * answers) + (3 + 3 * (self.parts * DIGITS) as u128) * merges;
        // Of a transform of which most steps are left out.
        let of_factor = match self.runs() {
            Some([_, ..=8]) => TRANSFORM,
            Some(_) => 2 * TRANSFORM,
            None => 4 * TRANSFORM,
        };
        let merging = MERGE + (self.parts * DIGITS) as u128;
        let products = (3 * N) as u128 * halves * (factors + merging * merges);
        let firsts = self.answers() * packed_len(N, 64 - self.a_dropped);
        let download = firsts + packed_len(self.results(), 64 - self.b_dropped);
        let bytes = (self.upload_bytes() + download + self.key_bytes() / SHARING) as u128;
        transforms * TRANSFORM + factors * of_factor + products * PRODUCT + bytes * BYTE
    }

    /// Bytes of all keys of automorphisms that it takes.
    fn key_bytes(&self) -> usize {
        self.distances().count() * self.parts * DIGITS * self.secrets() * PACKED
    }

    /// What making the product takes, in seconds of a core and of a link of a sixth of a gigabit.
    pub fn seconds(&self) -> f64 {
        self.cost() as f64 * 1e-12
    }

    /// How it is cut, for people.
    pub fn describe(&self) -> String {
        let ([r, k, c], parts) = (self.block, self.ciphertexts());
        format!("blocks of {r} rows, {k} places, {c} columns: {parts} ciphertexts, {} answers", self.answers())
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

    /// Results of all products.
    pub fn results(&self) -> usize {
        self.count * self.rows * self.columns
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

    /// Parts that residues are cut into when ciphertexts are merged.
    pub(crate) fn parts(&self) -> usize {
        self.parts
    }

    /// The keys of automorphisms that it takes: the logarithm of the distance, and the part.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let parts = self.parts;
        self.distances().flat_map(move |log| (0..parts).map(move |part| (log, part)))
    }

    /// Secrets that it takes: one for each block of rows.
    pub fn secrets(&self) -> usize {
        self.blocks()[0]
    }

    /// How many runs of coefficients, and of how many, the server multiplies by, if they lie in rows of a transform.
    pub(crate) fn runs(&self) -> Option<[usize; 2]> {
        let [r, k, _] = self.block;
        (k <= SIDE && r * k >= SIDE).then_some([N / (r * k), k])
    }

    /// Where the block of a product begins among the coefficients of its ciphertext.
    fn beside_at(&self, product: usize) -> usize {
        product % self.beside * self.block.iter().product::<usize>()
    }

    /// Ciphertexts of each secret: one for each block of inner places of each product, or for the products that are side by side.
    pub(crate) fn ciphertexts(&self) -> usize {
        if self.beside > 1 { self.count.div_ceil(self.beside) } else { self.count * self.blocks()[1] }
    }

    /// The first of the ciphertexts that a leaf is a sum over, one for each block of inner places.
    pub(crate) fn first_of(&self, leaf: Leaf) -> usize {
        if self.beside > 1 { leaf.product / self.beside } else { leaf.product * self.blocks()[1] }
    }

    /// What ciphertext l has of block i of rows: where among its coefficients, which row of the client's matrices and which inner places.
    pub(crate) fn rows_of(&self, i: usize, l: usize) -> Vec<(usize, usize, Range<usize>)> {
        let (k, inner) = (self.block[1], self.blocks()[1]);
        let (products, l) = match self.beside {
            1 => (l / inner..l / inner + 1, l % inner),
            beside => (l * beside..self.count.min((l + 1) * beside), 0),
        };
        let places = l * k..self.depth.min((l + 1) * k);
        let of = |product: usize| {
            let (first, places) = (self.beside_at(product), places.clone());
            (0..).zip(self.rows_in(i)).map(move |(x, row)| (first + k * x, product * self.rows + row, places.clone()))
        };
        products.flat_map(of).collect()
    }

    /// The rows of the server's matrices that the ciphertext of inner block l is multiplied by.
    pub(crate) fn factor_rows(&self, product: usize, l: usize) -> Range<usize> {
        let (k, first) = (self.block[1], product * self.depth);
        first + l * k..first + self.depth.min((l + 1) * k)
    }

    /// The columns of a block.
    pub(crate) fn columns_of(&self, block: usize) -> Range<usize> {
        let c = self.block[2];
        block * c..self.columns.min((block + 1) * c)
    }

    /// The rows of a block.
    pub(crate) fn rows_in(&self, block: usize) -> Range<usize> {
        let r = self.block[0];
        block * r..self.rows.min((block + 1) * r)
    }

    fn leaves(&self) -> usize {
        self.count * self.blocks()[2]
    }

    /// Answers: each of as many leaves as are merged.
    pub fn answers(&self) -> usize {
        self.leaves().div_ceil(self.block[1])
    }

    /// The leaves of an answer.
    pub(crate) fn leaves_of(&self, answer: usize) -> impl ExactSizeIterator<Item = Leaf> + Clone + use<> {
        let (columns, k) = (self.blocks()[2], self.block[1]);
        let leaf = move |leaf| Leaf { product: leaf / columns, columns: leaf % columns };
        (answer * k..self.leaves().min((answer + 1) * k)).map(leaf)
    }

    /// Levels in which so many leaves are merged, or as many as there are to an answer.
    pub(crate) fn levels(&self, leaves: usize) -> u32 {
        leaves.min(self.block[1]).next_power_of_two().ilog2()
    }

    /// The logarithm of the distance that ciphertexts are merged at in a level.
    pub(crate) fn distance(&self, level: u32) -> usize {
        (self.block[1].ilog2() - 1 - level) as usize
    }

    /// The logarithms of the distances of all levels.
    fn distances(&self) -> impl Iterator<Item = usize> + use<> {
        let plan = *self;
        (0..self.levels(self.leaves())).map(move |level| plan.distance(level))
    }

    /// Where the results of an answer's block of rows are, leaf after leaf and row after row: the place among the coefficients, and which
    /// of the answer's results.
    pub(crate) fn places(&self, answer: usize, block: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let plan = *self;
        let ([r, k, _], rows) = (self.block, self.rows_in(block));
        self.leaves_of(answer)
            .enumerate()
            .scan(0, move |results, (number, leaf)| {
                let first = *results;
                *results += plan.rows * plan.columns_of(leaf.columns).len();
                Some((number, leaf, first))
            })
            .flat_map(move |(number, leaf, result)| {
                let levels = (0..k.ilog2()).filter(|level| number >> level & 1 == 1);
                let first = plan.beside_at(leaf.product) + levels.map(|level| 1 << plan.distance(level)).sum::<usize>();
                let columns = plan.columns_of(leaf.columns).len();
                (0..).zip(rows.clone()).flat_map(move |(x, row)| {
                    (0..columns).map(move |z| (first + k * (x + r * z), result + row * columns + z))
                })
            })
    }

    /// Adds a party's share of some answers to that of all results.
    pub fn put(&self, answers: Range<usize>, share: &[u64], out: &mut [u64]) {
        let mut rest = share;
        for leaf in answers.flat_map(|answer| self.leaves_of(answer)) {
            let columns = self.columns_of(leaf.columns);
            for row in 0..self.rows {
                let first = (leaf.product * self.rows + row) * self.columns;
                let part = rest.split_off(..columns.len()).expect("a share of these answers");
                add_assign(&mut out[first + columns.start..first + columns.end], part);
            }
        }
        assert!(rest.is_empty(), "a share of these answers");
    }

    /// Answers whose bytes make up a message of a few megabytes.
    pub fn answers_at_once(&self) -> usize {
        (MESSAGE / self.answer_bytes(0..1)).max(1)
    }

    /// Bytes of the client's message, [`super::Client::encrypt`].
    pub fn upload_bytes(&self) -> usize {
        self.ciphertexts() * self.secrets() * PACKED
    }

    /// Results in some answers.
    pub(crate) fn results_of(&self, answers: Range<usize>) -> usize {
        let of = |leaf: Leaf| self.rows * self.columns_of(leaf.columns).len();
        answers.flat_map(|answer| self.leaves_of(answer)).map(of).sum()
    }

    /// Bytes of the server's message for some answers, [`super::Server::answer`].
    pub fn answer_bytes(&self, answers: Range<usize>) -> usize {
        let of = |answer: usize| {
            packed_len(N, 64 - self.a_dropped) + packed_len(self.results_of(answer..answer + 1), 64 - self.b_dropped)
        };
        answers.map(of).sum()
    }

    /// How far a result may be off, in units of its last place: more has probability 2^-64 at most an output.
    pub fn error_bound(&self) -> u64 {
        let n = N as f64;
        let range = self.dropped().map(|bits| 2f64.powi(bits.into()) + 2.0 * TORUS_ERROR as f64);
        let noise = (f64::from(TOSSES) / 2.0 + 0.25) * self.noise_squared() + self.merging() + f64::from(TOSSES) * n;
        let proxy = noise * SCALE * SCALE + range[0] * range[0] * n / 4.0 + range[1] * range[1] / 4.0;
        // 2·ln(2)·65 = 90.1: the exponent at which twice the tail is 2^-64.
        ((91.0 * proxy).sqrt() / 2f64.powi(self.shift() as i32)).ceil() as u64
    }
}

/// Bytes of a message of answers, about.
const MESSAGE: usize = 8 << 20;

/// Bytes of the first message, [`super::Client::key`].
pub const KEY_BYTES: usize = SEED_BYTES + MAX_SECRETS * PACKED;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(sizes: [usize; 3], width: u8, norm_squared: u128) -> Plan {
        Plan::new(1, sizes, width, norm_squared).unwrap()
    }

    #[test]
    fn results_have_places_of_their_own() {
        for (count, sizes) in [
            (1, [1, 1, 1]),
            (1, [1, 768, 5000]),
            (1, [128, 64, 128]),
            (2, [128, 768, 96]),
            (1, [16, 5000, 768]),
            (1, [4096, 30, 3]),
            (5, [3, 5, 7]),
            (130, [1, 768, 1]),
            (12, [1, 64, 200]),
        ] {
            let plan = Plan::new(count, sizes, 40, 1 << 30).unwrap();
            let ([r, k, c], blocks) = (plan.block(), plan.blocks());
            assert!(r * k * c * plan.beside <= N, "{plan:?}");
            assert!(
                [0, 1, 2]
                    .iter()
                    .all(|&i| blocks[i] * [r, k, c][i] >= sizes[i] && (blocks[i] - 1) * [r, k, c][i] < sizes[i])
            );
            let mut seen = 0;
            for answer in 0..plan.answers() {
                let mut results = std::collections::HashSet::new();
                for block in 0..plan.secrets() {
                    let mut places = std::collections::HashSet::new();
                    for (place, result) in plan.places(answer, block) {
                        assert!(place < N && places.insert(place) && results.insert(result), "{plan:?}");
                    }
                }
                assert!(
                    results.len() == plan.results_of(answer..answer + 1) && results.iter().all(|r| *r < results.len())
                );
                seen += results.len();
            }
            assert_eq!(seen, plan.results());
            // Every element of the client's matrices is in one ciphertext.
            let mut left = std::collections::HashSet::new();
            for (i, l) in (0..plan.secrets()).flat_map(|i| (0..plan.ciphertexts()).map(move |l| (i, l))) {
                for (at, row, places) in plan.rows_of(i, l) {
                    assert!(at + places.len() <= N && places.into_iter().all(|place| left.insert((row, place))));
                }
            }
            assert_eq!(left.len(), count * sizes[0] * sizes[1]);
        }
    }

    /// Both parties plan every product.
    #[test]
    fn planning_takes_no_time() {
        let begin = std::time::Instant::now();
        for sizes in [[1, 768, 50_257], [MAX_ROWS, MAX_AXIS, MAX_AXIS], [128, 50_257, 768]] {
            _ = Plan::new(12, sizes, 40, 1 << 30);
        }
        assert!(begin.elapsed().as_millis() < 1000, "{:?}", begin.elapsed());
    }

    #[test]
    fn sizes() {
        let bytes = |plan: &Plan| plan.upload_bytes() + plan.answer_bytes(0..plan.answers());
        // Queries times keys of the heads of GPT-2 small, 128 tokens: half a megabyte each.
        let p = Plan::new(12, [128, 64, 128], 36, 64 << 70).unwrap();
        assert!(bytes(&p) < 12 * 480_000, "{}, {p:?}", bytes(&p));
        assert!(p.error_bound() <= 4, "{}", p.error_bound());
        // One row times the vocabulary: of a batch, 1.4 GB.
        let p = plan([1, 768, 50_257], 40, 768 << 22);
        assert!(bytes(&p) < 2_500_000, "{}, {p:?}", bytes(&p));
        let parts = (0..p.answers()).map(|i| p.answer_bytes(i..i + 1)).sum::<usize>();
        assert_eq!(parts, p.answer_bytes(0..p.answers()));
        // Sums of squares of 128 rows of 768: one answer.
        let p = Plan::new(128, [1, 768, 1], 60, 768 << 40).unwrap();
        assert!(p.answers() == 1 && bytes(&p) < 2_000_000, "{}, {p:?}", bytes(&p));
    }

    #[test]
    fn limits() {
        let new = Plan::new;
        assert_eq!(new(1, [0, 1, 1], 40, 1), Err(PlanError::Rows { got: 0, most: MAX_ROWS }));
        assert_eq!(new(1, [1, 0, 1], 40, 1), Err(PlanError::Places { got: 0, most: MAX_AXIS }));
        assert_eq!(new(0, [1, 1, 1], 40, 1), Err(PlanError::Places { got: 0, most: MAX_AXIS }));
        let got = MAX_AXIS + 1;
        assert_eq!(new(1, [1, 1, got], 40, 1), Err(PlanError::Places { got, most: MAX_AXIS }));
        assert_eq!(new(1, [1, 1, 1], 65, 1), Err(PlanError::Width(65)));
        // Numbers of both parties as wide as the result: up to 46 bits or so in one piece.
        let both = |width: u8| new(1, [128, 64, 128], width, 64 << (2 * (width - 1)));
        assert!(both(44).unwrap().error_bound() <= 400, "{}", both(44).unwrap().error_bound());
        assert!(matches!(both(52), Err(PlanError::Error { width: 52, .. })));
    }
}
