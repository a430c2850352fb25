//! `open`: both parties learn x + r, r uniform and fresh. Every read of the opening is local.
//!
//! Identity  o = x0 + r0 + x1 + r1 (+ 2^(n-2) with a claim) mod 2^n; see the head of [`super`].
//! Shapes    Any; the opening has the shape of x.
//! Dealt     r: nothing, r0 and r1 come from the parties' seeds. With readers that lift the opening by up to L bits: the
//!           carry c of r0 + r1 past 2^n, then m = msb(r), L bits each, to P1.
//! Online    One round: n bits per element each way. o is uniform, whatever x is.

use super::{Dealing, Mask, Opening, Source, Use, gather, if_client, kind};
use crate::material::MaterialError;
use crate::ring::{self, Tensor};
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
            carry: source.correlation(0, 0..elements, lift_bits)?,
            top: source.correlation(1, 0..elements, lift_bits)?,
        })
    }
}

/// A party's share of the mask, reduced mod 2^width.
pub fn mask(own: Use, elements: usize, width: Width) -> Vec<u64> {
    own.elements(kind::MASK, 0..elements, width)
}

/// The dealer's side: the mask, from both parties' shares of it.
pub fn deal(
    shape: &[usize],
    masks: [Vec<u64>; 2],
    width: Width,
    lift_bits: Width,
    to: &mut Dealing,
) -> io::Result<Mask> {
    let ([r0, r1], full) = (masks, ring::mask(width));
    to.correlation(0, 0..r0.len(), lift_bits, |i| u64::from(r0[i] > full - r1[i]))?;
    let r = gather(r0.len(), |i| r0[i].wrapping_add(r1[i]) & full);
    let mask = Mask { width, r: Tensor::new(shape.to_vec(), r) };
    to.correlation(1, 0..r0.len(), lift_bits, |i| mask.top(i))?;
    Ok(mask)
}

/// An opening whose other half has not arrived.
pub struct Half(Opening);

/// A party's side, first part: its half of the opening.
pub fn send(party: Party, x: &Tensor, mask: Vec<u64>, width: Width, whole: bool, dealt: Dealt) -> Half {
    let mut opening = Opening { width, whole, opened: Tensor::zeros(&[0]), mask, dealt };
    let (offset, full) = (if_client(party, opening.offset()), ring::mask(width));
    let half = gather(x.len(), |i| x.data[i].wrapping_add(opening.mask[i]).wrapping_add(offset) & full);
    opening.opened = Tensor::new(x.shape.clone(), half);
    Half(opening)
}

/// The half that [`send`] gave when it went ahead: `half` is what was sent. The client's, whose share of what is dealt
/// comes from its seed.
pub fn resume(half: Tensor, mask: Vec<u64>, width: Width, whole: bool, dealt: Dealt) -> Half {
    Half(Opening { width, whole, opened: half, mask, dealt })
}

impl Half {
    /// What the party sends, at [`Half::width`] bits.
    pub fn message(&self) -> &[u64] {
        &self.0.opened.data
    }

    /// Width n in bits.
    pub fn width(&self) -> Width {
        self.0.width
    }

    /// A party's side, second part: elements of the peer's half, from `first` on.
    pub fn add(&mut self, first: usize, peer: &[u64]) {
        let full = ring::mask(self.0.width);
        let own = &mut self.0.opened.data[first..first + peer.len()];
        ring::zip_assign(own, peer, move |own, peer| own.wrapping_add(peer) & full);
    }

    /// The opening, once every element was added.
    pub fn complete(self) -> Opening {
        self.0
    }
}
