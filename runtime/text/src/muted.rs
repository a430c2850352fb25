//! Texts that have names of special tokens, which count as text.
//!
//! A tokenizer finds its added tokens by their names, whoever wrote them. So there is a second one, in which they have names that no
//! text has; a text that is meant gets these names where a template put tokens, and keeps the others as they are. All else is the
//! same, so the rest of the text becomes the tokens that it would become without them.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use tokenizers::{Encoding, Token, Tokenizer};

/// Begins and ends the second names, and marks the names that are text. It is no character, and no text may have it.
pub(super) const MARK: char = '\u{10ffff}';

/// A tokenizer whose added tokens have second names.
pub(super) struct Muted {
    tokenizer: Tokenizer,
    /// Ids of added tokens there, and what they are in the model.
    ids: HashMap<u32, u32>,
    /// Those that have second names, by their first.
    names: Vec<String>,
}

impl Muted {
    /// From a tokenizer's file. Only tokens that can be told from text by their looks have second names.
    pub(super) fn of(content: &[u8], added: &[(String, bool)]) -> Option<Muted> {
        let mut json: Value = serde_json::from_slice(content).ok()?;
        let (mut first, mut names) = (HashMap::new(), Vec::new());
        for token in json.get_mut("added_tokens")?.as_array_mut()? {
            let id = u32::try_from(token.get("id")?.as_u64()?).ok()?;
            let name = token.get("content")?.as_str()?.to_owned();
            let marker = is_marker(&name);
            let known = if marker { second(&name) } else { name.clone() };
            token["content"] = known.clone().into();
            if marker {
                token["normalized"] = false.into();
                names.push(name);
            }
            first.insert(known, id);
        }
        if first.len() != added.len() {
            return None;
        }
        // It refers to tokens by name, and is asked of the first tokenizer.
        json["post_processor"] = Value::Null;
        let mut tokenizer = Tokenizer::from_bytes(serde_json::to_vec(&json).ok()?).ok()?;
        tokenizer.with_padding(None).with_truncation(None).ok()?;
        let ids = first.iter().map(|(name, id)| Some((tokenizer.token_to_id(name)?, *id))).collect::<Option<_>>()?;
        Some(Muted { tokenizer, ids, names })
    }

    /// Token ids of a text: markers in it are tokens, but where a [`MARK`] stands within.
    pub(super) fn encode(&self, own: &Tokenizer, text: &str, around: bool) -> Result<Vec<u32>, &'static str> {
        let failed = |_| "the tokenizer fails";
        let (mut renamed, mut wanted) = (String::with_capacity(text.len()), Vec::new());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let found = self.names.iter().filter(|name| rest.starts_with(name.as_str())).max_by_key(|name| name.len());
            if let Some(marker) = found {
                renamed += &second(marker);
                wanted.extend(own.token_to_id(marker));
                rest = &rest[marker.len()..];
            } else {
                renamed.extend((c != MARK).then_some(c));
                rest = &rest[c.len_utf8()..];
            }
        }
        let encoding = self.tokenizer.encode(renamed.as_str(), false).map_err(failed)?;
        let token = |&id: &u32| self.ids.get(&id).copied().unwrap_or(id);
        let ids: Vec<u32> = encoding.get_ids().iter().map(token).collect();
        // A model can know such a name as a piece of text, too.
        let muted: HashSet<u32> = self.names.iter().filter_map(|marker| own.token_to_id(marker)).collect();
        if ids.iter().copied().filter(|id| muted.contains(id)).ne(wanted) {
            return Err("its vocabulary spells them");
        }
        if !around {
            return Ok(ids);
        }
        let tokens = ids.into_iter().map(|id| Token::new(id, own.id_to_token(id).unwrap_or_default(), (0, 0)));
        let whole = own.post_process(Encoding::from_tokens(tokens.collect(), 0), None, true).map_err(failed)?;
        Ok(whole.get_ids().to_vec())
    }
}

/// Whether the name of an added token is no ordinary text: some tokenizers add line ends and runs of spaces.
pub(super) fn is_marker(name: &str) -> bool {
    name.chars().count() > 2 && !name.contains(char::is_whitespace) && !name.chars().all(char::is_alphanumeric)
}

fn second(name: &str) -> String {
    format!("{MARK}{name}{MARK}")
}

/// A text in which no marker is whole: each has a [`MARK`] within. With `edges`, none can arise with what comes before or after
/// either. The same text if it needs no mark.
pub(super) fn marked(text: &str, markers: &[&str], edges: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let ends = |suffix: bool| {
        markers.iter().any(|marker| {
            let mut cuts = marker.char_indices().map(|(at, _)| at).skip(1);
            cuts.any(|at| if suffix { text.starts_with(&marker[at..]) } else { text.ends_with(&marker[..at]) })
        })
    };
    if edges && ends(true) {
        out.push(MARK);
    }
    for (at, c) in text.char_indices() {
        out.push(c);
        if markers.iter().any(|marker| text[at..].starts_with(marker)) {
            out.push(MARK);
        }
    }
    if edges && ends(false) {
        out.push(MARK);
    }
    out
}
