//! The text form (`.ssir`): what [`crate::parse()`] reads back. `parse(print(p)) == p`.
//!
//! One line per instruction, with the declared type and the ONNX node. Text after `;` is derived, for readers, and not
//! parsed: rounds and bytes of messages, sizes of tables. Any program prints, also one that the verifier refuses.

pub(crate) mod fields;

use crate::choose::{Choosing, MAX_OPENING, ONE_WAY};
use crate::digits::MASKED;
use crate::op::Op;
use crate::program::{Encoding, Instr, NamedTable, Program};
use crate::types::*;
use crate::wire::packed_bytes;
use fields::{Operands, name, quoted, value_name};
use std::fmt::{Display, Write};

/// Column of the type of an instruction.
const TYPE_COLUMN: usize = 44;

/// Greatest length of a line of numbers.
const LIST_COLUMNS: usize = 116;

/// The text of a whole program.
pub fn program(p: &Program) -> String {
    let mut out = String::new();
    let stage = if p.scheduled { "schedule" } else { "program" };
    line(&mut out, format_args!("{stage} {} {{", name(&p.name)));
    for (i, input) in p.inputs.iter().enumerate() {
        let encoding = match input.encoding {
            Encoding::OneHot { classes } => format!("one_hot({classes})"),
            Encoding::Fixed => "fixed".to_owned(),
        };
        line(
            &mut out,
            format_args!("  in{i} = input {} {} {encoding} : {}", quoted(&input.name), input.shape, input.ty),
        );
    }
    for (i, public) in p.publics.iter().enumerate() {
        line(&mut out, format_args!("  p{i} = public {} < {}", quoted(&public.name), public.bound));
    }
    for (i, w) in p.weights.iter().enumerate() {
        line(&mut out, format_args!("  w{i} = weight {} : server<.{}>{}", quoted(&w.name), w.scale, w.shape));
    }
    for (i, s) in p.states.iter().enumerate() {
        line(&mut out, format_args!("  s{i} = state {} : whole<{}.{}>{}", quoted(&s.name), s.width, s.scale, s.row));
    }
    p.tables.iter().for_each(|t| table(&mut out, t));
    for (i, output) in p.outputs.iter().enumerate() {
        line(&mut out, format_args!("  out{i} = output {} {} to {}", quoted(&output.name), output.shape, output.to));
    }
    if !p.origins.is_empty() && !origins_follow(p) {
        out.push_str("  origins [");
        wrapped(&mut out, p.origins.iter().map(|o| quoted(o)));
        out.push('\n');
    }
    out.push('\n');
    let messages = messages(p);
    for (i, ins) in p.instrs.iter().enumerate() {
        let text = instr(p, i, ins);
        match comment(p, ins, messages[i]) {
            Some(comment) => line(&mut out, format_args!("  {text} ; {comment}")),
            None => line(&mut out, format_args!("  {text}")),
        }
    }
    out.push_str("}\n");
    out
}

/// The text of the instruction that is or would be number `index`, without derived comments.
pub fn instr(p: &Program, index: usize, instr: &Instr) -> String {
    let mut out = String::new();
    if let Some(ty) = &instr.ty {
        let _ = write!(out, "{} = ", value_name(Some(ty), index as u32));
    }
    out.push_str(&op(p, &instr.op));
    if let Some(ty) = &instr.ty {
        let _ = write!(out, "{:1$} : {ty}", "", TYPE_COLUMN.saturating_sub(out.chars().count()));
    }
    if let Some(origin) = instr.origin {
        match p.origins.get(origin.index()) {
            Some(name) => drop(write!(out, " from {}", quoted(name))),
            None => drop(write!(out, " from {}", origin.0)),
        }
    }
    out
}

/// The text of an op.
pub fn op(p: &Program, op: &Op) -> String {
    let mut operands = Operands::new(p);
    op.print(&mut operands);
    operands.text(op.mnemonic())
}

