//! What the whole-system tests and the demo share: models and text.

pub mod gpt2;
pub mod text;
