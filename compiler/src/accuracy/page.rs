//! A comparison as a page with plots, which needs no network.

use std::fmt::Write;

use super::text::{advice, by_layer, percent, range_name};
use super::{Errors, Report};
use crate::html::{Plot, document, escape, table, ticks};

/// Ranges that the table lists, fullest first.
const LISTED: usize = 100;

/// The page; `name` is that of the program.
pub fn page(report: &Report, name: &str) -> String {
    let mut body = format!("<h1>{}: the private result against float</h1>\n", escape(name));
    let _ = writeln!(
        body,
        "<p>{} of {} inputs, run in the clear as two parties would run them, beside the float model.</p>",
        report.rows, report.given
    );
    body.push_str("<h2>What to change</h2><ul>");
    for line in advice(report) {
        let _ = write!(body, "<li>{}</li>", escape(&line));
    }
    body.push_str("</ul>\n<h2>Outputs</h2>\n");
    let outputs = report.outputs.iter().map(|o| {
        let (agree, divergence) = o.classes.map_or((String::new(), String::new()), |c| {
            (format!("{} of {}", c.agree, c.rows), format!("{:.1e}", c.divergence))
        });
        let figures = [o.spread, o.greatest, o.mean].map(|v| format!("{v:.3e}"));
        let mut row = vec![escape(&o.name)];
        row.extend(figures);
        row.extend([percent(o.relative()), agree, divergence]);
        row
    });
    let head = ["output", "spread", "greatest error", "mean error", "of the spread", "top-1", "KL, nats"];
    body.push_str(&table(&head, outputs, 1));
    if let Some((equal, all)) = report.tokens {
        let _ = writeln!(body, "<p>Greedy tokens as in float: {equal} of {all}.</p>");
    }
    report.outputs.iter().for_each(|output| body.push_str(&scatter(output)));
    if !report.nodes.is_empty() {
        body.push_str("<h2>Where the error arises</h2>\n");
        body.push_str(&growth(report));
        body.push_str(&layers(report));
    }
    if !report.ranges.is_empty() {
        body.push_str("<h2>How much of each range is used</h2>\n");
        body.push_str(&ranges(report));
    }
    document(&format!("{name}: accuracy"), "", &body, "")
}

/// Private value against float.
fn scatter(output: &Errors) -> String {
    let ends = output.points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), &(f, p)| {
        let (f, p) = (f64::from(f), f64::from(p));
        (lo.min(f).min(p), hi.max(f).max(p))
    });
    if output.points.is_empty() {
        return String::new();
    }
    let mut plot = Plot::new((420.0, 320.0), ends, ends);
    for tick in ticks(ends) {
        plot.tick_x(tick, tick as f32);
        plot.tick_y(tick, tick as f32);
    }
    plot.line([(ends.0, ends.0), (ends.1, ends.1)], "line");
    for &(float, private) in &output.points {
        plot.dot(f64::from(float), f64::from(private), "blue", "");
    }
    plot.label_x(&format!("{}: private (up) over float (right)", output.name));
    plot.svg()
}

/// Relative error, node by node.
fn growth(report: &Report) -> String {
    let errors: Vec<f64> = report.nodes.iter().map(|n| n.relative().max(1e-8).log10()).collect();
    let lo = errors.iter().copied().fold(0.0, f64::min).floor();
    let hi = errors.iter().copied().fold(f64::NEG_INFINITY, f64::max).ceil().max(lo + 1.0);
    let mut plot = Plot::new((960.0, 300.0), (0.0, errors.len() as f64), (lo, hi));
    for exponent in lo as i32..=hi as i32 {
        plot.tick_y(f64::from(exponent), format_args!("1e{exponent}"));
    }
    let mut current = None;
    for (i, node) in report.nodes.iter().enumerate() {
        let layer = report.layers.of(&node.origin);
        if current != Some(layer) {
            current = Some(layer);
            plot.tick_x(i as f64, layer);
        }
    }
    plot.line(errors.iter().enumerate().map(|(i, &e)| (i as f64, e)), "blue");
    let source = report.source().map(|n| &n.origin);
    for (i, (node, &error)) in report.nodes.iter().zip(&errors).enumerate() {
        let colour = if source == Some(&node.origin) { "red" } else { "blue" };
        let title = format!("{} ({}): {:.2e}, new {:.1e}", node.origin, node.op, node.relative(), node.added);
        plot.dot(i as f64, error, colour, &title);
    }
    plot.label_x(
        "nodes in the order of the graph, marked where a layer begins; error relative to the values (root mean square)",
    );
    plot.svg()
}

fn layers(report: &Report) -> String {
    let rows = by_layer(report).into_iter().map(|(layer, nodes)| {
        let most = nodes.iter().max_by(|a, b| a.added.total_cmp(&b.added)).expect("a layer has a node");
        let last = nodes.last().expect("a layer has a node");
        vec![
            report.layers.of(&last.origin).to_string(),
            escape(layer),
            format!("<code>{}</code> {}", escape(&most.origin), most.op),
            format!("{:.1e}", most.added),
            format!("{:.1e}", last.relative()),
        ]
    });
    table(&["", "layer", "most is new at", "new there", "after the layer"], rows, 3)
}

/// The used part of every claim and table, in the order of the program; then a list.
fn ranges(report: &Report) -> String {
    let parts: Vec<f64> = report.ranges.iter().map(|r| r.part().max(1e-6).log2()).collect();
    let lo = parts.iter().copied().fold(-1.0, f64::min).floor();
    let hi = parts.iter().copied().fold(0.0, f64::max).ceil() + 0.5;
    let mut plot = Plot::new((960.0, 260.0), (0.0, parts.len() as f64), (lo, hi));
    let step = ((hi - lo) / 8.0).ceil().max(1.0);
    let mut exponent = (lo / step).ceil() * step;
    while exponent <= hi {
        plot.tick_y(exponent, percent(exponent.exp2()));
        exponent += step;
    }
    plot.line([(0.0, 0.0), (parts.len() as f64, 0.0)], "red");
    for (i, (range, &part)) in report.ranges.iter().zip(&parts).enumerate() {
        let colour = if range.outside > 0 {
            "red"
        } else if range.op == "open" {
            "blue"
        } else {
            "green"
        };
        let title = format!("{}, {}: {} used", range.origin, range_name(range), percent(range.part()));
        plot.dot(i as f64, part, colour, &title);
    }
    plot.label_x("claims (blue) and tables (green) in the order of the program; red: values lie outside");
    let mut fullest: Vec<_> = report.ranges.iter().collect();
    fullest.sort_by(|a, b| b.part().total_cmp(&a.part()));
    let rows = fullest.into_iter().take(LISTED).map(|r| {
        let ends = |(lo, hi): (f64, f64)| format!("{lo:.3e} to {hi:.3e}");
        let outside = if r.outside > 0 { format!("<span class=\"bad\">{}</span>", r.outside) } else { String::new() };
        vec![
            format!("<code>{}</code>", escape(&r.origin)),
            escape(&range_name(r)),
            ends(r.seen),
            ends(r.room),
            percent(r.part()),
            outside,
        ]
    });
    let list = table(&["node", "range", "seen", "room", "used", "outside"], rows, 2);
    format!("{}<details><summary>The fullest ranges</summary>{list}</details>\n", plot.svg())
}
