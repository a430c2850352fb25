//! Recognise multi-head attention with a public mask.
//!
//! Rewrites  `merge(softmax(split(q)·split(k)ᵀ · c + mask)·split(v))`  into  `attention(c · q, k, v)`, where `split` and
//!           `merge` are any reshapes, transposes and slices that take head i from the i-th part of the columns, and put
//!           it back; c is the product of all factors on q, k and the scores; the mask is added, or chosen by `where`.
//! Why       The protocols compute kept scores only; `fold_affine` moves c into the weights before q.
//! Needs     `simplify`.
//! Keeps     Shapes; real values, provided that a dropped score would not have outweighed its mask.
//! Errors    A mask that keeps no column of a row, keeps other than one range, differs between heads or batch elements,
//!           or holds other numbers than 0 and hugely negative ones.
//! Skips     A softmax that no attention surrounds.
//!
//! What a chain of reshapes does is found by applying it to the numbers of its elements. Where a chain splits heads
//! otherwise (a cache concatenated per head, rotary embedding), explicit transposes remain before the attention.

use ir::Pattern;
use ndarray::{Array2, ArrayD, Axis, IxDyn, Slice};

use super::{Options, known, place, rewrite, sole_reader};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::{Graph, NodeId, Op, Tensor};

/// Numbers below this one drop a score: masks in use are -1e4, -65504, -3.4e38 and -∞.
const DROPS: f64 = -9.9e3;

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    rewrite(graph, |graph, id| {
        let Some(found) = find(graph, id) else { return Ok(false) };
        let pattern = pattern(graph, id, &found)?;
        fuse(graph, id, found, pattern);
        Ok(true)
    })
}

/// An attention around a softmax.
struct Found {
    /// Batch and heads; rows, columns, and the widths of a head of q and v.
    batch: usize,
    heads: usize,
    rows: usize,
    columns: usize,
    width: usize,
    value_width: usize,
    /// q, k and v per head; k with its last axes exchanged.
    q: NodeId,
    k: NodeId,
    v: NodeId,
    /// Product of the factors on the scores.
    factor: f64,
    masks: Vec<Mask>,
    /// The product of probabilities and values.
    result: NodeId,
}

/// A step that drops scores.
enum Mask {
    /// Added; `sign` is -1 where subtracted.
    Added { numbers: NodeId, sign: f64 },
    /// Scores where the condition is `keep`, else `other`.
    Chosen { condition: NodeId, keep: bool, other: NodeId },
}

/// Decides whether an attention surrounds the softmax `id`. Reads, never writes.
fn find(graph: &Graph, id: NodeId) -> Option<Found> {
    let node = graph.node(id);
    let rank = node.shape.len();
    if !matches!(node.op, Op::Softmax { axis } if axis + 1 == rank) || rank < 2 {
        return None;
    }
    let (rows, columns) = (node.shape[rank - 2], node.shape[rank - 1]);

    let mut at = graph.operands(id)[0];
    let mut factor = 1.0;
    let mut masks = Vec::new();
    let (q, k) = loop {
        let operands = graph.operands(at);
        let known = known::split(graph, at);
        // Beyond a reshape, leading axes differ, but a score keeps its row and column.
        if !graph.node(at).shape.ends_with(&[rows, columns]) {
            return None;
        }
        match graph.node(at).op {
            Op::MatMul => break (operands[0], operands[1]),
            Op::Reshape => at = operands[0],
            Op::Add | Op::Sub => {
                let (scores, numbers, second) = known.filter(|k| k.2 || matches!(graph.node(at).op, Op::Add))?;
                let sign = if second && matches!(graph.node(at).op, Op::Sub) { -1.0 } else { 1.0 };
                masks.push(Mask::Added { numbers, sign });
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
                masks.push(Mask::Chosen { condition, keep, other });
                at = scores;
            }
            _ => return None,
        }
    };
    let result = weighted_sum(graph, id)?;
    let v = graph.operands(result)[1];
    let (score_shape, q_shape, v_shape) = (&graph.node(at).shape, &graph.node(q).shape, &graph.node(v).shape);
    let lead = &score_shape[..score_shape.len() - 2];
    let (width, value_width) = (*q_shape.last()?, *v_shape.last()?);
    let groups = lead.iter().product::<usize>();
    let fits = *q_shape == [lead, &[rows, width]].concat()
        && graph.node(k).shape == [lead, &[width, columns]].concat()
        && lead.iter().chain([&rows, &columns, &width, &value_width]).all(|&d| d > 0)
        && v_shape.len() >= 2
        && v_shape[v_shape.len() - 2] == columns
        && v_shape[..v_shape.len() - 2].iter().product::<usize>() == groups
        && graph.node(result).shape.iter().product::<usize>() == groups * rows * value_width;
    let (batch, heads) = match *lead {
        _ if !fits || factor <= 0.0 => return None,
        [] => (1, 1),
        [both] => {
            // Batch and heads are one axis: what q was split from tells them apart.
            let source = layout(graph, q).source;
            let batch = match graph.node(source).shape[..] {
                [batch, ..] if batch > 0 && both % batch == 0 && graph.node(source).shape.len() == 3 => batch,
                _ => 1,
            };
            (batch, both / batch)
        }
        [batch, heads] => (batch, heads),
        _ => return None,
    };
    Some(Found { batch, heads, rows, columns, width, value_width, q, k, v, factor, masks, result })
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

/// The product of the probabilities `id` and values. Between them may stand a reshape, and a guard that replaces NaN,
/// which cannot arise where every row keeps a column.
fn weighted_sum(graph: &Graph, id: NodeId) -> Option<NodeId> {
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
        match graph.node(at).op {
            Op::MatMul => return (graph.operands(at)[0] == probabilities).then_some(at),
            Op::Where if guard == Some(at) => {}
            Op::Reshape if graph.node(at).shape.ends_with(&graph.node(id).shape[graph.node(id).shape.len() - 2..]) => {}
            _ => return None,
        }
    }
}

