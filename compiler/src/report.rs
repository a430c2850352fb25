//! What a person sees of a compilation and of a program: sizes, costs, instructions.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use ir::Program;
use ir::bytecode::Module;
use ir::cost::{self, Cost};
use serde_json::{Value, json};

use crate::lower::Scales;
use crate::lower::variant::Link;
use crate::pipeline::Compiled;
use crate::predict::rates::Speed;
use crate::predict::{Cores, predict};

/// The summary that `sscc compile` prints.
pub fn compiled(compiled: &Compiled, program: (&Path, u64), weights: (&Path, u64)) -> String {
    let mut out = String::new();
    let first = &compiled.schedules[0];
    let files = [
        (program, "program, for both parties (and a dealer, if there is one)"),
        (weights, "weights, for the server alone"),
    ];
    let width = files.iter().map(|((path, _), _)| path.display().to_string().len()).max().unwrap_or(0);
    for ((path, bytes), what) in files {
        let _ = writeln!(out, "{:width$}  {:>9}  {what}", path.display().to_string(), size(bytes));
    }
    let s = Scales::LADDER[0];
    let inputs: Vec<String> = first.inputs.iter().map(|i| format!("{}{}", i.name, i.shape)).collect();
    let outputs: Vec<String> = first.outputs.iter().map(|o| format!("{}{}", o.name, o.shape)).collect();
    let _ = writeln!(out, "\n{} -> {}", inputs.join(", "), outputs.join(", "));
    let _ = writeln!(
        out,
        "calibrated on {} {}; fractional bits: weights {}, normalised rows {}, products {}, queries {}, residual {}",
        compiled.worth.samples,
        if compiled.worth.made_up { "made-up inputs" } else { "inputs" },
        s.weight,
        s.normalised,
        s.operand,
        s.query,
        compiled.residual
    );
    let coarser = compiled.rungs.0.values().filter(|&&rung| rung > 1).count();
    if coarser > 0 {
        let _ = writeln!(out, "{coarser} nodes work with fewer, for want of width");
    }
    if let Some(plan) = &compiled.plan {
        let greatest = plan.decode.last().copied().unwrap_or(0);
        let _ = writeln!(out, "a context of {} tokens, which takes up to {} slots", plan.context, plan.slots());
        if greatest < plan.slots() {
            let _ = writeln!(out, "sessions end at {greatest} slots, padding of the prompt included");
        }
    }
    out.push_str(&summary(&compiled.schedules));
    out
}

/// One run of the only entry, or a table of them.
pub fn summary(entries: &[Program]) -> String {
    if let [entry] = entries {
        return totals(entry);
    }
    let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0).max(5);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<width$} {:>7} {:>8} {:>13} {:>13} {:>9} {:>10} {:>10} {:>9}",
        "entry", "rounds", "one-way", "client sends", "server sends", "made", "to client", "to server", "peak"
    );
    for entry in entries {
        let cost = cost::cost(entry);
        let _ = writeln!(
            out,
            "{:<width$} {:>7} {:>8} {:>13} {:>13} {:>9} {:>10} {:>10} {:>9}",
            entry.name,
            cost.rounds,
            cost.one_way_messages,
            size(cost.client_sent_bytes),
            size(cost.server_sent_bytes),
            made(entry).map_or_else(|| "-".to_owned(), size),
            size(cost.client_material_bytes),
            size(cost.server_material_bytes),
            size(8 * cost.peak_elements)
        );
    }
    let _ = writeln!(
        out,
        "made: material that both parties make and the server keeps (no third party); or it goes to client and server (trusted \
         dealer), and once {} of masked weights to the client",
        size(cost::setup_bytes(entries))
    );
    out
}

/// Where a run is predicted.
pub struct Place {
    /// Between the parties.
    pub link: Link,
    /// The parties'.
    pub cores: Cores,
    /// Of a core.
    pub speed: Speed,
}

/// What `sscc cost` prints, with a prediction for a place.
pub fn cost(module: &Module, place: Option<&Place>) -> String {
    let mut out = String::new();
    if module.entries.len() > 1 {
        out.push_str(&summary(&module.entries));
        out.push('\n');
    }
    for entry in &module.entries {
        let cost = cost::cost(entry);
        let _ = writeln!(out, "entry {}", entry.name);
        if module.entries.len() == 1 {
            out.push_str(&totals(entry));
        }
        if let Some(Place { link, cores, speed }) = place {
            let p = predict(entry, *link, *cores, speed);
            let _ = writeln!(
                out,
                "online   about {:.2} s on {link}, {cores}: alone, latency takes {:.2} s, bytes {:.2} s, computing {:.2} s",
                p.online_seconds, p.latency_seconds, p.transfer_seconds, p.compute_seconds
            );
        }
        let _ =
            writeln!(out, "\n{:<12} {:>6} {:>12} {:>12} {:>12}", "op", "count", "sent", "material", "multiply-adds");
        for (name, row) in by_op(entry, &cost) {
            let _ = writeln!(
                out,
                "{name:<12} {:>6} {:>12} {:>12} {:>12}",
                row.count,
                size(row.sent_bytes),
                size(row.material_bytes),
                if row.macs == 0 { String::new() } else { format!("{:.1} M", row.macs as f64 / 1e6) }
            );
        }
    }
    out
}

