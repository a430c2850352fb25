//! Softmax outside attention, along any axis.
//!
//! The greatest element of a row by a tournament, exp of what lies below it, the sum, its reciprocal, a product. The
//! arguments of both tables are bounded by construction: differences from the maximum are at most 0, the sum of n
//! exponentials lies between 1 and n. ceil(log2 n) + 3 rounds.

use ir::Value;

use super::draft::Draft;
use super::function::{self, Reach};
use super::{Context, arithmetic, reduce};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::{Function, NodeId};

/// exp is 0 below.
const LOWEST: f64 = -18.0;

/// Softmax of `x`, which `operand` computes, along an axis.
pub fn lower(
    context: &Context,
    draft: &mut Draft,
    x: Value,
    id: NodeId,
    operand: NodeId,
    axis: usize,
) -> Result<Value, Diagnostic> {
    let shape = draft.shape(x).to_vec();
    let bound = context.claim(operand);
    let mut one = shape.clone();
    one[axis] = 1;
    let n = f64::from(shape[axis]);
    let greatest = reduce::greatest_of(draft, x, &[axis], bound);
    let greatest = draft.reshape(greatest, &one);
    let below = draft.sub(x, greatest);
    let none = |what: &str| {
        Diagnostic::new(Code::NoTable, format!("a softmax has no table of its {what}"))
            .at(format!("node \"{}\"", context.graph.node(id).origin))
            .because(format!("its operand may reach {bound:.3e}"))
            .help("calibrate with inputs like the ones that will be asked")
    };
    let reach = Reach { lo: LOWEST, hi: 0.0, flat_below: true, flat_above: true, everywhere: true };
    let e = function::by_table(draft, below, reach, 2.0 * bound, Function::Exp {}, "exp")
        .ok_or_else(|| none("exponentials"))?;
    let sum = draft.sum(e, axis as u32);
    let reach = Reach { lo: 0.99, hi: n * 1.01, flat_below: true, flat_above: true, everywhere: true };
    let inverse = function::by_table(draft, sum, reach, n * 1.01, Function::Reciprocal {}, "inverse")
        .ok_or_else(|| none("sums"))?;
    Ok(arithmetic::product(context, draft, (e, 1.01), (inverse, 1.02), id))
}
