//! The virtual machine's link and material, over connections.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::link::{Link, LinkError};
use crate::material::{Material, MaterialError};
use crate::net::frame::Kind;
use crate::net::{Conn, NetError};

/// The link to the other party.
pub struct PeerLink<'a> {
    conn: &'a mut Conn,
    fault: Option<NetError>,
}

impl<'a> PeerLink<'a> {
    /// Over a connection whose handshake is done.
    pub fn new(conn: &'a mut Conn) -> PeerLink<'a> {
        PeerLink { conn, fault: None }
    }

    /// The fault that ended the link, in full; the virtual machine knows it only in short.
    pub fn fault(self) -> Option<NetError> {
        self.fault
    }

    fn keep(&mut self, fault: NetError) -> LinkError {
        let short = match &fault {
            NetError::Closed { .. } => LinkError::Closed,
            NetError::Peer { reason, .. } => LinkError::Peer(reason.clone()),
            NetError::BadFrame { .. } => LinkError::BadFrame(fault.to_string()),
            other => LinkError::Io(std::io::Error::other(other.to_string())),
        };
        self.fault = Some(fault);
        short
    }
}

impl Link for PeerLink<'_> {
    fn send(&mut self, step: u32, frame: Bytes) -> Result<(), LinkError> {
        self.conn.send_frame(Kind::Online, step, frame).map_err(|e| self.keep(e))
    }

    fn receive(&mut self, step: u32, rest: usize) -> Result<Bytes, LinkError> {
        self.conn.receive_frame(Kind::Online, step, rest, None).map_err(|e| self.keep(e))
    }
}

/// A session's material, received in full. Chunks are given back as they are used up.
pub struct Held {
    chunks: VecDeque<Bytes>,
    left: usize,
    total: usize,
}

impl Held {
    /// Material in the order in which it came.
    pub fn new(chunks: VecDeque<Bytes>) -> Held {
        let total = chunks.iter().map(Bytes::len).sum();
        Held { chunks, left: total, total }
    }
}

impl Material for Held {
    fn take(&mut self, length: usize) -> Result<Vec<u8>, MaterialError> {
        if length > self.left {
            let got = (self.total - self.left + length) as u64;
            return Err(MaterialError::Length { expected: self.total as u64, got });
        }
        self.left -= length;
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let chunk = self.chunks.front_mut().expect("`left` counts the bytes of all chunks");
            bytes.extend_from_slice(&chunk.split_to(chunk.len().min(length - bytes.len())));
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_material_is_taken_once_across_chunks() {
        let mut held = Held::new([vec![1, 2], vec![3], vec![], vec![4, 5, 6]].map(Bytes::from).into());
        assert_eq!(held.take(1).unwrap(), [1]);
        assert_eq!(held.take(4).unwrap(), [2, 3, 4, 5]);
        assert!(matches!(held.take(2), Err(MaterialError::Length { expected: 6, got: 7 })));
        assert_eq!(held.take(1).unwrap(), [6]);
        assert_eq!(held.take(0).unwrap(), [0u8; 0]);
    }
}
