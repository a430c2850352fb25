//! Why there is no text.

use std::path::PathBuf;

use super::{ChatError, ConfigError, TextError};
use processes::RunError;

/// See the module head. No prompt, token or text of the client is in an error.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum GenerateError {
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("the prompt has {tokens} tokens, the program takes {limit}")]
    PromptTooLong { tokens: usize, limit: usize },
    #[error("a token of the prompt is not below {vocabulary}, the size of the model's vocabulary")]
    TokenOutOfRange { vocabulary: usize },
    #[error("temperature {asked} is not between 0 and {limit}")]
    Temperature { asked: f64, limit: f64 },
    #[error("an empty stop string")]
    EmptyStop,
    #[error("the tokenizer has {tokenizer} tokens, the model {model}")]
    Vocabulary { tokenizer: usize, model: usize },
    #[error("{} is not the tokenizer that the program was compiled with", file.display())]
    OtherTokenizer { file: PathBuf },
    #[error("the chat template beside {} is not the one that the program was compiled with", beside.display())]
    OtherTemplate { beside: PathBuf },
    #[error("cancelled")]
    Cancelled,
    #[error("no material is left")]
    MaterialUsedUp,
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Run(#[from] RunError),
}

impl GenerateError {
    /// A way out, for the user.
    pub fn hint(&self) -> String {
        match self {
            GenerateError::EmptyPrompt => "a prompt of at least one token".to_owned(),
            GenerateError::PromptTooLong { limit, .. } => {
                format!("at most {limit} tokens, or a program that was compiled for longer prompts")
            }
            GenerateError::TokenOutOfRange { .. } => "token ids of the model's own tokenizer".to_owned(),
            GenerateError::Temperature { limit: 0.0, .. } => {
                "temperature 0: this program was compiled without a place for noise".to_owned()
            }
            GenerateError::Temperature { limit, .. } => format!("a temperature between 0 and {limit}"),
            GenerateError::EmptyStop => "stop strings of at least one character".to_owned(),
            GenerateError::Vocabulary { .. } => "the `tokenizer.json` of the model that was compiled".to_owned(),
            GenerateError::OtherTokenizer { file } => format!(
                "the tokenizer that `sscc compile` put or found beside the model, or `--tokenizer {}` if you mean this one",
                file.display()
            ),
            GenerateError::OtherTemplate { .. } => {
                "without it, since the program has its own, or `--chat-template FILE` if you mean this one".to_owned()
            }
            GenerateError::Cancelled => "ask again".to_owned(),
            GenerateError::MaterialUsedUp => "wait until the dealer has dealt more, or deal more ahead".to_owned(),
            GenerateError::Text(e) => e.hint().to_owned(),
            GenerateError::Config(e) => e.hint().to_owned(),
            GenerateError::Chat(e) => e.hint().to_owned(),
            GenerateError::Run(e) => e.hint(),
        }
    }
}
