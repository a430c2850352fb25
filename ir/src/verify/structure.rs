//! Identifiers point at something, definitions precede uses, and messages arrive before they are read.
//!
//! What both parties send for, such as an `open`, completes at the next `round`, a `linear` at the next `round` or `send`; until then nothing reads them. A
//! mask cannot be reused, since every `open` makes its own; but a weight's mask belongs to the weight, so at most one
//! `linear` reads a weight, and no weight is read both under its mask and by `add_weight` or `add_row`. A state is
//! appended to once at most.

use super::{report, unique};
use crate::fault::{Code, Fault};
use crate::infer::size;
use crate::op::Op;
use crate::program::{Encoding, Program};
use crate::types::*;

/// Most instructions of a program.
pub const MAX_INSTRUCTIONS: usize = 1 << 20;

pub(super) fn check(program: &Program, faults: &mut Vec<Fault>) {
    if program.instrs.len() > MAX_INSTRUCTIONS {
        faults.push(Fault::new(
            Code::Limit,
            format!("{} instructions, at most {MAX_INSTRUCTIONS}", program.instrs.len()),
        ));
    }
    declarations(program, faults);
    definitions(program, faults);
    if program.scheduled {
        messages(program, faults);
    } else {
        no_messages(program, faults);
    }
    weights(program, faults);
    states(program, faults);
}

fn declarations(program: &Program, faults: &mut Vec<Fault>) {
    unique(faults, "program", std::iter::once(&program.name[..]));
    unique(faults, "input", program.inputs.iter().map(|i| &i.name[..]));
    unique(faults, "public", program.publics.iter().map(|p| &p.name[..]));
    unique(faults, "weight", program.weights.iter().map(|w| &w.name[..]));
    unique(faults, "state", program.states.iter().map(|s| &s.name[..]));
    unique(faults, "table", program.tables.iter().map(|t| &t.name[..]));
    unique(faults, "output", program.outputs.iter().map(|o| &o.name[..]));
    unique(faults, "origin", program.origins.iter().map(|o| &o[..]));

    let mut shape = |what: &str, name: &str, shape: &Shape| {
        if let Err(fault) = size(shape) {
            faults.push(Fault { message: format!("{what} {name:?}: {}", fault.message), ..fault });
        }
    };
    program.inputs.iter().for_each(|i| shape("input", &i.name, &i.shape));
    program.weights.iter().for_each(|w| shape("weight", &w.name, &w.shape));
    program.outputs.iter().for_each(|o| shape("output", &o.name, &o.shape));
    program.states.iter().for_each(|s| shape("state", &s.name, &s.row));
    for input in &program.inputs {
        let (scale, shape) = match input.encoding {
            Encoding::Fixed => (input.ty.scale, input.shape.clone()),
            Encoding::OneHot { classes } => (0, Shape([&input.shape.0[..], &[classes]].concat())),
        };
        if (scale, &shape) != (input.ty.scale, &input.ty.shape) {
            let message = format!(
                "input {:?} is encoded with shape {shape} and scale {scale}, its type is {}",
                input.name, input.ty
            );
            faults.push(Fault::new(Code::Shape, message));
        }
    }
    for public in program.publics.iter().filter(|p| p.bound == 0) {
        faults.push(Fault::new(Code::Shape, format!("public {:?} has no value below 0", public.name)));
    }
}

fn definitions(program: &Program, faults: &mut Vec<Fault>) {
    for (i, instr) in program.instrs.iter().enumerate() {
        for v in instr.op.operands().filter(|v| v.index() >= i) {
            let message = if v.index() < program.instrs.len() {
                format!("value {} is used before its definition", v.0)
            } else {
                format!("there is no value {}", v.0)
            };
            report(faults, program, i, Fault::new(Code::Order, message));
        }
        if let Some(origin) = instr.origin.filter(|o| o.index() >= program.origins.len()) {
            report(faults, program, i, Fault::new(Code::Undefined, format!("there is no origin {}", origin.0)));
        }
    }
}

