//! IKNP extension: many correlated blocks from 127 base transfers.
//!
//! Ishai, Kilian, Nissim and Petrank, "Extending Oblivious Transfers Efficiently" (CRYPTO 2003), as Asharov, Lindell,
//! Schneider and Zohner put it (CCS 2013, section 5): the receiver holds both seeds of every column j and sends
//! u_j = G(k_j0) ⊕ G(k_j1) ⊕ c for its choices c; the sender holds the seed of bit j of Δ and finds
//! q_j = G(k_jΔ) ⊕ Δ_j·u_j. Rows of the transposed matrices are the blocks. Column 0 needs no transfer: bit 0 of Δ is 1,
//! so that the sender's column is zero and the receiver's is c.
//!
//! Cost      127 bits a correlation from the receiver, nothing back; three blocks of AES for both parties together.
//! Assumed   AES-128 in counter mode is a pseudorandom generator. 127 bits of Δ are secret.
//! Absent    The consistency check of Keller, Orsini and Scholl (CRYPTO 2015). A receiver that puts different choices into
//!           different columns learns, from what the sender does with its pads, bits of Δ, and with Δ all that the sender
//!           holds. So the receiver has to follow the protocol; a sender that deviates learns nothing.
//!
//! Streams only run forward: every extension takes the next rows, and results do not depend on how requests were split.

use crate::cot::{CotReceiver, CotSender};
use crate::error::{Error, check_length};
use crate::kind;
use crate::spread::spread;
use crate::transpose::{ROWS, transpose};
use kernels::cpu::Cpu;
use kernels::prg::{Domain, Seed, Stream};
use zeroize::{Zeroize, Zeroizing};

/// Base transfers that an extension needs: one for every bit of Δ but the lowest.
pub const COLUMNS: usize = 127;

/// Rows that are in work at once: the matrix stays in the cache. A column is an odd number of cache lines, so that the
/// columns' lines do not all want the same places of the nearest cache.
pub const CHUNK: usize = 15 * ROWS;

/// Most rows of an extension: a request of some four megabytes.
const MOST: usize = 1 << 18;

/// Rows of the next extension where so many are wanted.
pub fn batch(wanted: usize) -> usize {
    wanted.clamp(1, MOST).next_multiple_of(ROWS)
}

/// Bytes of a request for so many rows, a multiple of [`ROWS`].
pub fn request_bytes(rows: usize) -> usize {
    COLUMNS * rows / 8
}

fn stream(seed: &Seed, kind: u8) -> Stream {
    seed.stream(Domain { step: 0, entry: 0, index: 0, kind })
}

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
    columns: Vec<Stream>,
    /// Words of every column that are used up.
    word: u64,
}

