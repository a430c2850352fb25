//! The connection to the other party, as the virtual machine sees it: messages with a step number and a known length.
//!
//! Step     Index of the `round`, `send` or `reveal` that the message belongs to. Both parties run the same program, so
//!          both know the step and the length of the next message before it arrives.
//! Errors   A message of another step or length, a silent peer after the deadline, a closed connection. After an error
//!          the run is over: a party that went on could be led to use a mask twice.
//!
//! [`pair`] joins two parties in one process; [`Recording`] keeps what a party saw, for tests of its view.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// A connection to the peer.
pub trait Link: Send {
    /// Sends a message without waiting for the peer to take it. Two parties that send at once must not block each other.
    fn send(&mut self, step: u32, message: &[u8]) -> Result<(), LinkError>;

    /// Waits for the message of `step`, which has exactly `length` bytes.
    fn receive(&mut self, step: u32, length: usize) -> Result<Vec<u8>, LinkError>;
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
    outgoing: Sender<(u32, Vec<u8>)>,
    incoming: Receiver<(u32, Vec<u8>)>,
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
    fn send(&mut self, step: u32, message: &[u8]) -> Result<(), LinkError> {
        self.outgoing.send((step, message.to_vec())).map_err(|_| LinkError::Closed)
    }

    fn receive(&mut self, step: u32, length: usize) -> Result<Vec<u8>, LinkError> {
        let (got, message) = self.incoming.recv_timeout(self.deadline).map_err(|e| match e {
            RecvTimeoutError::Timeout => LinkError::Timeout { step, seconds: self.deadline.as_secs() },
            RecvTimeoutError::Disconnected => LinkError::Closed,
        })?;
        if got != step {
            return Err(LinkError::Step { expected: step, got });
        }
        if message.len() != length {
            return Err(LinkError::Length { step, expected: length as u64, got: message.len() as u64 });
        }
        Ok(message)
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
    fn send(&mut self, step: u32, message: &[u8]) -> Result<(), LinkError> {
        self.sent.push((step, message.to_vec()));
        self.link.send(step, message)
    }

    fn receive(&mut self, step: u32, length: usize) -> Result<Vec<u8>, LinkError> {
        let message = self.link.receive(step, length)?;
        self.received.push((step, message.clone()));
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let (mut client, mut server) = pair(Duration::from_millis(20));
        client.send(3, &[1, 2]).unwrap();
        assert_eq!(server.receive(3, 2).unwrap(), [1, 2]);
        assert!(matches!(server.receive(4, 2), Err(LinkError::Timeout { step: 4, .. })));
        client.send(5, &[1]).unwrap();
        assert!(matches!(server.receive(6, 1), Err(LinkError::Step { expected: 6, got: 5 })));
        client.send(7, &[1]).unwrap();
        assert!(matches!(server.receive(7, 2), Err(LinkError::Length { step: 7, expected: 2, got: 1 })));
        drop(client);
        assert!(matches!(server.receive(8, 0), Err(LinkError::Closed)));
        assert!(matches!(server.send(8, &[]), Err(LinkError::Closed)));
    }

    #[test]
    fn recording_keeps_the_view() {
        let (client, mut server) = pair(Duration::from_secs(1));
        let mut client = Recording::new(client);
        client.send(1, &[9]).unwrap();
        server.send(1, &[8]).unwrap();
        client.receive(1, 1).unwrap();
        assert_eq!((client.sent, client.received), (vec![(1, vec![9])], vec![(1, vec![8])]));
    }
}
