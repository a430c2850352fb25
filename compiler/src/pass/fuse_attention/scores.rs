//! What is added to the scores of an attention, and which of them its masks keep.

use std::sync::Arc;

use ir::Pattern;
use ndarray::{Array2, Array4, ArrayD, ArrayView3, ArrayViewD, Axis, IxDyn, Slice};

use super::super::{known, place};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::ops::windowed;
use crate::graph::{Bias, Graph, NodeId, Op, Tensor};

/// Numbers below this one drop a score: masks in use are -1e4, -65504, -3.4e38 and -∞.
pub const DROPS: f64 = -9.9e3;

/// Sizes of the scores.
#[derive(Clone, Copy)]
pub struct Frame {
    pub batch: usize,
    pub heads: usize,
    pub rows: usize,
    pub columns: usize,
    /// The scores of all heads of a row stand together: [batch, rows, heads, columns].
    pub interleaved: bool,
}

/// A step between the product of q and k and the softmax, at a node of some shape.
pub struct Step {
    /// Dimensions of the scores there.
    pub shape: Vec<usize>,
    pub kind: Kind,
}

/// What a step does.
pub enum Kind {
    /// Numbers times `sign` are added; `factor` is what the sum is multiplied by later.
    Added { numbers: NodeId, sign: f64, factor: f64 },
    /// Scores where the condition is `keep`, else `other`.
    Chosen { condition: NodeId, keep: bool, other: NodeId },
}

/// What all steps come to.
pub struct Known {
    pub pattern: Pattern,
    /// See [`Op::Attention`].
    pub window: Option<u32>,
    pub bias: Option<KnownBias>,
}

/// Numbers that are added to the scores that the pattern keeps.
pub struct KnownBias {
    pub form: Bias,
    pub numbers: ArrayD<f32>,
    /// Name of the weight that they come from, or `None` if they are public.
    pub weight: Option<String>,
}

/// A fault of the masks and biases of a softmax.
fn refuse(graph: &Graph, id: NodeId, title: &str, why: String) -> Diagnostic {
    Diagnostic::new(Code::Mask, title).at(place(graph, id)).because(why)
}

/// Takes all steps together. What is no fault, but more than one pattern of an attention says, has no diagnostic: it is left
/// to `masked_softmax`.
pub fn read(graph: &Graph, id: NodeId, frame: Frame, steps: &[Step]) -> Result<Known, Option<Diagnostic>> {
    let mut kept = Array4::from_elem((1, 1, frame.rows, frame.columns), true);
    let mut bias: Option<Array4<f64>> = None;
    let mut weight = None;
    for step in steps {
        match step.kind {
            Kind::Added { numbers, sign, factor } => {
                let values = known::tensor(graph, numbers).ok_or_else(|| {
                    refuse(
                        graph,
                        id,
                        "attention mask is not made of numbers",
                        "Booleans are added to the scores.".into(),
                    )
                })?;
                let values = planes(graph, id, frame, &step.shape, (values * sign).view())?;
                if let Some(value) = values.iter().find(|v| v.is_nan() || **v == f64::INFINITY) {
                    let why = format!("{value} is added to a score.");
                    return Err(Some(refuse(
                        graph,
                        id,
                        "attention mask holds a number that neither keeps nor drops a score",
                        why,
                    )));
                }
                let drops = values.mapv(|v| v <= DROPS);
                kept = both(&kept, &drops, |kept, drops| kept && !drops);
                let values = values.mapv(|v| if v <= DROPS { 0.0 } else { v * factor });
                if values.iter().any(|&v| v != 0.0) {
                    if let Op::Weight { name, .. } = &graph.node(numbers).op {
                        weight.get_or_insert_with(|| name.clone());
                    }
                    bias = Some(bias.map_or(values.clone(), |bias| both(&bias, &values, |a, b| a + b)));
                }
            }
            Kind::Chosen { condition, keep: wanted, other } => {
                let Op::Const(value) = &graph.node(condition).op else {
                    let why = "Its condition is computed.".into();
                    return Err(Some(
                        refuse(graph, id, "attention mask is not public", why)
                            .help("bind the mask's input to a constant at compile time"),
                    ));
                };
                let Tensor::Bool(condition) = &**value else { unreachable!("the verifier has seen a condition") };
                let chosen = condition.mapv(|c| c == wanted);
                let chosen = planes(graph, id, frame, &step.shape, chosen.view())?;
                let dropped = match known::tensor(graph, other) {
                    Some(other) => planes(graph, id, frame, &step.shape, other.view())?.mapv(|v| v <= DROPS),
                    None => Array4::from_elem((1, 1, 1, 1), false),
                };
                if both(&chosen, &dropped, |chosen, dropped| !chosen && !dropped).iter().any(|&wrong| wrong) {
                    let why = format!("A masked score is replaced by other than a number less than {DROPS}.");
                    return Err(Some(refuse(
                        graph,
                        id,
                        "attention mask holds a number that neither keeps nor drops a score",
                        why,
                    )));
                }
                kept = both(&kept, &chosen, |kept, chosen| kept && chosen);
            }
        }
    }
    let pattern = pattern(graph, id, frame, &kept)?;
    let bias = bias.map(|bias| whole_bias(frame, &pattern, &bias, weight)).transpose()?.flatten();
    let window = pattern.rows.iter().map(|&(from, to)| to - from).max().filter(|&window| {
        let (rows, columns) = (pattern.rows.len() as u32, pattern.columns);
        window < columns && rows <= columns && pattern == windowed(rows, columns, window)
    });
    Ok(Known { pattern, window, bias })
}

