//! The two parties in the dealer's place: what an instruction takes, made by both of them alone.
//!
//! What for   The words are those that a dealer would send, so the virtual machine reads them without knowing who made them:
//!            the client's shares come from its seed, the server's are kept. One thing differs: the server's share of the
//!            mask of an opening is made here and stands before what its readers take ([`super::Source::mask`]).
//! Masks      Of the integer r of n bits the parties hold XOR shares of every bit, from their seeds. Additive shares are made
//!            of them, never the other way, which would take the carries of an addition.
//! Transfers  Everything follows from correlated oblivious transfers (Gilboa, CRYPTO 1999, section 4.1; Ishai, Kilian,
//!            Nissim and Petrank, CRYPTO 2003): one party's bit c times the other's numbers d, as shares. An engine makes them:
//!            [`Transfers`].
//! Products   of matrices come from the engine as a whole, since their bits would be too many: those of the client's numbers with
//!            the server's weights, and those of two secrets by the products of what each party has of them. Rows of many steps
//!            go into one ([`products`]), which costs little more than one row.
//! Seeds      Whatever shares come out, the client makes its own those of its seed: it sends the difference, which its seed
//!            hides, and the server adds that.
//! Order      Program order, and within an instruction that of its protocol's file, at both parties: every message's
//!            length is known to who waits for it. Instructions that do not wait for one another share their messages.
//! Errors     A peer that is lost or sends what it must not; what was made for the session is then thrown away by both.

mod arithmetic;
mod engine;
mod matrices;
mod products;
mod program;
mod shuffle;
mod together;

pub(crate) use arithmetic::{joined, signed};
pub use engine::{Connected, Engine};
pub use products::{Products, Weights, products};
pub use program::make;
pub use shuffle::Network;
pub(crate) use shuffle::Shuffle;

use crate::cache::SessionError;
use crate::weights::Integers;
use crate::{Use, kind};
use ir::{Party, Width};
use kernels::prg::element_bytes;
use kernels::ring::{self, Buffer, Tensor};
use std::io::{self, Write};
use std::ops::Range;

/// How shares make up a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Additive shares mod 2^width.
    Sum,
    /// XOR shares of `width` bits.
    Xor,
}

/// A secret bit of each of several numbers.
#[derive(Clone, Copy)]
pub struct Bits<'a> {
    /// The numbers.
    pub numbers: &'a [u64],
    /// Which of their bits.
    pub bit: Width,
}

impl<'a> Bits<'a> {
    /// None.
    pub const NONE: Bits<'static> = Bits { numbers: &[], bit: 0 };

    /// Bit `bit` of each number.
    pub fn of(numbers: &'a [u64], bit: Width) -> Bits<'a> {
        Bits { numbers, bit }
    }

    /// How many.
    pub fn len(self) -> usize {
        self.numbers.len()
    }

    /// True if there are none.
    pub fn is_empty(self) -> bool {
        self.numbers.is_empty()
    }

    /// The bits, 0 or 1.
    pub fn iter(self) -> impl Iterator<Item = u64> + 'a {
        self.numbers.iter().map(move |number| number >> self.bit & 1)
    }
}

/// Correlated transfers both ways at once, in which rows of numbers go with choices.
#[derive(Clone, Copy)]
pub struct Exchange<'a> {
    /// How shares make up the numbers.
    pub group: Group,
    /// The party's choices, each of which the peer's next `row` numbers go with.
    pub choices: Bits<'a>,
    /// The party's numbers, each `row` of which goes with one of the peer's choices. Bits above `width` mean nothing.
    pub held: &'a [u64],
    /// Numbers of a row.
    pub row: usize,
    /// Bits of a number, from 1 to 64.
    pub width: Width,
}

/// Products of two private matrices, of which each party has one: the client's [rows, depth] times the server's [depth, columns].
#[derive(Clone, Copy)]
pub struct Factors<'a> {
    /// How many, of the same sizes. Their matrices lie below one another.
    pub count: usize,
    /// Rows, depth and columns.
    pub sizes: [usize; 3],
    /// Bits of a result. Bits of a factor above them mean nothing.
    pub width: Width,
    /// The party's matrices.
    pub own: &'a [u64],
}

