//! A comparison as text and as JSON, and what follows from it.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Errors, NodeError, RangeUse, Report};
use crate::recipe::Accuracy;

/// Nodes that a list shows.
const SHOWN: usize = 5;

/// Errors below this part of the spread are those of rounding.
const SMALL: f64 = 0.02;

/// A claim of which less than this part is used is wide.
const WIDE: f64 = 1.0 / 64.0;

/// The line that `sscc compile` prints of its held-back inputs.
pub fn brief(report: &Report) -> String {
    let (broken, left) = (count(report.broken()), count(report.left()));
    let mut out = format!(
        "checked on {} held-back {}: greatest error {} of the spread",
        report.rows,
        if report.rows == 1 { "input" } else { "inputs" },
        percent(report.relative())
    );
    if let Some((equal, all)) = report.tokens {
        let _ = write!(out, ", {equal} of {all} tokens as in float");
    }
    let _ = writeln!(out, ", {broken} values outside their claims, {left} outside their tables");
    for (what, range) in report.broken().map(|r| ("claim", r)).chain(report.left().map(|r| ("table", r))).take(SHOWN) {
        let _ = writeln!(out, "  {} {what}: {}", node(&range.origin), seen(range));
    }
    out
}

/// What a recipe keeps of a comparison.
pub fn kept(report: &Report) -> Accuracy {
    let layers =
        by_layer(report).into_iter().filter_map(|(name, nodes)| Some((name.to_owned(), nodes.last()?.relative())));
    // What is no number is no JSON either.
    Accuracy { summary: brief(report), layers: layers.filter(|(_, error)| error.is_finite()).collect() }
}

/// The report that `sscc accuracy` prints.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    let rows = if report.rows == 1 { "1 input".to_owned() } else { format!("{} inputs", report.rows) };
    let of = if report.rows < report.given { format!(" of {}", report.given) } else { String::new() };
    let _ = writeln!(out, "{rows}{of}, the private result in the clear against float\n");
    let width = report.outputs.iter().map(|o| o.name.len()).max().unwrap_or(0).max(6);
    let _ = writeln!(
        out,
        "{:width$} {:>10} {:>10} {:>10} {:>10} {:>12} {:>10}",
        "output", "spread", "greatest", "mean", "relative", "top-1", "KL, nats"
    );
    for o in &report.outputs {
        let (agree, divergence) = o.classes.map_or((String::new(), String::new()), |c| {
            (format!("{} of {}", c.agree, c.rows), format!("{:.1e}", c.divergence))
        });
        let _ = writeln!(
            out,
            "{:width$} {:>10.4} {:>10.2e} {:>10.2e} {:>10} {agree:>12} {divergence:>10}",
            o.name,
            o.spread,
            o.greatest,
            o.mean,
            percent(o.relative())
        );
        if o.not_numbers > 0 {
            let _ = writeln!(out, "{:width$} {} floats are infinite or no numbers", "", o.not_numbers);
        }
    }
    if let Some((equal, all)) = report.tokens {
        let _ = writeln!(out, "\ngreedy tokens: {equal} of {all} as in float");
    }
    out.push('\n');
    list(&mut out, "values outside their claims", report.broken());
    list(&mut out, "values outside their tables", report.left());
    if let Some(count) = report.outside {
        let _ = writeln!(out, "values outside as the runs tell the client: {count}");
    }

    if report.nodes.iter().any(|n| n.relative() > 0.0) {
        let _ = writeln!(out, "\nwhere the error arises (root mean square, relative to the values)");
        for (layer, nodes) in by_layer(report) {
            let most = nodes.iter().max_by(|a, b| a.added.total_cmp(&b.added)).expect("a layer has a node");
            let last = nodes.last().expect("a layer has a node");
            let added =
                if most.added > 0.0 { format!("most at {} ({})", node(&most.origin), most.op) } else { String::new() };
            let _ = writeln!(out, "  {layer:28} {:>9} {added}", format!("{:.1e}", last.relative()));
        }
    }
    if let Some(fullest) = fullest(report) {
        let _ = writeln!(out, "\nhow much of the ranges is used: {} claims and tables", report.ranges.len());
        let mut parts: Vec<f64> = report.ranges.iter().map(RangeUse::part).collect();
        parts.sort_by(f64::total_cmp);
        let at = |q: usize| percent(parts[(parts.len() - 1) * q / 4]);
        let _ = writeln!(out, "  quartiles {} {} {} {} {}", at(0), at(1), at(2), at(3), at(4));
        let _ = writeln!(out, "  fullest: {}, {}: {}", node(&fullest.origin), range_name(fullest), seen(fullest));
    }
    let _ = writeln!(out, "\nwhat to change");
    for line in advice(report) {
        let _ = writeln!(out, "  {line}");
    }
    out
}

