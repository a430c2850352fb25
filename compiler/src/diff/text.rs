//! A difference as text.

use std::fmt::Write;

use super::{Change, Diff, Entry, Figure};
use crate::report::size;

/// Nodes of a layer, and changes of a node, that a list shows.
const SHOWN: usize = 4;

/// What `sscc diff` prints.
pub fn text(diff: &Diff, names: [&str; 2]) -> String {
    if diff.equal {
        return format!("{} and {} are the same program\n", names[0], names[1]);
    }
    let mut out = format!("{} -> {}\n", names[0], names[1]);
    section(&mut out, "options", &diff.options);
    section(&mut out, "facts", &diff.facts);
    section(&mut out, "entries of one alone", &diff.entries_of_one);
    for entry in &diff.entries {
        if entry.equal {
            let _ = writeln!(out, "\nentry {}: the same", entry.name);
        } else {
            out += &one(entry);
        }
    }
    out += match diff.same_weights {
        true => "\nweights: the same\n",
        false => "\nweights: not those of the same compilation; each program runs with its own .ssw\n",
    };
    out
}

fn section(out: &mut String, title: &str, changes: &[Change]) {
    if changes.is_empty() {
        return;
    }
    let width = changes.iter().map(|change| change.name.chars().count()).max().unwrap_or(0);
    let _ = writeln!(out, "\n{title}");
    for change in changes {
        let _ = writeln!(out, "  {:width$}  {}", change.name, said(change));
    }
}

fn said(change: &Change) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    format!("{} -> {}", value(&change.before), value(&change.after))
}

fn one(entry: &Entry) -> String {
    let mut out = format!("\nentry {}\n", entry.name);
    for Figure { name, before, after } in &entry.costs {
        let shown = |value: f64| match name {
            name if name.ends_with("_bytes") => size(value as u64),
            name if name.ends_with("_seconds") => format!("{value:.4}"),
            _ => format!("{value}"),
        };
        let ratio = match (*before == *after, *before > 0.0) {
            (true, _) => "the same".to_owned(),
            (_, true) => format!("times {:.3}", after / before),
            _ => String::new(),
        };
        let label = name.trim_end_matches("_bytes").replace('_', " ");
        let _ = writeln!(out, "  {label:17} {:>12} -> {:>12}   {ratio}", shown(*before), shown(*after));
    }
    let mut declared = String::new();
    section(&mut declared, "declares", &entry.declared);
    out += declared.trim_start_matches('\n');
    if !entry.ops.is_empty() {
        let ops = entry.ops.iter().map(|count| format!("{} {} -> {}", count.op, count.before, count.after));
        let _ = writeln!(out, "instructions\n  {}", ops.collect::<Vec<_>>().join(", "));
    }
    for layer in &entry.layers {
        let many = if layer.nodes.len() == 1 { "node differs" } else { "nodes differ" };
        let _ = writeln!(out, "layer {}: {} {many}", layer.name, layer.nodes.len());
        for node in layer.nodes.iter().take(SHOWN) {
            let changes: Vec<String> =
                node.changes.iter().take(SHOWN).map(|change| format!("{} {}", change.name, said(change))).collect();
            let more = match node.changes.len().saturating_sub(SHOWN) {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            let _ = writeln!(out, "  {}: {}{more}", node.name, changes.join(", "));
        }
        if layer.nodes.len() > SHOWN {
            let _ = writeln!(out, "  and {} more, which --json lists", layer.nodes.len() - SHOWN);
        }
    }
    out
}
