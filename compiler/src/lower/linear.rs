//! Products with what the server owns: `Embed`, `Linear`, and the sums that need no message.
//!
//! A product is one one-way message (ARCHITECTURE.md, Products with the server's weights); the bias is added to the
//! server's share.

use ir::Value;
use ir::program::Public;
use ir::slots::POSITION;

use super::draft::Draft;
use super::{Context, Known};
use crate::graph::NodeId;

/// Rows of a table, chosen by one-hot rows.
pub fn embed(context: &Context, draft: &mut Draft, ids: Value, operands: &[NodeId]) -> Value {
    let Known { name, value, .. } = weight(context, operands[1]);
    let table = draft.weight(&name, value, context.residual);
    draft.linear(ids, table)
}

/// x plus a weight.
pub fn add_weight(context: &Context, draft: &mut Draft, x: Value, operands: &[NodeId]) -> Value {
    let Known { name, value, .. } = weight(context, operands[1]);
    let weight = draft.weight(&name, value, draft.scale(x));
    draft.add_weight(x, weight)
}

/// x plus the row of a weight at the run's position.
pub fn add_row(context: &Context, draft: &mut Draft, x: Value, operands: &[NodeId]) -> Value {
    let Known { name, value, .. } = weight(context, operands[1]);
    let bound = value.shape()[0] as u32;
    let weight = draft.weight(&name, value, draft.scale(x));
    draft.add_row(x, weight, Public { name: POSITION.to_owned(), bound })
}

/// x·w + b; the operand is brought to the scale that products work at.
pub fn lower(context: &Context, draft: &mut Draft, x: Value, id: NodeId, operands: &[NodeId]) -> Value {
    let scales = context.scales(id);
    let x = if draft.scale(x) > scales.operand { draft.down_to(x, scales.operand) } else { x };
    draft.may_lift(x, context.claim(operands[0]));
    let Known { name, value, .. } = weight(context, operands[1]);
    let w = draft.weight(&name, value, scales.weight);
    let product = draft.linear(x, w);
    let Some(&bias) = operands.get(2) else { return product };
    let Known { name, value, .. } = weight(context, bias);
    let b = draft.weight(&name, value, draft.scale(product));
    draft.add_weight(product, b)
}

fn weight(context: &Context, id: NodeId) -> Known {
    context.known(id).expect("a verified fused graph has a weight here")
}
