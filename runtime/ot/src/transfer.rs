//! Transfers of numbers: one party's bits times the other's numbers, as shares.
//!
//! Identity  With pads K_0 and K_1 of the holder's, of which the chooser has K_c for its bit c: the holder sends
//!           m = K_0 - K_1 + d and keeps -K_0; the chooser keeps K_c + c·m. The shares add up to c·d. In the form of bits,
//!           all sums are exclusive ors.
//! Choices   Pads come from correlations with random choices r; the chooser sends c ⊕ r, and the holder exchanges its pads
//!           where that is 1. One bit a choice.
//! Reuse     A choice stands for any number of rows: every one takes pads of its own.
//! Errors    Lengths of messages. Lengths of the arguments are the caller's affair.

use crate::bits::Bits;
use crate::error::{Error, check_length};
use crate::hash::{Hash, Place, blocks_each};
use crate::spread::spread;
use kernels::ring::{self, mask};
use std::sync::Arc;
use zeroize::Zeroize;

/// How numbers of 1 to 64 bits are shared. Only their low bits matter, and only these are set in shares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Shares add up mod 2^width.
    Sum(u8),
    /// Shares are strings of so many bits whose exclusive or is the string.
    Xor(u8),
}

impl Form {
    /// Bits of a number.
    pub fn width(self) -> u8 {
        match self {
            Form::Sum(width) | Form::Xor(width) => width,
        }
    }

    /// Bytes of a message with so many numbers.
    pub fn message_bytes(self, count: usize) -> usize {
        ring::packed_len(count, self.width())
    }
}

/// Numbers that are in work at once: they stay in the cache.
const CHUNK: usize = 2048;

/// Fewer chunks than this are not worth waking other cores.
const FEW: usize = 16;

/// Rows that are in work at once. Their numbers, of whatever width, are whole bytes of a message.
fn rows_at_once(len: usize) -> usize {
    (CHUNK / len.max(1)).max(1).next_multiple_of(8)
}

/// Which pads of its correlations a transfer has used: the next rows get others.
struct Pads {
    hash: Arc<Hash>,
    place: Place,
}

impl Pads {
    /// Places for rows of `len` numbers.
    fn next(&mut self, len: usize, form: Form) -> Place {
        let place = self.place;
        let each = blocks_each(len, form.width()).try_into().expect("a row of pads fits in memory");
        self.place.from = place.from.checked_add(each).expect("a choice has 2^32 blocks of pad");
        place
    }
}

/// Choices that the other party's numbers are transferred by.
pub struct Chosen {
    blocks: Vec<u128>,
    bits: Bits,
    pads: Pads,
}

impl Chosen {
    /// From the chooser's blocks, the first of which has number `first`. Appends to the message to the holder.
    pub(crate) fn new(blocks: Vec<u128>, bits: Bits, hash: Arc<Hash>, first: u64, message: &mut Vec<u8>) -> Chosen {
        bits.pack_with(&blocks, message);
        Chosen { blocks, bits, pads: Pads { hash, place: Place { first, from: 0 } } }
    }

    /// The chooser's shares of its bit times each number of its row, rows of `len` numbers. Takes the bytes of one
    /// message of the holder's off the front, which are there.
    pub fn get(&mut self, message: &mut &[u8], len: usize, form: Form) -> Vec<u64> {
        let (count, width, low) = (self.blocks.len() * len, form.width(), mask(form.width()));
        let bytes = message.split_off(..form.message_bytes(count)).expect("the whole message");
        let (place, rows) = (self.pads.next(len, form), rows_at_once(len));
        let mut share = vec![0; count];
        let tasks = self.blocks.chunks(rows).zip(share.chunks_mut(len.max(1) * rows));
        spread(FEW, (0..).step_by(rows).zip(tasks), |(from, (blocks, share))| {
            self.pads.hash.pads(blocks, 0, place.after(from), len, width, share);
            let mut sent = vec![0; share.len()];
            ring::unpack_range(bytes, width, from * len, &mut sent);
            self.keep_chosen(from, len, &mut sent);
            let all = share.iter_mut().zip(sent);
            match form {
                Form::Sum(_) => all.for_each(|(x, m)| *x = x.wrapping_add(m) & low),
                Form::Xor(_) => all.for_each(|(x, m)| *x = (*x ^ m) & low),
            }
        });
        share
    }

