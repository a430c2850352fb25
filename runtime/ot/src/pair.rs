//! A party's two ends: it chooses in one direction and holds in the other.
//!
//! Both parties call the same function with their own inputs at the same time, and what one sends in both directions goes
//! in one message. A direction that has nothing to do sends nothing.

use crate::base;
use crate::bits::Bits;
use crate::channel::{Channel, exchange};
use crate::cot::{CotReceiver, CotSender, Stock};
use crate::error::Error;
use crate::hash::Hash;
use crate::kind;
use crate::silent;
use crate::soft;
use crate::transfer::{Chosen, Form, Offered};
use ir::Party;
use kernels::prg::{Domain, Seed};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes that each party sends when a pair is set up: its contribution to the hash's key and both ends of base transfers,
/// and then what its engine's other end needs.
pub const SETUP_BYTES: usize = FIRST_BYTES + soft::SUMS_BYTES;

/// Of these, bytes of the first message.
pub(crate) const FIRST_BYTES: usize = CONTRIBUTION + soft::COLUMNS * (base::RECEIVER_BYTES + base::SENDER_BYTES);

/// Bytes of a party's contribution to the key of the hash.
const CONTRIBUTION: usize = 32;

/// What a direction has besides its engine.
struct Direction {
    stock: Stock,
    hash: Arc<Hash>,
    /// Number of the next correlation.
    next: u64,
    /// Correlations that were made.
    made: usize,
    silent: bool,
}

impl Direction {
    fn new(key: &[u8; 16]) -> Direction {
        Direction { stock: Stock::default(), hash: Arc::new(Hash::new(key)), next: 0, made: 0, silent: false }
    }

    /// The next blocks and the number of the first.
    fn take(&mut self, count: usize) -> (Vec<u128>, u64) {
        let first = self.next;
        self.next += count as u64;
        (self.stock.take(count), first)
    }
}

/// A party's ends of both directions.
pub struct Pair {
    party: Party,
    chooser: Box<dyn CotReceiver>,
    holder: Box<dyn CotSender>,
    /// Where this party chooses, and where it holds.
    ways: [Direction; 2],
    /// How a direction goes on once it has made many correlations.
    later: Option<Box<Later>>,
}

/// What silent engines are made of.
struct Later {
    session: [u8; 32],
    seed: Seed,
    sizes: silent::Sizes,
    /// Correlations that a direction makes before.
    after: usize,
}

/// Correlations that a direction makes by SoftSpokenOT, whose messages are long, before a silent engine, which makes millions at once,
/// takes its place.
pub(crate) const SILENT_AFTER: usize = 1 << 22;

/// A name for the direction in which `chooser` chooses.
fn direction(context: &str, session: &[u8; 32], chooser: Party) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(session).update(&[chooser.index() as u8]);
    hasher.finalize().into()
}

fn other(party: Party) -> Party {
    match party {
        Party::Client => Party::Server,
        Party::Server => Party::Client,
    }
}

