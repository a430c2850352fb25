//! Every declared type is the one that follows from the operands.

use super::{operands_precede, report};
use crate::fault::{Code, Fault};
use crate::infer::infer;
use crate::program::Program;
use crate::types::Type;

pub(super) fn check(program: &Program, faults: &mut Vec<Fault>) {
    let text = |ty: &Option<Type>| ty.as_ref().map_or("none".to_owned(), Type::to_string);
    for (i, instr) in program.instrs.iter().enumerate().filter(|(i, instr)| operands_precede(&instr.op, *i)) {
        match infer(program, &instr.op) {
            Ok(derived) if derived == instr.ty => {}
            Ok(derived) => {
                let message = format!("the declared type is {}, the operands give {}", text(&instr.ty), text(&derived));
                report(faults, program, i, Fault::new(Code::Declared, message));
            }
            Err(fault) => report(faults, program, i, fault),
        }
    }
}
