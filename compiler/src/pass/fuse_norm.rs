//! Recognise layer normalisation and RMS normalisation.
//!
//! Rewrites  `layer_normalization(x, g, b)`  into  `normalize(x) * g + b`;
//!           `(x - mean x) / sqrt(mean (x - mean x)² + e)`  into  `normalize(x)`, and the same without the mean into its
//!           centred form. The square may be a power or a product, the mean a sum times any number, the quotient a product
//!           with a reciprocal, the root a power of one half; e may be absent; a gain may come before the quotient.
//! Why       `fold_affine` then moves g and b into the linear layers that follow, whichever form the file has.
//! Needs     Stage `graph`.
//! Keeps     Shapes and real values. A guard, `max(sqrt ..., e)`, is dropped: rows as short as that lie below the table of
//!           the reciprocal root, whose end is flat, and are counted.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::{Options, known, rewrite};
use crate::diagnostic::Diagnostic;
use crate::graph::{Function, Graph, NodeId, Op, Tensor};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    rewrite(graph, |graph, id| {
        let origin = graph.node(id).origin.clone();
        let new = if let Op::LayerNormalization { epsilon } = graph.node(id).op {
            let operands = graph.operands(id);
            let mut new = graph.push(Op::Normalize { epsilon, centred: false }, &operands[..1], &origin);
            new = graph.push(Op::Mul, &[new, operands[1]], &origin);
            if let Some(&beta) = operands.get(2) {
                new = graph.push(Op::Add, &[new, beta], &origin);
            }
            new
        } else if let Some(Rows { x, op, factor, gains }) = find(graph, id) {
            let width = graph.node(x).shape[graph.node(x).shape.len() - 1];
            let mut new = graph.push(op, &[x], &origin);
            if (factor - 1.0).abs() > 1e-6 {
                let factor = Tensor::F32(ArrayD::from_elem(IxDyn(&[width]), factor as f32));
                let factor = graph.push(Op::Const(Arc::new(factor)), &[], &origin);
                new = graph.push(Op::Mul, &[new, factor], &origin);
            }
            for gain in gains {
                new = graph.push(Op::Mul, &[new, gain], &origin);
            }
            new
        } else {
            return Ok(false);
        };
        graph.replace(id, new);
        Ok(true)
    })
}

/// A decomposed normalisation: normalised rows of x, times a number, times known vectors.
struct Rows {
    x: NodeId,
    op: Op,
    factor: f64,
    gains: Vec<NodeId>,
}

/// Decides whether a decomposed normalisation of rows ends at `id`.
fn find(graph: &Graph, id: NodeId) -> Option<Rows> {
    let operands = graph.operands(id);
    let (mut rows, deviation, mut gains) = match graph.node(id).op {
        Op::Div => (operands[0], operands[1], Vec::new()),
        Op::Mul => [[0, 1], [1, 0]].into_iter().find_map(|[i, j]| {
            let (deviation, gains) = inverse(graph, operands[j])?;
            Some((operands[i], deviation, gains))
        })?,
        _ => return None,
    };
    let variance = root(graph, guarded(graph, deviation))?;
    let (squares, epsilon) = match (&graph.node(variance).op, known::split(graph, variance)) {
        (Op::Add, Some((squares, epsilon, _))) => (squares, known::scalar(graph, epsilon)?),
        _ => (guarded(graph, variance), 0.0),
    };
    // The squares' mean times a number k: x / sqrt(k·mean + e) is 1/sqrt(k) of x / sqrt(mean + e/k).
    let (squared, k) = mean_of_squares(graph, squares)?;
    if k <= 0.0 || epsilon < 0.0 {
        return None;
    }
    let centred_rows = centred(graph, squared);
    let reaches = |rows: NodeId| rows == squared || (centred_rows.is_some() && centred(graph, rows) == centred_rows);
    if !reaches(rows) {
        // A gain that comes first.
        let (inner, gain) = gained(graph, rows)?;
        gains.push(gain);
        rows = inner;
        if !reaches(rows) {
            return None;
        }
    }
    let epsilon = (epsilon / k) as f32;
    let factor = 1.0 / k.sqrt();
    Some(match centred_rows {
        Some(x) => Rows { x, op: Op::Normalize { epsilon, centred: false }, factor, gains },
        None => Rows { x: squared, op: Op::Normalize { epsilon, centred: true }, factor, gains },
    })
}

/// A value times a known vector of its rows' length, and the vector.
fn gained(graph: &Graph, id: NodeId) -> Option<(NodeId, NodeId)> {
    let (x, gain, _) = known::split(graph, id)?;
    let fits = matches!(graph.node(id).op, Op::Mul) && graph.node(x).shape == graph.node(id).shape;
    known::vector(graph, gain, *graph.node(id).shape.last()?).filter(|_| fits)?;
    Some((x, gain))
}

