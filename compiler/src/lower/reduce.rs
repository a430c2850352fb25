//! Reductions over axes: sums are local, the greatest element is found by a tournament.
//!
//! A round     Neighbours meet: the difference of their values opened to compare, the difference of their rows opened
//!             whole; `select` gives the latter or nothing, and that is added to the second row. ceil(log2 n) rounds.
//! ArgMax      A row is (value, index). Neighbours keep the order of indices, so of equal elements the first (or the last)
//!             goes on in every round.

use std::sync::Arc;

use ir::{Shape, Table, Value};
use ndarray::{ArrayD, IxDyn};

use super::draft::{Draft, LATER};
use super::{Context, Known, arithmetic};
use crate::graph::NodeId;

/// Sum over axes, divided by the number of summands if it is a mean.
pub fn sum(context: &Context, draft: &mut Draft, x: Value, id: NodeId, axes: &[usize], mean: bool) -> Value {
    let count: u32 = axes.iter().map(|&axis| draft.shape(x)[axis]).product();
    let sum = axes.iter().fold(x, |x, &axis| draft.sum(x, axis as u32));
    if !mean || count <= 1 {
        return sum;
    }
    let value = Arc::new(ArrayD::from_elem(IxDyn(&[]), 1.0 / count as f32));
    let known = Known { name: format!("1/{count}"), value, public: true };
    arithmetic::mul_known(draft, sum, &known, context.scales(id).operand.max(14))
}

/// The greatest element over axes, which stay as dimensions of one.
pub fn greatest(context: &Context, draft: &mut Draft, x: Value, id: NodeId, operand: NodeId, axes: &[usize]) -> Value {
    let shape: Vec<u32> = context.graph.node(id).shape.iter().map(|&d| d as u32).collect();
    let winners = greatest_of(draft, x, axes, context.claim(operand));
    draft.reshape(winners, &shape)
}

/// The greatest elements over axes, [outer, 1, 1], of elements below `bound`.
pub fn greatest_of(draft: &mut Draft, x: Value, axes: &[usize], bound: f64) -> Value {
    let rows = rows_of(draft, x, axes);
    let [outer, n] = draft.shape(rows)[..] else { unreachable!("rows of lanes") };
    let rows = draft.reshape(rows, &[outer, n, 1]);
    tournament(draft, rows, bound, false)
}

/// Index of the greatest element along an axis, at scale 0.
pub fn arg_max(
    context: &Context,
    draft: &mut Draft,
    x: Value,
    id: NodeId,
    operand: NodeId,
    axis: usize,
    last: bool,
) -> Value {
    let shape: Vec<u32> = context.graph.node(id).shape.iter().map(|&d| d as u32).collect();
    let bound = context.claim(operand);
    let lanes = rows_of(draft, x, &[axis]);
    let [outer, n] = draft.shape(lanes)[..] else { unreachable!("rows of lanes") };
    let scale = draft.scale(lanes);
    let values = draft.reshape(lanes, &[outer, n, 1]);
    let places = draft.sub(values, values);
    let table = Table::Const { scale, shape: Shape(vec![n, 1]), values: (0..i64::from(n)).collect() };
    let table = draft.table("places", table);
    let places = draft.add_public(places, table);
    let rows = draft.concat(&[values, places], 2);
    let winners = tournament(draft, rows, bound, last);
    let place = draft.slice(winners, 2, 1, 2);
    let place = draft.halve(place, -scale);
    draft.reshape(place, &shape)
}

/// The elements [outer, n] with `axes` behind all others.
fn rows_of(draft: &mut Draft, x: Value, axes: &[usize]) -> Value {
    let shape = draft.shape(x).to_vec();
    let kept = (0..shape.len()).filter(|axis| !axes.contains(axis));
    let perm: Vec<u32> = kept.chain(axes.iter().copied()).map(|axis| axis as u32).collect();
    let n: u32 = axes.iter().map(|&axis| shape[axis]).product();
    let outer = shape.iter().product::<u32>() / n.max(1);
    let sorted = perm.is_sorted();
    let moved = if sorted { x } else { draft.transpose(x, &perm) };
    draft.reshape(moved, &[outer, n])
}

/// The rows [outer, 1, c] of the greatest values (component 0) of rows [outer, n, c]; values are below `bound`. Of equal
/// ones the first or the last.
fn tournament(draft: &mut Draft, mut rows: Value, bound: f64, last: bool) -> Value {
    loop {
        let [outer, n, c] = draft.shape(rows)[..] else { unreachable!("rows have components") };
        if n <= 1 {
            return rows;
        }
        let pairs = n / 2;
        let paired = draft.slice(rows, 1, 0, 2 * pairs);
        let paired = draft.reshape(paired, &[outer, pairs, 2, c]);
        let [first, second] = [0, 1].map(|i| {
            let side = draft.slice(paired, 2, i, i + 1);
            draft.reshape(side, &[outer, pairs, c])
        });
        let difference = draft.sub(first, second);
        let mut value = draft.slice(difference, 2, 0, 1);
        if last {
            let scale = draft.scale(value);
            let unit = draft.constant("less than", -1, scale);
            value = draft.add_public(value, unit);
        }
        let value = draft.reshape(value, &[outer, pairs]);
        let compared = draft.open_to_compare(value, 2.0 * bound, 1.0);
        let whole = draft.open_whole(difference, LATER);
        let gained = draft.select(compared, whole);
        let winners = draft.add(second, gained);
        rows = if n % 2 == 0 {
            winners
        } else {
            let alone = draft.slice(rows, 1, n - 1, n);
            draft.concat(&[winners, alone], 1)
        };
    }
}
