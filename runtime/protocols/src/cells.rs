//! `cells`: a function of an opened number by a line on each of 2^n cells of 2^k, two messages of N bits each way.
//!
//! Identity  The mask is r = rho·2^k + l, the opening e = e_h·2^k + e_l. Cell j = e_h - rho has x = j·2^k + (e_l - l) exactly, with
//!           |e_l - l| < 2^k: the mask decides between two neighbouring cells. With the readings u = F + e_l·B and v = B of the
//!           tables of values and slopes (see `units` for them and for s),
//!               f(x) = F_j + B_j·(e_l - l) = s·(s·u - l·s·v).
//!           Parties open s·u under q_u and s·v under q_v, and have f(x) = e_u·\[s\] - e_v·[s·l] - [s·(q_u - l·q_v)].
//! Shapes    That of the opening. Scale of the table, width N.
//! Dealt     In blocks of [`super::BLOCK`] elements: a unit vector; s·l and the rest, N bits each. Parties' shares of q come from
//!           their seeds, those of s are the weights of their bits.
//! Online    One round: 2·N bits an element each way. Exactly one of two neighbouring lines; beyond the window of the table,
//!           periodic.

use super::{BLOCK, Dealing, Mask, Opening, Source, Use, Vector, blocks, units};
use crate::material::MaterialError;
use crate::pair::{Group, Making, PairError, Shares};
use ir::{Party, Table, Width};
use kernels::cpu::{Cpu, multiversion};
use kernels::masked::Reversed;
use kernels::ring::{self, Buffer, Tensor};
use rayon::prelude::*;
use std::io;
use std::ops::Range;
use units::{CHUNK, MASKS, Units};

/// A verified table.
#[derive(Clone, Copy)]
pub struct Lines<'a> {
    cell_bits: u8,
    values: &'a [i64],
    slopes: &'a [i64],
}

