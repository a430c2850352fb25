//! The way to the peer, and one in memory that counts and can be tapped.

use crate::error::{Error, check_length};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// A way to the peer and back. Bytes arrive in order; how they are framed is the implementation's affair.
///
/// Both parties may send before either receives: `send` must not wait until the peer reads.
pub trait Channel {
    /// Sends a message.
    fn send(&mut self, bytes: Vec<u8>) -> Result<(), Error>;

    /// The peer's next `length` bytes, exactly. The protocol knows the length beforehand: the peer cannot choose it.
    fn receive(&mut self, length: usize) -> Result<Vec<u8>, Error>;
}

/// Sends `bytes` and waits for `expected` bytes, either of which may be none: then nothing is sent or awaited.
pub fn exchange(channel: &mut dyn Channel, bytes: Vec<u8>, expected: usize) -> Result<Vec<u8>, Error> {
    if !bytes.is_empty() {
        channel.send(bytes)?;
    }
    if expected == 0 {
        return Ok(Vec::new());
    }
    let got = channel.receive(expected)?;
    check_length(&got, expected)?;
    Ok(got)
}

/// What one end has sent and received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meter {
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Messages sent.
    pub messages: u64,
    /// Waits for the peer after something was sent: rounds.
    pub rounds: u64,
}

/// What a test does with a message on its way: look, keep, alter.
pub type Tap = Box<dyn FnMut(&mut Vec<u8>) + Send>;

/// One end of a pair in memory, for tests and benchmarks. A peer that is gone or silent for the time given is an error.
pub struct Memory {
    to: Sender<Vec<u8>>,
    from: Receiver<Vec<u8>>,
    patience: Duration,
    meter: Meter,
    sent_since: bool,
    tap: Option<Tap>,
}

impl Memory {
    /// Two ends that wait so long for each other.
    pub fn pair(patience: Duration) -> [Memory; 2] {
        let (ways, back) = (mpsc::channel(), mpsc::channel());
        [(ways.0, back.1), (back.0, ways.1)].map(|(to, from)| Memory {
            to,
            from,
            patience,
            meter: Meter::default(),
            sent_since: false,
            tap: None,
        })
    }

    /// Hands every message that this end sends to `tap` first.
    pub fn tap(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// Counts so far.
    pub fn meter(&self) -> Meter {
        self.meter
    }
}

impl Channel for Memory {
    fn send(&mut self, mut bytes: Vec<u8>) -> Result<(), Error> {
        self.meter.sent_bytes += bytes.len() as u64;
        self.meter.messages += 1;
        self.sent_since = true;
        if let Some(tap) = &mut self.tap {
            tap(&mut bytes);
        }
        self.to.send(bytes).map_err(|_| Error::Lost)
    }

    fn receive(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        self.meter.rounds += u64::from(std::mem::take(&mut self.sent_since));
        let bytes = self.from.recv_timeout(self.patience).map_err(|_| Error::Lost)?;
        check_length(&bytes, length)?;
        self.meter.received_bytes += bytes.len() as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn counts_taps_and_lost_peers() {
        let [mut a, mut b] = Memory::pair(Duration::from_millis(10));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        a.tap(Box::new(move |bytes| {
            log.lock().unwrap().push(bytes.clone());
            bytes[0] ^= 1;
        }));
        a.send(vec![4, 5, 6]).unwrap();
        assert_eq!(b.receive(3).unwrap(), [5, 5, 6]);
        assert_eq!(*seen.lock().unwrap(), [[4, 5, 6]]);
        assert!(matches!(a.receive(1), Err(Error::Lost)));
        b.send(vec![1, 2]).unwrap();
        assert!(matches!(a.receive(1), Err(Error::Length { expected: 1, got: 2 })));
        let of_b = Meter { sent_bytes: 2, received_bytes: 3, messages: 1, rounds: 0 };
        assert_eq!((a.meter().rounds, b.meter()), (1, of_b));
        assert!(exchange(&mut a, Vec::new(), 0).unwrap().is_empty());
        drop(b);
        assert!(matches!(a.send(vec![1]), Err(Error::Lost)));
        assert!(matches!(a.receive(1), Err(Error::Lost)));
    }
}
