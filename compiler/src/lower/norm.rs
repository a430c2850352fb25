//! `Normalize`: x / sqrt(mean x² + epsilon), rows of d.
//!
//! Three rounds: open x and take the sum of its squares; open that and read 1/sqrt by a spline; open it and multiply
//! with the x that is open already. Where the stream was not centred at compile time, d·x - Σx takes the mean's
//! place: exact and local, at log2(d) bits of headroom.
//!
//! Where two parties make the material, long rows take a round more: extended and opened whole, they are read by
//! products of matrices alone, whose material takes several times less to make than that of reads that want bits of masks.

use ir::pair::Maker;
use ir::{MAX_WIDTH, Pattern, Scale, Table, TableId, Value};

use super::draft::{Draft, LATER};
use super::{Context, Scales};
use crate::calibrate::Ranges;
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeId, Op};
use crate::tables;

/// Knots an octave of the 1/sqrt spline: a relative error of 1.7e-4.
const KNOTS_PER_OCTAVE: u32 = 12;

/// Sums of squares are taken this far beyond what was seen, either way.
const SUM_MARGIN: f64 = 4.0;

/// Length of the rows that two parties open whole: by reckoning, the products of a row take some 100 KB to make whatever its length,
/// and other reads up to 1 KB for each of its elements.
const LEAST_WHOLE: f64 = 128.0;

/// Rows of which all are zero are taken for ones with this sum of squares.
const LEAST_SQUARES: f64 = 1e-12;

/// Proven sums of squares are those of real numbers; what is summed is rounded.
const PROOF_SLACK: f64 = 1.01;

/// The residual stream is kept at no less than this many fractional bits.
const LEAST_RESIDUAL: Scale = 14;

/// The residual stream is kept at no more than this many fractional bits.
const GREATEST_RESIDUAL: Scale = 20;

/// Fractional bits of the residual stream: the row with the least deviation keeps `norm_bits` - 1 significant bits.
pub fn residual_scale(graph: &Graph, ranges: &Ranges) -> Scale {
    let mut scale = LEAST_RESIDUAL;
    for id in graph.order() {
        if let Op::Normalize { epsilon, .. } = graph.node(id).op {
            let d = *graph.node(id).shape.last().expect("rows") as f64;
            scale = scale.max(row_scale(ranges.sum_squares(id).0, d, f64::from(epsilon), Scales::LADDER[0].norm_bits));
        }
    }
    scale.min(GREATEST_RESIDUAL)
}

/// Sums of squares from which a table can be made: rows of zeros are in no octave. Below a small part of epsilon's share
/// the reciprocal root is flat anyway; without an epsilon, rows are short that are 2^-20 times as long as the longest.
fn octaves(lo: f64, hi: f64, epsilon_share: f64) -> (f64, f64) {
    let hi = hi.max(epsilon_share).max(LEAST_SQUARES);
    (lo.max(epsilon_share / 512.0).max(hi * (-40f64).exp2()), hi)
}

/// Fractional bits at which a row of d elements with a sum of squares keeps `bits` - 1 significant ones.
fn row_scale(sum_squares: f64, d: f64, epsilon: f64, bits: Scale) -> Scale {
    bits - 1 + (1.0 / (sum_squares / d + epsilon).max(LEAST_SQUARES).sqrt()).log2().ceil() as Scale
}

