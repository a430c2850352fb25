//! Sums, differences, products, quotients and powers, of secrets with secrets and with what is known.
//!
//! Sums are local. A secret times a public number is local; times another secret it takes a round, in which both are
//! opened; what the server knows becomes a share of its own first. A secret divisor takes a table of its reciprocal, a
//! secret power one of its logarithm and one of the exponential.

use std::sync::Arc;

use ir::{MAX_WIDTH, Scale, Shape, Table, TableId, Value};
use ndarray::ArrayD;

use super::draft::Draft;
use super::{Context, Known, Values, function};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::kernel::wide;
use crate::graph::{Function, NodeId};

/// Fractional bits of a known tensor that becomes a share.
const KNOWN_SCALE: Scale = 14;

/// Significant bits of a public factor.
const FACTOR_BITS: Scale = 15;

/// Values of fewer fractional bits are whole numbers, or near: they get as many as the residual stream before a fraction
/// joins them.
const WHOLE: Scale = 8;

/// Most different public exponents of one power.
const EXPONENTS: usize = 16;

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
        _ => with_known(context, draft, values, [x, y], &shape, subtract),
    }
}

/// x - y, where either may be known, at the scale of the coarser.
pub fn difference(context: &Context, draft: &mut Draft, values: &Values, x: NodeId, y: NodeId, shape: &[u32]) -> Value {
    match (values.get(&x).copied(), values.get(&y).copied()) {
        (Some(x), Some(y)) => {
            let scale = draft.scale(x).min(draft.scale(y));
            let (x, y) = (draft.down_to(x, scale), draft.down_to(y, scale));
            let (x, y) = (draft.expand(x, shape), draft.expand(y, shape));
            draft.sub(x, y)
        }
        (None, None) => {
            let (x, y) = (operand(context, draft, values, x), operand(context, draft, values, y));
            let scale = draft.scale(x).min(draft.scale(y));
            let (x, y) = (draft.down_to(x, scale), draft.down_to(y, scale));
            let (x, y) = (draft.expand(x, shape), draft.expand(y, shape));
            draft.sub(x, y)
        }
        _ => with_known(context, draft, values, [x, y], shape, true),
    }
}

