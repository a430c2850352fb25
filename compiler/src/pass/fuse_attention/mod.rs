//! Recognise multi-head attention.
//!
//! Rewrites  `merge(softmax(cap(split(q)·split(k)ᵀ · c) + bias + mask)·split(v))`  into  `attention(c · q, k, v, bias)`, where
//!           `split` and `merge` are any reshapes, transposes, slices and copies that take head i from the i-th part of the
//!           columns, and put it back; c is the product of all factors on q, k and the scores; cap(s) is
//!           b·tanh(s/b); masks and biases are known numbers that are added, or chosen by `where`, in any order; a column
//!           of sinks may be joined to the scores and dropped behind the softmax.
//! Why       The protocols compute kept scores only; `fold_affine` moves c into the weights before q. Heads that look at
//!           copies of the same keys look at one, and the bias is told by its distances where these decide.
//! Needs     `simplify`, `fuse_rotary`.
//! Keeps     Shapes; real values, provided that a dropped score would not have outweighed its mask.
//! Errors    A mask that keeps no column of a row, or holds a number that neither keeps nor drops a score.
//! Skips     A softmax that no attention surrounds; a mask that keeps other than one range of a row, or differs between heads
//!           or batch elements, which `masked_softmax` takes.
//!
//! What a chain of reshapes does is found by applying it to the numbers of its elements. Where a chain splits heads
//! otherwise (a cache concatenated per head, rotary embedding), explicit transposes remain before the attention.

mod moves;
pub mod scores;

