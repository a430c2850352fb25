//! What the whole-system tests and the demo share: models and processes.

pub mod gpt2;
pub mod measure;
pub mod private;
pub mod processes;
pub mod toy;
