//! Tokens to text, piece by piece.
//!
//! A token is not a piece of text by itself: byte-level tokens cut through characters, and some decoders treat the first
//! token of a text differently. So a window of tokens is decoded as a whole each time, and what it has more than before
//! is the next piece. Text that may still change is held back: a replacement character at the end, which stands for the
//! beginning of a character. What never becomes a character is given out as replacement characters by the next character
//! or by [`Detokenizer::finish`], so the pieces joined are the text of all tokens.

use super::{Text, TextError};

/// Stands for bytes that are no character.
const REPLACEMENT: char = '\u{fffd}';

/// Tokens of the prompt that the window begins with, so that the first piece is no beginning of a text.
const CONTEXT: usize = 8;

/// Turns a growing list of tokens into text.
pub struct Detokenizer {
    /// The tokens that are decoded together.
    window: Vec<u32>,
    /// The window's text as far as it has been given out.
    given: String,
}

impl Detokenizer {
    /// For tokens that continue a prompt.
    pub fn after(text: &Text, prompt: &[u32]) -> Result<Detokenizer, TextError> {
        let window = prompt[prompt.len().saturating_sub(CONTEXT)..].to_vec();
        let given = settled(&text.decode_plain(&window)?).to_owned();
        Ok(Detokenizer { window, given })
    }

    /// Appends a token; the text that has become certain, often that of the token.
    pub fn push(&mut self, text: &Text, token: u32) -> Result<String, TextError> {
        self.window.push(token);
        let all = text.decode_plain(&self.window)?;
        // A decoder that takes earlier text back for now, say of bytes that are no character yet, is waited for.
        let Some(more) = settled(&all).strip_prefix(self.given.as_str()) else { return Ok(String::new()) };
        let more = more.to_owned();
        if !more.is_empty() && settled(&all).len() == all.len() {
            // All is given out: tokens from here on need the last one as context alone.
            self.window.drain(..self.window.len().saturating_sub(CONTEXT));
            self.given = text.decode_plain(&self.window)?;
        } else {
            self.given += &more;
        }
        Ok(more)
    }

    /// What is held back, as it is.
    pub fn finish(self, text: &Text) -> Result<String, TextError> {
        let all = text.decode_plain(&self.window)?;
        let more = match all.strip_prefix(self.given.as_str()) {
            Some(more) => more,
            None => all.char_indices().nth(self.given.chars().count()).map_or("", |(at, _)| &all[at..]),
        };
        Ok(more.to_owned())
    }
}

/// A text less the replacement characters at its end.
fn settled(text: &str) -> &str {
    text.trim_end_matches(REPLACEMENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn shipped() -> Text {
        Text::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny-shakespeare/tokenizer.json")))
            .unwrap()
    }

    /// A tokenizer in the style of Llama: words begin with `▁`, unknown characters are bytes.
    fn byte_fallback(folder: &Path) -> Text {
        let mut vocabulary: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
        vocabulary.extend(["▁", "▁Hello", "▁world", "!"].map(str::to_owned));
        let vocabulary: serde_json::Map<String, serde_json::Value> =
            vocabulary.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
        let decoders = serde_json::json!([
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}
        ]);
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": true, "vocab": vocabulary, "merges": []}
        });
        let file = folder.join("tokenizer.json");
        std::fs::write(&file, json.to_string()).unwrap();
        Text::load(&file).unwrap()
    }

    /// The pieces of some tokens after a prompt, the last one by `finish`.
    fn pieces(text: &Text, prompt: &[u32], tokens: &[u32]) -> Vec<String> {
        let mut detokenizer = Detokenizer::after(text, prompt).unwrap();
        let mut pieces: Vec<String> = tokens.iter().map(|&t| detokenizer.push(text, t).unwrap()).collect();
        pieces.push(detokenizer.finish(text).unwrap());
        pieces
    }

    #[test]
    fn pieces_join_to_the_text_and_characters_stay_whole() {
        let text = shipped();
        let words = "What light — é ≠ 愛, 🎭! ".repeat(6);
        let tokens = text.encode(&words).unwrap();
        assert!(tokens.len() > 2 * CONTEXT);
        for cut in [0, 1, 5] {
            let pieces = pieces(&text, &tokens[..cut], &tokens[cut..]);
            assert_eq!(pieces.concat(), &words[settled(&text.decode(&tokens[..cut]).unwrap()).len()..]);
            assert!(pieces.iter().all(|piece| !piece.contains(REPLACEMENT)));
            assert!(pieces.iter().filter(|piece| !piece.is_empty()).count() > tokens.len() / 3, "not all at the end");
        }
    }

    #[test]
    fn a_character_that_never_comes_is_replaced() {
        let text = shipped();
        let love = text.encode("愛").unwrap();
        assert_eq!(love.len(), 3, "a token a byte");
        assert_eq!(pieces(&text, &[], &love), ["", "", "愛", ""]);
        assert_eq!(pieces(&text, &[], &love[..2]), ["", "", "\u{fffd}"]);
        // Followed by a character, it is given out with that.
        let next = text.encode("x").unwrap();
        assert_eq!(pieces(&text, &[], &[love[0], next[0]]), ["", "\u{fffd}x", ""]);
        // A prompt can end within a character, which the first tokens complete.
        assert_eq!(pieces(&text, &love[..1], &love[1..]), ["", "愛", ""]);
    }

    #[test]
    fn a_real_replacement_character_is_text() {
        let text = shipped();
        let tokens = text.encode("a\u{fffd}b\u{fffd}").unwrap();
        assert_eq!(pieces(&text, &[], &tokens).concat(), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn the_first_piece_is_no_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let text = byte_fallback(folder.path());
        let [hello, world, mark] = ["▁Hello", "▁world", "!"].map(|name| text.id(name).unwrap());
        assert_eq!(pieces(&text, &[], &[hello, world]), ["Hello", " world", ""]);
        assert_eq!(pieces(&text, &[hello], &[world, mark]), [" world", "!", ""]);
        // This decoder takes a character back until the bytes after it are one.
        let bytes: Vec<u32> = "é".bytes().map(u32::from).collect();
        assert_eq!(pieces(&text, &[hello], &[0x41, bytes[0], bytes[1], world]), ["A", "", "é", " world", ""]);
        let long: Vec<u32> = [hello, world, mark].repeat(20);
        assert_eq!(pieces(&text, &[], &long).concat(), text.decode(&long).unwrap());
    }

    #[test]
    fn special_tokens_are_no_text() {
        let text = shipped();
        let end = text.id("<|endoftext|>").unwrap();
        let word = text.encode("light").unwrap();
        assert_eq!(pieces(&text, &[end], &word).concat(), "light");
        assert_eq!(pieces(&text, &word, &[end, word[0]])[0], "");
    }

    #[test]
    fn an_id_without_text_is_refused() {
        let text = shipped();
        let mut detokenizer = Detokenizer::after(&text, &[1]).unwrap();
        assert!(matches!(detokenizer.push(&text, 5000), Err(TextError::Id { .. })));
        assert!(matches!(Detokenizer::after(&text, &[5000]), Err(TextError::Id { .. })));
    }
}
