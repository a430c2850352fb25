//! GELU, SiLU and their like: x/2 plus an even function that nears |x|/2, which a cosine series or lines on cells fit on the
//! calibrated interval. A series takes one opening and one round; cells a third or less of the material, and a round or two more.
//!
//! Outside its interval the even part is a triangle wave, near |x|/2, so what lies a little outside loses accuracy and no
//! more; the claim that x/2 needs, of a `lift` or an `extend`, is the provable bound.
//!
//! The number of terms, and with it the material, grows with the interval, and in trained models few channels need a
//! wide one. So channels are lowered by groups of equal period, which `pass::group_channels` has made contiguous.

use ir::pair::Maker;
use ir::{Scale, Table, Value};

use super::Context;
use super::draft::{Draft, LATER};
use super::variant::ActivationVariant;
use crate::calibrate::Ranges;
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::{Function, NodeId};
use crate::tables::{self, Search};

/// The series is fitted this far beyond the greatest input seen.
const MARGIN: f64 = 1.5;

/// A period is at least this many times the reach of its table.
const PERIOD: f64 = 2.2;

/// Least period, as a power of two.
const LEAST_PERIOD_LOG2: i8 = 3;

/// Greatest period, as a power of two: an opening of 24 bits at the most.
const GREATEST_PERIOD_LOG2: i8 = 10;

/// Greatest error of the quantised series on its interval, as far as [`NARROW`]; in proportion beyond.
const TOLERANCE: f64 = 5e-4;

/// See [`TOLERANCE`].
const NARROW: f64 = 16.0;

/// Cells for each unit of an argument, as a power of two. Lines on sixteenths are 1.3e-3 off at the worst and 1e-4 on
/// average, without bias: the mask decides where in a cell an argument lies.
const CELLS_PER_UNIT_LOG2: i8 = 4;

/// Most cells, as a power of two: periods beyond take a series.
const MOST_CELLS_LOG2: u8 = 9;

/// The same where two parties make the unit vectors.
const MOST_MADE_LOG2: u8 = 12;

/// Greatest period of a table of the even part itself, as a power of two. Beyond, slopes at [`cells_scale`] are too coarse.
const GREATEST_EVEN_LOG2: i8 = 7;

/// Fractional bits of what cells give.
const CELLS_SCALE: Scale = 19;

/// Fractional bits of a table of the even part of a period: a party adds up any of its numbers, which near a quarter of the period, in
/// 32 bits, so that there are two less for each doubling.
fn cells_scale(period_log2: i8) -> Scale {
    CELLS_SCALE - 2 * Scale::from((period_log2 - 5).max(0))
}

/// An activation may exceed its argument by this much, rounding and error included.
const CELLS_ROOM: f64 = 0.25;

/// Bits that the result typically needs above its scale, for pricing: the product that follows works at about this much
/// headroom.
const INTEGER_BITS: u8 = 27;

/// Whether a function is x times a gate between 0 and 1 that is 1/2 at 0 and whose distance to 1/2 is odd: what this file
/// lowers.
pub fn is_gated(f: Function) -> bool {
    matches!(f, Function::Gelu(_)) || matches!(f, Function::Swish { beta } if beta > 0.0)
}

/// log2 of the period that each channel of an activation needs.
pub fn periods(ranges: &Ranges, id: NodeId, operand: NodeId) -> Vec<i8> {
    let bounds = ranges.bounds.get(&operand);
    let reach = |(channel, seen): (usize, &f64)| {
        let provable = bounds.map_or(f64::INFINITY, |b| b.channels[channel]);
        let calibrated = seen * MARGIN * ranges.margin;
        if ranges.thin && provable.is_finite() { provable } else { calibrated.min(provable) }
    };
    let period = |reach: f64| ((reach * PERIOD).log2().ceil() as i8).clamp(LEAST_PERIOD_LOG2, GREATEST_PERIOD_LOG2);
    ranges.seen[&id].channels.iter().enumerate().map(reach).map(period).collect()
}

/// Lowers f(x), x being what `operand` computes in the graph.
pub fn lower(
    context: &Context,
    draft: &mut Draft,
    x: Value,
    id: NodeId,
    operand: NodeId,
    f: Function,
) -> Result<Value, Diagnostic> {
    let x = draft.down_to(x, context.scales(id).activation);
    let axis = draft.shape(x).len() as u32 - 1;
    // What lies far beyond the greatest period would wrap around, so it is refused before anything is fitted.
    let farthest = context.ranges.seen[&id].channels.iter().copied().fold(0.0, f64::max);
    if farthest > f64::from(GREATEST_PERIOD_LOG2).exp2() / PERIOD {
        return Err(too_far(context, id, f, farthest));
    }
    let mut periods = periods(context.ranges, id, operand);
    if !periods.is_sorted() {
        // Nothing could be permuted, so all channels share the greatest period.
        let greatest = periods.iter().copied().max().expect("channels");
        periods.fill(greatest);
    }
    let (mut groups, mut from) = (Vec::new(), 0);
    for group in periods.chunk_by(|a, b| a == b) {
        let to = from + group.len();
        let part = draft.slice(x, axis, from as u32, to as u32);
        let bound = context.ranges.claim_of_channels(operand, from..to, 4.0);
        groups.push(lower_group(context, draft, part, id, f, group[0], bound)?);
        from = to;
    }
    Ok(draft.concat(&groups, axis))
}

