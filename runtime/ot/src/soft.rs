//! SoftSpokenOT extension: many correlated blocks from 127 base transfers, four bytes each.
//!
//! Roy, "SoftSpokenOT: Quieter OT Extension from Small-Field Silent VOLE in the Minicrypt Model" (CRYPTO 2022), the
//! semi-honest protocol with k = 4. The 128 bits of Δ are 32 groups of four, Δ_i. For each group the receiver has a tree
//! of 2^4 seeds, of which the sender learns all but number Δ_i: a base transfer for every level (`trees`). With r_x the
//! stream of seed x, and for every bit b of a group,
//!
//! ```text
//! receiver   u_i = ⊕ r_x over all x        v_ib = ⊕ r_x over the x whose bit b is set
//! sender     w_ib = ⊕ r_x over the x ≠ Δ_i whose bit b is not Δ_i's, which is v_ib ⊕ Δ_ib·u_i
//! ```
//!
//! The receiver's choices are u_0. It sends d_i = u_i ⊕ u_0 for the other groups, and the sender adds Δ_ib·d_i to its
//! columns: v_ib ⊕ Δ_ib·u_0. Rows of the transposed matrices are the blocks, as in IKNP (Ishai, Kilian, Nissim and Petrank,
//! CRYPTO 2003), which is k = 1. Bit 0 of Δ is 1 and needs no transfer: there the sender's column is zero and the
//! receiver's is u_0, and the tree of group 0 has three levels.
//!
//! Cost      31 bits a correlation from the receiver, nothing back; 4 blocks of AES and about 8 additions of blocks for
//!           each party. Once, 32 bytes a base transfer from the receiver. k = 8 sends half for eight times the AES, IKNP (k = 1)
//!           four times as much for a fourth: making the shipped model's material on loopback took 1.14 and 0.85 times as long.
//! Assumed   AES-128 in counter mode is a pseudorandom generator, BLAKE3 a pseudorandom function that makes its keys from
//!           leaves of 127 bits. AES-128 under public keys as random permutations, for the trees. 127 bits of Δ are secret.
//! Absent    The consistency check of the paper's active protocol. A receiver that sends other d_i learns, from what the
//!           sender does with its pads, bits of Δ, and with Δ all that the sender holds. So the receiver has to follow the
//!           protocol; a sender that deviates learns nothing.
//!
//! The sender numbers its leaves by x ⊕ Δ_i, so that the one it lacks is number 0: no address or branch is secret. Streams
//! only run forward: every extension takes the next rows, and results do not depend on how requests were split.

use crate::cot::{CotReceiver, CotSender};
use crate::error::{Error, check_length};
use crate::kind;
use crate::spread::spread;
use crate::transpose::{ROWS, transpose};
use crate::trees::Trees;
use kernels::cpu::{Cpu, multiversion};
use kernels::prg::{Domain, Seed, Stream};
use std::ops::Range;
use zeroize::{Zeroize, Zeroizing};

/// Base transfers that an extension needs: one for every bit of Δ but the lowest.
pub const COLUMNS: usize = 127;

/// Bytes of the receiver's message that sets the sender up: sums of both halves of every level.
pub const SUMS_BYTES: usize = 2 * 16 * COLUMNS;

/// Levels of a tree, but for the first one.
const DEPTH: usize = 4;

/// Trees.
const GROUPS: usize = 128 / DEPTH;

/// Rows that are in work at once: many, as the keys of all streams are read for them; not more than let a group's columns
/// stay in the nearest cache. A column is an odd number of cache lines, so that the columns' lines do not all want the same
/// places there.
pub const CHUNK: usize = 31 * ROWS;

/// Most rows of an extension: a request of some two megabytes.
const MOST: usize = 1 << 20;

/// Rows of the next extension where so many are wanted.
pub fn batch(wanted: usize) -> usize {
    wanted.clamp(1, MOST).next_multiple_of(ROWS)
}

/// Bytes of a request for so many rows, a multiple of [`ROWS`].
pub fn request_bytes(rows: usize) -> usize {
    (GROUPS - 1) * rows / 8
}

/// Columns of a group: bits of Δ that are transferred.
fn columns(group: usize) -> Range<usize> {
    (DEPTH * group).max(1)..DEPTH * (group + 1)
}

/// Streams of a group's leaves; the sender lacks the first.
type Leaves = Vec<Option<Stream>>;

fn stream(leaf: &u128, group: usize) -> Stream {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&leaf.to_le_bytes());
    let seed = Seed::new(bytes);
    bytes.zeroize();
    seed.stream(Domain { step: 0, entry: 0, index: group as u32, kind: kind::COLUMN })
}

/// The pad of a level's sum.
fn pad(key: &Seed) -> u128 {
    let mut pad = [0];
    key.stream(Domain { step: 0, entry: 0, index: 0, kind: kind::SUM }).fill_blocks(0, &mut pad);
    pad[0]
}

