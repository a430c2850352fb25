//! x
pub mod assign_width;
