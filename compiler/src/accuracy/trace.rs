//! Follows a run of a program beside one of the graph that it was lowered from: how far each node's value is from its float,
//! and how much of each claim and table is used.

use std::collections::HashMap;

use ir::{Op, Program, Table, Value};
use ndarray::ArrayD;

use crate::graph::{Graph, NodeId};
use crate::lower::activation;

/// Distance of a node's values from their floats, over all runs.
#[derive(Clone, Debug)]
pub struct NodeError {
    /// ONNX name.
    pub origin: String,
    /// What it computes.
    pub op: &'static str,
    /// Sum of squares of differences.
    squares: f64,
    /// Sum of squares of floats.
    values: f64,
    /// Greatest difference.
    pub greatest: f64,
    /// Error that is new here: the root mean square less the greatest of the operands'.
    pub added: f64,
}

impl NodeError {
    /// Root of the mean square of differences, relative to that of the values.
    pub fn relative(&self) -> f64 {
        if self.values > 0.0 { (self.squares / self.values).sqrt() } else { 0.0 }
    }
}

/// How much of a claim or table is used, over all runs.
#[derive(Clone, Debug)]
pub struct RangeUse {
    /// ONNX name of the node.
    pub origin: String,
    /// The instruction that reads the range, as in `open` or `spline`.
    pub op: &'static str,
    /// What reads the opening.
    pub readers: String,
    /// Least and greatest value.
    pub seen: (f64, f64),
    /// Least and greatest value that there is room for.
    pub room: (f64, f64),
    /// Elements beyond.
    pub outside: u64,
    /// All elements.
    pub elements: u64,
}

impl RangeUse {
    /// The part of the room that is used, on the side that uses more; above 1 where elements lie beyond. For a table of
    /// positive numbers the part is one of octaves.
    pub fn part(&self) -> f64 {
        let ((lo, hi), (least, greatest)) = (self.room, self.seen);
        if lo > 0.0 {
            let middle = (lo * hi).sqrt();
            let reach = |v: f64| (v.max(f64::MIN_POSITIVE) / middle).log2().abs();
            return reach(least).max(reach(greatest)) / (hi / middle).log2();
        }
        (greatest / hi).max(least / lo)
    }
}

/// What is summed up over runs.
#[derive(Default)]
pub struct Totals {
    /// By node, in the order of the graph.
    pub nodes: Vec<NodeError>,
    places: HashMap<NodeId, usize>,
    /// In the order of the program.
    pub ranges: Vec<RangeUse>,
    /// By node, kind and room, and number among those that are alike.
    range_places: HashMap<(String, String, usize), usize>,
}

/// One run.
pub struct Trace<'a> {
    program: &'a Program,
    /// Nodes by name, with their floats.
    floats: HashMap<&'a str, Vec<(NodeId, &'a ArrayD<f32>)>>,
    best: HashMap<NodeId, Match>,
    /// Least, greatest, and number of elements of what is opened, with what a table of it misses.
    openings: HashMap<Value, Opened>,
    /// Tables that read an opening: the ends, as integers.
    tables: HashMap<Value, Vec<(i64, i64)>>,
    /// Nodes whose values are wanted.
    wanted: Vec<NodeId>,
    /// Their values.
    pub found: HashMap<NodeId, Vec<f32>>,
}

#[derive(Clone, Copy)]
struct Match {
    squares: f64,
    values: f64,
    greatest: f64,
}

#[derive(Clone)]
struct Opened {
    least: i64,
    greatest: i64,
    elements: u64,
    beyond_claim: u64,
    beyond_tables: Vec<u64>,
}

