//! The process side of the virtual machine, over real sockets.

#[cfg(unix)]
mod commands;
mod common;
mod faults;
mod sessions;
mod shape;
