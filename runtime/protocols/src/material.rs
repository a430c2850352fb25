//! Where a party's dealt bytes come from, as the virtual machine sees it: a stream that is read once, in program order.
//!
//! A party asks for exactly the bytes that the program implies and so never allocates what a dealer announces.
//! Bytes are handed over by value and are gone from the stream: no correlation can be read twice.

use bytes::{Bytes, BytesMut};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// A stream of dealt bytes.
pub trait Material: Send {
    /// The next `length` bytes.
    fn take(&mut self, length: usize) -> Result<Bytes, MaterialError>;
}

/// Why dealt bytes did not come.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// The stream ended early.
    #[error("the dealer's material ended {missing} bytes early; was it dealt for this program and entry?")]
    Short {
        /// Bytes that were still due.
        missing: u64,
    },
    /// The program implies fewer bytes than were asked for or dealt.
    #[error(
        "the program takes {expected} bytes of material, {got} were due or dealt; was it dealt for this program and entry?"
    )]
    Length {
        /// Bytes that the program implies.
        expected: u64,
        /// Bytes asked for or dealt.
        got: u64,
    },
    /// The dealer is silent.
    #[error("no material from the dealer within {seconds} s; is it running?")]
    Timeout {
        /// The deadline.
        seconds: u64,
    },
    /// The dealer stopped and said why.
    #[error("the dealer stopped: {0}")]
    Dealer(String),
    /// The operating system refused.
    #[error("reading material")]
    Io(#[from] std::io::Error),
}

/// Chunks that wait in a queue at most: the dealer runs ahead of a party by this much and no further.
const WAITING_CHUNKS: usize = 64;

/// The feeding end of a [`Queue`].
#[derive(Clone)]
pub struct Feed {
    chunks: SyncSender<Result<Bytes, String>>,
}

impl Feed {
    /// Appends bytes; waits while the queue is full. False when the party is gone.
    pub fn push(&self, bytes: Vec<u8>) -> bool {
        self.chunks.send(Ok(bytes.into())).is_ok()
    }

    /// Tells the party why no more bytes will come.
    pub fn fail(&self, reason: String) {
        // A party that is gone already needs no reason.
        let _ = self.chunks.send(Err(reason));
    }
}

impl std::io::Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.push(bytes.to_vec()) {
            true => Ok(bytes.len()),
            false => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An in-memory stream, fed chunk by chunk.
pub struct Queue {
    chunks: Receiver<Result<Bytes, String>>,
    current: Bytes,
    left: u64,
    total: u64,
    deadline: Duration,
}

/// A queue that will carry exactly `total` bytes, and its feeding end.
pub fn queue(total: u64, deadline: Duration) -> (Feed, Queue) {
    let (sender, receiver) = sync_channel(WAITING_CHUNKS);
    (Feed { chunks: sender }, Queue { chunks: receiver, current: Bytes::new(), left: total, total, deadline })
}

impl Material for Queue {
    fn take(&mut self, length: usize) -> Result<Bytes, MaterialError> {
        let asked = length as u64;
        if asked > self.left {
            return Err(MaterialError::Length { expected: self.total, got: self.total - self.left + asked });
        }
        let mut joined = BytesMut::new();
        let mut rest = length;
        while rest > 0 {
            if self.current.is_empty() {
                self.current = match self.chunks.recv_timeout(self.deadline) {
                    Ok(chunk) => chunk.map_err(MaterialError::Dealer)?,
                    Err(RecvTimeoutError::Timeout) => {
                        return Err(MaterialError::Timeout { seconds: self.deadline.as_secs() });
                    }
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(MaterialError::Short { missing: self.left - (length - rest) as u64 });
                    }
                };
            }
            let part = self.current.split_to(self.current.len().min(rest));
            rest -= part.len();
            if part.len() == length {
                self.left -= asked;
                return Ok(part);
            }
            joined.extend_from_slice(&part);
        }
        self.left -= asked;
        Ok(joined.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_across_chunks_once() {
        let (feed, mut queue) = queue(5, Duration::from_secs(1));
        feed.push(vec![1, 2]);
        feed.push(vec![3, 4, 5]);
        assert_eq!(queue.take(3).unwrap()[..], [1, 2, 3]);
        assert!(matches!(queue.take(3), Err(MaterialError::Length { expected: 5, got: 6 })));
        assert_eq!(queue.take(2).unwrap()[..], [4, 5]);
    }

    #[test]
    fn faults_are_named() {
        let (feed, mut queue) = queue(5, Duration::from_millis(10));
        assert!(matches!(queue.take(1), Err(MaterialError::Timeout { .. })));
        feed.push(vec![1, 2]);
        feed.fail("out of range".into());
        assert!(matches!(queue.take(3), Err(MaterialError::Dealer(why)) if why == "out of range"));
        drop(feed);
        assert!(matches!(queue.take(2), Err(MaterialError::Short { missing: 5 })));
    }
}
