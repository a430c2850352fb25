//! The server's side: it multiplies the client's ciphertexts by its matrices and hides what they tell of them.

use super::merge::{self, Ciphertext, DIGITS, DISTANCES, Key, PARTS, key_number, merge};
use super::plan::{KEY_BYTES, Leaf, MAX_SECRETS, Plan};
use super::public;
use crate::error::{Error, check_length};
use crate::ntt::N;
use crate::plan::SEED_BYTES;
use crate::rns::{BLOCKS, GROUP, PACKED, Scratch, Sums, Values};
use crate::{sample, use_of};
use kernels::cpu::Cpu;
use kernels::prg::{Seed, Stream};
use kernels::ring::{self, Buffer, map_assign, mask, packed_len};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Leaves that are made together, so that they read each ciphertext once.
const TILE: usize = 4;

/// The server of a session's products.
pub struct Server {
    seed: Seed,
    halves: Stream,
    /// Encryptions of zero.
    key: Ciphertext,
    /// Keys of automorphisms, by the logarithm of the distance and the part; empty, or of some secrets.
    merge_keys: [[Key; PARTS]; DISTANCES],
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
    ciphertexts: Vec<Ciphertext>,
}

/// Memory of a thread. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Work {
    scratch: Scratch,
    coefficients: Vec<u64>,
    random: Values,
    /// Of each leaf of a tile.
    factors: Vec<Vec<Values>>,
    /// Of each leaf of a tile: of the half that all rows share, then of those of the blocks of rows.
    sums: Vec<Vec<Sums>>,
    merge: merge::Work,
    /// Ciphertexts that wait to be merged with others of their level.
    #[zeroize(skip)]
    waiting: Vec<(u32, Ciphertext)>,
    /// Memory for ciphertexts.
    #[zeroize(skip)]
    spare: Vec<Ciphertext>,
}

impl Work {
    fn new(secrets: usize) -> Work {
        Work {
            scratch: Scratch::new(),
            coefficients: vec![0; N],
            random: Values::new(),
            factors: vec![vec![Values::new(); GROUP - 1]; TILE],
            sums: vec![vec![Sums::new(); 1 + secrets]; TILE],
            merge: merge::Work::new(),
            waiting: Vec::new(),
            spare: Vec::new(),
        }
    }
}

/// What tasks of a product share.
struct Making<'m> {
    operand: &'m Operand,
    right: Rows<'m>,
    /// Memory that no task has.
    works: Mutex<Vec<Work>>,
}

impl Making<'_> {
    fn take(&self) -> Work {
        let spare = self.works.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Work::new(self.operand.plan.secrets()))
    }

    fn give(&self, mut work: Work, spare: Option<Ciphertext>) {
        work.spare.extend(spare);
        self.works.lock().unwrap_or_else(PoisonError::into_inner).push(work);
    }
}

/// A run of a row of the server's matrix, as signed integers mod 2^64: row, first column, and where to put it.
pub type Rows<'r> = &'r (dyn Fn(usize, usize, &mut [u64]) + Sync);

impl Server {
    /// For the client of this first message, with randomness from the operating system.
    pub fn new(key: &[u8]) -> Result<Server, Error> {
        Server::from_seed(key, &Seed::random().map_err(Error::Random)?)
    }

    pub(crate) fn from_seed(key: &[u8], private: &Seed) -> Result<Server, Error> {
        check_length("key", key, KEY_BYTES)?;
        let (seed, halves) = key.split_first_chunk::<SEED_BYTES>().expect("as long as a key");
        let (seed, mut scratch, mut shared) = (Seed::new(*seed), Scratch::new(), Values::new());
        shared.set_uniform(&seed.stream(public::KEY), 0, &mut scratch);
        let mut key = vec![shared];
        for half in halves.chunks_exact(PACKED) {
            key.push(Values::unpack(half, &mut scratch).ok_or(Error::Residue { what: "key" })?);
        }
        let [ternary, noise, masks] = [0, 1, 2].map(|kind| private.stream(use_of(kind)));
        let (halves, merge_keys) = (seed.stream(public::HALVES), [const { [const { Key::new() }; PARTS] }; DISTANCES]);
        Ok(Server { seed, halves, key, merge_keys, ternary, noise, masks, received: 0, answered: 0 })
    }

    /// The keys that a plan takes and are not there yet: distance, part, and of how many secrets they are.
    fn lacking(&self, plan: &Plan) -> Vec<(usize, usize, usize)> {
        let known = |key: &Key| key.first().map_or(0, |halves| halves.len() - 1);
        let lacking = plan.keys().map(|(log, part)| (log, part, known(&self.merge_keys[log][part])));
        lacking.filter(|(.., known)| *known < plan.secrets()).collect()
    }

    /// Bytes of these keys.
    pub fn merge_key_bytes(&self, plan: &Plan) -> usize {
        self.lacking(plan).iter().map(|(.., known)| (plan.secrets() - known) * DIGITS * PACKED).sum()
    }

