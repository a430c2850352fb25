//! What the entries of a module agree on: names of their own, the same weights, the same states. A weight's mask belongs
//! to the weight in whatever entry, and a state's rows come from one entry and are read by the next.

use super::Limits;
use crate::bytecode::Module;
use crate::cost::setup_bytes;
use crate::fault::{Code, Fault};
use crate::op::Op;
use crate::print;
use crate::program::{Program, State, WeightDecl};
use std::collections::BTreeSet;

pub(super) fn check(module: &Module, faults: &mut Vec<Fault>) {
    super::unique(faults, "entry point", module.entries.iter().map(|e| &e.name[..]));
    let Some((first, rest)) = module.entries.split_first() else { return };
    for entry in rest {
        let differ = |what: &str, message: String, code| {
            let message = format!("entries {:?} and {:?} differ in their {what}: {message}", first.name, entry.name);
            Fault::new(code, message).help("declare the same in every entry, used or not")
        };
        let weight = |w: &WeightDecl| format!("weight {:?} of scale {} and shape {}", w.name, w.scale, w.shape);
        if let Some(message) = difference(&first.weights, &entry.weights, weight) {
            faults.push(differ("weights", message, Code::Weight));
        }
        let state = |s: &State| format!("state {:?} of rows <{}.{}>{}", s.name, s.width, s.scale, s.row);
        if let Some(message) = difference(&first.states, &entry.states, state) {
            faults.push(differ("states", message, Code::State));
        }
    }
}

/// For modules without other faults.
pub(super) fn check_weights(module: &Module, limits: &Limits, faults: &mut Vec<Fault>) {
    let readers = |reads: fn(&Op) -> bool| -> BTreeSet<u32> {
        let instrs = module.entries.iter().flat_map(|e| &e.instrs);
        instrs.filter(|i| reads(&i.op)).filter_map(|i| weight(&i.op)).collect()
    };
    let masked = readers(|op| matches!(op, Op::Linear { .. }));
    let added = readers(|op| !matches!(op, Op::Linear { .. }));
    for &index in masked.intersection(&added) {
        let name = module.entries.first().map_or("", |e: &Program| &e.weights[index as usize].name);
        let message = format!("weight {name:?} is read by `linear` in one entry and added in another");
        faults.push(Fault::new(Code::Weight, message).help("declare a second weight of equal content"));
    }
    let setup = setup_bytes(&module.entries);
    if setup > limits.setup_bytes {
        let (setup, limit) = (print::bytes(setup), print::bytes(limits.setup_bytes));
        faults.push(Fault::new(Code::Limit, format!("masked weights of all entries: {setup}, the limit is {limit}")));
    }
}

/// The weight that an op reads.
fn weight(op: &Op) -> Option<u32> {
    match op {
        Op::Linear { weight, .. }
        | Op::AddWeight { weight, .. }
        | Op::AddRow { weight, .. }
        | Op::AddBand { weight, .. } => Some(weight.0),
        _ => None,
    }
}

/// Where two lists differ first.
fn difference<T: PartialEq>(a: &[T], b: &[T], text: impl Fn(&T) -> String) -> Option<String> {
    let at = (0..a.len().max(b.len())).find(|&i| a.get(i) != b.get(i))?;
    let side = |list: &[T]| list.get(at).map_or("nothing".to_owned(), &text);
    Some(format!("number {at} is {} and {}", side(a), side(b)))
}
