//! Words of the text form: names, numbers, types, and the fields of an op. Blank space, line breaks and comments (`;` to the end of the
//! line) separate words and mean nothing else.

use crate::print::fields::is_name_char;
use crate::types::*;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// Text that is not a program: where, what was expected, and the line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct ParseError {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What was expected there.
    pub expected: String,
    /// The line's text.
    pub text: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = self.column - 1;
        write!(f, "{}:{}: expected {}\n  {}\n  {:indent$}^", self.line, self.column, self.expected, self.text, "")
    }
}

/// A place in the text, and the names that it has met.
pub(crate) struct Cursor<'a> {
    source: &'a str,
    at: usize,
    /// Tables by name.
    pub tables: HashMap<String, TableId>,
    /// Place, letter and value of every mention of a value.
    pub letters: Vec<(usize, char, Value)>,
}

impl<'a> Cursor<'a> {
    /// At the beginning of a text.
    pub fn new(source: &'a str) -> Cursor<'a> {
        Cursor { source, at: 0, tables: HashMap::new(), letters: Vec::new() }
    }

    /// Where it stands, as [`Self::error`] takes it.
    pub fn place(&self) -> usize {
        self.at
    }

    /// Elements after an opening bracket, up to the closing one.
    pub fn list<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut list = Vec::new();
        if self.eat("]") {
            return Ok(list);
        }
        loop {
            list.push(element(self)?);
            if self.eat("]") {
                return Ok(list);
            }
            if !self.eat(",") {
                return self.fail("", "`,` or `]`");
            }
        }
    }

    pub fn value(&mut self) -> Result<Value, ParseError> {
        let at = self.skip();
        let word = self.word();
        match (word.get(..1), word.get(1..).map(str::parse)) {
            (Some(letter @ ("v" | "o")), Some(Ok(number))) => {
                self.letters.push((at, letter.as_bytes()[0].into(), Value(number)));
                Ok(Value(number))
            }
            _ => Err(self.error(at, "a value")),
        }
    }

    pub fn table(&mut self) -> Result<TableId, ParseError> {
        let at = self.skip();
        if let Some(number) = self.rest().strip_prefix('@').filter(|r| r.starts_with(|c: char| c.is_ascii_digit())) {
            self.at = self.source.len() - number.len();
            return self.integer().map(TableId);
        }
        let name = self.at_name()?;
        self.tables.get(&name).copied().ok_or_else(|| self.error(at, "a table that is declared above"))
    }

    pub fn numbered(&mut self, prefix: &str) -> Result<u32, ParseError> {
        let at = self.skip();
        let number = self.word().strip_prefix(prefix).and_then(|n| n.parse().ok());
        number.ok_or_else(|| self.error(at, format!("`{prefix}` and a number")))
    }

    pub fn dimensions(&mut self) -> Result<Vec<u32>, ParseError> {
        self.expect("[")?;
        self.list(Self::integer)
    }

    pub fn party(&mut self) -> Result<Party, ParseError> {
        match self.word() {
            "client" => Ok(Party::Client),
            "server" => Ok(Party::Server),
            word => self.fail(word, "`client` or `server`"),
        }
    }

    pub fn integer<T: FromStr>(&mut self) -> Result<T, ParseError> {
        let at = self.skip();
        let rest = self.rest();
        let sign = usize::from(rest.starts_with('-'));
        let digits = rest[sign..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - sign);
        self.at += sign + digits;
        rest[..sign + digits].parse().map_err(|_| self.error(at, format!("a number ({})", std::any::type_name::<T>())))
    }

    pub fn numbers(&mut self, before: &[&str]) -> Result<Vec<i64>, ParseError> {
        self.words(before)?;
        self.expect("[")?;
        self.list(Self::integer)
    }

    pub fn field<T: FromStr>(&mut self, open: &str, name: &str) -> Result<T, ParseError> {
        self.words(&[open, name, "="])?;
        self.integer()
    }

    pub fn at_name(&mut self) -> Result<String, ParseError> {
        self.expect("@")?;
        let rest = self.rest();
        if rest.starts_with('"') {
            return self.string();
        }
        let end = rest.find(|c| !is_name_char(c)).unwrap_or(rest.len());
        if end == 0 {
            return self.fail("", "a name");
        }
        self.at += end;
        Ok(rest[..end].to_owned())
    }

