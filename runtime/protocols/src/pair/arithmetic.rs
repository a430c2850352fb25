//! What the protocols need of transfers: bits times numbers, numbers of bits, unit vectors and signs, on shares.
//!
//! Identities  For a bit b = b0 ^ b1 and a number v = v0 + v1: b·v = Σ_p b_p·v_p + (1 - 2·b_p)·v_p·b_o with o the other party, so
//!             each chooses by its share and holds (1 - 2·b_p)·v_p. As a number b is b0 + b1 - 2·b0·b1.
//!             The unit vector at a number grows by a bit b of it at a time: e becomes e & !b, then e & b behind it, two
//!             transfers of as many bits as e has (Heath and Kolesnikov, CCS 2021, section 3, have the tensor with a bit).
//!             Of a shared unit vector as integers, b0 - b1 = s·e; s is negative if P1 holds the odd one, which is the XOR of
//!             bit 1 of the weights of both and of bit 0 of P1's: the weights differ by s, and their sum is odd.

use super::{Bits, Exchange, Group, Making, PairError};
use ir::{Party, Width};
use kernels::ring::{self, Buffer};

/// v, or -v where `negative` is 1.
pub(crate) fn signed(negative: u64, v: u64) -> u64 {
    (v ^ negative.wrapping_neg()).wrapping_add(negative)
}

/// a += b·2^shift.
fn add_shifted(a: &mut [u64], b: &[u64], shift: Width) {
    ring::zip_assign(a, b, move |a, b| a.wrapping_add(b << shift));
}

/// Elements that are in work at once, each with `n` rows of numbers: a message of them stays small beside the rest of a step.
fn at_once(n: Width, row: usize) -> usize {
    (AT_ONCE / (usize::from(n.max(1)) * row)).max(1)
}

/// Numbers that a message of transfers has, about.
const AT_ONCE: usize = 1 << 22;

/// Vectors one after another.
pub(crate) fn joined(parts: &[Buffer]) -> Buffer {
    let mut all = Buffer::unset(parts.iter().map(|part| part.len()).sum());
    let mut rest = &mut all[..];
    for part in parts {
        rest.split_off_mut(..part.len()).expect("room for all").copy_from_slice(part);
    }
    all
}

/// A party's part of b·v for its shares of both.
fn own_products(bits: Bits, v: &[u64], row: usize) -> Buffer {
    let mut own = Buffer::unset(v.len());
    for (bit, (own, v)) in bits.iter().zip(own.chunks_exact_mut(row).zip(v.chunks_exact(row))) {
        own.iter_mut().zip(v).for_each(|(own, v)| *own = v & bit.wrapping_neg());
    }
    own
}

/// (1 - 2·b)·v, which a party holds for the other's bits.
fn flipped(bits: Bits, v: &[u64], row: usize) -> Buffer {
    let mut held = Buffer::unset(v.len());
    for (bit, (held, v)) in bits.iter().zip(held.chunks_exact_mut(row).zip(v.chunks_exact(row))) {
        held.iter_mut().zip(v).for_each(|(held, v)| *held = signed(bit, *v));
    }
    held
}