/// One party's end of an engine of correlated transfers. Both parties make the same calls in the same order.
pub trait Transfers {
    /// Which party this is.
    fn party(&self) -> Party;

    /// Transfers of several kinds in one message each way. Gives for each the party's shares of choice·number, a row for each
    /// choice, first of those where it chose, then of those where it held. Shares are uniform but for their sum, or XOR.
    fn exchange(&mut self, asked: &[Exchange]) -> Result<Vec<[Buffer; 2]>, PairError>;

    /// Transfers of networks of switches: for each the party's shares of what every switch gives, the owner's bit times the other
    /// party's difference, mod 2^width.
    fn switches(&mut self, asked: &[Network]) -> Result<Vec<Buffer>, PairError>;

    /// The client's share of A·W mod 2^width, [rows, columns], up to a few units of the last place, for its A [rows, depth] mod 2^width.
    fn client_product(&mut self, a: &Tensor, columns: usize, width: Width) -> Result<Buffer, PairError>;

    /// The server's, for its W [depth, columns] and the `sizes` rows, depth and columns.
    fn server_product(&mut self, weights: Integers, sizes: [usize; 3], width: Width) -> Result<Buffer, PairError>;

    /// The party's shares of products of private matrices mod 2^width: of each that is asked for, [count, rows, columns]. Off by a
    /// few units of the last place at 40 bits, by some thousands at 60 (`rlwe::packed::Plan::error_bound`, times the digits that the
    /// engine cuts wide numbers into).
    fn private_products(&mut self, asked: &[Factors]) -> Result<Vec<Buffer>, PairError>;

    /// Sends numbers of `width` bits to the peer, as they are.
    fn tell(&mut self, numbers: &[u64], width: Width) -> Result<(), PairError>;

    /// Receives what the peer tells.
    fn hear(&mut self, count: usize, width: Width) -> Result<Buffer, PairError>;
}

/// Why material was not made. What was made of it is thrown away, by both parties.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The engine stopped.
    #[error("making material with the peer")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What was made could not be written.
    #[error("writing what was made")]
    Io(#[from] io::Error),
    /// The step cannot begin.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Streams of a party's own while material is made, beside those that a run has.
pub(crate) mod own {
    use crate::kind::CORRELATION;

    /// The party's XOR share of the bits of masks.
    pub const BITS: u8 = CORRELATION + 48;
    /// The server's share of bits of a mask that stand above or below those that were made.
    pub const FREE: u8 = CORRELATION + 49;
}

/// A party's shares of a mask r of an opening while its readers' material is made.
pub(crate) struct Shares {
    /// Width n of the opening.
    pub width: Width,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// XOR shares of the n bits of r; of its cells' numbers alone if `exp` reads it; none of cached rows and of masks that are
    /// the parties' own.
    pub bits: Buffer,
    /// Additive shares of r, mod 2^(n + lift bits).
    pub mask: Buffer,
    /// Additive shares of its top bit, mod 2^(lift bits).
    pub top: Buffer,
}

impl Shares {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.mask.len()
    }
}

/// A party's end of one instruction whose material is made.
pub struct Making<'a> {
    own: Use<'a>,
    pair: &'a mut dyn Transfers,
    to_server: &'a mut dyn Write,
    packed: Vec<u8>,
    /// What was read of the party's own streams: each number serves once.
    read: Vec<(u8, usize, Range<usize>)>,
}

impl<'a> Making<'a> {
    /// Starts an instruction with the party's seed. The server's shares go to `to_server`; nothing of the client's does.
    pub fn new(own: Use<'a>, pair: &'a mut dyn Transfers, to_server: &'a mut dyn Write) -> Making<'a> {
        Making { own, pair, to_server, packed: Vec::new(), read: Vec::new() }
    }

    /// Which party this is.
    pub(crate) fn party(&self) -> Party {
        self.pair.party()
    }

    /// The party's seed as this instruction uses it.
    pub(crate) fn own(&self) -> Use<'a> {
        self.own
    }

