//! The protocols, one file each, all of it and no IO: what is dealt, what a party sends, what it reads.
//!
//! Every file has the dealer's side `deal` and the parties' side next to each other, so that one test runs dealer and
//! both parties in one thread. Shares are additive mod 2^width and the bits above the width mean nothing.
//!
//! Correlations. A vector of correlated elements mod 2^w is dealt like this: P0's share comes from its seed, P1 gets
//! the difference, packed at w bits ([`Dealing::correlation`], [`Source::correlation`]). A correlation of no bits is
//! zero and is not sent. Nothing here is kept: a party takes its share out of the stream, by value, once.
//!
//! Openings. x is opened at n bits under a uniform mask r of n bits. With a claim |x| < 2^(n-2) the client adds 2^(n-2)
//! first; o is what both parties then see and e = o - 2^(n-2), an integer that is never reduced. As x + 2^(n-2) is in
//! 0 .. 2^(n-1), adding r passes 2^n exactly if r has its top bit m and o has not, so that
//!
//! ```text
//! x = e - r + k·m·2^n,  k = 1 - msb(o),  exactly, r and e integers.
//! ```
//!
//! k is public. The parties' seeds give shares of r mod 2^n; r as an integer is r0 + r1 - c·2^n with c the carry, so at a
//! width N > n they hold it by shares of c mod 2^(N-n). An opening `whole` has no claim and no offset: o = x + r mod 2^n.

pub mod ge;
pub mod lift;
pub mod linear;
pub mod matmul;
pub mod mul;
pub mod open;
pub mod reveal;
pub mod series;
pub mod spline;
pub mod square;

use crate::material::{Material, MaterialError};
use crate::ring::{self, Tensor};
use ir::{Party, Width};
use rayon::prelude::*;
use std::io::{self, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Elements that a protocol with much material per element handles at a time. A multiple of 8, so that every piece of
/// every block but the last fills whole bytes and blocks cost no padding.
pub const BLOCK: usize = 1 << 13;

/// Elements that are worth a task of their own.
const TASK: usize = 1 << 12;

/// The blocks of a tensor of `elements` elements, in order.
pub fn blocks(elements: usize) -> impl Iterator<Item = Range<usize>> {
    (0..elements).step_by(BLOCK).map(move |from| from..elements.min(from + BLOCK))
}

/// v·2^n mod 2^64, n from 1 to 64.
#[inline(always)]
fn times_power(v: u64, n: Width) -> u64 {
    v << (n - 1) << 1
}

/// A vector computed element by element, in parallel.
fn gather(elements: usize, f: impl Fn(usize) -> u64 + Sync) -> Vec<u64> {
    let mut out = vec![0; elements];
    out.par_chunks_mut(TASK).enumerate().for_each(|(number, out)| {
        out.iter_mut().enumerate().for_each(|(i, out)| *out = f(number * TASK + i));
    });
    out
}

/// What the dealer knows of an opening: the mask.
pub struct Mask {
    /// Width n of the opening.
    pub width: Width,
    /// The integers r in 0 .. 2^n.
    pub r: Tensor,
}

impl Mask {
    /// m, the top bit of element `i`.
    #[inline(always)]
    fn top(&self, i: usize) -> u64 {
        self.r.data[i] >> (self.width - 1)
    }

    /// Element `i` without its top bit: where a comparison key steps.
    #[inline(always)]
    fn low(&self, i: usize) -> u64 {
        self.r.data[i] & ring::mask(self.width - 1)
    }
}

/// What a party holds of an opening.
pub struct Opening {
    width: Width,
    whole: bool,
    /// o, public, reduced mod 2^n.
    opened: Tensor,
    /// The party's share of r mod 2^n, reduced.
    mask: Vec<u64>,
    /// Shares of the carry c and of the top bit m, or none if no reader lifts.
    dealt: open::Dealt,
}

/// One element of an opening with a claim, in the terms of the module's head. `r` and `m` are the party's shares at any
/// width that the opening was dealt for; `wrap` is k·2^n, public.
#[derive(Clone, Copy)]
struct Element {
    e: u64,
    r: u64,
    m: u64,
    wrap: u64,
}

impl Opening {
    /// Dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.opened.shape
    }

    /// Width n in bits.
    pub fn width(&self) -> Width {
        self.width
    }

    fn len(&self) -> usize {
        self.opened.len()
    }

    /// 2^(n-2) if the opening has a claim.
    fn offset(&self) -> u64 {
        if self.whole { 0 } else { 1 << (self.width - 2) }
    }

    /// e mod 2^64: o less the offset.
    #[inline(always)]
    fn public(&self, i: usize) -> u64 {
        self.opened.data[i].wrapping_sub(self.offset())
    }

    #[inline(always)]
    fn element(&self, i: usize) -> Element {
        let (c, m) = self.dealt.at(i);
        Element {
            e: self.public(i),
            r: self.mask[i].wrapping_sub(times_power(c, self.width)),
            m,
            wrap: times_power(1 - (self.opened.data[i] >> (self.width - 1)), self.width),
        }
    }
}

