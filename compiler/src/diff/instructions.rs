//! Which nodes' instructions differ, and in what.

use std::collections::BTreeMap;

use ir::{Instr, Op, Program, Table};
use serde::Serialize;

use super::Change;
use crate::layers::Layers;

/// A layer with nodes that differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Those that differ, in the order of the program.
    pub nodes: Vec<Node>,
}

/// An ONNX node whose instructions differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Range, width, scale, shape or table of an instruction, or the list of instructions.
    pub changes: Vec<Change>,
}

/// Instructions by node, in their order; nodes in that of their first ones.
fn by_node(program: &Program) -> (Vec<&str>, BTreeMap<&str, Vec<&Instr>>) {
    let (mut order, mut nodes) = (Vec::new(), BTreeMap::<&str, Vec<&Instr>>::new());
    for instr in &program.instrs {
        let Some(origin) = instr.origin else { continue };
        let name = program.origins[origin.index()].as_str();
        let own = nodes.entry(name).or_default();
        if own.is_empty() {
            order.push(name);
        }
        own.push(instr);
    }
    (order, nodes)
}

/// Layers with nodes that differ; those of the second program first, then those that it does not have.
pub(super) fn layers(before: &Program, after: &Program) -> Vec<Layer> {
    let ((order_before, old), (order, new)) = (by_node(before), by_node(after));
    let gone = order_before.into_iter().filter(|name| !new.contains_key(name));
    let [of_before, of_after] = [before, after].map(Layers::new);
    let mut layers: Vec<Layer> = Vec::new();
    for name in order.into_iter().chain(gone) {
        let changes = node((before, old.get(name)), (after, new.get(name)));
        if changes.is_empty() {
            continue;
        }
        let of = if new.contains_key(name) { &of_after } else { &of_before };
        let layer = of.names.get(of.of(name)).cloned().unwrap_or_default();
        let at = layers.iter().position(|known| known.name == layer).unwrap_or_else(|| {
            layers.push(Layer { name: layer, nodes: Vec::new() });
            layers.len() - 1
        });
        layers[at].nodes.push(Node { name: name.to_owned(), changes });
    }
    layers
}

type Own<'a> = (&'a Program, Option<&'a Vec<&'a Instr>>);

fn node((before, old): Own, (after, new): Own) -> Vec<Change> {
    let (Some(old), Some(new)) = (old, new) else {
        let count = |instrs: Option<&Vec<&Instr>>| instrs.map(|instrs| instrs.len().to_string());
        return vec![Change { name: "instructions".to_owned(), before: count(old), after: count(new) }];
    };
    let mut found: Vec<Change> = Vec::new();
    for &(op, _) in ir::op::OPS {
        // A schedule may put others between them: those of one op are compared in their order.
        let of = |instrs: &[&Instr]| instrs.iter().filter(|instr| instr.op.mnemonic() == op).count();
        let (first, second) = (of(old), of(new));
        if first != second {
            let [before, after] = [first, second].map(|count| Some(count.to_string()));
            found.push(Change { name: op.to_owned(), before, after });
            continue;
        }
        let own = |instr: &&&Instr| instr.op.mnemonic() == op;
        for (old, new) in old.iter().filter(own).zip(new.iter().filter(own)) {
            let (first, second) = (facts(before, old), facts(after, new));
            for ((name, before), (_, after)) in first.into_iter().zip(second).filter(|(a, b)| a.1 != b.1) {
                let change = Change { name: format!("{name} of {op}"), before, after };
                // An op that a node has several times says it once.
                if !found.contains(&change) {
                    found.push(change);
                }
            }
        }
    }
    // Ranges say most, and the rest follows from them.
    found.sort_by_key(|change| !change.name.starts_with("range"));
    found
}

/// What an instruction is beside the values that it reads: always the same names in the same order.
fn facts(program: &Program, instr: &Instr) -> [(&'static str, Option<String>); 6] {
    let ty = instr.ty.as_ref();
    // A claim says that |x| is below 2^(width - 2), in units of the last place of what is opened.
    let operand = instr.op.operands().next().and_then(|v| program.instrs[v.index()].ty.as_ref());
    let range = instr
        .op
        .claim()
        .zip(operand)
        .map(|(width, ty)| format!("below {}", (f64::from(width) - 2.0 - f64::from(ty.scale)).exp2()));
    let text = ir::print::op(program, &instr.op);
    let fields = text.split_once(" {").map(|(_, fields)| fields.trim_end_matches('}').to_owned());
    let table = text.split_once(" @").or_else(|| text.split_once(",@")).and_then(|(_, rest)| {
        let name = rest.split([',', ' ']).next()?;
        program.tables.iter().find(|table| table.name == name).map(|table| shown(&table.table))
    });
    // A width of a claim is said as a range, that of a result as a width.
    let fields = if instr.op.claim().is_some() || matches!(instr.op, Op::Slice { .. }) { None } else { fields };
    [
        ("range", range),
        ("width", ty.map(|ty| ty.width.to_string())),
        ("scale", ty.map(|ty| ty.scale.to_string())),
        ("shape", ty.map(|ty| ty.shape.to_string())),
        ("table", table),
        ("fields", fields),
    ]
}

/// A table in a few words; its digest tells tables of one form apart.
fn shown(table: &Table) -> String {
    let what = match table {
        Table::Series { cos, period_log2, .. } => format!("{} terms of period 2^{period_log2}", cos.len()),
        Table::Spline { knots, .. } => format!("{} knots", knots.len()),
        Table::Exp { values, .. } => format!("{} cells", values.len()),
        Table::Cells { a, cell_bits, .. } => format!("{} cells of 2^{cell_bits}", a.len()),
        Table::Thresholds(all) => format!("{} thresholds", all.len()),
        Table::Const { shape, .. } => format!("constants {shape}"),
        Table::Pattern(pattern) => format!("{} rows of {} columns", pattern.rows.len(), pattern.columns),
    };
    let digest = blake3::hash(format!("{table:?}").as_bytes()).to_hex();
    format!("{what} ({})", &digest[..6])
}
