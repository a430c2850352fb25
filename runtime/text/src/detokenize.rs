//! Tokens to text, piece by piece.
//!
//! A token is not a piece of text by itself. Byte-level tokens, and the bytes that stand for what a vocabulary lacks, cut through
//! characters: their bytes are put together here, at most the three of a character that has begun are held back, and bytes that form
//! none are replaced as soon as that is certain. Other decoders treat the first token of a text differently: so a window of tokens is
//! decoded as a whole each time, and what it has more than before is the next piece.
//!
//! The pieces joined are what the tokenizer makes of all tokens, with two exceptions. Where single bytes spell some characters and then
//! something else, it replaces all of the run, and this what is no character. And a special token within a text is no text, but what
//! stands around it is parted by a line end, since it parts turns.

use super::text::Piece;
use super::{Text, TextError};

/// Stands for bytes that are no character.
const REPLACEMENT: char = '\u{fffd}';

/// Tokens of the prompt that the window begins with, so that the first piece is no beginning of a text.
const CONTEXT: usize = 8;

/// Turns a growing list of tokens into text.
pub struct Detokenizer {
    bytes: Bytes,
    /// The last tokens that are text, which are decoded together.
    window: Vec<u32>,
    /// The window's text as far as it has been given out.
    given: String,
    /// Whether a special token came since the last text.
    parted: bool,
    /// The last character that was given out.
    last: Option<char>,
}

/// Bytes that are no whole character yet.
#[derive(Default)]
struct Bytes {
    held: Vec<u8>,
    /// How many of them are the prompt's.
    prompt: usize,
    /// Whether each byte that is no character is replaced by itself, and not with those that belong to it.
    single: bool,
}

impl Bytes {
    /// Appends what has become certain; all of it at the end.
    fn settle(&mut self, out: &mut String, end: bool) {
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        while !rest.is_empty() {
            let (valid, bad) = match std::str::from_utf8(rest) {
                Ok(text) => (text, 0),
                Err(e) => {
                    let (valid, _) = rest.split_at(e.valid_up_to());
                    let valid = std::str::from_utf8(valid).expect("it was found valid");
                    (valid, e.error_len().unwrap_or(rest.len() - e.valid_up_to()))
                }
            };
            out.push_str(valid);
            let (begun, after) = rest[valid.len()..].split_at(bad);
            self.prompt = self.prompt.saturating_sub(valid.len());
            if !end && after.is_empty() && !begun.is_empty() && is_begun(begun) {
                self.held = begun.to_vec();
                return;
            }
            // What is the prompt's alone was given out with it.
            let count = if self.single { begun.len() } else { usize::from(bad > 0) };
            let known = if self.single { self.prompt.min(count) } else { usize::from(bad > 0 && self.prompt >= bad) };
            out.extend(std::iter::repeat_n(REPLACEMENT, count - known));
            self.prompt = self.prompt.saturating_sub(bad);
            rest = after;
        }
    }
}

/// Whether bytes are the beginning of a character.
fn is_begun(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
}

impl Detokenizer {
    /// For tokens that continue a prompt.
    pub fn after(text: &Text, prompt: &[u32]) -> Result<Detokenizer, TextError> {
        let mut made = Detokenizer {
            bytes: Bytes::default(),
            window: Vec::new(),
            given: String::new(),
            parted: false,
            last: None,
        };
        for &token in &prompt[prompt.len().saturating_sub(CONTEXT)..] {
            made.push(text, token)?;
        }
        made.bytes.prompt = made.bytes.held.len();
        (made.parted, made.last) = (false, None);
        Ok(made)
    }

    /// Appends a token; the text that has become certain, often that of the token.
    pub fn push(&mut self, text: &Text, token: u32) -> Result<String, TextError> {
        let mut out = String::new();
        match text.piece(token)? {
            Piece::Special => {
                self.bytes.settle(&mut out, true);
                let out = self.given_out(out);
                self.parted = self.last.is_some();
                return Ok(out);
            }
            Piece::Bytes(bytes) => {
                self.bytes.held.extend(bytes);
                self.bytes.settle(&mut out, false);
            }
            Piece::Byte(byte) => {
                self.bytes.single = true;
                self.bytes.held.push(byte);
                self.bytes.settle(&mut out, false);
                // A text that begins with bytes has begun.
                self.seen(text, token)?;
                self.given = text.decode_plain(&self.window)?;
            }
            Piece::Word => {
                self.bytes.settle(&mut out, true);
                self.seen(text, token)?;
                let all = text.decode_plain(&self.window)?;
                // A decoder that takes earlier text back for now is waited for.
                if let Some(more) = all.strip_prefix(self.given.as_str()) {
                    out.push_str(more);
                    self.given = all;
                }
            }
        }
        Ok(self.given_out(out))
    }

