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

pub mod bit;
pub mod cache;
pub mod cells;
pub mod choose;
pub mod compare;
pub mod dcf;
pub mod dealer;
mod digits;
pub mod exp;
pub mod extend;
pub mod ge;
pub mod lift;
pub mod linear;
pub mod material;
pub mod matmul;
pub mod mul;
pub mod open;
pub mod pair;
pub mod reveal;
pub mod select;
pub mod series;
pub mod spline;
pub mod square;
pub mod step;
mod units;
#[cfg(test)]
mod vectors;
pub mod weights;

use crate::material::{Material, MaterialError};
use bytes::Bytes;
use ir::dcf::{Layout, MAX_COMPONENTS};
pub use ir::pair::Maker;
use ir::{Party, Width};
use kernels::prg::{Domain, Seed, Stream};
use kernels::ring::{self, Buffer, Tensor};
use rayon::prelude::*;
use std::io::{self, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Elements that a protocol with much material per element handles at a time. A multiple of 8, so that every piece of
/// every block but the last fills whole bytes and blocks cost no padding.
pub const BLOCK: usize = ir::making::BLOCK as usize;

/// Elements that are worth a task of their own; what a read takes for this many stays in the second-level cache.
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
fn gather(elements: usize, f: impl Fn(usize) -> u64 + Sync) -> Buffer {
    let mut out = Buffer::unset(elements);
    out.par_chunks_mut(TASK).enumerate().for_each(|(number, out)| {
        out.iter_mut().enumerate().for_each(|(i, out)| *out = f(number * TASK + i));
    });
    out
}

/// A vector computed chunk by chunk, in parallel. For a range of elements, `f` gets the same elements of the vectors that
/// were dealt, room for the parts of two openings, and the result to be filled; each chunk is expanded, used and finished
/// while it is in the cache.
fn compute<const N: usize>(
    dealt: [&Vector; N],
    elements: usize,
    f: impl Fn(Range<usize>, [&[u64]; N], &mut [Parts; 2], &mut [u64]) + Sync,
) -> Buffer {
    let mut out = Buffer::unset(elements);
    let buffers = || (std::array::from_fn(|_| vec![0; TASK.min(elements)]), Default::default());
    let chunk = |(buffers, parts): &mut ([Vec<u64>; N], [Parts; 2]), (number, out): (usize, &mut [u64])| {
        let range = number * TASK..number * TASK + out.len();
        buffers.iter_mut().zip(dealt).for_each(|(buffer, dealt)| dealt.fill(range.start, &mut buffer[..out.len()]));
        f(range, buffers.each_ref().map(|buffer| &buffer[..out.len()]), parts, out);
    };
    if elements <= TASK {
        chunk(&mut buffers(), (0, &mut out));
    } else {
        out.par_chunks_mut(TASK).enumerate().for_each_init(buffers, chunk);
    }
    out
}

/// What the dealer knows of an opening: the mask.
pub struct Mask {
    /// Width n of the opening.
    pub width: Width,
    /// The integers r in 0 .. 2^n.
    pub r: Tensor,
    /// The client's share of them; of cached rows, which nobody asks for, none.
    pub client: Vector,
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
    mask: Vector,
    /// Shares of the carry c and of the top bit m, or none if no reader lifts.
    dealt: open::Dealt,
}

/// A party's shares of masks, carries and top bits of neighbouring elements, expanded by the reader that uses them.
#[derive(Default)]
struct Parts([Vec<u64>; 3]);

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

    /// Number of elements.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
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

    /// The party's shares of masks, carries and top bits.
    fn vectors(&self) -> [&Vector; 3] {
        [&self.mask, &self.dealt.carry, &self.dealt.top]
    }

    /// Elements `range`, at most [`BLOCK`].
    fn view<'a>(&'a self, range: Range<usize>, parts: &'a mut Parts) -> View<'a> {
        static ZEROS: [u64; BLOCK] = [0; BLOCK];
        let (width, offset, opened) = (self.width, self.offset(), &self.opened.data[range.clone()]);
        let mut expanded = [&ZEROS[..range.len()]; 3];
        for ((expanded, part), vector) in expanded.iter_mut().zip(&mut parts.0).zip(self.vectors()) {
            // Without readers that lift, carry and top bit stand before a multiple of 2^n that is zero in every result.
            if !matches!(vector, Vector::Zero) {
                part.resize(range.len(), 0);
                vector.fill(range.start, part);
                *expanded = part;
            }
        }
        let [mask, carry, top] = expanded;
        View { width, offset, opened, mask, carry, top }
    }
}

/// Neighbouring elements of an opening with a claim, all slices of the same length.
#[derive(Clone, Copy)]
struct View<'a> {
    width: Width,
    offset: u64,
    opened: &'a [u64],
    mask: &'a [u64],
    carry: &'a [u64],
    top: &'a [u64],
}

