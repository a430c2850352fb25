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
use ir::{Party, Table, Width};
use kernels::cpu::{Cpu, multiversion};
use kernels::masked::Reversed;
use kernels::ring::{self, Tensor};
use rayon::prelude::*;
use std::io;
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

/// What a party waits with for the peer's numbers.
pub struct Waiting {
    /// Its own numbers: of values, and of slopes.
    sent: [Tensor; 2],
    /// Its share of s, which is no greater than the number of cells.
    signs: Vec<i16>,
    /// By block: s·l, and the rest.
    dealt: Vec<[Vector; 2]>,
}

/// A party's side, first part; what it sends is [`Waiting::message`].
pub fn send(source: &mut Source, x: &Opening, lines: Lines, width: Width) -> Result<Waiting, MaterialError> {
    let reversed = Reversed::new([lines.values, lines.slopes]);
    let [mut u, mut v] = [x, x].map(|x| Tensor::unset(x.shape()));
    let mut signs = vec![0; x.len()];
    let (party, own, offset) = (source.party, source.own, x.offset());
    let (k, low) = (lines.cell_bits, ring::mask(lines.cell_bits));
    let masks = MASKS.map(|kind| own.stream(kind));
    let mut dealt = Vec::new();
    for block in blocks(x.len()) {
        let units = Units::take(source, 0, block.clone(), lines.values.len())?;
        dealt.push([source.vector(1, block.clone(), width)?, source.vector(2, block.clone(), width)?]);
        let [u, v] = [&mut u.data, &mut v.data].map(|all| &mut all[block.clone()]);
        let signs = &mut signs[block.clone()];
        u.par_chunks_mut(CHUNK)
            .zip(v.par_chunks_mut(CHUNK))
            .zip(signs.par_chunks_mut(CHUNK))
            .enumerate()
            .for_each_init(
                || (Vec::new(), vec![0; CHUNK], vec![[0; 2]; CHUNK]),
                |(room, places, readings), (number, ((u, v), signs))| {
                    let (from, count) = (number * CHUNK, u.len());
                    let first = block.start + from;
                    let opened = &x.opened.data[first..][..count];
                    let words = units.words(from, count, room);
                    places.iter_mut().zip(opened).for_each(|(place, o)| *place = o.wrapping_sub(offset) >> k);
                    reversed.sums(Cpu::get(), words, &places[..count], &mut readings[..count]);
                    masks[0].fill(first as u64, width, u);
                    masks[1].fill(first as u64, width, v);
                    lines_at(Cpu::get(), party, opened, (offset, low), &readings[..count], u, v);
                    units::signs(Cpu::get(), party, words, signs);
                },
            );
    }
    Ok(Waiting { sent: [u, v], signs, dealt })
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
    /// Results of neighbouring elements, from the peer's u, both parties' v, shares of s, and what is dealt, in place of the own u.
    fn values(parts: [&[u64]; 3], signs: &[i16], dealt: [&[u64]; 2], u: &mut [u64]) {
        let [peer_u, own_v, peer_v] = parts.map(|part| &part[..u.len()]);
        let signs = &signs[..u.len()];
        let [low, rest] = dealt.map(|part| &part[..u.len()]);
        for (i, u) in u.iter_mut().enumerate() {
            let (e_u, e_v) = (u.wrapping_add(peer_u[i]), own_v[i].wrapping_add(peer_v[i]));
            *u = e_u.wrapping_mul(i64::from(signs[i]) as u64).wrapping_sub(e_v.wrapping_mul(low[i])).wrapping_sub(rest[i]);
        }
    }
}

impl Waiting {
    /// A number an element of values, then of slopes.
    pub fn message(&self) -> [&[u64]; 2] {
        self.sent.each_ref().map(|sent| &sent.data[..])
    }

    /// A party's side, second part, with the peer's numbers.
    pub fn complete(self, peer: [&[u64]; 2]) -> Tensor {
        let Waiting { sent: [mut u, v], signs, dealt } = self;
        for ((number, dealt), u) in (0..).zip(&dealt).zip(u.data.chunks_mut(BLOCK)) {
            u.par_chunks_mut(CHUNK).enumerate().for_each_init(
                || [const { [0; CHUNK] }; 2],
                |room, (chunk, u)| {
                    for (part, dealt) in room.iter_mut().zip(dealt) {
                        dealt.fill(chunk * CHUNK, &mut part[..u.len()]);
                    }
                    let first = number * BLOCK + chunk * CHUNK;
                    let parts = [peer[0], &v.data, peer[1]].map(|all| &all[first..][..u.len()]);
                    values(Cpu::get(), parts, &signs[first..], room.each_ref().map(|part| &part[..]), u);
                },
            );
        }
        u
    }
}
