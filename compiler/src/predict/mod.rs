//! How long the online phase of a program takes on a link, without running it.
//!
//! Two clocks walk through the program, one a party. Instructions advance both by their work; a `round` leaves when both
//! are ready and sets each to when the other's message is there, a `send` or `reveal` sets the receiver's alone, a `choose` has
//! several of both kinds. A message
//! takes half a round-trip time and its bytes over the rate; both directions have a rate of their own. It travels as
//! frames, and what `open` and `linear` do with it begins with the first. What the client does and sends ahead of its
//! input ([`ir::ahead`]) costs nothing. Work is [`work`] (a count, from the program) times seconds of one core, and a
//! message takes some time besides: threads that wake, calls of the system. Both are the [`Speed`] of a machine:
//! [`rates`] has one, and the [`reports`] of a run tell another.
//!
//! What is not modelled: the start of TCP on a long link.

pub mod fit;
pub mod making;
pub mod parts;
pub mod rates;
pub mod reports;
pub mod work;

use std::fmt;

use ir::ahead::ahead;
use ir::cost::{self, Cost};
use ir::wire::{FRAME_PAYLOAD, message_bytes};
use ir::{Op, Program, material};

use crate::lower::variant::Link;
use rates::{Rate, Speed};
use work::Work;

/// The processors that the parties compute on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cores {
    /// One machine for both parties: who computes alone has all cores, else each has half.
    Shared(u16),
    /// A machine for each party.
    Each(u16),
}

impl Cores {
    /// Two shared cores, where [`rates`] were measured.
    pub const DEFAULT: Cores = Cores::Shared(2);

    /// Cores of a party while the other one computes, and while it waits.
    fn speeds(self) -> (f64, f64) {
        match self {
            Cores::Shared(n) => (f64::from(n) / 2.0, f64::from(n)),
            Cores::Each(n) => (f64::from(n), f64::from(n)),
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cores::Shared(n) => write!(f, "{n} cores that both parties share"),
            Cores::Each(1) => write!(f, "a core each"),
            Cores::Each(n) => write!(f, "{n} cores each"),
        }
    }
}

/// Seconds from the input to the output.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Prediction {
    /// All of it.
    pub online_seconds: f64,
    /// What messages take for the distance alone.
    pub latency_seconds: f64,
    /// What their bytes take alone.
    pub transfer_seconds: f64,
    /// What the parties' work takes on a link that costs nothing.
    pub compute_seconds: f64,
}

/// Predicts a scheduled program that passed the verifier.
pub fn predict(program: &Program, link: Link, cores: Cores, speed: &Speed) -> Prediction {
    let (cost, work) = (cost::cost(program), work::work(program));
    let walk = |link: Link, rates: &[Rate], message: f64| {
        Clocks { message, ..Clocks::default() }.walk(program, &cost, &work, link, cores, rates)
    };
    Prediction {
        online_seconds: walk(link, &speed.rates, speed.message),
        latency_seconds: walk(Link { bits_per_second: UNLIMITED, ..link }, &[], 0.0),
        transfer_seconds: walk(Link { rtt_seconds: 0.0, ..link }, &[], 0.0),
        compute_seconds: walk(INSTANT, &speed.rates, speed.message),
    }
}

const UNLIMITED: f64 = f64::INFINITY;

/// A link that costs nothing.
const INSTANT: Link = Link { rtt_seconds: 0.0, bits_per_second: UNLIMITED };

/// Seconds that the parties' work takes on a link that costs nothing, and the handling of messages nothing.
pub fn work_seconds(program: &Program, cores: Cores, rates: &[Rate]) -> f64 {
    Clocks::default().walk(program, &cost::cost(program), &work::work(program), INSTANT, cores, rates)
}

/// Where the parties are, in seconds since the input: client, server.
#[derive(Default)]
struct Clocks {
    now: [f64; 2],
    /// Work, in seconds of one core, since the last message.
    work: [f64; 2],
    /// Work that goes on frame by frame while the next message travels.
    after: [f64; 2],
    /// Payload bytes of the next message.
    payload: [u64; 2],
    /// When the last message has left.
    left: [f64; 2],
    /// What a message takes on any link.
    message: f64,
    /// When messages were sent and were there.
    marks: Vec<Mark>,
}

