//! The protocol buffer inside a `.ssb` file, and its translation from and to [`Program`].

use super::decode::{DecodeError, Reader};
use super::encode::varint;
use crate::infer::infer;
use crate::op::Op;
use crate::program::{Encoding, Input, Instr, NamedTable, Output, Program, Public, State, WeightDecl};
use crate::types::*;
use prost::{Message, Oneof};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Content {
    #[prost(btree_map = "string, string", tag = "1")]
    pub metadata: BTreeMap<String, String>,
    #[prost(bytes = "vec", tag = "2")]
    pub commitment: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    pub entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "2")]
    scheduled: bool,
    #[prost(message, repeated, tag = "3")]
    inputs: Vec<InputEntry>,
    #[prost(message, repeated, tag = "4")]
    publics: Vec<PublicEntry>,
    #[prost(message, repeated, tag = "5")]
    weights: Vec<WeightEntry>,
    #[prost(message, repeated, tag = "6")]
    tables: Vec<TableEntry>,
    #[prost(message, repeated, tag = "7")]
    outputs: Vec<OutputEntry>,
    #[prost(string, repeated, tag = "8")]
    origins: Vec<String>,
    /// Op, then 0 or one more than the origin, instruction by instruction.
    #[prost(bytes = "vec", tag = "9")]
    instructions: Vec<u8>,
    #[prost(message, repeated, tag = "10")]
    states: Vec<StateEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct InputEntry {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, repeated, tag = "2")]
    shape: Vec<u32>,
    /// Absent for `Encoding::Fixed`.
    #[prost(uint32, optional, tag = "3")]
    classes: Option<u32>,
    #[prost(uint32, tag = "4")]
    width: u32,
    #[prost(sint32, tag = "5")]
    scale: i32,
    #[prost(uint32, repeated, tag = "6")]
    share_shape: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct PublicEntry {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    bound: u32,
}

#[derive(Clone, PartialEq, Message)]
struct WeightEntry {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(sint32, tag = "2")]
    scale: i32,
    #[prost(uint32, repeated, tag = "3")]
    shape: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct StateEntry {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    width: u32,
    #[prost(sint32, tag = "3")]
    scale: i32,
    #[prost(uint32, repeated, tag = "4")]
    row: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct OutputEntry {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, repeated, tag = "2")]
    shape: Vec<u32>,
    #[prost(bool, tag = "3")]
    to_server: bool,
}

#[derive(Clone, PartialEq, Message)]
struct TableEntry {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(oneof = "TableKind", tags = "2, 3, 4, 5, 6, 7, 8")]
    table: Option<TableKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum TableKind {
    #[prost(message, tag = "2")]
    Series(SeriesEntry),
    #[prost(message, tag = "3")]
    Spline(SplineEntry),
    #[prost(message, tag = "4")]
    Thresholds(ThresholdsEntry),
    #[prost(message, tag = "5")]
    Const(ConstEntry),
    #[prost(message, tag = "6")]
    Pattern(PatternEntry),
    #[prost(message, tag = "7")]
    Exp(ExpEntry),
    #[prost(message, tag = "8")]
    Cells(CellsEntry),
}

