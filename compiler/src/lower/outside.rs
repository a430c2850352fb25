//! How many elements left their tables: one number more that the client learns, so that a wrong answer does not look like
//! a right one.
//!
//! Sources   Whatever lowering watches ([`Draft::watch`]): both ends of every spline whose table is calibrated (Σx² of a
//!           normalisation, Σexp of a softmax, functions of one argument), which the spline's own comparison key tells, and
//!           row maxima above the last threshold, which the counts tell. They are shares of 0 and 1 that exist anyway.
//! Sum       Local, at the least width that counts all of them: it cannot wrap to zero.
//! Padding   Rows behind the prompt hold no text: they do not count.
//! Cost      No round and no opening; a message of a few bytes with the output's.
//! Leaks     The sum alone, over all layers and positions, to the client; see ARCHITECTURE.md, Trust.

use ir::program::{Output, Public};
use ir::slots::PROMPT;
use ir::{OUTSIDE, Party, Shape, Value};

use super::draft::Draft;
use super::{Context, Step};
use crate::graph::{NodeId, Op};
use crate::pass::resize::{self, Positions};

/// Reveals the sum of what is watched, if anything is.
pub fn reveal(context: &Context, draft: &mut Draft) {
    let watched = draft.watched().to_vec();
    let padded = padded(context);
    let (mut sum, mut count): (Option<Value>, u64) = (None, 0);
    for bits in watched {
        count += draft.shape(bits).iter().map(|&d| u64::from(d)).product::<u64>();
        let bits = match &padded {
            Some(positions) => of_tokens(context, draft, bits, positions),
            None => bits,
        };
        let elements = draft.shape(bits).iter().product();
        let bits = draft.reshape(bits, &[elements]);
        let one = draft.sum(bits, 0);
        sum = Some(sum.map_or(one, |sum| draft.add(sum, one)));
    }
    if let Some(sum) = sum {
        draft.output_bounds.push(count as f64);
        draft.reveal(sum, Output { name: OUTSIDE.to_owned(), shape: Shape(vec![1]), to: Party::Client });
    }
}

/// Where the graph has its positions, if some of them may be padding: a prompt that is shorter than its entry, or a run
/// whose output's position is picked.
fn padded(context: &Context) -> Option<Positions> {
    let graph = context.graph;
    let picks = || graph.order().into_iter().any(|id| matches!(graph.node(id).op, Op::Pick { .. }));
    match context.step {
        Step::Decode { .. } => None,
        Step::Once if !picks() => None,
        Step::Once | Step::Prefill => resize::positions(graph).ok(),
    }
}

/// Zeroes the bits of padding.
fn of_tokens(context: &Context, draft: &mut Draft, bits: Value, positions: &Positions) -> Value {
    let node: NodeId = draft.items[bits.index()].node;
    let rows = positions.count as u32;
    if positions.is_picked(node) || !positions.has(node) {
        return bits;
    }
    let (shape, mut axis) = (draft.shape(bits).to_vec(), 1);
    let mut bits = bits;
    if matches!(context.graph.node(node).op, Op::Attention { .. }) {
        // Heads that share keys stand one after another: [heads, group·rows, ..].
        let by_head = [&shape[..1], &[shape[1] / rows, rows], &shape[2..]].concat();
        bits = draft.reshape(bits, &by_head);
        axis = 2;
    }
    if draft.shape(bits)[axis] != rows {
        return bits;
    }
    let used = Public { name: PROMPT.to_owned(), bound: rows + 1 };
    draft.keep(bits, axis as u32, [used.clone(), used.clone(), used])
}
