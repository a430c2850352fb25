//! The server's side: it multiplies the client's ciphertexts by its matrices and hides what they tell of them.

use super::plan::{MAX_SECRETS, Plan, key_bytes};
use super::public;
use crate::error::{Error, check_length};
use crate::ntt::N;
use crate::plan::SEED_BYTES;
use crate::rns::{BLOCKS, GROUP, PACKED, Scratch, Sums, Values};
use crate::{sample, use_of};
use kernels::cpu::Cpu;
use kernels::prg::{Seed, Stream};
use kernels::ring::{self, Tensor, map_assign, mask, packed_len};
use rayon::prelude::*;
use std::ops::Range;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Answers that are made together, at most.
const TILE: usize = 4;

/// The server of a session's products.
pub struct Server {
    halves: Stream,
    /// Halves of encryptions of zero: the one that secrets share, then one for each of them.
    key: Vec<Values>,
    ternary: Stream,
    noise: Stream,
    masks: Stream,
    /// Ciphertexts that were received, by their first halves.
    received: u64,
    /// Answers: their randomness serves once.
    answered: u64,
}

/// The client's ciphertexts of one product.
pub struct Operand {
    pub(super) plan: Plan,
    /// For each ciphertext the half that all rows share, then one for each block of rows.
    ciphertexts: Vec<Vec<Values>>,
}

/// Memory of a thread. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Work {
    scratch: Scratch,
    coefficients: Vec<u64>,
    random: Values,
    /// Of each answer of a tile.
    parts: Vec<Part>,
}

/// What an answer is made of.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Part {
    factors: Vec<Values>,
    /// Of the half that all rows share, then of those of the blocks of rows.
    sums: Vec<Sums>,
}

impl Work {
    fn new(secrets: usize, tile: usize) -> Work {
        let part = || Part { factors: vec![Values::new(); GROUP - 1], sums: vec![Sums::new(); secrets + 1] };
        let parts = (0..tile).map(|_| part()).collect();
        Work { scratch: Scratch::new(), coefficients: vec![0; N], random: Values::new(), parts }
    }
}

/// A run of a row of the server's matrix, as signed integers mod 2^64: row, first column, and where to put it.
pub type Rows<'r> = &'r (dyn Fn(usize, usize, &mut [u64]) + Sync);

impl Server {
    /// For the client of this first message, with so many secrets, and randomness from the operating system.
    pub fn new(secrets: usize, key: &[u8]) -> Result<Server, Error> {
        Server::from_seed(secrets, key, &Seed::random().map_err(Error::Random)?)
    }

    pub(crate) fn from_seed(secrets: usize, key: &[u8], private: &Seed) -> Result<Server, Error> {
        check_length("key", key, key_bytes(secrets))?;
        let (seed, halves) = key.split_first_chunk::<SEED_BYTES>().expect("as long as a key");
        let (seed, mut scratch, mut shared) = (Seed::new(*seed), Scratch::new(), Values::new());
        shared.set_uniform(&seed.stream(public::KEY), 0, &mut scratch);
        let mut key = vec![shared];
        for half in halves.chunks_exact(PACKED) {
            key.push(Values::unpack(half, &mut scratch).ok_or(Error::Residue { what: "key" })?);
        }
        let [ternary, noise, masks] = [0, 1, 2].map(|kind| private.stream(use_of(kind)));
        Ok(Server { halves: seed.stream(public::HALVES), key, ternary, noise, masks, received: 0, answered: 0 })
    }

    /// Takes the client's message for its next product.
    pub fn receive(&mut self, plan: &Plan, message: &[u8]) -> Result<Operand, Error> {
        check_length("matrix", message, plan.upload_bytes())?;
        assert!(plan.secrets() < self.key.len(), "secrets of the client");
        let first = self.received;
        self.received += plan.ciphertexts() as u64;
        let halves = &self.halves;
        let blocks = message.par_chunks_exact(plan.secrets() * PACKED).enumerate();
        let ciphertexts = blocks.map_init(Scratch::new, |scratch, (l, bytes)| {
            let mut shared = Values::new();
            shared.set_uniform(halves, first + l as u64, scratch);
            let mut ciphertexts = vec![shared];
            for bytes in bytes.chunks_exact(PACKED) {
                ciphertexts.push(Values::unpack(bytes, scratch).ok_or(Error::Residue { what: "matrix" })?);
            }
            Ok(ciphertexts)
        });
        Ok(Operand { plan: *plan, ciphertexts: ciphertexts.collect::<Result<_, Error>>()? })
    }

