//! Transfers by the project's oblivious transfer and products by its ring learning with errors, over a channel to the peer.

use super::{Exchange, Factors, Group, Network, PairError, Transfers};
use crate::weights::Integers;
use ir::{Party, Width};
use kernels::ring::{self, Buffer, Tensor};
use ot::{Channel, Form, Pair};
use rlwe::packed;
use rlwe::product::few_rows;

/// What a party keeps of a session's engines.
pub struct Engine {
    pub(super) pair: Pair,
    pub(super) packed: Packed,
}

/// The party's end of the products of few rows, whose keys serve a session.
pub(super) enum Packed {
    /// No product was asked for yet.
    Unset,
    Client(Box<packed::Client>),
    Server(Box<packed::Server>),
}

impl Engine {
    /// Of transfers that were set up.
    pub fn new(pair: Pair) -> Engine {
        Engine { pair, packed: Packed::Unset }
    }

    /// Over the way to the peer that they were set up on.
    pub fn over<'a>(&'a mut self, channel: &'a mut (dyn Channel + Send)) -> Connected<'a> {
        Connected { engine: self, channel }
    }
}

/// One party's end of the engines, over a channel.
pub struct Connected<'a> {
    pub(super) engine: &'a mut Engine,
    pub(super) channel: &'a mut (dyn Channel + Send),
}

/// The greatest sum of squares of so many bits.
fn greatest(bits: u64) -> u64 {
    u32::try_from(bits).ok().and_then(|bits| 1u64.checked_shl(bits)).unwrap_or(u64::MAX)
}

impl From<ot::Error> for PairError {
    fn from(error: ot::Error) -> PairError {
        PairError::Engine(Box::new(error))
    }
}

impl Transfers for Connected<'_> {
    fn party(&self) -> Party {
        self.engine.pair.party()
    }

    fn exchange(&mut self, asked: &[Exchange]) -> Result<Vec<[Buffer; 2]>, PairError> {
        let form = |ask: &Exchange| match ask.group {
            Group::Sum => Form::Sum(ask.width),
            Group::Xor => Form::Xor(ask.width),
        };
        let own = asked.iter().map(|ask| ot::Bits::of(ask.choices.numbers, ask.choices.bit)).collect();
        let theirs: Vec<usize> = asked.iter().map(|ask| ask.held.len() / ask.row).collect();
        let (mut chosen, mut offered) = self.engine.pair.choose(self.channel, own, &theirs)?;
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

    fn switches(&mut self, asked: &[Network]) -> Result<Vec<Buffer>, PairError> {
        let owns = |network: &Network| network.numbers.is_empty();
        let own = asked.iter().map(|network| ot::Bits::of(network.bits, 0)).collect();
        let switches = |network: &Network| if owns(network) { 0 } else { network.switches() };
        let theirs: Vec<usize> = asked.iter().map(switches).collect();
        let (mut chosen, mut offered) = self.engine.pair.choose(self.channel, own, &theirs)?;
        let mut message = Vec::new();
        let give = |(offered, network): (&mut ot::Offered, &Network)| {
            let form = Form::Sum(network.width);
            let held = if owns(network) { Buffer::default() } else { network.held(&offered.kept(1, form)) };
            Buffer::from(offered.give(&held, 1, form, &mut message))
        };
        let kept: Vec<Buffer> = offered.iter_mut().zip(asked).map(give).collect();
        let length = asked.iter().map(|network| Form::Sum(network.width).message_bytes(network.bits.len())).sum();
        let got = ot::exchange(self.channel, message, length)?;
        let mut rest = &got[..];
        let get = |(chosen, network): (&mut ot::Chosen, &Network)| {
            Buffer::from(chosen.get(&mut rest, 1, Form::Sum(network.width)))
        };
        let chosen = chosen.iter_mut().zip(asked).map(get);
        let shares = chosen.zip(kept).zip(asked);
        Ok(shares.map(|((chosen, kept), network)| if owns(network) { chosen } else { kept }).collect())
    }

    fn client_product(&mut self, a: &Tensor, columns: usize, width: Width) -> Result<Buffer, PairError> {
        let [rows, depth] = a.shape[..] else { panic!("a matrix") };
        let square = greatest(self.hear(1, 8)?[0]);
        match few_rows([rows, depth, columns], width, square) {
            Some(plan) => Ok(self.client_packed(&[(plan, &a.data)])?.remove(0)),
            None => self.client_batches(a, columns, width, square),
        }
    }

    fn server_product(
        &mut self,
        weights: Integers,
        sizes @ [_, _, columns]: [usize; 3],
        width: Width,
    ) -> Result<Buffer, PairError> {
        // That the client learns of the weights: the bits of the greatest sum of squares of a column.
        let bits = u64::from(u64::BITS - weights.greatest_square(columns).leading_zeros());
        self.tell(&[bits], 8)?;
        match few_rows(sizes, width, greatest(bits)) {
            Some(plan) => {
                let rows = |row: usize, first: usize, out: &mut [u64]| weights.copy_to(row * columns + first, out);
                Ok(self.server_packed(&[(plan, &rows)])?.remove(0))
            }
            None => self.server_batches(weights, sizes, width, greatest(bits)),
        }
    }

    fn private_products(&mut self, asked: &[Factors]) -> Result<Vec<Buffer>, PairError> {
        self.private(asked)
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
