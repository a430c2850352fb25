//! What can go wrong in a batch.

/// Why a party's part of a batch fails. The batch is over then: nothing of it is used again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system has no randomness.
    #[error("no randomness from the operating system: {0}")]
    Random(getrandom::Error),
    /// A message of the wrong length.
    #[error("the peer's {what} has {got} bytes instead of {expected}")]
    Length {
        /// Which message.
        what: &'static str,
        /// Bytes that it should have.
        expected: usize,
        /// Bytes that it has.
        got: usize,
    },
    /// A ciphertext that is none.
    #[error("the peer's {what} has a number that is no residue")]
    Residue {
        /// Which message.
        what: &'static str,
    },
    /// Columns that are not whole, or more than there are.
    #[error("the peer's columns have {got} bytes, of {column} a column and {left} columns to come")]
    Columns {
        /// Bytes of the message.
        got: usize,
        /// Bytes of a column.
        column: usize,
        /// Columns that may still come.
        left: usize,
    },
}

/// An error unless a message has as many bytes as it should.
pub(crate) fn check_length(what: &'static str, bytes: &[u8], expected: usize) -> Result<(), Error> {
    match bytes.len() {
        got if got == expected => Ok(()),
        got => Err(Error::Length { what, expected, got }),
    }
}