/// Which columns each row keeps under all masks.
fn pattern(graph: &Graph, id: NodeId, found: &Found) -> Result<Pattern, Diagnostic> {
    let (rows, columns) = (found.rows, found.columns);
    let mut kept = Array2::from_elem((rows, columns), true);
    let refuse = |title: &str, why: String| Diagnostic::new(Code::Mask, title).at(place(graph, id)).because(why);
    let per_score = |values: &ArrayD<f64>| -> Result<Array2<f64>, Diagnostic> {
        let shape = values.shape();
        let lead = &shape[..shape.len().saturating_sub(2)];
        let full = values.broadcast(IxDyn(&[lead, &[rows, columns]].concat())).ok_or_else(|| {
            refuse("attention mask of a wrong shape", format!("{shape:?} is no mask of {rows}x{columns} scores."))
        })?;
        let planes = full.to_shape((lead.iter().product::<usize>(), rows, columns)).expect("leading axes merge");
        let first = planes.index_axis(Axis(0), 0).to_owned();
        match planes.outer_iter().all(|plane| plane == first) {
            true => Ok(first),
            false => Err(refuse(
                "attention mask differs between heads or batch elements",
                "One program has one public pattern of kept scores per attention.".into(),
            )
            .help("give every batch element the same padding")),
        }
    };
    for mask in &found.masks {
        match *mask {
            Mask::Added { numbers, sign } => {
                let numbers = known::tensor(graph, numbers).ok_or_else(|| {
                    refuse("attention mask is not made of numbers", "Booleans are added to the scores.".into())
                })?;
                for (keep, value) in kept.iter_mut().zip(per_score(&numbers)?) {
                    let value = sign * value;
                    if value.is_nan() || DROPS < value && value != 0.0 {
                        return Err(refuse(
                            "attention mask holds a number that neither keeps nor drops a score",
                            format!("{value} is added to a score; only 0, or less than {DROPS}, is understood."),
                        ));
                    }
                    *keep &= value == 0.0;
                }
            }
            Mask::Chosen { condition, keep: wanted, other } => {
                let chosen = match &graph.node(condition).op {
                    Op::Const(value) => match &**value {
                        Tensor::Bool(a) => per_score(&a.mapv(|c| f64::from(u8::from(c == wanted))))?,
                        _ => unreachable!("the verifier has seen a condition"),
                    },
                    _ => {
                        return Err(refuse("attention mask is not public", "Its condition is computed.".into())
                            .help("bind the mask's input to a constant at compile time"));
                    }
                };
                let other = known::tensor(graph, other).map(|a| per_score(&a)).transpose()?;
                let drops = |i: usize| other.as_ref().is_some_and(|a| a.as_slice().is_some_and(|a| a[i] <= DROPS));
                for (i, (keep, chosen)) in kept.iter_mut().zip(chosen).enumerate() {
                    if chosen == 0.0 && !drops(i) {
                        return Err(refuse(
                            "attention mask holds a number that neither keeps nor drops a score",
                            format!("A masked score is replaced by other than a number less than {DROPS}."),
                        ));
                    }
                    *keep &= chosen == 1.0;
                }
            }
        }
    }
    let mut ranges = Vec::with_capacity(rows);
    for (i, row) in kept.outer_iter().enumerate() {
        let count = row.iter().filter(|&&k| k).count();
        let from = row.iter().position(|&k| k).ok_or_else(|| {
            refuse("attention mask keeps no score of a row", format!("Row {i} drops all {columns} columns."))
                .help("pad prompts on the right")
        })?;
        if !row.iter().skip(from).take(count).all(|&k| k) {
            return Err(refuse(
                "attention mask keeps scattered scores",
                format!("Row {i} keeps {count} columns that are not one range."),
            ));
        }
        ranges.push((from as u32, (from + count) as u32));
    }
    Ok(Pattern { columns: columns as u32, rows: ranges })
}

