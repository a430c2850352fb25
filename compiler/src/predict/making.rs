//! What two parties exchange to make material, without making it: bytes on the socket, messages, and the time that these take on a link.
//!
//! Which requests there are is [`ir::making`]'s affair; what becomes of them on a link is told by `ot::cost` and `rlwe::product`. Both
//! follow from the program, but for one number a product: how large its weights are. What the parties' cores take is not counted.

use std::collections::HashSet;

use ir::making::{self, Factors, Network, Request, Transfers, Use};
use ir::wire::{message_bytes, packed_bytes};
use ir::{Party, Program, Weight};
use rlwe::PlanError;
use rlwe::product::Message;

use crate::lower::variant::Link;

/// What making takes.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Making {
    /// Bytes that the client and the server send, with frame headers.
    pub sent_bytes: [u64; 2],
    /// Messages, both ways.
    pub messages: u64,
    /// Correlated transfers, both ways.
    pub transfers: u64,
    /// Seconds that the messages take on the link.
    pub link_seconds: f64,
}

/// Of a weight of a product, the bits of the greatest sum of squares of a column.
pub type Squares<'a> = &'a dyn Fn(Weight) -> u64;

/// The bits of the greatest sum of squares of a column of a matrix with so many, row by row.
pub fn square_bits(values: impl Iterator<Item = i64>, columns: usize) -> u64 {
    let mut sums = vec![0u64; columns];
    for (at, value) in values.enumerate() {
        let size = value.unsigned_abs();
        let sum = &mut sums[at % columns];
        *sum = sum.saturating_add(size.saturating_mul(size));
    }
    let greatest = sums.into_iter().max().unwrap_or(0);
    u64::from(u64::BITS - greatest.leading_zeros())
}

/// A connection over which one step after another is made.
pub struct Session<'a> {
    programs: Vec<&'a Program>,
    squares: Squares<'a>,
    link: Link,
    transfers: ot::cost::Session,
    products: rlwe::product::Session,
    ready: HashSet<Use>,
    filled: Vec<u64>,
    next: usize,
    /// Where the parties are, and when the last message of each has left.
    now: [f64; 2],
    left: [f64; 2],
    spent: Making,
}

