//! The client's side: it encrypts its matrices and reads its shares off the answers.

use super::merge::{self, Known, key_number};
use super::plan::{KEY_BYTES, MAX_SECRETS, Plan};
use super::public;
use crate::error::{Error, check_length};
use crate::ntt::N;
use crate::plan::SEED_BYTES;
use crate::ring::{Prepared, Scratch, Transformed};
use crate::rns::{self, PACKED, Values};
use crate::{sample, use_of};
use kernels::cpu::Cpu;
use kernels::prg::{Seed, Stream};
use kernels::ring::{Buffer, map_assign, mask, packed_len, unpack_range};
use rayon::prelude::*;
use std::ops::Range;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret in the forms that products with it take.
struct Secret {
    /// For ciphertexts, mod q.
    values: Values,
    /// For answers, mod 2^64.
    prepared: Prepared,
}

/// The client of a session's products.
pub struct Client {
    seed: [u8; SEED_BYTES],
    halves: Stream,
    noise: Stream,
    key_noise: Stream,
    secrets: Vec<Secret>,
    /// Ciphertexts of all products: each first half serves once.
    encrypted: u64,
    /// For how many secrets the server has the keys of each distance.
    known: Known,
}

/// Memory of a thread. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Work {
    scratch: Scratch,
    transformed: Transformed,
    rns: rns::Scratch,
    half: Values,
    message: Values,
    coefficients: Vec<u64>,
    noise: Vec<u64>,
}

impl Work {
    fn new() -> Work {
        let zeros = || vec![0; N];
        let (scratch, transformed, rns) = (Scratch::new(), Transformed::new(), rns::Scratch::new());
        let (half, message) = (Values::new(), Values::new());
        Work { scratch, transformed, rns, half, message, coefficients: zeros(), noise: zeros() }
    }
}

impl Client {
    /// With randomness from the operating system.
    pub fn new() -> Result<Client, Error> {
        let mut seed = [0; SEED_BYTES];
        getrandom::fill(&mut seed).map_err(Error::Random)?;
        Ok(Client::from_seeds(seed, &Seed::random().map_err(Error::Random)?))
    }

    pub(crate) fn from_seeds(seed: [u8; SEED_BYTES], private: &Seed) -> Client {
        let [ternary, noise, key_noise] = [0, 1, 2].map(|kind| private.stream(use_of(kind)));
        let mut work = Work::new();
        let secrets = (0..MAX_SECRETS).map(|i| {
            ternary.fill((i * N) as u64, 64, &mut work.noise);
            sample::ternary(Cpu::get(), &mut work.noise);
            work.transformed.set_small(&work.noise, &mut work.scratch);
            let mut values = Values::new();
            values.set_signed(&work.noise, &mut work.rns);
            Secret { values, prepared: work.transformed.prepared() }
        });
        let secrets = secrets.collect();
        let halves = Seed::new(seed).stream(public::HALVES);
        Client { seed, halves, noise, key_noise, secrets, encrypted: 0, known: Known::default() }
    }

    /// The first message: the public seed, and for each secret the second half of an encryption of zero.
    pub fn key(&self) -> Vec<u8> {
        let mut work = Work::new();
        work.half.set_uniform(&Seed::new(self.seed).stream(public::KEY), 0, &mut work.rns);
        let mut key = vec![0; KEY_BYTES];
        let (seed, halves) = key.split_at_mut(SEED_BYTES);
        seed.copy_from_slice(&self.seed);
        for (i, out) in halves.chunks_exact_mut(PACKED).enumerate() {
            self.encrypt_zero(0, i, &mut work);
            work.message.pack(&mut work.rns, out);
        }
        key
    }

    /// The keys of the automorphisms that a plan takes and the server does not have yet, for its secrets; of no byte if it has all.
    /// To be sent before the product.
    pub fn merge_keys(&mut self, plan: &Plan) -> Vec<u8> {
        let lacking = self.known.learn(plan);
        let mut message = vec![0; lacking.len() * PACKED];
        let halves = Seed::new(self.seed).stream(public::MERGE_KEYS);
        let tasks = message.par_chunks_exact_mut(PACKED).zip(lacking);
        tasks.for_each_init(Work::new, |work, (out, (log, part, i, digit))| {
            let number = key_number(log, part, digit);
            work.half.set_uniform(&halves, number, &mut work.rns);
            self.encrypt_zero(1 + number, i, work);
            merge::set_image(&self.secrets[i].values, log, &mut work.half);
            merge::add_digit(&mut work.message, digit, part, &work.half);
            work.message.pack(&mut work.rns, out);
        });
        message
    }

