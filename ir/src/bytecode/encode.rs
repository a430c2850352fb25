//! Program to bytes.

use super::content::{Content, Entry};
use super::{MAGIC, Module, VERSION};
use prost::Message;

/// The bytes of a `.ssb` file. Declared types are not written: they are those that the verifier derives.
pub fn encode(module: &Module) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    let content = Content {
        metadata: module.metadata.clone(),
        commitment: module.commitment.to_vec(),
        entries: module.entries.iter().map(Entry::of).collect(),
    };
    out.extend(content.encode_to_vec());
    let checksum = blake3::hash(&out);
    out.extend(checksum.as_bytes());
    out
}

/// Appends a base-128 varint, least significant group first.
pub(crate) fn varint(out: &mut Vec<u8>, mut x: u64) {
    while x >= 0x80 {
        out.push(x as u8 | 0x80);
        x >>= 7;
    }
    out.push(x as u8);
}
