//! Parser of the text form; see [`crate::print`].
//!
//! It checks the text alone: that a value's letter fits its declared type and that tables and origins exist by name. Whether
//! the program makes sense is the verifier's business, so that broken programs can be written down.

pub(crate) mod words;

use crate::op::Op;
use crate::program::{Encoding, Input, Instr, NamedTable, Output, Program, Public, State, WeightDecl};
use crate::types::*;
use std::collections::HashMap;
pub use words::ParseError;
use words::{Args, Cursor};

/// Parses one program.
pub fn parse(source: &str) -> Result<Program, ParseError> {
    let mut file = File { words: Cursor::new(source), program: Program::default(), origins: HashMap::new() };
    file.file()?;
    Ok(file.program)
}

/// A program so far, and the rest of its text.
struct File<'a> {
    words: Cursor<'a>,
    program: Program,
    origins: HashMap<String, Origin>,
}

impl File<'_> {
    fn file(&mut self) -> Result<(), ParseError> {
        self.program.scheduled = match self.words.word() {
            "program" => false,
            "schedule" => true,
            word => return self.words.fail(word, "`program` or `schedule`"),
        };
        self.program.name = self.words.at_name()?;
        self.words.expect("{")?;
        while !self.words.eat("}") {
            self.statement()?;
        }
        self.words.skip();
        if !self.words.rest().is_empty() {
            return self.words.fail("", "the end of the text");
        }
        for &(at, letter, value) in &self.words.letters {
            let Some(instr) = self.program.instrs.get(value.index()) else { continue };
            let opened = matches!(instr.ty, Some(Type { kind: Kind::Opened { .. }, .. }));
            if opened != (letter == 'o') {
                let name = if opened { 'o' } else { 'v' };
                return Err(self.words.error(at, format!("`{name}{}`, by the type of its definition", value.0)));
            }
        }
        Ok(())
    }

    fn statement(&mut self) -> Result<(), ParseError> {
        self.words.skip();
        if self.words.rest().starts_with('@') {
            return self.table_statement();
        }
        let start = self.words.place();
        let word = self.words.word();
        let digits = word.find(|c: char| c.is_ascii_digit()).unwrap_or(word.len());
        let (prefix, number) = word.split_at(digits);
        let expect_number = |this: &Self, len: usize| {
            if number.parse() == Ok(len) {
                Ok(())
            } else {
                Err(this.words.error(start, format!("`{prefix}{len}`, the next in order")))
            }
        };
        match prefix {
            "in" => {
                expect_number(self, self.program.inputs.len())?;
                self.words.words(&["=", "input"])?;
                let input = self.input()?;
                self.program.inputs.push(input);
            }
            "p" => {
                expect_number(self, self.program.publics.len())?;
                self.words.words(&["=", "public"])?;
                let name = self.words.string()?;
                self.words.expect("<")?;
                let bound = self.words.integer()?;
                self.program.publics.push(Public { name, bound });
            }
            "w" => {
                expect_number(self, self.program.weights.len())?;
                self.words.words(&["=", "weight"])?;
                let name = self.words.string()?;
                self.words.words(&[":", "server", "<", "."])?;
                let scale = self.words.integer()?;
                self.words.expect(">")?;
                let shape = Shape(self.words.dimensions()?);
                self.program.weights.push(WeightDecl { name, scale, shape });
            }
            "s" if !number.is_empty() => {
                expect_number(self, self.program.states.len())?;
                self.words.words(&["=", "state"])?;
                let name = self.words.string()?;
                self.words.words(&[":", "whole", "<"])?;
                let width = self.words.integer()?;
                self.words.expect(".")?;
                let scale = self.words.integer()?;
                self.words.expect(">")?;
                let row = Shape(self.words.dimensions()?);
                self.program.states.push(State { name, width, scale, row });
            }
            "out" => {
                expect_number(self, self.program.outputs.len())?;
                self.words.words(&["=", "output"])?;
                let (name, shape) = (self.words.string()?, Shape(self.words.dimensions()?));
                self.words.expect("to")?;
                let to = self.words.party()?;
                self.program.outputs.push(Output { name, shape, to });
            }
            "v" | "o" if !number.is_empty() => {
                expect_number(self, self.program.instrs.len())?;
                let index = Value(self.program.instrs.len() as u32);
                self.words.letters.push((start, prefix.as_bytes()[0].into(), index));
                self.words.expect("=")?;
                let at = self.words.skip();
                let mnemonic = self.words.word();
                self.instr(at, mnemonic, true)?;
            }
            "origins" => {
                self.words.expect("[")?;
                for name in self.words.list(Cursor::string)? {
                    let id = Origin(self.program.origins.len() as u32);
                    self.origins.entry(name.clone()).or_insert(id);
                    self.program.origins.push(name);
                }
            }
            _ => self.instr(start, word, false)?,
        }
        Ok(())
    }

    /// The rest of an instruction, after its mnemonic.
    fn instr(&mut self, at: usize, mnemonic: &str, has_result: bool) -> Result<(), ParseError> {
        let mut args = Args::new(&mut self.words);
        let op = Op::parse(mnemonic, &mut args)?;
        args.close()?;
        let Some(op) = op else {
            return Err(self.words.error(at, "an instruction"));
        };
        let ty = if has_result {
            self.words.expect(":")?;
            Some(self.words.ty()?)
        } else {
            None
        };
        let origin = if self.words.eat_word("from") { Some(self.origin()?) } else { None };
        self.program.instrs.push(Instr { op, ty, origin });
        Ok(())
    }

    fn input(&mut self) -> Result<Input, ParseError> {
        let (name, shape) = (self.words.string()?, Shape(self.words.dimensions()?));
        let encoding = match self.words.word() {
            "fixed" => Encoding::Fixed,
            "one_hot" => {
                self.words.expect("(")?;
                let classes = self.words.integer()?;
                self.words.expect(")")?;
                Encoding::OneHot { classes }
            }
            word => return self.words.fail(word, "`fixed` or `one_hot`"),
        };
        self.words.expect(":")?;
        Ok(Input { name, shape, encoding, ty: self.words.ty()? })
    }

    fn table_statement(&mut self) -> Result<(), ParseError> {
        let at = self.words.place();
        let name = self.words.at_name()?;
        let id = TableId(self.program.tables.len() as u32);
        if self.words.tables.insert(name.clone(), id).is_some() {
            return Err(self.words.error(at, "a name that no other table has"));
        }
        self.words.expect("=")?;
        let table = match self.words.word() {
            "series" => Table::Series {
                period_log2: self.words.field("{", "period_log2")?,
                public_scale: self.words.field(",", "public_scale")?,
                dealt_scale: self.words.field(",", "dealt_scale")?,
                c0: self.words.field(",", "c0")?,
                cos: self.words.numbers(&["}", "cos"])?,
                sin: self.words.numbers(&["sin"])?,
            },
            "spline" => Table::Spline {
                scale: self.words.field("{", "scale")?,
                knots: self.words.numbers(&["}", "knots"])?,
                a: self.words.numbers(&["a"])?,
                b: self.words.numbers(&["b"])?,
            },
            "exp" => Table::Exp {
                public_scale: self.words.field("{", "public_scale")?,
                dealt_scale: self.words.field(",", "dealt_scale")?,
                values: self.words.numbers(&["}"])?,
            },
            "cells" => Table::Cells {
                scale: self.words.field("{", "scale")?,
                cell_bits: self.words.field(",", "cell_bits")?,
                a: self.words.numbers(&["}", "a"])?,
                b: self.words.numbers(&["b"])?,
            },
            "thresholds" => Table::Thresholds(self.words.numbers(&[])?),
            "const" => Table::Const {
                scale: self.words.field("{", "scale")?,
                shape: {
                    self.words.words(&[",", "shape", "="])?;
                    Shape(self.words.dimensions()?)
                },
                values: self.words.numbers(&["}"])?,
            },
            "pattern" => Table::Pattern(Pattern {
                columns: self.words.field("{", "columns")?,
                rows: {
                    self.words.words(&["}", "["])?;
                    self.words.list(|c| {
                        let from = c.integer()?;
                        c.words(&[".", "."])?;
                        Ok((from, c.integer()?))
                    })?
                },
            }),
            word => {
                return self.words.fail(word, "`series`, `spline`, `exp`, `cells`, `thresholds`, `const` or `pattern`");
            }
        };
        self.program.tables.push(NamedTable { name, table });
        Ok(())
    }

    fn origin(&mut self) -> Result<Origin, ParseError> {
        self.words.skip();
        if self.words.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return self.words.integer().map(Origin);
        }
        let name = self.words.string()?;
        if let Some(&known) = self.origins.get(&name) {
            return Ok(known);
        }
        let id = Origin(self.program.origins.len() as u32);
        self.origins.insert(name.clone(), id);
        self.program.origins.push(name);
        Ok(id)
    }
}
