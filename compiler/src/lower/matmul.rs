//! Products of matrices of which none need be a weight with a linear layer's place.
//!
//! With a known matrix on either side it is a product with what the server owns ([`super::linear`]), one way. Two
//! secrets, or known matrices by batches, are opened whole and multiplied: one round.

use std::sync::Arc;

use ir::{Pattern, Table, Value};
use ndarray::Ix2;

use super::arithmetic::{log2_ceil, operand};
use super::draft::{Draft, LATER};
use super::{Context, Known, Values};
use crate::graph::NodeId;

/// Numpy's product of the operands.
pub fn lower(context: &Context, draft: &mut Draft, values: &Values, id: NodeId) -> Value {
    let operands = context.graph.operands(id);
    let (x, y) = (operands[0], operands[1]);
    let shape: Vec<u32> = context.graph.node(id).shape.iter().map(|&d| d as u32).collect();
    let (x_rank, y_rank) = (context.graph.node(x).shape.len(), context.graph.node(y).shape.len());
    let product = match (values.get(&x), values.get(&y)) {
        (Some(&value), None) if y_rank <= 2 => {
            let known = context.known(y).expect("an operand without a value is known");
            by_known(context, draft, value, x, id, known, false)
        }
        (None, Some(&value)) if x_rank <= 2 && y_rank >= 2 => {
            let known = context.known(x).expect("an operand without a value is known");
            let value = swap(draft, value);
            let product = by_known(context, draft, value, y, id, known, true);
            if x_rank == 2 { swap(draft, product) } else { product }
        }
        _ => {
            let a = operand(context, draft, values, x);
            let b = operand(context, draft, values, y);
            of_shares(context, draft, [(a, x), (b, y)], id, &shape)
        }
    };
    draft.may_lift(product, context.claim(id));
    draft.reshape(product, &shape)
}

/// x·w, or x·wᵀ, for a known matrix or vector w.
fn by_known(
    context: &Context,
    draft: &mut Draft,
    x: Value,
    operand: NodeId,
    id: NodeId,
    known: Known,
    transposed: bool,
) -> Value {
    let matrix = match known.value.ndim() {
        1 => known.value.to_shape((known.value.len(), 1)).expect("a vector is a column").to_owned(),
        _ => {
            let matrix = known.value.view().into_dimensionality::<Ix2>().expect("a matrix");
            if transposed { matrix.t().as_standard_layout().into_owned() } else { matrix.to_owned() }
        }
    };
    let scales = context.scales(id);
    let x = bring(context, draft, x, operand, id);
    draft.may_lift(x, context.claim(operand));
    let greatest = matrix.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
    // Each product has a mask of its own, and so a weight of its own.
    let name = format!("{} in {} {}", known.name, context.graph.node(id).origin, id.index());
    let scale = scales.weight - log2_ceil(greatest).clamp(-20, 10);
    let weight = draft.weight(&name, Arc::new(matrix.into_dyn()), scale);
    draft.linear(x, weight)
}

/// With as many fractional bits as products work at, more where values are small.
fn bring(context: &Context, draft: &mut Draft, x: Value, operand: NodeId, id: NodeId) -> Value {
    let wanted = context.scales(id).operand + (-log2_ceil(context.claim(operand))).max(0);
    let scale = draft.scale(x).min(wanted);
    draft.down_to(x, scale)
}

/// The product of two shares by batches.
fn of_shares(
    context: &Context,
    draft: &mut Draft,
    [(x, x_id), (y, y_id)]: [(Value, NodeId); 2],
    id: NodeId,
    shape: &[u32],
) -> Value {
    let (mut x, mut y) = (bring(context, draft, x, x_id, id), bring(context, draft, y, y_id, id));
    if let [k] = draft.shape(x)[..] {
        x = draft.reshape(x, &[1, k]);
    }
    if let [k] = draft.shape(y)[..] {
        y = draft.reshape(y, &[k, 1]);
    }
    let y = swap(draft, y);
    let (x_shape, y_shape) = (draft.shape(x).to_vec(), draft.shape(y).to_vec());
    let ([x_batch @ .., rows, k], [y_batch @ .., columns, _]) = (&x_shape[..], &y_shape[..]) else {
        unreachable!("matrices have two axes")
    };
    let (rows, columns, k) = (*rows, *columns, *k);
    let batch = broadcast(x_batch, y_batch);
    let x = draft.expand(x, &[&batch[..], &[rows, k]].concat());
    let y = draft.expand(y, &[&batch[..], &[columns, k]].concat());
    let (x, y) = (draft.open_whole(x, LATER), draft.open_whole(y, LATER));
    let pattern = draft.table("full", Table::Pattern(Pattern::full(rows, columns)));
    let product = draft.sddmm(x, y, pattern);
    let scale = draft.scale(product);
    let wanted = context.scales(id).operand + (-log2_ceil(context.claim(id))).max(0);
    let product = draft.down_to(product, scale.min(wanted));
    draft.reshape(product, shape)
}

/// The last two axes exchanged.
fn swap(draft: &mut Draft, x: Value) -> Value {
    let rank = draft.shape(x).len() as u32;
    let mut perm: Vec<u32> = (0..rank).collect();
    perm.swap(rank as usize - 1, rank as usize - 2);
    draft.transpose(x, &perm)
}

fn broadcast(a: &[u32], b: &[u32]) -> Vec<u32> {
    let rank = a.len().max(b.len());
    let at = |shape: &[u32], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    (0..rank).map(|i| at(a, i).max(at(b, i))).collect()
}
