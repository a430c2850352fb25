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

use super::{Dealing, Source, Use, Vector, if_client, times_power, units};
use crate::material::MaterialError;
use ir::{Party, Width};
use kernels::ring::{self, Buffer, Tensor};
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

/// A value whose peer's bits are on their way.
pub struct Waiting {
    widths: Widths,
    /// The share with the offset, mod 2^n.
    share: Tensor,
    /// The private bits, and with them masked those that were sent.
    bits: Buffer,
    sent: Buffer,
    product: Vector,
}

/// A party's side, first part; the bits are [`Waiting::message`].
pub fn send(source: &mut Source, x: &Tensor, widths: Widths) -> Result<Waiting, MaterialError> {
    let Widths { claim, width } = widths;
    let (count, party) = (x.len(), source.party);
    let (offset, full) = (if_client(party, 1 << (claim - 2)), ring::mask(claim));
    let product = source.vector(0, 0..count, width - claim)?;
    let bits = source.own.elements(BITS, 0..count, 1);
    let mut share = Tensor::unset(&x.shape);
    let mut sent = Buffer::unset(count);
    for (i, &x) in x.data.iter().enumerate() {
        share.data[i] = x.wrapping_add(offset) & full;
        sent[i] = 1 ^ share.data[i] >> (claim - 1) ^ bits[i];
    }
    Ok(Waiting { widths, share, bits, sent, product })
}

impl Waiting {
    /// One bit an element.
    pub fn message(&self) -> &[u64] {
        &self.sent
    }

    /// A party's side, second part, with the peer's bits.
    pub fn complete(self, party: Party, peer: &[u64]) -> Tensor {
        let Waiting { widths: Widths { claim, .. }, mut share, bits, sent, product } = self;
        let product = product.all(share.len());
        let public = if_client(party, (1u64 << (claim - 2)).wrapping_add(times_power(1, claim)));
        for (i, share) in share.data.iter_mut().enumerate() {
            let (own, peer) = (sent[i], peer[i]);
            let [own_sign, peer_sign] = [own, peer].map(|d| 1u64.wrapping_sub(2 * d));
            let both = own_sign.wrapping_mul(peer_sign).wrapping_mul(product[i]);
            let wrap =
                both.wrapping_add((peer * bits[i]).wrapping_mul(own_sign)).wrapping_add(if_client(party, own & peer));
            *share = share.wrapping_add(times_power(wrap, claim)).wrapping_sub(public);
        }
        share
    }
}
