//! Secret-sharing programs as pure data: types, the op table, the text form, the verifier, the cost model and bytecode.
//!
//! This crate has no files, sockets, clocks or randomness, and no unsafe code: a party can trust it with a program
//! that somebody else compiled. `compiler` writes programs, `runtime` runs them, and neither knows the other.
#![forbid(unsafe_code)]

pub mod ahead;
pub mod builder;
pub mod bytecode;
pub mod choose;
pub mod cost;
pub mod dcf;
pub mod digits;
pub mod eval;
pub mod exp;
pub mod fault;
mod field;
pub mod infer;
pub mod liveness;
pub mod making;
pub mod material;
pub mod noise;
pub mod op;
mod ops;
pub mod pair;
pub mod parse;
pub mod print;
mod product;
pub mod program;
pub mod rows;
pub mod series;
pub mod slots;
pub mod types;
pub mod verify;
pub mod weights;
pub mod wire;

pub use builder::Builder;
pub use fault::{Code, Fault};
pub use infer::infer;
pub use op::Op;
pub use parse::parse;
pub use program::{Instr, OUTSIDE, Program};
pub use types::*;
pub use verify::{Limits, Policy, verify, verify_module, verify_runnable};
