//! Transfers by the project's oblivious transfer and products by its ring learning with errors, over a channel to the peer.

use super::{Exchange, Group, PairError, Transfers};
use crate::weights::{Columns, Integers};
use ir::{Party, Width};
use kernels::ring::{self, Buffer, Tensor};
use ot::{Channel, Form, Pair};
use rlwe::{Client, Plan, Server};
use std::ops::Range;

/// One party's end.
pub struct Engine<'a> {
    pair: &'a mut Pair,
    channel: &'a mut (dyn Channel + Send),
}

impl<'a> Engine<'a> {
    /// Of transfers that were set up, over the way to the peer that they were set up on.
    pub fn new(pair: &'a mut Pair, channel: &'a mut (dyn Channel + Send)) -> Engine<'a> {
        Engine { pair, channel }
    }
}

/// Columns of a matrix that are sent, or answered, at once: a few tens of megabytes.
const TILE: usize = 256;

/// Adds columns, from number `from` on, to a matrix of so many.
fn add_columns(part: &Tensor, from: usize, columns: usize, out: &mut [u64]) {
    let count = part.shape[1];
    for (out, part) in out.chunks_exact_mut(columns).zip(part.data.chunks_exact(count)) {
        ring::add_assign(&mut out[from..from + count], part);
    }
}

/// The greatest sum of squares of so many bits.
fn greatest(bits: u64) -> u64 {
    u32::try_from(bits).ok().and_then(|bits| 1u64.checked_shl(bits)).unwrap_or(u64::MAX)
}

/// Rows and inner dimensions of the products that one is the sum of, which hold few enough ciphertexts at a time: the server has
/// 8 bytes for each inner place of 4096 and the rows.
fn cut(rows: usize, depth: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let blocks = |all: usize, each: usize| (0..all).step_by(each).map(move |from| from..all.min(from + each));
    blocks(rows, ROWS).flat_map(move |rows| blocks(depth, DEPTH).map(move |depth| (rows.clone(), depth)))
}

/// See [`cut`].
const ROWS: usize = 4096;

/// See [`cut`].
const DEPTH: usize = 1 << 13;

impl From<rlwe::Error> for PairError {
    fn from(error: rlwe::Error) -> PairError {
        PairError::Engine(Box::new(error))
    }
}

impl From<rlwe::PlanError> for PairError {
    fn from(error: rlwe::PlanError) -> PairError {
        PairError::Engine(Box::new(error))
    }
}

impl From<ot::Error> for PairError {
    fn from(error: ot::Error) -> PairError {
        PairError::Engine(Box::new(error))
    }
}

impl Transfers for Engine<'_> {
    fn party(&self) -> Party {
        self.pair.party()
    }

    fn exchange(&mut self, asked: &[Exchange]) -> Result<Vec<[Buffer; 2]>, PairError> {
        let form = |ask: &Exchange| match ask.group {
            Group::Sum => Form::Sum(ask.width),
            Group::Xor => Form::Xor(ask.width),
        };
        let own = asked.iter().map(|ask| ot::Bits::of(ask.choices.numbers, ask.choices.bit)).collect();
        let theirs: Vec<usize> = asked.iter().map(|ask| ask.held.len() / ask.row).collect();
        let (mut chosen, mut offered) = self.pair.choose(self.channel, own, &theirs)?;
        let mut message = Vec::new();
        let give = |(offered, ask): (&mut ot::Offered, &Exchange)| {
            Buffer::from(offered.give(ask.held, ask.row, form(ask), &mut message))
        };
        let kept: Vec<Buffer> = offered.iter_mut().zip(asked).map(give).collect();
        let length = asked.iter().map(|ask| form(ask).message_bytes(ask.choices.len() * ask.row)).sum();
        let got = ot::exchange(self.channel, message, length)?;
        let mut rest = &got[..];
        let get = |(chosen, ask): (&mut ot::Chosen, &Exchange)| Buffer::from(chosen.get(&mut rest, ask.row, form(ask)));
        let chosen = chosen.iter_mut().zip(asked).map(get);
        Ok(chosen.zip(kept).map(|(chosen, kept)| [chosen, kept]).collect())
    }

    fn client_product(&mut self, a: &Tensor, columns: usize, width: Width) -> Result<Buffer, PairError> {
        let [rows, depth] = a.shape[..] else { panic!("a matrix") };
        let square = greatest(self.hear(1, 8)?[0]);
        let mut share = Buffer::zeros(rows * columns);
        for (of_rows, of_depth) in cut(rows, depth) {
            let block = a.slice(0, of_rows.start, of_rows.end).slice(1, of_depth.start, of_depth.end);
            let plan = Plan::new(of_rows.len(), of_depth.len(), width, square)?;
            let mut client = Client::new(plan)?;
            self.channel.send(client.key())?;
            for from in (0..of_depth.len()).step_by(TILE) {
                self.channel.send(client.encrypt(&block.slice(1, from, of_depth.len().min(from + TILE))))?;
            }
            let out = &mut share[of_rows.start * columns..of_rows.end * columns];
            for from in (0..columns).step_by(TILE) {
                let count = TILE.min(columns - from);
                let answer = self.channel.receive(plan.answer_bytes(count))?;
                add_columns(&client.decrypt(&answer, count)?, from, columns, out);
            }
        }
        Ok(share)
    }

    fn server_product(
        &mut self,
        weights: Integers,
        [rows, depth, columns]: [usize; 3],
        width: Width,
    ) -> Result<Buffer, PairError> {
        // That the client learns of the weights: the bits of the greatest sum of squares of a column.
        let bits = u64::from(u64::BITS - weights.greatest_square(columns).leading_zeros());
        self.tell(&[bits], 8)?;
        let mut share = Buffer::zeros(rows * columns);
        for (of_rows, of_depth) in cut(rows, depth) {
            let weights = weights.range(of_depth.start * columns..of_depth.end * columns);
            let plan = Plan::new(of_rows.len(), of_depth.len(), width, greatest(bits))?;
            let mut server = Server::new(plan, &self.channel.receive(plan.key_bytes())?)?;
            for from in (0..of_depth.len()).step_by(TILE) {
                let bytes = plan.upload_bytes(TILE.min(of_depth.len() - from));
                server.receive(&self.channel.receive(bytes)?)?;
            }
            let out = &mut share[of_rows.start * columns..of_rows.end * columns];
            for from in (0..columns).step_by(TILE) {
                let tile = from..columns.min(from + TILE);
                let (answer, part) = match weights.columns([of_depth.len(), columns], tile.clone()) {
                    Columns::Two(cells) => server.answer(&cells, tile.len()),
                    Columns::Four(cells) => server.answer(&cells, tile.len()),
                    Columns::Eight(cells) => server.answer(&cells, tile.len()),
                };
                self.channel.send(answer)?;
                add_columns(&part, from, columns, out);
            }
        }
        Ok(share)
    }

    fn tell(&mut self, numbers: &[u64], width: Width) -> Result<(), PairError> {
        let mut packed = Vec::new();
        ring::pack(numbers, width, &mut packed);
        Ok(self.channel.send(packed)?)
    }

    fn hear(&mut self, count: usize, width: Width) -> Result<Buffer, PairError> {
        if count == 0 {
            return Ok(Buffer::default());
        }
        let packed = self.channel.receive(ring::packed_len(count, width))?;
        Ok(ring::unpack(&packed, width, count))
    }
}