/// Gives the normalised rows and, if `x` has other readers, x itself lifted from its opening.
pub fn lower(
    context: &Context,
    draft: &mut Draft,
    x: Value,
    id: NodeId,
    operand: NodeId,
    epsilon: f64,
    centred: bool,
) -> Result<(Value, Option<Value>), Diagnostic> {
    let d = f64::from(*draft.shape(x).last().expect("rows"));
    let seen = context.ranges.sum_squares(id);
    let margin = SUM_MARGIN * context.ranges.margin;
    let (mut rows, mut factor) = (x, 1.0);
    if !centred {
        (rows, factor) = subtract_mean(draft, x, context.residual);
    }
    // The rows are `factor` times the centred ones, so sums of squares are factor² times.
    let square = factor * factor;
    let (mut lo, mut hi) = (seen.0 / margin * square, seen.1 * margin * square);
    if let Some(proof) = context.ranges.proven_squares.get(&id) {
        (lo, hi) = (proof.0 * square / PROOF_SLACK, proof.1 * square * PROOF_SLACK);
    }
    (lo, hi) = octaves(lo, hi, epsilon * d * square);
    let bound = context.claim(operand) * if centred { 1.0 } else { 2.0 };
    let scales = context.scales(id);

    let whole = context.maker == Maker::Pair && d >= LEAST_WHOLE;
    if context.rungs.of(id) > 0 || whole {
        // As few bits as the least row can do with.
        let enough = row_scale(lo / square, d, epsilon, scales.norm_bits) + 1;
        rows = draft.down_to(rows, draft.scale(rows).min(enough));
    }
    let opened = OpenRows::new(draft, rows, bound, whole);
    // A sum that fits no ring is taken of a coarser copy: 1/sigma needs few bits of a row that long.
    let spare = f64::from(MAX_WIDTH) - 4.0 - (4.0 * hi).log2().ceil();
    let coarse = draft.scale(rows).min((spare / 2.0).floor() as Scale);
    let sum = match coarse < draft.scale(rows) {
        true => {
            let copy = draft.down_to(rows, coarse);
            OpenRows::new(draft, copy, bound, false).sum_squares(draft)
        }
        false => opened.sum_squares(draft),
    };
    // The least sum keeps 12 significant bits, or all that it has.
    let sum_scale = draft.scale(sum).min(12 - lo.log2().floor() as Scale);
    let sum = draft.down_to(sum, sum_scale);
    let opened_sum = draft.open_within(sum, 4.0 * hi);

    let inverse = move |v: f64| 1.0 / (factor * (v / (square * d) + epsilon).sqrt());
    let (greatest, least) = (inverse(lo), inverse(hi));
    let scale = scales.norm_bits + 1 - least.log2().floor() as Scale;
    let table_scale = tables::least_scale(hi, KNOTS_PER_OCTAVE, sum_scale, scale);
    let name = format!("rsqrt {lo} {hi} {sum_scale} {table_scale} {factor} {square} {d} {epsilon}");
    let find = || tables::spline_table(&inverse, lo, hi, KNOTS_PER_OCTAVE, sum_scale, table_scale, true);
    let fit = context.memo.spline(name, find);
    let table = draft.table("rsqrt", super::spline(context, id, fit)?);
    let inverse = draft.spline(opened_sum, table);
    let inverse = draft.down_to(inverse, scale);
    if whole && context.rungs.of(id) > 1 {
        // Where the rows after the product are extended and that is not enough, since sums of squares spread too far.
        draft.may_lift(inverse, greatest * 1.01);
    }
    // The spline ends flat, so its greatest value is the claim: a theorem, whatever the input.
    let product = opened.times(draft, inverse, greatest * 1.01);
    let normalised = draft.down_to(product, scales.normalised);
    draft.may_lift(normalised, context.claim(id));

    let others = context.graph.readers(operand).len() > 1;
    let lifted = (others && centred).then(|| match opened {
        OpenRows::Within(opened) => draft.lift(opened),
        // In the round in which the rows are extended.
        OpenRows::Whole { .. } => draft.extend(x, bound),
    });
    Ok((normalised, lifted))
}

/// Rows that are open, and how they are read.
enum OpenRows {
    /// Within a claim.
    Within(Value),
    /// Whole, each row a matrix of one row.
    Whole {
        /// The opening, [rows, 1, d].
        opened: Value,
        /// Dimensions of the rows.
        shape: Vec<u32>,
    },
}

impl OpenRows {
    fn new(draft: &mut Draft, x: Value, bound: f64, whole: bool) -> OpenRows {
        if !whole {
            return OpenRows::Within(draft.open_within(x, bound));
        }
        let x = draft.extend(x, bound);
        let shape = draft.shape(x).to_vec();
        let (d, rows) = shape.split_last().expect("rows");
        let x = draft.reshape(x, &[rows.iter().product(), 1, *d]);
        OpenRows::Whole { opened: draft.open_whole(x, LATER), shape }
    }

    /// Σx² of each row, [.., 1].
    fn sum_squares(&self, draft: &mut Draft) -> Value {
        match self {
            OpenRows::Within(opened) => draft.sum_squares(*opened),
            OpenRows::Whole { opened, shape } => {
                let one = only(draft);
                let squares = draft.sddmm(*opened, *opened, one);
                let (_, rows) = shape.split_last().expect("rows");
                draft.reshape(squares, &[rows, &[1]].concat())
            }
        }
    }

    /// The rows times a factor each, [.., 1] of at most `bound`.
    fn times(&self, draft: &mut Draft, factor: Value, bound: f64) -> Value {
        match self {
            OpenRows::Within(opened) => {
                let factor = draft.open_within(factor, bound);
                draft.mul(*opened, factor)
            }
            OpenRows::Whole { opened, shape } => {
                let rows = draft.shape(*opened)[0];
                let (factor, one) = (draft.reshape(factor, &[rows, 1]), only(draft));
                let factor = draft.open_whole(factor, LATER);
                let product = draft.spmm(factor, *opened, one);
                draft.reshape(product, shape)
            }
        }
    }
}

/// The pattern of a matrix of one element.
fn only(draft: &mut Draft) -> TableId {
    draft.table("only", Table::Pattern(Pattern::full(1, 1)))
}

/// (d·x - Σx) / 2^c with 2^c the least power of two at or above d; also the factor d / 2^c that the rows are too small.
fn subtract_mean(draft: &mut Draft, x: Value, residual: Scale) -> (Value, f64) {
    let d = *draft.shape(x).last().expect("rows");
    let c = d.next_power_of_two().trailing_zeros() as Scale;
    let axis = draft.shape(x).len() as u32 - 1;
    let width = draft.constant("width", i64::from(d), 0);
    let scaled = draft.mul_public(x, width);
    let sum = draft.sum(x, axis);
    let difference = draft.sub(scaled, sum);
    let rows = draft.halve(difference, c);
    (draft.down_to(rows, residual), f64::from(d) / f64::from(c).exp2())
}
