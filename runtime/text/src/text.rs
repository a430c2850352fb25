//! Text and token ids, by a `tokenizer.json` in the Hugging Face format.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tokenizers::Tokenizer;

use super::guard::guarded;
use super::muted::Muted;

/// What goes wrong with a tokenizer, with its file's name.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The file is missing or is no tokenizer.
    #[error("{}: not a readable tokenizer: {reason}", file.display())]
    Load {
        /// The tokenizer's file.
        file: PathBuf,
        /// The library's words.
        reason: String,
    },
    /// A text has no ids, or ids no text.
    #[error("{}: the tokenizer cannot {action}: {reason}", file.display())]
    Use {
        /// The tokenizer's file.
        file: PathBuf,
        /// What it was asked for.
        action: &'static str,
        /// The library's words.
        reason: String,
    },
    /// The library panics on it.
    #[error("{}: the library `tokenizers` cannot {action} with this tokenizer: it panics", file.display())]
    Panic {
        /// The tokenizer's file.
        file: PathBuf,
        /// What it was asked for.
        action: &'static str,
    },
    /// Special tokens in a text cannot be kept apart from those that are meant.
    #[error("{}: the names of special tokens in a text cannot be told from special tokens: {reason}", file.display())]
    Special {
        /// The tokenizer's file.
        file: PathBuf,
        /// What stands in the way.
        reason: &'static str,
    },
    /// An id is beyond the vocabulary. Which one is not told: ids can be secret.
    #[error("{}: an id is not one of the {size} tokens; is this the model's own tokenizer?", file.display())]
    Id {
        /// The tokenizer's file.
        file: PathBuf,
        /// Number of tokens.
        size: usize,
    },
}

impl TextError {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            TextError::Load { .. } => "the `tokenizer.json` that lies beside the model at its origin",
            TextError::Use { .. } => "another text, or the model's own `tokenizer.json`",
            TextError::Panic { .. } => "a `tokenizer.json` that a current release of `transformers` has written",
            TextError::Special { .. } => "a text without them, or `--special` to let them count as tokens",
            TextError::Id { .. } => "the model's own `tokenizer.json`",
        }
    }
}

/// Turns text into token ids and back.
pub struct Text {
    tokenizer: Tokenizer,
    file: PathBuf,
    digest: String,
    /// Ids of special tokens.
    special: HashSet<u32>,
    /// All added tokens: names and whether they are special.
    added: Vec<(String, bool)>,
    /// How tokens become text.
    spelling: Spelling,
    /// The file's content, and what is made of it for texts that have names of special tokens.
    content: Vec<u8>,
    muted: OnceLock<Option<Muted>>,
}

/// How tokens become text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// A token is bytes, each of them a letter of its name (GPT-2).
    Letters,
    /// Tokens `<0xNN>` are bytes (Llama).
    Fallback,
    /// By the decoder alone.
    Words,
}

/// What a token adds to a text.
pub(super) enum Piece {
    /// These bytes, which may be part of a character.
    Bytes(Vec<u8>),
    /// One byte, which stands for itself alone if it is no character.
    Byte(u8),
    /// A text that depends on what comes before.
    Word,
    /// None: it is special.
    Special,
}

impl Text {
    /// Reads a `tokenizer.json`. What it says about truncation and padding does not count: programs have their own sizes.
    pub fn load(file: &Path) -> Result<Text, TextError> {
        let failed = |e: tokenizers::Error| TextError::Load { file: file.into(), reason: e.to_string() };
        // Read once: what the digest is of is what is used.
        let content = std::fs::read(file).map_err(|e| failed(e.into()))?;
        let panicked = || TextError::Panic { file: file.into(), action: "begin" };
        let mut tokenizer = guarded(|| Tokenizer::from_bytes(&content)).ok_or_else(panicked)?.map_err(failed)?;
        tokenizer.with_padding(None).with_truncation(None).map_err(failed)?;
        let all = tokenizer.get_added_tokens_decoder();
        let special = all.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        let mut added: Vec<(String, bool)> = all.values().map(|token| (token.content.clone(), token.special)).collect();
        added.sort();
        let decoder = tokenizer.get_decoder().and_then(|decoder| serde_json::to_string(decoder).ok());
        let spelling = match decoder.as_deref() {
            Some(json) if json.starts_with("{\"type\":\"ByteLevel\"") => Spelling::Letters,
            Some(json) if json.contains("\"type\":\"ByteFallback\"") => Spelling::Fallback,
            _ => Spelling::Words,
        };
        let digest = blake3::hash(&content).to_hex().to_string();
        let muted = OnceLock::new();
        Ok(Text { tokenizer, file: file.into(), digest, special, added, spelling, content, muted })
    }

    /// Added tokens by name, and whether each is special.
    pub(super) fn added(&self) -> &[(String, bool)] {
        &self.added
    }

    /// Whether an id is that of an added token.
    pub(super) fn is_added(&self, name: &str) -> bool {
        self.added.binary_search_by(|(known, _)| known.as_str().cmp(name)).is_ok()
    }

    /// What a token adds to a text.
    pub(super) fn piece(&self, id: u32) -> Result<Piece, TextError> {
        let unknown = || TextError::Id { file: self.file.clone(), size: self.size() };
        let name = self.tokenizer.id_to_token(id).ok_or_else(unknown)?;
        Ok(match self.spelling {
            _ if self.special.contains(&id) => Piece::Special,
            Spelling::Letters => Piece::Bytes(letters(&name)),
            Spelling::Fallback => match byte(&name) {
                Some(byte) => Piece::Byte(byte),
                None => Piece::Word,
            },
            Spelling::Words => Piece::Word,
        })
    }

