//! What the client can compute and send before it knows its input.
//!
//! Its share of a `linear` is A·(W - B) + C0 and comes from its seed alone ([`Op::Linear`]). So does all that local steps
//! make of such shares, and so does its half x0 + r0 of an opening of them. Neither inputs, nor the run-time publics that say
//! which elements count, nor what is read from openings, are known ahead; the index of a row is. What is sent is the same bytes as later, under the same masks.

use crate::op::Op;
use crate::program::Program;
use crate::types::*;

/// For every instruction of a program.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ahead {
    /// The client's share of the result is known.
    pub known: Vec<bool>,
    /// The client's part of the message is known: an `open` or a `linear` of a value whose share is.
    pub sent: Vec<bool>,
    /// The share is known, and an instruction that must wait for the input reads it.
    pub kept: Vec<bool>,
    /// Values whose share nothing needs ahead once this instruction is done ahead.
    pub frees: Vec<Vec<Value>>,
}

/// The analysis of a verified program.
pub fn ahead(program: &Program) -> Ahead {
    let count = program.instrs.len();
    let mut ahead =
        Ahead { known: vec![false; count], sent: vec![false; count], kept: vec![false; count], frees: vec![] };
    ahead.frees.resize(count, Vec::new());
    // The last instruction that needs the share ahead: at first the one that makes it.
    let mut last: Vec<usize> = (0..count).collect();
    for (i, instr) in program.instrs.iter().enumerate() {
        let operands = instr.op.operands().all(|v| ahead.known[v.index()]);
        (ahead.known[i], ahead.sent[i]) = match instr.op {
            Op::Linear { .. } => (true, operands),
            Op::Open { .. } => (false, operands),
            Op::Narrow { .. }
            | Op::Down { .. }
            | Op::Up { .. }
            | Op::Point { .. }
            | Op::Add { .. }
            | Op::Sub { .. }
            | Op::AddPublic { .. }
            | Op::MulPublic { .. }
            | Op::AddWeight { .. }
            | Op::AddRow { .. }
            | Op::AddBand { .. }
            | Op::MulRow { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Concat { .. }
            | Op::Sum { .. }
            | Op::RowSum { .. }
            | Op::Spread { .. }
            | Op::Expand { .. } => (operands, false),
            _ => (false, false),
        };
        let done = match instr.op {
            Op::Linear { .. } => ahead.sent[i],
            _ => ahead.known[i] || ahead.sent[i],
        };
        for v in instr.op.operands().filter(|v| ahead.known[v.index()]) {
            if done {
                last[v.index()] = i;
            } else {
                ahead.kept[v.index()] = true;
            }
        }
    }
    for (value, last) in last.into_iter().enumerate() {
        if ahead.known[value] && !ahead.kept[value] {
            ahead.frees[last].push(Value(value as u32));
        }
    }
    ahead
}
