//! The language of a model: its tokenizer and, if it chats, its template. Options that `generate` and `serve` share.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{ChatError, ChatTemplate, GenerateError, Limits, Message, Text};

/// Where the language of a model is described.
#[derive(Args, Clone)]
pub struct LanguageOptions {
    /// The model's tokenizer [default: `tokenizer.json` beside the program].
    #[arg(long, value_name = "FILE.json")]
    tokenizer: Option<PathBuf>,
    /// The model's chat template in Jinja, or `plain` for lines `User: ...` and `Assistant: ...` [default:
    /// `chat_template.jinja` or `tokenizer_config.json` beside the tokenizer].
    #[arg(long, value_name = "FILE.jinja")]
    chat_template: Option<PathBuf>,
}

/// Text to tokens and back.
pub struct Language {
    /// The tokenizer.
    pub text: Text,
    chat: Option<ChatTemplate>,
}

impl LanguageOptions {
    /// Reads the files. The tokenizer may know fewer tokens than the model has logits, not more.
    pub fn load(&self, program: &Path, limits: &Limits) -> Result<Language, GenerateError> {
        let file = self.tokenizer.clone().unwrap_or_else(|| program.with_file_name("tokenizer.json"));
        let text = Text::load(&file)?;
        if text.size() > limits.vocabulary {
            return Err(GenerateError::Vocabulary { tokenizer: text.size(), model: limits.vocabulary });
        }
        let chat = match &self.chat_template {
            None => ChatTemplate::beside(&file)?,
            Some(plain) if plain.as_os_str() == "plain" => Some(ChatTemplate::plain()),
            Some(given) => Some(ChatTemplate::from_file(given, &file)?),
        };
        Ok(Language { text, chat })
    }
}

impl Language {
    /// A language without further files.
    pub fn new(text: Text, chat: Option<ChatTemplate>) -> Language {
        Language { text, chat }
    }

    /// The tokens of a plain prompt.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>, GenerateError> {
        Ok(self.text.encode_prompt(text)?)
    }

    /// The tokens of a conversation that the assistant is to continue. The template puts the special tokens.
    pub fn conversation(&self, messages: &[Message]) -> Result<Vec<u32>, GenerateError> {
        let prompt = self.chat.as_ref().ok_or(ChatError::None)?.prompt(messages)?;
        Ok(self.text.encode(&prompt)?)
    }
}
