//! What `compare` and `choose` read: 1{y < r} for a public y and the low bits of a mask r, digit by digit, as an XOR share.
//!
//! Identity  See [`ir::digits`]. With shares of unit vectors at r's digits, e_k and l_k are XORs of a party's own bits. Bits e1 to e3
//!           and l2 to l4 are opened under masks, the shares of whose products are dealt; the borrow is a sum of public
//!           multiples of those. The outcome is 1{x >= 0} = 1 ^ msb(y) ^ msb(r) ^ 1{y_low < r_low} for y = x + r.

use crate::pair::{Bits, Group, Making, PairError};
use ir::Width;
use ir::digits::{DIGITS, SETS};
use kernels::ring::{self, Buffer};

/// A party's shares of the products of masks by set of e: with l2, l3 and l4, then alone.
type Products = [[u64; 8]; DIGITS];

/// The digit at `index` of a number, and the bits below it.
pub(super) fn digit(digits: &[Width; DIGITS], y: u64, index: usize) -> u64 {
    let below: Width = digits[index + 1..].iter().sum();
    (y >> below) & ring::mask(digits[index])
}

/// What the dealer deals of a comparison beside its unit vectors: the top bit of the mask and the products of its bits' masks.
pub(super) fn dealt(top: u64, masks: u64) -> u64 {
    let bit = |j: usize| masks >> j & 1;
    let product = |&(set, l): &(usize, Option<usize>)| {
        let of_e = (0..3).filter(|j| set >> j & 1 == 1).map(bit).product::<u64>();
        l.map_or(of_e, |l| of_e & bit(3 + l))
    };
    let products = SETS.iter().enumerate().fold(0, |word, (at, set)| word | product(set) << (at + 1));
    top | products
}

/// Both parties' side in the dealer's place, of that: XOR shares, from the parties' shares of the top bits and of the masks.
pub(super) fn make(tops: Buffer, masks: &[u64], to: &mut Making) -> Result<Buffer, PairError> {
    let bit = |j: Width| -> Buffer { Bits::of(masks, j).iter().collect() };
    let e = [bit(0), bit(1), bit(2)];
    let e12 = to.and(Bits::of(&e[0], 0), &e[1], 1, 1)?;
    let word = |parts: &[&Buffer]| -> Buffer {
        let word = |i: usize| parts.iter().enumerate().fold(0, |word, (at, part)| word | (part[i] & 1) << at);
        (0..masks.len()).map(word).collect()
    };
    let with_e3 = to.and(Bits::of(&e[2], 0), &word(&[&e[0], &e[1], &e12]), 1, 3)?;
    let of = |at: Width| -> Buffer { Bits::of(&with_e3, at).iter().collect() };
    let [e13, e23, e123] = [0, 1, 2].map(of);
    let sets = [None, Some(&e[0]), Some(&e[1]), Some(&e12), Some(&e[2]), Some(&e13), Some(&e23), Some(&e123)];
    let mut products = tops;
    for l in [None, Some(0), Some(1), Some(2)] {
        let places = (1..).zip(&SETS).filter(|(_, (_, of))| *of == l);
        let (places, parts): (Vec<Width>, Vec<&Buffer>) =
            places.map(|(at, &(set, _))| (at, sets[set].expect("sets are not empty"))).unzip();
        let parts = word(&parts);
        let of_l = match l {
            None => parts,
            Some(l) => to.and(Bits::of(masks, 3 + l as Width), &parts, 1, places.len() as Width)?,
        };
        for (from, at) in (0..).zip(places) {
            ring::zip_assign(&mut products, &of_l, move |products, of_l| products | (of_l >> from & 1) << at);
        }
    }
    Ok(products)
}

/// Both parties' side in the dealer's place, of unit vectors at the digits of numbers below their top bit, XOR shared: correlations
/// from number 0 on.
pub(super) fn make_units(bits: &[u64], digits: &[Width; DIGITS], to: &mut Making) -> Result<(), PairError> {
    let mut low: Width = digits.iter().sum();
    for (index, &digit) in (0..).zip(digits) {
        low -= digit;
        let units = to.units(bits, low, digit)?;
        let (_, word_bits) = ir::material::unit(1 << digit);
        to.correlation(Group::Xor, index, 0, word_bits as Width, units)?;
    }
    Ok(())
}

/// A comparison under way.
#[derive(Clone, Copy, Default)]
pub(super) struct Comparing {
    /// The party's share of 1 ^ msb(y) ^ msb(r) ^ l1, the public part at the client.
    outcome: u64,
    /// Products of the masks of its bits.
    products: u64,
    /// The masks.
    masks: u64,
}

impl Comparing {
    /// Begins, with y's digits and whether it has its top bit, the party's unit vectors at r's digits, what was dealt beside them,
    /// and its share of the masks. Gives its half of the masked bits, too.
    #[inline(always)]
    pub(super) fn begin<'a>(
        y: [u64; DIGITS],
        above: bool,
        units: impl Fn(usize) -> &'a [u64],
        dealt: u64,
        masks: u64,
        client: u64,
    ) -> (Comparing, u64) {
        let (mut equal, mut less) = ([0; DIGITS], [0; DIGITS]);
        for (index, &digit) in y.iter().enumerate() {
            (equal[index], less[index]) = read(units(index), digit);
        }
        let outcome = less[0] ^ (dealt & 1) ^ (client & u64::from(!above));
        let bits = [equal[0], equal[1], equal[2], less[1], less[2], less[3]];
        let half = bits.iter().enumerate().fold(masks, |word, (at, bit)| word ^ bit << at);
        (Comparing { outcome, products: dealt >> 1, masks }, half)
    }

    /// The party's share of the outcome, the masked bits being `opened`.
    #[inline(always)]
    pub(super) fn outcome(&self, opened: u64, client: u64) -> u64 {
        self.outcome ^ self.borrow(opened, client)
    }

    /// A party's share of e1·l2 ^ e1·e2·l3 ^ e1·e2·e3·l4.
    #[inline(always)]
    fn borrow(&self, opened: u64, client: u64) -> u64 {
        let mask = |j: usize| self.masks >> j & 1;
        let mut shares: Products = [[0; 8]; DIGITS];
        shares[DIGITS - 1][0] = client;
        for j in 0..3 {
            shares[DIGITS - 1][1 << j] = mask(j);
            shares[j][0] = mask(3 + j);
        }
        for (at, (set, l)) in SETS.iter().enumerate() {
            shares[l.unwrap_or(DIGITS - 1)][*set] = self.products >> at & 1;
        }
        let mut sum = 0;
        for j in 0..3 {
            let l = opened >> (3 + j) & 1;
            let all = (2 << j) - 1;
            for (set, with_l) in shares[j].iter().enumerate().take(all + 1) {
                // The bits whose public part stands in the product.
                let rest = all & !set;
                let public = u64::from(opened as usize & rest == rest);
                sum ^= public & ((l & shares[DIGITS - 1][set]) ^ with_l);
            }
        }
        sum
    }
}

/// A party's share of 1{digit = r's} and of 1{digit < r's}: an entry of the unit vector, and all above it.
#[inline(always)]
fn read(unit: &[u64], digit: u64) -> (u64, u64) {
    let (word, bit) = (digit as usize / 64, digit % 64);
    let above = unit[word + 1..].iter().fold(unit[word] >> bit >> 1, |sum, word| sum ^ word);
    (unit[word] >> bit & 1, u64::from(above.count_ones() & 1))
}
