//! A party at the dealer: hands in its seeds and takes the session's material, step by step, as it comes or in full
//! beforehand.
//!
//! Overlapped, at most [`AHEAD`] frames of a run wait; then the dealer does. All three processes take the instructions in
//! one order and the dealer holds nothing back when it goes on to the next, so whoever waits, waits for one that can go on.
//! In a generation the material of two steps may wait, so that a step's is at hand when the step begins.

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

impl Dealing {
    /// Frames that wait at a party at most, of a step with so many bytes of material.
    pub(super) fn frames(self, program: &Program, bytes: u64) -> usize {
        match self {
            Dealing::First => frames(program, bytes),
            Dealing::Overlapped => AHEAD,
        }
    }
}

/// Frames that the material of a step comes in at most: a frame is full, or ends an instruction.
pub(super) fn frames(program: &Program, bytes: u64) -> usize {
    length(bytes) / PAYLOAD + program.instrs.len() + 1
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("the verifier bounds the material's size")
}

/// A session's material on its way. Chunks are dropped as they are used up.
pub(super) struct Delivery {
    conn: Conn,
    /// The step whose material comes.
    step: u32,
    chunks: VecDeque<Bytes>,
    /// Bytes of the step that have not been taken, and of them those that have not arrived.
    left: usize,
    coming: usize,
    total: usize,
    /// Whether the connection to the other party was lost.
    lost: watch::Receiver<bool>,
    fault: Option<NetError>,
}

impl Delivery {
    /// Connects to the dealer, who will send `bytes` for the first step; at most `frames` frames wait. Waits end when the
    /// connection to the other party is lost.
    pub(super) fn begin(
        net: &Net,
        dealer: SocketAddr,
        hello: &Hello,
        seeds: &[&Seed],
        (frames, bytes): (usize, u64),
        peer: &mut Conn,
    ) -> Result<Delivery, RunError> {
        let options = Options { incoming_frames: frames, shape: None };
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
        let total = length(bytes);
        Ok(Delivery {
            conn,
            step: 0,
            chunks: VecDeque::new(),
            left: total,
            coming: total,
            total,
            lost: peer.lost(),
            fault: None,
        })
    }

    /// Asks for a further step, whose material comes after that of the steps before. The dealer waits until both have asked.
    pub(super) fn ask(&mut self, step: u32, entry: u32) -> Result<(), NetError> {
        self.conn.send_frame(Kind::Next, step, Bytes::copy_from_slice(&entry.to_le_bytes()))
    }

    /// Goes on to a step that was asked for, which takes `bytes`; the step before has taken its own.
    pub(super) fn turn(&mut self, step: u32, bytes: u64) {
        assert!(self.left == 0 && self.chunks.is_empty(), "a step takes what the program implies");
        let total = length(bytes);
        (self.step, self.left, self.coming, self.total) = (step, total, total, total);
    }

    /// Waits until all of the step is there.
    pub(super) fn complete(&mut self) -> Result<(), NetError> {
        let progress = Progress::bytes("material", self.coming as u64);
        while self.coming > 0 {
            progress.add(self.receive()?);
        }
        Ok(())
    }

    /// The fault that ended the delivery, in full; the virtual machine knows it only in short.
    pub(super) fn fault(&mut self) -> Option<NetError> {
        self.fault.take()
    }

    /// Ends the delivery. The dealer takes its end as the end of the session, so it lasts until the last step is over.
    pub(super) fn end<T>(self, result: &Result<T, RunError>) {
        match result {
            Ok(_) => self.conn.close(),
            Err(error) => self.conn.fail(&error.for_peer()),
        }
    }

    /// Waits for a chunk, and says how long it is.
    fn receive(&mut self) -> Result<usize, NetError> {
        let chunk = self.conn.receive_some((Kind::Material, self.step), self.coming, &self.lost)?;
        let length = chunk.len();
        self.coming -= length;
        self.chunks.push_back(chunk);
        Ok(length)
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
