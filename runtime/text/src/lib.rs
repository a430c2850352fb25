//! Text generation on the client: from a prompt to text, one private token at a time.
//!
//! A [`Model`] yields tokens; [`PrivateModel`] is the one that runs a program with a server and a dealer, and nothing else here
//! knows how it does. Around it stand the parts that a person meets:
//!
//! * [`Language`]: the model's files, foremost [`Text`], a `tokenizer.json`, and [`Detokenizer`], which turns a growing list of tokens into text piece by piece.
//! * [`StopFinder`]: stop strings, also across tokens.
//! * [`Noise`]: the client's own Gumbel noise, which makes an argmax a sample.
//! * [`ChatTemplate`]: messages to one prompt, by the template that ships with a chat model.
//! * [`Generation`]: all of it as a loop, one token a call. [`command`] shows it in a terminal.
//! * [`Talk`]: a conversation whose session goes on from turn to turn, a [`Running`] one.
//!
//! Prompt, text and noise are the client's secrets: nothing here logs them or has them in an error or `Debug`.
//!
//! What cannot be had: logits stay shared, so whatever needs them in the clear (top-k, top-p, log-probabilities) does not
//! exist here. Temperature does, since the noise is added to a share.

mod chat;
pub mod command;
mod config;
mod detokenize;
mod error;
mod generation;
mod guard;
mod language;
mod model;
mod muted;
mod noise;
mod private;
mod running;
pub mod serve;
mod stop;
mod talk;
mod text;

pub use chat::{ChatError, ChatTemplate, Conversation};
pub use config::{ConfigError, SpecialTokens};
pub use detokenize::Detokenizer;
pub use error::GenerateError;
pub use generation::{Advance, Finish, Generation, Settings, Totals, check};
pub use language::{Language, LanguageOptions};
pub use model::{Cancel, Companions, Limits, Model, Session};
pub use noise::Noise;
pub use private::PrivateModel;
pub use processes::generation::Step;
pub use running::Running;
pub use stop::StopFinder;
pub use talk::{Answer, Began, ChatOptions, Ended, Interrupt, Shown, Talk, TalkError, Turn};
pub use text::{Text, TextError};