    /// The party's numbers of a stream of its own.
    pub(crate) fn numbers(&mut self, kind: u8, count: usize, bits: Width) -> Buffer {
        self.elements(kind, 0..count, bits)
    }

    /// Some of them, which were not read before. What is read so is sent or hides what is sent; shares that are but factors of a
    /// product, such as own masks, may be read elsewhere, too.
    pub(crate) fn elements(&mut self, kind: u8, range: Range<usize>, bits: Width) -> Buffer {
        // Elements of two sizes lie over one another.
        let size = element_bytes(bits);
        let apart = |(other, of, before): &(u8, usize, Range<usize>)| {
            *other != kind || *of == size && (before.end <= range.start || range.end <= before.start)
        };
        assert!(self.read.iter().all(apart), "numbers of stream {kind} serve once");
        self.read.push((kind, size, range.clone()));
        self.own.elements(kind, range, bits)
    }

    /// Shares of products of private matrices.
    pub(crate) fn private_products(&mut self, asked: &[Factors]) -> Result<Vec<Buffer>, PairError> {
        self.pair.private_products(asked)
    }

    /// Sends numbers to the peer, as they are.
    pub(crate) fn tell(&mut self, numbers: &[u64], bits: Width) -> Result<(), PairError> {
        self.pair.tell(numbers, bits)
    }

    /// Receives what the peer tells.
    pub(crate) fn hear(&mut self, count: usize, bits: Width) -> Result<Buffer, PairError> {
        self.pair.hear(count, bits)
    }

    /// Ends correlation number `piece`, from element `first` on: the client's shares become those of its seed, the server's are
    /// written. Gives the shares as they are then.
    pub(crate) fn correlation(
        &mut self,
        group: Group,
        piece: u8,
        first: usize,
        bits: Width,
        shares: Buffer,
    ) -> Result<Buffer, PairError> {
        self.as_stream(group, kind::CORRELATION + piece, first, bits, shares)
    }

    /// The same for a stream of the client's of any kind.
    pub(crate) fn as_stream(
        &mut self,
        group: Group,
        kind: u8,
        first: usize,
        bits: Width,
        mut shares: Buffer,
    ) -> Result<Buffer, PairError> {
        if bits == 0 {
            return Ok(Buffer::default());
        }
        match self.party() {
            Party::Client => {
                let seeded = self.elements(kind, first..first + shares.len(), bits);
                ring::zip_assign(&mut shares, &seeded, move |share, seeded| minus(group, share, seeded));
                self.pair.tell(&shares, bits)?;
                Ok(seeded)
            }
            Party::Server => {
                let difference = self.pair.hear(shares.len(), bits)?;
                let full = ring::mask(bits);
                ring::zip_assign(&mut shares, &difference, move |share, d| plus(group, share, d) & full);
                self.write(&shares, bits)?;
                Ok(shares)
            }
        }
    }

    /// Writes numbers to the server's material, at the server.
    pub(crate) fn write(&mut self, numbers: &[u64], bits: Width) -> Result<(), PairError> {
        if self.party() == Party::Server && bits > 0 {
            self.packed.clear();
            self.packed.resize(ring::packed_len(numbers.len(), bits), 0);
            ring::pack_into(numbers, bits, &mut self.packed);
            self.to_server.write_all(&self.packed)?;
        }
        Ok(())
    }
}

/// The sum in a group.
fn plus(group: Group, a: u64, b: u64) -> u64 {
    match group {
        Group::Sum => a.wrapping_add(b),
        Group::Xor => a ^ b,
    }
}

/// The difference in a group.
fn minus(group: Group, a: u64, b: u64) -> u64 {
    match group {
        Group::Sum => a.wrapping_sub(b),
        Group::Xor => a ^ b,
    }
}
