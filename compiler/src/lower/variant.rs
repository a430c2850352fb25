//! Protocol variants and what they cost on a link.
//!
//! Where a graph op has several lowerings, each is a row of a table with its rounds, bits and validity, and
//! the cheapest valid row is taken ([`exp`], [`ActivationVariant::pick`]).

use std::fmt;
use std::str::FromStr;

/// A link between the parties, as far as prices go.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Link {
    /// Round-trip time in seconds.
    pub rtt_seconds: f64,
    /// Rate in bits per second, each way.
    pub bits_per_second: f64,
}

impl Link {
    /// Two processes of one machine: 0.1 ms from one's message to the other's work, 10 Gbit/s through sockets and frames.
    pub const LOOPBACK: Link = Link { rtt_seconds: 0.0002, bits_per_second: 1e10 };
    /// 0.5 ms, 1 Gbit/s.
    pub const LAN: Link = Link { rtt_seconds: 0.0005, bits_per_second: 1e9 };
    /// 40 ms, 100 Mbit/s.
    pub const WAN: Link = Link { rtt_seconds: 0.04, bits_per_second: 1e8 };

    /// Seconds that a lowering takes. Both parties send at once, so a round takes half a round-trip time. Material is
    /// dealt before the input is there, so its bits weigh [`MATERIAL_WEIGHT`].
    pub fn seconds(&self, price: Price) -> f64 {
        price.rounds * self.rtt_seconds / 2.0
            + (price.opened_bits + price.dealt_bits * MATERIAL_WEIGHT) / self.bits_per_second
    }

    /// The variant that takes least.
    fn cheapest<T>(&self, variants: impl Iterator<Item = T>, price: impl Fn(&T) -> Price) -> Option<T> {
        variants.min_by(|a, b| self.seconds(price(a)).total_cmp(&self.seconds(price(b))))
    }
}

/// Weight of a dealt bit against a bit that is sent online.
pub const MATERIAL_WEIGHT: f64 = 1.0 / 16.0;

impl FromStr for Link {
    type Err = String;

    /// `loopback`, `lan`, `wan` or `RTT,RATE` as in `0.5ms,1gbit`.
    fn from_str(text: &str) -> Result<Link, String> {
        match text {
            "loopback" => return Ok(Link::LOOPBACK),
            "lan" => return Ok(Link::LAN),
            "wan" => return Ok(Link::WAN),
            _ => {}
        }
        let usage = || format!("`{text}` is not a link: use loopback, lan, wan or RTT,RATE as in 0.5ms,1gbit");
        let (rtt, rate) = text.split_once(',').ok_or_else(usage)?;
        let rtt_seconds = quantity(rtt, &[("us", 1e-6), ("ms", 1e-3), ("s", 1.0)]).ok_or_else(usage)?;
        let bits_per_second = quantity(rate, &[("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)]).ok_or_else(usage)?;
        if bits_per_second == 0.0 {
            return Err(usage());
        }
        Ok(Link { rtt_seconds, bits_per_second })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a link of {} ms and {} Mbit/s", self.rtt_seconds * 1e3, self.bits_per_second / 1e6)
    }
}

fn quantity(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim().to_ascii_lowercase();
    let (number, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let number: f64 = number.trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * factor)
}

/// What a lowering costs in all.
#[derive(Clone, Copy, Debug)]
pub struct Price {
    /// Rounds on the critical path.
    pub rounds: f64,
    /// Bits that each party sends.
    pub opened_bits: f64,
    /// Bits of material, both parties counted.
    pub dealt_bits: f64,
}

/// A way to evaluate a gated activation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ActivationVariant {
    /// A cosine series of as many terms: one round.
    Series {
        /// K.
        terms: usize,
    },
    /// Lines on 2^cells_log2 cells.
    Cells {
        /// log2 of the number of cells.
        cells_log2: u8,
        /// What is read is narrow and extended afterwards: a round more for half of the bits. Else the argument is extended.
        extends: bool,
    },
}

/// Bits of an activation that is read narrow, of what reads it, and of its argument.
const ACTIVATION_BITS: [f64; 3] = [26.0, 50.0, 20.0];

impl ActivationVariant {
    /// Price for a number of elements.
    pub fn price(self, elements: f64) -> Price {
        let [narrow, wide, argument] = ACTIVATION_BITS;
        let (rounds, opened, dealt) = match self {
            // The opening is lifted, which takes two numbers.
            Self::Series { terms } => (1.0, argument, 2.0 * terms as f64 * wide + 2.0 * (wide - argument)),
            Self::Cells { cells_log2, extends } => {
                let (cells, index) = (f64::from(cells_log2).exp2(), f64::from(cells_log2) + 8.0);
                let (rounds, width) = if extends { (3.0, narrow) } else { (2.0, wide) };
                (rounds, index + 2.0 * width + 1.0, cells + 2.0 * width + wide - argument)
            }
        };
        Price { rounds, opened_bits: elements * opened, dealt_bits: elements * dealt }
    }

    /// The cheapest of a series, if it has so many terms, and of cells.
    pub fn pick(link: Link, terms: Option<usize>, cells_log2: u8, elements: f64) -> ActivationVariant {
        let cells = [false, true].map(|extends| Self::Cells { cells_log2, extends });
        let all = terms.map(|terms| Self::Series { terms }).into_iter().chain(cells);
        link.cheapest(all, |v| v.price(elements)).expect("two at least")
    }
}

/// Cells of 2^cells_log2 for exp, of two nats each ([`ir::exp`]): a period of twice as many nats.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ExpVariant {
    /// log2 of the number of cells.
    pub cells_log2: u8,
    /// What is read is narrow and extended afterwards, a round more for half of the bits.
    pub extends: bool,
}

/// Numbers of cells, as powers of two. The last has 8 KB of table and a unit vector of 128 bytes an element.
const CELLS_LOG2: std::ops::RangeInclusive<u8> = 5..=10;

/// Bits of an exponential that is read narrow, and of the product with values that wide ones are read for.
const EXP_BITS: [f64; 2] = [36.0, 56.0];

impl ExpVariant {
    /// Nats between the greatest argument and the least that the table tells apart.
    pub fn reach(&self) -> f64 {
        // An argument may be read in its own cell or in one of the next two; two more are kept free.
        2.0 * (f64::from(self.cells_log2).exp2() - 5.0)
    }

    /// Price for a number of scores.
    pub fn price(&self, elements: f64) -> Price {
        let cells = f64::from(self.cells_log2).exp2();
        let index = f64::from(self.cells_log2) + 11.0;
        let [narrow, wide] = EXP_BITS;
        match self.extends {
            false => Price {
                rounds: 2.0,
                opened_bits: elements * (index + wide),
                dealt_bits: elements * (cells + 3.0 * wide),
            },
            true => Price {
                rounds: 3.0,
                opened_bits: elements * (index + narrow + 1.0),
                dealt_bits: elements * (cells + 3.0 * narrow + 22.0),
            },
        }
    }
}

/// The cheapest variant that reaches `span` nats below the greatest score; `narrow` says that what follows needs no wide ring.
pub fn exp(link: Link, span: f64, elements: f64, narrow: bool) -> Option<ExpVariant> {
    let all = CELLS_LOG2.flat_map(|cells_log2| [false, true].map(|extends| ExpVariant { cells_log2, extends }));
    link.cheapest(all.filter(|v| v.reach() >= span && !(narrow && v.extends)), |v| v.price(elements))
}

/// The widest table of exp, in nats.
pub fn widest_exp() -> f64 {
    ExpVariant { cells_log2: *CELLS_LOG2.end(), extends: false }.reach()
}
