//! x
mod ntt;
mod ring;