/// Lowers channels that share a period and a bound.
fn lower_group(
    context: &Context,
    draft: &mut Draft,
    x: Value,
    id: NodeId,
    f: Function,
    period_log2: i8,
    bound: f64,
) -> Result<Value, Diagnostic> {
    let reach = f64::from(period_log2).exp2() / PERIOD;
    let search = Search {
        periods_log2: &[period_log2],
        scales: &[(13, 13), (14, 14), (15, 15)],
        max_terms: 20 << (period_log2 - 4).max(0),
        x_scale: context.scales(id).activation,
        integer_bits: INTEGER_BITS,
    };
    let even = move |v: f64| f.value(v) - 0.5 * v;
    let tolerance = TOLERANCE * (reach / NARROW).max(1.0);
    let find = || tables::choose_series(&even, -reach, reach, true, tolerance, &search).map(|choice| choice.table);
    let table = context.memo.series(format!("{f:?} {period_log2} {}", search.x_scale), find);
    let table = table.ok_or_else(|| too_far(context, id, f, reach / MARGIN / context.ranges.margin))?;
    let Table::Series { cos, .. } = &table else { unreachable!("a series") };
    let elements = draft.shape(x).iter().copied().map(f64::from).product();
    let cells_log2 = (period_log2 + CELLS_PER_UNIT_LOG2) as u8;
    let (most, terms) = match context.maker {
        Maker::Dealer => (MOST_CELLS_LOG2, Some(cos.len())),
        // Nobody makes a series.
        Maker::Pair => (MOST_MADE_LOG2, None),
    };
    if cells_log2 <= most
        && let ActivationVariant::Cells { extends, .. } =
            ActivationVariant::pick(context.link, terms, cells_log2, elements)
    {
        return Ok(by_cells(context, draft, x, id, f, (period_log2, bound), extends));
    }
    let table = draft.table(f.name(), table);
    // The series reads a whole period, however narrow the claim.
    let opened = draft.open_within(x, bound.max(0.99 * f64::from(period_log2 - 2).exp2()));
    let even = draft.series(opened, table);
    let lifted = draft.lift(opened);
    let half = draft.halve(lifted, 1);
    let half = draft.up_to(half, draft.scale(even));
    let sum = draft.add(even, half);
    // Groups may differ in the scale of their series; what follows works at this one.
    Ok(draft.down_to(sum, context.scales(id).operand))
}

/// f(x) as x/2 and lines on cells of a period of its even part, which is a triangle wave beyond.
fn by_cells(
    context: &Context,
    draft: &mut Draft,
    x: Value,
    id: NodeId,
    f: Function,
    (period_log2, bound): (i8, f64),
    extends: bool,
) -> Value {
    let scale = draft.scale(x);
    let even = |v: f64| f.value(v) - 0.5 * v;
    let bump = |v: f64| f.value(v) - v.max(0.0);
    // What is beside max(x, 0), for which the sign is looked at, has small numbers however long the table, but a corner: a hundredth is
    // lost there.
    let apart = period_log2 > GREATEST_EVEN_LOG2;
    let (lines, cells_scale): (&dyn Fn(f64) -> f64, Scale) =
        if apart { (&bump, CELLS_SCALE) } else { (&even, cells_scale(period_log2)) };
    let table = tables::cells(lines, period_log2, CELLS_PER_UNIT_LOG2, scale, cells_scale);
    let table = draft.table(f.name(), table);
    let opened = draft.open_whole(x, (Scale::from(period_log2) + scale) as u8);
    let lines = draft.cells(opened, table);
    let wide = if extends { x } else { draft.extend(x, bound) };
    let rest = if apart { positive(draft, x, wide, bound) } else { draft.halve(wide, 1) };
    let rest = draft.up_to(rest, cells_scale);
    let sum = draft.add(lines, rest);
    let sum = draft.down_to(sum, context.scales(id).operand);
    if extends { draft.extend(sum, bound + CELLS_ROOM) } else { sum }
}

/// max(x, 0) for |x| < `bound`, by x's sign; `wide` is x in the ring of the result.
fn positive(draft: &mut Draft, x: Value, wide: Value, bound: f64) -> Value {
    let shape = draft.shape(x).to_vec();
    let unit = f64::from(-draft.scale(x)).exp2();
    let sign = draft.open_to_compare(x, bound, unit);
    let column = [&shape[..], &[1]].concat();
    let wide = draft.reshape(wide, &column);
    let whole = draft.open_whole(wide, LATER);
    let positive = draft.select(sign, whole);
    draft.reshape(positive, &shape)
}

/// What to say where inputs reach farther than a series does.
fn too_far(context: &Context, id: NodeId, f: Function, reach: f64) -> Diagnostic {
    let report = Diagnostic::new(Code::ActivationReach, format!("no series fits this {}", f.name()))
        .at(format!("node \"{}\"", context.graph.node(id).origin))
        .because(format!("some of its channels reach {reach:.1} in calibration"));
    super::unfit::what_helps(report, context.ranges, 0.0)
}
