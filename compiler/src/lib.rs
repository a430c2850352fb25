//! Compiler from ONNX transformers to two-party secret-sharing programs.
#![forbid(unsafe_code)]

pub mod accuracy;
pub mod bounds;
pub mod breakdown;
pub mod calibrate;
pub mod cli;
pub mod companions;
pub mod diagnostic;
pub mod diff;
pub mod emit;
pub mod entries;
pub mod exact;
pub mod explore;
pub mod graph;
pub mod html;
pub mod layers;
pub mod lower;
pub mod onnx;
pub mod pass;
pub mod pipeline;
pub mod predict;
pub mod recipe;
pub mod report;
pub mod samples;
pub mod schedule;
pub mod supported;
pub mod tables;
