//! `open`: both parties learn x + r, r uniform and fresh. Every read of the opening is local.
//!
//! Identity  o = x0 + r0 + x1 + r1 (+ 2^(n-2) with a claim) mod 2^n; see the head of [`super`].
//! Shapes    Any; the opening has the shape of x.
//! Dealt     r: nothing, r0 and r1 come from the parties' seeds. With readers that lift the opening by up to L bits: the
//!           carry c of r0 + r1 past 2^n, then m = msb(r), L bits each, to P1.
//! Online    One round: n bits per element each way. o is uniform, whatever x is.

use super::{Dealing, Mask, Opening, Source, TASK, Use, Vector, gather, if_client, kind, times_power};
use crate::material::MaterialError;
use crate::pair::{Group, Making, PairError, Shares, own};
use ir::{Party, Width};
use kernels::ring::{self, Buffer, Tensor};
use rayon::prelude::*;
use std::io;

/// A party's shares of carry and top bit of a mask; zero if no reader lifts.
#[derive(Default)]
pub struct Dealt {
    pub(super) carry: Vector,
    pub(super) top: Vector,
}

impl Dealt {
    /// Takes a party's material for `elements` elements that are lifted by `lift_bits` at most.
    pub fn take(source: &mut Source, elements: usize, lift_bits: Width) -> Result<Dealt, MaterialError> {
        Ok(Dealt { carry: source.vector(0, 0..elements, lift_bits)?, top: source.vector(1, 0..elements, lift_bits)? })
    }
}

/// A party's share of the mask, reduced mod 2^width.
pub fn mask(own: Use, width: Width) -> Vector {
    Vector::Seed { stream: Box::new(own.stream(kind::MASK)), first: 0, bits: width }
}

/// The dealer's side: the mask, from both parties' shares of it.
pub fn deal(shape: &[usize], masks: [Vector; 2], width: Width, lift_bits: Width, to: &mut Dealing) -> io::Result<Mask> {
    let full = ring::mask(width);
    let [r0, r1] = masks.each_ref().map(|mask| mask.all(shape.iter().product()));
    to.correlation(0, 0..r0.len(), lift_bits, |i| u64::from(r0[i] > full - r1[i]))?;
    let r = gather(r0.len(), |i| r0[i].wrapping_add(r1[i]) & full);
    let [client, _] = masks;
    let mask = Mask { width, r: Tensor::new(shape.to_vec(), r), client };
    to.correlation(1, 0..r0.len(), lift_bits, |i| mask.top(i))?;
    Ok(mask)
}

/// Which bits of a mask its parties hold shares of: those of the cells that `exp` reads, whose lower bits are each party's own.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Where they begin.
    pub low: Width,
    /// How many.
    pub count: Width,
}

/// Both parties' side in the dealer's place. The masks of an opening that is `own` are those of the parties' seeds
/// ([`ir::pair::own_masks`]): nothing is made. `exp` is where `exp` reads the opening, whose only reader it is then.
///
/// With XOR shares of the bits of r, additive ones mod 2^(n + L) are made. The client's become what its seed says, its share of
/// the mask less its share of the carry times 2^n; the server's are taken apart the same way.
pub(crate) fn make(
    shape: &[usize],
    width: Width,
    lift_bits: Width,
    (own, exp): (bool, Option<Place>),
    to: &mut Making,
) -> Result<Shares, PairError> {
    let (count, party) = (shape.iter().product(), to.party());
    let shares = |bits, mask, top| Shares { width, shape: shape.to_vec(), bits, mask, top };
    if own {
        assert_eq!(lift_bits, 0, "products alone read the opening");
        return Ok(shares(Buffer::default(), to.numbers(kind::MASK, count, width), Buffer::default()));
    }
    if let Some(Place { low, count: n }) = exp {
        assert_eq!(lift_bits, 0, "exp is the only reader of its opening");
        let bits = to.numbers(own::BITS, count, n);
        let [mut cells, _] = to.number(&bits, n, n)?;
        let window = ring::mask(n) << low;
        let mut mask = to.numbers(if party == Party::Client { kind::MASK } else { own::FREE }, count, width);
        match party {
            Party::Client => {
                ring::zip_assign(&mut cells, &mask, move |cell, r| cell.wrapping_sub(r >> low));
                to.tell(&cells, n)?;
            }
            Party::Server => {
                ring::add_assign(&mut cells, &to.hear(count, n)?);
                ring::zip_assign(&mut mask, &cells, move |r, cell| r & !window | cell << low & window);
                to.write(&mask, width)?;
            }
        }
        return Ok(shares(bits, mask, Buffer::default()));
    }
    let bits = to.numbers(own::BITS, count, width);
    let [mut mask, top] = to.number(&bits, width, width + lift_bits)?;
    match party {
        Party::Client => {
            let mut seeded = to.numbers(kind::MASK, count, width);
            if lift_bits > 0 {
                let carry = to.numbers(kind::CORRELATION, count, lift_bits);
                ring::zip_assign(&mut seeded, &carry, move |r, c| r.wrapping_sub(times_power(c, width)));
            }
            ring::sub_assign(&mut mask, &seeded);
            to.tell(&mask, width + lift_bits)?;
            mask = seeded;
        }
        Party::Server => {
            ring::add_assign(&mut mask, &to.hear(count, width + lift_bits)?);
            to.write(&mask, width)?;
            let mut carry = mask.clone();
            ring::map_assign(&mut carry, move |r| (r >> (width - 1) >> 1).wrapping_neg());
            to.write(&carry, lift_bits)?;
        }
    }
    let top = to.correlation(Group::Sum, 1, 0, lift_bits, top)?;
    Ok(shares(bits, mask, top))
}