    /// The message for some answers, and the server's share C1 of their rows and columns, for its matrix R [depth, columns], or
    /// those of several products below one another, whose columns have sums of squares within the plan's. Each answer once.
    pub fn answer(&mut self, operand: &Operand, right: Rows, answers: Range<usize>) -> (Vec<u8>, Tensor) {
        let plan = &operand.plan;
        let first = self.answered;
        self.answered += answers.len() as u64;
        let (mut message, mut places) = (vec![0; plan.answer_bytes(answers.clone())], Vec::new());
        let mut rest = &mut message[..];
        for (number, j) in (first..).zip(answers) {
            let bytes = plan.answer_bytes(j..j + 1);
            places.push((number, j, rest.split_off_mut(..bytes).expect("bytes of all answers")));
        }
        // A tile's answers read each ciphertext once, unless they are of different products.
        let each = places.len() / (4 * rayon::current_num_threads());
        let tile = if plan.count() > 1 { 1 } else { each.clamp(1, TILE) };
        let work = || Work::new(plan.secrets(), tile);
        let shares = places.par_chunks_mut(tile).map_init(work, |work, places| {
            self.multiply(operand, right, places, work);
            let hide = |(at, (number, j, out)): (usize, &mut (u64, usize, &mut [u8]))| {
                self.hide(plan, *j, *number, at, work, out)
            };
            places.iter_mut().enumerate().map(hide).collect::<Vec<_>>()
        });
        let shares: Vec<Tensor> = shares.collect::<Vec<_>>().into_iter().flatten().collect();
        (message, plan.joined(&shares))
    }

    /// Makes the sums of neighbouring answers in `work`, each with an encryption of zero, under the randomness of their numbers.
    fn multiply(&self, operand: &Operand, right: Rows, places: &[(u64, usize, &mut [u8])], work: &mut Work) {
        let Work { scratch, coefficients, random, parts } = work;
        let parts = &mut parts[..places.len()];
        for ((number, ..), Part { sums, .. }) in places.iter().zip(&mut *parts) {
            self.ternary.fill(number * N as u64, 64, coefficients);
            sample::ternary(Cpu::get(), coefficients);
            random.set_signed(coefficients, scratch);
            for (key, sums) in self.key.iter().zip(sums.iter_mut()) {
                sums.clear();
                sums.add_products(std::iter::once((&*random, key)));
            }
            self.noise.fill(number * N as u64, 64, coefficients);
            sample::noise(Cpu::get(), coefficients);
            random.set_signed(coefficients, scratch);
            sums[0].add(random);
        }
        let of_answers = operand.plan.ciphertexts_of(places[0].1);
        let groups = operand.ciphertexts[of_answers.clone()].chunks(GROUP - 1);
        for (first, ciphertexts) in of_answers.step_by(GROUP - 1).zip(groups) {
            for ((_, j, _), Part { factors, .. }) in places.iter().zip(&mut *parts) {
                for (l, factor) in (first..).zip(&mut factors[..ciphertexts.len()]) {
                    fill(&operand.plan, right, l, *j, coefficients);
                    factor.set_signed(coefficients, scratch);
                }
            }
            for block in 0..BLOCKS {
                for half in 0..=operand.plan.secrets() {
                    for Part { factors, sums } in &mut *parts {
                        let halves = ciphertexts.iter().map(|halves| &halves[half]);
                        sums[half].add_block(block, factors.iter().zip(halves));
                    }
                }
            }
        }
    }

    /// Makes a message of the sums in part `at` of `work`, and gives the server's share.
    fn hide(&self, plan: &Plan, j: usize, number: u64, at: usize, work: &mut Work, message: &mut [u8]) -> Tensor {
        let Work { scratch, coefficients, parts, .. } = work;
        let sums = &mut parts[at].sums;
        let ([a, b], shift, low) = (plan.dropped(), plan.shift(), mask(plan.width()));
        let count = plan.columns_of(j..j + 1).len();
        let (first, second) = message.split_at_mut(packed_len(N, 64 - a));
        // Half of the last place that is sent, or nothing.
        let round = |x: u64, bits: u8| x.wrapping_add((1 << bits) >> 1) >> bits;
        sums[0].coefficients(coefficients, scratch);
        map_assign(coefficients, move |x| round(x, a));
        ring::pack_into(coefficients, 64 - a, first);
        let mut share = Tensor::unset(&[plan.rows(), count]);
        self.masks.fill(number * (MAX_SECRETS * N) as u64, 64, &mut share.data);
        let mut sent = share.data.clone();
        for (sums, sent) in sums[1..].iter_mut().zip(sent.chunks_mut(plan.block()[0] * count)) {
            sums.coefficients(coefficients, scratch);
            for (x, sent) in sent.chunks_exact_mut(count).enumerate() {
                for (z, sent) in sent.iter_mut().enumerate() {
                    *sent = round(sent.wrapping_add(coefficients[plan.place(j, x, z)]), b);
                }
            }
        }
        ring::pack_into(&sent, 64 - b, second);
        map_assign(&mut share.data, move |x| (x >> shift).wrapping_neg() & low);
        share
    }
}

/// The coefficients by which ciphertext l is multiplied for answer j.
fn fill(plan: &Plan, right: Rows, l: usize, j: usize, coefficients: &mut [u64]) {
    let ([r, k, _], columns) = (plan.block(), plan.columns_of(j..j + 1));
    let mut run = vec![0; columns.len()];
    coefficients.fill(0);
    for (y, place) in plan.factor_rows(l, j).enumerate() {
        right(place, columns.start, &mut run);
        for (out, value) in coefficients[k - 1 - y..].iter_mut().step_by(r * k).zip(&run) {
            *out = *value;
        }
    }
    run.zeroize();
}

#[cfg(test)]
impl Server {
    /// A fault: goes back by so many answers of randomness.
    pub(crate) fn restart(&mut self, answers: u64) {
        self.answered -= answers;
    }

    /// A fault: encryptions of zero whose first half is but noise.
    pub(crate) fn forget_key(&mut self) {
        self.key[0] = Values::new();
    }
}
