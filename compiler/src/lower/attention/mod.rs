//! `Attention`: softmax(q·kᵀ)·v per head, over the kept scores of a public pattern. Eight rounds.
//!
//! 1 open Q, K. 2 open the scores coarsely and compare them with a threshold every second nat. 3 open, per row and
//! threshold, how many scores reach it; which counts are not zero adds up to the row's maximum to within two nats. In
//! the same round the scores are clipped to what the exponential's table covers: two more thresholds say which of them
//! lie outside. 4-6 exp by a table of cells, extended. 7 open E, V and the row sums: E·V and 1/Σ. 8 open both and multiply.
//! V may regain width in round 1, off the critical path.
//!
//! In an entry for generation the openings of K and V are kept, and what is new is looked up in all that is kept. A
//! decode step has one query and a column for every slot, of which the public numbers of the run say which hold tokens:
//! the others are struck from the comparison bits before they are counted, and from E, as are those that left a window.
//!
//! A cap on scores takes one round more; what is added to them is local. A sink is one packed score more of every row, known
//! to the server, which takes part in everything but the product with V.

mod scores;
mod softmax;

use ir::pair::Maker;
use ir::{Pattern, Scale, Table, Value};

use super::draft::{Draft, LATER};
use super::{Context, Step, Values, variant};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::{NodeId, Op};
use crate::tables;
use softmax::Softmax;

pub use softmax::exponential;

/// Fractional bits of a score when it is clipped and exponentiated.
const SCORE_SCALE: Scale = 10;

/// Distance of the thresholds in nats, 2^STEP_LOG2. Scores are compared in such steps, rounded up or down, so a row's
/// maximum is found to within a step either way: the bits saved are levels of a key for every score.
const STEP_LOG2: Scale = 1;

/// Row maxima are taken this many nats beyond what was seen, either way.
const MAXIMUM_MARGIN: f64 = 4.0;

/// Scores may exceed what was seen by this factor.
const SCORE_MARGIN: f64 = 4.0;

/// A clipped score lies at most this far above its row's threshold: a step.
const HEAD: f64 = 2.0;

/// Distance between the clip and the end of the exponential's table: a score that is rounded up to the clip is not raised.
const GUARD: f64 = 2.0;

/// The least row maximum lies this far above the lower clip, so that a row keeps its twelve nats of resolution.
const RESOLUTION: f64 = 12.0;

/// Fractional bits of the numbers that an exponential sends.
const PUBLIC_SCALE: u8 = 14;

/// Fractional bits of the factors that are dealt for an exponential.
const DEALT_SCALE: u8 = 15;

/// Row sums are inverted from here up. A row whose maximum was calibrated is at most a step below its threshold, so its sum
/// is above exp(-2).
const LEAST_SUM: f64 = 1.0 / 8.0;

/// Knots an octave of the spline of 1/Σ: a relative error of 9.4e-4, below the rounding of E and V.
const KNOTS_PER_OCTAVE: u32 = 8;

/// Fractional bits of 1/Σ.
const INVERSE_SCALE: Scale = 20;

/// Fractional bits of the unnormalised result when it is opened.
const RESULT_SCALE: Scale = 14;

/// How many heads there are, and how they share keys.
#[derive(Clone, Copy)]
pub struct Sizes {
    batch: u32,
    kv_heads: u32,
    /// Heads that look at the same keys.
    group: u32,
}

impl Sizes {
    /// Products of a matrix of queries with one of keys.
    fn planes(self) -> u32 {
        self.batch * self.kv_heads
    }

    /// The heads in the order of the scores.
    fn all_heads(self) -> impl Iterator<Item = usize> {
        (0..self.batch).flat_map(move |_| 0..(self.kv_heads * self.group) as usize)
    }
}