/// Trees of a direction, which this name has alone.
fn trees(name: &[u8; 32]) -> Trees {
    let keys = blake3::derive_key("ssvm transfers, trees of an extension, 1", name);
    Trees::new([0, 1].map(|half| keys.as_chunks::<16>().0[half]))
}

/// Block x comes to place x ⊕ `shift`, which is secret: halves of every size change places or stay.
fn shift(blocks: &mut [u128], shift: u128) {
    for bit in 0..blocks.len().trailing_zeros() {
        let change = (shift >> bit & 1).wrapping_neg();
        for pair in blocks.chunks_exact_mut(2 << bit) {
            let (left, right) = pair.split_at_mut(1 << bit);
            for (a, b) in left.iter_mut().zip(right) {
                let moved = (*a ^ *b) & change;
                *a ^= moved;
                *b ^= moved;
            }
        }
    }
}

multiversion! {
    /// Adds `right` to both others.
    fn merge(left: &mut [u64], right: &[u64], column: &mut [u64]) {
        for ((a, b), c) in left.iter_mut().zip(right).zip(column) {
            *a ^= b;
            *c ^= b;
        }
    }
}

/// The sum of the leaves' streams from a word on; and added to column b, the sum of those whose number has bit b. `other` is
/// room for as much as `columns`.
fn fold(leaves: &[Option<Stream>], word: u64, total: &mut [u64], columns: &mut [u64], other: &mut [u64]) {
    match leaves {
        [Some(stream)] => stream.fill(word, 64, total),
        [None] => total.fill(0),
        _ => {
            let (left, right) = leaves.split_at(leaves.len() / 2);
            let lower = columns.len() - total.len();
            let (columns, column) = columns.split_at_mut(lower);
            let (other, sum) = other.split_at_mut(lower);
            fold(left, word, total, columns, other);
            fold(right, word, sum, columns, other);
            merge(Cpu::get(), total, sum, column);
        }
    }
}

/// Columns of `words` words from a word on, where number 0 stays zero, and the sums of each group.
fn matrix(groups: &[Leaves], word: u64, words: usize) -> [Zeroizing<Vec<u64>>; 2] {
    let [mut matrix, mut totals, mut other] =
        [128, GROUPS, DEPTH].map(|columns| Zeroizing::new(vec![0; columns * words]));
    for (group, (leaves, total)) in groups.iter().zip(totals.chunks_exact_mut(words)).enumerate() {
        let Range { start, end } = columns(group);
        fold(leaves, word, total, &mut matrix[start * words..end * words], &mut other[..(end - start) * words]);
    }
    [matrix, totals]
}

/// Fewer chunks than this are not worth waking other cores.
const FEW: usize = 2;

/// Checks a batch.
fn check(batch: usize) {
    assert!(batch.is_multiple_of(ROWS) && batch <= MOST, "a batch of this engine");
}

/// Numbers of the chunks' first words.
fn first_words(word: u64) -> impl Iterator<Item = u64> {
    (word..).step_by(CHUNK / 64)
}

/// The sender's end.
pub struct Sender {
    delta: Zeroizing<u128>,
    groups: Vec<Leaves>,
    /// Words of every column that are used up.
    word: u64,
}

impl Sender {
    /// From Δ, whose low bit is set, the keys that base transfers gave for its other bits, the lower first, and the
    /// receiver's message. `name` is of this direction of the session alone.
    pub fn new(name: &[u8; 32], delta: u128, keys: &[Seed], message: &[u8]) -> Result<Sender, Error> {
        assert!(delta & 1 == 1 && keys.len() == COLUMNS, "a key for every bit of Δ but the lowest, which is set");
        check_length(message, SUMS_BYTES)?;
        let (trees, sent) = (trees(name), message.as_chunks::<16>().0.as_chunks::<2>().0);
        let group = |group: usize| {
            let columns = columns(group);
            let missing = delta >> columns.start & ((1 << columns.len()) - 1);
            let mut sums = Zeroizing::new(Vec::with_capacity(DEPTH));
            sums.extend(columns.map(|j| {
                let [zero, one] = sent[j - 1].map(u128::from_le_bytes);
                zero ^ (zero ^ one) & (delta >> j & 1).wrapping_neg() ^ pad(&keys[j - 1])
            }));
            let mut leaves = Zeroizing::new(vec![0; 1 << sums.len()]);
            // What the missing leaf becomes is not used.
            trees.follow(missing as u64, &sums, 0, &mut leaves);
            shift(&mut leaves, missing);
            let known = leaves[1..].iter().map(|leaf| Some(stream(leaf, group)));
            std::iter::once(None).chain(known).collect()
        };
        Ok(Sender { delta: Zeroizing::new(delta), groups: (0..GROUPS).map(group).collect(), word: 0 })
    }
}

impl CotSender for Sender {
    fn delta(&self) -> u128 {
        *self.delta
    }

