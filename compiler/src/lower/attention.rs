//! `Attention`: softmax(q·kᵀ)·v per head, over the kept scores of a public pattern. Eight rounds.
//!
//! 1 open Q, K. 2 open the scores coarsely and compare them with a threshold every second nat. 3 open, per row and
//! threshold, how many scores reach it; which counts are not zero adds up to the row's maximum to within two nats. In
//! the same round the scores are clipped to what the exponential's table covers: two more thresholds say which of them
//! lie outside. 4-6 exp by a series and squarings. 7 open E, V and the row sums: E·V and 1/Σ. 8 open both and multiply.
//! V may regain width in round 1, off the critical path.
//!
//! In an entry for generation the openings of K and V are kept, and what is new is looked up in all that is kept. A
//! decode step has one query and a column for every slot, of which the public numbers of the run say which hold tokens:
//! the others are struck from the comparison bits before they are counted, and from E.

use std::sync::Arc;

use ir::{Pattern, Scale, Table, TableId, Value};

use super::draft::{Draft, LATER};
use super::variant::{self, ExpVariant};
use super::{Context, Known, Memo, Step, Values, arithmetic, slots};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::{NodeId, Op};
use crate::tables;

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

/// The exponential's table reaches up to here.
const TABLE_TOP: f64 = 3.0;

/// Fractional bits of the exponential's public coefficients and of its dealt cosines.
const SERIES_SCALE: u8 = 14;

/// Fractional bits of exponentials between squarings.
const EXP_SCALE: Scale = 15;

/// Row sums are inverted from here up. A row whose maximum was calibrated is at most a step below its threshold, so its sum
/// is above exp(-2).
const LEAST_SUM: f64 = 1.0 / 8.0;

/// Knots an octave of the spline of 1/Σ: a relative error of 9.4e-4, below the rounding of E and V.
const KNOTS_PER_OCTAVE: u32 = 8;

/// Fractional bits of 1/Σ.
const INVERSE_SCALE: Scale = 20;

/// Fractional bits of the unnormalised result when it is opened.
const RESULT_SCALE: Scale = 14;

/// Integer nats, multiples of a step: where thresholds and clip lie.
struct Grid {
    /// A row with no score above the first threshold counts as having this maximum.
    base: i64,
    /// Number of thresholds.
    count: i64,
    /// Scores below are raised to it.
    low: i64,
    /// Scores above are lowered to it.
    high: i64,
}

/// Lowers an attention: q, k, v [batch, rows or columns, heads or kv_heads · depth], a bias where there is one.
///
/// Heads that share keys are rows of one product: q [batch·kv_heads, group·rows, depth], the pattern repeated, so that K
/// and V are opened once.
pub fn lower(context: &Context, draft: &mut Draft, values: &Values, id: NodeId) -> Result<Value, Diagnostic> {
    let graph = context.graph;
    let Op::Attention { heads, kv_heads, pattern, biased, .. } = &graph.node(id).op else { panic!("an attention") };
    let nodes = graph.operands(id);
    let (heads, kv_heads, biased) = (*heads as u32, *kv_heads as u32, *biased);
    let operands = [0, 1, 2].map(|i| values[&nodes[i]]);
    let (batch, group) = (draft.shape(operands[0])[0], heads / kv_heads);
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
    let name = if once == Pattern::causal(once.rows.len() as u32, once.columns) { "causal" } else { "kept" };
    let table = draft.table(name, Table::Pattern(pattern.clone()));
    let scores = f64::from(batch * kv_heads) * pattern.kept() as f64;

    let margin = MAXIMUM_MARGIN * context.ranges.margin;
    let (least, greatest) = (row_max.0 - margin, row_max.1 + margin);
    let span = greatest - least + RESOLUTION + HEAD + GUARD + 2.0 * f64::from(STEP_LOG2).exp2();
    let exp = variant::pick(context.link, span, scores).ok_or_else(|| {
        Diagnostic::new(Code::RowMaxima, "the row maxima of this attention spread too far")
            .at(format!("node \"{}\"", context.graph.node(id).origin))
            .because(format!(
                "they lie between {:.0} and {:.0} nats in calibration; the widest exponential table covers {:.0}",
                row_max.0,
                row_max.1,
                variant::EXP.iter().map(|v| v.reach).fold(0.0, f64::max)
            ))
            .help("calibrate with inputs like the ones that will be asked")
    })?;
    let grid = grid(least, greatest, exp);

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
    let score = match biased {
        true => add_bias(context, draft, score, nodes[3], [batch, kv_heads, group], &once),
        false => score,
    };
    let greatest_score = context.ranges.seen[&id].score * SCORE_MARGIN * context.ranges.margin;
    let softmax = Softmax { step: context.step, table, pattern, group, greatest_score };
    let shifted = softmax.shift_and_clip(draft, score, &grid);
    // A slot without a token has any score beside the row's maximum; as zero it breaks no claim of the exponential.
    let shifted = softmax.keep_filled(draft, shifted);
    let e = exponential(&context.memo, draft, shifted, exp, scales.value);
    let e = softmax.keep_filled(draft, e);

    let sum = draft.row_sum(e, table, 1);
    let rows = pattern.rows.len() as u32;
    let longest = pattern.rows.iter().map(|&(from, to)| to - from).max().unwrap_or(1);
    let greatest_sum = f64::from(longest) * (HEAD + 0.1).exp();
    let sum = draft.reshape(sum, &[batch * kv_heads, rows, 1]);
    // A step that looks back at many tokens sends least if E, new in every step, is opened narrow; where E has a row for
    // every token, what the dealer has to give for that would be too much.
    let open_e = match context.step {
        Step::Once | Step::Prefill => draft.open_whole(e, LATER),
        Step::Decode { .. } => draft.open_within(e, (HEAD + 0.1).exp()),
    };
    let open_v = draft.open_whole(v, LATER);
    let open_v = keep_open(context.step, draft, open_v, "values", pattern);
    let open_sum = draft.open_within(sum, greatest_sum);
    let result = draft.spmm(open_e, open_v, table);
    let result = draft.down_to(result, RESULT_SCALE);
    let (f, knots, sum_scale) = (|x: f64| 1.0 / x, KNOTS_PER_OCTAVE, draft.scale(sum));
    let table_scale = tables::least_scale(greatest_sum, knots, sum_scale, INVERSE_SCALE);
    let inverse = tables::spline_table(&f, LEAST_SUM, greatest_sum, knots, sum_scale, table_scale, true);
    let inverse = draft.table("inverse", super::spline(context, id, inverse)?);
    let inverse = draft.spline(open_sum, inverse);
    let inverse = draft.down_to(inverse, INVERSE_SCALE);
    let open_result = draft.open_within(result, greatest_sum * value_bound);
    let open_inverse = draft.open_within(inverse, 1.01 / LEAST_SUM);
    let result = draft.mul(open_result, open_inverse);
    Ok(join_heads(draft, result, batch, group))
}

