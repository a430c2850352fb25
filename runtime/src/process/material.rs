//! A party at the dealer: hands in its seeds and takes the session's material, as it comes or in full beforehand.
//!
//! Overlapped, at most [`AHEAD`] frames wait; then the dealer does. All three processes take the instructions in one order
//! and the dealer holds nothing back when it goes on to the next, so whoever waits, waits for one that can go on.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use ir::Program;
use tokio::sync::watch;

use super::RunError;
use super::progress::Progress;
use crate::handshake::{Hello, Role, greet};
use crate::material::{Material, MaterialError};
use crate::net::frame::{Kind, PAYLOAD};
use crate::net::{Conn, Net, NetError, Options};
use crate::prg::Seed;

/// Frames of material that wait at a party when it is dealt during the run.
const AHEAD: usize = 256;

/// When material is dealt. The client chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dealing {
    /// In full before the online phase.
    First,
    /// During the online phase, just ahead of its use.
    Overlapped,
}

/// A session's material on its way. Chunks are dropped as they are used up.
pub(super) struct Delivery {
    conn: Conn,
    chunks: VecDeque<Bytes>,
    /// Bytes that have not been taken, and of them those that have not arrived.
    left: usize,
    coming: usize,
    total: usize,
    /// Whether the connection to the other party was lost.
    lost: watch::Receiver<bool>,
    fault: Option<NetError>,
    progress: Progress,
}

impl Delivery {
    /// Connects to the dealer, who will send `length` bytes. Waits end when the connection to the other party is lost.
    pub(super) fn begin(
        net: &Net,
        dealer: SocketAddr,
        hello: &Hello,
        seeds: &[&Seed],
        (program, length): (&Program, u64),
        dealing: Dealing,
        peer: &mut Conn,
    ) -> Result<Delivery, RunError> {
        let total = usize::try_from(length).expect("the verifier bounds the material's size");
        let incoming_frames = match dealing {
            // As many as there can be: a frame is full, or ends an instruction.
            Dealing::First => total / PAYLOAD + program.instrs.len() + 1,
            Dealing::Overlapped => AHEAD,
        };
        let options = Options { incoming_frames, shape: None };
        let mut conn = net.connect(Role::Dealer.name(), dealer, options, Some(peer))?;
        let mut ask = || -> Result<(), RunError> {
            greet(&mut conn, hello, &[Role::Dealer])?;
            let mut bytes = BytesMut::new();
            seeds.iter().for_each(|seed| bytes.put_slice(seed.expose()));
            conn.send_frame(Kind::Seeds, 0, bytes.freeze())?;
            Ok(())
        };
        if let Err(error) = ask() {
            conn.fail(&error.for_peer());
            return Err(error);
        }
        conn.trust(0);
        Ok(Delivery {
            conn,
            chunks: VecDeque::new(),
            left: total,
            coming: total,
            total,
            lost: peer.lost(),
            fault: None,
            progress: Progress::bytes("material", length),
        })
    }

    /// Waits until all is there.
    pub(super) fn complete(&mut self) -> Result<(), NetError> {
        while self.coming > 0 {
            self.receive()?;
        }
        Ok(())
    }

    /// The fault that ended the delivery, in full; the virtual machine knows it only in short.
    pub(super) fn fault(&mut self) -> Option<NetError> {
        self.fault.take()
    }

    /// Ends the delivery. The dealer takes its end as the end of the session, so it lasts until the run is over.
    pub(super) fn end<T>(self, result: &Result<T, RunError>) {
        match result {
            Ok(_) => self.conn.close(),
            Err(error) => self.conn.fail(&error.for_peer()),
        }
    }

    fn receive(&mut self) -> Result<(), NetError> {
        let chunk = self.conn.receive_some(Kind::Material, self.coming, &self.lost)?;
        self.coming -= chunk.len();
        self.progress.add(chunk.len());
        self.chunks.push_back(chunk);
        Ok(())
    }

    /// The chunk at the front, which is not empty; the material has not been taken in full.
    fn front(&mut self) -> Result<&mut Bytes, MaterialError> {
        if self.chunks.is_empty()
            && let Err(fault) = self.receive()
        {
            let short = MaterialError::Dealer(fault.to_string());
            self.fault = Some(fault);
            return Err(short);
        }
        Ok(self.chunks.front_mut().expect("a chunk has arrived"))
    }
}

impl Material for Delivery {
    fn take(&mut self, length: usize) -> Result<Bytes, MaterialError> {
        if length > self.left {
            let got = (self.total - self.left + length) as u64;
            return Err(MaterialError::Length { expected: self.total as u64, got });
        }
        self.left -= length;
        let mut joined = BytesMut::new();
        let mut rest = length;
        while rest > 0 {
            let chunk = self.front()?;
            let part = chunk.split_to(chunk.len().min(rest));
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            rest -= part.len();
            if part.len() == length {
                return Ok(part);
            }
            joined.extend_from_slice(&part);
        }
        Ok(joined.freeze())
    }
}
