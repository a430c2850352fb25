//! `Gelu`: x/2 plus an even function, which a cosine series fits on the calibrated interval. One opening, one round.
//!
//! Outside its interval the series is a triangle wave, near |x|/2, so what lies a little outside loses accuracy and no
//! more; the claim of the opening, which `lift` needs for x/2, is the provable bound.

use ir::Value;

use super::Context;
use super::draft::Draft;
use crate::diagnostic::Diagnostic;
use crate::graph::{GeluForm, NodeId};
use crate::tables::{self, Search, functions};

/// The series is fitted this far beyond the greatest input seen.
const MARGIN: f64 = 1.5;

/// Greatest error of the quantised series on its interval.
const TOLERANCE: f64 = 5e-4;

/// Bits that the result typically needs above its scale, for pricing: the product that follows works at about 26 bits
/// of headroom.
const INTEGER_BITS: u8 = 27;

/// Lowers a GELU of `x`, which `operand` computes in the graph.
pub fn lower(
    context: &Context,
    draft: &mut Draft,
    x: Value,
    id: NodeId,
    operand: NodeId,
    form: GeluForm,
) -> Result<Value, Diagnostic> {
    let x = draft.down_to(x, context.scales.activation);
    let seen = context.ranges.seen[&id].channels.iter().copied().fold(0.0, f64::max);
    let provable = context.ranges.bounds.get(&operand).map_or(f64::INFINITY, |b| b.greatest());
    let reach = (seen * MARGIN * context.ranges.margin).min(provable).max(1.0);
    let search = Search {
        periods_log2: &[2, 3, 4, 5, 6, 7],
        scales: &[(13, 13), (14, 14), (15, 15)],
        max_terms: 64,
        x_scale: context.scales.activation,
        integer_bits: INTEGER_BITS,
    };
    let even = move |v: f64| functions::gelu_even(form, v);
    let choice = tables::choose_series(&even, -reach, reach, true, TOLERANCE, &search).ok_or_else(|| {
        Diagnostic::new("no series fits this GELU")
            .at(format!("node \"{}\"", context.graph.node(id).origin))
            .because(format!("inputs reach {seen:.1} in calibration, so the table has to reach {reach:.1}"))
            .help("calibrate with inputs like the ones that will be asked")
    })?;
    let table = draft.table("gelu", choice.table);
    let opened = draft.open_within(x, context.ranges.claim(operand, 4.0));
    let even = draft.series(opened, table);
    let lifted = draft.lift(opened);
    let half = draft.halve(lifted, 1);
    let half = draft.up_to(half, draft.scale(even));
    Ok(draft.add(even, half))
}
