//! Parser of the text form; see [`crate::print`]. Blank space, line breaks and comments (`;` to the end of the line)
//! separate words and mean nothing else.
//!
//! It checks the text alone: that a value's letter fits its declared type and that tables and origins exist by name. Whether
//! the program makes sense is the verifier's business, so that broken programs can be written down.

use crate::op::Op;
use crate::print::is_name_char;
use crate::program::{Encoding, Input, Instr, NamedTable, Output, Program, Public, State, WeightDecl};
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

/// Parses one program.
pub fn parse(source: &str) -> Result<Program, ParseError> {
    let mut c = Cursor {
        source,
        at: 0,
        program: Program::default(),
        tables: HashMap::new(),
        origins: HashMap::new(),
        letters: Vec::new(),
    };
    c.file()?;
    Ok(c.program)
}

/// A place in the text, and the program so far.
pub(crate) struct Cursor<'a> {
    source: &'a str,
    at: usize,
    program: Program,
    tables: HashMap<String, TableId>,
    origins: HashMap<String, Origin>,
    /// Place, letter and value of every mention of a value.
    letters: Vec<(usize, char, Value)>,
}

impl<'a> Cursor<'a> {
    fn file(&mut self) -> Result<(), ParseError> {
        self.program.scheduled = match self.word() {
            "program" => false,
            "schedule" => true,
            word => return self.fail(word, "`program` or `schedule`"),
        };
        self.program.name = self.at_name()?;
        self.expect("{")?;
        while !self.eat("}") {
            self.statement()?;
        }
        self.skip();
        if self.at < self.source.len() {
            return self.fail("", "the end of the text");
        }
        for &(at, letter, value) in &self.letters {
            let Some(instr) = self.program.instrs.get(value.index()) else { continue };
            let opened = matches!(instr.ty, Some(Type { kind: Kind::Opened { .. }, .. }));
            if opened != (letter == 'o') {
                let name = if opened { 'o' } else { 'v' };
                return Err(self.error(at, format!("`{name}{}`, by the type of its definition", value.0)));
            }
        }
        Ok(())
    }

    fn statement(&mut self) -> Result<(), ParseError> {
        self.skip();
        if self.rest().starts_with('@') {
            return self.table_statement();
        }
        let start = self.at;
        let word = self.word();
        let digits = word.find(|c: char| c.is_ascii_digit()).unwrap_or(word.len());
        let (prefix, number) = word.split_at(digits);
        let expect_number = |this: &Self, len: usize| {
            if number.parse() == Ok(len) {
                Ok(())
            } else {
                Err(this.error(start, format!("`{prefix}{len}`, the next in order")))
            }
        };
        match prefix {
            "in" => {
                expect_number(self, self.program.inputs.len())?;
                self.words(&["=", "input"])?;
                let input = self.input()?;
                self.program.inputs.push(input);
            }
            "p" => {
                expect_number(self, self.program.publics.len())?;
                self.words(&["=", "public"])?;
                let name = self.string()?;
                self.expect("<")?;
                let bound = self.integer()?;
                self.program.publics.push(Public { name, bound });
            }
            "w" => {
                expect_number(self, self.program.weights.len())?;
                self.words(&["=", "weight"])?;
                let name = self.string()?;
                self.words(&[":", "server", "<", "."])?;
                let scale = self.integer()?;
                self.expect(">")?;
                let shape = Shape(self.dimensions()?);
                self.program.weights.push(WeightDecl { name, scale, shape });
            }
            "s" if !number.is_empty() => {
                expect_number(self, self.program.states.len())?;
                self.words(&["=", "state"])?;
                let name = self.string()?;
                self.words(&[":", "whole", "<"])?;
                let width = self.integer()?;
                self.expect(".")?;
                let scale = self.integer()?;
                self.expect(">")?;
                let row = Shape(self.dimensions()?);
                self.program.states.push(State { name, width, scale, row });
            }
            "out" => {
                expect_number(self, self.program.outputs.len())?;
                self.words(&["=", "output"])?;
                let (name, shape) = (self.string()?, Shape(self.dimensions()?));
                self.expect("to")?;
                let to = self.party()?;
                self.program.outputs.push(Output { name, shape, to });
            }
            "v" | "o" if !number.is_empty() => {
                expect_number(self, self.program.instrs.len())?;
                let index = Value(self.program.instrs.len() as u32);
                self.letters.push((start, prefix.as_bytes()[0].into(), index));
                self.expect("=")?;
                let at = self.skip();
                let mnemonic = self.word();
                self.instr(at, mnemonic, true)?;
            }
            "origins" => {
                self.expect("[")?;
                self.list(|c| {
                    let name = c.string()?;
                    let id = Origin(c.program.origins.len() as u32);
                    c.origins.entry(name.clone()).or_insert(id);
                    c.program.origins.push(name);
                    Ok(())
                })?;
            }
            _ => self.instr(start, word, false)?,
        }
        Ok(())
    }

