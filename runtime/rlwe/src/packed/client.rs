//! The client's side: it encrypts its matrices and reads its shares off the answers.

use super::plan::{Plan, key_bytes};
use super::public;
use crate::error::{Error, check_length};
use crate::ntt::N;
use crate::plan::SEED_BYTES;
use crate::ring::{Prepared, Scratch, Transformed};
use crate::rns::{self, PACKED, Values};
use crate::{sample, use_of};
use kernels::cpu::Cpu;
use kernels::prg::{Seed, Stream};
use kernels::ring::{Tensor, map_assign, mask, packed_len, unpack_range};
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
    /// With so many secrets, [`Plan::secrets`] of the greatest of its products, and randomness from the operating system.
    pub fn new(secrets: usize) -> Result<Client, Error> {
        let mut seed = [0; SEED_BYTES];
        getrandom::fill(&mut seed).map_err(Error::Random)?;
        Ok(Client::from_seeds(secrets, seed, &Seed::random().map_err(Error::Random)?))
    }

    pub(crate) fn from_seeds(secrets: usize, seed: [u8; SEED_BYTES], private: &Seed) -> Client {
        assert!(secrets <= super::MAX_SECRETS, "secrets of a client");
        let [ternary, noise, key_noise] = [0, 1, 2].map(|kind| private.stream(use_of(kind)));
        let mut work = Work::new();
        let secrets = (0..secrets).map(|i| {
            ternary.fill((i * N) as u64, 64, &mut work.noise);
            sample::ternary(Cpu::get(), &mut work.noise);
            work.transformed.set_small(&work.noise, &mut work.scratch);
            let mut values = Values::new();
            values.set_signed(&work.noise, &mut work.rns);
            Secret { values, prepared: work.transformed.prepared() }
        });
        let secrets = secrets.collect();
        let halves = Seed::new(seed).stream(public::HALVES);
        Client { seed, halves, noise, key_noise, secrets, encrypted: 0 }
    }

    /// The first message: the public seed, and for each secret the second half of an encryption of zero.
    pub fn key(&self) -> Vec<u8> {
        let mut work = Work::new();
        work.half.set_uniform(&Seed::new(self.seed).stream(public::KEY), 0, &mut work.rns);
        let mut key = vec![0; key_bytes(self.secrets.len())];
        let (seed, halves) = key.split_at_mut(SEED_BYTES);
        seed.copy_from_slice(&self.seed);
        for (i, (secret, out)) in self.secrets.iter().zip(halves.chunks_exact_mut(PACKED)).enumerate() {
            self.key_noise.fill((i * N) as u64, 64, &mut work.noise);
            sample::noise(Cpu::get(), &mut work.noise);
            work.message.set_signed(&work.noise, &mut work.rns);
            work.message.sub_product(&work.half, &secret.values, &mut work.rns);
            work.message.pack(&mut work.rns, out);
        }
        key
    }

    /// The message for a product: L [rows, depth], or those of several below one another, of which the low `width` bits count.
    /// Products go in the order in which the server receives them.
    pub fn encrypt(&mut self, plan: &Plan, left: &[u64]) -> Vec<u8> {
        assert_eq!(left.len(), plan.count() * plan.rows() * plan.depth(), "elements of the client's matrix");
        assert!(plan.secrets() <= self.secrets.len(), "secrets of the client");
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

    /// Makes a ciphertext's second half in `work`, of a block of rows and one of inner places; its first half is there.
    fn encrypt_one(&self, plan: &Plan, left: &[u64], [i, l]: [usize; 2], number: u64, work: &mut Work) {
        work.coefficients.fill(0);
        for (at, row, places) in plan.rows_of(i, l) {
            let values = &left[row * plan.depth()..][places.clone()];
            work.coefficients[at..at + places.len()].copy_from_slice(values);
        }
        self.noise.fill((number * super::MAX_SECRETS as u64 + i as u64) * N as u64, 64, &mut work.noise);
        sample::noise(Cpu::get(), &mut work.noise);
        work.message.set_message(&mut work.coefficients, &work.noise, plan.width(), &mut work.rns);
        work.message.sub_product(&work.half, &self.secrets[i].values, &mut work.rns);
    }

    /// The client's share C0 of the rows and columns of some answers ([`Plan::rows_in`], [`Plan::columns_of`]), from the server's
    /// message.
    pub fn decrypt(&self, plan: &Plan, answers: Range<usize>, message: &[u8]) -> Result<Tensor, Error> {
        check_length("answer", message, plan.answer_bytes(answers.clone()))?;
        let mut rest = message;
        let parts: Vec<(usize, &[u8])> = answers
            .map(|j| (j, rest.split_off(..plan.answer_bytes(j..j + 1)).expect("bytes of all answers")))
            .collect();
        let shares = parts.into_par_iter().map_init(Work::new, |work, (j, part)| self.decrypt_one(plan, j, part, work));
        let shares: Vec<Tensor> = shares.collect();
        Ok(plan.joined(&shares))
    }

    fn decrypt_one(&self, plan: &Plan, j: usize, answer: &[u8], work: &mut Work) -> Tensor {
        let Work { scratch, transformed, coefficients, noise: product, .. } = work;
        let ([a, b], shift, low) = (plan.dropped(), plan.shift(), mask(plan.width()));
        let (count, rows) = (plan.columns_of(j..j + 1).len(), plan.rows());
        let (first, second) = answer.split_at(packed_len(N, 64 - a));
        unpack_range(first, 64 - a, 0, coefficients);
        map_assign(coefficients, move |x| x << a);
        transformed.set_whole(coefficients, scratch);
        let mut share = Tensor::unset(&[rows, count]);
        unpack_range(second, 64 - b, 0, &mut share.data);
        let blocks = share.data.chunks_mut(plan.block()[0] * count);
        for (secret, share) in self.secrets.iter().zip(blocks) {
            secret.prepared.multiply(transformed, product, scratch);
            for (x, share) in share.chunks_exact_mut(count).enumerate() {
                for (z, share) in share.iter_mut().enumerate() {
                    *share = (*share << b).wrapping_add(product[plan.place(j, x, z)]) >> shift & low;
                }
            }
        }
        share
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
}