    fn batch(&self, wanted: usize) -> usize {
        batch(wanted)
    }

    fn request_bytes(&self, batch: usize) -> usize {
        request_bytes(batch)
    }

    fn respond(&mut self, batch: usize, request: &[u8], out: &mut Vec<u128>) -> Result<Vec<u8>, Error> {
        check(batch);
        check_length(request, request_bytes(batch))?;
        let from = out.len();
        out.resize(from + batch, 0);
        let tasks = out[from..].chunks_mut(CHUNK).zip(request.chunks(request_bytes(CHUNK)));
        spread(FEW, first_words(self.word).zip(tasks), |(word, (out, request))| {
            let words = out.len() / 64;
            let [mut matrix, _] = matrix(&self.groups, word, words);
            let groups = matrix.chunks_exact_mut(DEPTH * words).skip(1).zip(request.chunks_exact(8 * words));
            for (group, (columns, sent)) in (1..).zip(groups) {
                for (j, column) in (DEPTH * group..).zip(columns.chunks_exact_mut(words)) {
                    let bit = ((*self.delta >> j) as u64 & 1).wrapping_neg();
                    for (x, sent) in column.iter_mut().zip(sent.as_chunks::<8>().0) {
                        *x ^= u64::from_le_bytes(*sent) & bit;
                    }
                }
            }
            transpose(Cpu::get(), &matrix, out);
        });
        self.word += batch as u64 / 64;
        Ok(Vec::new())
    }
}

/// The receiver's end.
pub struct Receiver {
    groups: Vec<Leaves>,
    word: u64,
    /// Blocks of the request that is not yet completed.
    made: Zeroizing<Vec<u128>>,
}

impl Receiver {
    /// From both keys of each base transfer; and the message of [`SUMS_BYTES`] that sets the sender up. Trees, and with them
    /// choices, come from the seed, which must be fresh. For the name see [`Sender::new`].
    pub fn new(name: &[u8; 32], keys: &[[Seed; 2]], seed: &Seed) -> (Receiver, Vec<u8>) {
        assert_eq!(keys.len(), COLUMNS, "two keys for every bit of Δ but the lowest");
        let mut roots = Zeroizing::new([0; GROUPS]);
        seed.stream(Domain { step: 0, entry: 0, index: 0, kind: kind::GROUPS }).fill_blocks(0, &mut *roots);
        let (trees, mut message) = (trees(name), Vec::with_capacity(SUMS_BYTES));
        let group = |(group, root): (usize, &u128)| {
            let keys = &keys[columns(group).start - 1..columns(group).end - 1];
            let mut sums = Zeroizing::new(Vec::with_capacity(DEPTH));
            let mut leaves = Zeroizing::new(vec![0; 1 << keys.len()]);
            trees.grow(*root, &mut leaves, &mut sums);
            for ([zero, one], [left, right]) in keys.iter().zip(&*sums) {
                // A bit of Δ is the half where the missing leaf is: its key is of the other half's sum.
                message.extend((right ^ pad(zero)).to_le_bytes());
                message.extend((left ^ pad(one)).to_le_bytes());
            }
            leaves.iter().map(|leaf| Some(stream(leaf, group))).collect()
        };
        let groups = roots.iter().enumerate().map(group).collect();
        (Receiver { groups, word: 0, made: Zeroizing::default() }, message)
    }
}

impl CotReceiver for Receiver {
    fn batch(&self, wanted: usize) -> usize {
        batch(wanted)
    }

    fn request(&mut self, batch: usize) -> Vec<u8> {
        check(batch);
        let mut message = vec![0; request_bytes(batch)];
        let mut made = std::mem::take(&mut self.made);
        made.resize(batch, 0);
        let tasks = made.chunks_mut(CHUNK).zip(message.chunks_mut(request_bytes(CHUNK)));
        spread(FEW, first_words(self.word).zip(tasks), |(word, (made, message))| {
            let words = made.len() / 64;
            let [mut matrix, totals] = matrix(&self.groups, word, words);
            let (choices, totals) = totals.split_at(words);
            matrix[..words].copy_from_slice(choices);
            for (total, sent) in totals.chunks_exact(words).zip(message.chunks_exact_mut(8 * words)) {
                for (sent, (x, c)) in sent.as_chunks_mut::<8>().0.iter_mut().zip(total.iter().zip(choices)) {
                    *sent = (x ^ c).to_le_bytes();
                }
            }
            transpose(Cpu::get(), &matrix, made);
        });
        self.made = made;
        self.word += batch as u64 / 64;
        message
    }

    fn response_bytes(&self, _: usize) -> usize {
        0
    }

    fn complete(&mut self, batch: usize, response: &[u8], out: &mut Vec<u128>) -> Result<(), Error> {
        check_length(response, 0)?;
        assert_eq!(self.made.len(), batch, "the batch that was requested");
        out.extend_from_slice(&self.made);
        self.made.zeroize();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