impl Making<'_> {
    /// One exchange of additive shares.
    pub(super) fn sums(
        &mut self,
        choices: Bits,
        held: &[u64],
        row: usize,
        width: Width,
    ) -> Result<[Buffer; 2], PairError> {
        let ask = Exchange { group: Group::Sum, choices, held, row, width };
        Ok(self.pair.exchange(&[ask])?.remove(0))
    }

    /// Shares of b·v mod 2^width for XOR shares of bits b, each of which goes with `row` neighbouring additive shares of v.
    pub(crate) fn bit_times(&mut self, bits: Bits, v: &[u64], row: usize, width: Width) -> Result<Buffer, PairError> {
        let [chosen, kept] = self.sums(bits, &flipped(bits, v, row), row, width)?;
        let mut own = own_products(bits, v, row);
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
        let at_once = at_once(n, row);
        if bits.len() > at_once {
            let parts = bits.chunks(at_once).zip(v.chunks(at_once * row));
            let parts = parts.map(|(bits, v)| self.times(bits, n, v, row, width)).collect::<Result<Vec<_>, _>>()?;
            return Ok(joined(&parts));
        }
        let held: Vec<Buffer> = (0..n.min(width)).map(|bit| flipped(Bits::of(bits, bit), v, row)).collect();
        let held: Vec<&[u64]> = held.iter().map(|held| &held[..]).collect();
        let mut sum = self.weighted(bits, &held, row, width)?;
        for bit in 0..n.min(width) {
            add_shifted(&mut sum, &own_products(Bits::of(bits, bit), v, row), bit);
        }
        Ok(sum)
    }

    /// Σ 2^t·(share of the own bits t times the peer's numbers t + share of the peer's bits t times own numbers t), in one message.
    fn weighted(&mut self, bits: &[u64], held: &[&[u64]], row: usize, width: Width) -> Result<Buffer, PairError> {
        let length = held.first().map_or(0, |held| held.len()).max(bits.len() * row);
        let asked: Vec<Exchange> = (0..)
            .zip(held)
            .map(|(bit, &held)| Exchange {
                group: Group::Sum,
                choices: Bits::of(bits, bit),
                held,
                row,
                width: width - bit,
            })
            .collect();
        let mut sum = Buffer::zeros(length);
        for (bit, parts) in (0..).zip(self.pair.exchange(&asked)?) {
            parts.iter().filter(|part| !part.is_empty()).for_each(|part| add_shifted(&mut sum, part, bit));
        }
        Ok(sum)
    }

    /// Shares of Σ_p x_p·y_o mod 2^width, o the party that p is not: of the own x, `n` bits each, times the peer's y, and the reverse.
    pub(crate) fn crossed(&mut self, x: &[u64], n: Width, y: &[u64], width: Width) -> Result<Buffer, PairError> {
        self.weighted(x, &vec![y; usize::from(n.min(width))], 1, width)
    }

    /// Shares of a0·a1 mod 2^width for numbers a0 of the client and a1 of the server.
    pub(crate) fn cross(&mut self, a: &[u64], width: Width) -> Result<Buffer, PairError> {
        let at_once = at_once(width, 1);
        if a.len() > at_once {
            let parts = a.chunks(at_once).map(|a| self.cross(a, width)).collect::<Result<Vec<_>, _>>()?;
            return Ok(joined(&parts));
        }
        let (bits, held): (&[u64], &[u64]) = if self.party() == Party::Client { (a, &[]) } else { (&[], a) };
        let share = self.weighted(bits, &vec![held; width.into()], 1, width)?;
        Ok(if share.is_empty() { Buffer::zeros(a.len()) } else { share })
    }

    /// Shares of c·d for the client's bits and the server's numbers, as many.
    fn one_way(&mut self, bits: Bits, held: &[u64], width: Width) -> Result<Buffer, PairError> {
        let [chosen, kept] = match self.party() {
            Party::Client => self.sums(bits, &[], 1, width)?,
            Party::Server => self.sums(Bits::NONE, held, 1, width)?,
        };
        Ok(if self.party() == Party::Client { chosen } else { kept })
    }

    /// Shares of the products of the client's bits and the server's, mod 2^width.
    pub(crate) fn both(&mut self, bits: &[u64], width: Width) -> Result<Buffer, PairError> {
        self.one_way(Bits::of(bits, 0), bits, width)
    }

    /// Additive shares mod 2^width, which is 1 or more, of XOR-shared bits.
    pub(crate) fn bit(&mut self, bits: Bits, width: Width) -> Result<Buffer, PairError> {
        let own: Buffer = bits.iter().collect();
        let [sum, _] = self.number(&own, 1, width)?;
        Ok(sum)
    }

    /// Additive shares mod 2^width of the numbers whose `n` low bits are XOR shared, n from 1 to `width`, and of their top
    /// bits mod 2^(width - n + 1). In one message: bit t is b0 + b1 - 2·b0·b1, mod 2^(width - t).
    pub(crate) fn number(&mut self, bits: &[u64], n: Width, width: Width) -> Result<[Buffer; 2], PairError> {
        let at_once = at_once(n, 1);
        if bits.len() > at_once {
            let parts = bits.chunks(at_once).map(|bits| self.number(bits, n, width)).collect::<Result<Vec<_>, _>>()?;
            let [sums, tops] = parts.into_iter().map(|[sum, top]| (sum, top)).unzip::<_, _, Vec<_>, Vec<_>>().into();
            return Ok([joined(&sums), joined(&tops)]);
        }
        // A bit mod 2 is its own share.
        let exchanged = n.min(width - 1);
        let own: Vec<Buffer> = (0..exchanged).map(|bit| Bits::of(bits, bit).iter().collect()).collect();
        let client = self.party() == Party::Client;
        let asked: Vec<Exchange> = (0..)
            .zip(&own)
            .map(|(bit, own)| {
                let (choices, held): (Bits, &[u64]) =
                    if client { (Bits::of(bits, bit), &[]) } else { (Bits::NONE, own) };
                Exchange { group: Group::Sum, choices, held, row: 1, width: width - bit - 1 }
            })
            .collect();
        let products = self.pair.exchange(&asked)?;
        let (mut sum, mut top) = (Buffer::zeros(bits.len()), Buffer::default());
        for bit in 0..n {
            top = Bits::of(bits, bit).iter().collect();
            if let Some([chosen, kept]) = products.get(usize::from(bit)) {
                let product = if client { chosen } else { kept };
                ring::zip_assign(&mut top, product, |bit, product| bit.wrapping_sub(product << 1));
            }
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
            let [chosen, kept] = self.sums(Bits::of(s, 0), v, row, width - 1)?;
            for part in [chosen, kept] {
                ring::zip_assign(&mut out, &part, |v, product| v.wrapping_sub(product << 1));
            }
        }
        Ok(out)
    }

    /// Shares of s_0·s_1·v mod 2^width, 2 or more, for the peer's v, then for the own one, from own numbers s_p·v_p.
    pub(crate) fn flipped_by_peer(&mut self, s: &[u64], v: &[u64], width: Width) -> Result<[Buffer; 2], PairError> {
        let [mut chosen, mut kept] = self.sums(Bits::of(s, 0), v, 1, width - 1)?;
        ring::map_assign(&mut chosen, |product| (product << 1).wrapping_neg());
        ring::zip_assign(&mut kept, v, |product, v| v.wrapping_sub(product << 1));
        Ok([chosen, kept])
    }

    /// XOR shares of b & v for XOR-shared bits b, each of which goes with `row` shares of words v of `width` bits.
    pub(crate) fn and(&mut self, bits: Bits, v: &[u64], row: usize, width: Width) -> Result<Buffer, PairError> {
        let ask = Exchange { group: Group::Xor, choices: bits, held: v, row, width };
        let [mut share, kept] = self.pair.exchange(&[ask])?.remove(0);
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
