//! Small files that lie beside a `tokenizer.json`: what the tokens are called, and which of them end a text.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Text;

/// Longest file that is read, in bytes.
const LONGEST: u64 = 4 << 20;

/// A file that is there and cannot be read.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error("{}", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("{}: {reason}", file.display())]
    Json { file: PathBuf, reason: String },
}

impl ConfigError {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            ConfigError::Io { .. } => "a path and permissions that let the file be read",
            ConfigError::Json { .. } => "the file as it lies beside the model at its origin, or none",
        }
    }
}

/// The parts of `tokenizer_config.json` that matter.
#[derive(Deserialize, Default)]
pub(super) struct TokenizerConfig {
    pub(super) chat_template: Option<Templates>,
    pub(super) bos_token: Option<Token>,
    pub(super) eos_token: Option<Token>,
}

/// One template, or several by name.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Templates {
    One(String),
    Many(Vec<Named>),
}

/// A template with a name.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) template: String,
}

/// A token, by its name or with properties.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Token {
    Name(String),
    Object { content: String },
}

impl Token {
    pub(super) fn name(self) -> String {
        match self {
            Token::Name(name) | Token::Object { content: name } => name,
        }
    }
}

impl TokenizerConfig {
    /// The file beside a `tokenizer.json`; empty if there is none.
    pub(super) fn beside(tokenizer: &Path) -> Result<TokenizerConfig, ConfigError> {
        Ok(json(&tokenizer.with_file_name("tokenizer_config.json"))?.unwrap_or_default())
    }
}

/// The part of `generation_config.json` and `config.json` that matters.
#[derive(Deserialize)]
struct ModelConfig {
    eos_token_id: Option<Ids>,
}

/// One id, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

/// The tokens that end a text. The first file counts that names any: `generation_config.json`, `config.json`,
/// `tokenizer_config.json`. Without a name a text goes on until it is long enough.
pub(super) fn end_tokens(text: &Text) -> Result<Vec<u32>, ConfigError> {
    for name in ["generation_config.json", "config.json"] {
        match json(&text.file().with_file_name(name))? {
            Some(ModelConfig { eos_token_id: Some(Ids::One(id)) }) => return Ok(vec![id]),
            Some(ModelConfig { eos_token_id: Some(Ids::Many(ids)) }) => return Ok(ids),
            _ => {}
        }
    }
    let token = TokenizerConfig::beside(text.file())?.eos_token;
    Ok(token.and_then(|token| text.id(&token.name())).into_iter().collect())
}

fn json<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, ConfigError> {
    let fault = |e: serde_json::Error| ConfigError::Json { file: file.to_owned(), reason: e.to_string() };
    read(file)?.map(|text| serde_json::from_str(&text).map_err(fault)).transpose()
}

/// A text file of sane length; nothing if there is none.
pub(super) fn read(file: &Path) -> Result<Option<String>, ConfigError> {
    let failed = |source| ConfigError::Io { file: file.to_owned(), source };
    let mut text = String::new();
    match File::open(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.and_then(|f| f.take(LONGEST + 1).read_to_string(&mut text)).map_err(failed)?,
    };
    match text.len() as u64 > LONGEST {
        true => Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "longer than such a file is"))),
        false => Ok(Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_names_the_end_counts() {
        let folder = tempfile::tempdir().unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tiny-shakespeare/tokenizer.json");
        std::fs::copy(shipped, folder.path().join("tokenizer.json")).unwrap();
        let text = Text::load(&folder.path().join("tokenizer.json")).unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert!(end_tokens(&text).unwrap().is_empty());
        put("tokenizer_config.json", r#"{"eos_token": "<|endoftext|>"}"#);
        assert_eq!(end_tokens(&text).unwrap(), [0]);
        put("config.json", r#"{"eos_token_id": 7, "n_layer": 2}"#);
        assert_eq!(end_tokens(&text).unwrap(), [7]);
        put("generation_config.json", r#"{"eos_token_id": null}"#);
        assert_eq!(end_tokens(&text).unwrap(), [7]);
        put("generation_config.json", r#"{"eos_token_id": [8, 9]}"#);
        assert_eq!(end_tokens(&text).unwrap(), [8, 9]);
        put("generation_config.json", r#"{"eos_token_id": "x"}"#);
        assert!(matches!(end_tokens(&text), Err(ConfigError::Json { .. })));
    }
}
