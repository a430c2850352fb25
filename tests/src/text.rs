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
    /// An id is beyond the vocabulary.
    #[error("{}: id {id} is not one of the {size} tokens; is this the model's own tokenizer?", file.display())]
    Id {
        /// The tokenizer's file.
        file: PathBuf,
        /// The id.
        id: u32,
        /// Number of tokens.
        size: usize,
    },
}

/// Turns text into token ids and back.
pub struct Text {
    tokenizer: Tokenizer,
    file: PathBuf,
}

impl Text {
    /// Reads a `tokenizer.json`.
    pub fn load(file: &Path) -> Result<Text, TextError> {
        match Tokenizer::from_file(file) {
            Ok(tokenizer) => Ok(Text { tokenizer, file: file.into() }),
            Err(e) => Err(TextError::Load { file: file.into(), reason: e.to_string() }),
        }
    }

    /// Number of tokens.
    pub fn size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Token ids of a text, without special tokens around it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self.tokenizer.encode(text, false).map_err(|e| self.fault("encode a text", e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of token ids, special tokens included.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        if let Some(&id) = ids.iter().find(|&&id| self.tokenizer.id_to_token(id).is_none()) {
            return Err(TextError::Id { file: self.file.clone(), id, size: self.size() });
        }
        self.tokenizer.decode(ids, false).map_err(|e| self.fault("decode ids", e))
    }

    fn fault(&self, action: &'static str, error: tokenizers::Error) -> TextError {
        TextError::Use { file: self.file.clone(), action, reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Text {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tiny-shakespeare/tokenizer.json");
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
    fn errors_name_the_file() {
        let text = shipped();
        for id in [1024, u32::MAX] {
            let error = text.decode(&[0, id]).unwrap_err().to_string();
            assert!(error.contains("tokenizer.json") && error.contains(&id.to_string()), "{error}");
        }
        let Err(error) = Text::load(Path::new("no/such/tokenizer.json")) else { panic!("there is no such file") };
        assert!(error.to_string().contains("no/such/tokenizer.json"), "{error}");
        let Err(error) = Text::load(Path::new(file!()).file_name().unwrap().as_ref()) else { panic!("not JSON") };
        assert!(error.to_string().starts_with("text.rs"), "{error}");
    }
}
