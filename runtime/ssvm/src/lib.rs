//! The command line of the virtual machine: see [`cli`].
#![forbid(unsafe_code)]

pub mod cli;