    /// The rest of an instruction, after its mnemonic.
    fn instr(&mut self, at: usize, mnemonic: &str, has_result: bool) -> Result<(), ParseError> {
        let mut args = Args { cursor: self, any_bare: false, open: false };
        let Some(op) = Op::parse(mnemonic, &mut args)? else {
            return Err(self.error(at, "an instruction"));
        };
        if args.open {
            self.expect("}")?;
        }
        let ty = if has_result {
            self.expect(":")?;
            Some(self.ty()?)
        } else {
            None
        };
        let origin = if self.eat_word("from") { Some(self.origin()?) } else { None };
        self.program.instrs.push(Instr { op, ty, origin });
        Ok(())
    }

    fn input(&mut self) -> Result<Input, ParseError> {
        let (name, shape) = (self.string()?, Shape(self.dimensions()?));
        let encoding = match self.word() {
            "fixed" => Encoding::Fixed,
            "one_hot" => {
                self.expect("(")?;
                let classes = self.integer()?;
                self.expect(")")?;
                Encoding::OneHot { classes }
            }
            word => return self.fail(word, "`fixed` or `one_hot`"),
        };
        self.expect(":")?;
        Ok(Input { name, shape, encoding, ty: self.ty()? })
    }

    fn table_statement(&mut self) -> Result<(), ParseError> {
        let at = self.at;
        let name = self.at_name()?;
        let id = TableId(self.program.tables.len() as u32);
        if self.tables.insert(name.clone(), id).is_some() {
            return Err(self.error(at, "a name that no other table has"));
        }
        self.expect("=")?;
        let table = match self.word() {
            "series" => Table::Series {
                period_log2: self.field("{", "period_log2")?,
                public_scale: self.field(",", "public_scale")?,
                dealt_scale: self.field(",", "dealt_scale")?,
                c0: self.field(",", "c0")?,
                cos: self.numbers(&["}", "cos"])?,
                sin: self.numbers(&["sin"])?,
            },
            "spline" => Table::Spline {
                scale: self.field("{", "scale")?,
                knots: self.numbers(&["}", "knots"])?,
                a: self.numbers(&["a"])?,
                b: self.numbers(&["b"])?,
            },
            "exp" => Table::Exp {
                public_scale: self.field("{", "public_scale")?,
                dealt_scale: self.field(",", "dealt_scale")?,
                values: self.numbers(&["}"])?,
            },
            "cells" => Table::Cells {
                scale: self.field("{", "scale")?,
                cell_bits: self.field(",", "cell_bits")?,
                a: self.numbers(&["}", "a"])?,
                b: self.numbers(&["b"])?,
            },
            "thresholds" => Table::Thresholds(self.numbers(&[])?),
            "const" => Table::Const {
                scale: self.field("{", "scale")?,
                shape: {
                    self.words(&[",", "shape", "="])?;
                    Shape(self.dimensions()?)
                },
                values: self.numbers(&["}"])?,
            },
            "pattern" => Table::Pattern(Pattern {
                columns: self.field("{", "columns")?,
                rows: {
                    self.words(&["}", "["])?;
                    self.list(|c| {
                        let from = c.integer()?;
                        c.words(&[".", "."])?;
                        Ok((from, c.integer()?))
                    })?
                },
            }),
            word => return self.fail(word, "`series`, `spline`, `exp`, `cells`, `thresholds`, `const` or `pattern`"),
        };
        self.program.tables.push(NamedTable { name, table });
        Ok(())
    }

    fn field<T: FromStr>(&mut self, open: &str, name: &str) -> Result<T, ParseError> {
        self.words(&[open, name, "="])?;
        self.integer()
    }

    fn numbers(&mut self, before: &[&str]) -> Result<Vec<i64>, ParseError> {
        self.words(before)?;
        self.expect("[")?;
        self.list(Self::integer)
    }

