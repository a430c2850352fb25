//! Who learns what: every declared output is revealed exactly once, to its declared party, and that party may learn it.

use super::report;
use crate::fault::{Code, Fault};
use crate::program::Program;
use crate::types::Party;
use std::collections::BTreeSet;

/// What the caller agrees to reveal. The client may learn every declared output.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// Names of the outputs that the server may learn; none by default.
    pub server_learns: BTreeSet<String>,
}

pub(super) fn check(program: &Program, policy: &Policy, faults: &mut Vec<Fault>) {
    for output in &program.outputs {
        if output.to == Party::Server && !policy.server_learns.contains(&output.name) {
            faults.push(
                Fault::new(Code::Policy, format!("output {:?} is declared for the server", output.name))
                    .help("the server learns nothing unless the caller's policy names the output"),
            );
        }
    }
    let mut revealed = vec![false; program.outputs.len()];
    for (i, instr) in program.instrs.iter().enumerate() {
        let Some((output, to)) = instr.op.declassifies() else { continue };
        // That an output is declared at all is a rule of types.
        let Some(declared) = program.outputs.get(output.index()) else { continue };
        if to != declared.to {
            let message = format!("output {:?} is declared for the {}, not for the {to}", declared.name, declared.to);
            report(faults, program, i, Fault::new(Code::Policy, message));
        }
        if std::mem::replace(&mut revealed[output.index()], true) {
            let message = format!("output {:?} is revealed twice", declared.name);
            report(faults, program, i, Fault::new(Code::Policy, message));
        }
    }
    for (output, _) in program.outputs.iter().zip(revealed).filter(|(_, revealed)| !revealed) {
        faults.push(Fault::new(Code::Policy, format!("output {:?} is never revealed", output.name)));
    }
}
