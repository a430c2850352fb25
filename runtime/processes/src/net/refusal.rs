//! What a side is told that is refused though nothing is wrong: a frame of its own, so that programs can tell the reasons apart.
//!
//! Payload: kind 1, seconds 4, text; little-endian.

use super::error::shortened;
use super::{MAX_REASON, printable};

/// See the module head.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("busy: {what}")]
    Busy { what: String },
    #[error("not allowed: {what}")]
    NotAllowed { what: String },
    /// With the time until it is over.
    #[error("limit reached: {what}; again at 00:00 UTC, in {}", hours(*seconds))]
    Limit { what: String, seconds: u32 },
}

/// Bytes before the text.
const HEAD: usize = 5;

impl Refusal {
    /// Greatest size of an encoded refusal.
    pub(super) const MOST: usize = HEAD + MAX_REASON;

    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            Refusal::Busy { .. } => "ask again later",
            Refusal::NotAllowed { .. } => "ask for what the other side's owner allows, or the owner for more",
            Refusal::Limit { .. } => "wait until then, or ask the other side's owner for more",
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, seconds, what) = match self {
            Refusal::Busy { what } => (0, 0, what),
            Refusal::NotAllowed { what } => (1, 0, what),
            Refusal::Limit { what, seconds } => (2, *seconds, what),
        };
        [&[kind][..], &seconds.to_le_bytes(), shortened(what)].concat()
    }

    /// None if the bytes are no refusal.
    pub(super) fn decode(bytes: &[u8]) -> Option<Refusal> {
        let (head, text) = bytes.split_first_chunk::<HEAD>()?;
        let what = printable(text);
        let seconds = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        match (head[0], seconds) {
            (0, 0) => Some(Refusal::Busy { what }),
            (1, 0) => Some(Refusal::NotAllowed { what }),
            (2, _) => Some(Refusal::Limit { what, seconds }),
            _ => None,
        }
    }
}

/// A span of time, to the minute and at least one.
fn hours(seconds: u32) -> String {
    let minutes = seconds.div_ceil(60).max(1);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_come_as_they_were_sent() {
        let what = || "é".repeat(100);
        for refusal in [
            Refusal::Busy { what: what() },
            Refusal::NotAllowed { what: String::new() },
            Refusal::Limit { what: what(), seconds: 3601 },
        ] {
            let bytes = refusal.encode();
            assert_eq!(Refusal::decode(&bytes), Some(refusal));
            assert!((0..HEAD).all(|n| Refusal::decode(&bytes[..n]).is_none()));
        }
        let long = Refusal::Busy { what: "é".repeat(1000) }.encode();
        assert!(long.len() <= Refusal::MOST && Refusal::decode(&long).is_some());
        assert_eq!(Refusal::decode(b"\x03\0\0\0\0x"), None);
        assert_eq!(Refusal::decode(b"\x00\0\0\0\0\x1b[2J"), Some(Refusal::Busy { what: "\u{fffd}[2J".to_owned() }));
    }

    #[test]
    fn a_limit_says_when_it_is_over() {
        let said = |seconds| Refusal::Limit { what: "5 tokens a day".to_owned(), seconds }.to_string();
        assert_eq!(said(0), "limit reached: 5 tokens a day; again at 00:00 UTC, in 1 min");
        assert_eq!(said(3601), "limit reached: 5 tokens a day; again at 00:00 UTC, in 1 h 1 min");
    }
}
