//! A program: what two parties run, as a flat list of instructions in static single assignment form.

use crate::op::Op;
use crate::types::*;

/// One instruction. Its result, if it has one, is named by its index (see [`Value`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instr {
    /// What to do.
    pub op: Op,
    /// Declared type of the result; `None` for `round`, `send` and `reveal`. The verifier compares it with the type
    /// that follows from the operands.
    pub ty: Option<Type>,
    /// ONNX node that it comes from.
    pub origin: Option<Origin>,
}

/// How a client's plain input becomes ring elements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// Integers in 0 .. classes, each a row of zeros with a single one (a last dimension of `classes` is added).
    OneHot {
        /// Number of classes.
        classes: u32,
    },
    /// Real numbers, rounded to the scale of the input's type.
    Fixed,
}

/// A client-owned input, named as in the ONNX graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// Name of the ONNX graph input.
    pub name: String,
    /// Shape that the ONNX graph input has, dimensions bound. `OneHot` adds a dimension in `ty`.
    pub shape: Shape,
    /// How it is encoded.
    pub encoding: Encoding,
    /// Type of the shares.
    pub ty: Type,
}

/// A public number that is known when a run starts, for example the position whose logits are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Public {
    /// Its name.
    pub name: String,
    /// It is below this.
    pub bound: u32,
}

/// A server-owned tensor: integers at a scale, stored in the `.ssw` file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WeightDecl {
    /// Name in the `.ssw` file.
    pub name: String,
    /// Fractional bits.
    pub scale: Scale,
    /// Dimensions.
    pub shape: Shape,
}

/// Rows of openings that the steps of a session append to and read; see [`Op::Cache`]. All entries of a module declare
/// the same states in the same order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// Its name, for reports.
    pub name: String,
    /// Bits of the openings, which are whole.
    pub width: Width,
    /// Fractional bits.
    pub scale: Scale,
    /// Dimensions [.., k] of the block that a step appends one or more of.
    pub row: Shape,
}

impl State {
    /// Type of the opening of `rows` rows; none for a block without dimensions.
    pub fn opening(&self, rows: u32) -> Option<Type> {
        let (k, batch) = self.row.0.split_last()?;
        let shape = Shape([batch, &[rows, *k]].concat());
        Some(Type { kind: Kind::Opened { whole: true }, width: self.width, scale: self.scale, shape })
    }
}

/// A value that is revealed at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Name of the ONNX graph output.
    pub name: String,
    /// Shape that the ONNX graph output has; the revealed value has as many elements.
    pub shape: Shape,
    /// Who learns it.
    pub to: Party,
}

/// Name of the output that counts elements outside of their tables: the last one, a whole number for the client. What a
/// spline gives outside of its calibrated ends, or a softmax whose scores exceed the calibrated ones, may be wrong.
pub const OUTSIDE: &str = "outside";

/// A named public table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedTable {
    /// Its name, without `@`.
    pub name: String,
    /// Its content.
    pub table: Table,
}

/// One entry point over a set of weights, sizes bound.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Program {
    /// Its name, for reports.
    pub name: String,
    /// Client-owned inputs.
    pub inputs: Vec<Input>,
    /// Public run-time numbers.
    pub publics: Vec<Public>,
    /// Server-owned tensors.
    pub weights: Vec<WeightDecl>,
    /// What a session keeps from step to step.
    pub states: Vec<State>,
    /// Public tables.
    pub tables: Vec<NamedTable>,
    /// Declared outputs.
    pub outputs: Vec<Output>,
    /// Names of ONNX nodes.
    pub origins: Vec<String>,
    /// The instructions, in the order in which they run.
    pub instrs: Vec<Instr>,
    /// True once `round` and `send` mark when messages leave; before that, no instruction is a `round` or a `send`.
    pub scheduled: bool,
}

impl Program {
    /// The output that counts elements outside of their tables ([`OUTSIDE`]), if the program has one.
    pub fn outside(&self) -> Option<OutputId> {
        let last = self.outputs.last()?;
        let counts = last.name == OUTSIDE && last.to == Party::Client && last.shape.elements() == Some(1);
        counts.then(|| OutputId(self.outputs.len() as u32 - 1))
    }

    /// Fractional bits of an output, if it is revealed.
    pub fn output_scale(&self, id: OutputId) -> Option<Scale> {
        self.instrs.iter().find_map(|instr| match instr.op {
            Op::Reveal { x, output, .. } if output == id => Some(self.ty(x).scale),
            Op::Choose { output, .. } if output == id => Some(0),
            _ => None,
        })
    }

    /// Type of a value. Panics if `value` names an instruction without a result: callers hold verified programs.
    pub fn ty(&self, value: Value) -> &Type {
        self.instrs[value.index()].ty.as_ref().expect("a value names an instruction with a result")
    }

    /// A table.
    pub fn table(&self, id: TableId) -> &Table {
        &self.tables[id.index()].table
    }
}
