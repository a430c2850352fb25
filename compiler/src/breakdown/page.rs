//! A breakdown as a page with plots, which needs no network.

use std::fmt::Write;

use super::{Breakdown, Kind, Share};
use crate::html::{Plot, document, escape, table, ticks};
use crate::recipe::Accuracy;
use crate::report::{Place, size};

/// Layers whose names an axis shows.
const NAMED: usize = 16;

/// The page of a program's entries; `name` is that of the program.
pub fn page(entries: &[Breakdown], name: &str, place: &Place, accuracy: Option<&Accuracy>) -> String {
    let mut body = format!("<h1>{}: where its cost arises</h1>\n", escape(name));
    let Place { link, cores, .. } = place;
    let _ = writeln!(
        body,
        "<p>Rounds and bytes are exact: a run takes these. Seconds are of the online phase, predicted on {link}, {cores}. A message \
         counts to what has most bytes in it. Material is made by both parties beforehand, where the server keeps it, or dealt to both by a \
         trusted dealer.</p>"
    );
    body.push_str(&legend());
    if entries.len() > 1 {
        body.push_str("<h2>Entries</h2>\n");
        let rows = entries.iter().map(|entry| {
            let mut row = vec![escape(&entry.program.name)];
            row.extend(figures(&entry.total(), entry.made));
            row
        });
        body.push_str(&table(&HEAD.map(|h| if h.is_empty() { "entry" } else { h }), rows, 1));
    }
    for entry in entries {
        body.push_str(&section(entry, accuracy));
    }
    body.push_str("<h2>Errors</h2>\n");
    body.push_str(&match accuracy {
        Some(accuracy) => format!("<p>{}</p>\n", escape(&accuracy.summary)),
        None => "<p>Errors by layer are not known. <code>sscc accuracy PROGRAM --input X.npz --html FILE.html</code> finds and draws them.</p>\n"
            .to_owned(),
    });
    document(&format!("{name}: costs"), STYLE, &body, "")
}

const HEAD: [&str; 7] = ["", "rounds", "one-way", "sent", "made", "dealt", "seconds"];

/// An entry: plots by layer, then both tables.
fn section(entry: &Breakdown, accuracy: Option<&Accuracy>) -> String {
    let name = escape(&entry.program.name);
    let mut out = format!("<h2>{name}</h2>\n<div class=\"plots\">");
    let (material, of_material): (&str, fn(&Share) -> f64) = match entry.made {
        true => ("material that both parties make, bytes", |share| share.made_bytes as f64),
        false => ("material that a dealer deals, bytes", |share| share.dealt_bytes as f64),
    };
    let bytes = |value: f64| size(value as u64);
    out += &plot(entry, "predicted seconds", |share| share.seconds, |value| format!("{}", value as f32));
    out += &plot(entry, "rounds", |share| share.rounds as f64, |value| format!("{value:.0}"));
    out += &plot(entry, "bytes sent, both ways", |share| share.sent_bytes as f64, bytes);
    out += &plot(entry, material, of_material, bytes);
    out += "</div>\n";

    let errors = accuracy.map(|_| "error after it");
    let mut head = HEAD.map(|h| if h.is_empty() { "layer" } else { h }).to_vec();
    head.extend(errors);
    let mut layers: Vec<Vec<String>> = Vec::new();
    for (name, share) in entry.by_layer().into_iter().chain([("all", entry.total())]) {
        let mut row = vec![escape(name)];
        row.extend(figures(&share, entry.made));
        row.extend(accuracy.map(|accuracy| accuracy.of(name).map_or_else(String::new, |e| format!("{e:.1e}"))));
        layers.push(row);
    }
    out += &table(&head, layers, 1);
    let head = ["kind", "instruction", "count", "rounds", "one-way", "sent", "made", "dealt", "seconds"];
    let ops = entry.by_op().into_iter().map(|(kind, op, share)| {
        let mut row =
            vec![format!("{} {}", swatch(kind), kind.name()), format!("<code>{op}</code>"), share.count.to_string()];
        row.extend(figures(&share, entry.made));
        row
    });
    out + "<details><summary>By instruction</summary>" + &table(&head, ops, 2) + "</details>\n"
}

/// One measure: a bar for each layer, parted by kind.
fn plot(entry: &Breakdown, title: &str, measure: fn(&Share) -> f64, label: impl Fn(f64) -> String) -> String {
    let parts: Vec<[f64; 7]> = (0..entry.layers.len())
        .map(|at| Kind::ALL.map(|kind| measure(&entry.sum(|layer, op| layer == at && Kind::of(op) == kind))))
        .collect();
    let most = parts.iter().map(|parts| parts.iter().sum::<f64>()).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let mut plot = Plot::new((520.0, 240.0), (0.0, parts.len() as f64), (0.0, most));
    for tick in ticks((0.0, most)) {
        plot.tick_y(tick, label(tick));
    }
    let step = parts.len().div_ceil(NAMED);
    for (at, (parts, name)) in parts.iter().zip(&entry.layers).enumerate() {
        let x = at as f64;
        if at % step == 0 {
            plot.label_at(x + 0.5, name.rsplit('/').next().unwrap_or(name));
        }
        let mut below = 0.0;
        for (number, (part, kind)) in parts.iter().zip(Kind::ALL).enumerate().filter(|(_, (part, _))| **part > 0.0) {
            let said = format!("{name}, {}: {}", kind.name(), label(*part));
            plot.bar((x + 0.1, x + 0.9), (below, below + part), &format!("k{number}"), &said);
            below += part;
        }
    }
    format!("<figure><figcaption>{title}</figcaption>{}</figure>\n", plot.svg())
}

fn swatch(kind: Kind) -> String {
    let number = Kind::ALL.iter().position(|k| *k == kind).expect("one of all");
    format!("<span class=\"swatch\" style=\"background:var(--k{number})\"></span>")
}

fn legend() -> String {
    let names = Kind::ALL.map(|kind| format!("<span class=\"key\">{} {}</span>", swatch(kind), kind.name()));
    format!("<p>{}</p>\n", names.join(" "))
}

fn figures(share: &Share, made: bool) -> [String; 6] {
    [
        share.rounds.to_string(),
        share.one_way_messages.to_string(),
        size(share.sent_bytes),
        if made { size(share.made_bytes) } else { "-".to_owned() },
        size(share.dealt_bytes),
        format!("{:.4}", share.seconds),
    ]
}

const STYLE: &str = "\
:root{--k0:#2563eb;--k1:#7c3aed;--k2:#0891b2;--k3:#d97706;--k4:#15803d;--k5:#be185d;--k6:#8a929c}
@media (prefers-color-scheme:dark){:root{--k0:#7aa2ff;--k1:#b794f6;--k2:#4cc9e0;--k3:#f0b429;--k4:#5fd38a;--k5:#f472b6;--k6:#7d8590}}
.plots{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}figcaption{color:var(--dim)}
.swatch{display:inline-block;width:.8em;height:.8em;border-radius:2px}.key{margin-right:1rem;white-space:nowrap}
details{margin-top:.8rem}summary{cursor:pointer}
";