/// The same as JSON.
pub fn cost_json(module: &Module, place: Option<&Place>) -> String {
    let entries: Vec<Value> = module
        .entries
        .iter()
        .map(|entry| {
            let cost = cost::cost(entry);
            let instructions: Vec<Value> = entry
                .instrs
                .iter()
                .zip(&cost.per_instruction)
                .enumerate()
                .map(|(index, (instr, c))| {
                    json!({
                        "index": index,
                        "op": instr.op.mnemonic(),
                        "origin": instr.origin.map(|o| &entry.origins[o.index()]),
                        "client_payload_bytes": c.client_payload_bytes,
                        "server_payload_bytes": c.server_payload_bytes,
                        "client_material_bytes": c.dealt.to_both_bytes,
                        "server_material_bytes": c.dealt.to_both_bytes + c.dealt.to_server_bytes,
                        "macs": c.macs,
                    })
                })
                .collect();
            let predicted = place.map(|Place { link, cores, speed }| {
                let p = predict(entry, *link, *cores, speed);
                json!({
                    "rtt_seconds": link.rtt_seconds,
                    "bits_per_second": link.bits_per_second,
                    "online_seconds": p.online_seconds,
                    "latency_seconds": p.latency_seconds,
                    "transfer_seconds": p.transfer_seconds,
                    "compute_seconds": p.compute_seconds,
                })
            });
            json!({
                "entry": entry.name,
                "rounds": cost.rounds,
                "one_way_messages": cost.one_way_messages,
                "client_sent_bytes": cost.client_sent_bytes,
                "client_ahead_bytes": cost.client_ahead_bytes,
                "server_sent_bytes": cost.server_sent_bytes,
                "client_material_bytes": cost.client_material_bytes,
                "server_material_bytes": cost.server_material_bytes,
                "material_bytes": cost.client_material_bytes + cost.server_material_bytes,
                "made_bytes": made(entry),
                "setup_bytes": cost.setup_bytes,
                "peak_elements": cost.peak_elements,
                "macs": cost.macs,
                "predicted": predicted,
                "instructions": instructions,
            })
        })
        .collect();
    format!("{:#}\n", json!({ "setup_bytes": cost::setup_bytes(&module.entries), "entries": entries }))
}

/// What `sscc inspect` prints.
pub fn inspect(module: &Module) -> String {
    let mut out = String::new();
    for (name, value) in &module.metadata {
        let _ = writeln!(out, "; {name}: {}", value.replace('\n', "\\n"));
    }
    if module.entries.len() > 1 {
        for line in summary(&module.entries).lines() {
            let _ = writeln!(out, "; {line}");
        }
    }
    for entry in &module.entries {
        out.push_str(&ir::print::program(entry));
        for line in totals(entry).lines() {
            let _ = writeln!(out, "; {line}");
        }
    }
    out
}

/// Bytes of material that the server keeps where both parties make it, if they can.
fn made(entry: &Program) -> Option<u64> {
    ir::pair::unmade(entry).is_none().then(|| ir::pair::server_bytes(entry))
}

fn totals(entry: &Program) -> String {
    let cost = cost::cost(entry);
    let made = made(entry).map(|made| format!("{} at the server (no third party), or ", size(made)));
    format!(
        "one run  {} rounds + {} one-way messages\n\
         \x20        client sends {}, server sends {}; {} of the client's leave before its input is known\n\
         \x20        material: {}{} to the client, {} to the server (trusted dealer)\n\
         once     with a dealer, {} of masked weights to the client\n",
        cost.rounds,
        cost.one_way_messages,
        size(cost.client_sent_bytes),
        size(cost.server_sent_bytes),
        size(cost.client_ahead_bytes),
        made.unwrap_or_default(),
        size(cost.client_material_bytes),
        size(cost.server_material_bytes),
        size(cost.setup_bytes)
    )
}

#[derive(Default)]
struct Row {
    count: u64,
    sent_bytes: u64,
    material_bytes: u64,
    macs: u64,
}

/// Costs by op; what the dealer sends for an `open` serves the reads that lift.
fn by_op(program: &Program, cost: &Cost) -> BTreeMap<&'static str, Row> {
    let mut rows: BTreeMap<&'static str, Row> = BTreeMap::new();
    for (instr, c) in program.instrs.iter().zip(&cost.per_instruction) {
        let row = rows.entry(instr.op.mnemonic()).or_default();
        row.count += 1;
        row.sent_bytes += c.client_payload_bytes + c.server_payload_bytes;
        row.material_bytes += 2 * c.dealt.to_both_bytes + c.dealt.to_server_bytes;
        row.macs += c.macs;
    }
    rows.retain(|_, row| row.sent_bytes + row.material_bytes + row.macs > 0);
    rows
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
