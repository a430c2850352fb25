//! Tests of numbers and the choice by one. A test is a share of 0 or 1 at scale 0.

use std::sync::Arc;

use ir::{Table, Value};

use super::draft::{Draft, LATER};
use super::{Context, Known, Values, arithmetic};
use crate::graph::NodeId;
use crate::graph::kernel::wide;

/// x < y, or x <= y: one comparison of their difference with 0. One round.
pub fn less(context: &Context, draft: &mut Draft, values: &Values, id: NodeId, or_equal: bool) -> Value {
    let operands = context.graph.operands(id);
    let shape: Vec<u32> = context.graph.node(id).shape.iter().map(|&d| d as u32).collect();
    let difference = arithmetic::difference(context, draft, values, operands[1], operands[0], &shape);
    let bound = context.claim(operands[0]) + context.claim(operands[1]);
    let unit = f64::from(-draft.scale(difference)).exp2();
    let opened = draft.open_to_compare(difference, bound + unit, unit);
    let thresholds = draft.table("sign", Table::Thresholds(vec![i64::from(!or_equal)]));
    let bits = draft.ge(opened, thresholds);
    draft.reshape(bits, &shape)
}

/// x where a condition holds, else y. Local where the condition is public; a round where it is a share.
pub fn choose(context: &Context, draft: &mut Draft, values: &Values, id: NodeId) -> Value {
    let operands = context.graph.operands(id);
    let shape: Vec<u32> = context.graph.node(id).shape.iter().map(|&d| d as u32).collect();
    let [condition, x, y] = [operands[0], operands[1], operands[2]];
    let Some(&bits) = values.get(&condition) else {
        let mask = context.known(condition).expect("an operand without a value is known");
        return by_public(context, draft, values, &mask, [x, y], &shape);
    };
    let difference = match (values.get(&x), values.get(&y), context.known(x), context.known(y)) {
        // The difference of two public numbers times a share is local.
        (None, None, Some(a), Some(b)) if a.public && b.public => {
            let at: Vec<usize> = shape.iter().map(|&d| d as usize).collect();
            let value = Arc::new(&wide(&a.value.view(), &at) - &wide(&b.value.view(), &at));
            let bits = draft.expand(bits, &shape);
            let known = Known { name: format!("{} - {}", a.name, b.name), value, public: true };
            let whole = known.value.iter().all(|v| v.fract() == 0.0 && v.abs() < 2f32.powi(40));
            let product = match whole {
                true => {
                    let table = arithmetic::table(draft, &known, &known.value, 0);
                    draft.mul_public(bits, table)
                }
                false => arithmetic::mul_known(draft, bits, &known, 14),
            };
            let scale = draft.scale(product).max(if b.value.iter().all(|v| v.fract() == 0.0) { 0 } else { 14 });
            let product = draft.at_scale(product, scale);
            return arithmetic::add_known(draft, product, &b);
        }
        _ => arithmetic::difference(context, draft, values, x, y, &shape),
    };
    let scale = draft.scale(difference);
    let bits = draft.expand(bits, &shape);
    let one = draft.open_within(bits, 1.0);
    let whole = draft.open_whole(difference, LATER);
    let gained = draft.mul(whole, one);
    let y = arithmetic::operand(context, draft, values, y);
    let y = draft.expand(y, &shape);
    let y = draft.at_scale(y, scale);
    draft.add(y, gained)
}

/// mask·x + (1 - mask)·y; what is known counts where it is chosen alone.
fn by_public(
    context: &Context,
    draft: &mut Draft,
    values: &Values,
    mask: &Known,
    [x, y]: [NodeId; 2],
    shape: &[u32],
) -> Value {
    let at: Vec<usize> = shape.iter().map(|&d| d as usize).collect();
    let chosen = wide(&mask.value.view(), &at).to_owned();
    let parts = [(x, true), (y, false)];
    let computed: Vec<Value> = parts
        .iter()
        .filter_map(|&(id, when)| {
            let value = draft.expand(*values.get(&id)?, shape);
            let known = chosen.mapv(|c| f32::from(u8::from((c != 0.0) == when)));
            let known = Known { name: "mask".to_owned(), value: Arc::new(known), public: true };
            let table = arithmetic::table(draft, &known, &known.value, 0);
            Some(draft.mul_public(value, table))
        })
        .collect();
    let scale = computed.iter().map(|&v| draft.scale(v)).min().unwrap_or(14);
    let scale = if computed.len() < parts.len() { scale.max(14) } else { scale };
    let mut sum: Option<Value> = None;
    for value in computed {
        let value = draft.at_scale(value, scale);
        sum = Some(sum.map_or(value, |sum| draft.add(sum, value)));
    }
    let mut sum = sum.expect("a choice between what is known has been folded");
    for (id, when) in parts.into_iter().filter(|(id, _)| !values.contains_key(id)) {
        let known = context.known(id).expect("an operand without a value is known");
        let mut value = wide(&known.value.view(), &at).to_owned();
        value.zip_mut_with(&chosen, |v, c| {
            if (*c != 0.0) != when {
                *v = 0.0;
            }
        });
        let known = Known { name: format!("{} where chosen", known.name), value: Arc::new(value), ..known };
        sum = arithmetic::add_known(draft, sum, &known);
    }
    sum
}