/// Numbers that broadcast to scores of a shape, as [batch, heads, rows, columns]; 1 in the place of an axis along which
/// they do not change.
fn planes<T: Clone>(
    graph: &Graph,
    id: NodeId,
    frame: Frame,
    shape: &[usize],
    values: ArrayViewD<T>,
) -> Result<Array4<T>, Diagnostic> {
    let Frame { batch, heads, rows, columns, interleaved } = frame;
    let full = values.broadcast(IxDyn(shape)).ok_or_else(|| {
        let why = format!("{:?} is no mask of {rows}x{columns} scores.", values.shape());
        refuse(graph, id, "attention mask of a wrong shape", why)
    })?;
    // Most masks are the same in all heads, and some biases in all rows: those axes are looked at once.
    let rank = shape.len();
    let mut narrow = full.clone();
    for axis in (0..rank.saturating_sub(1)).filter(|&axis| full.strides()[axis] == 0 && shape[axis] > 0) {
        narrow.slice_axis_inplace(Axis(axis), Slice::from(0..1));
    }
    let (sizes, view) = match (interleaved, narrow.shape()) {
        (true, _) => ([batch, rows, heads, columns], full),
        (false, &[r, c]) => ([1, 1, r, c], narrow),
        (false, &[1, r, c]) => ([1, 1, r, c], narrow),
        (false, &[b, h, r, c]) if shape[..2] == [batch, heads] => ([b, h, r, c], narrow),
        (false, _) => ([batch, heads, rows, columns], full),
    };
    let planes = view.to_shape(sizes).expect("the frame is that of the scores").to_owned();
    Ok(if interleaved { planes.permuted_axes([0, 2, 1, 3]) } else { planes })
}

/// Element by element, with broadcasting both ways.
fn both<A: Clone, B: Clone, R>(a: &Array4<A>, b: &Array4<B>, f: impl Fn(A, B) -> R) -> Array4<R> {
    let shape: Vec<usize> = (0..4).map(|axis| a.shape()[axis].max(b.shape()[axis])).collect();
    let shape = [shape[0], shape[1], shape[2], shape[3]];
    let (a, b) = (a.broadcast(shape).expect("1 or equal"), b.broadcast(shape).expect("1 or equal"));
    ndarray::Zip::from(a).and(b).map_collect(|a, b| f(a.clone(), b.clone()))
}

/// The kept columns of each row.
fn pattern(graph: &Graph, id: NodeId, frame: Frame, kept: &Array4<bool>) -> Result<Pattern, Option<Diagnostic>> {
    let (rows, columns) = (frame.rows, frame.columns);
    let kept = kept.broadcast([kept.shape()[0], kept.shape()[1], rows, columns]).expect("1 or equal");
    for (i, row) in kept.rows().into_iter().enumerate() {
        if !row.iter().any(|&k| k) {
            let why = format!("Row {} drops all {columns} columns.", i % rows);
            return Err(Some(
                refuse(graph, id, "attention mask keeps no score of a row", why).help("pad prompts on the right"),
            ));
        }
    }
    let first = kept.index_axis(Axis(0), 0).index_axis_move(Axis(0), 0).to_owned();
    if kept.outer_iter().any(|batch| batch.outer_iter().any(|plane| plane != first)) {
        return Err(None);
    }
    let mut ranges = Vec::with_capacity(rows);
    for row in first.outer_iter() {
        let count = row.iter().filter(|&&k| k).count();
        let from = row.iter().position(|&k| k).expect("a row without was refused above");
        if !row.iter().skip(from).take(count).all(|&k| k) {
            return Err(None);
        }
        ranges.push((from as u32, (from + count) as u32));
    }
    Ok(Pattern { columns: columns as u32, rows: ranges })
}

