//! What is said when a value fits no ring: which node, which range, which budget, and what helps.

use super::CLAIM_MARGIN;
use crate::calibrate::Ranges;
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::{Graph, NodeId};
use crate::pass::assign_width::Overflow;

/// Bits of a ring.
const RING: u32 = 64;

/// A claim that no ring holds, at a node of a name.
pub fn too_large(graph: &Graph, ranges: &Ranges, origin: &str, bound: f64, scale: i16) -> Diagnostic {
    let integer = bound.log2().ceil().max(0.0);
    let budget = f64::from(RING) - f64::from(scale) - 2.0;
    let report = Diagnostic::new(Code::LargeValue, "a value does not fit any ring")
        .at(format!("node \"{origin}\""))
        .because(format!(
            "It may reach {bound:.3e}: {integer:.0} integer bits. With {scale} fractional bits, a sign and a spare bit, {RING} \
             bits leave {budget:.0}."
        ));
    let seen = graph.dag.node_indices().filter(|&id| graph.node(id).origin == origin);
    let seen = seen.filter_map(|id| ranges.seen.get(&id)).map(|range| range.abs).fold(0.0, f64::max);
    what_helps(report, ranges, seen)
}

/// A value that is read at more bits than a ring has, whatever the scales.
pub fn too_wide(graph: &Graph, ranges: &Ranges, overflow: &Overflow) -> Diagnostic {
    let needed = overflow.needed;
    let report = Diagnostic::new(Code::Width, format!("`{}` needs more width than a ring has", overflow.op))
        .at(format!("node \"{}\"", overflow.origin));
    let cause = overflow.chain.last().copied();
    let name = |id: NodeId| format!("\"{}\"", graph.node(id).origin);
    let by = cause.map_or_else(|| "its readers".to_owned(), name);
    let seen = cause.and_then(|id| ranges.seen.get(&id)).map_or(0.0, |range| range.abs);
    let report = report.because(format!(
        "{by} reads {needed} bits of it: {} fractional bits and {} for sign and integer part, with the smallest scales that are \
         worth having; a ring has {RING}.",
        overflow.scale,
        i64::from(needed) - i64::from(overflow.scale)
    ));
    what_helps(report, ranges, seen)
}

/// Adds a way out: more calibration where the inputs were a poor guide, not where the model itself reaches that far. `seen`
/// is the greatest value of the node in question, or 0 if the report tells it.
pub fn what_helps(report: Diagnostic, ranges: &Ranges, seen: f64) -> Diagnostic {
    if ranges.margin > 1.0 {
        return report
            .because(format!(
                "Ranges are {} times what was seen, since the calibration inputs are made up, few or alike.",
                CLAIM_MARGIN * ranges.margin
            ))
            .help("--calibrate X.npz with at least 32 real inputs of the length that will be asked");
    }
    let report = match seen > 0.0 {
        true => report.because(format!(
            "The float model itself reaches {seen:.3e} there on the calibration inputs; ranges are up to {CLAIM_MARGIN} times that."
        )),
        false => report,
    };
    report.help(
        "look for outliers in the weights around that node: a factor before it and its inverse after it leave the model the \
         same and the value smaller",
    )
}
