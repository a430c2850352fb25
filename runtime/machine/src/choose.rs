//! `choose`: its messages, one after another, between the shuffles and levels of [`protocols::choose`].

use super::error::Cause;
use super::message::{Incoming, Outgoing};
use super::run::Run;
use ir::choose::ONE_WAY;
use ir::{Party, Value, Width, material};
use kernels::ring::{self, Buffer};
use protocols::choose::{Chooser, Dealt};
use std::time::Instant;

impl Run<'_, '_> {
    /// Runs a `choose`; the client gets the place.
    pub(super) fn choose(&mut self, i: usize, x: Value) -> Result<Option<Vec<i64>>, Cause> {
        let choosing = material::choosing(self.machine.program, x);
        let (party, n) = (self.machine.party(), choosing.elements as usize);
        let dealt = self.with_source(i, |source, _, _| Dealt::take(source, &choosing))?;
        let mut chooser = Chooser::new(party, self.machine.own(i), choosing.clone(), self.values.opening(x), dealt);
        let (width, place) = (choosing.width, choosing.place);
        match party {
            Party::Client => {
                let given = chooser.give_to_server();
                self.tell(i, &[(&given, width)])?;
                let [numbers, places] = self.hear(i, [(n, width), (n, place)])?;
                chooser.shuffle_by_client(&numbers, &places);
            }
            Party::Server => {
                let [numbers] = self.hear(i, [(n, width)])?;
                chooser.shuffle_by_server(&numbers);
                let [numbers, places] = chooser.give_to_client();
                self.tell(i, &[(&numbers, width), (&places, place)])?;
            }
        }
        for &level in &choosing.levels {
            let pairs = level.pairs() as usize;
            let peer = self.swap(i, chooser.differences(level), width, pairs)?;
            let peer = self.swap(i, chooser.bits(&peer), ir::digits::MASKED, pairs)?;
            let peer = self.swap(i, chooser.outcomes(&peer), 1, pairs)?;
            if !chooser.decide(&peer, level) {
                return Err(Cause::Ranking);
            }
        }
        let report = &mut self.machine.report;
        report.rounds += choosing.rounds();
        report.one_way_messages += ONE_WAY;
        match party {
            Party::Client => {
                let [share] = self.hear(i, [(1, place)])?;
                Ok(Some(vec![chooser.index(share[0])]))
            }
            Party::Server => {
                self.tell(i, &[(&[chooser.winner()], place)])?;
                Ok(None)
            }
        }
    }

    /// Both send as many elements as the other.
    fn swap(&mut self, i: usize, own: &[u64], width: Width, count: usize) -> Result<Buffer, Cause> {
        self.tell(i, &[(own, width)])?;
        let [peer] = self.hear(i, [(count, width)])?;
        Ok(peer)
    }

    /// Sends a message of packed vectors.
    fn tell(&mut self, i: usize, parts: &[(&[u64], Width)]) -> Result<(), Cause> {
        let start = Instant::now();
        // Not the message in the making, which is that of a later `round`.
        let mut outgoing = Outgoing::default();
        for (elements, width) in parts {
            outgoing.add(self.link, Some(i as u32), elements, *width)?;
        }
        let sent = outgoing.finish(self.link, i as u32)?;
        self.packing += start.elapsed();
        self.machine.report.instructions[i].sent_bytes += sent;
        self.machine.report.message(i, sent, 0, Default::default());
        Ok(())
    }

    /// Receives a message of packed vectors.
    fn hear<const N: usize>(&mut self, i: usize, parts: [(usize, Width); N]) -> Result<[Buffer; N], Cause> {
        let length = parts.iter().map(|&(count, width)| ring::packed_len(count, width)).sum();
        let mut message = Incoming::new(i as u32, length);
        let mut received = std::array::from_fn(|_| Buffer::default());
        for (received, (count, width)) in received.iter_mut().zip(parts) {
            *received = self.unpacked(&mut message, count, width)?;
        }
        self.machine.report.instructions[i].received_bytes += length as u64;
        self.machine.report.message(i, 0, length as u64, message.waited);
        Ok(received)
    }
}
