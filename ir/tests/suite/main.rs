//! Tests of the crate as a whole: round trips of text and bytecode, the verifier on broken programs, costs and the
//! cleartext reference against numbers worked out by hand.

mod bad_programs;
mod cost;
mod eval;
mod programs;
mod round_trip;
