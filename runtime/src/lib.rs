//! Virtual machine that two parties run against each other on secret-shared values.

pub mod aes128;
pub mod codec;
pub mod cpu;
pub mod dealer;
pub mod link;
pub mod material;
pub mod meter;
pub mod packed;
pub mod prg;
pub mod protocol;
pub mod ring;
pub mod simulate;
pub mod vm;
pub mod weights;