    pub fn string(&mut self) -> Result<String, ParseError> {
        let start = self.skip();
        if !self.eat("\"") {
            return self.fail("", "a string in quotes");
        }
        let mut out = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((_, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = self.source.len() - chars.as_str().len();
                    return Ok(out);
                }
                '\n' => break,
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some(c @ ('"' | '\\')) => out.push(c),
                    Some('u') => {
                        let code = chars.as_str().strip_prefix('{').and_then(|s| s.split_once('}'));
                        let c = code.and_then(|(hex, _)| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
                        let (Some((_, rest)), Some(c)) = (code, c) else {
                            return Err(self.error(start, "a string with escapes \\n \\\" \\\\ \\u{hex}"));
                        };
                        out.push(c);
                        chars = rest.char_indices();
                    }
                    _ => return Err(self.error(start, "a string with escapes \\n \\\" \\\\ \\u{hex}")),
                },
                c => out.push(c),
            }
        }
        Err(self.error(start, "a string that ends on its line"))
    }

    pub fn ty(&mut self) -> Result<Type, ParseError> {
        let kind = match self.word() {
            "share" => Kind::Share,
            "opened" => Kind::Opened { whole: false },
            "whole" => Kind::Opened { whole: true },
            word => return self.fail(word, "`share`, `opened` or `whole`"),
        };
        self.expect("<")?;
        let width = self.integer()?;
        self.expect(".")?;
        let scale = self.integer()?;
        self.expect(">")?;
        Ok(Type { kind, width, scale, shape: Shape(self.dimensions()?) })
    }

    pub fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Skips blank space and comments; the place after them.
    pub fn skip(&mut self) -> usize {
        loop {
            let rest = self.rest().trim_start();
            self.at = self.source.len() - rest.len();
            if !rest.starts_with(';') {
                return self.at;
            }
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    /// The next word of letters, digits and underscores, possibly empty.
    pub fn word(&mut self) -> &'a str {
        self.skip();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    pub fn eat(&mut self, text: &str) -> bool {
        self.skip();
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    pub fn eat_word(&mut self, word: &str) -> bool {
        let at = self.skip();
        let found = self.word() == word;
        if !found {
            self.at = at;
        }
        found
    }

    /// A word or a sign.
    pub fn expect(&mut self, text: &str) -> Result<(), ParseError> {
        let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic());
        if if is_word { self.eat_word(text) } else { self.eat(text) } {
            Ok(())
        } else {
            self.fail("", format!("`{text}`"))
        }
    }

    pub fn words(&mut self, texts: &[&str]) -> Result<(), ParseError> {
        texts.iter().try_for_each(|text| self.expect(text))
    }

    /// An error at the word that was just taken.
    pub fn fail<T>(&self, word: &str, expected: impl Into<String>) -> Result<T, ParseError> {
        Err(self.error(self.at - word.len(), expected))
    }

    pub fn error(&self, at: usize, expected: impl Into<String>) -> ParseError {
        let before = &self.source[..at];
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
            expected: expected.into(),
            text: self.source[start..].lines().next().unwrap_or_default().to_owned(),
        }
    }
}

/// The fields of an op, in the order of its row: bare ones, then named ones in braces.
pub(crate) struct Args<'c, 'a> {
    cursor: &'c mut Cursor<'a>,
    any_bare: bool,
    open: bool,
}

impl<'c, 'a> Args<'c, 'a> {
    /// After the mnemonic.
    pub fn new(cursor: &'c mut Cursor<'a>) -> Args<'c, 'a> {
        Args { cursor, any_bare: false, open: false }
    }

    /// After the last field.
    pub fn close(self) -> Result<(), ParseError> {
        if self.open { self.cursor.expect("}") } else { Ok(()) }
    }

    /// The cursor, at a bare field.
    pub fn bare(&mut self) -> Result<&mut Cursor<'a>, ParseError> {
        if self.any_bare {
            self.cursor.expect(",")?;
        }
        self.any_bare = true;
        Ok(self.cursor)
    }

    /// Whether another bare field follows.
    pub fn more(&mut self) -> bool {
        self.cursor.skip();
        self.cursor.rest().starts_with(',')
    }

    /// The cursor, at the value of a named field.
    pub fn named(&mut self, name: &str) -> Result<&mut Cursor<'a>, ParseError> {
        let separator = self.separator();
        self.cursor.words(&[separator, name, "="])?;
        self.open = true;
        Ok(self.cursor)
    }

    /// Whether the flag `name` is set.
    pub fn flag(&mut self, name: &str) -> bool {
        let at = self.cursor.at;
        let separator = self.separator();
        let set = self.cursor.eat(separator) && self.cursor.eat_word(name);
        if set {
            self.open = true;
        } else {
            self.cursor.at = at;
        }
        set
    }

    fn separator(&self) -> &'static str {
        if self.open { "," } else { "{" }
    }
}
