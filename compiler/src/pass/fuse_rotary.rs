//! Recognise rotary position embedding by what it computes.
//!
//! Rewrites  any sum of products of a value's moved elements with public numbers in which element i of each head of row t
//!           becomes cos[t, i]·x[i] + sin[t, i]·x[partner of i]  into  `rotary(x, cos, sin)` between the reshapes and
//!           transposes that the file has.
//! Why       Exports differ: halves or pairs, a part of the head or all of it, scaled frequencies, a rotated copy made by
//!           slices, by a reshape to pairs, by a product with a constant matrix of signs. What the region computes of each
//!           element is a short list of terms, and the lists say whether it is a rotation.
//! Needs     `simplify`.
//! Keeps     Shapes; real values, up to the rounding of products of the file's float32 numbers.
//! Skips     A region whose terms depend on the batch or the head, or take more than two elements each.

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::{Array2, ArrayD, Axis, IxDyn, Slice};

use super::{Options, elements, known, most_elements};
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeId, Op, Tensor};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    // From the last node of a region backwards: what it reads is then no root of its own.
    let mut inside: Vec<NodeId> = Vec::new();
    for id in graph.order().into_iter().rev() {
        if inside.contains(&id) || !is_root(graph, id) {
            continue;
        }
        let Some(found) = find(graph, id) else { continue };
        inside.extend(found.region.iter().copied());
        fuse(graph, id, &found);
    }
    Ok(())
}

/// A sum, the concatenation of rotated and plain parts of heads, or heads put together from pairs, that no further such
/// operation of the region reads.
fn is_root(graph: &Graph, id: NodeId) -> bool {
    match graph.node(id).op {
        Op::Add | Op::Sub => true,
        Op::Concat { axis } => axis + 1 == graph.node(id).shape.len(),
        Op::Reshape => graph.operands(id).iter().any(|&o| matches!(graph.node(o).op, Op::Concat { .. })),
        _ => false,
    }
}

/// A rotation that ends at some node.
struct Found {
    /// What is rotated.
    source: NodeId,
    /// The first of the columns of the source that are rotated.
    from: usize,
    /// Nodes between.
    region: Vec<NodeId>,
    /// Which axis of the result is the rows; the last is the head's.
    rows: usize,
    /// By row and element of a head.
    cos: Array2<f32>,
    sin: Array2<f32>,
    partner: Vec<usize>,
}

/// An element as a sum of at most [`MAX_TERMS`] elements of a source times numbers.
#[derive(Clone, Copy, Default, PartialEq)]
struct Terms {
    count: u8,
    at: [u32; MAX_TERMS],
    by: [f32; MAX_TERMS],
}

const MAX_TERMS: usize = 2;

impl Terms {
    fn one(at: u32) -> Terms {
        Terms { count: 1, at: [at, 0], by: [1.0, 0.0] }
    }

    fn times(mut self, factor: f32) -> Terms {
        self.by.iter_mut().for_each(|b| *b *= factor);
        if factor == 0.0 { Terms::default() } else { self }
    }

    fn plus(mut self, other: Terms) -> Option<Terms> {
        for i in 0..usize::from(other.count) {
            match (0..usize::from(self.count)).find(|&j| self.at[j] == other.at[i]) {
                Some(j) => self.by[j] += other.by[i],
                None if usize::from(self.count) < MAX_TERMS => {
                    self.at[usize::from(self.count)] = other.at[i];
                    self.by[usize::from(self.count)] = other.by[i];
                    self.count += 1;
                }
                None => return None,
            }
        }
        Some(self)
    }

    /// Factor of an element.
    fn of(&self, at: u32) -> f32 {
        (0..usize::from(self.count)).find(|&j| self.at[j] == at).map_or(0.0, |j| self.by[j])
    }
}

/// Decides whether a rotation ends at a node. Reads, never writes.
fn find(graph: &Graph, id: NodeId) -> Option<Found> {
    let shape = graph.node(id).shape.clone();
    if shape.len() < 3 || shape.contains(&0) {
        return None;
    }
    // What weights multiply before is no part of a rotation, unless its frequencies are kept as weights.
    [false, true].into_iter().find_map(|weights| find_from(graph, id, &shape, source(graph, id, weights)?))
}

