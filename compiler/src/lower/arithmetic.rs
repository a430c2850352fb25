//! Sums, differences and products, of secrets with secrets and with what is known.
//!
//! Sums are local. A secret times a public number is local; times another secret it takes a round, in which both are
//! opened; what the server knows becomes a share of its own first.

use ir::{MAX_WIDTH, Scale, Shape, Table, TableId, Value};
use ndarray::ArrayD;

use super::draft::Draft;
use super::{Context, Known, Values};
use crate::graph::NodeId;

/// Fractional bits of a known tensor that becomes a share.
const KNOWN_SCALE: Scale = 14;

/// Significant bits of a public factor.
const FACTOR_BITS: Scale = 15;

/// A node's value; a share of it where it is known.
pub fn operand(context: &Context, draft: &mut Draft, values: &Values, id: NodeId) -> Value {
    match values.get(&id) {
        Some(&value) => value,
        None => {
            let known = context.known(id).expect("operands are lowered before their readers");
            let greatest = known.value.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
            share(draft, &known, context.residual.max(KNOWN_SCALE).min(46 - log2_ceil(greatest)))
        }
    }
}

/// A share of a known tensor at a scale.
pub fn share(draft: &mut Draft, known: &Known, scale: Scale) -> Value {
    let shape: Vec<u32> = known.value.shape().iter().map(|&d| d as u32).collect();
    let zeros = draft.zeros(&shape);
    let zeros = draft.halve(zeros, scale);
    add_known(draft, zeros, known)
}

/// x plus a known tensor that broadcasts to its shape.
pub fn add_known(draft: &mut Draft, x: Value, known: &Known) -> Value {
    let scale = draft.scale(x);
    match known.public {
        true => {
            let table = table(draft, known, &known.value, scale);
            draft.add_public(x, table)
        }
        false => {
            let weight = draft.weight(&known.name, known.value.clone(), scale);
            draft.add_weight(x, weight)
        }
    }
}

/// A public tensor as a table of integers at a scale.
pub fn table(draft: &mut Draft, known: &Known, values: &ArrayD<f32>, scale: Scale) -> TableId {
    let unit = f64::from(scale).exp2();
    let limit = f64::from(MAX_WIDTH - 2).exp2();
    let values: Vec<i64> = values.iter().map(|&v| (f64::from(v) * unit).round().clamp(-limit, limit) as i64).collect();
    let shape = Shape(known.value.shape().iter().map(|&d| d as u32).collect());
    draft.table("constant", Table::Const { scale, shape, values })
}

/// x + y, or x - y, where either may be known.
pub fn add(context: &Context, draft: &mut Draft, values: &Values, id: NodeId, subtract: bool) -> Value {
    let operands = context.graph.operands(id);
    let shape: Vec<u32> = context.graph.node(id).shape.iter().map(|&d| d as u32).collect();
    let (x, y) = (operands[0], operands[1]);
    match (values.get(&x).copied(), values.get(&y).copied()) {
        (Some(x), Some(y)) => {
            let scale = draft.scale(x).min(draft.scale(y)).min(context.residual);
            let (x, y) = (draft.down_to(x, scale), draft.down_to(y, scale));
            let x = draft.at_scale(x, context.residual);
            let y = draft.at_scale(y, context.residual);
            if subtract { draft.sub(x, y) } else { draft.add(x, y) }
        }
        (Some(value), None) => {
            let known = context.known(y).expect("an operand without a value is known");
            let value = draft.expand(value, &shape);
            if !subtract {
                return add_known(draft, value, &known);
            }
            let negated = Known { name: format!("-{}", known.name), value: known.value.mapv(|v| -v).into(), ..known };
            add_known(draft, value, &negated)
        }
        (None, Some(value)) => {
            let known = context.known(x).expect("an operand without a value is known");
            let value = if subtract { negate(draft, value) } else { value };
            let value = draft.expand(value, &shape);
            add_known(draft, value, &known)
        }
        (None, None) => unreachable!("what is known has been folded"),
    }
}

/// -x.
pub fn negate(draft: &mut Draft, x: Value) -> Value {
    let minus = draft.constant("minus", -1, 0);
    draft.mul_public(x, minus)
}

/// x·y, where either may be known.
pub fn mul(context: &Context, draft: &mut Draft, values: &Values, id: NodeId) -> Value {
    let operands = context.graph.operands(id);
    let (mut x, mut y) = (operands[0], operands[1]);
    if !values.contains_key(&x) {
        (x, y) = (y, x);
    }
    let value = values[&x];
    let product = match (values.get(&y), context.known(y)) {
        (Some(&other), _) if x == y => {
            debug_assert_eq!(other, value);
            let opened = open(context, draft, value, x, id);
            draft.square(opened)
        }
        (Some(&other), _) => {
            let opened = open(context, draft, value, x, id);
            let other = open(context, draft, other, y, id);
            draft.mul(opened, other)
        }
        (None, Some(known)) if known.public => {
            let shape: Vec<u32> = context.graph.node(id).shape.iter().map(|&d| d as u32).collect();
            let value = draft.expand(value, &shape);
            return mul_known(draft, value, &known, context.residual);
        }
        (None, Some(known)) => {
            let greatest = known.value.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
            let scale = FACTOR_BITS - 1 - log2_ceil(greatest);
            let share = share(draft, &known, scale);
            let opened = open(context, draft, value, x, id);
            let share = draft.open_within(share, greatest.max(f64::from(-scale).exp2()));
            draft.mul(opened, share)
        }
        (None, None) => unreachable!("an operand without a value is known"),
    };
    let scale = draft.scale(product).min(context.scales(id).operand);
    let product = draft.down_to(product, scale);
    draft.may_lift(product, context.claim(id));
    product
}

/// Opened for a product, with no more fractional bits than products work at.
fn open(context: &Context, draft: &mut Draft, x: Value, operand: NodeId, id: NodeId) -> Value {
    let bound = context.claim(operand);
    // A value that is small keeps as many significant bits as one near 1.
    let wanted = context.scales(id).operand + (-log2_ceil(bound)).max(0);
    let scale = draft.scale(x).min(wanted);
    let x = draft.down_to(x, scale);
    draft.open_within(x, bound)
}

/// x times public numbers, at the scale that x had or `finest`, whichever is less.
pub fn mul_known(draft: &mut Draft, x: Value, known: &Known, finest: Scale) -> Value {
    let greatest = known.value.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
    let scale = FACTOR_BITS - 1 - log2_ceil(greatest);
    let before = draft.scale(x);
    if known.value.iter().all(|&v| v == greatest as f32) && greatest > 0.0 && greatest.log2().fract() == 0.0 {
        return draft.halve(x, -(greatest.log2() as Scale));
    }
    let table = table(draft, known, &known.value, scale);
    let product = draft.mul_public(x, table);
    // As many significant bits as before, where the factor is small.
    let scale = draft.scale(product).min((before - log2_ceil(greatest).min(0)).min(finest.max(before)));
    draft.down_to(product, scale)
}

/// The least n with |x| <= 2^n; 0 for 0.
pub fn log2_ceil(x: f64) -> Scale {
    if x > 0.0 { x.log2().ceil().clamp(-200.0, 200.0) as Scale } else { 0 }
}