/// A node that is 1/d, times a known vector or not, as d and the vector.
fn inverse(graph: &Graph, id: NodeId) -> Option<(NodeId, Vec<NodeId>)> {
    match (&graph.node(id).op, &graph.operands(id)[..]) {
        (Op::Unary(Function::Reciprocal {}), &[d]) => Some((d, Vec::new())),
        (Op::Div, &[one, d]) if known::scalar(graph, one) == Some(1.0) => Some((d, Vec::new())),
        (Op::Mul, _) => {
            let (inner, gain, _) = known::split(graph, id)?;
            known::vector(graph, gain, *graph.node(id).shape.last()?)?;
            let (d, mut gains) = inverse(graph, inner)?;
            gains.push(gain);
            Some((d, gains))
        }
        _ => None,
    }
}

/// x, if the node is x but no less than a small positive number.
fn guarded(graph: &Graph, id: NodeId) -> NodeId {
    let guard = || {
        let (positive, low, _) = known::split(graph, id).filter(|_| matches!(graph.node(id).op, Op::Add))?;
        let low = known::scalar(graph, low).filter(|low| (0.0..1e-4).contains(low))?;
        let Op::Unary(Function::Relu {}) = graph.node(positive).op else { return None };
        let difference = graph.operands(positive)[0];
        let (x, other, second) = known::split(graph, difference)?;
        let subtracted = match graph.node(difference).op {
            Op::Sub if second => known::scalar(graph, other)?,
            Op::Add => -known::scalar(graph, other)?,
            _ => return None,
        };
        (subtracted == low).then_some(x)
    };
    let clipped = || match graph.node(id).op {
        Op::Unary(Function::Clip { low, high }) if (0.0..1e-4).contains(&low) && high > 1e9 => {
            Some(graph.operands(id)[0])
        }
        // The guard of a quotient is copied along the rows.
        Op::Expand => Some(guarded(graph, graph.operands(id)[0])),
        _ => None,
    };
    guard().or_else(clipped).unwrap_or(id)
}

/// v, if the node is its square root.
fn root(graph: &Graph, id: NodeId) -> Option<NodeId> {
    match (&graph.node(id).op, &graph.operands(id)[..]) {
        (Op::Unary(Function::Sqrt {}), &[v]) => Some(v),
        (Op::Pow, &[v, half]) if known::scalar(graph, half) == Some(0.5) => Some(v),
        _ => None,
    }
}

/// x, if the node is x².
fn square(graph: &Graph, id: NodeId) -> Option<NodeId> {
    match (&graph.node(id).op, &graph.operands(id)[..]) {
        (Op::Pow, &[x, two]) if known::scalar(graph, two) == Some(2.0) => Some(x),
        (Op::Mul, &[x, y]) if x == y => Some(x),
        _ => None,
    }
}

/// x and k, if the node is k times the mean of x² over the last axis.
fn mean_of_squares(graph: &Graph, id: NodeId) -> Option<(NodeId, f64)> {
    let operands = graph.operands(id);
    let last = |axes: &[usize], x: NodeId| axes.len() == 1 && axes[0] + 1 == graph.node(x).shape.len();
    match &graph.node(id).op {
        Op::ReduceMean { axes } if last(axes, operands[0]) => Some((square(graph, operands[0])?, 1.0)),
        Op::ReduceSum { axes } if last(axes, operands[0]) => {
            Some((square(graph, operands[0])?, *graph.node(operands[0]).shape.last()? as f64))
        }
        Op::Mul | Op::Div => {
            let (inner, number, second) = known::split(graph, id)?;
            let (x, k) = mean_of_squares(graph, inner)?;
            let number = known::scalar(graph, number)?;
            match graph.node(id).op {
                Op::Div if second => Some((x, k / number)),
                Op::Div => None,
                _ => Some((x, k * number)),
            }
        }
        _ => None,
    }
}

/// x, if the node is its mean over the last axis.
fn row_mean(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let operands = graph.operands(id);
    let x = *operands.first()?;
    let last = |axes: &[usize], x: NodeId| axes.len() == 1 && axes[0] + 1 == graph.node(x).shape.len();
    match &graph.node(id).op {
        Op::ReduceMean { axes } => last(axes, x).then_some(x),
        Op::Mul | Op::Div => {
            let (sum, number, second) = known::split(graph, id)?;
            let number = known::scalar(graph, number)?;
            let divisor = match graph.node(id).op {
                Op::Mul => 1.0 / number,
                _ if second => number,
                _ => return None,
            };
            let Op::ReduceSum { axes } = &graph.node(sum).op else { return None };
            let x = graph.operands(sum)[0];
            let d = *graph.node(x).shape.last()? as f64;
            (last(axes, x) && (divisor - d).abs() < 1e-6 * d).then_some(x)
        }
        _ => None,
    }
}

/// x, if the node is x less its mean.
fn centred(graph: &Graph, id: NodeId) -> Option<NodeId> {
    match (&graph.node(id).op, &graph.operands(id)[..]) {
        (Op::Sub, &[x, mean]) if row_mean(graph, mean) == Some(x) => Some(x),
        _ => None,
    }
}