/// See [`find`]; `source` and the region between.
fn find_from(graph: &Graph, id: NodeId, shape: &[usize], (source, region): (NodeId, Vec<NodeId>)) -> Option<Found> {
    if !region.iter().any(|&r| matches!(graph.node(r).op, Op::Mul)) {
        return None;
    }
    // All values of the region are held at once, and terms take more than numbers.
    let size = |id: &NodeId| elements(&graph.node(*id).shape);
    if region.iter().chain([&source]).map(size).sum::<usize>() > most_elements(graph) / 2 {
        return None;
    }
    let mut values = HashMap::from([(source, from_here(&graph.node(source).shape))]);
    let terms = terms(graph, id, &mut values)?;
    let (terms, from) = of_columns(&graph.node(source).shape, shape, terms)?;
    let (rows, cos, sin, partner) = analyse(shape, &terms)?;
    // The numbers become public. Frequencies belong to the architecture; that these are some, their lengths say.
    let of_weights = |r: &NodeId| graph.operands(*r).iter().any(|&o| matches!(graph.node(o).op, Op::Weight { .. }));
    let turns = || {
        let rotated = |(i, _): &(usize, f32)| partner[i % partner.len()] != i % partner.len();
        let lengths = cos.iter().zip(&sin).map(|(c, s)| c.hypot(*s)).enumerate().filter(rotated).map(|(_, l)| l);
        let (least, greatest) = lengths.fold((f32::INFINITY, 0f32), |(lo, hi), l| (lo.min(l), hi.max(l)));
        greatest - least <= 1e-3 * greatest
    };
    (!region.iter().any(of_weights) || turns()).then_some(Found { source, from, region, rows, cos, sin, partner })
}

/// Terms in the elements of the columns of the source that they read, and the first of those columns: heads of queries,
/// keys and values may stand side by side.
fn of_columns(source: &[usize], shape: &[usize], mut terms: ArrayD<Terms>) -> Option<(ArrayD<Terms>, usize)> {
    let (all, d) = (*source.last()?, *shape.last()?);
    if source.iter().product::<usize>() == shape.iter().product::<usize>() {
        return Some((terms, 0));
    }
    if source[..source.len() - 1] != shape[..shape.len() - 1] {
        return None;
    }
    let columns = terms.iter().take(d).flat_map(|t| t.at.into_iter().take(usize::from(t.count)));
    let from = columns.map(|at| at as usize % all).min()?;
    for terms in &mut terms {
        for at in terms.at.iter_mut().take(usize::from(terms.count)) {
            let column = (*at as usize % all).checked_sub(from).filter(|&column| column < d)?;
            *at = (*at as usize / all * d + column) as u32;
        }
    }
    Some((terms, from))
}

/// The one computed value that everything in the region of moves, sums and products with constants comes from.
/// Products with weights are taken in where `weights` says so.
fn source(graph: &Graph, id: NodeId, weights: bool) -> Option<(NodeId, Vec<NodeId>)> {
    let public = |c: NodeId| weights || !matches!(graph.node(c).op, Op::Weight { .. });
    let mut region: Vec<NodeId> = Vec::new();
    let mut frontier = vec![id];
    let mut sources: Vec<NodeId> = Vec::new();
    while let Some(at) = frontier.pop() {
        if region.contains(&at) || sources.contains(&at) {
            continue;
        }
        let binary = match graph.node(at).op {
            Op::Mul | Op::Div => known::split(graph, at).is_some_and(|k| public(k.1)),
            Op::Add | Op::Sub => !graph.operands(at).iter().any(|&o| known::is_known(graph, o)),
            Op::Neg | Op::Slice { .. } | Op::Concat { .. } | Op::Reshape | Op::Transpose { .. } => true,
            _ => false,
        };
        if !binary || region.len() > 40 {
            sources.push(at);
            continue;
        }
        region.push(at);
        frontier.extend(graph.operands(at).into_iter().filter(|&o| !known::is_known(graph, o)));
    }
    // Moves before the first product belong to the value, not to its rotation.
    let [mut source] = sources[..] else { return None };
    loop {
        let readers: Vec<NodeId> = region.iter().copied().filter(|&r| graph.operands(r).contains(&source)).collect();
        match readers[..] {
            [only]
                if matches!(graph.node(only).op, Op::Reshape | Op::Transpose { .. } | Op::Slice { .. })
                    && only != id =>
            {
                region.retain(|&r| r != only);
                source = only;
            }
            _ => return Some((source, region)),
        }
    }
}

