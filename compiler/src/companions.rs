//! What the files beside a model say of its use: the tokenizer, tokens that end a text, a chat template.
//!
//! They go into the program's metadata, so that a client that has the program and the tokenizer needs no more, and knows
//! by its hash that it is the right one. All of them may be missing; a file that is there and makes no sense is an error.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::diagnostic::{Code, Diagnostic};

/// Greatest file that is read.
const MAX_BYTES: u64 = 1 << 28;

/// Metadata by name: `tokenizer` (a file name), `tokenizer_blake3`, `eos` (numbers, separated by commas),
/// `chat_template`.
pub fn read(model: &Path) -> Result<BTreeMap<String, String>, Diagnostic> {
    let folder = model.parent().unwrap_or(Path::new(""));
    let mut facts = BTreeMap::new();
    if let Some(bytes) = file(&folder.join("tokenizer.json"))? {
        facts.insert("tokenizer".to_owned(), "tokenizer.json".to_owned());
        facts.insert("tokenizer_blake3".to_owned(), blake3::hash(&bytes).to_hex().to_string());
    }
    // Where both have it, what was written for generation counts.
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        let Some(config) = json(&path)? else { continue };
        if let Some(eos) = config.get("eos_token_id").filter(|eos| !eos.is_null()) {
            let eos = tokens(eos)
                .ok_or_else(|| fault(&path, format!("`eos_token_id` is {eos}, neither a token nor a list of them")))?;
            facts.insert("eos".to_owned(), eos);
            break;
        }
    }
    let template = json(&folder.join("tokenizer_config.json"))?;
    if let Some(template) = template.as_ref().and_then(|config| config.get("chat_template")?.as_str()) {
        facts.insert("chat_template".to_owned(), template.to_owned());
    }
    Ok(facts)
}

fn tokens(value: &Value) -> Option<String> {
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let numbers: Option<Vec<String>> =
        list.iter().map(|v| v.as_u64().and_then(|v| u32::try_from(v).ok()).map(|v| v.to_string())).collect();
    numbers.filter(|numbers| !numbers.is_empty()).map(|numbers| numbers.join(","))
}

fn json(path: &Path) -> Result<Option<Value>, Diagnostic> {
    let Some(bytes) = file(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| fault(path, e.to_string()))
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
            ("tokenizer.json", "{}"),
            ("config.json", r#"{"eos_token_id": 1}"#),
            ("generation_config.json", r#"{"eos_token_id": [2, 3]}"#),
            ("tokenizer_config.json", r#"{"chat_template": "a\nb"}"#),
        ]);
        let found = found.unwrap();
        assert_eq!((found["eos"].as_str(), found["chat_template"].as_str()), ("2,3", "a\nb"));
        assert_eq!(found["tokenizer"], "tokenizer.json");
        assert_eq!(found["tokenizer_blake3"], blake3::hash(b"{}").to_hex().to_string());
        assert_eq!(facts(&[("config.json", r#"{"eos_token_id": null}"#)]).unwrap(), BTreeMap::new());
    }

    #[test]
    fn nonsense_is_refused() {
        for config in ["{", r#"{"eos_token_id": "x"}"#, r#"{"eos_token_id": []}"#, r#"{"eos_token_id": [-1]}"#] {
            assert!(facts(&[("config.json", config)]).is_err(), "{config}");
        }
    }
}
