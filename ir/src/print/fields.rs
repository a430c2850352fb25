//! Fields of an op and names in the text form.

use crate::program::Program;
use crate::types::*;
use std::fmt::{Display, Write};

/// Collects the fields of an op; see [`crate::field::Field`].
pub(crate) struct Operands<'a> {
    program: &'a Program,
    bare: String,
    named: String,
}

impl<'a> Operands<'a> {
    /// Of an op of `program`.
    pub fn new(program: &'a Program) -> Operands<'a> {
        Operands { program, bare: String::new(), named: String::new() }
    }

    /// The op's text: its name, bare fields, named ones.
    pub fn text(&self, mnemonic: &str) -> String {
        let mut out = format!("{mnemonic}{}", self.bare);
        if !self.named.is_empty() {
            let _ = write!(out, " {{{}}}", self.named);
        }
        out
    }

    fn bare(&mut self, text: impl Display) {
        let separator = if self.bare.is_empty() { " " } else { ", " };
        let _ = write!(self.bare, "{separator}{text}");
    }

    pub fn value(&mut self, v: Value) {
        let ty = self.program.instrs.get(v.index()).and_then(|i| i.ty.as_ref());
        self.bare(value_name(ty, v.0));
    }

    pub fn table(&mut self, id: TableId) {
        match self.program.tables.get(id.index()) {
            Some(table) => self.bare(name(&table.name)),
            None => self.bare(format_args!("@{}", id.0)),
        }
    }

    pub fn numbered(&mut self, prefix: &str, number: u32) {
        self.bare(format_args!("{prefix}{number}"));
    }

    pub fn named(&mut self, name: &str, value: &impl Display) {
        self.flag(name);
        let _ = write!(self.named, "={value}");
    }

    pub fn flag(&mut self, name: &str) {
        let separator = if self.named.is_empty() { "" } else { ", " };
        let _ = write!(self.named, "{separator}{name}");
    }
}

pub fn value_name(ty: Option<&Type>, index: u32) -> String {
    let letter = if ty.is_some_and(|t| matches!(t.kind, Kind::Opened { .. })) { 'o' } else { 'v' };
    format!("{letter}{index}")
}

/// `@name`, quoted where the bare name would not parse back.
pub fn name(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(is_name_char);
    if plain { format!("@{name}") } else { format!("@{}", quoted(name)) }
}

/// Characters of a name that needs no quotes.
pub fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

/// A string in quotes; control characters are escaped, so that a name cannot forge a line.
pub fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() || is_bidi(c) => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Line separators and marks that reorder text.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
