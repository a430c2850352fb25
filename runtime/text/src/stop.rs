//! Stop strings: where a text ends before its tokens do.
//!
//! The text ends before the stop string that is complete first, the longest of several that are complete at once: so
//! where it ends does not depend on the pieces that it comes in. An end of the text that may yet grow into a stop string
//! is held back.

use super::GenerateError;

/// Finds the first stop string in a text that comes in pieces.
pub struct StopFinder {
    stops: Vec<String>,
    /// The end of the text so far that begins a stop string.
    held: String,
}

/// What a piece of text brought.
pub struct Found {
    /// Text that is certain.
    pub text: String,
    /// Whether the text ends here, before a stop string.
    pub stopped: bool,
}

impl StopFinder {
    /// For these strings, none of them empty.
    pub fn new(stops: Vec<String>) -> Result<StopFinder, GenerateError> {
        match stops.iter().any(String::is_empty) {
            true => Err(GenerateError::EmptyStop),
            false => Ok(StopFinder { stops, held: String::new() }),
        }
    }

    /// Appends a piece. Not to be called after the text has ended.
    pub fn push(&mut self, piece: &str) -> Found {
        self.held += piece;
        let ends = self.stops.iter().filter_map(|stop| self.held.find(stop).map(|at| (at + stop.len(), at)));
        if let Some((_, at)) = ends.min() {
            self.held.truncate(at);
            return Found { text: std::mem::take(&mut self.held), stopped: true };
        }
        let begins = |at: usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..]));
        let keep = self.held.char_indices().map(|(at, _)| at).find(|&at| begins(at)).unwrap_or(self.held.len());
        let kept = self.held.split_off(keep);
        Found { text: std::mem::replace(&mut self.held, kept), stopped: false }
    }

    /// The text that is held back, since no stop string can come any more.
    pub fn finish(self) -> String {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of pieces, and whether it was stopped.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut finder = StopFinder::new(stops.iter().map(|s| (*s).to_owned()).collect()).unwrap();
        let mut text = String::new();
        for piece in pieces {
            let found = finder.push(piece);
            text += &found.text;
            if found.stopped {
                return (text, true);
            }
        }
        (text + &finder.finish(), false)
    }

    /// All ways to cut a text into pieces.
    fn cuts(text: &str) -> Vec<Vec<&str>> {
        let inner: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
        let cut = |chosen: u32| {
            let mut begin = 0;
            let mut pieces = Vec::new();
            for (_, at) in inner.iter().enumerate().filter(|(i, _)| chosen >> i & 1 == 1) {
                pieces.push(&text[begin..*at]);
                begin = *at;
            }
            pieces.push(&text[begin..]);
            pieces
        };
        (0..1 << inner.len()).map(cut).collect()
    }

    #[test]
    fn the_pieces_do_not_matter() {
        let cases: &[(&[&str], &str, &str, bool)] = &[
            (&["END"], "say END now", "say ", true),
            (&["END"], "say ENENDx", "say EN", true),
            (&["END"], "say EN", "say EN", false),
            (&["aab"], "aaaab", "aa", true),
            (&["b", "abc"], "xabcy", "xa", true),
            (&["abc", "bc"], "xabcy", "x", true),
            (&["愛\n"], "é愛愛\n!", "é愛", true),
            (&["\n\n", "."], "a\nb\n\nc.", "a\nb", true),
            (&[], "anything", "anything", false),
        ];
        for (stops, text, wanted, stopped) in cases {
            for pieces in cuts(text) {
                assert_eq!(run(stops, &pieces), ((*wanted).to_owned(), *stopped), "{stops:?} in {pieces:?}");
            }
        }
    }

    #[test]
    fn only_what_may_stop_is_held() {
        let mut finder = StopFinder::new(vec!["END".to_owned()]).unwrap();
        assert_eq!(finder.push("an E").text, "an ");
        assert_eq!(finder.push("N").text, "");
        assert_eq!(finder.push("O").text, "ENO");
        assert_eq!(finder.push("plain").text, "plain");
    }

    #[test]
    fn an_empty_string_stops_nothing() {
        assert!(matches!(StopFinder::new(vec!["a".into(), String::new()]), Err(GenerateError::EmptyStop)));
    }
}