/// Puts the attention in the place of what was found.
fn fuse(graph: &mut Graph, softmax: NodeId, found: Found, pattern: Pattern) {
    let Found { batch, heads, rows, columns, width, value_width, q, k, v, factor, result, .. } = found;
    let origin = graph.node(softmax).origin.clone();
    let (q, q_factor) = merged(graph, q, [batch, heads, rows, width], false);
    let origin = origin.as_str();
    // Heads that look at the same keys and values look at one copy.
    let (k_group, v_group) = (group(graph, k, batch, heads), group(graph, v, batch, heads));
    let group = (1..=k_group).rev().find(|g| k_group % g == 0 && v_group % g == 0).expect("1 divides all");
    let kv_heads = heads / group;
    let k = first_of_group(graph, k, [batch, kv_heads, group]);
    let v = first_of_group(graph, v, [batch, kv_heads, group]);
    let (k, k_factor) = merged(graph, k, [batch, kv_heads, columns, width], true);
    let (v, v_factor) = merged(graph, v, [batch, kv_heads, columns, value_width], false);
    let q = times(graph, q, factor * q_factor * k_factor, origin);
    let v = times(graph, v, v_factor, origin);
    let op = Op::Attention { heads, kv_heads, pattern, softcap: None, biased: false, sinks: false };
    let attention = graph.push(op, &[q, k, v], origin);

    let sizes = [batch, heads, rows, value_width];
    match joined(graph, result, sizes) {
        Some(end) => {
            let shape = graph.node(end).shape.clone();
            let new = graph.push_reshape(attention, &shape, origin);
            graph.replace(end, new);
        }
        None => {
            let shape = graph.node(result).shape.clone();
            let split = graph.push_reshape(attention, &[batch, rows, heads, value_width], origin);
            let split = graph.push(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[split], origin);
            let new = graph.push_reshape(split, &shape, origin);
            graph.replace(result, new);
        }
    }
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
    let number = graph.push(Op::Const(std::sync::Arc::new(number)), &[], origin);
    graph.push(Op::Mul, &[x, number], origin)
}

/// How many heads in a row are copies of one: a value [.., heads, n, width] whose heads come from fewer.
fn group(graph: &Graph, id: NodeId, batch: usize, heads: usize) -> usize {
    let layout = layout(graph, id);
    let count = layout.positions.len();
    let planes = layout.positions.into_shape_with_order((batch * heads, count / (batch * heads)));
    let planes = planes.expect("heads divide the value");
    let copies = |g: usize| (0..batch * heads).all(|h| planes.row(h) == planes.row(h / g * g));
    (1..=heads).rev().find(|&g| heads.is_multiple_of(g) && copies(g)).expect("1 divides all")
}

/// The first head of each group, as [batch, kv_heads, ..].
fn first_of_group(graph: &mut Graph, id: NodeId, [batch, kv_heads, group]: [usize; 3]) -> NodeId {
    if group == 1 {
        return id;
    }
    let (shape, origin) = (graph.node(id).shape.clone(), graph.node(id).origin.clone());
    let rest = &shape[shape.len() - 2..];
    let x = graph.push_reshape(id, &[&[batch, kv_heads, group], rest].concat(), &origin);
    let x = graph.push(Op::Slice { axis: 2, from: 0, to: 1 }, &[x], &origin);
    graph.push_reshape(x, &[&[batch, kv_heads], rest].concat(), &origin)
}

/// Where the elements of a value come from.
struct Layout {
    source: NodeId,
    /// For each element, its position in the source.
    positions: ArrayD<u32>,
    /// What they were multiplied by on the way.
    factor: f64,
}

/// Follows reshapes, transposes, slices and factors back.
fn layout(graph: &Graph, id: NodeId) -> Layout {
    let node = graph.node(id);
    let step = |graph: &Graph| Some(layout(graph, *graph.operands(id).first()?));
    match &node.op {
        Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Expand => {
            let mut inner = step(graph).expect("these have an operand");
            inner.positions = moved(&node.op, &node.shape, inner.positions);
            inner
        }
        Op::Mul | Op::Div => match scale(graph, id) {
            Some((x, number)) => {
                let inner = layout(graph, x);
                Layout { factor: inner.factor * number, ..inner }
            }
            None => from_here(graph, id),
        },
        _ => from_here(graph, id),
    }
}

