//! What the files beside a model say of its use: the tokenizer, tokens that end a text, a chat template.
//!
//! They go into the program's metadata, so that a client that has the program and the tokenizer needs no more, and knows
//! by its hash that it is the right one. All of them may be missing. Of each only some entries count, and one that makes no sense is
//! left out with a warning; a file that is no JSON at all is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::diagnostic::{Code, Diagnostic};

/// Greatest file that is read.
const MAX_BYTES: u64 = 1 << 28;

/// Metadata by name: `tokenizer` (a file name), `tokenizer_blake3`, `eos` (numbers, separated by commas), `chat_template`,
/// `special_tokens` (names of tokens by what templates call them, as JSON), `labels` (names of a classifier's classes, as a
/// list in JSON).
pub fn read(model: &Path) -> Result<BTreeMap<String, String>, Diagnostic> {
    let folder = model.parent().unwrap_or(Path::new(""));
    let mut facts = BTreeMap::new();
    let mut tokenizer = None;
    if let Some(bytes) = tokenizer_file(model)? {
        facts.insert("tokenizer".to_owned(), TOKENIZER.to_owned());
        facts.insert("tokenizer_blake3".to_owned(), blake3::hash(&bytes).to_hex().to_string());
        tokenizer = serde_json::from_slice(&bytes).ok();
    }
    let map = json(&folder.join("special_tokens_map.json"))?.unwrap_or_default();
    let config = json(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let mut tokens = model_files::special_tokens(&map);
    tokens.extend(model_files::special_tokens(&config));

    // Whatever a file calls an end is one: what chats end with and what texts end with are often named in different files.
    let mut ends = BTreeSet::new();
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        let Some(config) = json(&path)? else { continue };
        if let Some(labels) = config.get("id2label").and_then(labels) {
            facts.insert("labels".to_owned(), serde_json::to_string(&labels).expect("strings"));
        }
        let (ids, understood) = model_files::ends(&config);
        if !understood {
            eprintln!("warning: {}: an `eos_token_id` is no token; it is left out", path.display());
        }
        ends.extend(ids);
    }
    ends.extend(tokens.get("eos_token").and_then(|name| id_of(tokenizer.as_ref()?, name.as_str()?)));
    if !ends.is_empty() {
        let ends: Vec<String> = ends.iter().map(u32::to_string).collect();
        facts.insert("eos".to_owned(), ends.join(","));
    }

    let template = match file(&folder.join("chat_template.jinja"))? {
        Some(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        None => json(&folder.join("chat_template.json"))?
            .and_then(|file| model_files::chat_template(file.get("chat_template")?))
            .or_else(|| model_files::chat_template(config.get("chat_template")?)),
    };
    facts.extend(template.map(|template| ("chat_template".to_owned(), template)));
    if !tokens.is_empty() {
        let tokens = serde_json::to_string(&tokens).expect("strings");
        facts.insert("special_tokens".to_owned(), tokens);
    }
    Ok(facts)
}

/// Name of the tokenizer's file.
const TOKENIZER: &str = "tokenizer.json";

/// The tokenizer beside a model.
pub fn tokenizer_file(model: &Path) -> Result<Option<Vec<u8>>, Diagnostic> {
    file(&model.with_file_name(TOKENIZER))
}

/// Names of classes 0, 1, ..; none if they are those that are made up where nobody gave any.
fn labels(by_id: &Value) -> Option<Vec<&str>> {
    let by_id = by_id.as_object()?;
    let labels: Vec<&str> = (0..by_id.len()).map(|id| by_id.get(&id.to_string())?.as_str()).collect::<Option<_>>()?;
    let made_up = labels.iter().enumerate().all(|(id, label)| *label == format!("LABEL_{id}"));
    (!made_up && !labels.is_empty()).then_some(labels)
}

/// The id of an added token.
fn id_of(tokenizer: &Value, name: &str) -> Option<u32> {
    let named = |token: &&Value| token.get("content").and_then(Value::as_str) == Some(name);
    let added = tokenizer.get("added_tokens")?.as_array()?.iter().find(named)?.get("id")?;
    u32::try_from(added.as_u64()?).ok()
}

fn json(path: &Path) -> Result<Option<Value>, Diagnostic> {
    let Some(bytes) = file(path)? else { return Ok(None) };
    model_files::json(&bytes).map(Some).map_err(|e| fault(path, e.to_string()))
}

fn file(path: &Path) -> Result<Option<Vec<u8>>, Diagnostic> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if metadata.len() > MAX_BYTES => {
            return Err(fault(path, format!("it has {} bytes, more than {MAX_BYTES}", metadata.len())));
        }
        _ => {}
    }
    std::fs::read(path).map(Some).map_err(|e| fault(path, e.to_string()))
}