    /// BLAKE3 of the file that was read, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Where it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Number of tokens.
    pub fn size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The id of a token by its name, such as `<|endoftext|>`.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.tokenizer.token_to_id(name)
    }

    /// Token ids of a text, without special tokens around it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.ids(text, false)
    }

    /// Token ids of a text that begins a prompt: with the special tokens that the tokenizer puts around it, if any.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.ids(text, true)
    }

    /// Token ids of a text in which the names of tokens that have a [`MARK`](super::muted::MARK) within are text.
    ///
    /// `around`: with the special tokens that the tokenizer puts around a prompt.
    pub(super) fn encode_muted(&self, text: &str, around: bool) -> Result<Vec<u32>, TextError> {
        let panicked = || TextError::Panic { file: self.file.clone(), action: "encode a text" };
        let special = |reason| TextError::Special { file: self.file.clone(), reason };
        let make = || guarded(|| Muted::of(&self.content, &self.added)).flatten();
        let muted = self.muted.get_or_init(make).as_ref();
        let muted = muted.ok_or_else(|| special("the tokenizer's file has another layout"))?;
        let ids = guarded(|| muted.encode(&self.tokenizer, text, around)).ok_or_else(panicked)?;
        ids.map_err(special)
    }

    /// Text of token ids, special tokens included.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.decoded(ids, false)
    }

    /// Text of token ids without the special ones among them.
    pub fn decode_plain(&self, ids: &[u32]) -> Result<String, TextError> {
        self.decoded(ids, true)
    }

    fn decoded(&self, ids: &[u32], plain: bool) -> Result<String, TextError> {
        self.check(ids)?;
        let action = "decode ids";
        let done = guarded(|| self.tokenizer.decode(ids, plain));
        let done = done.ok_or_else(|| TextError::Panic { file: self.file.clone(), action })?;
        done.map_err(|e| self.fault(action, e))
    }

    fn ids(&self, text: &str, special: bool) -> Result<Vec<u32>, TextError> {
        let action = "encode a text";
        let done = guarded(|| self.tokenizer.encode(text, special));
        let done = done.ok_or_else(|| TextError::Panic { file: self.file.clone(), action })?;
        Ok(done.map_err(|e| self.fault(action, e))?.get_ids().to_vec())
    }

    /// The library passes over ids that it does not know.
    fn check(&self, ids: &[u32]) -> Result<(), TextError> {
        match ids.iter().all(|&id| self.tokenizer.id_to_token(id).is_some()) {
            true => Ok(()),
            false => Err(TextError::Id { file: self.file.clone(), size: self.size() }),
        }
    }

    fn fault(&self, action: &'static str, error: tokenizers::Error) -> TextError {
        TextError::Use { file: self.file.clone(), action, reason: error.to_string() }
    }
}

/// The bytes of a byte-level token: each letter of its name is one, or else it is spelt as it is.
fn letters(name: &str) -> Vec<u8> {
    static BYTES: OnceLock<HashMap<char, u8>> = OnceLock::new();
    // Bytes that are no visible letter of Latin-1 have letters from U+0100 on (GPT-2's `bytes_to_unicode`).
    let bytes = BYTES.get_or_init(|| {
        let visible = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let own = (0..=u8::MAX).filter(visible).map(|byte| (char::from(byte), byte));
        let others = (0..=u8::MAX).filter(|byte| !visible(byte)).zip('\u{100}'..).map(|(byte, letter)| (letter, byte));
        own.chain(others).collect()
    });
    name.chars().map(|c| bytes.get(&c).copied()).collect::<Option<_>>().unwrap_or_else(|| name.as_bytes().to_vec())
}

/// The byte of a token `<0xNN>`.
fn byte(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Text {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny-shakespeare/tokenizer.json");
        Text::load(Path::new(file)).unwrap()
    }

    #[test]
    fn text_survives() {
        let text = shipped();
        assert_eq!(text.size(), 1024);
        for words in ["ROMEO:\nWhat light through yonder window breaks?", " é ≠ 愛", ""] {
            let ids = text.encode(words).unwrap();
            assert!(ids.len() <= words.len() && ids.iter().all(|id| *id < 1024));
            assert_eq!(text.decode(&ids).unwrap(), words);
        }
        assert!(text.encode("ROMEO:").unwrap().len() < 6, "common words are more than bytes");
    }

    #[test]
    fn special_tokens_are_names_and_no_text() {
        let text = shipped();
        let end = text.id("<|endoftext|>").unwrap();
        assert_eq!(text.decode(&[end]).unwrap(), "<|endoftext|>");
        assert_eq!(text.decode_plain(&[end]).unwrap(), "");
        assert_eq!(text.id("no such token"), None);
    }

    #[test]
    fn a_panic_of_the_library_is_an_error() {
        assert_eq!(guarded(|| 5), Some(5));
        assert_eq!(guarded(|| -> u8 { panic!("with a secret") }), None);
        let error = TextError::Panic { file: "t.json".into(), action: "encode a text" };
        assert!(error.to_string().starts_with("t.json: ") && !error.to_string().contains("secret"));
    }

    #[test]
    fn errors_name_the_file() {
        let text = shipped();
        for id in [1024, u32::MAX] {
            let error = text.decode(&[0, id]).unwrap_err().to_string();
            assert!(error.contains("tokenizer.json") && error.contains("1024 tokens"), "{error}");
        }
        let Err(error) = Text::load(Path::new("no/such/tokenizer.json")) else { panic!("there is no such file") };
        assert!(error.to_string().contains("no/such/tokenizer.json"), "{error}");
        let Err(error) = Text::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))) else {
            panic!("not JSON")
        };
        assert!(error.to_string().contains("Cargo.toml"), "{error}");
    }
}
