//! Arithmetic of rings mod 2^n, packing, the block cipher and the generators: all that is fast, and nothing that knows a
//! protocol, a file or a socket.

pub mod aes128;
pub mod codec;
pub mod cpu;
pub mod masked;
pub mod prg;
pub mod ring;
