//! Virtual machine that two parties run against each other on secret-shared values.

pub mod aes128;
pub mod cli;
pub mod codec;
pub mod cpu;
pub mod dealer;
pub mod handshake;
pub mod inputs;
pub mod keys;
pub mod ledger;
pub mod link;
pub mod mapped;
pub mod material;
pub mod meter;
pub mod net;
pub mod npz;
pub mod packed;
pub mod prg;
pub mod process;
pub mod profile;
pub mod protocol;
pub mod ring;
pub mod setup;
pub mod simulate;
pub mod vm;
pub mod weights;
pub mod weights_file;