fn from_here(shape: &[usize]) -> ArrayD<Terms> {
    let count = shape.iter().product::<usize>() as u32;
    ArrayD::from_shape_vec(IxDyn(shape), (0..count).map(Terms::one).collect()).expect("as many as the shape has")
}

/// What each element of a node is, in elements of the source.
fn terms(graph: &Graph, id: NodeId, values: &mut HashMap<NodeId, ArrayD<Terms>>) -> Option<ArrayD<Terms>> {
    if let Some(value) = values.get(&id) {
        return Some(value.clone());
    }
    let node = graph.node(id);
    let operands = graph.operands(id);
    let value = match &node.op {
        Op::Mul | Op::Div => {
            let (x, numbers, second) = known::split(graph, id)?;
            let mut x = terms(graph, x, values)?;
            let numbers = known::tensor(graph, numbers)?;
            let numbers = numbers.broadcast(IxDyn(&node.shape))?;
            if x.shape() != node.shape || matches!(node.op, Op::Div) && !second {
                return None;
            }
            let divide = matches!(node.op, Op::Div);
            x.zip_mut_with(&numbers, |x, &n| *x = x.times(if divide { (1.0 / n) as f32 } else { n as f32 }));
            x
        }
        Op::Neg => terms(graph, operands[0], values)?.mapv(|x| x.times(-1.0)),
        Op::Add | Op::Sub => {
            let (mut x, y) = (terms(graph, operands[0], values)?, terms(graph, operands[1], values)?);
            if x.shape() != y.shape() {
                return None;
            }
            let sign = if matches!(node.op, Op::Sub) { -1.0 } else { 1.0 };
            for (x, y) in x.iter_mut().zip(&y) {
                *x = x.plus(y.times(sign))?;
            }
            x
        }
        Op::Slice { axis, from, to } => {
            terms(graph, operands[0], values)?.slice_axis(Axis(*axis), Slice::from(*from..*to)).to_owned()
        }
        Op::Concat { axis } => {
            let parts: Option<Vec<ArrayD<Terms>>> = operands.iter().map(|&o| terms(graph, o, values)).collect();
            let parts = parts?;
            let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
            ndarray::concatenate(Axis(*axis), &views).ok()?
        }
        Op::Reshape => {
            let x = terms(graph, operands[0], values)?.as_standard_layout().into_owned();
            x.into_shape_with_order(IxDyn(&node.shape)).ok()?
        }
        Op::Transpose { perm } => {
            terms(graph, operands[0], values)?.permuted_axes(IxDyn(perm)).as_standard_layout().into_owned()
        }
        _ => return None,
    };
    let value = value.as_standard_layout().into_owned();
    values.insert(id, value.clone());
    Some(value)
}

/// The axis of rows, cos, sin and partner.
type Rotation = (usize, Array2<f32>, Array2<f32>, Vec<usize>);