impl<'a> View<'a> {
    /// The same, its slices cut to `count` elements: in a loop over them no access needs a check.
    #[inline(always)]
    fn exactly(self, count: usize) -> View<'a> {
        let [opened, mask, carry, top] = [self.opened, self.mask, self.carry, self.top].map(|s| &s[..count]);
        View { opened, mask, carry, top, ..self }
    }

    #[inline(always)]
    fn element(&self, i: usize) -> Element {
        Element {
            e: self.opened[i].wrapping_sub(self.offset),
            r: self.mask[i].wrapping_sub(times_power(self.carry[i], self.width)),
            m: self.top[i],
            wrap: times_power(1 - (self.opened[i] >> (self.width - 1)), self.width),
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

/// All ones at the client, whose share alone takes the public part of a result.
fn client_bits(party: Party) -> u64 {
    if_client(party, u64::MAX)
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

/// A seed as one instruction of one entry uses it in one step of a session.
#[derive(Clone, Copy)]
pub struct Use<'a> {
    /// The seed.
    pub seed: &'a Seed,
    /// Step of the session.
    pub step: u32,
    /// Entry of the program.
    pub entry: u32,
    /// Index of the instruction.
    pub index: u32,
}

impl Use<'_> {
    fn stream(self, kind: u8) -> Stream {
        self.seed.stream(Domain { step: self.step, entry: self.entry, index: self.index, kind })
    }

    /// Elements `range` of a stream, reduced mod 2^bits.
    fn elements(self, kind: u8, range: Range<usize>, bits: Width) -> Buffer {
        let mut out = Buffer::unset(range.len());
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

    /// Deals elements `range` mod 2^bits of correlation number `piece`. `f` fills a chunk, whose first element it is told,
    /// with them; chunks are of `chunk` elements, a multiple of 8. Each is finished while it is in the cache: P0's share
    /// is subtracted, the rest is packed for P1.
    fn chunks(
        &mut self,
        piece: u8,
        range: Range<usize>,
        bits: Width,
        chunk: usize,
        f: impl Fn(usize, &mut [u64]) + Sync,
    ) -> io::Result<()> {
        assert!(chunk.is_multiple_of(8), "chunks of whole bytes");
        let stream = self.client.stream(kind::CORRELATION + piece);
        self.packed.resize(ring::packed_len(range.len(), bits), 0);
        let buffers = || [vec![0; chunk], vec![0; chunk]];
        self.packed.par_chunks_mut(chunk / 8 * usize::from(bits)).enumerate().for_each_init(
            buffers,
            |[values, share], (number, packed)| {
                let first = range.start + number * chunk;
                let count = chunk.min(range.end - first);
                let (values, share) = (&mut values[..count], &mut share[..count]);
                f(first, values);
                stream.fill(first as u64, bits, share);
                ring::sub_assign(values, share);
                ring::pack_into(values, bits, packed);
            },
        );
        self.to_server.write_all(&self.packed)
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
        self.chunks(piece, range, bits, TASK, |first, out| {
            out.iter_mut().enumerate().for_each(|(i, out)| *out = f(first + i));
        })
    }

    /// Deals the elements from `first` on of correlation number `piece`: subtracts P0's share and sends the rest to P1.
    pub fn vector(&mut self, piece: u8, first: usize, bits: Width, values: &[u64]) -> io::Result<()> {
        self.chunks(piece, first..first + values.len(), bits, TASK, |from, out| {
            out.copy_from_slice(&values[from - first..][..out.len()]);
        })
    }

    /// Deals elements of `bits` bits of XOR correlation number `piece`, element i being `f(i)`.
    pub fn bits(&mut self, piece: u8, count: usize, bits: Width, f: impl Fn(usize) -> u64 + Sync) -> io::Result<()> {
        let stream = self.client.stream(kind::CORRELATION + piece);
        self.packed.resize(ring::packed_len(count, bits), 0);
        let chunks = self.packed.par_chunks_mut(TASK / 8 * usize::from(bits)).enumerate();
        chunks.for_each_init(
            || vec![0; TASK],
            |share, (number, packed)| {
                let first = number * TASK;
                let share = &mut share[..TASK.min(count - first)];
                stream.fill(first as u64, bits, share);
                share.iter_mut().enumerate().for_each(|(i, share)| *share ^= f(first + i));
                ring::pack_into(share, bits, packed);
            },
        );
        self.to_server.write_all(&self.packed)
    }

    /// Gives the server elements of `bits` bits that no share of P0 completes.
    pub fn plain(&mut self, values: &[u64], bits: Width) -> io::Result<()> {
        self.packed.resize(ring::packed_len(values.len(), bits), 0);
        ring::pack_into(values, bits, &mut self.packed);
        self.to_server.write_all(&self.packed)
    }

    /// Deals the words of comparison keys for the elements `range`, to both parties.
    fn keys(&mut self, layout: Layout, range: Range<usize>, alphas: &[u64], betas: &[Buffer]) -> io::Result<()> {
        let (client, server) = (self.client.roots(range.clone()), self.server.roots(range));
        self.packed.clear();
        let betas: Vec<&[u64]> = betas.iter().map(|beta| &**beta).collect();
        dcf::deal(layout, alphas, &betas, &client, &server, &mut self.packed);
        self.to_client.write_all(&self.packed)?;
        self.to_server.write_all(&self.packed)
    }
}

/// A party's end of one instruction: its seed and what is dealt to it.
pub struct Source<'a> {
    party: Party,
    maker: Maker,
    own: Use<'a>,
    material: &'a mut dyn Material,
    /// Bytes taken.
    pub taken_bytes: u64,
    /// Time spent waiting for them.
    pub waited: Duration,
}

impl<'a> Source<'a> {
    /// Starts an instruction with the party's seed, of material that a dealer deals.
    pub fn new(party: Party, own: Use<'a>, material: &'a mut dyn Material) -> Source<'a> {
        Source { party, maker: Maker::Dealer, own, material, taken_bytes: 0, waited: Duration::ZERO }
    }

    /// The same of material that `maker` made.
    pub fn made_by(self, maker: Maker) -> Source<'a> {
        Source { maker, ..self }
    }

    /// The party's share of elements `range` mod 2^bits of correlation number `piece`.
    pub fn correlation(&mut self, piece: u8, range: Range<usize>, bits: Width) -> Result<Buffer, MaterialError> {
        Ok(self.vector(piece, range.clone(), bits)?.all(range.len()))
    }

    /// The same, to be expanded chunk by chunk.
    pub fn vector(&mut self, piece: u8, range: Range<usize>, bits: Width) -> Result<Vector, MaterialError> {
        Ok(match self.party {
            _ if bits == 0 => Vector::Zero,
            Party::Client => Vector::Seed {
                stream: Box::new(self.own.stream(kind::CORRELATION + piece)),
                first: range.start as u64,
                bits,
            },
            Party::Server => Vector::Packed { bytes: self.take(ring::packed_len(range.len(), bits))?, bits },
        })
    }

    /// The party's share of the mask of an opening, mod 2^width. `own` tells that it is of its seed whoever made the material
    /// ([`ir::pair::own_masks`]).
    pub fn mask(&mut self, count: usize, width: Width, own: bool) -> Result<Vector, MaterialError> {
        Ok(match (self.party, self.maker) {
            (Party::Server, Maker::Pair) if !own => {
                Vector::Packed { bytes: self.take(ring::packed_len(count, width))?, bits: width }
            }
            _ => open::mask(self.own, width),
        })
    }

    /// The server's elements that [`Dealing::plain`] gives.
    pub fn plain(&mut self, count: usize, bits: Width) -> Result<Buffer, MaterialError> {
        Ok(ring::unpack(&self.take(ring::packed_len(count, bits))?, bits, count))
    }

    /// The party's comparison keys for the elements `range`.
    fn keys(&mut self, layout: Layout, range: Range<usize>) -> Result<Keys, MaterialError> {
        let length = usize::try_from(layout.words_bytes(range.len() as u64)).expect("a block of keys fits memory");
        Ok(Keys { party: self.party, layout, roots: self.own.roots(range), words: self.take(length)? })
    }

    fn take(&mut self, length: usize) -> Result<Bytes, MaterialError> {
        let start = Instant::now();
        let bytes = self.material.take(length)?;
        self.waited += start.elapsed();
        self.taken_bytes += length as u64;
        Ok(bytes)
    }
}

