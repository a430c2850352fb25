//! The softmax without its division: exp of scores less their row's maximum.

use ir::{Pattern, Scale, Table, TableId, Value};

use super::super::Step;
use super::super::draft::{Draft, LATER};
use super::super::variant::ExpVariant;
use super::{DEALT_SCALE, GUARD, HEAD, PUBLIC_SCALE, SCORE_SCALE, STEP_LOG2, scores};

/// Integer nats, multiples of a step: where thresholds and clip lie.
pub struct Grid {
    /// A row with no score above the first threshold counts as having this maximum.
    base: i64,
    /// Number of thresholds.
    count: i64,
    /// Scores below are raised to it.
    low: i64,
    /// Scores above are lowered to it.
    high: i64,
}

/// Packed scores [planes, kept] of a pattern; behind them, where there are sinks, one of each row.
pub struct Softmax<'a> {
    pub step: Step,
    pub table: TableId,
    pub pattern: &'a Pattern,
    /// How often the rows of one head stand in the pattern.
    pub group: u32,
    /// See [`crate::graph::Op::Attention`].
    pub window: Option<u32>,
    /// Whether every row has a sink.
    pub sinks: bool,
    /// Greatest absolute score.
    pub greatest_score: f64,
}

impl Softmax<'_> {
    /// Greatest number of scores of a row.
    pub fn longest(&self) -> u32 {
        let longest = self.pattern.rows.iter().map(|&(from, to)| to - from).max().unwrap_or(1);
        longest + u32::from(self.sinks)
    }

    /// Sums over each row, [planes, rows, ..], of scores that hold a token and of the sink.
    pub fn row_sum(&self, draft: &mut Draft, x: Value) -> Value {
        let (scores, sinks) = self.parts(draft, x);
        let sum = draft.row_sum(scores, self.table, 1);
        match sinks {
            Some(sinks) => draft.add(sum, sinks),
            None => sum,
        }
    }

    /// The scores, and the sinks behind them.
    pub fn parts(&self, draft: &mut Draft, x: Value) -> (Value, Option<Value>) {
        let kept = self.pattern.kept() as u32;
        if !self.sinks {
            return (x, None);
        }
        let all = draft.shape(x)[1];
        (draft.slice(x, 1, 0, kept), Some(draft.slice(x, 1, kept, all)))
    }

    /// Clipped scores less their row's maximum: within [-(reach), HEAD] of `exp`'s table. Two rounds.
    pub fn shift_and_clip(&self, draft: &mut Draft, score: Value, grid: &Grid) -> Value {
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
        let reach = self.row_sum(draft, reach);
        let rows = pattern.rows.len() as u32;
        let one = draft.table("one", Table::Thresholds(vec![1]));
        // The last threshold lies a step or more above every row maximum that is reckoned with. Whether one reaches it is
        // read by itself, since it is counted at a greater width.
        let [some, above] = [(1, count - 2), (count - 2, count - 1)].map(|(from, to)| {
            let reach = draft.slice(reach, 2, from, to);
            let counts = draft.open_to_compare(reach, f64::from(self.longest()), 0.0);
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
        let spread = draft.spread(maximum, table, 1);
        let maximum = if self.sinks { draft.concat(&[spread, maximum], 1) } else { spread };

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

    /// Zeroes scores that hold no token, or one that left the window; sinks stay.
    pub fn keep_filled(&self, draft: &mut Draft, x: Value) -> Value {
        let Step::Decode { capacity } = self.step else { return x };
        let (held, sinks) = self.parts(draft, x);
        let held = scores::keep_filled(draft, held, self.group, capacity, self.window);
        match sinks {
            Some(sinks) => draft.concat(&[held, sinks], 1),
            None => held,
        }
    }
}

/// exp of shifted scores at `scale`. Two rounds, or three where the variant extends.
pub fn exponential(draft: &mut Draft, x: Value, exp: ExpVariant, scale: Scale) -> Value {
    let cells = 1i64 << exp.cells_log2;
    // The cell of what lies below HEAD, and two more.
    let top = (HEAD / 2.0) as i64 + 2;
    let unit = f64::from(ir::exp::FRACTION).exp2();
    let end = |j: i64| 2.0 * (if j <= top { j + 1 } else { j + 1 - cells }) as f64;
    let values = (0..cells).map(|j| (end(j).exp() * unit).round() as i64).collect();
    let table = draft.table("exp", Table::Exp { public_scale: PUBLIC_SCALE, dealt_scale: DEALT_SCALE, values });
    let width = exp.cells_log2 + ir::exp::cell_bits(draft.scale(x));
    let opened = draft.open_whole(x, width);
    let e = draft.exp(opened, table);
    let e = draft.down_to(e, scale);
    let bound = (HEAD + 0.1).exp();
    if exp.extends {
        return draft.extend(e, bound);
    }
    draft.may_lift(e, bound);
    e
}

/// Where thresholds and clip lie for row maxima from `least` to `greatest`.
pub fn grid(least: f64, greatest: f64, exp: ExpVariant) -> Grid {
    let step = 1i64 << STEP_LOG2;
    let base = (least / step as f64).floor() as i64 * step;
    // A step more: a score may be rounded up by as much, and what reaches the clip is no longer told apart.
    let count = ((greatest.ceil() as i64 - base) + step - 1) / step + 1;
    let high = base + count * step + HEAD as i64;
    let low = high - (exp.reach() - HEAD - GUARD) as i64;
    assert!(low % step == 0 && high % step == 0, "a clip lies on the grid");
    Grid { base, count, low, high }
}