    /// Takes the client's message of these keys, [`super::Client::merge_keys`].
    pub fn take_merge_keys(&mut self, plan: &Plan, message: &[u8]) -> Result<(), Error> {
        check_length("keys", message, self.merge_key_bytes(plan))?;
        let unpack = |bytes: &[u8]| Values::unpack(bytes, &mut Scratch::new()).ok_or(Error::Residue { what: "keys" });
        let keys = message.par_chunks_exact(PACKED).map(unpack).collect::<Result<Vec<_>, Error>>()?;
        let (halves, mut keys) = (self.seed.stream(public::MERGE_KEYS), keys.into_iter());
        for (log, part, known) in self.lacking(plan) {
            let key = &mut self.merge_keys[log][part];
            if key.is_empty() {
                key.extend((0..DIGITS).map(|digit| {
                    let mut shared = Values::new();
                    shared.set_uniform(&halves, key_number(log, part, digit), &mut Scratch::new());
                    vec![shared]
                }));
            }
            for _ in known..plan.secrets() {
                key.iter_mut().zip(&mut keys).for_each(|(digit, half)| digit.push(half));
            }
        }
        Ok(())
    }

    /// Takes the client's message for its next product.
    pub fn receive(&mut self, plan: &Plan, message: &[u8]) -> Result<Operand, Error> {
        check_length("matrix", message, plan.upload_bytes())?;
        assert!(plan.secrets() <= MAX_SECRETS, "secrets of a client");
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

    /// The message for some answers, and the server's share C1 of their results, for [`Plan::put`], for its matrix R
    /// [depth, columns], or those of several products below one another, whose columns have sums of squares within the plan's.
    /// Each answer once.
    pub fn answer(&mut self, operand: &Operand, right: Rows, answers: Range<usize>) -> (Vec<u8>, Buffer) {
        let plan = &operand.plan;
        let first = self.answered;
        self.answered += answers.len() as u64;
        let mut message = vec![0; plan.answer_bytes(answers.clone())];
        let (mut share, mut parts) = (Buffer::zeros(plan.results_of(answers.clone())), Vec::new());
        let (mut rest, mut shares) = (&mut message[..], &mut share[..]);
        for (number, j) in (first..).zip(answers) {
            let bytes = rest.split_off_mut(..plan.answer_bytes(j..j + 1)).expect("bytes of all answers");
            let share = shares.split_off_mut(..plan.results_of(j..j + 1)).expect("results of all answers");
            parts.push((number, j, bytes, share));
        }
        let making = Making { operand, right, works: Mutex::default() };
        // Enough tasks for all threads, of a tile's leaves at least.
        let splits = (4 * rayon::current_num_threads()).div_ceil(parts.len().max(1)).next_power_of_two().ilog2();
        parts.into_par_iter().for_each(|(number, j, bytes, share)| {
            let leaves: Vec<Leaf> = plan.leaves_of(j).collect();
            let levels = plan.levels(leaves.len());
            // Results come to multiples of k, and what merging doubles is halved ahead.
            let (mut turn, mut work) = (Values::new(), making.take());
            turn.set_monomial((2 * N + 1 - plan.block()[1]) % (2 * N), levels, &mut work.scratch);
            making.give(work, None);
            let least = levels.saturating_sub(splits).max(levels.min(TILE.ilog2()));
            let merged = self.subtree(&making, &leaves, &turn, levels, least);
            let mut work = making.take();
            self.hide(plan, (number, j), &merged, &mut work, bytes, share);
            making.give(work, Some(merged));
        });
        (message, share)
    }

    /// The ciphertext that up to 2^level leaves are merged to; subtrees above level `least` are tasks of their own.
    fn subtree(&self, making: &Making, leaves: &[Leaf], turn: &Values, level: u32, least: u32) -> Ciphertext {
        let plan = &making.operand.plan;
        if level <= least {
            let mut work = making.take();
            let merged = self.merged(making, leaves, turn, level, &mut work);
            making.give(work, None);
            return merged;
        }
        let half = 1 << (level - 1);
        if leaves.len() <= half {
            let mut merged = self.subtree(making, leaves, turn, level - 1, least);
            merged.iter_mut().for_each(Values::double);
            return merged;
        }
        let (left, right) = leaves.split_at(half);
        let of = |leaves| self.subtree(making, leaves, turn, level - 1, least);
        let (mut even, odd) = rayon::join(|| of(left), || of(right));
        let mut work = making.take();
        self.merge(plan, level - 1, &mut even, &odd, &mut work.merge);
        making.give(work, Some(odd));
        even
    }

    /// The same in one task.
    fn merged(&self, making: &Making, leaves: &[Leaf], turn: &Values, levels: u32, work: &mut Work) -> Ciphertext {
        let plan = &making.operand.plan;
        for tile in leaves.chunks(TILE) {
            self.multiply(making.operand, making.right, tile, work);
            for leaf in 0..tile.len() {
                let mut next = work.spare.pop().unwrap_or_else(|| vec![Values::new(); 1 + plan.secrets()]);
                let sums = work.sums[leaf].iter_mut();
                next.iter_mut().zip(sums).for_each(|(half, sums)| half.set_product(sums, turn));
                let mut level = 0;
                while let Some((_, mut even)) = work.waiting.pop_if(|(other, _)| *other == level) {
                    self.merge(plan, level, &mut even, &next, &mut work.merge);
                    work.spare.push(std::mem::replace(&mut next, even));
                    level += 1;
                }
                work.waiting.push((level, next));
            }
        }
        // As if the leaves that are missing were zero; what then comes to the places that no result has does not matter.
        let (mut level, mut last) = work.waiting.pop().expect("an answer has leaves");
        while level < levels {
            match work.waiting.pop_if(|(other, _)| *other == level) {
                Some((_, mut even)) => {
                    self.merge(plan, level, &mut even, &last, &mut work.merge);
                    work.spare.push(std::mem::replace(&mut last, even));
                }
                None => last.iter_mut().for_each(Values::double),
            }
            level += 1;
        }
        last
    }

    fn merge(&self, plan: &Plan, level: u32, even: &mut Ciphertext, odd: &Ciphertext, work: &mut merge::Work) {
        let log = plan.distance(level);
        merge(even, odd, log, &self.merge_keys[log][..plan.parts()], work);
    }

    /// Makes the sums of a tile's leaves in `work`.
    fn multiply(&self, operand: &Operand, right: Rows, tile: &[Leaf], work: &mut Work) {
        let plan = &operand.plan;
        let Work { scratch, coefficients, factors, sums, .. } = work;
        sums.iter_mut().take(tile.len()).flatten().for_each(Sums::clear);
        let inner = plan.blocks()[1];
        for first in (0..inner).step_by(GROUP - 1) {
            let group = first..inner.min(first + GROUP - 1);
            for (leaf, factors) in tile.iter().zip(&mut *factors) {
                for (l, factor) in group.clone().zip(factors) {
                    fill(plan, right, *leaf, l, coefficients);
                    match plan.runs() {
                        Some(runs) => factor.set_few(runs, coefficients, scratch),
                        None => factor.set_signed(coefficients, scratch),
                    }
                }
            }
            for block in 0..BLOCKS {
                for half in 0..=plan.secrets() {
                    for ((leaf, factors), sums) in tile.iter().zip(&*factors).zip(sums.iter_mut()) {
                        let all = plan.first_of(*leaf);
                        let ciphertexts = &operand.ciphertexts[all + group.start..all + group.end];
                        let halves = ciphertexts.iter().map(|halves| &halves[half]);
                        sums[half].add_block(block, factors.iter().zip(halves));
                    }
                }
            }
        }
    }

    /// Makes a message of what an answer was merged to, and the server's share.
    fn hide(
        &self,
        plan: &Plan,
        (number, j): (u64, usize),
        merged: &Ciphertext,
        work: &mut Work,
        message: &mut [u8],
        share: &mut [u64],
    ) {
        let Work { scratch, coefficients, random, sums, .. } = work;
        let ([a, b], shift, low) = (plan.dropped(), plan.shift(), mask(plan.width()));
        let sums = &mut sums[0];
        self.ternary.fill(number * N as u64, 64, coefficients);
        sample::ternary(Cpu::get(), coefficients);
        random.set_signed(coefficients, scratch);
        for ((sums, merged), key) in sums.iter_mut().zip(merged).zip(&self.key) {
            sums.set(merged);
            sums.add_products(std::iter::once((&*random, key)));
        }
        self.noise.fill(number * N as u64, 64, coefficients);
        sample::noise(Cpu::get(), coefficients);
        random.set_signed(coefficients, scratch);
        sums[0].add(random);
        let (first, second) = message.split_at_mut(packed_len(N, 64 - a));
        // Half of the last place that is sent, or nothing.
        let round = |x: u64, bits: u8| x.wrapping_add((1 << bits) >> 1) >> bits;
        sums[0].coefficients(coefficients, scratch);
        map_assign(coefficients, move |x| round(x, a));
        ring::pack_into(coefficients, 64 - a, first);
        self.masks.fill(number * (MAX_SECRETS * N) as u64, 64, share);
        let mut sent: Buffer = share.iter().copied().collect();
        for (i, sums) in sums[1..].iter_mut().enumerate() {
            sums.coefficients(coefficients, scratch);
            for (place, result) in plan.places(j, i) {
                sent[result] = round(sent[result].wrapping_add(coefficients[place]), b);
            }
        }
        ring::pack_into(&sent, 64 - b, second);
        map_assign(share, move |x| (x >> shift).wrapping_neg() & low);
    }
}

/// The coefficients that ciphertext l of a leaf is multiplied by.
fn fill(plan: &Plan, right: Rows, leaf: Leaf, l: usize, coefficients: &mut [u64]) {
    let ([r, k, _], columns) = (plan.block(), plan.columns_of(leaf.columns));
    let mut run = vec![0; columns.len()];
    coefficients.fill(0);
    for (y, place) in plan.factor_rows(leaf.product, l).enumerate() {
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
