//! Virtual machine that two parties run against each other on secret-shared values.

pub mod handshake;
pub mod keys;
pub mod ledger;
pub mod net;
pub mod npz;
pub mod link;
pub mod material;
pub mod cpu;
pub mod prg;
pub mod protocol;
pub mod ring;