/// A number of bytes for people: three significant digits or so, powers of ten.
pub fn bytes(n: u64) -> String {
    let scaled = |unit: u64| {
        let tenths = n / (unit / 10);
        if tenths < 100 { format!("{}.{}", tenths / 10, tenths % 10) } else { format!("{}", tenths / 10) }
    };
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{} KB", scaled(1_000)),
        1_000_000..1_000_000_000 => format!("{} MB", scaled(1_000_000)),
        _ => format!("{} GB", scaled(1_000_000_000)),
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

fn table(out: &mut String, t: &NamedTable) {
    let _ = write!(out, "  {} = ", name(&t.name));
    match &t.table {
        Table::Series { period_log2, public_scale, dealt_scale, c0, cos, sin } => {
            let _ = write!(
                out,
                "series {{period_log2={period_log2}, public_scale={public_scale}, dealt_scale={dealt_scale}, c0={c0}}} cos ["
            );
            wrapped(out, cos);
            out.push_str(" sin [");
            wrapped(out, sin);
        }
        Table::Spline { scale, knots, a, b } => {
            let _ = write!(out, "spline {{scale={scale}}} knots [");
            wrapped(out, knots);
            out.push_str(" a [");
            wrapped(out, a);
            out.push_str(" b [");
            wrapped(out, b);
        }
        Table::Exp { public_scale, dealt_scale, values } => {
            let _ = write!(out, "exp {{public_scale={public_scale}, dealt_scale={dealt_scale}}} [");
            wrapped(out, values);
        }
        Table::Cells { scale, cell_bits, a, b } => {
            let _ = write!(out, "cells {{scale={scale}, cell_bits={cell_bits}}} a [");
            wrapped(out, a);
            out.push_str(" b [");
            wrapped(out, b);
        }
        Table::Thresholds(values) => {
            out.push_str("thresholds [");
            wrapped(out, values);
        }
        Table::Const { scale, shape, values } => {
            let _ = write!(out, "const {{scale={scale}, shape={shape}}} [");
            wrapped(out, values);
        }
        Table::Pattern(pattern) => {
            let _ = write!(out, "pattern {{columns={}}} [", pattern.columns);
            wrapped(out, pattern.rows.iter().map(|(from, to)| format!("{from}..{to}")));
        }
    }
    out.push('\n');
}

/// The elements of a list and its closing bracket. A list that does not fit the line goes on over lines of its own.
fn wrapped<T: Display>(out: &mut String, items: impl IntoIterator<Item = T>) {
    let mut column = out.len() - out.rfind('\n').map_or(0, |at| at + 1);
    for (i, item) in items.into_iter().enumerate() {
        let text = item.to_string();
        let separator = if i == 0 { "" } else { ", " };
        if column + separator.len() + text.len() + 1 > LIST_COLUMNS {
            out.push_str(separator.trim_end());
            out.push_str("\n    ");
            column = 4;
        } else {
            out.push_str(separator);
            column += separator.len();
        }
        column += text.len();
        out.push_str(&text);
    }
    out.push(']');
}

/// Whether the list of origins is just the names in the order of their first mention.
fn origins_follow(p: &Program) -> bool {
    let mut next = 0;
    for origin in p.instrs.iter().filter_map(|i| i.origin) {
        match origin.index() {
            i if i == next => next += 1,
            i if i > next => return false,
            _ => {}
        }
    }
    next == p.origins.len()
}

/// A message of a scheduled program, counted from 1 among those of its kind.
#[derive(Clone, Copy)]
enum Message {
    Round(u32),
    OneWay(u32),
}

/// For every instruction the message that it belongs to: that of the next `round` or `send`, or its own.
fn messages(p: &Program) -> Vec<Option<Message>> {
    let (mut rounds, mut one_way) = (0, 0);
    let mut messages = vec![None; p.instrs.len()];
    let mut pending = Vec::new();
    for (i, instr) in p.instrs.iter().enumerate() {
        let message = match instr.op {
            ref op if op.exchanges() || matches!(op, Op::Linear { .. }) => {
                pending.push(i);
                continue;
            }
            Op::Round {} => {
                rounds += 1;
                Message::Round(rounds)
            }
            Op::Choose { x, .. } => {
                if let Some(choosing) = choosing(p, x) {
                    rounds += choosing.rounds() as u32;
                    one_way += ONE_WAY as u32;
                }
                continue;
            }
            Op::Send {} | Op::Reveal { .. } => {
                one_way += 1;
                Message::OneWay(one_way)
            }
            _ => continue,
        };
        messages[i] = Some(message);
        if !matches!(instr.op, Op::Reveal { .. }) {
            pending.drain(..).for_each(|p| messages[p] = Some(message));
        }
    }
    messages
}

/// The sizes of a `choose`; none for a program that does not verify.
fn choosing(p: &Program, x: Value) -> Option<Choosing> {
    let ty = p.instrs.get(x.index())?.ty.as_ref()?;
    let elements = ty.shape.elements().filter(|n| (1..=crate::infer::MAX_CHOSEN).contains(n))?;
    (3..=MAX_OPENING).contains(&ty.width).then(|| Choosing::new(elements, ty.width))
}

/// What the text says after `;`.
fn comment(p: &Program, instr: &Instr, message: Option<Message>) -> Option<String> {
    let when = match message {
        Some(Message::Round(n)) => format!("round {n}"),
        Some(Message::OneWay(n)) => format!("one-way {n}"),
        None => String::new(),
    };
    let packed = |v: &Value, width: Option<Width>| {
        let ty = p.instrs.get(v.index())?.ty.as_ref()?;
        let elements = ty.shape.elements().filter(|n| *n <= crate::infer::MAX_ELEMENTS)?;
        Some(bytes(packed_bytes(elements, u64::from(width.unwrap_or(ty.width)))))
    };
    let sized = |size: Option<String>| match (&when[..], size) {
        ("", size) => size,
        (when, Some(size)) => Some(format!("{when}, {size}")),
        (when, None) => Some(when.to_owned()),
    };
    let table = |id: &TableId| p.tables.get(id.index()).map(|t| &t.table);
    match &instr.op {
        Op::Open { x, width, .. } | Op::Exp { x, width, .. } => sized(packed(x, Some(*width))),
        Op::Extend { x, .. } | Op::Bit { x, .. } => sized(packed(x, Some(1))),
        Op::Compare { .. } => {
            let elements = instr.ty.as_ref().and_then(|ty| ty.shape.elements());
            let elements = elements.filter(|n| *n <= crate::infer::MAX_ELEMENTS);
            sized(elements.map(|n| bytes(packed_bytes(n, MASKED.into()))))
        }
        Op::Cells { x, width, .. } => {
            let size = p.instrs.get(x.index()).and_then(|instr| instr.ty.as_ref()?.shape.elements());
            let size = size.filter(|n| *n <= crate::infer::MAX_ELEMENTS);
            sized(size.map(|n| bytes(2 * packed_bytes(n, u64::from(*width)))))
        }
        Op::Linear { x, .. } | Op::Reveal { x, .. } => sized(packed(x, None)),
        Op::Round {} | Op::Send {} => Some(when),
        Op::Choose { x, .. } => {
            let choosing = choosing(p, *x)?;
            let sent = choosing.messages().iter().map(|message| message.client + message.server).sum();
            Some(format!("{} rounds, {ONE_WAY} one-way, {}", choosing.rounds(), bytes(sent)))
        }
        Op::Spline { table: id, .. } => match table(id)? {
            Table::Spline { knots, .. } => Some(format!("{} knots", knots.len())),
            _ => None,
        },
        Op::Series { table: id, .. } => match table(id)? {
            Table::Series { cos, .. } => Some(format!("{} terms", cos.len())),
            _ => None,
        },
        _ => None,
    }
}