    /// The second half of an encryption of zero, to the first half that is in `work` and has this number.
    fn encrypt_zero(&self, number: u64, secret: usize, work: &mut Work) {
        self.key_noise.fill((number * MAX_SECRETS as u64 + secret as u64) * N as u64, 64, &mut work.noise);
        sample::noise(Cpu::get(), &mut work.noise);
        work.message.set_signed(&work.noise, &mut work.rns);
        work.message.sub_product(&work.half, &self.secrets[secret].values, &mut work.rns);
    }

    /// The message for a product: L [rows, depth], or those of several below one another, of which the low `width` bits count.
    /// Products go in the order in which the server receives them.
    pub fn encrypt(&mut self, plan: &Plan, left: &[u64]) -> Vec<u8> {
        assert_eq!(left.len(), plan.count() * plan.rows() * plan.depth(), "elements of the client's matrix");
        let first = self.encrypted;
        self.encrypted += plan.ciphertexts() as u64;
        let mut message = vec![0; plan.upload_bytes()];
        let tasks = message.par_chunks_exact_mut(plan.secrets() * PACKED).enumerate();
        tasks.for_each_init(Work::new, |work, (l, out)| {
            work.half.set_uniform(&self.halves, first + l as u64, &mut work.rns);
            for (i, out) in out.chunks_exact_mut(PACKED).enumerate() {
                self.encrypt_one(plan, left, [i, l], first + l as u64, work);
                work.message.pack(&mut work.rns, out);
            }
        });
        message
    }

    /// Makes a ciphertext's second half in `work`, of a block of rows; its first half is there.
    fn encrypt_one(&self, plan: &Plan, left: &[u64], [i, l]: [usize; 2], number: u64, work: &mut Work) {
        work.coefficients.fill(0);
        for (at, row, places) in plan.rows_of(i, l) {
            let values = &left[row * plan.depth()..][places.clone()];
            work.coefficients[at..at + places.len()].copy_from_slice(values);
        }
        self.noise.fill((number * MAX_SECRETS as u64 + i as u64) * N as u64, 64, &mut work.noise);
        sample::noise(Cpu::get(), &mut work.noise);
        work.message.set_message(&mut work.coefficients, &work.noise, plan.width(), &mut work.rns);
        work.message.sub_product(&work.half, &self.secrets[i].values, &mut work.rns);
    }

    /// The client's share C0 of the results of some answers, for [`Plan::put`], from the server's message.
    pub fn decrypt(&self, plan: &Plan, answers: Range<usize>, message: &[u8]) -> Result<Buffer, Error> {
        check_length("answer", message, plan.answer_bytes(answers.clone()))?;
        let (mut share, mut rest, mut parts) = (Buffer::zeros(plan.results_of(answers.clone())), message, Vec::new());
        let mut shares = &mut share[..];
        for j in answers {
            let part = rest.split_off(..plan.answer_bytes(j..j + 1)).expect("bytes of all answers");
            let share = shares.split_off_mut(..plan.results_of(j..j + 1)).expect("results of all answers");
            parts.push((j, part, share));
        }
        let each = parts.into_par_iter();
        each.for_each_init(Work::new, |work, (j, part, share)| self.decrypt_one(plan, j, part, share, work));
        Ok(share)
    }

    fn decrypt_one(&self, plan: &Plan, j: usize, answer: &[u8], share: &mut [u64], work: &mut Work) {
        let Work { scratch, transformed, coefficients, noise: product, .. } = work;
        let ([a, b], shift, low) = (plan.dropped(), plan.shift(), mask(plan.width()));
        let (first, second) = answer.split_at(packed_len(N, 64 - a));
        unpack_range(first, 64 - a, 0, coefficients);
        map_assign(coefficients, move |x| x << a);
        transformed.set_whole(coefficients, scratch);
        unpack_range(second, 64 - b, 0, share);
        for (i, secret) in self.secrets[..plan.secrets()].iter().enumerate() {
            secret.prepared.multiply(transformed, product, scratch);
            for (place, result) in plan.places(j, i) {
                share[result] = (share[result] << b).wrapping_add(product[place]) >> shift & low;
            }
        }
    }
}

#[cfg(test)]
impl Client {
    /// A fault: begins again with the randomness of the first product.
    pub(crate) fn restart(&mut self) {
        self.encrypted = 0;
    }

    /// A fault: secrets of zero.
    pub(crate) fn forget_secrets(&mut self) {
        self.restart();
        for secret in &mut self.secrets {
            *secret = Secret { values: Values::new(), prepared: Transformed::new().prepared() };
        }
    }

    /// A fault: the server is thought to have no keys of automorphisms.
    pub(crate) fn forget_keys(&mut self) {
        self.known = Known::default();
    }
}
