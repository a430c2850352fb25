//! Protocol variants and what they cost on a link.
//!
//! Where a graph op has several lowerings, each is a row of a table with its rounds, bits and validity, and
//! [`pick`] takes the cheapest valid row.

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

/// A way to evaluate exp on [-reach, 3]: exp(x / 2^squarings) by a trigonometric series, then squarings.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ExpVariant {
    /// For reports.
    pub name: &'static str,
    /// Squarings after the series; one round each, one more for the series.
    pub squarings: u8,
    /// log2 of the period, in units of x / 2^squarings.
    pub period_log2: i8,
    /// Terms of the series.
    pub terms: usize,
    /// The table is right down to -reach nats.
    pub reach: f64,
}

/// Errors are worst cases of the quantised table on its interval, relative to exp(3) = 20.
pub const EXP: &[ExpVariant] = &[
    ExpVariant { name: "exp(x/4), period 32", squarings: 2, period_log2: 5, terms: 12, reach: 88.0 },
    ExpVariant { name: "exp(x/2), period 64", squarings: 1, period_log2: 6, terms: 20, reach: 88.0 },
    ExpVariant { name: "exp(x/4), period 64", squarings: 2, period_log2: 6, terms: 24, reach: 176.0 },
    ExpVariant { name: "exp(x/8), period 64", squarings: 3, period_log2: 6, terms: 24, reach: 352.0 },
];

impl ExpVariant {
    /// Price for a number of scores. Widths of a typical attention: a series read at 32 bits, squares at 34 and 56.
    pub fn price(&self, elements: f64) -> Price {
        let squarings = f64::from(self.squarings);
        Price {
            rounds: 1.0 + squarings,
            opened_bits: elements * (f64::from(self.period_log2) + 12.0 + 20.0 * squarings),
            dealt_bits: elements * (2.0 * self.terms as f64 * 34.0 + 130.0 * squarings),
        }
    }
}

/// The cheapest variant that reaches `span` nats below the greatest score.
pub fn pick(link: Link, span: f64, elements: f64) -> Option<&'static ExpVariant> {
    EXP.iter()
        .filter(|v| v.reach >= span)
        .min_by(|a, b| link.seconds(a.price(elements)).total_cmp(&link.seconds(b.price(elements))))
}
