//! Text and token ids, by a `tokenizer.json` in the Hugging Face format.

use std::path::{Path, PathBuf};

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
        id: i64,
        /// Number of tokens.
        size: usize,
    },
}

/// A tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: PathBuf,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    pub fn load(file: &Path) -> Result<Tokenizer, TextError> {
        match tokenizers::Tokenizer::from_file(file) {
            Ok(inner) => Ok(Tokenizer { inner, file: file.into() }),
            Err(e) => Err(TextError::Load { file: file.into(), reason: e.to_string() }),
        }
    }

    /// Number of tokens.
    pub fn size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Token ids of a text, without special tokens around it.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, TextError> {
        let encoding = self.inner.encode(text, false).map_err(|e| self.fault("encode a text", e))?;
        Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
    }

    /// Text of token ids, special tokens included.
    pub fn decode(&self, ids: &[i64]) -> Result<String, TextError> {
        let known = |id: i64| u32::try_from(id).ok().filter(|&id| self.inner.id_to_token(id).is_some());
        let ids: Vec<u32> = ids
            .iter()
            .map(|&id| known(id).ok_or_else(|| TextError::Id { file: self.file.clone(), id, size: self.size() }))
            .collect::<Result<_, _>>()?;
        self.inner.decode(&ids, false).map_err(|e| self.fault("decode ids", e))
    }

    fn fault(&self, action: &'static str, error: tokenizers::Error) -> TextError {
        TextError::Use { file: self.file.clone(), action, reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Tokenizer {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tiny-shakespeare/tokenizer.json");
        Tokenizer::load(Path::new(file)).unwrap()
    }

    #[test]
    fn text_survives() {
        let tokenizer = shipped();
        assert_eq!(tokenizer.size(), 1024);
        for text in ["ROMEO:\nWhat light through yonder window breaks?", " é ≠ 愛", ""] {
            let ids = tokenizer.encode(text).unwrap();
            assert!(ids.len() <= text.len() && ids.iter().all(|id| (0..1024).contains(id)));
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
        assert!(tokenizer.encode("ROMEO:").unwrap().len() < 6, "common words are more than bytes");
    }

    #[test]
    fn errors_name_the_file() {
        let tokenizer = shipped();
        for id in [-1, 1024, i64::MAX] {
            let error = tokenizer.decode(&[0, id]).unwrap_err().to_string();
            assert!(error.contains("tokenizer.json") && error.contains(&id.to_string()), "{error}");
        }
        let Err(error) = Tokenizer::load(Path::new("no/such/tokenizer.json")) else { panic!("there is no such file") };
        assert!(error.to_string().contains("no/such/tokenizer.json"), "{error}");
        let Err(error) = Tokenizer::load(Path::new(file!()).file_name().unwrap().as_ref()) else { panic!("not JSON") };
        assert!(error.to_string().starts_with("text.rs"), "{error}");
    }
}
