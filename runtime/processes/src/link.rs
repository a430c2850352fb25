//! The virtual machine's link, over a connection.

use bytes::Bytes;

use crate::net::frame::Kind;
use crate::net::{Conn, NetError};
use machine::link::{Link, LinkError};

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
        self.conn.receive_frame(Kind::Online, step, rest).map_err(|e| self.keep(e))
    }
}
