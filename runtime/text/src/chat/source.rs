//! A template's source, rewritten where jinja2 understands it otherwise than minijinja.
//!
//! * The tags `generation`, which mark the assistant's words for training, are a scope and nothing else.
//! * The list of a loop passes through a filter, so that what has no items is an error.
//! * A text with `%` after it is formatted.
//! * Line ends are `\n`.
//!
//! Nothing is parsed: tags are cut into words, and what looks otherwise than expected stays as it is.

use super::python::{FORMAT, ITERATE};

/// The source for minijinja.
pub(super) fn rewritten(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let (mut out, mut rest) = (String::with_capacity(source.len()), source.as_str());
    let mut raw = false;
    while let Some(at) = rest.find('{') {
        let (before, tag) = rest.split_at(at);
        out += before;
        let (open, close) = match tag.as_bytes().get(1) {
            Some(b'#') if !raw => ("{#", "#}"),
            Some(b'%') => ("{%", "%}"),
            Some(b'{') if !raw => ("{{", "}}"),
            _ => ("{", ""),
        };
        let end = match open {
            "{" => Some(1),
            "{#" => tag.find(close).map(|end| end + 2),
            _ => end_of(&tag[2..], close).map(|end| end + 4),
        };
        let Some(end) = end else { break };
        let (whole, after) = tag.split_at(end);
        match open {
            "{%" | "{{" => {
                let inner = &whole[2..whole.len() - 2];
                let name = inner.trim_matches(|c: char| matches!(c, '-' | '+') || c.is_whitespace());
                raw = open == "{%" && if raw { name != "endraw" } else { name == "raw" };
                out.extend([open, &tag_of(inner, name, open == "{%"), close]);
            }
            _ => out += whole,
        }
        rest = after;
    }
    out + rest
}

/// Where a tag ends, before its closing sign: not within a text.
fn end_of(tag: &str, close: &str) -> Option<usize> {
    let mut at = 0;
    while at < tag.len() {
        if tag[at..].starts_with(close) {
            return Some(at);
        }
        at += word(&tag[at..]).len();
    }
    None
}

/// The first word: a text in quotes, a name or number, spaces, or a sign. Not empty unless the text is.
fn word(text: &str) -> &str {
    let Some(first) = text.chars().next() else { return text };
    let run = |of: fn(char) -> bool| text.find(|c| !of(c)).unwrap_or(text.len());
    let end = match first {
        '\'' | '"' => {
            let mut escaped = false;
            let closes = |(_, c): &(usize, char)| {
                let ends = *c == first && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            };
            text.char_indices().skip(1).find(closes).map_or(text.len(), |(at, _)| at + 1)
        }
        c if c.is_whitespace() => run(char::is_whitespace),
        c if c.is_alphanumeric() || c == '_' => run(|c| c.is_alphanumeric() || c == '_'),
        c => c.len_utf8(),
    };
    &text[..end]
}

/// The inside of a tag as minijinja is to read it.
fn tag_of(inner: &str, name: &str, statement: bool) -> String {
    match name {
        "generation" if statement => return inner.replace(name, "with"),
        "endgeneration" if statement => return inner.replace(name, "endwith"),
        _ => {}
    }
    let mut words: Vec<&str> = Vec::new();
    let mut rest = inner;
    while !rest.is_empty() {
        let next = word(rest);
        words.push(next);
        rest = &rest[next.len()..];
    }
    let loops = statement && name.starts_with("for") && name[3..].starts_with(|c: char| c.is_whitespace() || c == '(');
    let words: Vec<String> = formatted(&words);
    if loops { looped(words) } else { words.concat() }
}

fn blank(word: &str) -> bool {
    word.starts_with(char::is_whitespace)
}

/// How deep a word leads into brackets.
fn depth(word: &str) -> i32 {
    match word {
        "(" | "[" | "{" => 1,
        ")" | "]" | "}" => -1,
        _ => 0,
    }
}

/// `for NAMES in LIST if ...` with its list through the filter.
fn looped(words: Vec<String>) -> String {
    let mut nested = 0;
    let (mut begin, mut end) = (None, words.len());
    for (at, word) in words.iter().enumerate() {
        nested += depth(word);
        match (word.as_str(), begin) {
            ("in", None) if nested == 0 => begin = Some(at + 1),
            ("if" | "recursive", Some(_)) if nested == 0 => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let Some(begin) = begin else { return words.concat() };
    // A sign at the tag's end belongs to the tag.
    let signed = |word: &String| blank(word) || word == "-" || word == "+";
    while end > begin && signed(&words[end - 1]) {
        end -= 1;
    }
    let [head, list, tail] = [&words[..begin], &words[begin..end], &words[end..]].map(<[String]>::concat);
    format!("{head} ({}) | {ITERATE}{tail}", list.trim())
}

/// `'text' % operand` as a filter of the text.
fn formatted(words: &[&str]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let next = |from: usize| (from..words.len()).find(|&i| !blank(words[i]));
        let found = words[at].starts_with(['\'', '"']).then(|| next(at + 1).filter(|&i| words[i] == "%")).flatten();
        let operand = found.and_then(|sign| next(sign + 1)).and_then(|begin| Some((begin, operand(words, begin)?)));
        match operand {
            Some((begin, end)) => {
                let inner = formatted(&words[begin..end]).concat();
                out.push(format!("({} | {FORMAT}({inner}))", words[at]));
                at = end;
            }
            None => {
                out.push(words[at].to_owned());
                at += 1;
            }
        }
    }
    out
}

/// Where an operand ends that begins here: a name, a text, a number or brackets, with what follows them closely.
fn operand(words: &[&str], begin: usize) -> Option<usize> {
    let closing = |from: usize| {
        let mut nested = 0;
        (from..words.len()).find(|&i| {
            nested += depth(words[i]);
            nested == 0
        })
    };
    let first = words[begin];
    let mut end = match first {
        "(" | "[" | "{" => closing(begin)? + 1,
        word if word.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '\'' | '"')) => begin + 1,
        _ => return None,
    };
    while let Some(word) = words.get(end) {
        end = match *word {
            "." => end + 2,
            "(" | "[" => closing(end)? + 1,
            _ => break,
        };
    }
    (end <= words.len()).then_some(end)
}