/// x + y, or x - y, one of which is known.
fn with_known(
    context: &Context,
    draft: &mut Draft,
    values: &Values,
    [x, y]: [NodeId; 2],
    shape: &[u32],
    subtract: bool,
) -> Value {
    let fine = |draft: &mut Draft, value: Value| {
        let value = draft.expand(value, shape);
        if draft.scale(value) < WHOLE { draft.up_to(value, context.residual) } else { value }
    };
    match (values.get(&x).copied(), values.get(&y).copied()) {
        (Some(value), None) => {
            let known = context.known(y).expect("an operand without a value is known");
            let value = fine(draft, value);
            if !subtract {
                return add_known(draft, value, &known);
            }
            let negated = Known { name: format!("-{}", known.name), value: known.value.mapv(|v| -v).into(), ..known };
            add_known(draft, value, &negated)
        }
        (None, Some(value)) => {
            let known = context.known(x).expect("an operand without a value is known");
            let value = if subtract { negate(draft, value) } else { value };
            let value = fine(draft, value);
            add_known(draft, value, &known)
        }
        _ => unreachable!("one operand is known"),
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
    match (values.get(&y), context.known(y)) {
        (Some(&other), _) if x == y => {
            debug_assert_eq!(other, value);
            square(context, draft, value, context.claim(x), id)
        }
        (Some(&other), _) => {
            let opened = open(context, draft, value, context.claim(x), id);
            let other = open(context, draft, other, context.claim(y), id);
            let product = draft.mul(opened, other);
            finish(context, draft, product, id)
        }
        (None, Some(known)) => times(context, draft, (value, context.claim(x)), &known, id),
        (None, None) => unreachable!("an operand without a value is known"),
    }
}

/// x², x being below `bound`.
pub fn square(context: &Context, draft: &mut Draft, x: Value, bound: f64, id: NodeId) -> Value {
    let opened = open(context, draft, x, bound, id);
    let square = draft.square(opened);
    finish(context, draft, square, id)
}

/// x·y of values and their bounds, opened as they are.
pub fn product(context: &Context, draft: &mut Draft, x: (Value, f64), y: (Value, f64), id: NodeId) -> Value {
    let (x, y) = (draft.open_within(x.0, x.1), draft.open_within(y.0, y.1));
    let product = draft.mul(x, y);
    finish(context, draft, product, id)
}

/// A product at the scale that values of its size need.
fn finish(context: &Context, draft: &mut Draft, product: Value, id: NodeId) -> Value {
    let claim = context.claim(id);
    let wanted = context.scales(id).operand + (-log2_ceil(claim)).max(0);
    let scale = draft.scale(product).min(wanted);
    let product = draft.down_to(product, scale);
    draft.may_lift(product, claim);
    product
}

/// x·known in the shape of the node, x being below a bound.
fn times(context: &Context, draft: &mut Draft, (x, bound): (Value, f64), known: &Known, id: NodeId) -> Value {
    if known.public {
        let shape: Vec<u32> = context.graph.node(id).shape.iter().map(|&d| d as u32).collect();
        let x = draft.expand(x, &shape);
        return mul_known(draft, x, known, context.residual);
    }
    let greatest = known.value.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
    let scale = FACTOR_BITS - 1 - log2_ceil(greatest);
    let share = share(draft, known, scale);
    let opened = open(context, draft, x, bound, id);
    let share = draft.open_within(share, greatest.max(f64::from(-scale).exp2()));
    let product = draft.mul(opened, share);
    finish(context, draft, product, id)
}

/// x/y, where either may be known.
pub fn divide(context: &Context, draft: &mut Draft, values: &Values, id: NodeId) -> Result<Value, Diagnostic> {
    let operands = context.graph.operands(id);
    let (x, y) = (operands[0], operands[1]);
    let Some(&divisor) = values.get(&y) else {
        let known = context.known(y).expect("an operand without a value is known");
        if known.value.iter().any(|&v| v == 0.0 || !v.is_finite()) {
            return Err(Diagnostic::new(Code::NoTable, "a division by zero or by no number")
                .at(format!("node \"{}\"", context.graph.node(id).origin))
                .because(
                    "its divisor is known when the model is compiled, and some element of it is zero or not finite",
                )
                .help("remove the division, or the elements, from the model"));
        }
        let value = Arc::new(known.value.mapv(|v| (1.0 / f64::from(v)) as f32));
        let inverse = Known { name: format!("1/{}", known.name), value, ..known };
        return Ok(times(context, draft, (values[&x], context.claim(x)), &inverse, id));
    };
    let inverse = function::lower(context, draft, divisor, id, y, Function::Reciprocal {})?;
    let nearest = context.ranges.seen.get(&y).and_then(|r| r.ends).map_or(1.0, |(lo, hi)| lo.abs().min(hi.abs()));
    let bound = function::BEYOND_POLE / nearest;
    Ok(match values.get(&x) {
        Some(&x_value) => {
            let x = within(context, draft, x_value, context.claim(x), id);
            product(context, draft, x, (inverse, bound), id)
        }
        None => {
            let known = context.known(x).expect("an operand without a value is known");
            times(context, draft, (inverse, bound), &known, id)
        }
    })
}

/// x^y, where either may be known.
pub fn power(context: &Context, draft: &mut Draft, values: &Values, id: NodeId) -> Result<Value, Diagnostic> {
    let operands = context.graph.operands(id);
    let (x, y) = (operands[0], operands[1]);
    let shape: Vec<u32> = context.graph.node(id).shape.iter().map(|&d| d as u32).collect();
    let refuse = |why: &str| {
        Diagnostic::new(Code::NoTable, "this power has no table on the calibrated range")
            .at(format!("node \"{}\"", context.graph.node(id).origin))
            .because(why)
            .help("write it with a constant exponent")
    };
    if let (Some(&base), None) = (values.get(&x), values.get(&y)) {
        let known = context.known(y).expect("an operand without a value is known");
        let mut exponents: Vec<f32> = known.value.iter().copied().collect();
        exponents.sort_unstable_by(f32::total_cmp);
        exponents.dedup();
        if known.public && exponents.len() <= EXPONENTS {
            let base = draft.expand(base, &shape);
            let at: Vec<usize> = shape.iter().map(|&d| d as usize).collect();
            let exponent_of = wide(&known.value.view(), &at).to_owned();
            let mut sum: Option<Value> = None;
            for &exponent in &exponents {
                let power = match exponent {
                    0.0 => {
                        let one =
                            Known { name: "one".to_owned(), value: Arc::new(exponent_of.mapv(|_| 1.0)), public: true };
                        share(draft, &one, KNOWN_SCALE)
                    }
                    1.0 => base,
                    _ => function::lower(context, draft, base, id, x, Function::Power { exponent })?,
                };
                let power = if exponents.len() == 1 {
                    power
                } else {
                    let mask = exponent_of.mapv(|e| f32::from(u8::from(e == exponent)));
                    let mask = Known { name: "mask".to_owned(), value: Arc::new(mask), public: true };
                    let mask = table(draft, &mask, &mask.value, 0);
                    let power = draft.mul_public(power, mask);
                    draft.at_scale(power, KNOWN_SCALE)
                };
                sum = Some(sum.map_or(power, |sum| draft.add(sum, power)));
            }
            return sum.ok_or_else(|| refuse("it has no elements"));
        }
    }
    let ends = |id: NodeId| context.ranges.seen.get(&id).and_then(|r| r.ends).unwrap_or((0.0, 0.0));
    let ((least, _), (lo, hi)) = (ends(x), ends(id));
    if least <= 0.0 || lo <= 0.0 {
        return Err(refuse("its exponent is secret, and its base or result is not positive in calibration"));
    }
    let bound = lo.ln().abs().max(hi.ln().abs()).max(1.0) * super::CLAIM_MARGIN;
    let exponent_bound = context.claim(y);
    let argument = match (values.get(&x).copied(), values.get(&y).copied()) {
        (Some(base), exponent) => {
            let log = function::lower(context, draft, base, id, x, Function::Log {})?;
            let (from, to) = ends(x);
            let log_bound = from.ln().abs().max(to.ln().abs()) + super::CLAIM_MARGIN;
            match exponent {
                Some(exponent) => {
                    let exponent = within(context, draft, exponent, exponent_bound, id);
                    let (log, exponent) =
                        (draft.open_within(log, log_bound), draft.open_within(exponent.0, exponent.1));
                    draft.mul(log, exponent)
                }
                None => {
                    let known = context.known(y).expect("an operand without a value is known");
                    times(context, draft, (log, log_bound), &known, id)
                }
            }
        }
        (None, Some(exponent)) => {
            let known = context.known(x).expect("an operand without a value is known");
            let value = Arc::new(known.value.mapv(|v| f64::from(v).ln() as f32));
            let log = Known { name: format!("ln {}", known.name), value, ..known };
            times(context, draft, (exponent, exponent_bound), &log, id)
        }
        (None, None) => unreachable!("what is known has been folded"),
    };
    let argument = draft.expand(argument, &shape);
    function::apply(context, draft, argument, id, (lo.ln(), hi.ln()), bound, Function::Exp {})
}

/// A value at the scale that products work at, with its bound; a small one keeps as many significant bits as one near 1.
fn within(context: &Context, draft: &mut Draft, x: Value, bound: f64, id: NodeId) -> (Value, f64) {
    let wanted = context.scales(id).operand + (-log2_ceil(bound)).max(0);
    let scale = draft.scale(x).min(wanted);
    (draft.down_to(x, scale), bound)
}

/// Opened for a product, with no more fractional bits than products work at.
fn open(context: &Context, draft: &mut Draft, x: Value, bound: f64, id: NodeId) -> Value {
    let (x, bound) = within(context, draft, x, bound, id);
    draft.open_within(x, bound)
}

/// x times public numbers, at the scale that x had or `finest`, whichever is less.
pub fn mul_known(draft: &mut Draft, x: Value, known: &Known, finest: Scale) -> Value {
    let greatest = known.value.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
    let scale = FACTOR_BITS - 1 - log2_ceil(greatest);
    let before = if draft.scale(x) < WHOLE { finest } else { draft.scale(x) };
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
