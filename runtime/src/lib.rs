//! Virtual machine that two parties run against each other on secret-shared values.

pub mod net;
pub mod prg;
pub mod ring;