/// Reads a rotation off the terms of a value, whose source has its elements in the same order.
fn analyse(shape: &[usize], terms: &ArrayD<Terms>) -> Option<Rotation> {
    let last = shape.len() - 1;
    let d = shape[last];
    let flat = terms.as_slice()?;
    // The partner of each element of a head, by the first terms that say so.
    let mut partner: Vec<Option<usize>> = vec![None; d];
    for (at, terms) in flat.iter().enumerate() {
        let (base, i) = (at / d * d, at % d);
        for j in 0..usize::from(terms.count) {
            let p = (terms.at[j] as usize).checked_sub(base).filter(|&p| p < d)?;
            if p != i && terms.by[j] != 0.0 && *partner[i].get_or_insert(p) != p {
                return None;
            }
        }
    }
    if partner.iter().all(Option::is_none) {
        return None;
    }
    let partner: Vec<usize> = fill(&partner);
    // The rows are the one axis along which the numbers change.
    let number = |at: usize| {
        let other = at / d * d + partner[at % d];
        (flat[at].of(at as u32), if other == at { 0.0 } else { flat[at].of(other as u32) })
    };
    let pitch = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let varies = |axis: usize| {
        (0..flat.len()).any(|at| {
            let along = at / pitch(axis) % shape[axis];
            along > 0 && number(at) != number(at - along * pitch(axis))
        })
    };
    let varying: Vec<usize> = (0..last).filter(|&axis| shape[axis] > 1 && varies(axis)).collect();
    let rows = match varying[..] {
        [rows] => rows,
        // One row: what stands before the head, or before the heads.
        [] => (0..last).rev().find(|&axis| shape[axis] == 1)?,
        _ => return None,
    };
    let table = |pick: fn((f32, f32)) -> f32| {
        Array2::from_shape_fn((shape[rows], d), |(t, i)| pick(number(t * pitch(rows) + i)))
    };
    Some((rows, table(|n| n.0), table(|n| n.1), partner))
}

/// Elements that pass unrotated are their own partner, with a factor of zero.
fn fill(partner: &[Option<usize>]) -> Vec<usize> {
    partner.iter().enumerate().map(|(i, &p)| p.unwrap_or(i)).collect()
}

/// Puts the rotation between the moves of the file.
fn fuse(graph: &mut Graph, id: NodeId, found: &Found) {
    let Found { source, from, rows, cos, sin, partner, .. } = found;
    let shape = graph.node(id).shape.clone();
    let origin = graph.node(id).origin.clone();
    let held = graph.node(*source).shape.clone();
    let source = if held.iter().product::<usize>() == shape.iter().product::<usize>() {
        *source
    } else {
        let (axis, to) = (held.len() - 1, from + shape[shape.len() - 1]);
        graph.push(Op::Slice { axis, from: *from, to }, &[*source], &origin)
    };
    let (last, d, count) = (shape.len() - 1, shape[shape.len() - 1], shape[*rows]);
    // [others before, rows, others after, d] -> [batch, rows, heads·d]: the axes before the rows that are not the batch
    // move behind them.
    let batch = if *rows == 0 { None } else { Some(0) };
    let heads: Vec<usize> = (0..last).filter(|&axis| Some(axis) != batch && axis != *rows).collect();
    let head_count: usize = heads.iter().map(|&axis| shape[axis]).product();
    let perm: Vec<usize> = batch.into_iter().chain([*rows]).chain(heads.iter().copied()).chain([last]).collect();
    let x = graph.push_reshape(source, &shape, &origin);
    let x = graph.push(Op::Transpose { perm: perm.clone() }, &[x], &origin);
    let moved: Vec<usize> = perm.iter().map(|&axis| shape[axis]).collect();
    let x = graph.push_reshape(x, &[batch.map_or(1, |axis| shape[axis]), count, head_count * d], &origin);
    let table = |graph: &mut Graph, table: &Array2<f32>| {
        graph.push(Op::Const(Arc::new(Tensor::F32(table.clone().into_dyn()))), &[], &origin)
    };
    let (cos, sin) = (table(graph, cos), table(graph, sin));
    let op = Op::Rotary { heads: head_count, partner: Arc::new(partner.clone()), at_position: false };
    let y = graph.push(op, &[x, cos, sin], &origin);
    let y = graph.push_reshape(y, &moved, &origin);
    let back: Vec<usize> =
        (0..shape.len()).map(|axis| perm.iter().position(|&p| p == axis).expect("a permutation")).collect();
    let y = graph.push(Op::Transpose { perm: back }, &[y], &origin);
    graph.replace(id, y);
}
