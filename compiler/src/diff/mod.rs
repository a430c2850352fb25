//! What differs between two programs: options, entries, costs, instructions, and the ranges, widths and scales of each node.
//!
//! Instructions are compared by the ONNX node that they come from, in their order there. Two compilations of one model with the same
//! options differ in the commitment to their weights alone, since its salt is drawn anew: whether the weights are the same cannot be
//! told from programs.

mod instructions;
pub mod text;

use std::collections::BTreeMap;

use ir::bytecode::Module;
use ir::{Program, pair};
use serde::Serialize;

pub use instructions::{Layer, Node};

use crate::breakdown::{Breakdown, Share};
use crate::report::Place;

/// Something that has one value before and another after; none where it is not there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Change {
    /// What it is.
    pub name: String,
    /// In the first program.
    pub before: Option<String>,
    /// In the second.
    pub after: Option<String>,
}

/// A figure before and after.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figure {
    /// What it is; its unit comes last.
    pub name: &'static str,
    /// In the first program.
    pub before: f64,
    /// In the second.
    pub after: f64,
}

/// How often an instruction occurs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Count {
    /// Its name.
    pub op: &'static str,
    /// In the first program.
    pub before: u64,
    /// In the second.
    pub after: u64,
}

/// An entry of both programs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether it is the same in both.
    pub equal: bool,
    /// Inputs, outputs, states and weights whose sizes or encodings differ.
    pub declared: Vec<Change>,
    /// What a run costs, whether it differs or not.
    pub costs: Vec<Figure>,
    /// Instructions that occur more or less often.
    pub ops: Vec<Count>,
    /// Layers with nodes that differ.
    pub layers: Vec<Layer>,
}

/// What differs between two programs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Diff {
    /// Whether nothing does.
    pub equal: bool,
    /// Whether both commit to the same encoded weights.
    pub same_weights: bool,
    /// Options of the compilations, as far as recipes are there.
    pub options: Vec<Change>,
    /// Name, tokenizer, template and other facts.
    pub facts: Vec<Change>,
    /// Entries of one program alone.
    pub entries_of_one: Vec<Change>,
    /// Entries of both.
    pub entries: Vec<Entry>,
}

impl Diff {
    /// Compares two verified programs; `options` are those of the recipes, by name.
    pub fn new(before: &Module, after: &Module, options: [&BTreeMap<String, String>; 2], place: &Place) -> Diff {
        let names = |module: &Module| -> BTreeMap<String, String> {
            module.entries.iter().map(|entry| (entry.name.clone(), sizes(entry))).collect()
        };
        let mut entries_of_one = changes(&names(before), &names(after));
        entries_of_one.retain(|change| change.before.is_none() || change.after.is_none());
        let both = before.entries.iter().filter_map(|entry| Some((entry, after.entry(&entry.name)?)));
        let facts = changes(&before.metadata, &after.metadata).into_iter().map(shortened).collect();
        Diff {
            equal: before == after,
            same_weights: before.commitment == after.commitment,
            options: changes(options[0], options[1]),
            facts,
            entries_of_one,
            entries: both.map(|(before, after)| entry(before, after, place)).collect(),
        }
    }
}

/// What two maps do not have in common, by name.
fn changes(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Change> {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let change = |name: &String| Change {
        name: name.clone(),
        before: before.get(name).cloned(),
        after: after.get(name).cloned(),
    };
    names.into_iter().map(change).filter(|change| change.before != change.after).collect()
}

/// Long texts, such as templates, are told by their digests.
fn shortened(change: Change) -> Change {
    let short = |text: String| match text.len() > 80 || text.contains('\n') {
        true => format!("{} bytes, BLAKE3 {}", text.len(), &blake3::hash(text.as_bytes()).to_hex()[..12]),
        false => text,
    };
    Change { before: change.before.map(short), after: change.after.map(short), ..change }
}

/// Inputs of an entry.
fn sizes(entry: &Program) -> String {
    let inputs: Vec<String> = entry.inputs.iter().map(|input| format!("{}{}", input.name, input.shape)).collect();
    inputs.join(", ")
}

fn entry(before: &Program, after: &Program, place: &Place) -> Entry {
    let [first, second] = [before, after].map(|program| Breakdown::new(program, place));
    let count = |breakdown: &Breakdown, op: &str| breakdown.sum(|_, other| other.mnemonic() == op).count;
    let ops = ir::op::OPS.iter().map(|&(op, _)| Count { op, before: count(&first, op), after: count(&second, op) });
    Entry {
        name: before.name.clone(),
        equal: before == after,
        declared: changes(&declared(before), &declared(after)),
        costs: costs([&first, &second]),
        ops: ops.filter(|count| count.before != count.after).collect(),
        layers: instructions::layers(before, after),
    }
}

fn costs(both: [&Breakdown; 2]) -> Vec<Figure> {
    let totals = both.map(Breakdown::total);
    let figure = |name, of: &dyn Fn(&Breakdown, &Share) -> f64| Figure {
        name,
        before: of(both[0], &totals[0]),
        after: of(both[1], &totals[1]),
    };
    let mut figures = vec![
        figure("rounds", &|_, total| total.rounds as f64),
        figure("one_way_messages", &|_, total| total.one_way_messages as f64),
        figure("sent_bytes", &|_, total| total.sent_bytes as f64),
        figure("dealt_bytes", &|_, total| total.dealt_bytes as f64),
        figure("setup_bytes", &|one, _| one.cost.setup_bytes as f64),
        figure("memory_bytes", &|one, _| 8.0 * one.cost.peak_elements as f64),
        figure("online_seconds", &|_, total| total.seconds),
    ];
    if both.iter().all(|one| one.made) {
        let made = |one: &Breakdown, _: &Share| pair::server_bytes(one.program) as f64;
        figures.insert(3, figure("made_bytes", &made));
    }
    figures
}

/// What an entry declares, by name.
fn declared(program: &Program) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for input in &program.inputs {
        all.insert(format!("input {}", input.name), format!("{} {}", input.shape, input.ty));
    }
    for public in &program.publics {
        all.insert(format!("public {}", public.name), format!("below {}", public.bound));
    }
    for output in &program.outputs {
        all.insert(format!("output {}", output.name), format!("{} to the {}", output.shape, output.to));
    }
    for state in &program.states {
        all.insert(format!("state {}", state.name), format!("{}.{} {}", state.width, state.scale, state.row));
    }
    for weight in &program.weights {
        all.insert(format!("weight {}", weight.name), format!(".{} {}", weight.scale, weight.shape));
    }
    let maker = if pair::unmade(program).is_none() { "the two parties, or a dealer" } else { "a dealer alone" };
    all.insert("material by".to_owned(), maker.to_owned());
    all
}