/// A message of a walk.
struct Mark {
    /// The instruction that sends it.
    index: usize,
    /// When both parties had done what comes before it, and when it was there.
    sent: f64,
    there: f64,
}

impl Clocks {
    /// Walks through a program; when the later party ends.
    fn walk(self, program: &Program, cost: &Cost, work: &[Work], link: Link, cores: Cores, rates: &[Rate]) -> f64 {
        self.walked(program, cost, work, link, cores, rates).later()
    }

    /// Where the parties are at the end of a program.
    fn walked(
        mut self,
        program: &Program,
        cost: &Cost,
        work: &[Work],
        link: Link,
        cores: Cores,
        rates: &[Rate],
    ) -> Clocks {
        let sent_ahead = ahead(program).sent;
        for (index, (instr, c)) in program.instrs.iter().zip(&cost.per_instruction).enumerate() {
            let [client, server] = rates::of(rates, &instr.op);
            let [client, server] = [client * work[index].client, server * work[index].server];
            if let Op::Choose { x, .. } = instr.op {
                let messages = material::choosing(program, x).messages();
                let part = 1.0 / messages.len() as f64;
                let sent = self.later();
                for message in messages {
                    self.work = [self.work[0] + client * part, self.work[1] + server * part];
                    self.payload = [message.client, message.server];
                    self.compute(cores);
                    self.exchange(link, cores);
                }
                self.marks.push(Mark { index, sent, there: self.later() });
                continue;
            }
            self.payload[0] += if sent_ahead[index] { 0 } else { c.client_payload_bytes };
            self.payload[1] += c.server_payload_bytes;
            let framed = instr.op.exchanges() || matches!(instr.op, Op::Linear { .. });
            let due = if framed { &mut self.after } else { &mut self.work };
            *due = [due[0] + client, due[1] + server];
            if matches!(instr.op, Op::Round {} | Op::Send {} | Op::Reveal { .. }) {
                self.compute(cores);
                let sent = self.later();
                self.exchange(link, cores);
                self.marks.push(Mark { index, sent, there: self.later() });
            }
        }
        self.compute(cores);
        self
    }

    /// Where the later party is.
    fn later(&self) -> f64 {
        self.now[0].max(self.now[1])
    }

    /// Does the work since the last message.
    fn compute(&mut self, cores: Cores) {
        let (both, alone) = cores.speeds();
        let [first, second] = if self.now[0] <= self.now[1] { [0, 1] } else { [1, 0] };
        // Before the second begins, the first has the processor for itself.
        let ahead = (self.work[first] / alone).min(self.now[second] - self.now[first]);
        self.now[first] += ahead;
        self.work[first] = (self.work[first] - ahead * alone).max(0.0);
        if self.work[first] == 0.0 {
            self.now[second] += self.work[second] / alone;
        } else {
            let (less, more) = if self.work[0] <= self.work[1] { (0, 1) } else { (1, 0) };
            let together = self.work[less] / both;
            let rest = (self.work[more] - self.work[less]) / alone;
            self.now[less] += together;
            self.now[more] += together + rest;
        }
        self.work = [0.0; 2];
    }

