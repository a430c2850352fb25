//! Bytes to program. The bytes are untrusted: no panic, and no allocation beyond a small multiple of what is there.

use super::content::{Content, Entry};
use super::{MAGIC, Module, VERSION, encode};
use crate::fault::Fault;
use crate::types::Party;
use prost::Message;

/// Bytes of the header: magic and version.
const HEADER: usize = 8;

/// Bytes of the checksum.
const CHECKSUM: usize = 32;

/// Bytes that are not a program that this version can run.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than any file.
    #[error("the file is cut short: {0} bytes")]
    TooShort(usize),
    /// Something else than bytecode.
    #[error("not a bytecode file (.ssb): its first bytes are not those of one")]
    Magic,
    /// Another version.
    #[error("bytecode version {0}, this program reads version {VERSION}; compile the model again")]
    Version(u32),
    /// Bytes were lost or changed.
    #[error("the checksum does not match: the file is damaged or cut short")]
    Checksum,
    /// Not a protocol buffer of the expected kind.
    #[error("malformed content: {0}")]
    Content(#[from] prost::DecodeError),
    /// A field that makes no sense.
    #[error("malformed content: {0}")]
    Malformed(&'static str),
    /// An instruction that ends in the middle.
    #[error("an instruction is cut short")]
    CutShort,
    /// An op that the table lacks.
    #[error("unknown op 0x{0:02x}")]
    UnknownOp(u8),
    /// An instruction that makes no sense.
    #[error("entry {entry:?}: {fault}")]
    Instruction {
        /// Name of the entry.
        entry: String,
        /// What is wrong.
        fault: Box<Fault>,
    },
    /// More than one way to write the same program.
    #[error("the content is not in its canonical form")]
    NotCanonical,
}

/// Reads a `.ssb` file. The result is well formed and typed, but not verified: see [`crate::verify::verify`].
pub fn decode(file: &[u8]) -> Result<Module, DecodeError> {
    let Some((header, rest)) = file.split_first_chunk::<HEADER>() else {
        return Err(DecodeError::TooShort(file.len()));
    };
    let [m0, m1, m2, m3, version @ ..] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(DecodeError::Magic);
    }
    let version = u32::from_le_bytes(version);
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let Some((content, checksum)) = rest.split_last_chunk::<CHECKSUM>() else {
        return Err(DecodeError::TooShort(file.len()));
    };
    if blake3::hash(&file[..file.len() - CHECKSUM]) != *checksum {
        return Err(DecodeError::Checksum);
    }
    let content = Content::decode(content)?;
    let module = Module {
        metadata: content.metadata,
        commitment: content.commitment.try_into().map_err(|_| DecodeError::Malformed("a commitment has 32 bytes"))?,
        entries: content.entries.into_iter().map(Entry::program).collect::<Result<_, _>>()?,
    };
    if encode(&module) != file {
        return Err(DecodeError::NotCanonical);
    }
    Ok(module)
}

/// Reads the fields of instructions.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.bytes.split_first().ok_or(DecodeError::CutShort)?;
        self.bytes = rest;
        Ok(first)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        let mut x = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            x |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return x.try_into().map_err(|_| DecodeError::Malformed("a number exceeds 32 bits"));
            }
        }
        Err(DecodeError::Malformed("a number exceeds 32 bits"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.u32()?.try_into().map_err(|_| DecodeError::Malformed("a number exceeds 8 bits"))
    }

    /// Zigzag: 0, -1, 1, -2, ...
    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        let x = u16::try_from(self.u32()?).map_err(|_| DecodeError::Malformed("a number exceeds 16 bits"))?;
        Ok((x >> 1) as i16 ^ -((x & 1) as i16))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Malformed("a flag is 0 or 1")),
        }
    }

    pub(crate) fn party(&mut self) -> Result<Party, DecodeError> {
        Ok(if self.bool()? { Party::Server } else { Party::Client })
    }

    /// A list that starts with its length; an element takes at least a byte, so a length beyond the rest is refused.
    pub(crate) fn list<T>(
        &mut self,
        element: impl Fn(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let len = self.u32()? as usize;
        if len > self.bytes.len() {
            return Err(DecodeError::CutShort);
        }
        (0..len).map(|_| element(self)).collect()
    }
}
