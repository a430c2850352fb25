//! What can go wrong on a link. No error carries bytes of a message: only kinds, steps and lengths.

use std::io;
use std::net::SocketAddr;

/// Greatest length of the reason in an error frame, in bytes.
pub const MAX_REASON: usize = 256;

/// A fault of a connection. `peer` says who is at its other end.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum NetError {
    #[error("the {peer} closed the connection")]
    Closed { peer: &'static str },
    #[error("the {peer} has been silent for {seconds} s while `{waiting}` was awaited")]
    Timeout { peer: &'static str, waiting: &'static str, seconds: f64 },
    #[error("the {peer} sent a bad frame: expected {expected}, got {got}")]
    BadFrame { peer: &'static str, expected: String, got: String },
    #[error("the {peer} gave up: {reason}")]
    Peer { peer: &'static str, reason: String },
    #[error("no more is needed of the {peer}: the other party is gone")]
    Vain { peer: &'static str },
    #[error("no {peer} at {address} within {seconds} s")]
    Unreachable { peer: &'static str, address: SocketAddr, seconds: f64, source: io::Error },
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("`{address}` is no address")]
    Address { address: String, reason: String },
    #[error("{address} is not a loopback address, and links are not encrypted yet")]
    NotLoopback { address: SocketAddr },
    #[error("connection to the {peer}")]
    Io { peer: &'static str, source: io::Error },
    #[error("stopped by a signal")]
    Interrupted,
}

impl NetError {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            NetError::Closed { .. } | NetError::Vain { .. } => "look at the other side's log; it says why it ended",
            NetError::Timeout { .. } => "a longer `--timeout` if the other side is slow rather than gone",
            NetError::BadFrame { .. } => "the same release of ssvm on both sides, and the right port",
            NetError::Peer { .. } => "mend what the other side names",
            NetError::Unreachable { .. } => "start it, check the address, or give a longer `--timeout`",
            NetError::Listen { .. } => "another `--listen`; port 0 picks a free port",
            NetError::Address { .. } => "HOST:PORT, for example 127.0.0.1:7701",
            NetError::NotLoopback { .. } => {
                "an encrypted tunnel to a loopback port, or `--insecure` on a network that you trust"
            }
            NetError::Io { .. } => "check the network between the parties",
            NetError::Interrupted => "run it again",
        }
    }
}

/// Text of the other side made fit for a terminal: at most [`MAX_REASON`] characters, no control characters.
pub fn printable(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(MAX_REASON)];
    String::from_utf8_lossy(cut)
        .chars()
        .map(|c| if c.is_control() || is_bidi_control(c) { '\u{fffd}' } else { c })
        .collect()
}

/// Characters that reorder the text around them.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_cut_and_made_printable() {
        assert_eq!(printable(b"plain"), "plain");
        assert_eq!(printable(b"\x1b[31mred\n\xff"), "\u{fffd}[31mred\u{fffd}\u{fffd}");
        assert_eq!(printable("a\u{202e}b".as_bytes()), "a\u{fffd}b");
        assert_eq!(printable(&[b'x'; 5000]).len(), MAX_REASON);
    }
}
