//! The `.ssb` file: one or more entries over the same weights, with metadata and the commitment to the weights.
//!
//! ```text
//! magic "SSB\x1a" | version, 4 bytes little endian | content, a protocol buffer (see `content`) | BLAKE3 of all before
//! ```
//!
//! The instructions of an entry are one field of bytes that the op table defines; results have no types there, since
//! they follow from the operands. A file has one encoding: what does not encode back to the same bytes is refused.

mod content;
mod decode;
mod encode;

pub use decode::{DecodeError, decode};
pub use encode::encode;

pub(crate) use decode::Reader;
pub(crate) use encode::varint;

use crate::Program;
use std::collections::BTreeMap;

/// Marks a file as bytecode.
pub const MAGIC: [u8; 4] = *b"SSB\x1a";

/// Version of the format, of the op table and of the protocols behind it.
pub const VERSION: u32 = 3;

/// Content of a `.ssb` file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Module {
    /// Facts for people and tools, such as `name`, `tokenizer`, `compiler`.
    pub metadata: BTreeMap<String, String>,
    /// Commitment to the weights; see [`crate::weights::Header::commitment`].
    pub commitment: [u8; 32],
    /// The entries, each with its own name; see [`crate::verify::verify_module`] for what they agree on.
    pub entries: Vec<Program>,
}

impl Module {
    /// The entry called `name`.
    pub fn entry(&self, name: &str) -> Option<&Program> {
        self.entries.iter().find(|p| p.name == name)
    }
}

/// The hash that the handshake compares: BLAKE3 of the whole file.
pub fn hash(file: &[u8]) -> [u8; 32] {
    blake3::hash(file).into()
}