/// Packed scores [heads, kept] of a pattern.
struct Softmax<'a> {
    step: Step,
    table: TableId,
    pattern: &'a Pattern,
    /// How often the rows of one head stand in the pattern.
    group: u32,
    /// Greatest absolute score.
    greatest_score: f64,
}

impl Softmax<'_> {
    /// Clipped scores less their row's maximum: within [-(reach), HEAD] of `exp`'s table. Two rounds.
    fn shift_and_clip(&self, draft: &mut Draft, score: Value, grid: &Grid) -> Value {
        let (table, pattern, greatest_score) = (self.table, self.pattern, self.greatest_score);
        let [all, kept] = draft.shape(score)[..] else { panic!("packed scores have two dimensions") };
        let maxima = (1..=grid.count).map(|i| grid.base + (i << STEP_LOG2));
        let thresholds: Vec<i64> =
            [grid.low].into_iter().chain(maxima).chain([grid.high]).map(|t| t >> STEP_LOG2).collect();
        let count = thresholds.len() as u32;
        let farthest = grid.low.abs().max(grid.high.abs()) as f64;
        let thresholds = draft.table("maxima", Table::Thresholds(thresholds));
        let coarse = draft.down_to(score, -STEP_LOG2);
        let coarse = draft.open_to_compare(coarse, greatest_score + f64::from(STEP_LOG2).exp2(), farthest);
        let bits = draft.ge(coarse, thresholds);

        // How many scores of a row reach each threshold.
        let reach = self.keep_filled(draft, bits);
        let reach = draft.row_sum(reach, table, 1);
        let longest = pattern.rows.iter().map(|&(from, to)| to - from).max().unwrap_or(1);
        let rows = pattern.rows.len() as u32;
        let one = draft.table("one", Table::Thresholds(vec![1]));
        // The last threshold lies a step or more above every row maximum that is reckoned with. Whether one reaches it is
        // read by itself, since it is counted at a greater width.
        let [some, above] = [(1, count - 2), (count - 2, count - 1)].map(|(from, to)| {
            let reach = draft.slice(reach, 2, from, to);
            let counts = draft.open_to_compare(reach, f64::from(longest), 0.0);
            let some = draft.ge(counts, one);
            draft.reshape(some, &[all, rows, to - from])
        });
        draft.watch(above);
        let reached = draft.sum(some, 2);
        let reached = draft.add(reached, above);
        let reached = draft.reshape(reached, &[all, rows]);
        let maximum = draft.halve(reached, -STEP_LOG2);
        let maximum = draft.up_to(maximum, SCORE_SCALE);
        let base = draft.constant("base", grid.base << SCORE_SCALE, SCORE_SCALE);
        let maximum = draft.add_public(maximum, base);
        let maximum = draft.spread(maximum, table, 1);

        // score·inside + low·(1 - above_low) + high·above_high, with inside = above_low - above_high.
        let bit = |draft: &mut Draft, i: u32| {
            let bit = draft.slice(bits, 2, i, i + 1);
            draft.reshape(bit, &[all, kept])
        };
        let (above_low, above_high) = (bit(draft, 0), bit(draft, count - 1));
        let inside = draft.sub(above_low, above_high);
        let open_inside = draft.open_within(inside, 1.0);
        // Whole: nothing above the width that the exponential reads is needed of the product.
        let score = draft.open_whole(score, LATER);
        let kept_scores = draft.mul(score, open_inside);
        // above_high = above_low - inside, so the two ends are low + (high - low)·above_low - high·inside.
        let width = draft.constant("clip_width", grid.high - grid.low, 0);
        let high = draft.constant("clip_high", grid.high, 0);
        let (above_low, inside) = (draft.mul_public(above_low, width), draft.mul_public(inside, high));
        let ends = draft.sub(above_low, inside);
        let ends = draft.up_to(ends, SCORE_SCALE);
        let low = draft.constant("clip_low", grid.low << SCORE_SCALE, SCORE_SCALE);
        let ends = draft.add_public(ends, low);
        let clipped = draft.add(kept_scores, ends);
        draft.sub(clipped, maximum)
    }

    /// Zeroes what stands in slots without a token; `x` is [heads, kept, ..].
    fn keep_filled(&self, draft: &mut Draft, x: Value) -> Value {
        let Step::Decode { capacity } = self.step else { return x };
        if self.group == 1 {
            return draft.keep(x, 1, slots(capacity));
        }
        let shape = draft.shape(x).to_vec();
        let by_head = [&shape[..1], &[self.group, capacity], &shape[2..]].concat();
        let x = draft.reshape(x, &by_head);
        let x = draft.keep(x, 2, slots(capacity));
        draft.reshape(x, &shape)
    }
}

