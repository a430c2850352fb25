//! What can go wrong on a link. No error carries bytes of a message: only kinds, steps and lengths.

use std::io;
use std::net::SocketAddr;

use super::Refusal;
use crate::handshake::{Mismatch, PROTOCOL_VERSION};
use crate::pins::PinError;

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
    #[error("the {peer} refuses: {refusal}")]
    Refused { peer: &'static str, refusal: Refusal },
    #[error("no more is needed of the {peer}: the other party is gone")]
    Vain { peer: &'static str },
    #[error("no {peer} at {address} within {seconds} s")]
    Unreachable { peer: &'static str, address: SocketAddr, seconds: f64, source: io::Error },
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("`{address}` is no address")]
    Address { address: String, reason: String },
    #[error("the name `{host}` does not resolve: {reason}")]
    Unresolved { host: String, reason: String },
    #[error("what is at the other end says nothing that a {peer} would within {seconds} s")]
    Mute { peer: &'static str, seconds: f64 },
    #[error("what is at the other end is no {peer}: it began with `{began}`")]
    Foreign { peer: &'static str, began: String },
    #[error("the {peer} is of an older release, whose links are not encrypted")]
    Older { peer: &'static str },
    #[error(transparent)]
    Version(Mismatch),
    #[error("the {peer} does not speak this side's protocol, version {PROTOCOL_VERSION}")]
    Protocol { peer: &'static str },
    #[error("the {peer} encrypts its links, and this side was started with `--insecure`")]
    Encrypted { peer: &'static str },
    #[error("the {peer} was started with `--insecure`, and this side encrypts its links")]
    Unencrypted { peer: &'static str },
    #[error("the key at the other end, {fingerprint}, is not pinned: it may be the {peer}'s or anybody's")]
    Unpinned { peer: &'static str, fingerprint: String },
    #[error("the key at the other end, {fingerprint}, is pinned as that of a {pinned}, not of a {peer}")]
    PinnedAs { peer: &'static str, fingerprint: String, pinned: &'static str },
    #[error("the {peer} has not pinned this side's key")]
    NotPinnedThere { peer: &'static str },
    #[error("the {peer} has pinned this side's key in another role")]
    PinnedOtherwiseThere { peer: &'static str },
    #[error(transparent)]
    Pins(#[from] PinError),
    #[error("the encrypted link to the {peer} broke")]
    Tls { peer: &'static str, source: rustls::Error },
    #[error("a frame of the {peer} was changed on its way")]
    Changed { peer: &'static str },
    #[error(
        "no secret goes over an insecure link to the dealer at {address}: it would give the weights or the prompt away"
    )]
    SeedsInTheClear { address: SocketAddr },
    #[error("connection to the {peer}")]
    Io { peer: &'static str, source: io::Error },
    #[error("stopped by a signal")]
    Interrupted,
}

impl NetError {
    /// A way out, for the user.
    pub fn hint(&self) -> String {
        let hint = match self {
            NetError::Pins(e) => return e.hint(),
            NetError::Unpinned { peer, fingerprint } => {
                return format!(
                    "if the {peer}'s owner reads out this fingerprint, `ssvm pair --file PEER.pub --as {peer}` with its file; \
                     `ssvm pair --list` shows what is pinned ({fingerprint} is not)"
                );
            }
            NetError::NotPinnedThere { .. } => {
                return "on that side `ssvm pair --file PEER.pub` with this side's `identity.pub`, in this side's role"
                    .to_owned();
            }
            NetError::Version(e) => e.hint(),
            NetError::Closed { .. } | NetError::Vain { .. } => "look at the other side's log; it says why it ended",
            NetError::Timeout { .. } => "a longer `--timeout` if the other side is slow rather than gone",
            NetError::BadFrame { .. } => "the same release of ssvm on both sides, and the right port",
            NetError::Refused { refusal, .. } => refusal.hint(),
            NetError::Peer { .. } => "mend what the other side names",
            NetError::Unreachable { .. } => "start it, check the address, or give a longer `--timeout`",
            NetError::Listen { .. } => "another `--listen`; port 0 picks a free port",
            NetError::Address { .. } => "HOST:PORT, for example 127.0.0.1:7701",
            NetError::Unresolved { .. } => {
                "another spelling, or the number of the address; then whether names are known here at all"
            }
            NetError::Mute { .. } | NetError::Foreign { .. } => {
                "check the address and the port: `--connect`, `--dealer`, and what the other side's `listening on` says"
            }
            NetError::Older { .. } => "the same release of ssvm on all sides",
            NetError::Protocol { .. } => {
                "the same release of ssvm on all sides, and `ssvm pair` with `ssvm pair` alone"
            }
            NetError::Encrypted { .. } | NetError::Unencrypted { .. } => {
                "leave `--insecure` away on both sides; or give it to both, on a network that you trust"
            }
            NetError::PinnedAs { .. } => {
                "check the address: another of your peers answers there; or pin the key in this role, too, with `ssvm pair`"
            }
            NetError::PinnedOtherwiseThere { .. } => {
                "check the address and this side's role; on that side `ssvm pair --list` shows the roles"
            }
            NetError::Tls { .. } | NetError::Changed { .. } => {
                "run it again; if it comes again, something between the two changes what they send"
            }
            NetError::SeedsInTheClear { .. } => "leave `--insecure` away on all sides, or a dealer on this machine",
            NetError::Io { .. } => "check the network between the parties",
            NetError::Interrupted => "run it again",
        };
        hint.to_owned()
    }
}

/// The beginning of a reason that fits a frame.
pub(super) fn shortened(reason: &str) -> &[u8] {
    let mut cut = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(cut) {
        cut -= 1;
    }
    &reason.as_bytes()[..cut]
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
