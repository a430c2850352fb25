//! The language of a model: its tokenizer, the tokens that end a text and, if it chats, its template.

use std::path::{Path, PathBuf};

use clap::Args;

use super::config::end_tokens;
use super::{ChatError, ChatTemplate, Companions, GenerateError, Limits, Message, Text};

/// Where the language of a model is described.
#[derive(Args, Clone)]
pub struct LanguageOptions {
    /// The model's tokenizer; files beside it say which tokens end a text [default: the program's name with
    /// `.tokenizer.json`, else `tokenizer.json` beside it].
    #[arg(long, value_name = "FILE.json")]
    tokenizer: Option<PathBuf>,
    /// The model's chat template in Jinja, or `plain` for lines `User: ...` and `Assistant: ...` [default:
    /// `chat_template.jinja` or `tokenizer_config.json` beside the tokenizer, else the program's].
    #[arg(long, value_name = "FILE.jinja")]
    chat_template: Option<PathBuf>,
}

/// Text to tokens and back.
pub struct Language {
    /// The tokenizer.
    pub text: Text,
    /// Tokens that end a text.
    pub ends: Vec<u32>,
    /// The template, of a model that chats.
    pub chat: Option<ChatTemplate>,
}

impl LanguageOptions {
    /// Reads the files. The tokenizer may know fewer tokens than the model has logits, not more.
    pub fn load(&self, program: &Path, limits: &Limits) -> Result<Language, GenerateError> {
        let own = program.with_extension("tokenizer.json");
        let found = || if own.exists() { own } else { program.with_file_name("tokenizer.json") };
        let file = self.tokenizer.clone().unwrap_or_else(found);
        let mut language = Language::beside(&file)?;
        let Companions { tokenizer, chat_template, special_tokens } = &limits.companions;
        if tokenizer.as_ref().is_some_and(|wanted| std::fs::read(&file).is_ok_and(|read| !is_hash_of(wanted, &read))) {
            eprintln!("warning: {} is not the tokenizer that the program was compiled with", file.display());
        }
        if let (None, Some(template)) = (&language.chat, chat_template) {
            language.chat = Some(ChatTemplate::new(template.clone(), special_tokens.clone())?);
        }
        if language.text.size() > limits.vocabulary {
            return Err(GenerateError::Vocabulary { tokenizer: language.text.size(), model: limits.vocabulary });
        }
        match &self.chat_template {
            None => {}
            Some(plain) if plain.as_os_str() == "plain" => language.chat = Some(ChatTemplate::plain()),
            Some(given) => language.chat = Some(ChatTemplate::from_file(given, &file)?),
        }
        Ok(language)
    }
}

fn is_hash_of(hexadecimal: &str, content: &[u8]) -> bool {
    blake3::hash(content).to_hex().as_str() == hexadecimal
}

impl Language {
    /// A tokenizer and the files beside it.
    pub fn beside(tokenizer: &Path) -> Result<Language, GenerateError> {
        let text = Text::load(tokenizer)?;
        Ok(Language { ends: end_tokens(&text)?, chat: ChatTemplate::beside(tokenizer)?, text })
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
