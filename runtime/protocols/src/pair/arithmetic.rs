//! What the protocols need of transfers: bits times numbers, numbers of bits, unit vectors and signs, on shares.
//!
//! Identities  For a bit b = b0 ^ b1 and a number v = v0 + v1: b·v = Σ_p b_p·v_p + (1 - 2·b_p)·v_p·b_o with o the other party, so
//!             each chooses by its share and holds (1 - 2·b_p)·v_p. As a number b is b0 + b1 - 2·b0·b1.
//!             The unit vector at a number grows by a bit b of it at a time: e becomes e & !b, then e & b behind it, two
//!             transfers of as many bits as e has (Heath and Kolesnikov, CCS 2021, section 3, have the tensor with a bit).
//!             Of a shared unit vector as integers, b0 - b1 = s·e; s is negative if P1 holds the odd one, which is the XOR of
//!             bit 1 of the weights of both and of bit 0 of P1's: the weights differ by s, and their sum is odd.

use super::{Bits, Group, Making, PairError};
use ir::{Party, Width};
use kernels::ring::{self, Buffer};

/// v or -v.
fn signed(negative: u64, v: u64) -> u64 {
    (v ^ negative.wrapping_neg()).wrapping_add(negative)
}

/// a += b·2^shift.
fn add_shifted(a: &mut [u64], b: &[u64], shift: Width) {
    ring::zip_assign(a, b, move |a, b| a.wrapping_add(b << shift));
}

