//! The verifier: what a party checks before it shares a byte with a program that somebody else compiled.
//!
//! One file per property: [`structure`] (identifiers, names, order of definitions and messages), [`types`] (declared
//! against derived types), [`tables`] (every table makes sense by itself), [`policy`] (who learns what), [`limits`]
//! (resources) and [`module`] (what entries agree on). All faults are reported, each with its instruction and ONNX node.

pub mod limits;
pub mod module;
pub mod policy;
pub mod structure;
pub mod tables;
pub mod types;

pub use limits::Limits;
pub use policy::Policy;
pub use structure::MAX_INSTRUCTIONS;
pub use tables::MAX_TERMS;

use crate::bytecode::Module;
use crate::fault::{Code, Fault};
use crate::op::Op;
use crate::program::Program;

/// Checks every property. `Ok` means: the program runs as it says, costs what [`crate::cost::cost`] says, and reveals
/// nothing but what `limits.policy` allows.
pub fn verify(program: &Program, limits: &Limits) -> Result<(), Vec<Fault>> {
    let mut faults = Vec::new();
    structure::check(program, &mut faults);
    tables::check(program, &mut faults);
    types::check(program, &mut faults);
    policy::check(program, &limits.policy, &mut faults);
    // Costs are defined for well formed programs only.
    if faults.is_empty() {
        limits::check(program, limits, &mut faults);
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Checks every entry, and that they agree on weights and states. A program that is its module's only entry is checked by
/// [`verify`] as well.
pub fn verify_module(module: &Module, limits: &Limits) -> Result<(), Vec<Fault>> {
    let mut faults = Vec::new();
    module::check(module, &mut faults);
    for entry in &module.entries {
        let of_entry = |fault: Fault| Fault { message: format!("entry {:?}: {}", entry.name, fault.message), ..fault };
        faults.extend(verify(entry, limits).err().into_iter().flatten().map(of_entry));
    }
    if faults.is_empty() {
        module::check_weights(module, limits, &mut faults);
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Checks a module that is to run or to be costed: as [`verify_module`] does, and that it has entries, all of them scheduled.
pub fn verify_runnable(module: &Module, limits: &Limits) -> Result<(), Vec<Fault>> {
    if module.entries.is_empty() {
        return Err(vec![Fault::new(Code::Undefined, "the program has no entry")]);
    }
    verify_module(module, limits)?;
    let loose = module.entries.iter().filter(|entry| !entry.scheduled);
    let faults: Vec<_> =
        loose.map(|entry| Fault::new(Code::Order, format!("entry {:?} is not scheduled", entry.name))).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Whether the operands of instruction `index` are all defined before it.
fn operands_precede(op: &Op, index: usize) -> bool {
    op.operands().all(|v| v.index() < index)
}

/// Adds a fault of instruction `index`.
fn report(faults: &mut Vec<Fault>, program: &Program, index: usize, fault: Fault) {
    faults.push(fault.at(program, index, &program.instrs[index]));
}

/// Reports names that are empty or occur twice in a list.
fn unique<'a>(faults: &mut Vec<Fault>, what: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if name.is_empty() {
            faults.push(Fault::new(Code::Name, format!("{what} without a name")));
        } else if !seen.insert(name) {
            faults.push(Fault::new(Code::Name, format!("two {what}s are called {name:?}")));
        }
    }
}
