//! What can go wrong between two parties.

/// A failure of the peer or of the way to it. Mistakes of the caller are panics.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer went away, or did not answer in time.
    #[error("the peer is gone")]
    Lost,
    /// The way to the peer failed.
    #[error("the channel failed: {0}")]
    Channel(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A message of the wrong length.
    #[error("a message of {got} bytes instead of {expected}")]
    Length {
        /// Bytes that the protocol has at this place.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// Bytes that are no point of the group, or its neutral one.
    #[error("the peer's point {index} is not a point of ristretto255 other than the neutral one")]
    Point {
        /// Its number in the message.
        index: usize,
    },
}

/// Checks the length of bytes of the peer.
pub(crate) fn check_length(bytes: &[u8], expected: usize) -> Result<(), Error> {
    if bytes.len() == expected { Ok(()) } else { Err(Error::Length { expected, got: bytes.len() }) }
}