fn from_here(graph: &Graph, id: NodeId) -> Layout {
    let shape = &graph.node(id).shape;
    let count = shape.iter().product::<usize>() as u32;
    let positions = ArrayD::from_shape_vec(IxDyn(shape), (0..count).collect()).expect("as many as the shape has");
    Layout { source: id, positions, factor: 1.0 }
}

/// Applies an operation that only moves elements.
fn moved(op: &Op, shape: &[usize], positions: ArrayD<u32>) -> ArrayD<u32> {
    match op {
        Op::Transpose { perm } => positions.permuted_axes(IxDyn(perm)).as_standard_layout().into_owned(),
        Op::Slice { axis, from, to } => positions.slice_axis(Axis(*axis), Slice::from(*from..*to)).to_owned(),
        Op::Expand => positions.broadcast(IxDyn(shape)).expect("the verifier has seen that it fits").to_owned(),
        _ => positions.into_shape_with_order(IxDyn(shape)).expect("the verifier has seen as many elements"),
    }
}

/// `id`, which holds [batch, heads, rows, width] elements in that order (or the last two exchanged), as
/// [batch, rows, heads·width], and the factor that remains.
fn merged(graph: &mut Graph, id: NodeId, sizes: [usize; 4], exchanged: bool) -> (NodeId, f64) {
    let [batch, heads, rows, width] = sizes;
    let mut layout = layout(graph, id);
    let shape = if exchanged { [batch, heads, width, rows] } else { sizes };
    let perm = if exchanged { [0, 3, 1, 2] } else { [0, 2, 1, 3] };
    let positions = layout.positions.into_shape_with_order(IxDyn(&shape)).expect("the sizes are the value's");
    let positions = positions.permuted_axes(IxDyn(&perm)).as_standard_layout().into_owned();
    let source = graph.node(layout.source);
    let origin = graph.node(telling(graph, id)).origin.clone();
    // Columns of a source with wider rows are a slice of it.
    let pitch = source.shape.last().copied().unwrap_or(1);
    let first = positions.first().map_or(0, |&p| p as usize);
    let is_slice = source.shape.iter().product::<usize>() == batch * rows * pitch
        && first + heads * width <= pitch
        && positions
            .iter()
            .enumerate()
            .all(|(i, &p)| p as usize == i / (heads * width) * pitch + first + i % (heads * width));
    if is_slice {
        let x = graph.push_reshape(layout.source, &[batch, rows, pitch], &origin);
        let op = Op::Slice { axis: 2, from: first, to: first + heads * width };
        let x = if heads * width == pitch { x } else { graph.push(op, &[x], &origin) };
        return (x, layout.factor);
    }
    // Otherwise factors are taken off the end of the chain only, and elements moved explicitly.
    layout.factor = 1.0;
    let mut x = id;
    while let Some((inner, number)) = scale(graph, x) {
        x = inner;
        layout.factor *= number;
    }
    let x = graph.push_reshape(x, &shape, &origin);
    let x = graph.push(Op::Transpose { perm: perm.to_vec() }, &[x], &origin);
    (graph.push_reshape(x, &[batch, rows, heads * width], &origin), layout.factor)
}

/// The node that says most about where a chain of moves begins: its slice, which some file calls a split.
fn telling(graph: &Graph, id: NodeId) -> NodeId {
    let mut at = id;
    while matches!(graph.node(at).op, Op::Reshape | Op::Transpose { .. }) || scale(graph, at).is_some() {
        at = scale(graph, at).map_or_else(|| graph.operands(at)[0], |scaled| scaled.0);
    }
    if matches!(graph.node(at).op, Op::Slice { .. }) { at } else { id }
}

/// The end of the chain of reshapes and transposes that merges the heads of `result`.
fn joined(graph: &Graph, result: NodeId, sizes: [usize; 4]) -> Option<NodeId> {
    let [batch, heads, rows, width] = sizes;
    let count = (batch * heads * rows * width) as u32;
    let merged = ArrayD::from_shape_vec(IxDyn(&[batch, rows, heads, width]), (0..count).collect()).expect("as many");
    let split = merged.permuted_axes(IxDyn(&[0, 2, 1, 3])).as_standard_layout().into_owned();
    let shape = IxDyn(&graph.node(result).shape);
    let mut positions = split.into_shape_with_order(shape).expect("the sizes are the value's");
    let mut at = result;
    loop {
        let width_fits = graph.node(at).shape.last() == Some(&(heads * width));
        if width_fits && positions.iter().copied().eq(0..count) {
            return Some(at);
        }
        at = sole_reader(graph, at)?;
        let node = graph.node(at);
        if !matches!(node.op, Op::Reshape | Op::Transpose { .. }) {
            return None;
        }
        positions = moved(&node.op, &node.shape, positions);
    }
}
