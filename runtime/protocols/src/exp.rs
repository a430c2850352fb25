//! `exp`: the exponential of an opened number by a table of cells, one message of N bits each way.
//!
//! Identity  See [`ir::exp`] for e, rho, l_p, T, E and g, and `units` for s and the readings t_p of T, P1's negative. Party p
//!           rounds a_p = t_p·E(e_low)·g(l_p), a number of its own, and sends e_p = a_p + q_p mod 2^N. With o the other party,
//!               exp(x) = Σ_p s·g(l_o)·a_p = e_0·[s·g(l_1)] + e_1·[s·g(l_0)] - [s·(q_0·g(l_1) + q_1·g(l_0))].
//!           Readings of cells that are not that of x cancel, since both parties round g as the dealer does.
//! Shapes    That of the opening. Result scale: public scale + dealt scale, width N.
//! Dealt     In blocks of [`super::BLOCK`] elements: a unit vector, the factors of e_0 and of e_1, and the rest, N bits each. q_p
//!           comes from the seed of p.
//! Online    One round: N bits an element each way. Right to about 2^-(public scale) and to 2^-(dealt scale) of the result while x
//!           stays in the window of the table; beyond, periodic.

use super::{BLOCK, Dealing, Mask, Opening, Source, Use, Vector, blocks, units};
use crate::material::MaterialError;
use crate::open;
use crate::pair::{Group, Making, PairError, Shares, signed};
use ir::exp::Exp;
use ir::{Party, Width};
use kernels::cpu::{Cpu, multiversion};
use kernels::masked::Reversed;
use kernels::ring::{self, Buffer, Tensor};
use rayon::prelude::*;
use std::io;
use std::ops::Range;
use units::{CHUNK, MASKS, Units};

/// The dealer's side.
pub fn deal(x: &Mask, exp: Exp, width: Width, client: Use, server: Use, to: &mut Dealing) -> io::Result<()> {
    let (k, low) = (exp.cell_bits, ring::mask(exp.cell_bits));
    for block in blocks(x.r.len()) {
        let first = block.start;
        let mut r0 = Buffer::unset(block.len());
        x.client.fill(first, &mut r0);
        let r1: Buffer = r0.iter().zip(&x.r.data[block.clone()]).map(|(r0, r)| r.wrapping_sub(*r0)).collect();
        // Of the parties' own cells: what their low bits carry is in g.
        let place =
            |i: usize| ((r0[i - first] >> k).wrapping_add(r1[i - first] >> k)) as usize & (exp.values.len() - 1);
        let signs = units::deal(0, block.clone(), exp.values.len(), place, to)?;
        let [g0, g1] = [r0, r1].map(|r| r.iter().map(|r| exp.own(r & low)).collect::<Buffer>());
        let [q0, q1] = [client, server].map(|own| own.elements(MASKS[0], block.clone(), width));
        to.correlation(1, block.clone(), width, |i| signs[i - first].wrapping_mul(g1[i - first]))?;
        to.correlation(2, block.clone(), width, |i| signs[i - first].wrapping_mul(g0[i - first]))?;
        to.correlation(3, block, width, |i| {
            let i = i - first;
            signs[i].wrapping_mul(q0[i].wrapping_mul(g1[i]).wrapping_add(q1[i].wrapping_mul(g0[i])))
        })?;
    }
    Ok(())
}

/// Where `exp` reads the mask of an opening.
pub(crate) fn place(exp: Exp) -> open::Place {
    open::Place { low: exp.cell_bits, count: exp.values.len().ilog2() as Width }
}

/// Both parties' side in the dealer's place, for one block. s is s0·s1, a factor known to each. s·g_o is o's own s_o·g_o, which the other
/// party's factor flips by a transfer; q_p·s·g_o is the product of the private s_p·q_p and s_o·g_o, the bits of the latter choosing.
pub(crate) fn make(x: &Shares, exp: Exp, block: Range<usize>, width: Width, to: &mut Making) -> Result<(), PairError> {
    let (open::Place { low, count: n }, party) = (place(exp), to.party());
    // s_o·g_o and what makes it positive, since g is at most 1.
    let offset = 1u64 << exp.own(0).ilog2();
    let odd = units::make(0, block.clone(), (&x.bits[block.clone()], 0, n), to)?;
    let mut g: Buffer = x.mask[block.clone()].iter().map(|r| exp.own(r & ring::mask(low))).collect();
    let mut q = to.elements(MASKS[0], block.clone(), width);
    ring::zip_assign(&mut g, &odd, |g, odd| signed(odd, g));
    ring::zip_assign(&mut q, &odd, |q, odd| signed(odd, q));
    // The factor of the peer's message has the own g.
    let [of_peer_g, of_own_g] = to.flipped_by_peer(&odd, &g, width)?;
    let [by_client, by_server] = match party {
        Party::Client => [of_peer_g, of_own_g],
        Party::Server => [of_own_g, of_peer_g],
    };
    to.correlation(Group::Sum, 1, block.start, width, by_client)?;
    to.correlation(Group::Sum, 2, block.start, width, by_server)?;
    ring::map_assign(&mut g, move |g| g.wrapping_add(offset));
    let mut rest = to.crossed(&g, exp.own_bits(), &q, width)?;
    ring::zip_assign(&mut rest, &q, move |sum, q| sum.wrapping_sub(q.wrapping_mul(offset)));
    to.correlation(Group::Sum, 3, block.start, width, rest)?;
    Ok(())
}

