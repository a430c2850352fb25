//! What `sscc ops` prints: operators, constructs and functions that are supported, taken from the tables that the importer
//! and the passes work with.

use std::fmt::Write;

use crate::graph::{GeluForm, function};
use crate::onnx::{self, ops::Operator};
use crate::pass::PASSES;

/// Columns of a line.
const COLUMNS: usize = 100;

/// The listing.
pub fn text() -> String {
    let mut out = String::new();
    let (first, last) = (onnx::OPSETS.start(), onnx::OPSETS.end());
    let operators = onnx::ops::operators();
    let _ =
        writeln!(out, "Operators of the standard domain, operator sets {first} to {last} ({})", count(&operators, ""));
    families(&mut out, &operators, "");
    let mut domains: Vec<&str> = operators.iter().map(|o| o.domain).filter(|d| !d.is_empty()).collect();
    domains.sort_unstable();
    domains.dedup();
    for domain in domains {
        let _ = writeln!(out, "\nOperators of {domain} ({})", count(&operators, domain));
        families(&mut out, &operators, domain);
    }
    out.push_str("\nConstructs that are recognised, by the pass that does\n");
    for pass in PASSES.iter().filter(|pass| !pass.makes.is_empty()) {
        row(&mut out, pass.name, pass.makes.iter().copied());
    }
    out.push_str("\nFunctions of one number\n");
    let gelu = [GeluForm::Erf, GeluForm::Tanh].map(|form| match form {
        GeluForm::Erf => "gelu (erf)",
        GeluForm::Tanh => "gelu (tanh)",
    });
    row(&mut out, "", function::NAMES.iter().copied().chain(gelu));
    out.push_str(
        "\nA model whose operators are all listed may still use one in a way that no protocol computes; sscc compile says \
         which and why.\n",
    );
    out
}

fn count(operators: &[Operator], domain: &str) -> usize {
    operators.iter().filter(|o| o.domain == domain).count()
}

fn families(out: &mut String, operators: &[Operator], domain: &str) {
    let mut names: Vec<&str> = Vec::new();
    for operator in operators.iter().filter(|o| o.domain == domain) {
        if !names.contains(&operator.family) {
            names.push(operator.family);
        }
    }
    for family in names {
        let own = operators.iter().filter(|o| o.domain == domain && o.family == family);
        row(out, family, own.map(|o| o.name));
    }
}

/// A name and a list, broken into lines.
fn row<'a>(out: &mut String, name: &str, items: impl Iterator<Item = &'a str>) {
    let mut line = format!("  {name:16}");
    let mut empty = true;
    for item in items {
        if !empty && line.len() + item.len() + 2 > COLUMNS {
            let _ = writeln!(out, "{line},");
            line = format!("  {:16}", "");
            empty = true;
        }
        line.push_str(if empty { "" } else { ", " });
        line.push_str(item);
        empty = false;
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listing_names_what_there_is() {
        let text = text();
        for name in ["LayerNormalization", "MatMul", "rotary position embedding", "softplus", "gelu (tanh)"] {
            assert!(text.contains(name), "{name}\n{text}");
        }
        assert!(text.lines().all(|line| line.len() <= COLUMNS + 60), "{text}");
        for operator in onnx::ops::operators() {
            assert!(text.contains(operator.name), "{}", operator.name);
        }
    }
}
