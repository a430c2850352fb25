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
    /// The two parties alone. The server's shares of most masks of openings are made, too ([`own_masks`]), and there is no B.
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
        Op::Exp { width: 1, .. } => false,
        // Its mask has another form than other reads take.
        Op::Exp { x, .. } => program.instrs.iter().filter(|instr| instr.op.operands().any(|v| v == *x)).count() == 1,
        _ => true,
    }
}

/// The first instruction of a verified program whose material two parties cannot make.
pub fn unmade(program: &Program) -> Option<usize> {
    program.instrs.iter().position(|instr| !is_made(program, &instr.op))
}

/// Which openings, and which openings kept from step to step, have masks that are sums of numbers of the parties' own seeds, as
/// with a dealer: those that products of matrices opened whole alone read, since they ask for no bit of a mask. For each
/// instruction of a verified program; of all others' masks the parties make shares bit by bit.
pub fn own_masks(program: &Program) -> Vec<bool> {
    let opens = |op: &Op| matches!(op, Op::Open { whole: true, .. } | Op::Cache { .. });
    let mut own: Vec<bool> = program.instrs.iter().map(|instr| opens(&instr.op)).collect();
    for (i, instr) in program.instrs.iter().enumerate().rev() {
        let serves = match instr.op {
            Op::Sddmm { .. } | Op::Spmm { .. } => true,
            Op::Cache { .. } => own[i],
            _ => false,
        };
        instr.op.operands().for_each(|v| own[v.index()] &= serves);
    }
    own
}

/// Bytes that the server keeps of a step that two parties made: what a dealer would send it, and its shares of the masks of
/// openings and of the comparisons of a `choose`. The client keeps its seed alone.
pub fn server_bytes(program: &Program) -> u64 {
    let (lift_bits, masks) = (lift_bits(program), mask_bytes(program));
    (0..program.instrs.len()).map(|i| dealt(program, i, &lift_bits).to_server_bytes + masks[i]).sum()
}

/// Bytes of the server's shares of the masks of each instruction, but for those of its seed.
pub fn mask_bytes(program: &Program) -> Vec<u64> {
    let own = own_masks(program);
    (0..program.instrs.len()).map(|i| if own[i] { 0 } else { bytes_of_mask(program, i) }).collect()
}

fn bytes_of_mask(program: &Program, index: usize) -> u64 {
    match program.instrs[index].op {
        Op::Open { x, width, .. } => packed_bytes(elements(&program.ty(x).shape), width.into()),
        Op::Choose { x, .. } => {
            let choosing = material::choosing(program, x);
            packed_bytes(choosing.comparisons(), choosing.width.into())
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of one read of an opening of 8 elements and 12 bits.
    fn program(table: &str, read: &str) -> Program {
        let text = format!(
            "schedule @one {{\n  in0 = input \"x\" [8] fixed : share<20.4>[8]\n  {table}\n  out0 = output \"y\" [8] to client\n\n  \
             v0 = input in0 : share<20.4>[8]\n  o1 = open v0 {{width=12}} : opened<12.4>[8]\n  round\n  {read}\n  \
             reveal v3, out0 {{to=client}}\n}}\n"
        );
        crate::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    #[test]
    fn keys_and_series_are_not_made() {
        let line = "@t = spline {scale=8} knots [-5] a [1, 2] b [4, 5]";
        let spline = program(line, "v3 = spline o1, @t {width=36} : share<36.8>[8]");
        assert_eq!((unmade(&spline), is_made(&spline, &spline.instrs[1].op)), (Some(3), true));
        let lift = program("@t = thresholds [1]", "v3 = lift o1 {width=30} : share<30.4>[8]");
        assert_eq!(unmade(&lift), None);
        // 12 bits of the mask; 18 each of carry and top bit, as a dealer sends them.
        assert_eq!((server_bytes(&lift), mask_bytes(&lift)[1]), (12 + 2 * 18, 12));
        assert_eq!(crate::cost::per_instruction(&lift).server_material_bytes, 2 * 18);
    }

    #[test]
    fn masks_that_products_alone_read_are_the_parties_own() {
        let text = |read: &str| {
            format!(
                "schedule @one {{\n  in0 = input \"x\" [2,4] fixed : share<20.4>[2,4]\n  @all = pattern {{columns=2}} [0..2, 0..2]\n  \
                 out0 = output \"y\" [4] to client\n  out1 = output \"z\" [2,4] to client\n\n  \
                 v0 = input in0 : share<20.4>[2,4]\n  o1 = open v0 {{width=20, whole}} : whole<20.4>[2,4]\n  \
                 o2 = open v0 {{width=18}} : opened<18.4>[2,4]\n  round\n  v4 = sddmm o1, o1, @all : share<20.8>[4]\n  \
                 v5 = {read} : share<20.4>[2,4]\n  reveal v4, out0 {{to=client}}\n  reveal v5, out1 {{to=client}}\n}}\n"
            )
        };
        let own = |read: &str| {
            let program = crate::parse(&text(read)).unwrap_or_else(|e| panic!("{e}"));
            (own_masks(&program)[1], mask_bytes(&program)[1], mask_bytes(&program)[2])
        };
        assert_eq!(own("lift o2 {width=20}"), (true, 0, 18));
        // Read by something else, too.
        assert_eq!(own("lift o1 {width=20}"), (false, 20, 18));
    }
}
