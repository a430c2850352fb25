//! Frames: how messages are cut on a socket.
//!
//! A frame is a header of 16 bytes (magic, kind, step and payload length, each 4 bytes, little-endian) and at most
//! 256 KiB of payload. A message of known length travels as full frames and one last, shorter one, so the lengths of its
//! frames follow from its own and are checked one by one. Sizes are those of [`ir::wire`], which prices them.

use bytes::Bytes;
use ir::wire::{FRAME_HEADER, FRAME_PAYLOAD};

/// First four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"SSVM";

/// Bytes of an encoded header.
pub const HEADER: usize = FRAME_HEADER as usize;

/// Greatest payload in bytes.
pub const PAYLOAD: usize = FRAME_PAYLOAD as usize;

macro_rules! frame_kinds {
    ($( $(#[$doc:meta])* $name:ident = $code:literal, $text:literal; )*) => {
        /// What a frame carries.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Kind { $( $(#[$doc])* $name = $code ),* }

        impl Kind {
            /// The kind with this number.
            pub fn from_code(code: u32) -> Option<Kind> {
                match code { $( $code => Some(Kind::$name), )* _ => None }
            }

            /// Its name in error messages.
            pub fn name(self) -> &'static str {
                match self { $( Kind::$name => $text ),* }
            }
        }
    };
}

frame_kinds! {
    /// First message of either side on every connection.
    Hello = 1, "hello";
    /// The client says whether it holds the masked weights.
    Begin = 2, "begin";
    /// Masked weights, once per model and client.
    Setup = 3, "setup";
    /// A party's seeds, to the dealer.
    Seeds = 4, "seeds";
    /// Correlations, from the dealer.
    Material = 5, "material";
    /// All that is needed ahead of the online phase is there.
    Ready = 6, "ready";
    /// Openings, products and reveals.
    Online = 7, "online";
    /// The client holds its output.
    Done = 8, "done";
    /// Nothing to say yet, but still at work. Never handed to a reader.
    Alive = 9, "alive";
    /// The sender gives up; the payload is a short reason in UTF-8.
    Error = 10, "error";
    /// To the dealer: the step to deal next. To the server: run the step that is due, or end the session.
    Next = 11, "next";
    /// Transfers of two parties who make their material.
    Making = 12, "making";
    /// What two who pair tell each other.
    Pairing = 13, "pairing";
    /// What a party holds back for the other's half of a stock.
    Witness = 14, "witness";
    /// Names of the stocks that a client keeps with the server.
    Kept = 15, "kept";
    /// The sender does not do what was asked for, and says why (`refusal`).
    Refused = 16, "refused";
}

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the frame carries.
    pub kind: Kind,
    /// Position of its message in the sender's order of that kind.
    pub step: u32,
    /// Bytes of payload.
    pub length: u32,
}

impl Header {
    /// The bytes on the socket.
    pub fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.step.to_le_bytes());
        bytes[12..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Reads a header; the error says what the bytes are instead.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Header, String> {
        let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        if bytes[..4] != MAGIC {
            return Err("bytes that are no frame of ssvm".to_owned());
        }
        let kind = Kind::from_code(word(4)).ok_or_else(|| format!("a frame of unknown kind {}", word(4)))?;
        let header = Header { kind, step: word(8), length: word(12) };
        if header.length as usize > PAYLOAD {
            return Err(format!("a frame of {} bytes, above the cap of {PAYLOAD}", header.length));
        }
        Ok(header)
    }

    /// How error messages name its frame.
    pub fn describe(self) -> String {
        describe(self.kind, self.step, self.length as usize)
    }
}

/// A received frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: Kind,
    /// Position of its message in the sender's order of that kind.
    pub step: u32,
    /// At most [`PAYLOAD`] bytes.
    pub payload: Bytes,
}

impl Frame {
    /// The frame without its content, for error messages.
    pub fn describe(&self) -> String {
        describe(self.kind, self.step, self.payload.len())
    }
}

/// How error messages name a frame.
pub fn describe(kind: Kind, step: u32, length: usize) -> String {
    format!("{} frame, step {step}, {length} bytes", kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_garbage_is_refused() {
        for code in 1..=16 {
            let kind = Kind::from_code(code).expect("kinds are numbered from 1 to 16");
            let header = Header { kind, step: 7 + code, length: PAYLOAD as u32 };
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
        let good = Header { kind: Kind::Online, step: 1, length: 5 }.encode();
        let broken = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Header::decode(&bytes)
        };
        assert!(broken(0, b'X').is_err());
        assert!(broken(4, 0).is_err() && broken(4, 17).is_err() && broken(7, 1).is_err());
        assert!(broken(15, 0x80).is_err());
        assert!(broken(14, 0x11).is_err());
    }
}