impl Making<'_> {
    /// Shares of b·v mod 2^width for XOR shares of bits b, each of which goes with `row` neighbouring additive shares of v.
    pub(crate) fn bit_times(&mut self, bits: Bits, v: &[u64], row: usize, width: Width) -> Result<Buffer, PairError> {
        let (mut held, mut own) = (Buffer::unset(v.len()), Buffer::unset(v.len()));
        let rows = held.chunks_exact_mut(row).zip(own.chunks_exact_mut(row)).zip(v.chunks_exact(row));
        for (bit, ((held, own), v)) in bits.iter().zip(rows) {
            for ((held, own), &v) in held.iter_mut().zip(own).zip(v) {
                (*held, *own) = (signed(bit, v), v & bit.wrapping_neg());
            }
        }
        let [chosen, kept] = self.pair.exchange(Group::Sum, bits, &held, row, width)?;
        ring::add_assign(&mut own, &chosen);
        ring::add_assign(&mut own, &kept);
        Ok(own)
    }

    /// Shares of r·v mod 2^width for XOR shares of the `n` bits of integers r, each of which goes with `row` shares of v.
    pub(crate) fn times(
        &mut self,
        bits: &[u64],
        n: Width,
        v: &[u64],
        row: usize,
        width: Width,
    ) -> Result<Buffer, PairError> {
        let mut sum = Buffer::zeros(v.len());
        for bit in 0..n.min(width) {
            add_shifted(&mut sum, &self.bit_times(Bits::of(bits, bit), v, row, width - bit)?, bit);
        }
        Ok(sum)
    }

    /// Shares of a0·a1 mod 2^width for numbers a0 of the client and a1 of the server.
    pub(crate) fn cross(&mut self, a: &[u64], width: Width) -> Result<Buffer, PairError> {
        let mut sum = Buffer::zeros(a.len());
        for bit in 0..width {
            let share = self.one_way(Bits::of(a, bit), a, width - bit)?;
            add_shifted(&mut sum, &share, bit);
        }
        Ok(sum)
    }

    /// Shares of c·d for the client's bits and the server's numbers, as many.
    fn one_way(&mut self, choices: Bits, held: &[u64], width: Width) -> Result<Buffer, PairError> {
        Ok(match self.party() {
            Party::Client => {
                let [chosen, _] = self.pair.exchange(Group::Sum, choices, &[], 1, width)?;
                chosen
            }
            Party::Server => {
                let [_, kept] = self.pair.exchange(Group::Sum, Bits::NONE, held, 1, width)?;
                kept
            }
        })
    }

    /// Shares of the products of the client's bits and the server's, mod 2^width.
    pub(crate) fn both(&mut self, bits: &[u64], width: Width) -> Result<Buffer, PairError> {
        self.one_way(Bits::of(bits, 0), bits, width)
    }

    /// Additive shares mod 2^width, which is 1 or more, of XOR-shared bits.
    pub(crate) fn bit(&mut self, bits: Bits, width: Width) -> Result<Buffer, PairError> {
        let own: Buffer = bits.iter().collect();
        if width == 1 {
            return Ok(own);
        }
        let mut share = self.one_way(bits, &own, width - 1)?;
        ring::zip_assign(&mut share, &own, |product, bit| bit.wrapping_sub(product << 1));
        Ok(share)
    }

    /// Additive shares mod 2^width of the numbers whose `n` low bits are XOR shared, n from 1 to `width`, and of their top
    /// bits mod 2^(width - n + 1).
    pub(crate) fn number(&mut self, bits: &[u64], n: Width, width: Width) -> Result<[Buffer; 2], PairError> {
        let (mut sum, mut top) = (Buffer::zeros(bits.len()), Buffer::default());
        for bit in 0..n {
            top = self.bit(Bits::of(bits, bit), width - bit)?;
            add_shifted(&mut sum, &top, bit);
        }
        Ok([sum, top])
    }

    /// Shares of (1 - 2·s)·v mod 2^width for XOR-shared s, each of which goes with `row` shares of v.
    pub(crate) fn flip(&mut self, s: &[u64], v: &[u64], row: usize, width: Width) -> Result<Buffer, PairError> {
        let mut out = Buffer::from(v.to_vec());
        if width > 1 {
            let product = self.bit_times(Bits::of(s, 0), v, row, width - 1)?;
            ring::zip_assign(&mut out, &product, |v, product| v.wrapping_sub(product << 1));
        }
        Ok(out)
    }

    /// Shares of s_0·s_1·(v_0 + v_1) mod 2^width, s_p = 1 - 2·(own bit), from own numbers s_p·v_p, `row` of them for each bit.
    pub(crate) fn flip_private(&mut self, s: &[u64], v: &[u64], row: usize, width: Width) -> Result<Buffer, PairError> {
        let mut out = Buffer::from(v.to_vec());
        if width > 1 {
            let [chosen, kept] = self.pair.exchange(Group::Sum, Bits::of(s, 0), v, row, width - 1)?;
            for part in [chosen, kept] {
                ring::zip_assign(&mut out, &part, |v, product| v.wrapping_sub(product << 1));
            }
        }
        Ok(out)
    }

    /// Shares of s_0·s_1·v mod 2^width, 2 or more, for the peer's v, then for the own one, from own numbers s_p·v_p.
    pub(crate) fn flipped_by_peer(&mut self, s: &[u64], v: &[u64], width: Width) -> Result<[Buffer; 2], PairError> {
        let [mut chosen, mut kept] = self.pair.exchange(Group::Sum, Bits::of(s, 0), v, 1, width - 1)?;
        ring::map_assign(&mut chosen, |product| (product << 1).wrapping_neg());
        ring::zip_assign(&mut kept, v, |product, v| v.wrapping_sub(product << 1));
        Ok([chosen, kept])
    }

    /// One transfer each way: see [`super::Transfers::exchange`].
    pub(crate) fn exchange(&mut self, choices: Bits, held: &[u64], width: Width) -> Result<[Buffer; 2], PairError> {
        self.pair.exchange(Group::Sum, choices, held, 1, width)
    }

    /// XOR shares of b & v for XOR-shared bits b, each of which goes with `row` shares of words v of `width` bits.
    pub(crate) fn and(&mut self, bits: Bits, v: &[u64], row: usize, width: Width) -> Result<Buffer, PairError> {
        let [mut share, kept] = self.pair.exchange(Group::Xor, bits, v, row, width)?;
        ring::zip_assign(&mut share, &kept, |a, b| a ^ b);
        for (bit, (share, v)) in bits.iter().zip(share.chunks_exact_mut(row).zip(v.chunks_exact(row))) {
            share.iter_mut().zip(v).for_each(|(share, v)| *share ^= v & bit.wrapping_neg());
        }
        Ok(share)
    }

    /// XOR shares of the unit vectors of 2^n entries at numbers of which the bits `low .. low + n` are XOR shared, n from 1 on:
    /// in words as [`super::super::units`] reads them.
    pub(crate) fn units(&mut self, bits: &[u64], low: Width, n: Width) -> Result<Buffer, PairError> {
        let client = u64::from(self.party() == Party::Client);
        // Of one bit b: !b, then b.
        let mut vectors: Buffer = Bits::of(bits, low).iter().map(|b| (b ^ client) | b << 1).collect();
        for level in 1..n {
            let (row, width) = (1 << level.saturating_sub(6), 1 << level.min(6));
            let hit = self.and(Bits::of(bits, low + level), &vectors, row, width as Width)?;
            vectors = if level < 6 {
                vectors.iter().zip(&hit[..]).map(|(v, hit)| (v ^ hit) | hit << width).collect()
            } else {
                let rows = vectors.chunks_exact(row).zip(hit.chunks_exact(row));
                rows.flat_map(|(v, hit)| v.iter().zip(hit).map(|(v, hit)| v ^ hit).chain(hit.iter().copied())).collect()
            };
        }
        Ok(vectors)
    }

    /// XOR shares of whether P1 holds the odd one of unit vectors of `words` words each.
    pub(crate) fn odd(&self, vectors: &[u64], words: usize) -> Buffer {
        let weight = |v: &[u64]| v.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        let server = u64::from(self.party() == Party::Server);
        vectors.chunks_exact(words).map(weight).map(|h| (h >> 1 ^ h & server) & 1).collect()
    }
}