impl Sender {
    /// From Δ, whose low bit is set, and the keys that base transfers gave for its other bits, the lower first.
    pub fn new(delta: u128, keys: &[Seed]) -> Sender {
        assert!(delta & 1 == 1 && keys.len() == COLUMNS, "a key for every bit of Δ but the lowest, which is set");
        let columns = keys.iter().map(|key| stream(key, kind::COLUMN)).collect();
        Sender { delta: Zeroizing::new(delta), columns, word: 0 }
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
        spread(first_words(self.word).zip(tasks), |(word, (out, request))| {
            let words = out.len() / 64;
            // Column 0 stays zero.
            let mut matrix = Zeroizing::new(vec![0; 128 * words]);
            let columns = matrix[words..].chunks_exact_mut(words).zip(request.chunks_exact(8 * words));
            for ((j, stream), (column, masks)) in (1..).zip(&self.columns).zip(columns) {
                stream.fill(word, 64, column);
                let bit = ((*self.delta >> j) as u64 & 1).wrapping_neg();
                for (x, mask) in column.iter_mut().zip(masks.as_chunks::<8>().0) {
                    *x ^= u64::from_le_bytes(*mask) & bit;
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
    choices: Stream,
    columns: Vec<[Stream; 2]>,
    word: u64,
    /// Blocks of the request that is not yet completed.
    made: Zeroizing<Vec<u128>>,
}

impl Receiver {
    /// From both keys of each base transfer. Choices come from the seed, which must be fresh.
    pub fn new(keys: &[[Seed; 2]], seed: &Seed) -> Receiver {
        assert_eq!(keys.len(), COLUMNS, "two keys for every bit of Δ but the lowest");
        let columns = keys.iter().map(|keys| keys.each_ref().map(|key| stream(key, kind::COLUMN))).collect();
        Receiver { choices: stream(seed, kind::CHOICES), columns, word: 0, made: Zeroizing::default() }
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
        spread(first_words(self.word).zip(tasks), |(word, (made, message))| {
            let words = made.len() / 64;
            let [mut matrix, mut other] = [128 * words, words].map(|len| Zeroizing::new(vec![0; len]));
            let (choices, columns) = matrix.split_at_mut(words);
            self.choices.fill(word, 64, choices);
            let columns = columns.chunks_exact_mut(words).zip(message.chunks_exact_mut(8 * words));
            for (streams, (column, sent)) in self.columns.iter().zip(columns) {
                streams[0].fill(word, 64, column);
                streams[1].fill(word, 64, &mut other);
                let words = column.iter().zip(&*other).zip(&*choices);
                for (sent, ((a, b), c)) in sent.as_chunks_mut::<8>().0.iter_mut().zip(words) {
                    *sent = (a ^ b ^ c).to_le_bytes();
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
mod tests {
    use super::*;

    /// Two ends with base transfers from a trusted hand.
    fn ends(number: u8) -> (Sender, Receiver) {
        let seed = Seed::new([number; 32]);
        let mut blocks = [0; 2 * 2 * COLUMNS + 1];
        stream(&seed, 99).fill_blocks(0, &mut blocks);
        let (delta, blocks) = (blocks[0] | 1, blocks[1..].as_chunks::<2>().0);
        let keys: Vec<Seed> = blocks
            .iter()
            .map(|[a, b]| Seed::new([a.to_le_bytes(), b.to_le_bytes()].as_flattened().try_into().unwrap()))
            .collect();
        let pairs = keys.as_chunks::<2>().0;
        let chosen: Vec<Seed> = (1..).zip(pairs).map(|(j, pair)| pair[(delta >> j) as usize & 1].clone()).collect();
        (Sender::new(delta, &chosen), Receiver::new(pairs, &Seed::new([number + 100; 32])))
    }

    fn extend(ends: &mut (Sender, Receiver), wanted: usize) -> [Vec<u128>; 2] {
        let batch = ends.0.batch(wanted);
        assert_eq!(batch, ends.1.batch(wanted));
        let mut out = [Vec::new(), Vec::new()];
        let request = ends.1.request(batch);
        let response = ends.0.respond(batch, &request, &mut out[0]).unwrap();
        ends.1.complete(batch, &response, &mut out[1]).unwrap();
        out
    }

    #[test]
    fn blocks_are_correlated_and_do_not_depend_on_the_split() {
        let mut whole = ends(1);
        let [q, t] = extend(&mut whole, 2 * CHUNK + 1);
        let delta = whole.0.delta();
        assert_eq!(q.len(), 2 * CHUNK + ROWS);
        for (q, t) in q.iter().zip(&t) {
            assert_eq!(q ^ t, (t & 1) * delta);
        }
        let mut split = ends(1);
        let mut parts = [Vec::new(), Vec::new()];
        while parts[0].len() < q.len() {
            let more = extend(&mut split, 1 + parts[0].len() / 3);
            parts.iter_mut().zip(more).for_each(|(all, more)| all.extend(more));
        }
        assert!(parts[0][..q.len()] == q && parts[1][..q.len()] == t);
    }

    #[test]
    fn a_request_of_the_wrong_length_is_an_error() {
        let (mut sender, mut receiver) = ends(2);
        let request = receiver.request(ROWS);
        for length in [0, 1, request.len() - 1] {
            let got = sender.respond(ROWS, &request[..length], &mut Vec::new());
            assert!(matches!(got, Err(Error::Length { got, .. }) if got == length));
        }
        assert!(matches!(receiver.complete(ROWS, &[1], &mut Vec::new()), Err(Error::Length { .. })));
    }
}
