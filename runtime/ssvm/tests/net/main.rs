//! The process side of the virtual machine, over real sockets.

#[cfg(unix)]
mod commands;
mod common;
mod faults;
mod links;
mod sessions;
mod shape;
