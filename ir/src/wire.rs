//! How protocol messages travel: the part of the wire format that the cost model needs.
//!
//! The messages of one `round`, `send` or `reveal` in one direction form one *message*: the packed elements of each
//! opening or product in program order, each padded to a whole byte. A message travels as frames, each with a header
//! and at most [`FRAME_PAYLOAD`] bytes. Material from the dealer is a plain byte stream and counts without framing.

/// Bytes of a frame's header: magic, type, step, length.
pub const FRAME_HEADER: u64 = 16;

/// Greatest payload of a frame in bytes.
pub const FRAME_PAYLOAD: u64 = 1 << 18;

/// Bytes on the socket for a message of `payload` bytes. An empty message sends nothing.
pub fn message_bytes(payload: u64) -> u64 {
    payload + payload.div_ceil(FRAME_PAYLOAD) * FRAME_HEADER
}

/// Bytes of `elements` elements of `bits` bits each, packed without gaps and padded to a whole byte.
pub fn packed_bytes(elements: u64, bits: u64) -> u64 {
    (elements * bits).div_ceil(8)
}
