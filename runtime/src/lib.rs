//! Virtual machine that two parties run against each other on secret-shared values.

pub mod aes128;
pub mod cpu;
pub mod prg;
pub mod protocol;
pub mod ring;
