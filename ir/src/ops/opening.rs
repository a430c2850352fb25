//! What comes in, is opened, gains width, is kept between steps and goes out.

use super::{Family, Place};
use crate::cost::InstrCost;
use crate::eval::Operands;
use crate::fault::{Code, Fault};
use crate::infer::*;
use crate::making::{Making, Requests};
use crate::material::Pieces;
use crate::op::Op;
use crate::program::Program;
use crate::types::*;

/// The family.
pub(crate) struct Opening;

impl Family for Opening {
    fn infer(program: &Program, op: &Op) -> Result<Option<Type>, Fault> {
        let share = |v: &Value| share(program, *v);
        let opened = |v: &Value| opened(program, *v);
        let ty = match op {
            Op::Input { input } => {
                let input = get(&program.inputs, input.index(), "input")?;
                match input.ty.kind {
                    Kind::Share => input.ty.clone(),
                    Kind::Opened { .. } => return fault(Code::Kind, format!("input {:?} is not a share", input.name)),
                }
            }
            Op::Open { x, width, whole } => {
                let x = share(x)?;
                let least = if *whole { 1 } else { MIN_CLAIMED_WIDTH };
                if *width < least || *width > x.width {
                    return fault(
                        Code::Width,
                        format!("{width} bits are not within {least} ..= {}, the operand's width", x.width),
                    );
                }
                Type { kind: Kind::Opened { whole: *whole }, width: *width, ..x.clone() }
            }
            Op::Round {} | Op::Send {} => return Ok(None),
            Op::Extend { x, claim, width } => {
                let x = share(x)?;
                if *claim < MIN_CLAIMED_WIDTH || *claim > x.width {
                    let least = MIN_CLAIMED_WIDTH;
                    return fault(
                        Code::Width,
                        format!("a claim of {claim} bits is not within {least} ..= {}, the operand's width", x.width),
                    );
                }
                if width <= claim {
                    return fault(Code::Width, format!("{claim} bits are not extended to {width}"));
                }
                shared(*width, x.scale, x.shape.clone())
            }
            Op::Lift { x, width } => shared(*width, claimed(opened(x)?)?.scale, opened(x)?.shape.clone()),
            Op::Cache { x, state, capacity } => {
                let (x, state) = (whole(opened(x)?)?, get(&program.states, state.index(), "state")?);
                let [.., rows, _] = x.shape.0[..] else {
                    return fault(Code::Shape, format!("{} has no rows to append", x.shape));
                };
                if state.opening(rows).as_ref() != Some(x) {
                    let fault = Fault::new(
                        mismatch(state, x),
                        format!(
                            "{x} is not made of rows of state {:?}: <{}.{}>{}",
                            state.name, state.width, state.scale, state.row
                        ),
                    );
                    return Err(fault.help("open at the state's width, all axes but the last two those of a row block"));
                }
                if *capacity < rows {
                    return fault(Code::Shape, format!("{rows} rows do not fit a capacity of {capacity}"));
                }
                Type { shape: with_dim(&x.shape, x.shape.rank() as u32 - 2, *capacity), ..x.clone() }
            }
            Op::Reveal { x, output, .. } => {
                let x = share(x)?;
                let Some(output) = program.outputs.get(output.index()) else {
                    return fault(Code::Policy, format!("output {} is not declared", output.0));
                };
                if x.shape.elements() != output.shape.elements() {
                    return fault(
                        Code::Shape,
                        format!("output {:?} has shape {}, the value {}", output.name, output.shape, x.shape),
                    );
                }
                return Ok(None);
            }
            _ => unreachable!("an op of another family"),
        };
        Ok(Some(ty))
    }

    fn eval(run: &Operands<'_>, op: &Op) -> Vec<i64> {
        match op {
            Op::Input { input } => run.arguments.inputs[input.index()].clone(),
            Op::Open { x, .. } | Op::Extend { x, .. } | Op::Lift { x, .. } => run.value(x).to_vec(),
            _ => unreachable!("without a result, or of the session"),
        }
    }

    fn pieces(at: Place<'_>, out: &mut Pieces) {
        match &at.instr.op {
            // Carry of the parties' shares of the mask, then its top bit.
            Op::Open { .. } => {
                let lift = i64::from(at.lift_bits);
                out.corrections(at.own().0, lift);
                out.corrections(at.own().0, lift);
            }
            // The product of both parties' bits.
            Op::Extend { claim, width, .. } => out.corrections(at.own().0, i64::from(width - claim)),
            _ => {}
        }
    }

    fn making(of: Making<'_>, out: &mut Requests) {
        let (at, count) = (of.at, of.at.own().0);
        match &at.instr.op {
            // Of what `exp` reads, the numbers of cells alone.
            Op::Open { width, .. } if !of.own_mask => {
                let (bits, lifted) = of.cells.map_or((*width, width + at.lift_bits), |cells| (cells, cells));
                out.number(count, bits, lifted);
                out.tell(Party::Client, count, lifted);
                out.correlation(count, at.lift_bits);
            }
            Op::Extend { claim, width, .. } => {
                out.both(count, width - claim);
                out.correlation(count, width - claim);
            }
            _ => {}
        }
    }

    fn cost(at: Place<'_>, cost: &mut InstrCost) {
        match &at.instr.op {
            Op::Open { x, width, .. } => {
                cost.client_payload_bytes = at.packed(x, *width);
                cost.server_payload_bytes = at.packed(x, *width);
            }
            Op::Extend { x, .. } => {
                cost.client_payload_bytes = at.packed(x, 1);
                cost.server_payload_bytes = at.packed(x, 1);
            }
            Op::Reveal { x, to, .. } => {
                let bytes = at.packed(x, at.ty(x).width);
                match to {
                    Party::Client => cost.server_payload_bytes = bytes,
                    Party::Server => cost.client_payload_bytes = bytes,
                }
            }
            _ => {}
        }
    }
}
