//! `bit`: the low bit of a shared number as an integer in a ring.
//!
//! Identity  The low bits of the shares are XOR shares h0 ^ h1 of it. Under a bit a = a0 ^ a1 its public part is d = h ^ a, and
//!               h = d + (1 - 2·d)·\[a\].
//! Shapes    That of x. Scale 0, width N.
//! Dealt     a, N bits an element. a_p comes from the seed of p.
//! Online    One round: a bit an element each way. Exact.

use super::{Dealing, Source, Use, Vector, client_bits, units};
use crate::material::MaterialError;
use crate::pair::{Bits, Group, Making, PairError};
use ir::{Party, Width};
use kernels::ring::{self, Tensor};
use std::io;

/// The private bits.
const BITS: u8 = units::MASKS[0];

/// The dealer's side, for `count` elements.
pub fn deal(count: usize, width: Width, client: Use, server: Use, to: &mut Dealing) -> io::Result<()> {
    let [a0, a1] = [client, server].map(|own| own.elements(BITS, 0..count, 1));
    to.correlation(0, 0..count, width, |i| a0[i] ^ a1[i])
}

/// Both parties' side in the dealer's place.
pub(crate) fn make(count: usize, width: Width, to: &mut Making) -> Result<(), PairError> {
    let bits = to.numbers(BITS, count, 1);
    let numbers = to.bit(Bits::of(&bits, 0), width)?;
    to.correlation(Group::Sum, 0, 0, width, numbers)?;
    Ok(())
}

/// What a party waits with for the peer's bits.
pub struct Waiting {
    party: Party,
    shape: Vec<usize>,
    /// Its masked bits, as it sent them.
    sent: Vec<u8>,
    mask: Vector,
}

/// A party's side, first part, which fills `message`: a packed bit an element.
pub fn send(source: &mut Source, x: &Tensor, width: Width, message: &mut [u8]) -> Result<Waiting, MaterialError> {
    let mask = source.vector(0, 0..x.len(), width)?;
    let mut bits = source.own.elements(BITS, 0..x.len(), 1);
    ring::zip_assign(&mut bits, &x.data, |a, h| (a ^ h) & 1);
    ring::pack_into(&bits, 1, message);
    Ok(Waiting { party: source.party, shape: x.shape.clone(), sent: message.to_vec(), mask })
}

impl Waiting {
    /// Bytes of the message, of either party.
    pub fn message_bytes(&self) -> usize {
        self.sent.len()
    }

    /// A party's side, second part, with the peer's message.
    pub fn complete(self, peer: &[u8]) -> Tensor {
        let Waiting { party, shape, sent, mask } = self;
        assert_eq!(peer.len(), sent.len(), "length of a message");
        let (count, client) = (shape.iter().product(), client_bits(party));
        let [mut public, peer] = [&sent[..], peer].map(|packed| ring::unpack(packed, 1, count));
        ring::zip_assign(&mut public, &peer, |own, peer| own ^ peer);
        let mut out = mask.all(count);
        ring::zip_assign(&mut out, &public, move |a, d| {
            (a ^ d.wrapping_neg()).wrapping_sub(d.wrapping_neg()).wrapping_add(d & client)
        });
        Tensor::new(shape, out)
    }
}
