//! `extend`: the same value in a wider ring, for a bit each way.
//!
//! Identity  Claim |x| < 2^(n-2); P0 adds 2^(n-2), so that the sum of the shares mod 2^n lies below 2^(n-1). Then their sum as
//!           integers passes 2^n unless both shares have a clear top bit. With c_p = 1 - msb of the own share,
//!               x + 2^(n-2) = x0 + x1 - 2^n + c0·c1·2^n.
//!           c_p is sent under a private bit: d_p = c_p ^ a_p is public, and with s_p = 1 - 2·d_p
//!               c0·c1 = d0·d1 + d1·s0·a0 + d0·s1·a1 + s0·s1·[a0·a1].
//!           (SIRNN, Rathee et al., IEEE S&P 2021, has the idea; the offset spares one of two products.)
//! Shapes    That of x. Scale stays.
//! Dealt     a0·a1, N - n bits an element. a_p comes from the seed of p.
//! Online    One round: a bit an element each way. Exact within the claim, for every way to share x.

use super::{Dealing, Source, TASK, Use, Vector, client_bits, if_client, times_power, units};
use crate::material::MaterialError;
use crate::pair::{Group, Making, PairError};
use ir::{Party, Width};
use kernels::cpu::{Cpu, multiversion};
use kernels::prg::Stream;
use kernels::ring::{self, Tensor};
use rayon::prelude::*;
use std::io;

/// The private bits.
const BITS: u8 = units::MASKS[0];

/// From a claim of `claim` bits to `width` bits.
#[derive(Clone, Copy)]
pub struct Widths {
    /// n.
    pub claim: Width,
    /// N.
    pub width: Width,
}

/// The dealer's side, for `count` elements.
pub fn deal(count: usize, widths: Widths, client: Use, server: Use, to: &mut Dealing) -> io::Result<()> {
    let [a0, a1] = [client, server].map(|own| own.elements(BITS, 0..count, 1));
    to.correlation(0, 0..count, widths.width - widths.claim, |i| a0[i] & a1[i])
}

/// Both parties' side in the dealer's place.
pub(crate) fn make(count: usize, widths: Widths, to: &mut Making) -> Result<(), PairError> {
    let bits = widths.width - widths.claim;
    let own = to.numbers(BITS, count, 1);
    let products = to.both(&own, bits)?;
    to.correlation(Group::Sum, 0, 0, bits, products)?;
    Ok(())
}

/// A value whose peer's bits are on their way.
pub struct Waiting {
    widths: Widths,
    /// The share with the offset, mod 2^n.
    share: Tensor,
    /// The private bits, and with them masked those that were sent.
    bits: Box<Stream>,
    sent: Vec<u8>,
    product: Vector,
}

/// A party's side, first part, which fills `message`: a packed bit an element.
pub fn send(source: &mut Source, x: &Tensor, widths: Widths, message: &mut [u8]) -> Result<Waiting, MaterialError> {
    let Widths { claim, width } = widths;
    let (count, party) = (x.len(), source.party);
    assert_eq!(message.len(), ring::packed_len(count, 1), "length of a message");
    let offset = if_client(party, 1 << (claim - 2));
    let product = source.vector(0, 0..count, width - claim)?;
    let bits = Box::new(source.own.stream(BITS));
    let mut share = Tensor::unset(&x.shape);
    let chunks = share.data.par_chunks_mut(TASK).zip(message.par_chunks_mut(TASK / 8)).zip(x.data.par_chunks(TASK));
    chunks.enumerate().for_each_init(
        || vec![0; TASK],
        |room, (number, ((share, packed), x))| {
            let bits_to_send = &mut room[..share.len()];
            bits.fill((number * TASK) as u64, 1, bits_to_send);
            begin(Cpu::get(), claim, offset, x, share, bits_to_send);
            ring::pack_into(bits_to_send, 1, packed);
        },
    );
    Ok(Waiting { widths, share, bits, sent: message.to_vec(), product })
}

multiversion! {
    /// Shares of neighbouring elements in the claim's ring, and whether their top bits are clear, added to `bits`.
    fn begin(claim: Width, offset: u64, x: &[u64], share: &mut [u64], bits: &mut [u64]) {
        let full = ring::mask(claim);
        for ((share, bit), x) in share.iter_mut().zip(bits).zip(x) {
            *share = x.wrapping_add(offset) & full;
            *bit ^= 1 ^ *share >> (claim - 1);
        }
    }
}

multiversion! {
    /// Adds what the sum of the shares passes 2^n by. Parts of neighbouring elements: own bits, the peer's, private ones, and shares
    /// of products.
    fn finish(party: Party, claim: Width, parts: [&[u64]; 4], share: &mut [u64]) {
        let public = if_client(party, (1u64 << (claim - 2)).wrapping_add(times_power(1, claim)));
        let client = client_bits(party);
        let [own, peer, bits, products] = parts.map(|part| &part[..share.len()]);
        for (i, share) in share.iter_mut().enumerate() {
            // v times 1 - 2·d.
            let flip = |v: u64, d: u64| (v ^ d.wrapping_neg()).wrapping_sub(d.wrapping_neg());
            let both = flip(flip(products[i], own[i]), peer[i]);
            let single = flip(peer[i] & bits[i], own[i]);
            let wrap = both.wrapping_add(single).wrapping_add(own[i] & peer[i] & client);
            *share = share.wrapping_add(times_power(wrap, claim)).wrapping_sub(public);
        }
    }
}

impl Waiting {
    /// Bytes of the message, of either party.
    pub fn message_bytes(&self) -> usize {
        self.sent.len()
    }

    /// A party's side, second part, with the peer's message.
    pub fn complete(self, party: Party, peer: &[u8]) -> Tensor {
        let Waiting { widths: Widths { claim, .. }, mut share, bits, sent, product } = self;
        assert_eq!(peer.len(), sent.len(), "length of a message");
        let chunks = share.data.par_chunks_mut(TASK).zip(sent.par_chunks(TASK / 8)).zip(peer.par_chunks(TASK / 8));
        chunks.enumerate().for_each_init(
            || std::array::from_fn(|_| vec![0; TASK]),
            |room: &mut [Vec<u64>; 4], (number, ((share, sent), peer))| {
                let [own, of_peer, private, products] = room.each_mut().map(|room| &mut room[..share.len()]);
                ring::unpack_range(sent, 1, 0, own);
                ring::unpack_range(peer, 1, 0, of_peer);
                bits.fill((number * TASK) as u64, 1, private);
                product.fill(number * TASK, products);
                finish(Cpu::get(), party, claim, [own, of_peer, private, products], share);
            },
        );
        share
    }
}
