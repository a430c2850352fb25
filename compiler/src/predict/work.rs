//! What the time of an instruction grows with, by op.
//!
//! | op | unit |
//! | --- | --- |
//! | `linear` at the server, `sddmm`, `spmm` | multiply-adds of 16-bit numbers, some for one of the ring |
//! | `series` | elements · terms |
//! | `exp`, `cells` | elements · cells |
//! | `spline`, `ge`, `select` | walks down a comparison key, one a knot or threshold · its levels |
//! | `choose` | numbers and comparisons |
//! | `round`, `send`, `reveal` | bytes of the message, both ways |
//! | all others | elements of the operands and the result |
//!
//! What the client does ahead of its input is no work: local steps whose share it knows, products whose message it sent.

use ir::ahead::ahead;
use ir::cost;
use ir::dcf::{Comparison, Layout};
use ir::material::choosing;
use ir::{Op, Program, Table, Value, Width};

/// Units of work of an instruction, by party.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Work {
    /// The client's.
    pub client: f64,
    /// The server's.
    pub server: f64,
}

/// Products of 16-bit numbers that the kernels take for one of a ring, about: see the runtime's `ring::matmul`.
fn products(width: Width) -> f64 {
    match width {
        0..=16 => 1.0,
        17..=32 => 2.0,
        33..=40 => 3.0,
        41..=52 => 4.0,
        _ => 6.0,
    }
}

/// The work of every instruction of a verified program.
pub fn work(program: &Program) -> Vec<Work> {
    let mut message = 0;
    let costs = cost::per_instruction(program).per_instruction;
    let ahead = ahead(program);
    let mut all = Vec::with_capacity(costs.len());
    for (index, (instr, cost)) in program.instrs.iter().zip(costs).enumerate() {
        if !matches!(instr.op, Op::Choose { .. }) {
            message += cost.client_payload_bytes + cost.server_payload_bytes;
        }
        let elements = |v: Value| program.ty(v).shape.elements().expect("verified: a size") as f64;
        let own = instr.ty.as_ref().map_or(0.0, |ty| ty.shape.elements().expect("verified: a size") as f64);
        let width = instr.ty.as_ref().map_or(0, |ty| ty.width);
        let opening = |x: &Value| program.ty(*x).width;
        let both = |units| Work { client: units, server: units };
        let mut work = match &instr.op {
            Op::Linear { x, .. } => Work { client: elements(*x), server: cost.macs as f64 * products(width) },
            Op::Sddmm { .. } | Op::Spmm { .. } => both(cost.macs as f64 * products(width)),
            Op::Series { table, .. } => {
                let Table::Series { cos, .. } = program.table(*table) else { unreachable!("verified: a series") };
                both(own * cos.len() as f64)
            }
            Op::Exp { x, table, .. } | Op::Cells { x, table, .. } => {
                let (Table::Exp { values: a, .. } | Table::Cells { a, .. }) = program.table(*table) else {
                    unreachable!("verified: a table of cells")
                };
                both(elements(*x) * a.len() as f64)
            }
            Op::Spline { x, table, .. } => {
                let Table::Spline { knots, .. } = program.table(*table) else { unreachable!("verified: a spline") };
                both(elements(*x) * f64::from(Layout::spline(opening(x), width).levels) * knots.len() as f64)
            }
            // A table is read in the time of a level.
            Op::Ge { x, .. } => both(match Comparison::new(opening(x), width) {
                Comparison::Table { .. } => own,
                Comparison::Key(layout) => own * f64::from(layout.levels),
            }),
            Op::Select { d, .. } => {
                let components = (own / elements(*d)) as usize;
                both(elements(*d) * f64::from(Layout::select(opening(d), components, width).levels))
            }
            Op::Choose { x, .. } => both(elements(*x) + choosing(program, *x).comparisons() as f64),
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
