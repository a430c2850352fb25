//! The connection to the other party, as the virtual machine sees it: messages with a step number and a known length, cut
//! into full frames and a last one ([`ir::wire`]).
//!
//! Step     Index of the `round`, `send`, `reveal` or `choose` that the message belongs to; of a `choose`, which has several,
//!          they come one after another. Both parties run the same program, so
//!          both know the step and the length of the next message before it arrives.
//! Errors   A message of another step or length, a silent peer after the deadline, a closed connection. After an error
//!          the run is over: a party that went on could be led to use a mask twice.
//!
//! [`pair`] joins two parties in one process; [`Recording`] keeps what a party saw, for tests of its view.

use bytes::Bytes;
use ir::wire::FRAME_PAYLOAD;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// A connection to the peer.
pub trait Link: Send {
    /// Sends the next frame of the message of `step` without waiting for the peer to take it. Two parties that send at once
    /// must not block each other.
    fn send(&mut self, step: u32, frame: Bytes) -> Result<(), LinkError>;

    /// Waits for the next frame of the message of `step`, of which exactly `rest` bytes, at least one, are to come.
    fn receive(&mut self, step: u32, rest: usize) -> Result<Bytes, LinkError>;
}

/// Why a message did not come or go.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer is gone.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer is silent.
    #[error(
        "no message from the peer at step {step} within {seconds} s; is it running, and is the deadline long enough?"
    )]
    Timeout {
        /// Step that was waited for.
        step: u32,
        /// The deadline.
        seconds: u64,
    },
    /// The peer is elsewhere in the program.
    #[error("the peer sent a message of step {got} where step {expected} was due; do both run the same program?")]
    Step {
        /// Step that was waited for.
        expected: u32,
        /// Step of the message.
        got: u32,
    },
    /// The message is too short or too long.
    #[error("the peer's message at step {step} has {got} bytes, {expected} were due; do both run the same program?")]
    Length {
        /// Step of the message.
        step: u32,
        /// Bytes that the program implies.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// Bytes that are no frame of this protocol.
    #[error("not a frame of this protocol: {0}")]
    BadFrame(String),
    /// The peer stopped and said why.
    #[error("the peer stopped: {0}")]
    Peer(String),
    /// The operating system refused.
    #[error("connection to the peer")]
    Io(#[from] std::io::Error),
}

/// One end of an in-memory connection.
pub struct Memory {
    outgoing: Sender<(u32, Bytes)>,
    incoming: Receiver<(u32, Bytes)>,
    deadline: Duration,
}

/// Two connected ends; a wait longer than `deadline` is an error.
pub fn pair(deadline: Duration) -> (Memory, Memory) {
    let (to_server, from_client) = channel();
    let (to_client, from_server) = channel();
    (
        Memory { outgoing: to_server, incoming: from_server, deadline },
        Memory { outgoing: to_client, incoming: from_client, deadline },
    )
}

impl Link for Memory {
    fn send(&mut self, step: u32, frame: Bytes) -> Result<(), LinkError> {
        self.outgoing.send((step, frame)).map_err(|_| LinkError::Closed)
    }

    fn receive(&mut self, step: u32, rest: usize) -> Result<Bytes, LinkError> {
        let (got, frame) = self.incoming.recv_timeout(self.deadline).map_err(|e| match e {
            RecvTimeoutError::Timeout => LinkError::Timeout { step, seconds: self.deadline.as_secs() },
            RecvTimeoutError::Disconnected => LinkError::Closed,
        })?;
        if got != step {
            return Err(LinkError::Step { expected: step, got });
        }
        let expected = rest.min(FRAME_PAYLOAD as usize);
        if frame.len() != expected {
            return Err(LinkError::Length { step, expected: expected as u64, got: frame.len() as u64 });
        }
        Ok(frame)
    }
}

/// Joins a frame to the message that it belongs to, or begins a new one.
fn append(messages: &mut Vec<(u32, Vec<u8>)>, step: u32, frame: &[u8]) {
    match messages.last_mut() {
        Some((last, message)) if *last == step => message.extend_from_slice(frame),
        _ => messages.push((step, frame.to_vec())),
    }
}

/// A link that keeps every message, in order.
pub struct Recording<L> {
    link: L,
    /// What went to the peer.
    pub sent: Vec<(u32, Vec<u8>)>,
    /// What came from the peer: this party's view, with its material and its seed.
    pub received: Vec<(u32, Vec<u8>)>,
}

impl<L> Recording<L> {
    /// Starts to record.
    pub fn new(link: L) -> Recording<L> {
        Recording { link, sent: Vec::new(), received: Vec::new() }
    }
}

impl<L: Link> Link for Recording<L> {
    fn send(&mut self, step: u32, frame: Bytes) -> Result<(), LinkError> {
        append(&mut self.sent, step, &frame);
        self.link.send(step, frame)
    }

    fn receive(&mut self, step: u32, rest: usize) -> Result<Bytes, LinkError> {
        let frame = self.link.receive(step, rest)?;
        append(&mut self.received, step, &frame);
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let (mut client, mut server) = pair(Duration::from_millis(20));
        client.send(3, Bytes::from_static(&[1, 2])).unwrap();
        assert_eq!(server.receive(3, 2).unwrap()[..], [1, 2]);
        assert!(matches!(server.receive(4, 2), Err(LinkError::Timeout { step: 4, .. })));
        client.send(5, Bytes::from_static(&[1])).unwrap();
        assert!(matches!(server.receive(6, 1), Err(LinkError::Step { expected: 6, got: 5 })));
        client.send(7, Bytes::from_static(&[1])).unwrap();
        assert!(matches!(server.receive(7, 2), Err(LinkError::Length { step: 7, expected: 2, got: 1 })));
        drop(client);
        assert!(matches!(server.receive(8, 0), Err(LinkError::Closed)));
        assert!(matches!(server.send(8, Bytes::from_static(&[])), Err(LinkError::Closed)));
    }

    #[test]
    fn recording_keeps_the_view() {
        let (client, mut server) = pair(Duration::from_secs(1));
        let mut client = Recording::new(client);
        client.send(1, Bytes::from_static(&[9])).unwrap();
        server.send(1, Bytes::from_static(&[8])).unwrap();
        client.receive(1, 1).unwrap();
        assert_eq!((client.sent, client.received), (vec![(1, vec![9])], vec![(1, vec![8])]));
    }
}