fn fault(path: &Path, why: String) -> Diagnostic {
    Diagnostic::new(Code::Companion, "a file beside the model cannot be used")
        .at(path.display().to_string())
        .because(format!("{why}."))
        .help("repair it, or move the model away from it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(files: &[(&str, &str)]) -> Result<BTreeMap<String, String>, Diagnostic> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        read(&folder.path().join("model.onnx"))
    }

    #[test]
    fn what_is_there_is_found() {
        assert_eq!(facts(&[]).unwrap(), BTreeMap::new());
        let found = facts(&[
            ("tokenizer.json", r#"{"added_tokens": [{"id": 4, "content": "</s>"}], "model": {}}"#),
            ("config.json", r#"{"eos_token_id": 1}"#),
            ("generation_config.json", r#"{"eos_token_id": [3, 2]}"#),
            ("special_tokens_map.json", r#"{"bos_token": "<s>", "eos_token": "other"}"#),
            (
                "tokenizer_config.json",
                r#"{"chat_template": "a\nb", "eos_token": {"content": "</s>"}, "pad_token": null}"#,
            ),
        ]);
        let found = found.unwrap();
        assert_eq!((found["eos"].as_str(), found["chat_template"].as_str()), ("1,2,3,4", "a\nb"));
        assert_eq!(found["tokenizer"], "tokenizer.json");
        assert_eq!(found["special_tokens"], r#"{"bos_token":"<s>","eos_token":"</s>"}"#);
        for config in [r#"{"eos_token_id": null}"#, r#"{"eos_token_id": []}"#, r#"{"eos_token_id": -1}"#, "{}"] {
            assert_eq!(facts(&[("config.json", config)]).unwrap(), BTreeMap::new());
        }
    }

    #[test]
    fn classes_have_names() {
        let labels = |config: &str| facts(&[("config.json", config)]).unwrap().remove("labels");
        assert_eq!(labels(r#"{"id2label": {"1": "good", "0": "bad"}}"#).unwrap(), r#"["bad","good"]"#);
        assert_eq!(labels(r#"{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}"#), None);
        assert_eq!(labels(r#"{"id2label": {"0": "a", "2": "b"}}"#), None);
        assert_eq!(labels(r#"{"id2label": null}"#), None);
    }

    #[test]
    fn templates_are_found_where_they_are() {
        let template = |files: &[(&str, &str)]| facts(files).unwrap().remove("chat_template");
        let list =
            r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
        assert_eq!(template(&[("tokenizer_config.json", list)]).unwrap(), "d");
        assert_eq!(template(&[("tokenizer_config.json", r#"{"chat_template": {"default": "m"}}"#)]).unwrap(), "m");
        assert_eq!(template(&[("tokenizer_config.json", r#"{"chat_template": null}"#)]), None);
        let own = ("chat_template.json", r#"{"chat_template": "j"}"#);
        assert_eq!(template(&[("tokenizer_config.json", list), own]).unwrap(), "j");
        assert_eq!(template(&[("chat_template.jinja", "file"), own]).unwrap(), "file");
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(facts(&[("config.json", "{")]).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let ends = |config: &str| facts(&[("config.json", config)]).unwrap().remove("eos").unwrap_or_default();
        for config in [r#"{"eos_token_id": "x"}"#, r#"{"eos_token_id": 1.5}"#, r#"{"eos_token_id": {"a": 1}}"#] {
            assert_eq!(ends(config), "", "{config}");
        }
        assert_eq!(ends(r#"{"eos_token_id": [1, "x", 2.0]}"#), "1,2");
        assert_eq!(ends("\u{feff}{\"a\": NaN, \"b\": [-Infinity, \"NaN\"], \"eos_token_id\": 3}"), "3");
        assert_eq!(ends(r#"{"text_config": {"eos_token_id": [4, 5]}, "vision_config": {"eos_token_id": 6}}"#), "4,5");
    }
}