/// A party's share of a mask or of dealt elements, in the form in which it came. A reader expands it chunk by chunk, where it uses it:
/// written out as a whole, it would pass through memory twice.
#[derive(Default)]
pub enum Vector {
    /// Correlations of no bits are zero.
    #[default]
    Zero,
    /// Shares of masks that a session keeps.
    Kept(Buffer),
    /// P0's: elements of a stream, from element `first` on.
    Seed {
        /// The stream.
        stream: Box<Stream>,
        /// Where they begin.
        first: u64,
        /// Bits of each.
        bits: Width,
    },
    /// P1's.
    Packed {
        /// The elements.
        bytes: Bytes,
        /// Bits of each.
        bits: Width,
    },
}

impl Vector {
    /// The first `count` elements.
    pub fn all(&self, count: usize) -> Buffer {
        let mut out = Buffer::unset(count);
        self.fill(0, &mut out);
        out
    }

    /// Elements from number `from` on, as many as `out` has.
    pub fn fill(&self, from: usize, out: &mut [u64]) {
        match self {
            Vector::Zero => out.fill(0),
            Vector::Kept(shares) => out.copy_from_slice(&shares[from..][..out.len()]),
            Vector::Seed { stream, first, bits } => stream.fill(first + from as u64, *bits, out),
            Vector::Packed { bytes, bits } => ring::unpack_range(bytes, *bits, from, out),
        }
    }
}

/// A party's comparison keys of one block.
struct Keys {
    party: Party,
    layout: Layout,
    roots: Vec<u128>,
    words: Bytes,
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
        let (wide, roots) = (dcf::wide_keys(), &self.roots);
        dcf::evaluate(wide.as_ref(), self.party, &key, 0..elements, roots, per_element, points, out, read);
    }
}