    /// Elements after an opening bracket, up to the closing one.
    fn list<T>(&mut self, mut element: impl FnMut(&mut Self) -> Result<T, ParseError>) -> Result<Vec<T>, ParseError> {
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

    fn ty(&mut self) -> Result<Type, ParseError> {
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

    pub(crate) fn value(&mut self) -> Result<Value, ParseError> {
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

    pub(crate) fn table(&mut self) -> Result<TableId, ParseError> {
        let at = self.skip();
        if let Some(number) = self.rest().strip_prefix('@').filter(|r| r.starts_with(|c: char| c.is_ascii_digit())) {
            self.at = self.source.len() - number.len();
            return self.integer().map(TableId);
        }
        let name = self.at_name()?;
        self.tables.get(&name).copied().ok_or_else(|| self.error(at, "a table that is declared above"))
    }

    pub(crate) fn numbered(&mut self, prefix: &str) -> Result<u32, ParseError> {
        let at = self.skip();
        let number = self.word().strip_prefix(prefix).and_then(|n| n.parse().ok());
        number.ok_or_else(|| self.error(at, format!("`{prefix}` and a number")))
    }

    fn origin(&mut self) -> Result<Origin, ParseError> {
        self.skip();
        if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return self.integer().map(Origin);
        }
        let name = self.string()?;
        if let Some(&known) = self.origins.get(&name) {
            return Ok(known);
        }
        let id = Origin(self.program.origins.len() as u32);
        self.origins.insert(name.clone(), id);
        self.program.origins.push(name);
        Ok(id)
    }

    pub(crate) fn dimensions(&mut self) -> Result<Vec<u32>, ParseError> {
        self.expect("[")?;
        self.list(Self::integer)
    }

    pub(crate) fn party(&mut self) -> Result<Party, ParseError> {
        match self.word() {
            "client" => Ok(Party::Client),
            "server" => Ok(Party::Server),
            word => self.fail(word, "`client` or `server`"),
        }
    }

    pub(crate) fn integer<T: FromStr>(&mut self) -> Result<T, ParseError> {
        let at = self.skip();
        let rest = self.rest();
        let sign = usize::from(rest.starts_with('-'));
        let digits = rest[sign..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - sign);
        self.at += sign + digits;
        rest[..sign + digits].parse().map_err(|_| self.error(at, format!("a number ({})", std::any::type_name::<T>())))
    }

    fn at_name(&mut self) -> Result<String, ParseError> {
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

    fn string(&mut self) -> Result<String, ParseError> {
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

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Skips blank space and comments; the place after them.
    fn skip(&mut self) -> usize {
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
    fn word(&mut self) -> &'a str {
        self.skip();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn eat(&mut self, text: &str) -> bool {
        self.skip();
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let at = self.skip();
        let found = self.word() == word;
        if !found {
            self.at = at;
        }
        found
    }

    /// A word or a sign.
    fn expect(&mut self, text: &str) -> Result<(), ParseError> {
        let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic());
        if if is_word { self.eat_word(text) } else { self.eat(text) } {
            Ok(())
        } else {
            self.fail("", format!("`{text}`"))
        }
    }

    fn words(&mut self, texts: &[&str]) -> Result<(), ParseError> {
        texts.iter().try_for_each(|text| self.expect(text))
    }

    /// An error at the word that was just taken.
    fn fail<T>(&self, word: &str, expected: impl Into<String>) -> Result<T, ParseError> {
        Err(self.error(self.at - word.len(), expected))
    }

    fn error(&self, at: usize, expected: impl Into<String>) -> ParseError {
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

impl<'a> Args<'_, 'a> {
    /// The cursor, at a bare field.
    pub(crate) fn bare(&mut self) -> Result<&mut Cursor<'a>, ParseError> {
        if self.any_bare {
            self.cursor.expect(",")?;
        }
        self.any_bare = true;
        Ok(self.cursor)
    }

    /// Whether another bare field follows.
    pub(crate) fn more(&mut self) -> bool {
        self.cursor.skip();
        self.cursor.rest().starts_with(',')
    }

    /// The cursor, at the value of a named field.
    pub(crate) fn named(&mut self, name: &str) -> Result<&mut Cursor<'a>, ParseError> {
        let separator = self.separator();
        self.cursor.words(&[separator, name, "="])?;
        self.open = true;
        Ok(self.cursor)
    }

    /// Whether the flag `name` is set.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
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