use std::collections::HashSet;
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::{Options, known, most_elements, place, rewrite, sole_reader};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::{Function, Graph, NodeId, Op, Tensor};
use moves::{joined, layout, merged};
use scores::{Frame, Kind, Step};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    let mut refused: Vec<(NodeId, Option<Diagnostic>)> = Vec::new();
    rewrite(graph, |graph, id| {
        if refused.iter().any(|r| r.0 == id) {
            return Ok(false);
        }
        let found = match find(graph, id) {
            None => return Ok(false),
            Some(Ok(found)) => found,
            Some(Err(why)) => {
                refused.push((id, Some(why)));
                return Ok(false);
            }
        };
        match scores::read(graph, id, found.frame, &found.steps) {
            Ok(known) => fuse(graph, id, found, known),
            Err(why) => {
                refused.push((id, why));
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    Diagnostic::check(first_of_each(refused.into_iter().filter_map(|r| r.1).collect()))
}

/// One report for each kind of fault: the first, with how many more there are.
fn first_of_each(faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let title = |d: &Diagnostic| d.faults()[0].title.clone();
    let mut seen = HashSet::new();
    let firsts: Vec<&Diagnostic> = faults.iter().filter(|d| seen.insert(title(d))).collect();
    let count = |first: &Diagnostic| faults.iter().filter(|d| title(d) == title(first)).count();
    let told = |first: &Diagnostic| match count(first) {
        1 => first.clone(),
        n => first.clone().because(format!("The same holds for {} attentions more.", n - 1)),
    };
    firsts.into_iter().map(told).collect()
}

/// An attention around a softmax.
struct Found {
    frame: Frame,
    /// Widths of a head of q and v.
    width: usize,
    value_width: usize,
    /// Factors of the product of q and k, the latter with its last axes exchanged; and the values.
    q: NodeId,
    k: NodeId,
    v: NodeId,
    /// Heads in a row that look at the same keys and values.
    group: usize,
    /// Product of the factors on the scores.
    factor: f64,
    softcap: Option<f64>,
    sinks: Option<Sinks>,
    steps: Vec<Step>,
    /// The product of probabilities and values.
    result: NodeId,
}

/// One score more of each head.
struct Sinks {
    numbers: Vec<f64>,
    /// Name of the weight.
    name: String,
}

/// Decides whether an attention surrounds the softmax `id`. Reads, never writes. An error if one does that is too large.
fn find(graph: &Graph, id: NodeId) -> Option<Result<Found, Diagnostic>> {
    let node = graph.node(id);
    let rank = node.shape.len();
    if !matches!(node.op, Op::Softmax { axis } if axis + 1 == rank) || rank < 2 {
        return None;
    }
    let mut at = without_maximum(graph, graph.operands(id)[0]);
    let mut sinks = None;
    if let Some((scores, numbers)) = joined_sinks(graph, at) {
        (at, sinks) = (scores, Some(numbers));
    }
    let outer = graph.node(at).shape.clone();
    let columns = *outer.last()?;

    let mut factor = 1.0;
    let mut softcap = None;
    let mut steps = Vec::new();
    let (q, k) = loop {
        let operands = graph.operands(at);
        let known = known::split(graph, at);
        let shape = graph.node(at).shape.clone();
        if shape.last() != Some(&columns) {
            return None;
        }
        match graph.node(at).op {
            Op::MatMul => break (operands[0], operands[1]),
            Op::Reshape => at = operands[0],
            // What is added to the operand of a tanh is no mask: it would drop nothing.
            Op::Add | Op::Where if softcap.is_some() => return None,
            Op::Sub if known.is_none() && without_maximum(graph, at) != at => at = without_maximum(graph, at),
            Op::Sub if softcap.is_some() => return None,
            Op::Add | Op::Sub => {
                let (scores, numbers, second) = known.filter(|k| k.2 || matches!(graph.node(at).op, Op::Add))?;
                let sign = if second && matches!(graph.node(at).op, Op::Sub) { -1.0 } else { 1.0 };
                steps.push(Step { shape, kind: Kind::Added { numbers, sign, factor } });
                at = scores;
            }
            Op::Mul | Op::Div => {
                let (scores, number) = scale(graph, at)?;
                factor *= number;
                at = scores;
            }
            Op::Where => {
                let &[condition, yes, no] = &operands[..] else { return None };
                let keep = known::is_known(graph, no);
                let (scores, other) = if keep { (yes, no) } else { (no, yes) };
                steps.push(Step { shape, kind: Kind::Chosen { condition, keep, other } });
                at = scores;
            }
            // b·tanh(a·s) is the cap b of the score a·b·s, so the factor goes on.
            Op::Unary(Function::Tanh {}) if softcap.is_none() && factor > 0.0 => {
                softcap = Some(factor);
                at = operands[0];
            }
            _ => return None,
        }
    };
    let result = weighted_sum(graph, id, columns)?;
    let v = graph.operands(result)[1];
    let (score_shape, q_shape, k_shape) = (&graph.node(at).shape, &graph.node(q).shape, &graph.node(k).shape);
    let (v_shape, result_shape) = (&graph.node(v).shape, &graph.node(result).shape);
    let [lead @ .., rows, _] = &score_shape[..] else { return None };
    let (rows, width, value_width) = (*rows, *q_shape.last()?, *v_shape.last()?);
    let all = lead.iter().product::<usize>();
    let fits = q_shape.len() >= 2
        && k_shape.len() >= 2
        && v_shape.len() >= 2
        && result_shape.len() >= 2
        && q_shape[..q_shape.len() - 2] == *lead
        && q_shape[q_shape.len() - 2] == rows
        && k_shape[k_shape.len() - 2..] == [width, columns]
        && v_shape[v_shape.len() - 2] == columns
        && result_shape[result_shape.len() - 2] == rows
        && lead.iter().chain([&rows, &columns, &width, &value_width]).all(|&d| d > 0)
        && result_shape.iter().product::<usize>() == all * rows * value_width
        && factor > 0.0;
    if !fits {
        return None;
    }
    let greatest = [q, k, v].into_iter().map(|id| moves::greatest(graph, id)).max()?;
    let greatest = greatest.max(all * rows * value_width).max(rows * columns);
    let most = most_elements(graph);
    if greatest > most {
        let why = format!("It goes through {greatest} elements, and the weights of this model explain {most}.");
        let report = Diagnostic::new(Code::LargeInput, "attention over inputs that are too large").at(place(graph, id));
        return Some(Err(report.because(why).help("--dim NAME=N with a smaller sequence, or an export with one")));
    }
    let frame = match (lead, &outer[..]) {
        // One head of keys: the scores of all heads of a row stand together.
        (&[batch], &[outer_batch, own_rows, heads, _])
            if batch == outer_batch && own_rows * heads == rows && heads != rows =>
        {
            Frame { batch, heads, rows: own_rows, columns, interleaved: true }
        }
        (_, outer) if outer.len() >= 2 && outer[outer.len() - 2] != rows => return None,
        ([], _) => Frame { batch: 1, heads: 1, rows, columns, interleaved: false },
        // Batch and heads are one axis: other shapes of the scores, or what q was split from, tell them apart.
        (&[both], &[batch, heads, ..]) if outer.len() == 4 && batch * heads == both => {
            Frame { batch, heads, rows, columns, interleaved: false }
        }
        (&[both], _) => {
            let source = layout(graph, q).source;
            let batch = match graph.node(source).shape[..] {
                [batch, _, _] if batch > 0 && both % batch == 0 => batch,
                _ => 1,
            };
            Frame { batch, heads: both / batch, rows, columns, interleaved: false }
        }
        ([batch, heads @ ..], _) => {
            Frame { batch: *batch, heads: heads.iter().product(), rows, columns, interleaved: false }
        }
    };
    let group = if frame.interleaved {
        frame.heads
    } else {
        // Heads that look at the same keys and values look at one copy.
        let result_lead = &result_shape[..result_shape.len() - 2];
        let k_group = moves::group(graph, k, lead, frame)?;
        let v_group = moves::group(graph, v, result_lead, frame)?;
        // Copies that are made by broadcasting alone are there once.
        let whole = |shape: &[usize], rest: usize| shape.iter().product::<usize>() == all * rest;
        if k_group != v_group && !(whole(k_shape, width * columns) && whole(v_shape, value_width * columns)) {
            return None;
        }
        (1..=k_group).rev().find(|g| k_group % g == 0 && v_group % g == 0).expect("1 divides all")
    };
    let sinks = match sinks {
        Some(numbers) => Some(head_sinks(graph, numbers, frame)?),
        None => None,
    };
    Some(Ok(Found { frame, width, value_width, q, k, v, group, factor, softcap, sinks, steps, result }))
}

/// What a row's maximum is taken off, which changes no probability; else the value itself.
fn without_maximum(graph: &Graph, id: NodeId) -> NodeId {
    let node = graph.node(id);
    if let (Op::Sub, [scores, maximum]) = (&node.op, &graph.operands(id)[..])
        && matches!(&graph.node(*maximum).op, Op::ReduceMax { axes } if axes.len() == 1 && axes[0] + 1 == node.shape.len())
        && graph.operands(*maximum)[0] == *scores
    {
        return *scores;
    }
    id
}

/// Scores to which a column of known numbers is joined.
fn joined_sinks(graph: &Graph, id: NodeId) -> Option<(NodeId, NodeId)> {
    let Op::Concat { axis } = graph.node(id).op else { return None };
    let [scores, sinks] = graph.operands(id)[..] else { return None };
    let last = graph.node(id).shape.len() - 1;
    (axis == last && graph.node(sinks).shape[last] == 1).then_some((scores, sinks))
}

/// Where the sink of each head stands: known numbers that do not change along batch and rows.
fn head_sinks(graph: &Graph, id: NodeId, frame: Frame) -> Option<Sinks> {
    let mut at = id;
    while let Op::Expand | Op::Reshape = graph.node(at).op {
        at = graph.operands(at)[0];
    }
    let numbers = known::tensor(graph, at)?;
    let wide = match graph.node(id).op {
        Op::Expand => numbers.broadcast(IxDyn(&graph.node(id).shape))?.to_owned(),
        _ => numbers,
    };
    let Frame { batch, heads, rows, interleaved, .. } = frame;
    if interleaved || wide.len() != batch * heads * rows {
        return None;
    }
    let wide = wide.to_shape((batch, heads, rows)).ok()?;
    let of_head: Vec<f64> = (0..heads).map(|h| wide[[0, h, 0]]).collect();
    let even = wide.indexed_iter().all(|((_, h, _), &v)| v == of_head[h]);
    even.then(|| Sinks { numbers: of_head, name: known::label(graph, at) })
}

/// The computed operand and the number that it is multiplied by.
fn scale(graph: &Graph, id: NodeId) -> Option<(NodeId, f64)> {
    let (x, number, second) = known::split(graph, id)?;
    let number = known::scalar(graph, number)?;
    let fits = number != 0.0 && number.is_finite() && graph.node(x).shape == graph.node(id).shape;
    match graph.node(id).op {
        Op::Mul if fits => Some((x, number)),
        Op::Div if fits && second => Some((x, 1.0 / number)),
        _ => None,
    }
}

/// The product of the probabilities `id` and values. Between them may stand reshapes, a slice that drops what was joined to
/// the scores, and a guard that replaces NaN, which cannot arise where every row keeps a column.
fn weighted_sum(graph: &Graph, id: NodeId, columns: usize) -> Option<NodeId> {
    let mut at = id;
    loop {
        let readers = graph.readers(at);
        let guard = readers.iter().copied().find(|&r| {
            matches!(graph.node(r).op, Op::Where) && {
                let operands = graph.operands(r);
                let test = operands[0];
                matches!(graph.node(test).op, Op::IsNaN) && graph.operands(test)[0] == at && operands[2] == at
            }
        });
        let probabilities = at;
        at = match guard {
            Some(guard) if readers.len() == 2 => guard,
            _ => sole_reader(graph, at)?,
        };
        let node = graph.node(at);
        match node.op {
            Op::MatMul => return (graph.operands(at)[0] == probabilities).then_some(at),
            Op::Where if guard == Some(at) => {}
            Op::Slice { axis, from: 0, to } if axis + 1 == node.shape.len() && to == columns => {}
            Op::Reshape if node.shape.last() == graph.node(probabilities).shape.last() => {}
            _ => return None,
        }
    }
}

/// Puts the attention in the place of what was found.
fn fuse(graph: &mut Graph, softmax: NodeId, found: Found, known: scores::Known) {
    let Found { frame, width, value_width, q, k, v, group, factor, softcap, sinks, result, .. } = found;
    let Frame { batch, heads, rows, columns, interleaved } = frame;
    let kv_heads = heads / group;
    let origin = graph.node(softmax).origin.clone();
    let origin = origin.as_str();
    let q = match interleaved {
        true => {
            let q = graph.push_reshape(q, &[batch, rows, heads, width], origin);
            graph.push(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[q], origin)
        }
        false => q,
    };
    let (q, q_factor) = merged(graph, q, [batch, heads, rows, width], false);
    let k = moves::first_of_group(graph, k, [batch, kv_heads, group]);
    let v = moves::first_of_group(graph, v, [batch, kv_heads, group]);
    let (k, k_factor) = merged(graph, k, [batch, kv_heads, columns, width], true);
    let (v, v_factor) = merged(graph, v, [batch, kv_heads, columns, value_width], false);
    let q = times(graph, q, factor * q_factor * k_factor, origin);
    let v = times(graph, v, v_factor, origin);
    let mut operands = vec![q, k, v];
    let bias = known.bias.as_ref().map(|bias| {
        operands.push(scores::add_bias(graph, bias, origin));
        bias.form
    });
    if let Some(sinks) = &sinks {
        operands.push(known::add_weight(graph, &sinks.name, &ndarray::aview1(&sinks.numbers).to_owned()));
    }
    let op = Op::Attention {
        heads,
        kv_heads,
        pattern: known.pattern,
        softcap: softcap.map(|cap| cap as f32),
        bias,
        window: known.window,
        sinks: sinks.is_some(),
    };
    let attention = graph.push(op, &operands, origin);

    let end = if interleaved { None } else { joined(graph, result, [batch, heads, rows, value_width]) };
    let shape = graph.node(end.unwrap_or(result)).shape.clone();
    let split = match end {
        None if !interleaved => {
            let split = graph.push_reshape(attention, &[batch, rows, heads, value_width], origin);
            graph.push(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[split], origin)
        }
        _ => attention,
    };
    let new = graph.push_reshape(split, &shape, origin);
    graph.replace(end.unwrap_or(result), new);
}

fn times(graph: &mut Graph, x: NodeId, factor: f64, origin: &str) -> NodeId {
    if factor == 1.0 {
        return x;
    }
    // Before a rotation it meets a linear layer.
    if let Op::Rotary { .. } = graph.node(x).op
        && graph
            .readers(x)
            .iter()
            .all(|&r| matches!(graph.node(r).op, Op::Reshape | Op::Transpose { .. } | Op::Mul | Op::Div))
    {
        let (op, rotary, mut operands) = (graph.node(x).op.clone(), graph.node(x).origin.clone(), graph.operands(x));
        operands[0] = times(graph, operands[0], factor, origin);
        return graph.push(op, &operands, &rotary);
    }
    let number = Tensor::F32(ArrayD::from_elem(IxDyn(&[]), factor as f32));
    let number = graph.push(Op::Const(Arc::new(number)), &[], origin);
    graph.push(Op::Mul, &[x, number], origin)
}