impl<'a> Session<'a> {
    /// For steps of these verified and scheduled programs, one after another, whose material can be made ([`ir::pair`]).
    pub fn new(programs: Vec<&'a Program>, squares: Squares<'a>, link: Link) -> Session<'a> {
        let mut session = Session {
            programs,
            squares,
            link,
            transfers: ot::cost::Session::default(),
            products: rlwe::product::Session::default(),
            ready: HashSet::new(),
            filled: Vec::new(),
            next: 0,
            now: [0.0; 2],
            left: [0.0; 2],
            spent: Making::default(),
        };
        ot::cost::Session::set_up().into_iter().for_each(|bytes| session.exchange(bytes.map(|bytes| bytes as u64)));
        session
    }

    /// What has been taken so far, the setting up among it.
    pub fn spent(&self) -> Making {
        Making { link_seconds: self.now[0].max(self.now[1]), ..self.spent }
    }

    /// Whose transfers, the client's and the server's, the silent engine makes by now.
    pub fn silent(&self) -> [bool; 2] {
        self.transfers.silent()
    }

    /// Makes the next step. A product that no plan serves is an error, as it would be of the making.
    pub fn step(&mut self) -> Result<(), PlanError> {
        let at = self.next;
        let program = self.programs[at];
        if !self.has_products(at) {
            let steps = self.programs[at..].to_vec();
            self.make_products(at, &steps[..making::together(steps.iter().copied())])?;
        }
        for jobs in making::jobs(program, |i| self.ready.contains(&(at, i))) {
            let turns = jobs.iter().map(Vec::len).max().unwrap_or(0);
            for turn in 0..turns {
                self.turn(jobs.iter().filter_map(|job| job.get(turn)))?;
            }
        }
        making::fill(&mut self.filled, program);
        self.next += 1;
        Ok(())
    }

    fn has_products(&self, at: usize) -> bool {
        let of = |product: making::Linear| product.uses.into_iter().all(|(_, i)| self.ready.contains(&(at, i)));
        making::linear(&[self.programs[at]]).into_iter().all(of)
    }

    fn make_products(&mut self, at: usize, steps: &[&Program]) -> Result<(), PlanError> {
        for product in making::linear(steps) {
            let bits = (self.squares)(product.weight);
            let square = u32::try_from(bits).ok().and_then(|bits| 1u64.checked_shl(bits)).unwrap_or(u64::MAX);
            self.send(Party::Server, 1);
            let sizes = product.sizes.map(|size| size as usize);
            let messages = self.products.with_weights(sizes, product.width, square)?;
            self.products_of(&messages);
            self.ready.extend(product.uses.iter().map(|(number, i)| (at + number, *i)));
        }
        for stack in making::stacks(steps) {
            self.filled.resize(steps[0].states.len(), 0);
            self.private(&stack.factors(steps, &self.filled))?;
            self.ready.extend(stack.uses.iter().map(|(number, i)| (at + number, *i)));
        }
        Ok(())
    }

    /// Requests of jobs that are made together: products, networks, transfers, then what is told.
    fn turn<'r>(&mut self, requests: impl Iterator<Item = &'r Request> + Clone) -> Result<(), PlanError> {
        let (mut factors, mut transfers): (Vec<Factors>, Vec<Transfers>) = Default::default();
        for request in requests.clone() {
            match request {
                Request::Products(list) => factors.extend(list),
                Request::Transfers(list) => transfers.extend(list),
                _ => {}
            }
        }
        if !factors.is_empty() {
            self.private(&factors)?;
        }
        for request in requests.clone() {
            if let Request::Switches(list) = request {
                self.switches(list);
            }
        }
        self.exchanges(&transfers);
        for request in requests {
            if let Request::Tell { from, count, width } = request {
                self.send(*from, packed_bytes(*count, (*width).into()));
            }
        }
        Ok(())
    }

    fn private(&mut self, factors: &[Factors]) -> Result<(), PlanError> {
        let asked: Vec<_> =
            factors.iter().map(|f| (f.count as usize, f.sizes.map(|size| size as usize), f.width)).collect();
        let messages = self.products.private(&asked)?;
        self.products_of(&messages);
        Ok(())
    }

    fn products_of(&mut self, messages: &[Message]) {
        for message in messages {
            match *message {
                Message::Client(bytes) => self.send(Party::Client, bytes as u64),
                Message::Server(bytes) => self.send(Party::Server, bytes as u64),
            }
        }
    }

    fn switches(&mut self, networks: &[Network]) {
        let of = |network: &Network| {
            let mut choices = [0; 2];
            choices[network.owner.index()] = network.switches();
            Transfers { choices, row: 1, width: network.width }
        };
        self.exchanges(&networks.iter().map(of).collect::<Vec<_>>());
    }

    /// Choices, then the numbers that go with them.
    fn exchanges(&mut self, transfers: &[Transfers]) {
        let of = |party: usize| transfers.iter().map(move |t| t.choices[party]);
        let choices = [0, 1].map(|party| of(party).sum::<u64>());
        self.spent.transfers += choices[0] + choices[1];
        for exchange in self.transfers.reserve(choices.map(|choices| choices as usize)) {
            self.exchange(exchange.map(|bytes| bytes as u64));
        }
        self.exchange([0, 1].map(|party| of(party).map(|choices| choices.div_ceil(8)).sum()));
        let numbers = |party: usize| {
            transfers.iter().map(move |t| packed_bytes(t.choices[1 - party] * t.row, t.width.into())).sum::<u64>()
        };
        self.exchange([numbers(0), numbers(1)]);
    }

    /// Messages of both at the same time.
    fn exchange(&mut self, bytes: [u64; 2]) {
        let there = [0, 1].map(|party| self.leave(party, bytes[party]));
        for party in [0, 1] {
            self.now[party] = self.now[party].max(there[1 - party]);
        }
    }

    /// A message one way, which the other party waits for.
    fn send(&mut self, from: Party, bytes: u64) {
        let from = from.index();
        self.now[1 - from] = self.now[1 - from].max(self.leave(from, bytes));
    }

    /// Sends a message; when it is there. None is sent of no bytes.
    fn leave(&mut self, from: usize, payload: u64) -> f64 {
        if payload == 0 {
            return 0.0;
        }
        let bytes = message_bytes(payload);
        self.spent.sent_bytes[from] += bytes;
        self.spent.messages += 1;
        self.left[from] = self.left[from].max(self.now[from]) + bytes as f64 * 8.0 / self.link.bits_per_second;
        self.left[from] + self.link.rtt_seconds / 2.0
    }
}