    /// Takes a token into the window. Tokens from here on need the last ones as context alone.
    fn seen(&mut self, text: &Text, token: u32) -> Result<(), TextError> {
        if self.window.len() >= 2 * CONTEXT && self.given == text.decode_plain(&self.window)? {
            self.window.drain(..CONTEXT);
            self.given = text.decode_plain(&self.window)?;
        }
        self.window.push(token);
        Ok(())
    }

    /// A piece as it is given out: parted from what was before a special token.
    fn given_out(&mut self, mut piece: String) -> String {
        let Some(first) = piece.chars().next() else { return piece };
        if std::mem::take(&mut self.parted) && !first.is_whitespace() && !self.last.is_some_and(char::is_whitespace) {
            piece.insert(0, '\n');
        }
        self.last = piece.chars().next_back();
        piece
    }

    /// What is held back, as it is.
    pub fn finish(mut self, text: &Text) -> Result<String, TextError> {
        let mut out = String::new();
        self.bytes.settle(&mut out, true);
        let all = text.decode_plain(&self.window)?;
        if !all.starts_with(self.given.as_str()) {
            out += all.char_indices().nth(self.given.chars().count()).map_or("", |(at, _)| &all[at..]);
        }
        Ok(self.given_out(out))
    }
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
            assert_eq!(
                pieces.concat(),
                &words[text.decode(&tokens[..cut]).unwrap().trim_end_matches(REPLACEMENT).len()..]
            );
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

    /// What Python's library makes of ids, as `models/token_texts.py` records it.
    #[derive(serde::Deserialize)]
    struct Table {
        tokenizers: std::collections::BTreeMap<String, serde_json::Value>,
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        kind: String,
        ids: Vec<u32>,
        text: String,
        /// Whether single bytes in a row spell characters and something else.
        mixed: bool,
    }

    #[test]
    fn pieces_join_to_what_python_says_whatever_the_bytes() {
        let table: Table = serde_json::from_str(include_str!("token_texts.json")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (kind, json) in &table.tokenizers {
            let file = folder.path().join(kind);
            std::fs::write(&file, json.to_string()).unwrap();
            let text = Text::load(&file).unwrap();
            for Case { ids, text: wanted, mixed, .. } in table.cases.iter().filter(|case| case.kind == *kind) {
                assert_eq!(text.decode_plain(ids).unwrap(), *wanted, "{kind} {ids:?}");
                let all = pieces(&text, &[], ids);
                if !mixed {
                    assert_eq!(all.concat(), *wanted, "{kind} {ids:?}");
                }
                // No more than the beginning of a character is held back, and nothing is said twice.
                for cut in 1..ids.len() {
                    let (before, after) = ids.split_at(cut);
                    let [before, after] =
                        [pieces(&text, &[], before), pieces(&text, before, after)].map(|p| p.concat());
                    let bare = |text: &str| text.replace(REPLACEMENT, "");
                    let joined = bare(&before) + &bare(&after);
                    // The beginning of a character that the prompt has is completed behind it.
                    assert!(*mixed || joined == bare(&all.concat()), "{kind} {ids:?} at {cut}");
                }
            }
        }
    }

    #[test]
    fn only_a_character_that_has_begun_is_held_back() {
        let folder = tempfile::tempdir().unwrap();
        let text = byte_fallback(folder.path());
        let hello = text.id("▁Hello").unwrap();
        // Bytes that begin nothing, or something that does not go on.
        let bytes = [0xff, 0x80, 0xe6, 0x84, 0x9b, 0xe6, 0x84, hello, 0xc3, 0xa9];
        let wanted = ["\u{fffd}", "\u{fffd}", "", "", "愛", "", "", "\u{fffd}\u{fffd} Hello", "", "é", ""];
        assert_eq!(pieces(&text, &[hello], &bytes), wanted);
        // What was begun in the prompt and goes on otherwise is not said again.
        assert_eq!(pieces(&text, &[hello, 0xe6], &[0x41, hello]), ["A", " Hello", ""]);
        let shipped = shipped();
        let letter = |name: &str| shipped.id(name).unwrap();
        let bytes = [letter("ÿ"), letter("ÿ"), letter("Ã"), letter("a")];
        assert_eq!(
            pieces(&shipped, &[letter("a"), letter("Ã")], &bytes),
            ["\u{fffd}", "\u{fffd}", "", "\u{fffd}a", ""]
        );
    }

    #[test]
    fn special_tokens_part_what_stands_around_them() {
        let text = shipped();
        let end = text.id("<|endoftext|>").unwrap();
        let word = text.encode("light").unwrap();
        let all = pieces(&text, &word, &[&word[..], &[end, end], &word, &[end]].concat());
        assert_eq!(all.concat(), "light\nlight");
    }
}