impl Pair {
    /// Sets up both directions by base transfers and SoftSpokenOT: two exchanges. A direction that makes many correlations goes on by
    /// silent transfers. Both parties name the same session, which no
    /// other run has; the seed is fresh and this party's own.
    pub fn set_up(channel: &mut dyn Channel, party: Party, session: [u8; 32], seed: &Seed) -> Result<Pair, Error> {
        let stream = |kind| seed.stream(Domain { step: 0, entry: 0, index: 0, kind });
        let name = |chooser| direction("ssvm transfers, base transfers of a direction, 1", &session, chooser);
        let mut delta = Zeroizing::new([0u128]);
        stream(kind::DELTA).fill_blocks(0, &mut *delta);
        delta[0] |= 1;
        let choices = (1..=soft::COLUMNS).map(|j| (delta[0] >> j) as u8 & 1).collect();
        let (receiver, of_receiver) = base::Receiver::new(name(other(party)), choices, seed);
        let (sender, of_sender) = base::Sender::new(name(party), soft::COLUMNS, seed);

        let mut own = [[0; 16]; CONTRIBUTION / 16];
        stream(kind::CONTRIBUTION).fill_bytes(0, &mut own);
        let message = [own.as_flattened(), &of_receiver, &of_sender].concat();
        let theirs = exchange(channel, message, FIRST_BYTES)?;
        let (contribution, points) = theirs.split_at(CONTRIBUTION);
        let (to_sender, to_receiver) = points.split_at(soft::COLUMNS * base::RECEIVER_BYTES);
        let name = |chooser| direction("ssvm transfers, extension of a direction, 1", &session, chooser);
        let (chooser, sums) = soft::Receiver::new(&name(party), &sender.keys(to_sender)?, seed);
        let sums = exchange(channel, sums, soft::SUMS_BYTES)?;
        let holder = soft::Sender::new(&name(other(party)), delta[0], &receiver.keys(to_receiver)?, &sums)?;

        let contributions = match party {
            Party::Client => [own.as_flattened(), contribution],
            Party::Server => [contribution, own.as_flattened()],
        };
        let mut hasher = blake3::Hasher::new_derive_key("ssvm transfers, keys of the hash, 1");
        hasher.update(&session);
        contributions.iter().for_each(|part| _ = hasher.update(part));
        let keys: [u8; 32] = hasher.finalize().into();
        let keys = [0, 1].map(|way| keys.as_chunks::<16>().0[way]);
        let pair = Pair::new(party, Box::new(chooser), Box::new(holder), keys);
        Ok(pair.later_silent(session, seed, silent::SIZES, SILENT_AFTER))
    }

    /// From the ends of two engines, and the keys of the hash where P0 chooses and where P1 does. The keys are public, and
    /// of this session alone.
    pub fn new(party: Party, chooser: Box<dyn CotReceiver>, holder: Box<dyn CotSender>, keys: [[u8; 16]; 2]) -> Pair {
        let ways = [party, other(party)].map(|chooser| Direction::new(&keys[chooser.index()]));
        Pair { party, chooser, holder, ways, later: None }
    }

    /// A direction that has made so many correlations goes on by a silent engine of these sizes, whose first stock the engine before it
    /// makes. Both parties name the same session, which no other run has; the seed is fresh and this party's own.
    pub fn later_silent(self, session: [u8; 32], seed: &Seed, sizes: silent::Sizes, after: usize) -> Pair {
        Pair { later: Some(Box::new(Later { session, seed: seed.clone(), sizes, after })), ..self }
    }

    /// Which party this is.
    pub fn party(&self) -> Party {
        self.party
    }

    /// Makes correlations until there are as many as given, for choices of this party's and of the peer's. Operations do
    /// it for themselves; ahead of them it saves their waiting.
    pub fn reserve(&mut self, channel: &mut dyn Channel, own: usize, theirs: usize) -> Result<(), Error> {
        let wanted = [own, theirs];
        if let Some(later) = self.later.take() {
            let goes_on = |way: usize| {
                let Direction { stock, made, silent, .. } = &self.ways[way];
                !silent && *made >= later.after && stock.lacks(wanted[way]) > 0
            };
            let goes_on = [goes_on(0), goes_on(1)];
            if goes_on != [false, false] {
                self.make(channel, goes_on.map(|goes_on| if goes_on { later.sizes.stock() } else { 0 }))?;
                self.go_on(&later, goes_on);
            }
            self.later = Some(later);
        }
        self.make(channel, wanted)
    }

    /// Puts silent engines in their places, whose first stocks are there.
    fn go_on(&mut self, later: &Later, goes_on: [bool; 2]) {
        let Later { session, seed, sizes, .. } = later;
        let name = |chooser| direction("ssvm transfers, silent engine of a direction, 1", session, chooser);
        let stock = |way: &mut Direction| {
            way.silent = true;
            way.take(sizes.stock()).0
        };
        if goes_on[0] {
            let stock = stock(&mut self.ways[0]);
            self.chooser = Box::new(silent::Receiver::new(stock, &name(self.party), seed, *sizes));
        }
        if goes_on[1] {
            let (stock, name) = (stock(&mut self.ways[1]), name(other(self.party)));
            self.holder = Box::new(silent::Sender::new(self.holder.delta(), stock, &name, seed, *sizes));
        }
    }