    /// Exchanges the messages that wait. What has no bytes is not sent.
    fn exchange(&mut self, link: Link, cores: Cores) {
        let start = self.now;
        let mut last = self.now;
        for (sender, receiver) in [(0, 1), (1, 0)] {
            let payload = std::mem::take(&mut self.payload[sender]);
            if payload > 0 {
                // One message after another: a link has one rate for all of them.
                let leaves = start[sender].max(self.left[sender]);
                let seconds = |payload| message_bytes(payload) as f64 * 8.0 / link.bits_per_second;
                self.left[sender] = leaves + seconds(payload);
                let distance = link.rtt_seconds / 2.0 + self.message;
                let first = leaves + seconds(payload.min(FRAME_PAYLOAD)) + distance;
                self.now[receiver] = self.now[receiver].max(first);
                last[receiver] = last[receiver].max(self.left[sender] + distance);
            }
        }
        self.work = std::mem::take(&mut self.after);
        self.compute(cores);
        self.now = [self.now[0].max(last[0]), self.now[1].max(last[1])];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One product, one round of an opening, one reveal.
    const PROGRAM: &str = include_str!("product.ssir");

    fn program() -> Program {
        let program = ir::parse(PROGRAM).unwrap_or_else(|e| panic!("{e}"));
        ir::verify(&program, &ir::verify::Limits::default()).unwrap_or_else(|faults| panic!("{faults:#?}"));
        program
    }

    #[test]
    fn latency_and_bytes_add_up() {
        let (program, link) = (program(), Link { rtt_seconds: 2.0, bits_per_second: 8.0 });
        let (cost, predicted) = (cost::cost(&program), predict(&program, link, Cores::DEFAULT, &Speed::built_in()));
        assert_eq!((cost.rounds, cost.one_way_messages), (1, 2));
        // The client's part of the round went ahead, since it is known without the input: the server waits for the product
        // alone, half a round-trip time, and the client for the server's part and the answer, which come one behind the other.
        assert!(cost.client_ahead_bytes > 0, "{cost:?}");
        assert_eq!(predicted.latency_seconds, 2.0);
        // A byte takes a second.
        let bytes = cost.client_sent_bytes - cost.client_ahead_bytes + cost.server_sent_bytes;
        assert!((predicted.transfer_seconds - bytes as f64).abs() < 1e-6, "{predicted:?}, {cost:?}");
        let parts = [predicted.latency_seconds, predicted.transfer_seconds, predicted.compute_seconds];
        assert!(predicted.online_seconds >= parts.into_iter().fold(0.0, f64::max), "{predicted:?}");
        assert!(predicted.online_seconds <= parts.into_iter().sum::<f64>() + 1e-6, "{predicted:?}");
    }

    #[test]
    fn a_better_link_and_more_cores_are_never_slower() {
        let program = program();
        let seconds = |rtt_seconds, bits_per_second, cores| {
            predict(&program, Link { rtt_seconds, bits_per_second }, cores, &Speed::built_in()).online_seconds
        };
        let one = Cores::Each(1);
        assert!(seconds(0.001, 1e9, one) < seconds(0.002, 1e9, one));
        assert!(seconds(0.001, 1e9, one) < seconds(0.001, 1e8, one));
        assert!(seconds(0.001, 1e9, Cores::Each(2)) < seconds(0.001, 1e9, one));
        assert!(seconds(0.001, 1e9, Cores::Shared(2)) <= seconds(0.001, 1e9, one));
        assert!(seconds(0.001, 1e9, Cores::Each(2)) <= seconds(0.001, 1e9, Cores::Shared(2)));
    }

    #[test]
    fn parties_share_a_processor() {
        let after = |now, work, cores| {
            let mut clocks = Clocks { now, work, ..Clocks::default() };
            clocks.compute(cores);
            clocks.now
        };
        // Two seconds together at one core each, then the server's other two on both cores.
        assert_eq!(after([0.0, 0.0], [2.0, 4.0], Cores::Shared(2)), [2.0, 3.0]);
        assert_eq!(after([0.0, 0.0], [2.0, 4.0], Cores::Each(1)), [2.0, 4.0]);
        // The server begins later: until then the client has done four of its five on both cores.
        assert_eq!(after([0.0, 2.0], [5.0, 1.0], Cores::Shared(2)), [3.0, 3.0]);
        // It is done before the server begins.
        assert_eq!(after([0.0, 2.0], [1.0, 1.0], Cores::Shared(2)), [0.5, 2.5]);
        // A party that has nothing to do leaves its cores to the other one.
        assert_eq!(after([0.0, 0.0], [0.0, 4.0], Cores::Shared(2)), [0.0, 2.0]);
    }
}
