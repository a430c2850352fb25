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

pub mod dcf;
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
#[cfg(test)]
mod vectors;

use crate::material::{Material, MaterialError};
use crate::prg::{Domain, Seed, Stream};
use crate::ring::{self, Tensor};
use ir::dcf::{Layout, MAX_COMPONENTS};
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

/// A comparison of an opened x with a public t by the key on the low n - 1 bits of r: with y = x - t + r mod 2^n, which is
/// public, 1{x >= t} = 1 - msb(x - t) and msb(x - t) = m xor msb(y) xor 1{y_low < r_low}, right while |x - t| < 2^(n-1).
#[derive(Clone, Copy)]
struct Compared {
    /// y_low: where the key is evaluated.
    point: u64,
    /// msb(y).
    above: bool,
}

impl Opening {
    #[inline(always)]
    fn compare(&self, i: usize, t: i64) -> Compared {
        let y = self.public(i).wrapping_sub(t as u64);
        let low = ring::mask(self.width - 1);
        Compared { point: y & low, above: y & (low + 1) != 0 }
    }

    /// Where the key of element `i` is evaluated.
    fn points(&self, i: usize, thresholds: &[i64], points: &mut [u64]) {
        points.iter_mut().zip(thresholds).for_each(|(p, &t)| *p = self.compare(i, t).point);
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

/// Uses of a seed that one instruction or weight has; every use has a stream of its own.
mod kind {
    /// A party's share of the mask of an opening.
    pub const MASK: u8 = 0;
    /// The client's mask of the left operand of a `linear`.
    pub const INPUT: u8 = 1;
    /// The mask of a weight, by weight instead of instruction.
    pub const WEIGHT: u8 = 2;
    /// A party's roots of comparison keys.
    pub const ROOT: u8 = 3;
    /// The client's shares of the first correlation of an instruction; the next has the next number.
    pub const CORRELATION: u8 = 16;
}

/// A seed as one instruction of one entry uses it.
#[derive(Clone, Copy)]
pub struct Use<'a> {
    /// The seed.
    pub seed: &'a Seed,
    /// Entry of the program.
    pub entry: u32,
    /// Index of the instruction.
    pub index: u32,
}

impl Use<'_> {
    fn stream(self, kind: u8) -> Stream {
        self.seed.stream(Domain { entry: self.entry, index: self.index, kind })
    }

    /// Elements `range` of a stream, reduced mod 2^bits.
    fn elements(self, kind: u8, range: Range<usize>, bits: Width) -> Vec<u64> {
        let mut out = vec![0; range.len()];
        self.stream(kind).fill(range.start as u64, bits, &mut out);
        out
    }

    /// Roots of the comparison keys of elements `range`.
    fn roots(self, range: Range<usize>) -> Vec<u128> {
        let mut out = vec![0; range.len()];
        self.stream(kind::ROOT).fill_blocks(range.start as u64, &mut out);
        out
    }
}

/// The dealer's end of one instruction.
pub struct Dealing<'a> {
    client: Use<'a>,
    server: Use<'a>,
    to_client: &'a mut dyn Write,
    to_server: &'a mut dyn Write,
    packed: Vec<u8>,
}

impl<'a> Dealing<'a> {
    /// Starts an instruction with the seeds of both parties.
    pub fn new(client: Use<'a>, server: Use<'a>, to_client: &'a mut dyn Write, to_server: &'a mut dyn Write) -> Self {
        Dealing { client, server, to_client, to_server, packed: Vec::new() }
    }

    /// Deals elements `range` mod 2^bits of correlation number `piece`, element i being `f(i)`.
    pub fn correlation(
        &mut self,
        piece: u8,
        range: Range<usize>,
        bits: Width,
        f: impl Fn(usize) -> u64 + Sync,
    ) -> io::Result<()> {
        if bits == 0 {
            return Ok(());
        }
        let first = range.start;
        self.vector(piece, first, bits, gather(range.len(), |i| f(first + i)))
    }

    /// Deals the elements from `first` on of correlation number `piece`: subtracts P0's share and sends the rest to P1.
    pub fn vector(&mut self, piece: u8, first: usize, bits: Width, mut values: Vec<u64>) -> io::Result<()> {
        let share = self.client.elements(kind::CORRELATION + piece, first..first + values.len(), bits);
        ring::sub_assign(&mut values, &share);
        self.packed.clear();
        ring::pack(&values, bits, &mut self.packed);
        self.to_server.write_all(&self.packed)
    }

    /// Deals the words of comparison keys for the elements `range`, to both parties.
    fn keys(&mut self, layout: Layout, range: Range<usize>, alphas: &[u64], betas: &[Vec<u64>]) -> io::Result<()> {
        let (client, server) = (self.client.roots(range.clone()), self.server.roots(range));
        self.packed.clear();
        dcf::deal(layout, alphas, betas, &client, &server, &mut self.packed);
        self.to_client.write_all(&self.packed)?;
        self.to_server.write_all(&self.packed)
    }
}

/// A party's end of one instruction: its seed and what the dealer sends it.
pub struct Source<'a> {
    party: Party,
    own: Use<'a>,
    material: &'a mut dyn Material,
    /// Bytes taken.
    pub taken_bytes: u64,
    /// Time spent waiting for them.
    pub waited: Duration,
}

impl<'a> Source<'a> {
    /// Starts an instruction with the party's seed.
    pub fn new(party: Party, own: Use<'a>, material: &'a mut dyn Material) -> Source<'a> {
        Source { party, own, material, taken_bytes: 0, waited: Duration::ZERO }
    }

    /// The party's share of elements `range` mod 2^bits of correlation number `piece`.
    pub fn correlation(&mut self, piece: u8, range: Range<usize>, bits: Width) -> Result<Vec<u64>, MaterialError> {
        match self.party {
            _ if bits == 0 => Ok(vec![0; range.len()]),
            Party::Client => Ok(self.own.elements(kind::CORRELATION + piece, range, bits)),
            Party::Server => {
                let packed = self.take(ring::packed_len(range.len(), bits))?;
                Ok(ring::unpack(&packed, bits, range.len()))
            }
        }
    }

    /// The party's comparison keys for the elements `range`.
    fn keys(&mut self, layout: Layout, range: Range<usize>) -> Result<Keys, MaterialError> {
        let length = usize::try_from(layout.words_bytes(range.len() as u64)).expect("a block of keys fits memory");
        Ok(Keys { party: self.party, layout, roots: self.own.roots(range), words: self.take(length)? })
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, MaterialError> {
        let start = Instant::now();
        let bytes = self.material.take(length)?;
        self.waited += start.elapsed();
        self.taken_bytes += length as u64;
        Ok(bytes)
    }
}

/// A party's comparison keys of one block.
struct Keys {
    party: Party,
    layout: Layout,
    roots: Vec<u128>,
    words: Vec<u8>,
}

impl Keys {
    /// The party's shares of beta·1{y < alpha}, see [`dcf::evaluate`], in blocks that fit the cache.
    fn evaluate(
        &self,
        per_element: usize,
        points: impl Fn(usize, &mut [u64]) + Sync,
        out: &mut [u64],
        read: impl Fn(usize, [&[u64]; MAX_COMPONENTS], &mut [u64]) + Sync,
    ) {
        let elements = self.roots.len();
        let key = dcf::Key::parse(self.layout, elements, &self.words).expect("as many bytes as the layout has");
        dcf::evaluate(self.party, &key, 0..elements, &self.roots, per_element, points, out, read);
    }
}