/// What a party waits with for the peer's numbers.
pub struct Waiting {
    shape: Vec<usize>,
    width: Width,
    /// Its own numbers, as it sent them.
    sent: Vec<u8>,
    /// By block: the factors of e_0 and of e_1, and the rest.
    dealt: Vec<[Vector; 3]>,
}

/// A party's side, first part, which fills `message`: a packed number an element.
pub fn send(
    source: &mut Source,
    x: &Opening,
    exp: Exp,
    width: Width,
    message: &mut [u8],
) -> Result<Waiting, MaterialError> {
    let reversed = Reversed::new([exp.values]);
    assert_eq!(message.len(), ring::packed_len(x.len(), width), "length of a message");
    let (party, own, offset) = (source.party, source.own, x.offset());
    let (k, low) = (exp.cell_bits, ring::mask(exp.cell_bits));
    let sent_under = own.stream(MASKS[0]);
    let mut dealt = Vec::new();
    for block in blocks(x.len()) {
        let units = Units::take(source, 0, block.clone(), exp.values.len())?;
        let mut take = |piece| source.vector(piece, block.clone(), width);
        dealt.push([take(1)?, take(2)?, take(3)?]);
        let packed = &mut message[units::packed(&block, width)];
        packed.par_chunks_mut(CHUNK / 8 * usize::from(width)).enumerate().for_each_init(
            || (Vec::new(), [const { [0; CHUNK] }; 3], [[0; 1]; CHUNK]),
            |(room, rooms, readings), (number, packed)| {
                let from = number * CHUNK;
                let count = CHUNK.min(block.len() - from);
                let first = block.start + from;
                let opened = &x.opened.data[first..][..count];
                let words = units.words(from, count, room);
                let [places, masks, out] = rooms.each_mut().map(|room| &mut room[..count]);
                let readings = &mut readings[..count];
                places.iter_mut().zip(opened).for_each(|(place, o)| *place = o.wrapping_sub(offset) >> k);
                reversed.sums(Cpu::get(), words, places, readings);
                x.mask.fill(first, masks);
                sent_under.fill(first as u64, width, out);
                products(Cpu::get(), party, exp, Parts { opened, masks, readings, offset, low }, out);
                ring::pack_into(out, width, packed);
            },
        );
    }
    Ok(Waiting { shape: x.shape().to_vec(), width, sent: message.to_vec(), dealt })
}

/// Neighbouring elements.
#[derive(Clone, Copy)]
struct Parts<'a> {
    opened: &'a [u64],
    masks: &'a [u64],
    readings: &'a [[i64; 1]],
    offset: u64,
    low: u64,
}

multiversion! {
    /// Adds a_p to q_p.
    fn products(party: Party, exp: Exp<'_>, parts: Parts<'_>, out: &mut [u64]) {
        let Parts { offset, low, .. } = parts;
        for (((out, &o), &r), t) in out.iter_mut().zip(parts.opened).zip(parts.masks).zip(parts.readings) {
            let a = exp.product(t[0] as u64, exp.public(o.wrapping_sub(offset) & low), exp.own(r & low));
            *out = out.wrapping_add(units::signed(party, a));
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
        let Waiting { shape, width, sent, dealt } = self;
        assert_eq!(peer.len(), sent.len(), "length of a message");
        let messages = match party {
            Party::Client => [&sent[..], peer],
            Party::Server => [peer, &sent[..]],
        };
        let mut out = Tensor::unset(&shape);
        for ((number, dealt), out) in (0..).zip(&dealt).zip(out.data.chunks_mut(BLOCK)) {
            out.par_chunks_mut(CHUNK).enumerate().for_each_init(
                || [const { [0; CHUNK] }; 5],
                |room, (chunk, out)| {
                    let from = chunk * CHUNK;
                    let [e0, e1, of_client, of_server, rest] = room.each_mut().map(|room| &mut room[..out.len()]);
                    ring::unpack_range(messages[0], width, number * BLOCK + from, e0);
                    ring::unpack_range(messages[1], width, number * BLOCK + from, e1);
                    for (dealt, part) in dealt.iter().zip([&mut *of_client, &mut *of_server, &mut *rest]) {
                        dealt.fill(from, part);
                    }
                    for (i, out) in out.iter_mut().enumerate() {
                        let sum = e0[i].wrapping_mul(of_client[i]).wrapping_add(e1[i].wrapping_mul(of_server[i]));
                        *out = sum.wrapping_sub(rest[i]);
                    }
                },
            );
        }
        out
    }
}