/// An opening whose other half has not arrived.
pub struct Half(Opening);

/// A party's side, first part: its half of the opening, which also fills `message`, packed.
pub fn send(
    party: Party,
    x: &Tensor,
    mask: Vector,
    width: Width,
    whole: bool,
    dealt: Dealt,
    message: &mut [u8],
) -> Half {
    let mut opened = Buffer::unset(x.len());
    let opening = Opening { width, whole, opened: Tensor::zeros(&[0]), mask, dealt };
    let (offset, full) = (if_client(party, opening.offset()), ring::mask(width));
    assert_eq!(message.len(), ring::packed_len(x.len(), width), "length of a message");
    let bytes = TASK / 8 * usize::from(width);
    let chunk = |share: &mut Vec<u64>, (number, (half, packed)): (usize, (&mut [u64], &mut [u8]))| {
        share.resize(half.len(), 0);
        opening.mask.fill(number * TASK, share);
        half.copy_from_slice(&x.data[number * TASK..][..half.len()]);
        ring::zip_assign(half, share, move |x, r| x.wrapping_add(r).wrapping_add(offset) & full);
        ring::pack_into(half, width, packed);
    };
    if x.len() <= TASK {
        chunk(&mut Vec::new(), (0, (&mut opened, message)));
    } else {
        let chunks = opened.par_chunks_mut(TASK).zip(message.par_chunks_mut(bytes));
        chunks.enumerate().for_each_init(Vec::new, chunk);
    }
    Half(Opening { opened: Tensor::new(x.shape.clone(), opened), ..opening })
}

/// The half that [`send`] gave when it went ahead: `sent` is the message then. The client's, whose share of what is dealt
/// comes from its seed.
pub fn resume(shape: Vec<usize>, sent: &[u8], mask: Vector, width: Width, whole: bool, dealt: Dealt) -> Half {
    let opened = ring::unpack(sent, width, shape.iter().product());
    Half(Opening { width, whole, opened: Tensor::new(shape, opened), mask, dealt })
}

impl Half {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.0.len()
    }

    /// Width n in bits of what the party sends.
    pub fn width(&self) -> Width {
        self.0.width
    }

    /// A party's side, second part: the peer's half, as it packed it, completes the opening.
    pub fn complete(mut self, message: &[u8]) -> Opening {
        let (width, full) = (self.0.width, ring::mask(self.0.width));
        assert_eq!(message.len(), ring::packed_len(self.0.len(), width), "length of a message");
        let chunk = |peer: &mut Vec<u64>, (own, packed): (&mut [u64], &[u8])| {
            peer.resize(own.len(), 0);
            ring::unpack_range(packed, width, 0, peer);
            ring::zip_assign(own, peer, move |own, peer| own.wrapping_add(peer) & full);
        };
        let opened = &mut self.0.opened.data;
        if opened.len() <= TASK {
            chunk(&mut Vec::new(), (opened, message));
        } else {
            let packed = message.par_chunks(TASK / 8 * usize::from(width));
            opened.par_chunks_mut(TASK).zip(packed).for_each_init(Vec::new, chunk);
        }
        self.0
    }
}
