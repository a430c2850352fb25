//! What the whole-system tests and the demo share: models, text, processes.

pub mod gpt2;
pub mod processes;
pub mod text;