/// The same as JSON.
pub fn json(report: &Report) -> String {
    let output = |o: &Errors| {
        json!({
            "name": o.name,
            "spread": o.spread,
            "greatest": o.greatest,
            "mean": o.mean,
            "relative": o.relative(),
            "not_numbers": o.not_numbers,
            "rows": o.classes.map(|c| c.rows),
            "top1_agree": o.classes.map(|c| c.agree),
            "kl_nats": o.classes.map(|c| c.divergence),
        })
    };
    let node = |n: &NodeError| {
        json!({
            "node": n.origin,
            "op": n.op,
            "layer": report.layers.names.get(report.layers.of(&n.origin)),
            "relative": n.relative(),
            "greatest": n.greatest,
            "added": n.added,
        })
    };
    let range = |r: &RangeUse| {
        json!({
            "node": r.origin,
            "layer": report.layers.names.get(report.layers.of(&r.origin)),
            "kind": if r.op == "open" { "claim" } else { "table" },
            "readers": r.readers,
            "seen": [r.seen.0, r.seen.1],
            "room": [r.room.0, r.room.1],
            "used": r.part(),
            "outside": r.outside,
            "elements": r.elements,
        })
    };
    let value = json!({
        "rows": report.rows,
        "given": report.given,
        "relative": report.relative(),
        "outputs": report.outputs.iter().map(output).collect::<Vec<Value>>(),
        "tokens": report.tokens.map(|(equal, all)| json!({ "equal": equal, "all": all })),
        "broken_claims": count(report.broken()),
        "left_tables": count(report.left()),
        "outside": report.outside,
        "source": report.source().map(|n| &n.origin),
        "nodes": report.nodes.iter().map(node).collect::<Vec<Value>>(),
        "ranges": report.ranges.iter().map(range).collect::<Vec<Value>>(),
        "advice": advice(report),
    });
    format!("{value:#}\n")
}

/// What to change, one sentence a line; at least one.
pub fn advice(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(worst) = report.broken().max_by(|a, b| a.part().total_cmp(&b.part())) {
        lines.push(format!(
            "Add inputs like these to --calibrate: at {} values reach {:.3e}, the claim ends at {:.3e}.",
            node(&worst.origin),
            worst.seen.0.abs().max(worst.seen.1.abs()),
            worst.room.1
        ));
    }
    if let Some(worst) = report.left().max_by_key(|r| r.outside) {
        lines.push(format!(
            "Add inputs like these to --calibrate: at {} {} of {} values leave the table.",
            node(&worst.origin),
            worst.outside,
            worst.elements
        ));
    }
    if report.outputs.iter().any(|o| o.not_numbers > 0) {
        lines.push("The float model itself gives infinite values or no numbers on these inputs.".to_owned());
    }
    let inside = lines.is_empty();
    if report.relative() > SMALL
        && let Some(source) = report.source()
    {
        let layer = &report.layers.names[report.layers.of(&source.origin)];
        lines.push(format!(
            "Most of the error is new at {} ({}) in {layer}: {:.1e} of its values.",
            node(&source.origin),
            source.op,
            source.added
        ));
        let wide: Vec<&RangeUse> =
            report.ranges.iter().filter(|r| r.op == "open" && r.origin == source.origin && r.part() < WIDE).collect();
        if let (Some(wide), true) = (wide.first(), inside) {
            lines.push(format!(
                "Its range is {:.0} times what these inputs reach: calibrate with inputs like these, without outliers that \
                 nobody will ask for.",
                1.0 / wide.part().max(1e-9)
            ));
        } else if inside {
            lines.push("Its values lie within their ranges, so more calibration does not help there.".to_owned());
        }
    }
    if lines.is_empty() {
        lines.push("Nothing: the error is that of rounding.".to_owned());
    }
    lines
}

/// Nodes by layer, in the order of layers.
pub(super) fn by_layer(report: &Report) -> Vec<(&str, Vec<&NodeError>)> {
    let mut layers: Vec<(&str, Vec<&NodeError>)> =
        report.layers.names.iter().map(|name| (name.as_str(), Vec::new())).collect();
    for node in &report.nodes {
        layers[report.layers.of(&node.origin)].1.push(node);
    }
    layers.retain(|(_, nodes)| !nodes.is_empty());
    layers
}

fn list<'a>(out: &mut String, title: &str, ranges: impl Iterator<Item = &'a RangeUse>) {
    let ranges: Vec<&RangeUse> = ranges.collect();
    let _ = writeln!(out, "{title}: {}", count(ranges.iter().copied()));
    for range in ranges.iter().take(SHOWN) {
        let _ = writeln!(out, "  {}: {}", node(&range.origin), seen(range));
    }
    if ranges.len() > SHOWN {
        let _ = writeln!(out, "  and at {} more places", ranges.len() - SHOWN);
    }
}

fn fullest(report: &Report) -> Option<&RangeUse> {
    report.ranges.iter().max_by(|a, b| a.part().total_cmp(&b.part()))
}

fn count<'a>(ranges: impl Iterator<Item = &'a RangeUse>) -> u64 {
    ranges.map(|r| r.outside).sum()
}

fn seen(range: &RangeUse) -> String {
    let ((least, greatest), (lo, hi)) = (range.seen, range.room);
    let outside = if range.outside > 0 {
        format!("{} of {} values outside, ", range.outside, range.elements)
    } else {
        String::new()
    };
    format!("{outside}{least:.3e} to {greatest:.3e}, room from {lo:.3e} to {hi:.3e}")
}

/// What a range is, for people.
pub(super) fn range_name(range: &RangeUse) -> String {
    if range.op == "open" { format!("claim for {}", range.readers) } else { "table".to_owned() }
}

fn node(origin: &str) -> String {
    format!("node \"{origin}\"")
}

/// A part for people.
pub(super) fn percent(part: f64) -> String {
    let part = 100.0 * part;
    match part.abs() {
        0.0..0.001 => format!("{part:.1e} %"),
        0.001..1.0 => format!("{part:.3} %"),
        _ => format!("{part:.1} %"),
    }
}
