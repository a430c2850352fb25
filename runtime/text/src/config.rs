//! Small files that lie beside a `tokenizer.json`: what the tokens are called, and which of them end a text.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use model_files::SpecialTokens;
use serde_json::Value;

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

/// What matters of `tokenizer_config.json`. All else in it may be anything.
#[derive(Default)]
pub(super) struct TokenizerConfig {
    /// The template for chats.
    pub(super) chat_template: Option<String>,
    /// Names of special tokens.
    pub(super) special_tokens: SpecialTokens,
}

impl TokenizerConfig {
    /// The file beside a `tokenizer.json`, special tokens also from `special_tokens_map.json`; empty if there is none.
    pub(super) fn beside(tokenizer: &Path) -> Result<TokenizerConfig, ConfigError> {
        let map = json(&tokenizer.with_file_name("special_tokens_map.json"))?.unwrap_or_default();
        let config = json(&tokenizer.with_file_name("tokenizer_config.json"))?.unwrap_or_default();
        let mut special_tokens = model_files::special_tokens(&map);
        special_tokens.extend(model_files::special_tokens(&config));
        Ok(TokenizerConfig {
            chat_template: config.get("chat_template").and_then(model_files::chat_template),
            special_tokens,
        })
    }
}

/// The tokens that end a text: all that `generation_config.json`, `config.json`, also in its part for text, and
/// `tokenizer_config.json` name. Without any, a text goes on until it is long enough. What cannot be understood is warned of.
pub(super) fn end_tokens(text: &Text) -> Vec<u32> {
    let mut ends = BTreeSet::new();
    for name in ["generation_config.json", "config.json"] {
        let file = text.file().with_file_name(name);
        let config = json(&file).unwrap_or_else(|error| {
            tracing::warn!("{error}; it is left out");
            None
        });
        let Some(config) = config else { continue };
        let (ids, understood) = model_files::ends(&config);
        if !understood {
            tracing::warn!("{}: an `eos_token_id` is no token; it is left out", file.display());
        }
        ends.extend(ids);
    }
    let config = TokenizerConfig::beside(text.file()).unwrap_or_else(|error| {
        tracing::warn!("{error}; it is left out");
        TokenizerConfig::default()
    });
    let named = config.special_tokens.get("eos_token").and_then(Value::as_str);
    ends.extend(named.and_then(|name| text.id(name)));
    ends.into_iter().collect()
}

/// A file of JSON, or what Python takes for it: with a byte order mark, with numbers that are none.
pub(super) fn json(file: &Path) -> Result<Option<Value>, ConfigError> {
    let fault = |e: serde_json::Error| ConfigError::Json { file: file.to_owned(), reason: e.to_string() };
    let Some(text) = read(file)? else { return Ok(None) };
    model_files::json(text.as_bytes()).map(Some).map_err(fault)
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
        false => Ok(Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_name_ends() {
        let folder = tempfile::tempdir().unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny-shakespeare/tokenizer.json");
        std::fs::copy(shipped, folder.path().join("tokenizer.json")).unwrap();
        let text = Text::load(&folder.path().join("tokenizer.json")).unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert!(end_tokens(&text).is_empty());
        put("config.json", r#"{"eos_token_id": 7, "n_layer": 2}"#);
        assert_eq!(end_tokens(&text), [7]);
        put(
            "tokenizer_config.json",
            r#"{"eos_token": "<|endoftext|>", "model_max_length": 1000000000000000019884624838656}"#,
        );
        assert_eq!(end_tokens(&text), [0, 7]);
        for nothing in ["null", "-1", "[]", "[null]"] {
            put("generation_config.json", &format!(r#"{{"eos_token_id": {nothing}}}"#));
            assert_eq!(end_tokens(&text), [0, 7]);
        }
        put("generation_config.json", r#"{"eos_token_id": [9, 8, 7]}"#);
        assert_eq!(end_tokens(&text), [0, 7, 8, 9]);
        // What makes no sense is left out, and the rest counts.
        put("generation_config.json", r#"{"eos_token_id": [9.0, "x"]}"#);
        assert_eq!(end_tokens(&text), [0, 7, 9]);
        put("generation_config.json", "\u{feff}{\"top_p\": NaN, \"a\": [-Infinity, \"NaN\"], \"eos_token_id\": 5}");
        assert_eq!(end_tokens(&text), [0, 5, 7]);
        put("generation_config.json", "no JSON");
        put("config.json", r#"{"text_config": {"eos_token_id": [3, 4]}, "vision_config": {"eos_token_id": 6}}"#);
        assert_eq!(end_tokens(&text), [0, 3, 4]);
    }

    #[test]
    fn special_tokens_are_names_or_objects() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put(
            "special_tokens_map.json",
            r#"{"bos_token": {"content": "<s>"}, "eos_token": "a", "additional_special_tokens": ["x"]}"#,
        );
        put(
            "tokenizer_config.json",
            r#"{"eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null, "add_bos_token": true}"#,
        );
        let config = TokenizerConfig::beside(&folder.path().join("tokenizer.json")).unwrap();
        let tokens = serde_json::to_value(config.special_tokens).unwrap();
        let wanted = serde_json::json!({"additional_special_tokens": ["x"], "bos_token": "<s>", "eos_token": "</s>"});
        assert_eq!(tokens, wanted);
    }
}
