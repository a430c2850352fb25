//! What two parties can make without a dealer, and what of it is kept.
//!
//! Everything but reads by comparison keys and by series: those take a mask that somebody knows whole.

use crate::dcf::Comparison;
use crate::material::{self, dealt, lift_bits};
use crate::op::Op;
use crate::ops::elements;
use crate::program::Program;
use crate::types::Value;
use crate::wire::packed_bytes;

/// Who makes the material that a program takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Maker {
    /// A dealer, whom both trust not to collude with the other. Masks of openings come from the parties' seeds, and products with
    /// weights are of the masked weights W - B.
    #[default]
    Dealer,
    /// The two parties alone. The server's shares of the masks of openings are made, too, and there is no B.
    Pair,
}

impl Maker {
    /// Whom the privacy of a run rests on besides the two parties: what outputs, reports and logs are stamped with.
    pub fn trust(self) -> &'static str {
        match self {
            Maker::Dealer => "trusted dealer",
            Maker::Pair => "no third party",
        }
    }
}

/// Whether both parties can make what an instruction of a verified program takes.
pub fn is_made(program: &Program, op: &Op) -> bool {
    // Of rows of earlier steps the bits of masks are gone; as the right operand of a product they serve.
    let cached = |v: &Value| matches!(program.instrs[v.index()].op, Op::Cache { .. });
    match op {
        Op::Sddmm { x, .. } | Op::Spmm { x, .. } => !cached(x),
        Op::Linear { .. } | Op::Cache { .. } => true,
        op if op.operands().any(|v| cached(&v)) => false,
        Op::Series { .. } | Op::Spline { .. } | Op::Select { .. } => false,
        Op::Ge { x, width, .. } => {
            matches!(Comparison::new(program.ty(*x).width, *width), Comparison::Table { .. })
        }
        // Its mask has another form than other reads take.
        Op::Exp { width: 1, .. } => false,
        Op::Exp { x, .. } => program.instrs.iter().filter(|instr| instr.op.operands().any(|v| v == *x)).count() == 1,
        _ => true,
    }
}

/// The first instruction of a verified program whose material two parties cannot make.
pub fn unmade(program: &Program) -> Option<usize> {
    program.instrs.iter().position(|instr| !is_made(program, &instr.op))
}

/// Bytes that the server keeps of a step that two parties made: what a dealer would send it, and its shares of the masks of
/// openings and of the comparisons of a `choose`. The client keeps its seed alone.
pub fn server_bytes(program: &Program) -> u64 {
    let lift_bits = lift_bits(program);
    (0..program.instrs.len()).map(|i| dealt(program, i, &lift_bits).to_server_bytes + mask_bytes(program, i)).sum()
}

/// Bytes of the server's shares of the masks of instruction `index`.
pub fn mask_bytes(program: &Program, index: usize) -> u64 {
    match program.instrs[index].op {
        Op::Open { x, width, .. } => packed_bytes(elements(&program.ty(x).shape), width.into()),
        Op::Choose { x, .. } => {
            let choosing = material::choosing(program, x);
            packed_bytes(choosing.comparisons(), choosing.width.into())
        }
        _ => 0,
    }
}