/// A program that is not scheduled has no messages yet.
fn no_messages(program: &Program, faults: &mut Vec<Fault>) {
    for (i, instr) in program.instrs.iter().enumerate() {
        if matches!(instr.op, Op::Round {} | Op::Send {}) {
            let message = format!("`{}` in a program that is not scheduled", instr.op.mnemonic());
            report(faults, program, i, Fault::new(Code::Order, message));
        }
    }
}

fn messages(program: &Program, faults: &mut Vec<Fault>) {
    // The next `round` completes openings, the next `round` or `send` completes products.
    let mut waits = vec![false; program.instrs.len()];
    let (mut openings, mut products) = (Vec::new(), Vec::new());
    for (i, instr) in program.instrs.iter().enumerate() {
        for v in instr.op.operands().filter(|v| v.index() < i && waits[v.index()]) {
            let message = match program.instrs[v.index()].op {
                ref op if op.exchanges() => {
                    format!("{} {} is read before the `round` that completes it", exchanged(op), v.0)
                }
                _ => format!("product {} is read before the `round` or `send` that completes it", v.0),
            };
            report(faults, program, i, Fault::new(Code::Order, message));
        }
        match instr.op {
            Op::Linear { .. } => {
                waits[i] = true;
                products.push(i);
            }
            ref op if op.exchanges() => {
                waits[i] = true;
                openings.push(i);
            }
            Op::Round {} => {
                if openings.is_empty() {
                    report(faults, program, i, Fault::new(Code::Order, "`round` without an opening to exchange"));
                }
                openings.drain(..).chain(products.drain(..)).for_each(|p: usize| waits[p] = false);
            }
            Op::Send {} => {
                if !openings.is_empty() {
                    let fault = Fault::new(Code::Order, "`send` while openings wait");
                    report(faults, program, i, fault.help("`round` takes the products along"));
                } else if products.is_empty() {
                    report(faults, program, i, Fault::new(Code::Order, "`send` without a product to send"));
                }
                products.drain(..).for_each(|p| waits[p] = false);
            }
            _ => {}
        }
    }
    for p in openings.into_iter().chain(products) {
        report(faults, program, p, Fault::new(Code::Order, "no message completes this before the program ends"));
    }
}

/// What an instruction of both parties gives.
fn exchanged(op: &Op) -> &'static str {
    if matches!(op, Op::Open { .. }) { "opening" } else { "value" }
}

fn weights(program: &Program, faults: &mut Vec<Fault>) {
    // The first reader of each kind.
    let mut masked: Vec<Option<usize>> = vec![None; program.weights.len()];
    let mut added = masked.clone();
    for (i, instr) in program.instrs.iter().enumerate() {
        let (weight, is_product) = match instr.op {
            Op::Linear { weight, .. } => (weight.index(), true),
            Op::AddWeight { weight, .. } | Op::AddRow { weight, .. } | Op::AddBand { weight, .. } => {
                (weight.index(), false)
            }
            _ => continue,
        };
        // An undefined weight is a fault of types.
        let Some(decl) = program.weights.get(weight) else { continue };
        let other = if is_product { masked[weight].or(added[weight]) } else { masked[weight] };
        if let Some(other) = other {
            let message =
                format!("weight {:?} is also read by instruction {other}: its mask serves one `linear`", decl.name);
            let fault = Fault::new(Code::Weight, message).help("declare a second weight of equal content");
            report(faults, program, i, fault);
        }
        let first = if is_product { &mut masked } else { &mut added };
        first[weight].get_or_insert(i);
    }
}

/// How many rows a state has follows from the entries that have run alone, so an entry appends to it once.
fn states(program: &Program, faults: &mut Vec<Fault>) {
    let mut first: Vec<Option<usize>> = vec![None; program.states.len()];
    for (i, instr) in program.instrs.iter().enumerate() {
        let Op::Cache { state, .. } = instr.op else { continue };
        // An undefined state is a fault of types.
        let Some(declared) = program.states.get(state.index()) else { continue };
        if let Some(first) = first[state.index()].replace(i) {
            let message = format!("instruction {first} appends to state {:?} already", declared.name);
            report(faults, program, i, Fault::new(Code::State, message).help("declare a state for each `cache`"));
        }
    }
}