/// The public part of a result goes to the client's share alone.
#[inline(always)]
fn if_client(party: Party, v: u64) -> u64 {
    match party {
        Party::Client => v,
        Party::Server => 0,
    }
}

/// The dealer's end of one instruction.
pub struct Dealing<'a> {
    shares: Stream,
    roots: [Stream; 2],
    to_client: &'a mut dyn Write,
    to_server: &'a mut dyn Write,
}

impl<'a> Dealing<'a> {
    /// Starts instruction `index` of an entry, with the seeds of both parties.
    pub fn new(
        seeds: [&Seed; 2],
        entry: u32,
        index: u32,
        to_client: &'a mut dyn Write,
        to_server: &'a mut dyn Write,
    ) -> Dealing<'a> {
        let [shares, root0] = [Kind::Correlation, Kind::Root].map(|kind| seeds[0].stream(entry, index, kind));
        Dealing { shares, roots: [root0, seeds[1].stream(entry, index, Kind::Root)], to_client, to_server }
    }

    /// Deals `elements` elements mod 2^bits, element i being `f(i)`: subtracts P0's share and sends the rest to P1.
    pub fn correlation(
        &mut self,
        elements: usize,
        bits: Width,
        f: impl Fn(usize) -> u64 + Sync,
    ) -> io::Result<()> {
        if bits == 0 {
            return Ok(());
        }
        let mut share = vec![0; elements];
        self.shares.fill(&mut share);
        self.to_server.write_all(&ring::pack(&gather(elements, |i| f(i).wrapping_sub(share[i])), bits))
    }

    /// Sends the same bytes to both parties.
    pub fn words(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to_client.write_all(bytes)?;
        self.to_server.write_all(bytes)
    }
}

/// A party's end of one instruction: its seed and what the dealer sends it.
pub struct Source<'a> {
    party: Party,
    shares: Stream,
    roots: Stream,
    material: &'a mut dyn Material,
    /// Bytes taken.
    pub taken_bytes: u64,
    /// Time spent waiting for them.
    pub waited: Duration,
}

impl<'a> Source<'a> {
    /// Starts instruction `index` of an entry, with the party's seed.
    pub fn new(party: Party, seed: &Seed, entry: u32, index: u32, material: &'a mut dyn Material) -> Source<'a> {
        let [shares, roots] = [Kind::Correlation, Kind::Root].map(|kind| seed.stream(entry, index, kind));
        Source { party, shares, roots, material, taken_bytes: 0, waited: Duration::ZERO }
    }

    /// The party's share of the next `elements` elements mod 2^bits.
    pub fn correlation(&mut self, elements: usize, bits: Width) -> Result<Vec<u64>, MaterialError> {
        match self.party {
            _ if bits == 0 => Ok(vec![0; elements]),
            Party::Client => Ok(self.shares.elements(elements)),
            Party::Server => Ok(ring::unpack(&self.words(ring::packed_len(elements, bits))?, bits, elements)),
        }
    }

    /// The next `length` bytes of the stream.
    pub fn words(&mut self, length: usize) -> Result<Vec<u8>, MaterialError> {
        let start = Instant::now();
        let bytes = self.material.take(length)?;
        self.waited += start.elapsed();
        self.taken_bytes += length as u64;
        Ok(bytes)
    }
}
