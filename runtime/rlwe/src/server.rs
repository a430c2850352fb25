//! The server's side: it multiplies the client's ciphertexts by its matrix and hides what they tell of it.

use crate::error::{Error, check_length};
use crate::ntt::N;
use crate::plan::{Plan, SEED_BYTES};
use crate::ring::{Prepared, Scratch, Transformed};
use crate::{public, sample, use_of};
use kernels::cpu::Cpu;
use kernels::prg::{Seed, Stream};
use kernels::ring::{self, Buffer, Cell, Tensor, add_assign, map_assign, mask, packed_len};
use rayon::prelude::*;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Columns that are received at once: their first halves are made together.
const CHUNK: usize = 64;

/// Coefficients that are moved together: a cache line.
const LINE: usize = 8;

/// Coefficients whose products are turned together, while they are in the second-level cache.
const BLOCK: usize = 512;

/// The server of one batch.
pub struct Server {
    plan: Plan,
    /// First halves of ciphertexts.
    halves: Stream,
    /// Halves of encryptions of zero: the one that secrets share, then one for each of them.
    key: Vec<Prepared>,
    /// Coefficients of ciphertexts [N + rows, depth]: a coefficient of all columns side by side.
    ciphertexts: Buffer,
    received: usize,
    ternary: Stream,
    noise: Stream,
    masks: Stream,
    /// Columns of all answers: their randomness serves once.
    answered: u64,
}

/// Memory of a thread. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Work {
    scratch: Scratch,
    transformed: Transformed,
    random: Vec<u64>,
    product: Vec<u64>,
    /// Of a ciphertext.
    halves: Vec<u64>,
}

impl Work {
    fn new() -> Work {
        let (scratch, transformed) = (Scratch::new(), Transformed::new());
        Work { scratch, transformed, random: vec![0; N], product: vec![0; N], halves: Vec::new() }
    }
}

impl Server {
    /// For the client of this first message, with randomness from the operating system.
    pub fn new(plan: Plan, key: &[u8]) -> Result<Server, Error> {
        Server::from_seed(plan, key, &Seed::random().map_err(Error::Random)?)
    }

    pub(crate) fn from_seed(plan: Plan, key: &[u8], private: &Seed) -> Result<Server, Error> {
        check_length("key", key, plan.key_bytes())?;
        let (seed, key) = key.split_first_chunk::<SEED_BYTES>().expect("as long as a key");
        let seed = Seed::new(*seed);
        let mut work = Work::new();
        seed.stream(public::KEY).fill(0, 64, &mut work.product);
        work.transformed.set_whole(&work.product, &mut work.scratch);
        let mut prepared = vec![work.transformed.prepared()];
        for half in key.as_chunks().0.chunks_exact(N) {
            work.product.iter_mut().zip(half).for_each(|(x, bytes)| *x = u64::from_le_bytes(*bytes));
            work.transformed.set_whole(&work.product, &mut work.scratch);
            prepared.push(work.transformed.prepared());
        }
        let [ternary, noise, masks] = [0, 1, 2].map(|kind| private.stream(use_of(kind)));
        let (halves, ciphertexts) = (seed.stream(public::HALVES), Buffer::zeros((N + plan.rows()) * plan.depth()));
        Ok(Server { plan, halves, key: prepared, ciphertexts, received: 0, ternary, noise, masks, answered: 0 })
    }

