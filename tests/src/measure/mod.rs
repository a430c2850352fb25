//! Measurements of GPT-2-shaped models whose parties and dealer run as processes: see `cargo measure-gpt2`.

pub mod document;
pub mod generation;
pub mod pass;
pub mod peers;
pub mod place;
pub mod table;