/// Lowers an attention: q, k, v [batch, rows or columns, heads or kv_heads · depth], a bias where there is one.
///
/// Heads that share keys are rows of one product: q [batch·kv_heads, group·rows, depth], the pattern repeated, so that K
/// and V are opened once.
pub fn lower(context: &Context, draft: &mut Draft, values: &Values, id: NodeId) -> Result<Value, Diagnostic> {
    let graph = context.graph;
    let Op::Attention { heads, kv_heads, pattern, softcap, bias, window, sinks } = &graph.node(id).op else {
        panic!("an attention")
    };
    let nodes = graph.operands(id);
    let (heads, kv_heads) = (*heads as u32, *kv_heads as u32);
    let operands = [0, 1, 2].map(|i| values[&nodes[i]]);
    let sizes = Sizes { batch: draft.shape(operands[0])[0], kv_heads, group: heads / kv_heads };
    let Sizes { batch, group, .. } = sizes;
    let scales = context.scales(id);
    let once = match context.step {
        Step::Once | Step::Prefill => pattern.clone(),
        Step::Decode { capacity } => Pattern::full(1, capacity),
    };
    // The pattern of all heads that look at the same keys, one after another.
    let looked_up = Pattern { columns: once.columns, rows: once.rows.repeat(group as usize) };
    let pattern = &looked_up;
    let row_max = context.ranges.row_max(id);
    let value_bound = context.claim(nodes[2]);
    let name =
        if once.rows.len() as u32 <= once.columns && once == Pattern::causal(once.rows.len() as u32, once.columns) {
            "causal"
        } else {
            "kept"
        };
    let table = draft.table(name, Table::Pattern(pattern.clone()));
    let scores = f64::from(batch * kv_heads) * pattern.kept() as f64;

    let margin = MAXIMUM_MARGIN * context.ranges.margin;
    let (least, greatest) = (row_max.0 - margin, row_max.1 + margin);
    let span = greatest - least + RESOLUTION + HEAD + GUARD + 2.0 * f64::from(STEP_LOG2).exp2();
    // A step opens its exponentials narrow, which spares its messages a third of what a slot costs; where E has a row for every
    // token, what a dealer has to give for that would be too much. Two parties make products of what is opened whole for many
    // steps at once.
    let narrow = matches!(context.step, Step::Decode { .. }) && context.maker == Maker::Dealer;
    let exp = variant::exp(context.link, span, scores, narrow).ok_or_else(|| {
        let report = Diagnostic::new(Code::RowMaxima, "the row maxima of this attention spread too far")
            .at(format!("node \"{}\"", context.graph.node(id).origin))
            .because(format!(
                "they lie between {:.0} and {:.0} nats in calibration; the widest exponential table covers {:.0}",
                row_max.0,
                row_max.1,
                variant::widest_exp()
            ));
        super::unfit::what_helps(report, context.ranges, 0.0)
    })?;
    let grid = softmax::grid(least, greatest, exp);

    let [q, k, v] = [(0, group), (1, 1), (2, 1)].map(|(i, group)| split_heads(draft, operands[i], kv_heads, group));
    let [q, k] = [(q, 0), (k, 1)].map(|(x, slot)| {
        let x = draft.down_to(x, draft.scale(x).min(scales.query));
        draft.may_lift(x, context.claim(nodes[slot]));
        x
    });
    let v = draft.down_to(v, draft.scale(v).min(scales.value));
    draft.lift_point(v, value_bound);
    let (open_q, open_k) = (draft.open_whole(q, LATER), draft.open_whole(k, LATER));
    let open_k = keep_open(context.step, draft, open_k, "keys", pattern);
    let product = draft.sddmm(open_q, open_k, table);
    let score = draft.at_scale(product, SCORE_SCALE);
    let score = match softcap {
        Some(cap) => scores::cap(context, draft, score, id, f64::from(*cap))?,
        None => score,
    };
    let score = match bias {
        Some(form) => scores::add_bias(context, draft, score, (*form, nodes[3]), sizes, &once),
        None => score,
    };
    let score = match sinks {
        true => {
            let of_rows = scores::sinks(context, draft, *nodes.last().expect("sinks"), sizes, once.rows.len() as u32);
            draft.concat(&[score, of_rows], 1)
        }
        false => score,
    };
    let greatest_score = context.ranges.seen[&id].score * SCORE_MARGIN * context.ranges.margin;
    let softmax = Softmax { step: context.step, table, pattern, group, window: *window, sinks: *sinks, greatest_score };
    let shifted = softmax.shift_and_clip(draft, score, &grid);
    // A slot without a token has any score beside the row's maximum; as zero it breaks no claim of the exponential.
    let shifted = softmax.keep_filled(draft, shifted);
    let e = exponential(draft, shifted, exp, scales.value);
    let e = softmax.keep_filled(draft, e);

    let sum = softmax.row_sum(draft, e);
    let (e, _) = softmax.parts(draft, e);
    let rows = pattern.rows.len() as u32;
    let greatest_sum = f64::from(softmax.longest()) * (HEAD + 0.1).exp();
    let sum = draft.reshape(sum, &[batch * kv_heads, rows, 1]);
    let open_e = if narrow { draft.open_within(e, (HEAD + 0.1).exp()) } else { draft.open_whole(e, LATER) };
    let open_v = draft.open_whole(v, LATER);
    let open_v = keep_open(context.step, draft, open_v, "values", pattern);
    let open_sum = draft.open_within(sum, greatest_sum);
    let result = draft.spmm(open_e, open_v, table);
    let result = draft.down_to(result, RESULT_SCALE);
    let (f, knots, sum_scale) = (|x: f64| 1.0 / x, KNOTS_PER_OCTAVE, draft.scale(sum));
    let table_scale = tables::least_scale(greatest_sum, knots, sum_scale, INVERSE_SCALE);
    let find = || tables::spline_table(&f, LEAST_SUM, greatest_sum, knots, sum_scale, table_scale, true);
    let inverse = context.memo.spline(format!("inverse {greatest_sum} {sum_scale} {table_scale}"), find);
    let inverse = draft.table("inverse", super::spline(context, id, inverse)?);
    let inverse = draft.spline(open_sum, inverse);
    let inverse = draft.down_to(inverse, INVERSE_SCALE);
    let open_result = draft.open_within(result, greatest_sum * value_bound);
    let open_inverse = draft.open_within(inverse, 1.01 / LEAST_SUM);
    let result = draft.mul(open_result, open_inverse);
    Ok(join_heads(draft, result, batch, group))
}