    fn make(&mut self, channel: &mut dyn Channel, [own, theirs]: [usize; 2]) -> Result<(), Error> {
        loop {
            let lacking = [self.ways[0].stock.lacks(own), self.ways[1].stock.lacks(theirs)];
            if lacking == [0, 0] {
                return Ok(());
            }
            let own_batch = (lacking[0] > 0).then(|| self.chooser.batch(lacking[0]));
            let their_batch = (lacking[1] > 0).then(|| self.holder.batch(lacking[1]));
            for (way, batch) in self.ways.iter_mut().zip([own_batch, their_batch]) {
                way.made += batch.unwrap_or(0);
            }
            let request = own_batch.map_or(Vec::new(), |batch| self.chooser.request(batch));
            let expected = their_batch.map_or(0, |batch| self.holder.request_bytes(batch));
            let theirs = exchange(channel, request, expected)?;
            let response = match their_batch {
                Some(batch) => self.holder.respond(batch, &theirs, self.ways[1].stock.refill())?,
                None => Vec::new(),
            };
            let expected = own_batch.map_or(0, |batch| self.chooser.response_bytes(batch));
            let theirs = exchange(channel, response, expected)?;
            if let Some(batch) = own_batch {
                self.chooser.complete(batch, &theirs, self.ways[0].stock.refill())?;
            }
        }
    }

    /// Binds correlations to choices: this party's, and vectors of the peer's of so many choices each. One message each
    /// way, a bit a choice and whole bytes a vector.
    pub fn choose(
        &mut self,
        channel: &mut dyn Channel,
        own: Vec<Bits>,
        theirs: &[usize],
    ) -> Result<(Vec<Chosen>, Vec<Offered>), Error> {
        self.reserve(channel, own.iter().map(Bits::len).sum(), theirs.iter().sum())?;
        let [chooses, holds] = &mut self.ways;
        let mut message = Vec::new();
        let chosen = own
            .into_iter()
            .map(|bits| {
                let (blocks, first) = chooses.take(bits.len());
                Chosen::new(blocks, bits, chooses.hash.clone(), first, &mut message)
            })
            .collect();
        let got = exchange(channel, message, theirs.iter().map(|count| count.div_ceil(8)).sum())?;
        let mut rest = &got[..];
        let offered = theirs
            .iter()
            .map(|&count| {
                let (blocks, first) = holds.take(count);
                let bytes = rest.split_off(..count.div_ceil(8)).expect("the length was checked");
                Offered::new(blocks, self.holder.delta(), holds.hash.clone(), first, bytes)
            })
            .collect::<Result<_, _>>()?;
        Ok((chosen, offered))
    }

    /// This party's low bits of `bits` with rows of the peer's numbers, and rows of `d` with the peer's bits: shares of
    /// the products, as chooser and as holder. Rows have `len` numbers. Either may be empty if the peer's other one is.
    pub fn correlate(
        &mut self,
        channel: &mut dyn Channel,
        bits: &[u64],
        d: &[u64],
        len: usize,
        form: Form,
    ) -> Result<[Vec<u64>; 2], Error> {
        assert!(len > 0 && d.len().is_multiple_of(len), "whole rows");
        let theirs = d.len() / len;
        let (mut chosen, mut offered) = self.choose(channel, vec![Bits::of(bits, 0)], &[theirs])?;
        let mut message = Vec::new();
        let held = offered[0].give(d, len, form, &mut message);
        let got = exchange(channel, message, form.message_bytes(bits.len() * len))?;
        Ok([chosen[0].get(&mut &got[..], len, form), held])
    }
}
