//! Long messages that are produced and consumed piece by piece.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use crate::net::frame::{Kind, PAYLOAD};
use crate::net::{Conn, NetError};

/// Sends one message of known length as it is written, frame by frame. Frames are full unless the writer flushes.
pub struct Outgoing<'a> {
    conn: &'a mut Conn,
    kind: Kind,
    step: u32,
    left: u64,
    buffer: BytesMut,
    fault: Option<NetError>,
    /// Whether a connection without which this message is in vain was lost.
    vain: Option<watch::Receiver<bool>>,
}

impl<'a> Outgoing<'a> {
    /// A message of `length` bytes.
    pub fn new(conn: &'a mut Conn, kind: Kind, step: u32, length: u64) -> Outgoing<'a> {
        Outgoing { conn, kind, step, left: length, buffer: BytesMut::new(), fault: None, vain: None }
    }

    /// Stops writing when the connection behind `lost` is.
    pub fn in_vain_if(&mut self, lost: watch::Receiver<bool>) {
        self.vain = Some(lost);
    }

    /// Ends the message, which must be complete if its writer says so.
    pub fn finish(self, complete: bool) -> Result<(), NetError> {
        assert!(!complete || self.left == 0, "a message has the length that the program implies");
        self.fault.map_or(Ok(()), Err)
    }

    fn send(&mut self, length: usize) -> io::Result<()> {
        let payload = self.buffer.split_to(length).freeze();
        self.conn.send_frame(self.kind, self.step, payload).map_err(|fault| {
            let short = io::Error::other(fault.to_string());
            self.fault = Some(fault);
            short
        })
    }
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.vain.as_ref().is_some_and(|lost| *lost.borrow()) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.left =
            self.left.checked_sub(bytes.len() as u64).expect("a message has the length that the program implies");
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= PAYLOAD {
            self.send(PAYLOAD)?;
        }
        if self.left == 0 && !self.buffer.is_empty() {
            self.send(self.buffer.len())?;
        }
        Ok(bytes.len())
    }

    /// Sends what is written, be it less than a frame.
    fn flush(&mut self) -> io::Result<()> {
        match self.buffer.len() {
            0 => Ok(()),
            length => self.send(length),
        }
    }
}

/// Receives one message of `length` bytes and hands each frame to `take`.
pub fn receive<E: From<NetError>>(
    conn: &mut Conn,
    (kind, step): (Kind, u32),
    length: usize,
    mut take: impl FnMut(Bytes) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = length;
    while rest > 0 {
        let payload = conn.receive_frame(kind, step, rest)?;
        rest -= payload.len();
        take(payload)?;
    }
    Ok(())
}