    /// Clears rows whose choice is 0; the first row belongs to choice `from`.
    fn keep_chosen(&self, from: usize, len: usize, rows: &mut [u64]) {
        if len == 1 {
            return self.bits.keep(from, rows);
        }
        for (i, row) in rows.chunks_exact_mut(len).enumerate() {
            let bit = self.bits.filled(from + i);
            row.iter_mut().for_each(|x| *x &= bit);
        }
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        self.blocks.zeroize();
    }
}

/// The other side of [`Chosen`].
pub struct Offered {
    /// Blocks of the pads for choice 0.
    blocks: Vec<u128>,
    delta: u128,
    pads: Pads,
}

impl Offered {
    /// From the holder's blocks and the chooser's message, exactly its bytes for these choices.
    pub(crate) fn new(
        mut blocks: Vec<u128>,
        delta: u128,
        hash: Arc<Hash>,
        first: u64,
        message: &[u8],
    ) -> Result<Offered, Error> {
        check_length(message, blocks.len().div_ceil(8))?;
        for (i, block) in blocks.iter_mut().enumerate() {
            *block ^= delta & u128::from(message[i / 8] >> (i % 8) & 1).wrapping_neg();
        }
        Ok(Offered { blocks, delta, pads: Pads { hash, place: Place { first, from: 0 } } })
    }

    /// The holder's shares that [`Self::give`] will give next for rows of `len` numbers: they do not depend on the numbers.
    pub fn kept(&self, len: usize, form: Form) -> Vec<u64> {
        let (width, low, rows) = (form.width(), mask(form.width()), rows_at_once(len));
        let mut share = vec![0; self.blocks.len() * len];
        let tasks = self.blocks.chunks(rows).zip(share.chunks_mut(len.max(1) * rows));
        spread(FEW, (0..).step_by(rows).zip(tasks), |(from, (blocks, share))| {
            self.pads.hash.pads(blocks, 0, self.pads.place.after(from), len, width, share);
            share
                .iter_mut()
                .for_each(|share| *share = low & if let Form::Sum(_) = form { share.wrapping_neg() } else { *share });
        });
        share
    }

    /// The holder's shares of the chooser's bits times `d`, a row of `len` numbers for each bit. Appends to the message.
    pub fn give(&mut self, d: &[u64], len: usize, form: Form, message: &mut Vec<u8>) -> Vec<u64> {
        assert_eq!(d.len(), self.blocks.len() * len, "a row for each choice");
        let (width, low) = (form.width(), mask(form.width()));
        let (place, rows) = (self.pads.next(len, form), rows_at_once(len));
        let mut share = vec![0; d.len()];
        let start = message.len();
        message.resize(start + form.message_bytes(d.len()), 0);
        let numbers = len.max(1) * rows;
        let parts = d.chunks(numbers).zip(share.chunks_mut(numbers));
        let tasks = self.blocks.chunks(rows).zip(parts.zip(message[start..].chunks_mut(form.message_bytes(numbers))));
        spread(FEW, (0..).step_by(rows).zip(tasks), |(from, (blocks, ((d, share), bytes)))| {
            let (place, mut sent) = (place.after(from), vec![0; d.len()]);
            self.pads.hash.pads(blocks, 0, place, len, width, share);
            self.pads.hash.pads(blocks, self.delta, place, len, width, &mut sent);
            let all = share.iter_mut().zip(&mut sent).zip(d);
            match form {
                Form::Sum(_) => all.for_each(|((share, sent), d)| {
                    *sent = share.wrapping_sub(*sent).wrapping_add(*d);
                    *share = share.wrapping_neg() & low;
                }),
                Form::Xor(_) => all.for_each(|((share, sent), d)| {
                    *sent ^= *share ^ d;
                    *share &= low;
                }),
            }
            ring::pack_into(&sent, width, bytes);
        });
        share
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        self.blocks.zeroize();
        self.delta.zeroize();
    }
}
