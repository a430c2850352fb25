//! Recognise activations by what they compute.
//!
//! Rewrites  any element-wise formula of one value x and numbers that equals a known activation (GELU in either form,
//!           x·sigmoid(βx), Mish, ..) into that function of x.
//! Why       Exports differ in the order of factors, in `x*x*x` for a power, in where 0.5 stands. A region around an
//!           `erf`, a `tanh`, a `sigmoid` is therefore evaluated on sample points and compared; the two forms of GELU
//!           differ by 5e-4, the rounding of the file's float32 numbers by 1e-6.
//! Needs     `fuse_linear`, so that x is not itself an element-wise operation.
//! Keeps     Shapes; real values, up to the rounding of the numbers in the formula.

use std::collections::HashMap;

use super::{Options, known};
use crate::diagnostic::Diagnostic;
use crate::graph::{Function, GeluForm, Graph, NodeId, Op};

/// Greatest difference to a form of GELU on the samples, relative to |x| + 1.
const TOLERANCE: f64 = 1e-5;
/// Longest chain of operations from x to the `erf` or `tanh`.
const DEPTH: usize = 8;

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    for id in graph.order() {
        use Function::{Erf, HardSigmoid, Sigmoid, Softplus, Tanh};
        let Op::Unary(Erf {} | Tanh {} | Sigmoid {} | HardSigmoid { .. } | Softplus {}) = graph.node(id).op else {
            continue;
        };
        if let Some((x, result, function)) = find(graph, id) {
            let origin = graph.node(id).origin.clone();
            let new = graph.push(Op::Unary(function), &[x], &origin);
            graph.replace(result, new);
        }
    }
    Ok(())
}

/// Decides whether `inner` stands inside an activation: its argument, its result and the function.
fn find(graph: &Graph, inner: NodeId) -> Option<(NodeId, NodeId, Function)> {
    let samples: Vec<f64> = (-60..=60).map(|i| f64::from(i) / 10.0 + 0.013).collect();
    for x in arguments(graph, inner) {
        // A result depends on `inner`, so the region after it is searched, nearest first.
        for (result, values) in region(graph, x, inner, &samples) {
            let equals = |f: &Function| {
                let error = |(&s, &v): (&f64, &f64)| (v - f.value(s)).abs() / (1.0 + s.abs());
                samples.iter().zip(&values).map(error).all(|e| e <= TOLERANCE)
            };
            let known = [
                Function::Gelu(GeluForm::Erf),
                Function::Gelu(GeluForm::Tanh),
                Function::Mish {},
                Function::HardSwish {},
            ];
            if let Some(function) = known.into_iter().chain(swish(&samples, &values)).find(equals) {
                return Some((x, result, function));
            }
        }
    }
    None
}

/// The x·sigmoid(βx) that has some value at a sample, if one has.
fn swish(samples: &[f64], values: &[f64]) -> Option<Function> {
    let at = samples.iter().position(|&s| s > 1.0)?;
    let gate = values[at] / samples[at];
    let beta = ((gate / (1.0 - gate)).ln() / samples[at]) as f32;
    // The numbers that models use, where it is one of them but for rounding.
    let beta = [1.0f32, 1.702].into_iter().find(|b| (b - beta).abs() < 1e-4).unwrap_or(beta);
    (beta.is_finite() && beta > 0.0).then_some(Function::Swish { beta })
}

/// Values that `inner` depends on through few element-wise operations, nearest first.
fn arguments(graph: &Graph, inner: NodeId) -> Vec<NodeId> {
    let mut found: Vec<NodeId> = Vec::new();
    let mut frontier = vec![inner];
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for id in frontier {
            if !is_element_wise(&graph.node(id).op) {
                continue;
            }
            for operand in graph.operands(id) {
                if !known::is_known(graph, operand) && !found.contains(&operand) {
                    found.push(operand);
                    next.push(operand);
                }
            }
        }
        frontier = next;
    }
    found
}

fn is_element_wise(op: &Op) -> bool {
    matches!(op, Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Pow | Op::Neg | Op::Unary(_))
}

/// Evaluates what depends on `x` and numbers alone, and gives what depends on `inner` among that, in order.
fn region(graph: &Graph, x: NodeId, inner: NodeId, samples: &[f64]) -> Vec<(NodeId, Vec<f64>)> {
    let shape = &graph.node(x).shape;
    let mut values: HashMap<NodeId, Vec<f64>> = HashMap::from([(x, samples.to_vec())]);
    let mut after = vec![inner];
    let mut results = Vec::new();
    // Readers are tried again whenever one of their operands becomes known.
    let mut queue: std::collections::VecDeque<NodeId> = graph.readers(x).into();
    while let Some(id) = queue.pop_front() {
        let node = graph.node(id);
        if values.contains_key(&id) || !is_element_wise(&node.op) || node.shape != *shape {
            continue;
        }
        let operands = graph.operands(id);
        let columns: Option<Vec<Vec<f64>>> = operands
            .iter()
            .map(|o| values.get(o).cloned().or_else(|| Some(vec![known::scalar(graph, *o)?; samples.len()])))
            .collect();
        let Some(columns) = columns else { continue };
        let second = |i: usize| columns.get(1).map_or(0.0, |c| c[i]);
        let value: Vec<f64> = (0..samples.len()).map(|i| apply(&node.op, columns[0][i], second(i))).collect();
        if id == inner || operands.iter().any(|o| after.contains(o)) {
            after.push(id);
            results.push((id, value.clone()));
        }
        values.insert(id, value);
        queue.extend(graph.readers(id));
    }
    results
}

fn apply(op: &Op, a: f64, b: f64) -> f64 {
    match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div => a / b,
        Op::Pow => a.powf(b),
        Op::Unary(f) => f.value(a),
        Op::Neg => -a,
        _ => unreachable!("only element-wise operations are applied"),
    }
}
