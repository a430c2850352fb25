//! Compiler from ONNX transformers to two-party secret-sharing programs.
#![forbid(unsafe_code)]

pub mod diagnostic;
pub mod graph;
pub mod onnx;
pub mod tables;
