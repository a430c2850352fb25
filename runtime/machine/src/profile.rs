//! Sums over runs, and where their time went: seconds by layer of the model and by kind of instruction.

use crate::meter::{Phases, Report, Row, Seconds};
use serde::Serialize;
use std::fmt::Write;

/// Sums over the runs of one party, as a report file starts with them.
#[derive(Clone, Serialize)]
pub struct Totals {
    /// Threads of the party.
    threads: usize,
    rounds: u64,
    one_way_messages: u64,
    sent_bytes: u64,
    received_bytes: u64,
    client_ahead_bytes: u64,
    material_bytes: u64,
    setup_bytes: u64,
    #[serde(flatten)]
    phases: Phases,
    peak_rss_bytes: Option<u64>,
    layers: Vec<Group>,
    ops: Vec<Group>,
    instructions: Vec<Row>,
}

impl Totals {
    /// Adds up runs of one program: what each took, its phases and its bytes of masked weights.
    pub fn of<'a>(runs: impl IntoIterator<Item = (&'a Report, Phases, u64)>) -> Totals {
        let mut totals = Totals {
            threads: rayon::current_num_threads(),
            rounds: 0,
            one_way_messages: 0,
            sent_bytes: 0,
            received_bytes: 0,
            client_ahead_bytes: 0,
            material_bytes: 0,
            setup_bytes: 0,
            phases: Phases::default(),
            peak_rss_bytes: None,
            layers: Vec::new(),
            ops: Vec::new(),
            instructions: Vec::new(),
        };
        for (report, phases, setup_bytes) in runs {
            totals.rounds += report.rounds;
            totals.one_way_messages += report.one_way_messages;
            totals.sent_bytes += report.sent_bytes;
            totals.received_bytes += report.received_bytes;
            totals.client_ahead_bytes += report.client_ahead_bytes;
            totals.material_bytes += report.material_bytes;
            totals.setup_bytes += setup_bytes;
            totals.phases.handshake_seconds += phases.handshake_seconds;
            totals.phases.setup_seconds += phases.setup_seconds;
            totals.phases.dealing_seconds += phases.dealing_seconds;
            totals.phases.prepare_seconds += phases.prepare_seconds;
            totals.phases.online_seconds += phases.online_seconds;
            totals.peak_rss_bytes = totals.peak_rss_bytes.max(report.peak_rss_bytes);
            if totals.instructions.is_empty() {
                totals.instructions = report.instructions.clone();
                continue;
            }
            for (sum, row) in totals.instructions.iter_mut().zip(&report.instructions) {
                sum.sent_bytes += row.sent_bytes;
                sum.received_bytes += row.received_bytes;
                sum.material_bytes += row.material_bytes;
                sum.seconds += row.seconds;
            }
        }
        totals.layers = by_layer(&totals.instructions);
        totals.ops = by_op(&totals.instructions);
        totals
    }

    /// Where the time went, as text.
    pub fn profile(&self) -> String {
        tables(&self.layers, &self.ops)
    }
}

/// Seconds of all instructions that belong together.
#[derive(Clone, Serialize)]
pub struct Group {
    /// The layer or op.
    pub name: String,
    /// Where they went.
    #[serde(flatten)]
    pub seconds: Seconds,
}

/// By layer, in program order. A `round`, which comes from no node, counts to the layer whose instruction stands before it.
pub fn by_layer(rows: &[Row]) -> Vec<Group> {
    let mut current = String::new();
    group(rows, |row| {
        if let Some(origin) = &row.origin {
            current = layer(origin);
        }
        current.clone()
    })
}

/// By op, in the order in which they first occur.
pub fn by_op(rows: &[Row]) -> Vec<Group> {
    group(rows, |row| row.op.to_owned())
}

/// Both tables, as text, without what took less than a millisecond.
pub fn tables(layers: &[Group], ops: &[Group]) -> String {
    let all: Vec<&Group> = layers.iter().chain(ops).collect();
    let width = all.iter().map(|g| g.name.chars().count()).max().unwrap_or(0).max(12);
    let mut out = String::new();
    for (title, groups) in [("layer", layers), ("instruction", ops)] {
        let _ = writeln!(
            out,
            "{title:width$} {:>10} {:>10} {:>10} {:>10}   seconds",
            "computing", "packing", "peer", "dealer"
        );
        for g in groups.iter().filter(|g| g.seconds.total() >= 1e-3) {
            let s = g.seconds;
            let _ = writeln!(
                out,
                "{:width$} {:>10.3} {:>10.3} {:>10.3} {:>10.3}",
                g.name, s.compute_seconds, s.packing_seconds, s.peer_seconds, s.dealer_seconds
            );
        }
    }
    out
}

fn group(rows: &[Row], mut name: impl FnMut(&Row) -> String) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let name = name(row);
        let at = groups.iter().position(|g| g.name == name).unwrap_or_else(|| {
            groups.push(Group { name, seconds: Seconds::default() });
            groups.len() - 1
        });
        groups[at].seconds += row.seconds;
    }
    groups
}

/// The layer that a node belongs to, from the path that exporters name it by: the numbered part and the next, as in
/// `h.0/attn`; without a number, the part before the last.
fn layer(origin: &str) -> String {
    let parts: Vec<&str> = origin.split('/').filter(|part| !part.is_empty()).collect();
    let numbered = |part: &&str| part.rsplit_once('.').is_some_and(|(_, n)| n.parse::<u32>().is_ok());
    match (parts.iter().position(numbered), parts.len()) {
        (Some(at), length) => parts[at..length.min(at + 2)].join("/"),
        (None, length) => parts.get(length.saturating_sub(2)).map_or_else(|| origin.to_owned(), ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_belong_to_layers() {
        for (origin, expected) in [
            ("/transformer/h.0/attn/c_attn/MatMul", "h.0/attn"),
            ("h.11/ln_2", "h.11/ln_2"),
            ("/transformer/h.3", "h.3"),
            ("/transformer/wte/Gather", "wte"),
            ("MatMul_17", "MatMul_17"),
            ("", ""),
        ] {
            assert_eq!(layer(origin), expected);
        }
    }
}
