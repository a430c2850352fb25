//! `open`: both parties learn x + r, r uniform and fresh. Every read of the opening is local.
//!
//! Identity  o = x0 + r0 + x1 + r1 (+ 2^(n-2) with a claim) mod 2^n; see the head of [`super`].
//! Shapes    Any; the opening has the shape of x.
//! Dealt     r: nothing, r0 and r1 come from the parties' seeds. With readers that lift the opening by up to L bits: the
//!           carry c of r0 + r1 past 2^n, then m = msb(r), L bits each, to P1.
//! Online    One round: n bits per element each way. o is uniform, whatever x is.

use super::{Dealing, Mask, Opening, Source};
use crate::material::MaterialError;
use crate::prg::{Kind, Seed};
use crate::ring;
use ir::{Party, Width};
use std::io;

/// A party's shares of carry and top bit of a mask; empty if no reader lifts.
#[derive(Default)]
pub struct Dealt {
    carry: Vec<u64>,
    top: Vec<u64>,
}

impl Dealt {
    /// Shares of c and m of element `i`. Without readers that lift, both stand before a multiple of 2^n that is zero in
    /// every result, so they may be zero.
    #[inline(always)]
    pub(super) fn at(&self, i: usize) -> (u64, u64) {
        if self.carry.is_empty() { (0, 0) } else { (self.carry[i], self.top[i]) }
    }

    /// Takes a party's material for `elements` elements that are lifted by `lift_bits` at most.
    pub fn take(source: &mut Source, elements: usize, lift_bits: Width) -> Result<Dealt, MaterialError> {
        if lift_bits == 0 {
            return Ok(Dealt::default());
        }
        Ok(Dealt {
            carry: source.correlation(elements, lift_bits)?,
            top: source.correlation(elements, lift_bits)?,
        })
    }
}

/// A party's share of the mask of instruction `index`, reduced mod 2^width.
pub fn mask(seed: &Seed, entry: u32, index: u32, elements: usize, width: Width) -> Vec<u64> {
    let mut mask = vec![0; elements];
    seed.stream(entry, index, Kind::Mask).fill(&mut mask);
    crate::tensor::map(&mut mask, |r| ring::low(r, width));
    mask
}

/// The dealer's side: the integer mask from both parties' shares of it.
pub fn deal(masks: [Vec<u64>; 2], width: Width, lift_bits: Width, to: &mut Dealing) -> io::Result<Mask> {
    let [r0, r1] = masks;
    let carry = |i: usize| u64::from(r0[i] > ring::low(!r1[i], width));
    let carries = if lift_bits > 0 { super::gather(r0.len(), carry) } else { Vec::new() };
    let mask = Mask { width, r: super::gather(r0.len(), |i| ring::low(r0[i].wrapping_add(r1[i]), width)) };
    if lift_bits > 0 {
        to.correlation(carries, lift_bits)?;
        to.correlation(super::gather(mask.r.len(), |i| mask.top(i)), lift_bits)?;
    }
    Ok(mask)
}

/// An opening whose other half has not arrived.
pub struct Half {
    opening: Opening,
}

/// A party's side, first part: what it sends, at n bits.
pub fn send(party: Party, x: &[u64], mask: Vec<u64>, width: Width, whole: bool, dealt: Dealt) -> Half {
    let mut opening = Opening { width, whole, opened: Vec::new(), mask, dealt };
    let offset = super::if_client(party, opening.offset());
    opening.opened = super::gather(x.len(), |i| {
        ring::low(x[i].wrapping_add(opening.mask[i]).wrapping_add(offset), width)
    });
    Half { opening }
}

impl Half {
    /// The party's own half: the elements to send.
    pub fn message(&self) -> &[u64] {
        &self.opening.opened
    }

    /// Width in bits.
    pub fn width(&self) -> Width {
        self.opening.width
    }

    /// Second part: the peer's half completes the opening.
    pub fn complete(mut self, peer: &[u64]) -> Opening {
        let width = self.opening.width;
        assert_eq!(peer.len(), self.opening.opened.len(), "both halves have the opening's shape");
        self.opening.opened.iter_mut().zip(peer).for_each(|(o, &p)| *o = ring::low(o.wrapping_add(p), width));
        self.opening
    }
}
