//! XOR shares of unit vectors, and what a party reads of a public table with its share.
//!
//! Identity  The unit vector e_rho at a secret place rho, shared as bits b0 ^ b1 = e_rho. As integers b0 - b1 = s·e_rho, where s
//!           is 1 if P0 holds the odd one and -1 if P1 does. So for a public table T and a public number e, the sums of b_p[j]
//!           over positions j times T[e - j], P1's with the opposite sign, add up to s·T[e - rho]; and the weights of b0 and b1,
//!           P1's with the opposite sign, are shares of s.
//! Dealt     2^n bits an element for 2^n positions. P0's bits come from its seed.
//!
//! The table is rotated by a public number and every position is touched: no secret is a place in memory.

use super::{Dealing, Source, Use, Vector, kind};
use crate::material::MaterialError;
use crate::pair::{Group, Making, PairError};
use ir::material::unit;
use ir::{Party, Width};
use kernels::cpu::multiversion;
use kernels::ring::{self, Buffer};
use rayon::prelude::*;
use std::io;
use std::ops::Range;

/// Elements that are dealt or read at once.
pub(super) const CHUNK: usize = 512;

/// A party's streams of its own: what masks the numbers that it sends.
pub(super) const MASKS: [u8; 2] = [kind::CORRELATION + 32, kind::CORRELATION + 33];

/// Words and bits of a unit vector of `positions` entries.
fn form(positions: usize) -> (usize, Width) {
    let (words, bits) = unit(positions);
    (words as usize, bits as Width)
}

/// The dealer's side, for one block: unit vectors at `place(i)` for the elements i of `block`. Gives s of each.
pub(super) fn deal(
    piece: u8,
    block: Range<usize>,
    positions: usize,
    place: impl Fn(usize) -> usize + Sync,
    to: &mut Dealing,
) -> io::Result<Buffer> {
    let (words, bits) = form(positions);
    let mut signs = Buffer::unset(block.len());
    let stream = to.client.stream(kind::CORRELATION + piece);
    to.packed.resize(ring::packed_len(block.len() * words, bits), 0);
    let packed = to.packed.par_chunks_mut(CHUNK * words * usize::from(bits) / 8);
    signs.par_chunks_mut(CHUNK).zip(packed).enumerate().for_each_init(Vec::new, |share, (number, (signs, packed))| {
        let first = block.start + number * CHUNK;
        share.resize(signs.len() * words, 0);
        stream.fill((first * words) as u64, bits, share);
        for ((i, sign), share) in (first..).zip(signs).zip(share.chunks_exact_mut(words)) {
            let place = place(i);
            let mut held = 0;
            for (word, at) in share.iter_mut().zip(0..) {
                let one = u64::from(at == place / 64) << (place % 64);
                held |= u64::from(*word & one != 0);
                *word ^= one;
            }
            *sign = (2 * held).wrapping_sub(1);
        }
        ring::pack_into(share, bits, packed);
    });
    to.to_server.write_all(&to.packed)?;
    Ok(signs)
}

/// What both parties' numbers of a stream of their own add up to.
pub(super) fn masks(kind: u8, client: Use, server: Use, block: Range<usize>, width: Width) -> Buffer {
    let (mut sum, server) = (client.elements(kind, block.clone(), width), server.elements(kind, block, width));
    ring::zip_assign(&mut sum, &server, u64::wrapping_add);
    sum
}

/// Both parties' side in the dealer's place, for one block: unit vectors at the bits `low .. low + n` of `bits`. Gives XOR shares
/// of whether s is negative.
pub(super) fn make(
    piece: u8,
    block: Range<usize>,
    (bits, low, n): (&[u64], Width, Width),
    to: &mut Making,
) -> Result<Buffer, PairError> {
    let (words, word_bits) = form(1 << n);
    let vectors = to.units(bits, low, n)?;
    let vectors = to.correlation(Group::Xor, piece, block.start * words, word_bits, vectors)?;
    Ok(to.odd(&vectors, words))
}

/// A party's unit vectors of a block.
pub(super) struct Units {
    vector: Vector,
    positions: usize,
}

impl Units {
    /// Takes them.
    pub(super) fn take(
        source: &mut Source,
        piece: u8,
        block: Range<usize>,
        positions: usize,
    ) -> Result<Units, MaterialError> {
        let (words, bits) = form(positions);
        Ok(Units { vector: source.vector(piece, block.start * words..block.end * words, bits)?, positions })
    }

    /// The words of elements from number `from` of the block on, as many as `count`.
    pub(super) fn words<'a>(&self, from: usize, count: usize, room: &'a mut Vec<u64>) -> &'a [u64] {
        let (words, _) = form(self.positions);
        room.resize(count * words, 0);
        self.vector.fill(from * words, room);
        room
    }
}

/// Where the elements of a block lie among packed ones. Blocks begin on a byte.
pub(super) fn packed(block: &Range<usize>, width: Width) -> Range<usize> {
    let start = ring::packed_len(block.start, width);
    start..start + ring::packed_len(block.len(), width)
}

multiversion! {
    /// A party's shares of s of neighbouring elements: the weights of their bits, which are no more than [`ir::verify::tables::MAX_CELLS`].
    pub(super) fn signs(party: Party, words: &[u64], out: &mut [i16]) {
        let each = words.len() / out.len();
        for (sign, words) in out.iter_mut().zip(words.chunks_exact(each)) {
            *sign = signed(party, words.iter().map(|word| u64::from(word.count_ones())).sum()) as i16;
        }
    }
}

/// A party's part of a difference of P0's number and P1's.
#[inline(always)]
pub(super) fn signed(party: Party, v: u64) -> u64 {
    match party {
        Party::Client => v,
        Party::Server => v.wrapping_neg(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::cpu::Cpu;
    use kernels::masked::Reversed;

    /// The identity of the head, for every place.
    #[test]
    fn readings_differ_at_the_place_alone() {
        for bits in 1..=9 {
            let positions = 1usize << bits;
            let table: Vec<i64> = (0..positions as i64).map(|j| 37 * j * j - 911 * j + 5).collect();
            let reversed = Reversed::new([&table[..]]);
            let (words, word_bits) = form(positions);
            for place in 0..positions {
                let e = (place * 7 + 3) as u64;
                let random = |at: usize| (at as u64 + e).wrapping_mul(0x9e37_79b9_7f4a_7c15) & ring::mask(word_bits);
                let b0: Vec<u64> = (0..words).map(random).collect();
                let mut b1 = b0.clone();
                b1[place / 64] ^= 1 << (place % 64);
                let s = if b0[place / 64] >> (place % 64) & 1 == 1 { 1 } else { -1 };
                let [t0, t1] = [&b0, &b1].map(|b| {
                    let mut sum = [[0]];
                    reversed.sums(Cpu::get(), b, &[e], &mut sum);
                    sum[0][0]
                });
                assert_eq!(t0 - t1, s * table[(e as usize).wrapping_sub(place) & (positions - 1)], "place {place}");
                let shares = [(Party::Client, &b0), (Party::Server, &b1)].map(|(party, b)| {
                    let mut share = [0];
                    signs(Cpu::get(), party, b, &mut share);
                    i64::from(share[0])
                });
                assert_eq!(shares[0] + shares[1], s);
            }
        }
    }
}
