//! What commands say and write: outputs, summaries and reports.

use std::io::Write;
use std::path::Path;

use ir::bytecode::Module;
use ndarray::{ArrayD, ArrayViewD};
use serde::Serialize;
use serde_json::Value;

use super::{CliError, run_error};
use machine::meter::Report;
use processes::inputs::warning;
use processes::net::Links;
use processes::npz;

/// Writes to stdout, whose reader may be gone.
pub(super) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes the outputs to a file, if wanted, and says what they are.
pub(super) fn finish(
    module: &Module,
    outputs: Vec<(String, ArrayD<f32>)>,
    path: Option<&Path>,
) -> Result<(), CliError> {
    match path {
        Some(path) if path.extension().is_some_and(|e| e == "json") => {
            let lists = outputs.iter().map(|(name, array)| (name.clone(), nested(array.view())));
            processes::write_json(path, &Value::Object(lists.collect())).map_err(CliError::Run)?;
        }
        Some(path) => npz::write(path, outputs.iter().map(|(name, array)| (name, array))).map_err(run_error)?,
        None => {}
    }
    let labels: Option<Vec<String>> = module.metadata.get("labels").and_then(|text| serde_json::from_str(text).ok());
    outputs.iter().for_each(|(name, array)| say(&describe(name, array, labels.as_deref().unwrap_or_default())));
    Ok(())
}

/// An array as lists in lists; what is no number is null.
fn nested(array: ArrayViewD<f32>) -> Value {
    match array.ndim() {
        0 => array.first().map_or(Value::Null, |&v| Value::from(v)),
        _ => Value::Array(array.outer_iter().map(nested).collect()),
    }
}

/// The count of several runs of a program.
pub(super) fn sum(so_far: Option<u64>, run: Option<u64>) -> Option<u64> {
    run.map(|run| so_far.unwrap_or(0).saturating_add(run))
}

/// Says so if elements left their tables.
pub(super) fn warn(outside: Option<u64>) {
    outside.and_then(warning).into_iter().for_each(|warning| eprintln!("{warning}"));
}

/// Rows that a summary shows at most.
const ROWS: usize = 16;

/// Elements of a row that a summary shows.
const TOP: usize = 5;

/// Name, shape and, for each row of the last axis, the indices of its greatest elements; with their labels, where a row has
/// as many elements as there are.
fn describe(name: &str, array: &ArrayD<f32>, labels: &[String]) -> String {
    let mut text = format!("{name} {:?}\n", array.shape());
    let rows: Vec<_> = array.rows().into_iter().collect();
    for (i, row) in rows.iter().take(ROWS).enumerate() {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        let top: Vec<String> = order
            .iter()
            .take(TOP)
            .map(|j| match labels.get(*j) {
                Some(label) if labels.len() == row.len() => format!("{j} \"{label}\" ({:.3})", row[*j]),
                _ => format!("{j} ({:.3})", row[*j]),
            })
            .collect();
        text += &format!("  row {i}: argmax {}\n", top.join(", then "));
    }
    if rows.len() > ROWS {
        text += &format!("  and {} rows more\n", rows.len() - ROWS);
    }
    text
}

pub(super) fn summary(reports: &[&Report], online_seconds: f64, links: Option<Links>) -> String {
    let sum = |of: fn(&Report) -> u64| reports.iter().map(|r| of(r)).sum::<u64>();
    let links = links.map_or_else(String::new, |links| format!(", {}", links.name()));
    format!(
        "{}{links}; {} run(s), online {online_seconds:.3} s, {} rounds, sent {}, received {}, material {}\n",
        reports.first().map_or("nothing ran", |report| report.preprocessing),
        reports.len(),
        sum(|r| r.rounds),
        indicatif::DecimalBytes(sum(|r| r.sent_bytes)),
        indicatif::DecimalBytes(sum(|r| r.received_bytes)),
        indicatif::DecimalBytes(sum(|r| r.material_bytes)),
    )
}

pub(super) fn write_report(path: Option<&Path>, report: &impl Serialize) -> Result<(), CliError> {
    let Some(path) = path else { return Ok(()) };
    processes::write_json(path, report).map_err(CliError::Run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_the_greatest() {
        let array = ndarray::array![[[0.5f32, 2.0, -1.0]]].into_dyn();
        assert_eq!(
            describe("logits", &array, &[]),
            "logits [1, 1, 3]\n  row 0: argmax 1 (2.000), then 0 (0.500), then 2 (-1.000)\n"
        );
        let labels = ["a", "b", "c"].map(str::to_owned);
        assert!(describe("logits", &array, &labels).contains("argmax 1 \"b\" (2.000), then 0 \"a\" (0.500)"));
        assert!(!describe("logits", &array, &labels[..2]).contains('"'));
        assert_eq!(nested(array.view()).to_string(), "[[[0.5,2.0,-1.0]]]");
    }
}
