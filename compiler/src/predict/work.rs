//! What the time of an instruction grows with, by op.
//!
//! | op | unit |
//! | --- | --- |
//! | `linear` at the server, `sddmm`, `spmm` | multiply-adds |
//! | `series` | elements · terms |
//! | `spline`, `ge` | walks down a comparison key, one a knot or threshold · its levels |
//! | `round`, `send`, `reveal` | bytes of the message, both ways |
//! | all others | elements of the operands and the result |
//!
//! What the client does ahead of its input is no work: local steps whose share it knows, products whose message it sent.

use ir::ahead::ahead;
use ir::cost;
use ir::dcf::Layout;
use ir::{Op, Program, Table, Value};

/// Units of work of an instruction, by party.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Work {
    /// The client's.
    pub client: f64,
    /// The server's.
    pub server: f64,
}

/// The work of every instruction of a verified program.
pub fn work(program: &Program) -> Vec<Work> {
    let mut message = 0;
    let costs = cost::per_instruction(program).per_instruction;
    let ahead = ahead(program);
    let mut all = Vec::with_capacity(costs.len());
    for (index, (instr, cost)) in program.instrs.iter().zip(costs).enumerate() {
        message += cost.client_payload_bytes + cost.server_payload_bytes;
        let elements = |v: Value| program.ty(v).shape.elements().expect("verified: a size") as f64;
        let own = instr.ty.as_ref().map_or(0.0, |ty| ty.shape.elements().expect("verified: a size") as f64);
        let walks = |x: Value, components| {
            let width = instr.ty.as_ref().expect("verified: a result").width;
            own * f64::from(Layout::new(program.ty(x).width - 1, components, width).levels)
        };
        let both = |units| Work { client: units, server: units };
        let mut work = match &instr.op {
            Op::Linear { x, .. } => Work { client: elements(*x), server: cost.macs as f64 },
            Op::Sddmm { .. } | Op::Spmm { .. } => both(cost.macs as f64),
            Op::Series { table, .. } => {
                let Table::Series { cos, .. } = program.table(*table) else { unreachable!("verified: a series") };
                both(own * cos.len() as f64)
            }
            Op::Spline { x, table, .. } => {
                let Table::Spline { knots, .. } = program.table(*table) else { unreachable!("verified: a spline") };
                both(walks(*x, 3) * knots.len() as f64)
            }
            Op::Ge { x, .. } => both(walks(*x, 1)),
            Op::Round {} | Op::Send {} | Op::Reveal { .. } => both(std::mem::take(&mut message) as f64),
            op => both(own + op.operands().map(elements).sum::<f64>()),
        };
        let done_ahead = match instr.op {
            Op::Linear { .. } => ahead.sent[index],
            _ => ahead.known[index],
        };
        if done_ahead {
            work.client = 0.0;
        }
        all.push(work);
    }
    all
}
