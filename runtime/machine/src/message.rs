//! Messages in the making and on their way, frame by frame: what is packed leaves, and what has arrived is used, while the
//! rest is still to come.
//!
//! A message is cut into full frames and a last, shorter one ([`ir::wire`]), wherever its parts begin and end.

use crate::link::{Link, LinkError};
use bytes::{Bytes, BytesMut};
use ir::Width;
use ir::wire::FRAME_PAYLOAD;
use kernels::ring;
use std::time::{Duration, Instant};

/// Elements that are packed at a time: a multiple of 8, so that they end on a byte, and enough to occupy all
/// cores.
const CHUNK: usize = 1 << 18;

/// A message that leaves as it is written.
#[derive(Default)]
pub(super) struct Outgoing {
    buffer: BytesMut,
    sent_bytes: u64,
}

impl Outgoing {
    /// Adds packed elements. Full frames leave at once if the message's `step` is given. All parts of an instruction but its
    /// last have a multiple of 8 elements; the last is padded to a byte. Gives the number of bytes.
    pub(super) fn add(
        &mut self,
        link: &mut dyn Link,
        step: Option<u32>,
        elements: &[u64],
        width: Width,
    ) -> Result<u64, LinkError> {
        let mut added = 0;
        for chunk in elements.chunks(CHUNK) {
            let place = self.space(ring::packed_len(chunk.len(), width));
            ring::pack_into(chunk, width, place);
            added += place.len() as u64;
            self.send_full(link, step)?;
        }
        Ok(added)
    }

    /// Zeros at the end of the message, to be packed into.
    pub(super) fn space(&mut self, length: usize) -> &mut [u8] {
        let start = self.buffer.len();
        self.buffer.resize(start + length, 0);
        &mut self.buffer[start..]
    }

    /// Sends the frames that are full, if the message's `step` is given.
    pub(super) fn send_full(&mut self, link: &mut dyn Link, step: Option<u32>) -> Result<(), LinkError> {
        step.map_or(Ok(()), |step| self.send(link, step, FRAME_PAYLOAD as usize))
    }

    /// Sends what is left, and gives the bytes of the whole message.
    pub(super) fn finish(&mut self, link: &mut dyn Link, step: u32) -> Result<u64, LinkError> {
        self.send(link, step, 1)?;
        Ok(std::mem::take(&mut self.sent_bytes))
    }

    /// Sends frames while there are `least` bytes.
    fn send(&mut self, link: &mut dyn Link, step: u32, least: usize) -> Result<(), LinkError> {
        while self.buffer.len() >= least {
            let frame = self.buffer.split_to(self.buffer.len().min(FRAME_PAYLOAD as usize)).freeze();
            self.sent_bytes += frame.len() as u64;
            link.send(step, frame)?;
        }
        Ok(())
    }
}

/// Sends a whole message without copying it.
pub(super) fn send(link: &mut dyn Link, step: u32, message: &Bytes) -> Result<(), LinkError> {
    let mut rest = message.clone();
    while !rest.is_empty() {
        link.send(step, rest.split_to(rest.len().min(FRAME_PAYLOAD as usize)))?;
    }
    Ok(())
}

/// A message that is used as it arrives.
pub(super) struct Incoming {
    step: u32,
    /// Bytes that have not arrived.
    rest: usize,
    arrived: Bytes,
    /// Time spent waiting for the peer.
    pub(super) waited: Duration,
}

impl Incoming {
    /// The message of `step`, which has `length` bytes.
    pub(super) fn new(step: u32, length: usize) -> Incoming {
        Incoming { step, rest: length, arrived: Bytes::new(), waited: Duration::ZERO }
    }

    /// A message that is there already.
    pub(super) fn of(step: u32, arrived: Bytes) -> Incoming {
        Incoming { step, rest: 0, arrived, waited: Duration::ZERO }
    }

    /// The next `length` bytes, which the message has.
    pub(super) fn take(&mut self, link: &mut dyn Link, length: usize) -> Result<Bytes, LinkError> {
        if self.arrived.is_empty() && length > 0 {
            self.wait(link)?;
        }
        if self.arrived.len() >= length {
            return Ok(self.arrived.split_to(length));
        }
        // Grows with what really arrives: the peer may never send the rest.
        let mut joined = BytesMut::new();
        loop {
            joined.extend_from_slice(&self.arrived.split_to(self.arrived.len().min(length - joined.len())));
            if joined.len() == length {
                return Ok(joined.freeze());
            }
            self.wait(link)?;
        }
    }

    fn wait(&mut self, link: &mut dyn Link) -> Result<(), LinkError> {
        let start = Instant::now();
        self.arrived = link.receive(self.step, self.rest)?;
        self.rest -= self.arrived.len();
        self.waited += start.elapsed();
        Ok(())
    }
}