    /// Takes the client's next columns and gives the number of those that are still to come.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let (column, left) = (self.plan.upload_bytes(1), self.plan.depth() - self.received);
        if !bytes.len().is_multiple_of(column) || bytes.len() / column > left {
            return Err(Error::Columns { got: bytes.len(), column, left });
        }
        let (rows, depth) = (self.plan.rows(), self.plan.depth());
        for bytes in bytes.chunks(CHUNK * column) {
            let (first, count) = (self.received, bytes.len() / column);
            let mut halves = Buffer::unset(count * N);
            self.halves.fill((first * N) as u64, 64, &mut halves);
            let (a, b) = self.ciphertexts.split_at_mut(N * depth);
            let places = |out: &mut [u64], place: &dyn Fn(usize, usize) -> u64| {
                for column in 0..count {
                    for (i, line) in out.chunks_exact_mut(depth).enumerate() {
                        line[first + column] = place(column, i);
                    }
                }
            };
            a.par_chunks_mut(LINE * depth).enumerate().for_each(|(line, out)| {
                places(out, &|column, i| halves[column * N + line * LINE + i]);
            });
            let words = bytes.as_chunks().0;
            b.par_chunks_mut(LINE * depth).enumerate().for_each(|(line, out)| {
                places(out, &|column, i| u64::from_le_bytes(words[column * rows + line * LINE + i]));
            });
            self.received += count;
        }
        Ok(self.plan.depth() - self.received)
    }

    /// The message for so many columns of W, [depth, columns], and the server's share C1 [rows, columns] of their product. Any
    /// columns, in any order: both parties know which they are. Panics before all of the client's columns are there, and if a
    /// column's sum of squares is more than the plan's.
    pub fn answer<B: Cell>(&mut self, weights: &[B], columns: usize) -> (Vec<u8>, Tensor) {
        let plan = self.plan;
        assert_eq!(self.received, plan.depth(), "columns of the client's matrix");
        assert_eq!(weights.len(), plan.depth() * columns, "weights of {columns} columns");
        let mut norms = vec![0u128; columns];
        for row in weights.chunks_exact(columns.max(1)) {
            for (norm, weight) in norms.iter_mut().zip(row) {
                *norm = norm.saturating_add(u128::from((weight.widen() as i64).unsigned_abs()).pow(2));
            }
        }
        assert!(norms.iter().all(|norm| *norm <= plan.norm_squared().into()), "a column of weights is beyond the plan");
        // By blocks of coefficients: [columns, coefficients].
        let products = self.ciphertexts.par_chunks(BLOCK * plan.depth()).map(|coefficients| {
            let height = coefficients.len() / plan.depth();
            let mut sums = Tensor::unset(&[height, columns]);
            ring::matmul(coefficients, weights, height, plan.depth(), columns, 64, &mut sums.data);
            sums.transpose(&[1, 0])
        });
        let products: Vec<Tensor> = products.collect();
        let first = self.answered;
        self.answered += columns as u64;
        let (mut message, mut share) = (vec![0; plan.answer_bytes(columns)], Tensor::unset(&[columns, plan.rows()]));
        let places =
            message.par_chunks_exact_mut(plan.column_bytes()).zip(share.data.par_chunks_exact_mut(plan.rows()));
        places.enumerate().for_each_init(Work::new, |work, (i, (message, share))| {
            let parts = products.iter().map(|part| &part.data[i * part.shape[1]..(i + 1) * part.shape[1]]);
            work.halves.clear();
            parts.for_each(|part| work.halves.extend_from_slice(part));
            self.hide(first + i as u64, work, message, share);
        });
        (message, share.transpose(&[1, 0]))
    }

    /// Makes a message of the ciphertext in `work`, under randomness number `number`.
    fn hide(&self, number: u64, work: &mut Work, message: &mut [u8], share: &mut [u64]) {
        let Work { scratch, transformed, random, product, halves } = work;
        let ([a, b], shift, low) = (self.plan.dropped(), self.plan.shift(), mask(self.plan.width()));
        let (first, second) = halves.split_at_mut(N);
        self.ternary.fill(number * N as u64, 64, random);
        sample::ternary(Cpu::get(), random);
        transformed.set_small(random, scratch);
        self.key[0].multiply(transformed, product, scratch);
        self.noise.fill(number * N as u64, 64, random);
        sample::noise(Cpu::get(), random);
        add_assign(random, product);
        add_assign(first, random);
        self.masks.fill(number * self.plan.rows() as u64, 64, share);
        add_assign(second, share);
        for (key, second) in self.key[1..].iter().zip(second.chunks_mut(N)) {
            let product = &mut product[..second.len()];
            key.multiply(transformed, product, scratch);
            add_assign(second, product);
        }
        map_assign(share, move |x| (x >> shift).wrapping_neg() & low);
        let (first_bytes, second_bytes) = message.split_at_mut(packed_len(N, 64 - a));
        for (sums, bits, bytes) in [(first, a, first_bytes), (second, b, second_bytes)] {
            // Half of the last place that is sent, or nothing.
            map_assign(sums, move |x| x.wrapping_add((1 << bits) >> 1) >> bits);
            ring::pack_into(sums, 64 - bits, bytes);
        }
    }
}

#[cfg(test)]
impl Server {
    /// A fault: goes back by so many columns of randomness.
    pub(crate) fn restart(&mut self, columns: u64) {
        self.answered -= columns;
    }

    /// A fault: encryptions of zero whose first half is but noise.
    pub(crate) fn forget_key(&mut self) {
        self.key[0] = Transformed::new().prepared();
    }
}
