//! Secret-sharing programs as pure data: types, the op table, the text form, the verifier, the cost model and bytecode.
//!
//! This crate has no files, sockets, clocks or randomness, and no unsafe code: a party can trust it with a program
//! that somebody else compiled. `compiler` writes programs, `runtime` runs them, and neither knows the other.
#![forbid(unsafe_code)]

pub mod dcf;
pub mod op;
pub mod program;
pub mod types;
pub mod wire;

pub use op::Op;
pub use program::{Instr, Program};
pub use types::*;
