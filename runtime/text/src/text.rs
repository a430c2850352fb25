//! Text and token ids, by a `tokenizer.json` in the Hugging Face format.

use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

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
            TextError::Id { .. } => "the model's own `tokenizer.json`",
        }
    }
}

/// Turns text into token ids and back.
pub struct Text {
    tokenizer: Tokenizer,
    file: PathBuf,
    digest: String,
}

impl Text {
    /// Reads a `tokenizer.json`. What it says about truncation and padding does not count: programs have their own sizes.
    pub fn load(file: &Path) -> Result<Text, TextError> {
        let failed = |e: tokenizers::Error| TextError::Load { file: file.into(), reason: e.to_string() };
        // Read once: what the digest is of is what is used.
        let content = std::fs::read(file).map_err(|e| failed(e.into()))?;
        let mut tokenizer = Tokenizer::from_bytes(&content).map_err(failed)?;
        tokenizer.with_padding(None).with_truncation(None).map_err(failed)?;
        Ok(Text { tokenizer, file: file.into(), digest: blake3::hash(&content).to_hex().to_string() })
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

    /// Text of token ids, special tokens included.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.check(ids)?;
        self.tokenizer.decode(ids, false).map_err(|e| self.fault("decode ids", e))
    }

    /// Text of token ids without the special ones among them.
    pub fn decode_plain(&self, ids: &[u32]) -> Result<String, TextError> {
        self.check(ids)?;
        self.tokenizer.decode(ids, true).map_err(|e| self.fault("decode ids", e))
    }

    fn ids(&self, text: &str, special: bool) -> Result<Vec<u32>, TextError> {
        let encoding = self.tokenizer.encode(text, special).map_err(|e| self.fault("encode a text", e))?;
        Ok(encoding.get_ids().to_vec())
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
