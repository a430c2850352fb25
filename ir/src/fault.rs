//! What is wrong with a program: which rule, where, why, and a way out.

use crate::print;
use crate::types::Value;
use crate::{Instr, Program};
use std::fmt;

/// The rule that a [`Fault`] breaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Code {
    /// An identifier points at nothing.
    Undefined,
    /// Something happens in the wrong order: a use before its definition or before its message arrives.
    Order,
    /// A name is empty or used twice.
    Name,
    /// A share where an opening is needed, or an opening of the wrong kind.
    Kind,
    /// A ring width out of range or unequal to another.
    Width,
    /// A scale out of range or unequal to another.
    Scale,
    /// A shape that does not fit.
    Shape,
    /// A declared type differs from the one that follows from the operands.
    Declared,
    /// A public table that makes no sense, alone or where it is used.
    Table,
    /// A weight that is read in a way that would reuse its mask or show it.
    Weight,
    /// A state that an entry appends to twice, or that two entries declare differently.
    State,
    /// A value is revealed that must not be, or not to that party, or not at all.
    Policy,
    /// A resource beyond what the caller accepts.
    Limit,
}

/// One broken rule. `Display` gives what, where and a way out; it never holds a secret, since a program has none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Fault {
    /// The rule.
    pub code: Code,
    /// What is wrong, with the numbers.
    pub message: String,
    /// A way out, if one is known.
    pub help: Option<String>,
    /// Index of the instruction.
    pub value: Option<Value>,
    /// The instruction as it prints.
    pub line: Option<String>,
    /// The ONNX node that it comes from.
    pub origin: Option<String>,
}

impl Fault {
    /// A fault without a place.
    pub fn new(code: Code, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into(), help: None, value: None, line: None, origin: None }
    }

    /// Adds a way out.
    pub fn help(mut self, help: impl Into<String>) -> Fault {
        self.help = Some(help.into());
        self
    }

    /// Adds the place: the instruction that is or would be number `index` of `program`.
    pub fn at(mut self, program: &Program, index: usize, instr: &Instr) -> Fault {
        self.value = Some(Value(index as u32));
        self.line = Some(print::instr(program, index, instr));
        self.origin = instr.origin.and_then(|o| program.origins.get(o.index()).cloned());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(origin) = &self.origin {
            write!(f, "\n  node {origin:?}")?;
        }
        if let Some(line) = &self.line {
            write!(f, "\n  {line}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  try: {help}")?;
        }
        Ok(())
    }
}
