//! `Rotary`: x·cos + partner(x)·sin with public tables. Local.
//!
//! A factor costs the width of its fractional bits (`TABLE_SCALE`); where that is missing, the operand is lifted around
//! the rotation, in a round of its own.

use ir::program::Public;
use ir::slots::POSITION;
use ir::{Scale, Value};

use super::draft::Draft;
use super::{Context, arithmetic};
use crate::graph::NodeId;

/// Fractional bits of cosines and sines. 12 are nearly as good, 10 are not (a median logit error of 0.11 for 0.06).
const TABLE_SCALE: Scale = 13;

/// Fractional bits of an operand beyond those that a query is opened with.
const GUARD: Scale = 1;

/// Lowers a rotation of x [batch, rows, heads·d].
pub fn lower(
    context: &Context,
    draft: &mut Draft,
    x: Value,
    id: NodeId,
    heads: usize,
    partner: &[usize],
    at_position: bool,
) -> Value {
    let operands = context.graph.operands(id);
    let scale = draft.scale(x).min(context.scales(id).query + GUARD);
    let x = draft.down_to(x, scale);
    draft.may_lift(x, context.claim(operands[0]));
    let [batch, rows, width] = draft.shape(x)[..] else { panic!("a rotation has three dimensions") };
    let split = draft.reshape(x, &[batch, rows, heads as u32, width / heads as u32]);
    let by_row = draft.transpose(split, &[0, 2, 1, 3]);
    let turned = permute(draft, by_row, partner);
    let mut sum = None;
    for (x, slot) in [(by_row, 1), (turned, 2)] {
        let known = context.known(operands[slot]).expect("a verified rotation has constant tables");
        let table = arithmetic::table(draft, &known, &known.value, TABLE_SCALE);
        let product = match at_position {
            false => draft.mul_public(x, table),
            true => {
                let bound = known.value.shape()[0] as u32;
                draft.mul_row(x, table, Public { name: POSITION.to_owned(), bound })
            }
        };
        sum = Some(sum.map_or(product, |sum| draft.add(sum, product)));
    }
    let sum = draft.transpose(sum.expect("two products"), &[0, 2, 1, 3]);
    let sum = draft.reshape(sum, &[batch, rows, width]);
    let sum = draft.down_to(sum, scale);
    draft.may_lift(sum, context.claim(id));
    sum
}

/// Elements of the last axis in another order: runs of consecutive ones, or an exchange inside pairs.
fn permute(draft: &mut Draft, x: Value, order: &[usize]) -> Value {
    let axis = draft.shape(x).len() as u32 - 1;
    if order.len().is_multiple_of(2) && order.iter().enumerate().all(|(i, &p)| p == i ^ 1) {
        let shape = draft.shape(x).to_vec();
        let pairs = [&shape[..axis as usize], &[order.len() as u32 / 2, 2]].concat();
        let split = draft.reshape(x, &pairs);
        let (first, second) = (draft.slice(split, axis + 1, 0, 1), draft.slice(split, axis + 1, 1, 2));
        let exchanged = draft.concat(&[second, first], axis + 1);
        return draft.reshape(exchanged, &shape);
    }
    let runs = order.chunk_by(|a, b| a + 1 == *b);
    let parts: Vec<Value> = runs.map(|run| draft.slice(x, axis, run[0] as u32, (run[0] + run.len()) as u32)).collect();
    draft.concat(&parts, axis)
}
