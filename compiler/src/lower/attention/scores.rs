//! What becomes of the products of queries and keys before the softmax: the cap, and what is added.

use std::sync::Arc;

use ir::program::Public;
use ir::slots::{NEWEST, POSITION, PREFILL, PROMPT, USED};
use ir::{Pattern, Scale, Value};
use ndarray::{Array2, Axis};

use super::super::draft::Draft;
use super::super::{Context, Known, Step, arithmetic, slot_count};
use super::{SCORE_MARGIN, SCORE_SCALE, Sizes};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::kernel::from_vec;
use crate::graph::{Bias, NodeId};
use crate::tables::{self, Search};

/// A period of the series of the cap is at least this many times the reach of its table.
const PERIOD: f64 = 2.2;

/// Greatest error of a capped score in nats.
const CAP_ERROR: f64 = 2e-3;

/// Terms of the series of the cap: a score that may reach sixteen caps takes that many.
const CAP_TERMS: usize = 48;

/// cap·tanh(s/cap) of packed scores by a series on what calibration saw and its margin. One round.
pub fn cap(context: &Context, draft: &mut Draft, score: Value, id: NodeId, cap: f64) -> Result<Value, Diagnostic> {
    let reach = context.ranges.seen[&id].uncapped * SCORE_MARGIN * context.ranges.margin;
    let period_log2 = (reach.max(cap / 64.0) * PERIOD).log2().ceil() as i8;
    let reach = f64::from(period_log2).exp2() / PERIOD;
    let function = move |s: f64| cap * (s / cap).tanh();
    let search = Search {
        periods_log2: &[period_log2],
        scales: &[(13, 13), (14, 14), (15, 15)],
        max_terms: CAP_TERMS,
        x_scale: SCORE_SCALE,
        integer_bits: 16,
    };
    let find = || tables::choose_series(&function, -reach, reach, false, CAP_ERROR, &search).map(|choice| choice.table);
    let table = context.memo.series(format!("cap {cap} {period_log2}"), find).ok_or_else(|| {
        let report = Diagnostic::new(Code::NoTable, "soft-capped attention scores lie too far beyond their cap")
            .at(format!("node \"{}\"", context.graph.node(id).origin))
            .because(format!(
                "they reach {:.0} in calibration and are capped at {cap}",
                context.ranges.seen[&id].uncapped
            ));
        super::super::unfit::what_helps(report, context.ranges, 0.0)
    })?;
    let table = draft.table("cap", table);
    let width = Scale::from(period_log2) + SCORE_SCALE;
    let opened = draft.open_whole(score, width as u8);
    let capped = draft.series(opened, table);
    Ok(draft.down_to(capped, SCORE_SCALE))
}

/// Packed scores [batch·kv_heads, kept] plus the bias of what is kept. Local.
pub fn add_bias(
    context: &Context,
    draft: &mut Draft,
    score: Value,
    (form, bias): (Bias, NodeId),
    sizes: Sizes,
    once: &Pattern,
) -> Value {
    let known = context.known(bias).expect("a verified attention has a known bias");
    if let (Step::Decode { capacity }, Bias::Distances) = (context.step, form) {
        return add_by_slots(draft, score, known, sizes, capacity);
    }
    let Known { name, value, public } = known;
    let before = (once.columns as usize).saturating_sub(once.rows.len());
    let mut packed = Vec::new();
    for head in sizes.all_heads() {
        let plane = value.index_axis(Axis(0), if value.shape()[0] == 1 { 0 } else { head });
        for (row, &(from, to)) in once.rows.iter().enumerate() {
            packed.extend((from as usize..to as usize).map(|column| match form {
                Bias::Scores => plane[[row, column]],
                Bias::Distances => plane[[before + row - column]],
            }));
        }
    }
    let shape = [sizes.planes() as usize, sizes.group as usize * once.kept() as usize];
    let name = format!("{name}, {}x{} scores", once.rows.len(), once.columns);
    let known = Known { name, value: Arc::new(from_vec(&shape, packed)), public };
    arithmetic::add_known(draft, score, &known)
}

/// Adds a bias by distance to the scores of a decode step, which has a column for every slot. Slots of the prompt are as
/// far from the newest token as their position is from its own, slots behind the prefill as they are from its slot.
fn add_by_slots(draft: &mut Draft, score: Value, bias: Known, sizes: Sizes, capacity: u32) -> Value {
    let shape = draft.shape(score).to_vec();
    let heads = sizes.planes() * sizes.group;
    let bound = bias.value.shape()[1] as u32;
    let of_head = |head: usize| bias.value.index_axis(Axis(0), if bias.value.shape()[0] == 1 { 0 } else { head });
    let mut by_head = Array2::zeros((heads as usize, bound as usize));
    for (mut row, head) in by_head.outer_iter_mut().zip(sizes.all_heads()) {
        row.assign(&of_head(head));
    }
    let weight = draft.weight(&format!("{}, distances", bias.name), Arc::new(by_head.into_dyn()), SCORE_SCALE);
    let zeros = draft.zeros(&[heads, capacity]);
    let zeros = draft.halve(zeros, SCORE_SCALE);
    let generated = draft.add_band(zeros, weight, Public { name: NEWEST.to_owned(), bound: capacity });
    let prompt = draft.add_band(zeros, weight, Public { name: POSITION.to_owned(), bound });
    let prompt = draft.sub(prompt, generated);
    let [end, none] = [PROMPT, USED].map(|name| slot_count(name, capacity));
    let prompt = draft.keep(prompt, 1, [end, none.clone(), none]);
    let added = draft.add(generated, prompt);
    let added = draft.reshape(added, &shape);
    draft.add(score, added)
}

/// A share of the sink of every row, [batch·kv_heads, rows of a plane].
pub fn sinks(context: &Context, draft: &mut Draft, sinks: NodeId, sizes: Sizes, rows: u32) -> Value {
    let Known { name, value, public } = context.known(sinks).expect("a verified attention has known sinks");
    let mut by_row = Vec::new();
    for head in sizes.all_heads() {
        by_row.extend((0..rows).map(|_| value[[head]]));
    }
    let shape = [sizes.planes() as usize, (sizes.group * rows) as usize];
    let known = Known { name: format!("{name}, {rows} rows"), value: Arc::new(from_vec(&shape, by_row)), public };
    arithmetic::share(draft, &known, SCORE_SCALE)
}

/// Zeroes what stands in slots without a token, or with one that left the window; `x` is [planes, group·slots, ..] of a
/// decode step.
pub fn keep_filled(draft: &mut Draft, x: Value, group: u32, capacity: u32, window: Option<u32>) -> Value {
    let shape = draft.shape(x).to_vec();
    let (by_head, axis) = match group {
        1 => (x, 1),
        _ => (draft.reshape(x, &[&shape[..1], &[group, capacity], &shape[2..]].concat()), 2),
    };
    let count = |name: &str| slot_count(name, capacity);
    let kept = match window.filter(|&window| window < capacity) {
        None => draft.keep(by_head, axis, [count(PROMPT), count(PREFILL), count(USED)]),
        Some(window) => {
            let [first, from] = ir::slots::window(window).map(|name| count(&name));
            let kept = draft.keep(by_head, axis, [count(PROMPT), count(&from.name), count(USED)]);
            let left = draft.keep(kept, axis, [first.clone(), first.clone(), first]);
            draft.sub(kept, left)
        }
    };
    draft.reshape(kept, &shape)
}
