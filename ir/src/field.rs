//! The types that a field of an op can have, each with its four representations. The op table expands to calls of
//! these, so a new op needs no code here and a new field type needs no code elsewhere.

use crate::bytecode::{DecodeError, Reader, varint};
use crate::parse::words::{Args, ParseError};
use crate::print::fields::Operands;
use crate::types::*;

/// A field of an op: how it prints, parses, encodes and decodes, and which values it reads.
pub(crate) trait Field: Sized {
    /// Adds the field to the text of an op.
    fn print(&self, name: &str, out: &mut Operands<'_>);
    /// Takes the field from the text of an op.
    fn parse(name: &str, args: &mut Args<'_, '_>) -> Result<Self, ParseError>;
    /// Appends the field to bytecode.
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes the field from bytecode.
    fn decode(bytes: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Calls `f` with every value that the op reads through this field.
    fn values(&self, _f: &mut dyn FnMut(Value)) {}
    /// Replaces every value that the op reads through this field.
    fn map_values(&mut self, _f: &mut dyn FnMut(Value) -> Value) {}
}

impl Field for Value {
    fn print(&self, _name: &str, out: &mut Operands<'_>) {
        out.value(*self);
    }

    fn parse(_name: &str, args: &mut Args<'_, '_>) -> Result<Value, ParseError> {
        args.bare()?.value()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        varint(out, u64::from(self.0));
    }

    fn decode(bytes: &mut Reader<'_>) -> Result<Value, DecodeError> {
        bytes.u32().map(Value)
    }

    fn values(&self, f: &mut dyn FnMut(Value)) {
        f(*self);
    }

    fn map_values(&mut self, f: &mut dyn FnMut(Value) -> Value) {
        *self = f(*self);
    }
}

/// At least one value: the only field of an op whose number of operands is free.
impl Field for Vec<Value> {
    fn print(&self, _name: &str, out: &mut Operands<'_>) {
        self.iter().for_each(|v| out.value(*v));
    }

    fn parse(_name: &str, args: &mut Args<'_, '_>) -> Result<Vec<Value>, ParseError> {
        let mut values = vec![args.bare()?.value()?];
        while args.more() {
            values.push(args.bare()?.value()?);
        }
        Ok(values)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        varint(out, self.len() as u64);
        self.iter().for_each(|v| v.encode(out));
    }

    fn decode(bytes: &mut Reader<'_>) -> Result<Vec<Value>, DecodeError> {
        bytes.list(Value::decode)
    }

    fn values(&self, f: &mut dyn FnMut(Value)) {
        self.iter().for_each(|v| f(*v));
    }

    fn map_values(&mut self, f: &mut dyn FnMut(Value) -> Value) {
        self.iter_mut().for_each(|v| *v = f(*v));
    }
}

impl Field for TableId {
    fn print(&self, _name: &str, out: &mut Operands<'_>) {
        out.table(*self);
    }

    fn parse(_name: &str, args: &mut Args<'_, '_>) -> Result<TableId, ParseError> {
        args.bare()?.table()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        varint(out, u64::from(self.0));
    }

    fn decode(bytes: &mut Reader<'_>) -> Result<TableId, DecodeError> {
        bytes.u32().map(TableId)
    }
}

/// Identifiers that print as a prefix and a number.
macro_rules! numbered {
    ($($ty:ident = $prefix:literal),*) => { $(
        impl Field for $ty {
            fn print(&self, _name: &str, out: &mut Operands<'_>) {
                out.numbered($prefix, self.0);
            }

            fn parse(_name: &str, args: &mut Args<'_, '_>) -> Result<$ty, ParseError> {
                args.bare()?.numbered($prefix).map($ty)
            }

            fn encode(&self, out: &mut Vec<u8>) {
                varint(out, u64::from(self.0));
            }

            fn decode(bytes: &mut Reader<'_>) -> Result<$ty, DecodeError> {
                bytes.u32().map($ty)
            }
        }
    )* };
}

numbered!(Weight = "w", InputId = "in", PublicId = "p", OutputId = "out", StateId = "s");

/// Fields that print as `name=value`: text, parser, bytecode from and to `u64`.
macro_rules! named {
    ($($ty:ty: $parse:ident, |$this:ident| $encode:expr, $decode:ident;)*) => { $(
        impl Field for $ty {
            fn print(&self, name: &str, out: &mut Operands<'_>) {
                out.named(name, self);
            }

            fn parse(name: &str, args: &mut Args<'_, '_>) -> Result<$ty, ParseError> {
                args.named(name)?.$parse()
            }

            fn encode(&self, out: &mut Vec<u8>) {
                let $this = self;
                varint(out, $encode);
            }

            fn decode(bytes: &mut Reader<'_>) -> Result<$ty, DecodeError> {
                bytes.$decode()
            }
        }
    )* };
}

named! {
    u8: integer, |x| u64::from(*x), u8;
    u32: integer, |x| u64::from(*x), u32;
    i16: integer, |x| u64::from(((x << 1) ^ (x >> 15)) as u16), i16;
    Party: party, |x| x.index() as u64, party;
}

impl Field for bool {
    fn print(&self, name: &str, out: &mut Operands<'_>) {
        if *self {
            out.flag(name);
        }
    }

    fn parse(name: &str, args: &mut Args<'_, '_>) -> Result<bool, ParseError> {
        Ok(args.flag(name))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(bytes: &mut Reader<'_>) -> Result<bool, DecodeError> {
        bytes.bool()
    }
}

impl Field for Vec<u32> {
    fn print(&self, name: &str, out: &mut Operands<'_>) {
        out.named(name, &Shape(self.clone()));
    }

    fn parse(name: &str, args: &mut Args<'_, '_>) -> Result<Vec<u32>, ParseError> {
        args.named(name)?.dimensions()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        varint(out, self.len() as u64);
        self.iter().for_each(|x| varint(out, u64::from(*x)));
    }

    fn decode(bytes: &mut Reader<'_>) -> Result<Vec<u32>, DecodeError> {
        bytes.list(Reader::u32)
    }
}

impl Field for Shape {
    fn print(&self, name: &str, out: &mut Operands<'_>) {
        self.0.print(name, out);
    }

    fn parse(name: &str, args: &mut Args<'_, '_>) -> Result<Shape, ParseError> {
        Vec::parse(name, args).map(Shape)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(bytes: &mut Reader<'_>) -> Result<Shape, DecodeError> {
        Vec::decode(bytes).map(Shape)
    }
}
