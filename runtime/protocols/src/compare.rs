//! `compare`: whether an opened value reaches public thresholds, as shares mod 2.
//!
//! Identity  1{x >= t} = 1 ^ msb(x - t), with y = x - t + r mod 2^n public: see `digits`.
//! Shapes    The thresholds are a new last axis. Scale 0, width 1.
//! Dealt     A unit vector for each digit of every element of the opening; then, for every result, the top bit of the mask and
//!           the products of the masks of its bits. Those come from the parties' seeds.
//! Online    One round: [`ir::digits::MASKED`] bits a result each way. Exact while |x - t| < 2^(n-1).

use super::{Dealing, Mask, Opening, Source, TASK, Use, Vector, units};
use crate::digits::{self, Comparing};
use crate::material::MaterialError;
use crate::pair::{Group, Making, PairError, Shares};
use ir::digits::{DIGITS, MASKED, PRODUCTS};
use ir::material::unit;
use ir::{Party, Width};
use kernels::ring::{self, Buffer, Tensor};
use rayon::prelude::*;
use std::io;

/// A party's masks of the bits that it sends.
const MASKS: u8 = units::MASKS[0];

/// The dealer's side, for `thresholds` of them.
pub fn deal(x: &Mask, thresholds: usize, client: Use, server: Use, to: &mut Dealing) -> io::Result<()> {
    let (digits, elements) = (ir::digits::digits(x.width), x.r.len());
    for (index, &digit) in digits.iter().enumerate() {
        let (words, bits) = unit(1 << digit);
        let words = words as usize;
        to.bits(index as u8, elements * words, bits as Width, |i| {
            let at = digits::digit(&digits, x.r.data[i / words], index) as usize;
            u64::from(at / 64 == i % words) << (at % 64)
        })?;
    }
    let results = elements * thresholds;
    let [c, s] = [client, server].map(|own| own.elements(MASKS, 0..results, MASKED));
    to.bits(DIGITS as u8, results, PRODUCTS, |i| digits::dealt(x.top(i / thresholds), c[i] ^ s[i]))
}

/// Both parties' side in the dealer's place.
pub(crate) fn make(x: &Shares, thresholds: usize, to: &mut Making) -> Result<(), PairError> {
    digits::make_units(&x.bits, &ir::digits::digits(x.width), to)?;
    let top = |bits: &u64| std::iter::repeat_n(bits >> (x.width - 1) & 1, thresholds);
    let tops: Buffer = x.bits.iter().flat_map(top).collect();
    let masks = to.numbers(MASKS, tops.len(), MASKED);
    let products = digits::make(tops, &masks, to)?;
    to.correlation(Group::Xor, DIGITS as u8, 0, PRODUCTS, products)?;
    Ok(())
}

/// What a party waits with for the peer's bits.
pub struct Waiting {
    party: Party,
    shape: Vec<usize>,
    /// Its half, as it sent it.
    sent: Vec<u8>,
    state: Vec<Comparing>,
}

/// A party's side, first part, which fills `message`.
pub fn send(
    source: &mut Source,
    x: &Opening,
    thresholds: &[i64],
    message: &mut [u8],
) -> Result<Waiting, MaterialError> {
    let (digits, elements, count) = (ir::digits::digits(x.width()), x.len(), thresholds.len());
    let results = elements * count;
    assert_eq!(message.len(), ring::packed_len(results, MASKED), "length of a message");
    let mut dealt: [(Vector, usize); DIGITS] = Default::default();
    for (index, (dealt, &digit)) in dealt.iter_mut().zip(&digits).enumerate() {
        let (words, bits) = unit(1 << digit);
        let words = words as usize;
        *dealt = (source.vector(index as u8, 0..elements * words, bits as Width)?, words);
    }
    let products = source.vector(DIGITS as u8, 0..results, PRODUCTS)?;
    let (party, masks) = (source.party, source.own.stream(MASKS));
    let client = u64::from(party == Party::Client);
    let mut state = vec![Comparing::default(); results];
    // Whole bytes of the message for every chunk of elements.
    let chunk = (TASK / count).max(1).next_multiple_of(8);
    let chunks =
        state.par_chunks_mut(chunk * count).zip(message.par_chunks_mut(chunk * count * usize::from(MASKED) / 8));
    let rooms = || (<[Vec<u64>; DIGITS]>::default(), <[Vec<u64>; 2]>::default());
    chunks.enumerate().for_each_init(rooms, |(units, rest), (number, (state, packed))| {
        let (first, elements) = (number * chunk, state.len() / count);
        for (unit, (dealt, words)) in units.iter_mut().zip(&dealt) {
            unit.resize(elements * words, 0);
            dealt.fill(first * words, unit);
        }
        let [products_of, halves] = rest;
        products_of.resize(state.len(), 0);
        halves.resize(state.len(), 0);
        products.fill(first * count, products_of);
        masks.fill((first * count) as u64, MASKED, halves);
        for (i, ((state, half), product)) in state.iter_mut().zip(&mut *halves).zip(&*products_of).enumerate() {
            let element = i / count;
            let at = x.compare(first + element, thresholds[i % count]);
            let y = std::array::from_fn(|index| digits::digit(&digits, at.point, index));
            let unit = |index: usize| &units[index][element * dealt[index].1..(element + 1) * dealt[index].1];
            (*state, *half) = Comparing::begin(y, at.above, unit, *product, *half, client);
        }
        ring::pack_into(halves, MASKED, packed);
    });
    let shape = [x.shape(), &[count]].concat();
    Ok(Waiting { party, shape, sent: message.to_vec(), state })
}

impl Waiting {
    /// Bytes of the message, of either party.
    pub fn message_bytes(&self) -> usize {
        self.sent.len()
    }

    /// A party's side, second part, with the peer's message.
    pub fn complete(self, peer: &[u8]) -> Tensor {
        let Waiting { party, shape, sent, state } = self;
        assert_eq!(peer.len(), sent.len(), "length of a message");
        let client = u64::from(party == Party::Client);
        let [mut out, peer] = [&sent[..], peer].map(|packed| ring::unpack(packed, MASKED, state.len()));
        let all = out.par_iter_mut().zip(peer.par_iter()).zip(&state).with_min_len(TASK);
        all.for_each(|((out, peer), state)| *out = state.outcome(*out ^ peer, client));
        Tensor::new(shape, out)
    }
}
