//! A breakdown as text.

use std::fmt::Write;

use super::{Breakdown, Share};
use crate::recipe::Accuracy;
use crate::report::{Place, size};

/// Width of a column of figures.
const COLUMN: usize = 11;

/// Seconds below which an instruction that sends and takes nothing is left out.
const LEAST: f64 = 5e-5;

/// What `sscc explain PROGRAM` prints of an entry; errors by layer where they are known.
pub fn text(breakdown: &Breakdown, place: &Place, accuracy: Option<&Accuracy>) -> String {
    let layers = breakdown.by_layer();
    let ops = breakdown.by_op();
    let names = layers.iter().map(|(name, _)| name.chars().count()).chain(ops.iter().map(|(_, op, _)| op.len()));
    let width = names.max().unwrap_or(0).max("instruction".len());
    let mut out = String::new();
    let Place { link, cores, .. } = place;
    let _ = writeln!(out, "entry {}: seconds online on {link}, {cores}", breakdown.program.name);
    let head = ["rounds", "one-way", "sent", "made", "dealt", "seconds"];
    let row = |name: &str, cells: &[String]| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>COLUMN$}")).collect();
        format!("{name:width$}{cells}").trim_end().to_owned() + "\n"
    };
    let title = |name: &str, last: &[&str]| {
        let cells: Vec<String> = head.iter().chain(last).map(ToString::to_string).collect();
        row(name, &cells)
    };
    let errors = accuracy.map(|_| "error");
    out += &format!("\n{}", title("layer", errors.as_slice()));
    for (name, share) in &layers {
        let mut cells = figures(share, breakdown.made);
        cells.extend(accuracy.map(|accuracy| accuracy.of(name).map_or_else(String::new, |e| format!("{e:.1e}"))));
        out += &row(name, &cells);
    }
    out += &row("all", &figures(&breakdown.total(), breakdown.made));
    out += &format!("\n{}", title("instruction", &["count"]));
    let mut kind = None;
    let told = |share: &Share| share.sent_bytes + share.dealt_bytes + share.made_bytes > 0 || share.seconds >= LEAST;
    for (of, name, share) in ops.iter().filter(|(_, _, share)| told(share)) {
        if kind != Some(*of) {
            kind = Some(*of);
            let _ = writeln!(out, "{}", of.name());
        }
        let mut cells = figures(share, breakdown.made);
        cells.push(share.count.to_string());
        out += &row(&format!("  {name}"), &cells);
    }
    out
}

/// What the columns mean, and what is known of the error.
pub fn notes(accuracy: Option<&Accuracy>) -> String {
    let mut out = "\nsent: both ways. made: material that both parties make and the server keeps; or dealt: to both, by a trusted dealer. A \
                   message counts to what has most bytes in it. Instructions that cost next to nothing are left out.\n"
        .to_owned();
    match accuracy {
        Some(accuracy) => {
            let _ =
                write!(out, "error: after the layer, relative to the values (root mean square). {}", accuracy.summary);
        }
        None => out += "Errors by layer are not known: sscc accuracy PROGRAM --input X.npz.\n",
    }
    out
}

fn figures(share: &Share, made: bool) -> Vec<String> {
    let bytes = |bytes| if bytes == 0 { String::new() } else { size(bytes) };
    let number = |n: u64| if n == 0 { String::new() } else { n.to_string() };
    vec![
        number(share.rounds),
        number(share.one_way_messages),
        bytes(share.sent_bytes),
        if made { bytes(share.made_bytes) } else { "-".to_owned() },
        bytes(share.dealt_bytes),
        format!("{:.4}", share.seconds),
    ]
}
