//! What the files beside a model say of its use: `config.json`, `generation_config.json`, `tokenizer_config.json`,
//! `special_tokens_map.json`.
//!
//! Python writes them, and many hands edit them: so they are read leniently, and of each a few entries count. The compiler puts what they
//! say into the program, and a client may read files of its own; both go by this.

use std::collections::BTreeMap;

use serde_json::Value;

/// Special tokens by what templates call them: their names, or a list of names.
pub type SpecialTokens = BTreeMap<String, Value>;

/// JSON, or what Python takes for it: with a byte order mark, with numbers that are none, which become null. The error is that of the file
/// as it is.
pub fn json(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    serde_json::from_slice(bytes).or_else(|fault| serde_json::from_slice(&without_nan(bytes)).map_err(|_| fault))
}

/// JSON in which `NaN` and `Infinity`, outside of texts, are null.
fn without_nan(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let (mut quoted, mut escaped, mut rest) = (false, false, bytes);
    while let Some((&byte, after)) = rest.split_first() {
        let words: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];
        if let Some(word) = words.into_iter().find(|word| !quoted && rest.starts_with(word)) {
            out.extend(b"null");
            rest = &rest[word.len()..];
            continue;
        }
        quoted ^= byte == b'"' && !escaped;
        escaped = quoted && byte == b'\\' && !escaped;
        out.push(byte);
        rest = after;
    }
    out
}

/// Token ids that a `config.json` or `generation_config.json` ends texts with, also in its part for text, and whether all of it was
/// understood. Negative numbers and null stand for none in such files.
pub fn ends(config: &Value) -> (Vec<u32>, bool) {
    let (mut ids, mut understood) = (Vec::new(), true);
    for part in [Some(config), config.get("text_config")].into_iter().flatten() {
        let value = part.get("eos_token_id").unwrap_or(&Value::Null);
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for id in list.iter().filter(|id| !id.is_null()) {
            // Some writers make a float of it.
            let whole = id.as_i64().or_else(|| id.as_f64().filter(|id| id.fract() == 0.0).map(|id| id as i64));
            understood &= whole.is_some();
            ids.extend(whole.and_then(|id| u32::try_from(id).ok()));
        }
    }
    (ids, understood)
}

/// Entries `..._token` that name a token, by its name alone or with properties, and the list of others.
pub fn special_tokens(config: &Value) -> SpecialTokens {
    let name = |token: &Value| Some(Value::from(token.as_str().or_else(|| token.get("content")?.as_str())?));
    let named = |(key, token): (&String, &Value)| match key.as_str() {
        "additional_special_tokens" => {
            let all: Vec<Value> = token.as_array()?.iter().filter_map(name).collect();
            (!all.is_empty()).then(|| (key.clone(), Value::Array(all)))
        }
        key if key.ends_with("_token") => Some((key.to_owned(), name(token)?)),
        _ => None,
    };
    config.as_object().into_iter().flatten().filter_map(named).collect()
}

/// The chat template in an entry: one, or the one called `default` of several, in a list with names or by name.
pub fn chat_template(entry: &Value) -> Option<String> {
    let named = |named: &&Value| named.get("name").and_then(Value::as_str) == Some("default");
    let listed = || entry.as_array()?.iter().find(named)?.get("template")?.as_str();
    entry.as_str().or_else(listed).or_else(|| entry.get("default")?.as_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_python_writes_is_read() {
        let file = "\u{feff}{\"a\": NaN, \"b\": [-Infinity, Infinity, 1], \"c\": \"NaN \\\" Infinity\"}";
        assert_eq!(
            super::json(file.as_bytes()).unwrap(),
            json!({"a": null, "b": [null, null, 1], "c": "NaN \" Infinity"})
        );
        assert!(super::json(b"{\"a\": NaN").is_err() && super::json(b"").is_err());
    }

    #[test]
    fn ends_are_of_all_parts() {
        let config = json!({"eos_token_id": [3, null, -1], "text_config": {"eos_token_id": 7.0}});
        assert_eq!(ends(&config), (vec![3, 7], true));
        assert_eq!(ends(&json!({"eos_token_id": ["x", 5]})), (vec![5], false));
        assert_eq!(ends(&json!([])), (vec![], true));
    }

    #[test]
    fn tokens_and_templates_have_several_forms() {
        let config = json!({
            "bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null, "add_bos_token": true,
            "additional_special_tokens": ["<a>", {"content": "<b>"}, 3]
        });
        let wanted = json!({"bos_token": "<s>", "eos_token": "</s>", "additional_special_tokens": ["<a>", "<b>"]});
        assert_eq!(json!(special_tokens(&config)), wanted);
        let several = json!([{"name": "x", "template": "1"}, {"name": "default", "template": "2"}]);
        for entry in [json!("2"), several, json!({"default": "2"})] {
            assert_eq!(chat_template(&entry).as_deref(), Some("2"));
        }
        assert_eq!(chat_template(&json!(3)), None);
    }
}