/// Packed scores [batch·kv_heads, kept] plus the bias of what is kept.
fn add_bias(
    context: &Context,
    draft: &mut Draft,
    score: Value,
    bias: NodeId,
    [batch, kv_heads, group]: [u32; 3],
    once: &Pattern,
) -> Value {
    let Known { name, value, public } = context.known(bias).expect("a verified attention has a known bias");
    let planes = value.shape()[0];
    let mut packed = Vec::with_capacity((batch * kv_heads * group) as usize * once.kept() as usize);
    for head in (0..batch).flat_map(|_| 0..kv_heads * group) {
        let plane = value.index_axis(ndarray::Axis(0), if planes == 1 { 0 } else { head as usize });
        for (row, &(from, to)) in once.rows.iter().enumerate() {
            packed.extend((from..to).map(|column| plane[[row, column as usize]]));
        }
    }
    let shape = [(batch * kv_heads) as usize, group as usize * once.kept() as usize];
    let name = format!("{name}, kept scores");
    let known = Known { name, value: Arc::new(crate::graph::kernel::from_vec(&shape, packed)), public };
    arithmetic::add_known(draft, score, &known)
}

/// What is looked up: the rows that are new, and in an entry for generation all that were kept before.
fn keep_open(step: Step, draft: &mut Draft, new: Value, name: &str, pattern: &Pattern) -> Value {
    match step {
        Step::Once => new,
        Step::Prefill | Step::Decode { .. } => draft.cache(new, name, pattern.columns),
    }
}

/// exp of shifted scores at `scale`: a series of exp(x / 2^squarings), then squarings, a round each.
pub fn exponential(memo: &Memo, draft: &mut Draft, x: Value, exp: &ExpVariant, scale: Scale) -> Value {
    let parts = f64::from(exp.squarings).exp2();
    let x = draft.halve(x, Scale::from(exp.squarings));
    let find = || {
        let (lo, hi) = (-exp.reach / parts, TABLE_TOP / parts);
        let fit = tables::fit_series(&|v: f64| v.exp(), lo, hi, exp.period_log2, exp.terms, false, SERIES_SCALE);
        Some(tables::series_table(&fit, exp.period_log2, SERIES_SCALE, SERIES_SCALE))
    };
    let series = draft.table("exp", memo.table(exp.name.to_owned(), find).expect("every variant has a series"));
    let width = exp.period_log2 as Scale + draft.scale(x);
    let opened = draft.open_whole(x, width as u8);
    let mut e = draft.series(opened, series);
    for squaring in 0..exp.squarings {
        let e_scaled = draft.down_to(e, EXP_SCALE);
        let greatest = (TABLE_TOP / f64::from(exp.squarings - squaring).exp2()).exp();
        let opened = draft.open_within(e_scaled, greatest);
        e = draft.square(opened);
    }
    draft.down_to(e, scale)
}

fn grid(least: f64, greatest: f64, exp: &ExpVariant) -> Grid {
    let step = 1i64 << STEP_LOG2;
    let base = (least / step as f64).floor() as i64 * step;
    // A step more: a score may be rounded up by as much, and what reaches the clip is no longer told apart.
    let count = ((greatest.ceil() as i64 - base) + step - 1) / step + 1;
    let high = base + count * step + HEAD as i64;
    let low = high - (exp.reach - HEAD - GUARD) as i64;
    assert!(low % step == 0 && high % step == 0, "a clip lies on the grid");
    Grid { base, count, low, high }
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