impl<'a> Lines<'a> {
    /// Of a [`Table::Cells`]; panics for another table.
    pub fn new(table: &'a Table) -> Lines<'a> {
        let Table::Cells { cell_bits, a, b, .. } = table else { panic!("verified: a table of cells") };
        Lines { cell_bits: *cell_bits, values: a, slopes: b }
    }
}

/// The dealer's side.
pub fn deal(x: &Mask, lines: Lines, width: Width, client: Use, server: Use, to: &mut Dealing) -> io::Result<()> {
    let (k, cells) = (lines.cell_bits, lines.values.len());
    for block in blocks(x.r.len()) {
        let first = block.start;
        let signs = units::deal(0, block.clone(), cells, |i| (x.r.data[i] >> k) as usize & (cells - 1), to)?;
        let [u, v] = MASKS.map(|kind| units::masks(kind, client, server, block.clone(), width));
        let low = |i: usize| x.r.data[i] & ring::mask(k);
        to.correlation(1, block.clone(), width, |i| signs[i - first].wrapping_mul(low(i)))?;
        to.correlation(2, block, width, |i| {
            signs[i - first].wrapping_mul(u[i - first].wrapping_sub(v[i - first].wrapping_mul(low(i))))
        })?;
    }
    Ok(())
}

/// Both parties' side in the dealer's place, for one block: q_u - l·q_v with shares of the bits of l, then both times s.
pub(crate) fn make(
    x: &Shares,
    lines: Lines,
    block: Range<usize>,
    width: Width,
    to: &mut Making,
) -> Result<(), PairError> {
    let (k, n) = (lines.cell_bits, lines.values.len().ilog2() as Width);
    let (bits, count) = (&x.bits[block.clone()], block.len());
    let odd = units::make(0, block.clone(), (bits, k, n), to)?;
    let [mut rest, v] = MASKS.map(|kind| to.elements(kind, block.clone(), width));
    let mut low = Buffer::zeros(count);
    if k > 0 {
        [low, _] = to.number(bits, k.min(width), width)?;
        ring::sub_assign(&mut rest, &to.times(bits, k, &v, 1, width)?);
    }
    let both: Buffer = low.iter().zip(rest.iter()).flat_map(|(low, rest)| [*low, *rest]).collect();
    let both = to.flip(&odd, &both, 2, width)?;
    for (piece, at) in [(1, 0), (2, 1)] {
        let part = both.iter().skip(at).step_by(2).copied().collect();
        to.correlation(Group::Sum, piece, block.start, width, part)?;
    }
    Ok(())
}

/// What a party waits with for the peer's numbers.
pub struct Waiting {
    shape: Vec<usize>,
    width: Width,
    /// Its own numbers, as it sent them.
    sent: Vec<u8>,
    /// Its share of s, which is no greater than the number of cells.
    signs: Vec<i16>,
    /// By block: s·l, and the rest.
    dealt: Vec<[Vector; 2]>,
}

/// A party's side, first part, which fills `message`: a packed number an element of values, then of slopes.
pub fn send(
    source: &mut Source,
    x: &Opening,
    lines: Lines,
    width: Width,
    message: &mut [u8],
) -> Result<Waiting, MaterialError> {
    let reversed = Reversed::new([lines.values, lines.slopes]);
    let half = ring::packed_len(x.len(), width);
    assert_eq!(message.len(), 2 * half, "length of a message");
    let (values, slopes) = message.split_at_mut(half);
    let mut signs = vec![0; x.len()];
    let (party, own, offset) = (source.party, source.own, x.offset());
    let (k, low) = (lines.cell_bits, ring::mask(lines.cell_bits));
    let masks = MASKS.map(|kind| own.stream(kind));
    let mut dealt = Vec::new();
    for block in blocks(x.len()) {
        let units = Units::take(source, 0, block.clone(), lines.values.len())?;
        dealt.push([source.vector(1, block.clone(), width)?, source.vector(2, block.clone(), width)?]);
        let [u, v] = [&mut *values, &mut *slopes].map(|packed| &mut packed[units::packed(&block, width)]);
        let signs = &mut signs[block.clone()];
        let bytes = CHUNK / 8 * usize::from(width);
        let chunks = u.par_chunks_mut(bytes).zip(v.par_chunks_mut(bytes)).zip(signs.par_chunks_mut(CHUNK));
        chunks.enumerate().for_each_init(
            || (Vec::new(), [const { [0; CHUNK] }; 3], [[0; 2]; CHUNK]),
            |(room, rooms, readings), (number, ((packed_u, packed_v), signs))| {
                let (from, count) = (number * CHUNK, signs.len());
                let first = block.start + from;
                let opened = &x.opened.data[first..][..count];
                let words = units.words(from, count, room);
                let [places, u, v] = rooms.each_mut().map(|room| &mut room[..count]);
                places.iter_mut().zip(opened).for_each(|(place, o)| *place = o.wrapping_sub(offset) >> k);
                reversed.sums(Cpu::get(), words, places, &mut readings[..count]);
                masks[0].fill(first as u64, width, u);
                masks[1].fill(first as u64, width, v);
                lines_at(Cpu::get(), party, opened, (offset, low), &readings[..count], u, v);
                ring::pack_into(u, width, packed_u);
                ring::pack_into(v, width, packed_v);
                units::signs(Cpu::get(), party, words, signs);
            },
        );
    }
    Ok(Waiting { shape: x.shape().to_vec(), width, sent: message.to_vec(), signs, dealt })
}

multiversion! {
    /// Adds the readings of neighbouring elements to their masks: the line at the public place in the cell, and its slope.
    fn lines_at(
        party: Party,
        opened: &[u64],
        place: (u64, u64),
        readings: &[[i64; 2]],
        u: &mut [u64],
        v: &mut [u64],
    ) {
        let (offset, low) = place;
        for (((u, v), &o), &[value, slope]) in u.iter_mut().zip(v).zip(opened).zip(readings) {
            let e = o.wrapping_sub(offset) & low;
            let line = (value as u64).wrapping_add(e.wrapping_mul(slope as u64));
            *u = u.wrapping_add(units::signed(party, line));
            *v = v.wrapping_add(units::signed(party, slope as u64));
        }
    }
}

multiversion! {
    /// Results of neighbouring elements, from both parties' u and v, own ones first, shares of s, and what is dealt.
    fn results(numbers: [&[u64]; 4], signs: &[i16], dealt: [&[u64]; 2], out: &mut [u64]) {
        let [own_u, own_v, peer_u, peer_v] = numbers.map(|part| &part[..out.len()]);
        let signs = &signs[..out.len()];
        let [low, rest] = dealt.map(|part| &part[..out.len()]);
        for (i, out) in out.iter_mut().enumerate() {
            let (e_u, e_v) = (own_u[i].wrapping_add(peer_u[i]), own_v[i].wrapping_add(peer_v[i]));
            *out = e_u.wrapping_mul(i64::from(signs[i]) as u64).wrapping_sub(e_v.wrapping_mul(low[i])).wrapping_sub(rest[i]);
        }
    }
}

impl Waiting {
    /// Bytes of the message, of either party.
    pub fn message_bytes(&self) -> usize {
        self.sent.len()
    }

    /// A party's side, second part, with the peer's message.
    pub fn complete(self, peer: &[u8]) -> Tensor {
        let Waiting { shape, width, sent, signs, dealt } = self;
        assert_eq!(peer.len(), sent.len(), "length of a message");
        let halves = [&sent[..], peer].map(|message| message.split_at(message.len() / 2));
        let packed = [halves[0].0, halves[0].1, halves[1].0, halves[1].1];
        let mut out = Tensor::unset(&shape);
        for ((number, dealt), out) in (0..).zip(&dealt).zip(out.data.chunks_mut(BLOCK)) {
            out.par_chunks_mut(CHUNK).enumerate().for_each_init(
                || [const { [0; CHUNK] }; 6],
                |room, (chunk, out)| {
                    let (from, count) = (chunk * CHUNK, out.len());
                    let first = number * BLOCK + from;
                    let [u, v, peer_u, peer_v, low, rest] = room.each_mut().map(|room| &mut room[..count]);
                    for (packed, part) in packed.into_iter().zip([&mut *u, &mut *v, &mut *peer_u, &mut *peer_v]) {
                        ring::unpack_range(packed, width, first, part);
                    }
                    dealt[0].fill(from, low);
                    dealt[1].fill(from, rest);
                    results(Cpu::get(), [u, v, peer_u, peer_v], &signs[first..], [low, rest], out);
                },
            );
        }
        out
    }
}