impl<'a> Trace<'a> {
    /// Of a run of `program`, lowered from `graph`, whose nodes have the values `floats`. Values of `wanted` nodes are kept.
    pub fn new(
        program: &'a Program,
        graph: &'a Graph,
        floats: &'a HashMap<NodeId, ArrayD<f32>>,
        wanted: &[NodeId],
    ) -> Trace<'a> {
        let mut by_name: HashMap<&str, Vec<(NodeId, &ArrayD<f32>)>> = HashMap::new();
        for (&id, value) in floats.iter().filter(|(id, _)| !is_permuted(graph, **id)) {
            by_name.entry(&graph.node(id).origin).or_default().push((id, value));
        }
        let mut tables: HashMap<Value, Vec<(i64, i64)>> = HashMap::new();
        for instr in &program.instrs {
            let Op::Spline { x, table, .. } = instr.op else { continue };
            let Table::Spline { knots, b, .. } = program.table(table) else { unreachable!("verified") };
            // A table whose first and last lines are flat is right between them; others go on.
            if let (Some(0), Some(0), [first, .., last]) = (b.first(), b.last(), &knots[..]) {
                tables.entry(x).or_default().push((*first, *last));
            }
        }
        let (best, openings, found) = (HashMap::new(), HashMap::new(), HashMap::new());
        Trace { program, floats: by_name, best, openings, tables, wanted: wanted.to_vec(), found }
    }

    /// Sees a value of the run.
    pub fn visit(&mut self, value: Value, x: &[i64]) {
        let instr = &self.program.instrs[value.index()];
        if let Some(claim) = instr.op.claim() {
            let limit = 1i64 << claim.saturating_sub(2);
            let count = |beyond: &dyn Fn(i64) -> bool| x.iter().filter(|v| beyond(**v)).count() as u64;
            let tables = self.tables.get(&value).map_or(&[][..], |t| t);
            let opened = Opened {
                least: x.iter().copied().min().unwrap_or(0),
                greatest: x.iter().copied().max().unwrap_or(0),
                elements: x.len() as u64,
                beyond_claim: count(&|v| v.unsigned_abs() >= limit as u64),
                beyond_tables: tables.iter().map(|&(lo, hi)| count(&|v| v < lo || v > hi)).collect(),
            };
            self.openings.insert(value, opened);
        }
        let Some(origin) = instr.origin else { return };
        let Some(nodes) = self.floats.get(self.program.origins[origin.index()].as_str()) else { return };
        let unit = f64::from(self.program.ty(value).scale).exp2();
        for &(id, floats) in nodes.iter().filter(|(_, floats)| floats.len() == x.len()) {
            let mut found = Match { squares: 0.0, values: 0.0, greatest: 0.0 };
            for (&x, &float) in x.iter().zip(floats) {
                let (float, difference) = (f64::from(float), (x as f64 / unit - f64::from(float)).abs());
                found.squares += difference * difference;
                found.values += float * float;
                found.greatest = found.greatest.max(difference);
            }
            // A node has several values of its size on the way; the one that is like its float is its result.
            if self.best.get(&id).is_none_or(|best| found.squares < best.squares) {
                self.best.insert(id, found);
                if self.wanted.contains(&id) {
                    self.found.insert(id, x.iter().map(|&v| (v as f64 / unit) as f32).collect());
                }
            }
        }
    }

    /// Adds the run to the totals.
    pub fn finish(self, graph: &Graph, totals: &mut Totals) {
        for id in graph.order() {
            let Some(found) = self.best.get(&id) else { continue };
            let at = *totals.places.entry(id).or_insert_with(|| {
                let node = graph.node(id);
                let (origin, op) = (node.origin.clone(), node.op.name());
                totals.nodes.push(NodeError { origin, op, squares: 0.0, values: 0.0, greatest: 0.0, added: 0.0 });
                totals.nodes.len() - 1
            });
            let node = &mut totals.nodes[at];
            node.squares += found.squares;
            node.values += found.values;
            node.greatest = node.greatest.max(found.greatest);
        }
        for id in graph.order() {
            let Some(&at) = totals.places.get(&id) else { continue };
            let before = graph.operands(id).into_iter().filter_map(|o| totals.places.get(&o));
            let before = before.map(|&o| totals.nodes[o].relative()).fold(0.0, f64::max);
            totals.nodes[at].added = (totals.nodes[at].relative() - before).max(0.0);
        }
        self.finish_ranges(totals);
    }

    /// The part of [`Trace::finish`] that needs no graph.
    pub fn finish_ranges(self, totals: &mut Totals) {
        let mut readers: HashMap<Value, Vec<&'static str>> = HashMap::new();
        for instr in &self.program.instrs {
            for operand in instr.op.operands().filter(|v| self.openings.contains_key(v)) {
                let names = readers.entry(operand).or_default();
                if !names.contains(&instr.op.mnemonic()) {
                    names.push(instr.op.mnemonic());
                }
            }
        }
        let mut numbers: HashMap<(&str, String), usize> = HashMap::new();
        let mut values: Vec<&Value> = self.openings.keys().collect();
        values.sort();
        for value in values {
            let opened = &self.openings[value];
            let instr = &self.program.instrs[value.index()];
            let claim = instr.op.claim().expect("what claims a range is kept");
            let origin = instr.origin.map_or("", |o| &self.program.origins[o.index()]);
            let unit = f64::from(self.program.ty(*value).scale).exp2();
            let limit = f64::from(claim - 2).exp2() / unit;
            let real = |v: i64| v as f64 / unit;
            let seen = (real(opened.least), real(opened.greatest));
            let reads = readers.get(value).map_or_else(String::new, |names| names.join(", "));
            let claim = (instr.op.mnemonic(), (-limit, limit), opened.beyond_claim);
            let ends = self.tables.get(value).map_or(&[][..], |t| t);
            let tables = ends.iter().zip(&opened.beyond_tables);
            let tables = tables.map(|(&(lo, hi), &beyond)| ("spline", (real(lo), real(hi)), beyond));
            for (op, room, outside) in std::iter::once(claim).chain(tables) {
                // Entries of other sizes may have claims of other widths.
                let kind = format!("{op} {reads} {room:?}");
                let number = numbers.entry((origin, kind.clone())).or_default();
                let key = (origin.to_owned(), kind, *number);
                *number += 1;
                let at = *totals.range_places.entry(key).or_insert_with(|| {
                    let (origin, readers) = (origin.to_owned(), reads.clone());
                    totals.ranges.push(RangeUse { origin, op, readers, seen, room, outside: 0, elements: 0 });
                    totals.ranges.len() - 1
                });
                let total = &mut totals.ranges[at];
                total.seen = (total.seen.0.min(seen.0), total.seen.1.max(seen.1));
                total.outside += outside;
                total.elements += opened.elements;
            }
        }
    }
}

/// Whether the channels of a node's value may stand in another order in the program (`pass::group_channels`).
fn is_permuted(graph: &Graph, id: NodeId) -> bool {
    let gated = |id: NodeId| matches!(graph.node(id).op, crate::graph::Op::Unary(f) if activation::is_gated(f));
    gated(id) || graph.readers(id).into_iter().any(gated)
}