/// The bias in its shortest form; `None` if it says nothing about kept scores.
fn whole_bias(
    frame: Frame,
    pattern: &Pattern,
    bias: &Array4<f64>,
    weight: Option<String>,
) -> Result<Option<KnownBias>, Option<Diagnostic>> {
    let shape = [bias.shape()[0], bias.shape()[1], frame.rows, frame.columns];
    let bias = bias.broadcast(shape).expect("1 or equal");
    let first = bias.index_axis(Axis(0), 0);
    if bias.outer_iter().any(|batch| batch != first) {
        return Err(None);
    }
    // A number that all scores of a row have in common has no effect. Where there are such alone, as in front of what is
    // linear in the position, they make scores large.
    let by_distance = [false, true].into_iter().find_map(|relative| distances(first, pattern, relative));
    // Slopes of a linear bias are a matter of architecture, wherever they are kept.
    let weight = weight.filter(|_| !by_distance.as_ref().is_some_and(are_slopes));
    if let Some(table) = by_distance {
        let says_nothing = table.iter().all(|&v| v == 0.0);
        let numbers = table.mapv(|v| v as f32).into_dyn();
        return Ok((!says_nothing).then_some(KnownBias { form: Bias::Distances, numbers, weight }));
    }
    let mut numbers = first.mapv(|v| v as f32);
    for mut plane in numbers.outer_iter_mut() {
        for (mut row, &(from, to)) in plane.outer_iter_mut().zip(&pattern.rows) {
            let kept = from as usize..to as usize;
            row.iter_mut().enumerate().filter(|(j, _)| !kept.contains(j)).for_each(|(_, v)| *v = 0.0);
        }
    }
    let says_nothing = numbers.iter().all(|&v| v == 0.0);
    Ok((!says_nothing).then_some(KnownBias { form: Bias::Scores, numbers: numbers.into_dyn(), weight }))
}

/// The bias [heads, rows, columns] as [heads, columns], by the distance that a kept score looks back, if that decides;
/// `relative` to the last score of its row.
fn distances(bias: ArrayView3<f64>, pattern: &Pattern, relative: bool) -> Option<Array2<f64>> {
    let (heads, rows, columns) = bias.dim();
    let before = columns.checked_sub(rows)?;
    let mut table = Array2::from_elem((heads, columns), f64::NAN);
    for (plane, mut table) in bias.outer_iter().zip(table.outer_iter_mut()) {
        for (i, &(from, to)) in pattern.rows.iter().enumerate() {
            if to as usize > before + i + 1 {
                return None;
            }
            let last = if relative { plane[[i, to as usize - 1]] } else { 0.0 };
            for j in from as usize..to as usize {
                let (value, seen) = (plane[[i, j]] - last, &mut table[before + i - j]);
                if seen.is_nan() {
                    *seen = value;
                } else if (*seen - value).abs() > 1e-5 * (1.0 + plane[[i, j]].abs()) {
                    return None;
                }
            }
        }
    }
    table.mapv_inplace(|v| if v.is_nan() { 0.0 } else { v });
    Some(table)
}

/// Whether numbers by distance are those of a linear bias: -slope·distance, the slopes being powers of two as ALiBi has
/// them.
fn are_slopes(table: &Array2<f64>) -> bool {
    let heads = table.nrows();
    let power = heads.next_power_of_two() / if heads.is_power_of_two() { 1 } else { 2 };
    let slope = |h: usize| match h < power {
        true => (-8.0 * (h + 1) as f64 / power as f64).exp2(),
        false => (-8.0 * (2 * (h - power) + 1) as f64 / (2 * power) as f64).exp2(),
    };
    let mut wanted: Vec<f64> = (0..heads).map(slope).collect();
    wanted.sort_by(f64::total_cmp);
    if table.ncols() < 2 {
        return false;
    }
    let mut found: Vec<f64> = table.column(1).iter().map(|v| -v).collect();
    found.sort_by(f64::total_cmp);
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-3 * b.abs();
    wanted.iter().zip(&found).all(|(&w, &f)| near(f, w))
        && table.outer_iter().all(|row| {
            // Beyond a window nothing is kept, so nothing is known.
            row.iter().enumerate().all(|(d, &v)| v == 0.0 || near(v, row[1] * d as f64))
        })
}

/// The numbers of a bias as a node. Layers that share one share its node.
pub fn add_bias(graph: &mut Graph, bias: &KnownBias, origin: &str) -> NodeId {
    let Some(name) = &bias.weight else {
        return graph.push(Op::Const(Arc::new(Tensor::F32(bias.numbers.clone()))), &[], origin);
    };
    let name = format!("{name}, bias of scores");
    let held = graph.dag.node_indices().find(|&id| match &graph.node(id).op {
        Op::Weight { name: other, value } => other.starts_with(&name) && **value == bias.numbers,
        _ => false,
    });
    held.unwrap_or_else(|| known::add_value(graph, &name, Arc::new(bias.numbers.clone())))
}
