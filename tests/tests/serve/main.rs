//! Text generation and the HTTP endpoint around a toy model.

mod common;
mod generation;
mod http;
mod openai;
