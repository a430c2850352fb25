//! Transfers by the project's oblivious transfer, over a channel to the peer.

use super::{Bits, Group, PairError, Transfers};
use ir::{Party, Width};
use kernels::prg::Seed;
use kernels::ring::{self, Buffer};
use ot::{Channel, Form, Pair};

/// One party's end.
pub struct Engine<C> {
    pair: Pair,
    channel: C,
}

impl<C: Channel> Engine<C> {
    /// Sets both ends up. Both parties name the same session, which no other run has; `seed` is fresh, the party's own, and of no
    /// other use.
    pub fn new(mut channel: C, party: Party, session: [u8; 32], seed: &Seed) -> Result<Engine<C>, PairError> {
        let pair = Pair::iknp(&mut channel, party, session, seed)?;
        Ok(Engine { pair, channel })
    }

    /// The way to the peer.
    pub fn channel(&self) -> &C {
        &self.channel
    }
}

impl From<ot::Error> for PairError {
    fn from(error: ot::Error) -> PairError {
        PairError::Engine(Box::new(error))
    }
}

impl<C: Channel> Transfers for Engine<C> {
    fn party(&self) -> Party {
        self.pair.party()
    }

    fn exchange(
        &mut self,
        group: Group,
        choices: Bits,
        held: &[u64],
        row: usize,
        width: Width,
    ) -> Result<[Buffer; 2], PairError> {
        let form = match group {
            Group::Sum => Form::Sum(width),
            Group::Xor => Form::Xor(width),
        };
        let bits: Vec<u64> = choices.iter().collect();
        Ok(self.pair.correlate(&mut self.channel, &bits, held, row, form)?.map(Buffer::from))
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