/// What is looked up: the rows that are new, and in an entry for generation all that were kept before.
fn keep_open(step: Step, draft: &mut Draft, new: Value, name: &str, pattern: &Pattern) -> Value {
    match step {
        Step::Once => new,
        Step::Prefill | Step::Decode { .. } => draft.cache(new, name, pattern.columns),
    }
}

/// [batch, n, heads·group·depth] -> [batch·heads, group·n, depth].
fn split_heads(draft: &mut Draft, x: Value, heads: u32, group: u32) -> Value {
    let [batch, n, width] = draft.shape(x)[..] else { panic!("attention operands have three dimensions") };
    let depth = width / (heads * group);
    let x = draft.reshape(x, &[batch, n, heads * group, depth]);
    let x = draft.transpose(x, &[0, 2, 1, 3]);
    draft.reshape(x, &[batch * heads, group * n, depth])
}

/// [batch·heads, group·n, depth] -> [batch, n, heads·group·depth].
fn join_heads(draft: &mut Draft, x: Value, batch: u32, group: u32) -> Value {
    let [all, rows, depth] = draft.shape(x)[..] else { panic!("three dimensions") };
    let (heads, n) = (all / batch * group, rows / group);
    let x = draft.reshape(x, &[batch, heads, n, depth]);
    let x = draft.transpose(x, &[0, 2, 1, 3]);
    draft.reshape(x, &[batch, n, heads * depth])
}
