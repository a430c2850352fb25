//! Virtual machine that two parties run against each other on secret-shared values.

pub mod cpu;
pub mod link;
pub mod material;
pub mod prg;
pub mod protocol;
pub mod ring;
