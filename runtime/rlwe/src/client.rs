//! The client's side: it encrypts its matrix and has its share from the answers.

use crate::error::{Error, check_length};
use crate::ntt::N;
use crate::plan::{Plan, SEED_BYTES};
use crate::ring::{Prepared, Scratch, Transformed};
use crate::{public, sample, use_of};
use kernels::cpu::Cpu;
use kernels::prg::{Seed, Stream};
use kernels::ring::{Tensor, map_assign, mask, packed_len, sub_assign, unpack_range};
use rayon::prelude::*;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The client of one batch. Secrets are drawn for it and wiped with it, so that none serves two batches.
pub struct Client {
    plan: Plan,
    /// Public.
    seed: [u8; SEED_BYTES],
    /// First halves of ciphertexts.
    halves: Stream,
    noise: Stream,
    key_noise: Stream,
    secrets: Vec<Prepared>,
    /// Columns that are encrypted: a half and its noise serve once.
    encrypted: usize,
}

/// Memory of a thread. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Work {
    scratch: Scratch,
    transformed: Transformed,
    half: Vec<u64>,
    product: Vec<u64>,
    other: Vec<u64>,
}

impl Work {
    fn new() -> Work {
        let zeros = || vec![0; N];
        let (scratch, transformed) = (Scratch::new(), Transformed::new());
        Work { scratch, transformed, half: zeros(), product: zeros(), other: zeros() }
    }
}

impl Client {
    /// With randomness from the operating system.
    pub fn new(plan: Plan) -> Result<Client, Error> {
        let mut seed = [0; SEED_BYTES];
        getrandom::fill(&mut seed).map_err(Error::Random)?;
        Ok(Client::from_seeds(plan, seed, &Seed::random().map_err(Error::Random)?))
    }

    pub(crate) fn from_seeds(plan: Plan, seed: [u8; SEED_BYTES], private: &Seed) -> Client {
        let [ternary, noise, key_noise] = [0, 1, 2].map(|kind| private.stream(use_of(kind)));
        let mut work = Work::new();
        let secrets = (0..plan.secrets()).map(|i| {
            ternary.fill((i * N) as u64, 64, &mut work.other);
            sample::ternary(Cpu::get(), &mut work.other);
            work.transformed.set_small(&work.other, &mut work.scratch);
            work.transformed.prepared()
        });
        let secrets = secrets.collect();
        let halves = Seed::new(seed).stream(public::HALVES);
        Client { plan, seed, halves, noise, key_noise, secrets, encrypted: 0 }
    }

    /// The first message: the public seed, and for each secret the second half of an encryption of zero.
    pub fn key(&self) -> Vec<u8> {
        let mut work = Work::new();
        Seed::new(self.seed).stream(public::KEY).fill(0, 64, &mut work.half);
        work.transformed.set_whole(&work.half, &mut work.scratch);
        let mut key = self.seed.to_vec();
        for (i, secret) in self.secrets.iter().enumerate() {
            self.key_noise.fill((i * N) as u64, 64, &mut work.other);
            sample::noise(Cpu::get(), &mut work.other);
            secret.multiply(&work.transformed, &mut work.product, &mut work.scratch);
            sub_assign(&mut work.other, &work.product);
            key.extend(work.other.iter().flat_map(|x| x.to_le_bytes()));
        }
        assert_eq!(key.len(), self.plan.key_bytes(), "bytes of a key");
        key
    }

    /// The next message: the next columns of A, [rows, count], of which the low `width` bits count. Columns go in their
    /// order, each once; panics if there are more than the plan has.
    pub fn encrypt(&mut self, columns: &Tensor) -> Vec<u8> {
        let (rows, first, count) = (self.plan.rows(), self.encrypted, columns.shape[1]);
        assert!(columns.shape == [rows, count] && first + count <= self.plan.depth(), "columns of the client's matrix");
        self.encrypted += count;
        let columns = columns.transpose(&[1, 0]);
        let mut out = vec![0; self.plan.upload_bytes(count)];
        let tasks = out.par_chunks_exact_mut(rows * 8).zip(columns.data.par_chunks_exact(rows)).enumerate();
        tasks.for_each_init(Work::new, |work, (i, (out, column))| self.encrypt_one(first + i, column, work, out));
        out
    }

    fn encrypt_one(&self, number: usize, column: &[u64], work: &mut Work, out: &mut [u8]) {
        let Work { scratch, transformed, half, product, other } = work;
        let shift = self.plan.shift();
        self.halves.fill((number * N) as u64, 64, half);
        transformed.set_whole(half, scratch);
        for (i, (column, out)) in column.chunks(N).zip(out.chunks_mut(8 * N)).enumerate() {
            let (product, noise) = (&mut product[..column.len()], &mut other[..column.len()]);
            self.noise.fill(((number * self.secrets.len() + i) * N) as u64, 64, noise);
            sample::noise(Cpu::get(), noise);
            self.secrets[i].multiply(transformed, product, scratch);
            let parts = column.iter().zip(&*noise).zip(&*product);
            for (out, ((x, noise), product)) in out.as_chunks_mut().0.iter_mut().zip(parts) {
                *out = (x << shift).wrapping_add(*noise).wrapping_sub(*product).to_le_bytes();
            }
        }
    }

    /// The client's share C0 [rows, columns] of so many columns of the product, from the server's message.
    pub fn decrypt(&self, answer: &[u8], columns: usize) -> Result<Tensor, Error> {
        let plan = self.plan;
        check_length("answer", answer, plan.answer_bytes(columns))?;
        let mut share = Tensor::unset(&[columns, plan.rows()]);
        let tasks = share.data.par_chunks_exact_mut(plan.rows()).zip(answer.par_chunks_exact(plan.column_bytes()));
        tasks.for_each_init(Work::new, |work, (share, answer)| self.decrypt_one(answer, work, share));
        Ok(share.transpose(&[1, 0]))
    }

    fn decrypt_one(&self, answer: &[u8], work: &mut Work, share: &mut [u64]) {
        let Work { scratch, transformed, half, product, .. } = work;
        let ([a, b], shift) = (self.plan.dropped(), self.plan.shift());
        let (first, second) = answer.split_at(packed_len(N, 64 - a));
        unpack_range(first, 64 - a, 0, half);
        map_assign(half, move |x| x << a);
        transformed.set_whole(half, scratch);
        unpack_range(second, 64 - b, 0, share);
        for (secret, share) in self.secrets.iter().zip(share.chunks_mut(N)) {
            let product = &mut product[..share.len()];
            secret.multiply(transformed, product, scratch);
            let low = mask(self.plan.width());
            share.iter_mut().zip(&*product).for_each(|(x, y)| *x = (*x << b).wrapping_add(*y) >> shift & low);
        }
    }
}

#[cfg(test)]
impl Client {
    /// A fault: begins again with the randomness of the first column.
    pub(crate) fn restart(&mut self) {
        self.encrypted = 0;
    }

    /// A fault: secrets of zero.
    pub(crate) fn forget_secrets(&mut self) {
        self.restart();
        let zero = Transformed::new().prepared();
        self.secrets = vec![zero];
    }
}
