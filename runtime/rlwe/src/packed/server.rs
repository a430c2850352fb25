//! The server's side: it multiplies the client's ciphertexts by its matrices and hides what they tell of them.

use super::plan::{MAX_SECRETS, Plan, key_bytes};
use super::public;
use crate::error::{Error, check_length};
use crate::ntt::N;
use crate::plan::SEED_BYTES;
use crate::rns::{GROUP, PACKED, Scratch, Sums, Values};
use crate::{sample, use_of};
use kernels::cpu::Cpu;
use kernels::prg::{Seed, Stream};
use kernels::ring::{self, Tensor, map_assign, mask, packed_len};
use rayon::prelude::*;
use std::ops::Range;
use zeroize::{Zeroize, ZeroizeOnDrop};

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
    factors: Vec<Values>,
    /// Of the half that all rows share, then of those of the blocks of rows.
    sums: Vec<Sums>,
}

impl Work {
    fn new(secrets: usize) -> Work {
        Work {
            scratch: Scratch::new(),
            coefficients: vec![0; N],
            random: Values::new(),
            factors: vec![Values::new(); GROUP - 1],
            sums: vec![Sums::new(); secrets + 1],
        }
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
        let work = || Work::new(plan.secrets());
        let shares = places.into_par_iter().map_init(work, |work, (number, j, out)| {
            self.multiply(operand, right, j, number, work);
            self.hide(plan, j, number, work, out)
        });
        let shares: Vec<Tensor> = shares.collect();
        (message, plan.joined(&shares))
    }

    /// Makes the sums of answer j in `work`, an encryption of zero among them, under randomness number `number`.
    fn multiply(&self, operand: &Operand, right: Rows, j: usize, number: u64, work: &mut Work) {
        let Work { scratch, coefficients, random, factors, sums } = work;
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
        let of_answer = operand.plan.ciphertexts_of(j);
        for (group, ciphertexts) in operand.ciphertexts[of_answer.clone()].chunks(factors.len()).enumerate() {
            for (i, factor) in factors[..ciphertexts.len()].iter_mut().enumerate() {
                fill(&operand.plan, right, of_answer.start + group * (GROUP - 1) + i, j, coefficients);
                factor.set_signed(coefficients, scratch);
            }
            for (half, sums) in sums.iter_mut().enumerate() {
                sums.add_products(factors.iter().zip(ciphertexts.iter().map(|halves| &halves[half])));
            }
        }
    }

    /// Makes a message of the sums in `work`, and gives the server's share.
    fn hide(&self, plan: &Plan, j: usize, number: u64, work: &mut Work, message: &mut [u8]) -> Tensor {
        let Work { scratch, coefficients, sums, .. } = work;
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
