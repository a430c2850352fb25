//! Unit vectors at secret places, and what follows from them.
//!
//! Identity  If v is the unit vector at the low t bits of a number and b its bit t, then v·(1 - b) followed by v·b is the
//!           one at the low t + 1 bits. Of v·b = (v0 ⊕ v1)·(b0 ⊕ b1) two terms are local and two are transfers of strings
//!           of 2^t bits, one in each direction.
//! Rounds    One exchange of choices, and one for each bit but the first: the choices of all bits go ahead.
//! Signs     As integers b0 - b1 = s·e for the shares of a unit vector e, and s follows from the weights mod 4 of each
//!           party's own bits: weights differ by s, so that s = -1 exactly if bit 1 of h0 differs from bit 1 of h1 + 1, which
//!           is bit 1 of h1 changed by bit 0 of h1.
//! Errors    None: exact.

use crate::bits::Bits;
use crate::channel::{Channel, exchange};
use crate::convert::{choose_number, hold_number, number_bytes};
use crate::error::Error;
use crate::pair::{Pair, rows};
use crate::transfer::Form;
use ir::Party;
use ir::material::unit;
use kernels::ring::mask;

/// Most bits of a place.
pub const MAX_BITS: u8 = 10;

/// Words of a unit vector at a place of `bits` bits: 64 bits in a word, or one word of fewer.
pub fn words(bits: u8) -> usize {
    unit(1 << bits).0 as usize
}

/// The vectors of twice the length: `low` where the new bit is 0, `high` where it is 1, of `positions` bits each.
fn double(low: &[u64], high: &[u64], positions: usize) -> Vec<u64> {
    if positions < 64 {
        return low.iter().zip(high).map(|(low, high)| low | high << positions).collect();
    }
    let each = positions / 64;
    low.chunks_exact(each).zip(high.chunks_exact(each)).flat_map(|(low, high)| [low, high]).flatten().copied().collect()
}

impl Pair {
    /// Shares by exclusive or of the unit vectors at places of 1 to [`MAX_BITS`] bits, which are shared so too: `places`
    /// are a party's shares. [`words`] words an element, bit j of a vector being bit j % 64 of word j / 64.
    pub fn units(&mut self, channel: &mut dyn Channel, places: &[u64], bits: u8) -> Result<Vec<u64>, Error> {
        Ok(self.grow(channel, places, bits, false)?.0)
    }

    /// As [`Pair::units`], and shares of the places mod 2^`bits` too, by the same choices and in the same messages.
    pub fn index(
        &mut self,
        channel: &mut dyn Channel,
        places: &[u64],
        bits: u8,
    ) -> Result<(Vec<u64>, Vec<u64>), Error> {
        self.grow(channel, places, bits, true)
    }

    fn grow(
        &mut self,
        channel: &mut dyn Channel,
        places: &[u64],
        bits: u8,
        number: bool,
    ) -> Result<(Vec<u64>, Vec<u64>), Error> {
        assert!((1..=MAX_BITS).contains(&bits), "a place is 1 to {MAX_BITS} bits");
        let (party, count) = (self.party(), places.len());
        // P0's bit 0 is a choice for the number alone.
        let [first, theirs_first] = match party {
            Party::Client => [u8::from(!number), 1],
            Party::Server => [1, u8::from(!number)],
        };
        let planes = |first: u8| if bits > 1 { first..bits } else { 0..0 };
        let own = planes(first).map(|place| Bits::of(places, place)).collect();
        let (mut chosen, mut offered) = self.choose(channel, own, &vec![count; planes(theirs_first).len()])?;

        // The number's transfers go with those of the first doubling.
        let mut share: Vec<u64> = places.iter().map(|v| v & mask(bits)).collect();
        let mut message = Vec::new();
        if number && bits > 1 && party == Party::Server {
            share = hold_number(&mut offered, places, bits, bits, &mut message);
        }
        let mut expected = if number && party == Party::Client { number_bytes(count, bits, bits) } else { 0 };

        let one = u64::from(party == Party::Client);
        let mut vector: Vec<u64> = places.iter().map(|v| (v & 1 ^ one) | (v & 1) << 1).collect();
        for place in 1..bits {
            let positions = 1usize << place;
            let (form, len) = Form::string(positions);
            let held = offered[usize::from(place - theirs_first)].give(&vector, len, form, &mut message);
            expected += form.message_bytes(count * len);
            let got = exchange(channel, std::mem::take(&mut message), expected)?;
            let mut rest = &got[..];
            if place == 1 && number && party == Party::Client {
                share = choose_number(&mut chosen, places, bits, bits, &mut rest);
            }
            expected = 0;
            let chosen = &mut chosen[usize::from(place - first)];
            let mut high = chosen.get(&mut rest, len, form);
            for (i, (high, (held, v))) in
                high.chunks_exact_mut(len).zip(held.chunks_exact(len).zip(vector.chunks_exact(len))).enumerate()
            {
                let bit = chosen.bits().filled(i);
                high.iter_mut().zip(held).zip(v).for_each(|((high, held), v)| *high ^= held ^ v & bit);
            }
            let low: Vec<u64> = vector.iter().zip(&high).map(|(v, high)| v ^ high).collect();
            vector = double(&low, &high, positions);
        }
        Ok((vector, share))
    }

    /// Shares of (-1)^s·v mod 2^`width`, where s is shared by exclusive or and v by sums: `signs` and `values` are a party's
    /// shares, a row of `len` values for each sign.
    pub fn flip(
        &mut self,
        channel: &mut dyn Channel,
        signs: &[u64],
        values: &[u64],
        len: usize,
        width: u8,
    ) -> Result<Vec<u64>, Error> {
        assert_eq!(rows(values, len), signs.len(), "a row for each sign");
        let each = values.chunks_exact(len).zip(signs);
        let mut own: Vec<u64> = each
            .flat_map(|(row, sign)| {
                let sign = (sign & 1).wrapping_neg();
                row.iter().map(move |v| (v ^ sign).wrapping_sub(sign))
            })
            .collect();
        let change: Vec<u64> = own.iter().map(|v| v.wrapping_mul(2).wrapping_neg()).collect();
        let [chosen, held] = self.correlate(channel, signs, &change, len, Form::Sum(width))?;
        for ((own, a), b) in own.iter_mut().zip(chosen).zip(held) {
            *own = own.wrapping_add(a).wrapping_add(b) & mask(width);
        }
        Ok(own)
    }
}

/// A party's shares, by exclusive or, of whether s = -1 for unit vectors of `words` words each: local.
pub fn signs(party: Party, vectors: &[u64], words: usize) -> Vec<u64> {
    let sign = |vector: &[u64]| {
        let weight = vector.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        match party {
            Party::Client => weight >> 1 & 1,
            Party::Server => (weight >> 1 ^ weight) & 1,
        }
    };
    vectors.chunks_exact(words).map(sign).collect()
}
