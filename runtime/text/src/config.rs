//! Small files that lie beside a `tokenizer.json`: what the tokens are called, and which of them end a text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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

/// What templates call special tokens, `bos_token` and so on, with the tokens' names.
pub type SpecialTokens = BTreeMap<String, String>;

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
        let mut special_tokens = special_tokens(&map);
        special_tokens.extend(self::special_tokens(&config));
        Ok(TokenizerConfig { chat_template: config.get("chat_template").and_then(template), special_tokens })
    }
}

/// Entries `..._token` that name a token, by its name alone or with properties.
fn special_tokens(config: &Value) -> SpecialTokens {
    let name = |token: &Value| Some(token.as_str().or_else(|| token.get("content")?.as_str())?.to_owned());
    let entries = config.as_object().into_iter().flatten();
    entries
        .filter(|(key, _)| key.ends_with("_token"))
        .filter_map(|(key, token)| Some((key.clone(), name(token)?)))
        .collect()
}

/// One template, or the one called `default` of several: in a list with names, or by name.
pub(super) fn template(value: &Value) -> Option<String> {
    let named = |named: &&Value| named.get("name").and_then(Value::as_str) == Some("default");
    let default = || value.as_array()?.iter().find(named)?.get("template");
    let source = value.as_str().or_else(|| default()?.as_str()).or_else(|| value.get("default")?.as_str());
    source.map(str::to_owned)
}

/// The tokens that end a text: all that `generation_config.json`, `config.json` and `tokenizer_config.json` name. Without
/// any, a text goes on until it is long enough.
pub(super) fn end_tokens(text: &Text) -> Result<Vec<u32>, ConfigError> {
    let mut ends = BTreeSet::new();
    for name in ["generation_config.json", "config.json"] {
        let file = text.file().with_file_name(name);
        let Some(config) = json(&file)? else { continue };
        let ids = config.get("eos_token_id").unwrap_or(&Value::Null);
        for id in ids.as_array().map_or(std::slice::from_ref(ids), Vec::as_slice) {
            match id.as_i64() {
                Some(id) => ends.extend(u32::try_from(id)),
                None if id.is_null() => {}
                None => return Err(ConfigError::Json { file, reason: format!("`eos_token_id` is {ids}") }),
            }
        }
    }
    let named = TokenizerConfig::beside(text.file())?.special_tokens.remove("eos_token");
    ends.extend(named.and_then(|name| text.id(&name)));
    Ok(ends.into_iter().collect())
}

pub(super) fn json(file: &Path) -> Result<Option<Value>, ConfigError> {
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
    fn all_files_name_ends() {
        let folder = tempfile::tempdir().unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny-shakespeare/tokenizer.json");
        std::fs::copy(shipped, folder.path().join("tokenizer.json")).unwrap();
        let text = Text::load(&folder.path().join("tokenizer.json")).unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert!(end_tokens(&text).unwrap().is_empty());
        put("config.json", r#"{"eos_token_id": 7, "n_layer": 2}"#);
        assert_eq!(end_tokens(&text).unwrap(), [7]);
        put(
            "tokenizer_config.json",
            r#"{"eos_token": "<|endoftext|>", "model_max_length": 1000000000000000019884624838656}"#,
        );
        assert_eq!(end_tokens(&text).unwrap(), [0, 7]);
        for nothing in ["null", "-1", "[]", "[null]"] {
            put("generation_config.json", &format!(r#"{{"eos_token_id": {nothing}}}"#));
            assert_eq!(end_tokens(&text).unwrap(), [0, 7]);
        }
        put("generation_config.json", r#"{"eos_token_id": [9, 8, 7]}"#);
        assert_eq!(end_tokens(&text).unwrap(), [0, 7, 8, 9]);
        put("generation_config.json", r#"{"eos_token_id": "x"}"#);
        assert!(matches!(end_tokens(&text), Err(ConfigError::Json { .. })));
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
        let tokens: Vec<(&str, &str)> = config.special_tokens.iter().map(|(k, v)| (&k[..], &v[..])).collect();
        assert_eq!(tokens, [("bos_token", "<s>"), ("eos_token", "</s>")]);
    }
}