#[derive(Clone, PartialEq, Message)]
struct SeriesEntry {
    #[prost(sint32, tag = "1")]
    period_log2: i32,
    #[prost(uint32, tag = "2")]
    public_scale: u32,
    #[prost(uint32, tag = "3")]
    dealt_scale: u32,
    #[prost(sint64, tag = "4")]
    c0: i64,
    #[prost(sint64, repeated, tag = "5")]
    cos: Vec<i64>,
    #[prost(sint64, repeated, tag = "6")]
    sin: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct SplineEntry {
    #[prost(sint32, tag = "1")]
    scale: i32,
    #[prost(sint64, repeated, tag = "2")]
    knots: Vec<i64>,
    #[prost(sint64, repeated, tag = "3")]
    a: Vec<i64>,
    #[prost(sint64, repeated, tag = "4")]
    b: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct ExpEntry {
    #[prost(uint32, tag = "1")]
    public_scale: u32,
    #[prost(uint32, tag = "2")]
    dealt_scale: u32,
    #[prost(sint64, repeated, tag = "3")]
    values: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct CellsEntry {
    #[prost(sint32, tag = "1")]
    scale: i32,
    #[prost(uint32, tag = "2")]
    cell_bits: u32,
    #[prost(sint64, repeated, tag = "3")]
    a: Vec<i64>,
    #[prost(sint64, repeated, tag = "4")]
    b: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct ThresholdsEntry {
    #[prost(sint64, repeated, tag = "1")]
    values: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct ConstEntry {
    #[prost(sint32, tag = "1")]
    scale: i32,
    #[prost(uint32, repeated, tag = "2")]
    shape: Vec<u32>,
    #[prost(sint64, repeated, tag = "3")]
    values: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct PatternEntry {
    #[prost(uint32, tag = "1")]
    columns: u32,
    #[prost(uint32, repeated, tag = "2")]
    from: Vec<u32>,
    #[prost(uint32, repeated, tag = "3")]
    to: Vec<u32>,
}

impl Entry {
    pub(super) fn of(p: &Program) -> Entry {
        let mut instructions = Vec::new();
        for instr in &p.instrs {
            instr.op.encode(&mut instructions);
            varint(&mut instructions, instr.origin.map_or(0, |o| u64::from(o.0) + 1));
        }
        Entry {
            name: p.name.clone(),
            scheduled: p.scheduled,
            inputs: p.inputs.iter().map(InputEntry::of).collect(),
            publics: p.publics.iter().map(|p| PublicEntry { name: p.name.clone(), bound: p.bound }).collect(),
            weights: p
                .weights
                .iter()
                .map(|w| WeightEntry { name: w.name.clone(), scale: w.scale.into(), shape: w.shape.0.clone() })
                .collect(),
            tables: p.tables.iter().map(TableEntry::of).collect(),
            outputs: p
                .outputs
                .iter()
                .map(|o| OutputEntry {
                    name: o.name.clone(),
                    shape: o.shape.0.clone(),
                    to_server: o.to == Party::Server,
                })
                .collect(),
            origins: p.origins.clone(),
            instructions,
            states: p.states.iter().map(StateEntry::of).collect(),
        }
    }

    pub(super) fn program(self) -> Result<Program, DecodeError> {
        let mut program = Program {
            name: self.name,
            inputs: self.inputs.into_iter().map(InputEntry::input).collect::<Result<_, _>>()?,
            publics: self.publics.into_iter().map(|p| Public { name: p.name, bound: p.bound }).collect(),
            weights: self
                .weights
                .into_iter()
                .map(|w| Ok(WeightDecl { name: w.name, scale: small(w.scale)?, shape: Shape(w.shape) }))
                .collect::<Result<_, DecodeError>>()?,
            states: self.states.into_iter().map(StateEntry::state).collect::<Result<_, _>>()?,
            tables: self.tables.into_iter().map(TableEntry::table).collect::<Result<_, _>>()?,
            outputs: self
                .outputs
                .into_iter()
                .map(|o| Output {
                    name: o.name,
                    shape: Shape(o.shape),
                    to: if o.to_server { Party::Server } else { Party::Client },
                })
                .collect(),
            origins: self.origins,
            instrs: Vec::new(),
            scheduled: self.scheduled,
        };
        let mut bytes = Reader::new(&self.instructions);
        while !bytes.is_empty() {
            let op = Op::decode(&mut bytes)?;
            let origin = bytes.u32()?.checked_sub(1).map(Origin);
            let mut instr = Instr { op, ty: None, origin };
            match infer(&program, &instr.op) {
                Ok(ty) => instr.ty = ty,
                Err(fault) => {
                    let fault = fault.at(&program, program.instrs.len(), &instr);
                    return Err(DecodeError::Instruction { entry: program.name, fault: Box::new(fault) });
                }
            }
            program.instrs.push(instr);
        }
        Ok(program)
    }
}

impl InputEntry {
    fn of(input: &Input) -> InputEntry {
        InputEntry {
            name: input.name.clone(),
            shape: input.shape.0.clone(),
            classes: match input.encoding {
                Encoding::OneHot { classes } => Some(classes),
                Encoding::Fixed => None,
            },
            width: input.ty.width.into(),
            scale: input.ty.scale.into(),
            share_shape: input.ty.shape.0.clone(),
        }
    }

    fn input(self) -> Result<Input, DecodeError> {
        Ok(Input {
            name: self.name,
            shape: Shape(self.shape),
            encoding: self.classes.map_or(Encoding::Fixed, |classes| Encoding::OneHot { classes }),
            ty: Type {
                kind: Kind::Share,
                width: small(self.width)?,
                scale: small(self.scale)?,
                shape: Shape(self.share_shape),
            },
        })
    }
}

impl StateEntry {
    fn of(s: &State) -> StateEntry {
        StateEntry { name: s.name.clone(), width: s.width.into(), scale: s.scale.into(), row: s.row.0.clone() }
    }

    fn state(self) -> Result<State, DecodeError> {
        Ok(State { name: self.name, width: small(self.width)?, scale: small(self.scale)?, row: Shape(self.row) })
    }
}

impl TableEntry {
    fn of(t: &NamedTable) -> TableEntry {
        let table = match t.table.clone() {
            Table::Series { period_log2, public_scale, dealt_scale, c0, cos, sin } => TableKind::Series(SeriesEntry {
                period_log2: period_log2.into(),
                public_scale: public_scale.into(),
                dealt_scale: dealt_scale.into(),
                c0,
                cos,
                sin,
            }),
            Table::Spline { scale, knots, a, b } => TableKind::Spline(SplineEntry { scale: scale.into(), knots, a, b }),
            Table::Exp { public_scale, dealt_scale, values } => {
                TableKind::Exp(ExpEntry { public_scale: public_scale.into(), dealt_scale: dealt_scale.into(), values })
            }
            Table::Cells { scale, cell_bits, a, b } => {
                TableKind::Cells(CellsEntry { scale: scale.into(), cell_bits: cell_bits.into(), a, b })
            }
            Table::Thresholds(values) => TableKind::Thresholds(ThresholdsEntry { values }),
            Table::Const { scale, shape, values } => {
                TableKind::Const(ConstEntry { scale: scale.into(), shape: shape.0, values })
            }
            Table::Pattern(Pattern { columns, rows }) => {
                let (from, to) = rows.into_iter().unzip();
                TableKind::Pattern(PatternEntry { columns, from, to })
            }
        };
        TableEntry { name: t.name.clone(), table: Some(table) }
    }

    fn table(self) -> Result<NamedTable, DecodeError> {
        let table = match self.table.ok_or(DecodeError::Malformed("a table of no known kind"))? {
            TableKind::Series(s) => Table::Series {
                period_log2: small(s.period_log2)?,
                public_scale: small(s.public_scale)?,
                dealt_scale: small(s.dealt_scale)?,
                c0: s.c0,
                cos: s.cos,
                sin: s.sin,
            },
            TableKind::Spline(s) => Table::Spline { scale: small(s.scale)?, knots: s.knots, a: s.a, b: s.b },
            TableKind::Exp(e) => Table::Exp {
                public_scale: small(e.public_scale)?,
                dealt_scale: small(e.dealt_scale)?,
                values: e.values,
            },
            TableKind::Cells(c) => {
                Table::Cells { scale: small(c.scale)?, cell_bits: small(c.cell_bits)?, a: c.a, b: c.b }
            }
            TableKind::Thresholds(t) => Table::Thresholds(t.values),
            TableKind::Const(c) => Table::Const { scale: small(c.scale)?, shape: Shape(c.shape), values: c.values },
            TableKind::Pattern(p) => {
                if p.from.len() != p.to.len() {
                    return Err(DecodeError::Malformed("a pattern's lists differ in length"));
                }
                Table::Pattern(Pattern { columns: p.columns, rows: p.from.into_iter().zip(p.to).collect() })
            }
        };
        Ok(NamedTable { name: self.name, table })
    }
}

/// A number that the program keeps in fewer bits than the protocol buffer.
fn small<T, U: TryFrom<T>>(x: T) -> Result<U, DecodeError> {
    U::try_from(x).map_err(|_| DecodeError::Malformed("a number is out of its range"))
}
