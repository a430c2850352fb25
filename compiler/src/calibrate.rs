//! Calibration: the ranges that real inputs reach, node by node, measured with the float evaluator.
//!
//! What is calibrated is what no proof bounds: the residual stream, sums of squares, scores and row maxima, the inputs
//! of activations. [`Ranges`] keeps the measured figures; margins are applied where a range is used, so that a report
//! can show both.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use ir::Pattern;
use ndarray::{ArrayD, Axis, Slice};
use rayon::prelude::*;

use crate::bounds::{self, Bound};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::kernel::{self, View};
use crate::graph::ops::{HeadScores, for_scores};
use crate::graph::{self, Graph, NodeId, Op, Tensor};
use crate::lower::activation;

/// What calibration saw of one node.
#[derive(Clone, Debug, Default)]
pub struct NodeRange {
    /// Greatest absolute value of the result.
    pub abs: f64,
    /// Least and greatest value of the result.
    pub ends: Option<(f64, f64)>,
    /// `Normalize`: least and greatest sum of squares of a (centred) row of the operand.
    pub sum_squares: Option<(f64, f64)>,
    /// `Attention`: least and greatest row maximum of the scores, in nats.
    pub row_max: Option<(f64, f64)>,
    /// `Attention`: greatest absolute score.
    pub score: f64,
    /// `Attention`: greatest absolute score before scores are capped.
    pub uncapped: f64,
    /// `Attention`: greatest distance of a score from its row's maximum.
    pub span: f64,
    /// A gated activation: greatest absolute value of each channel of the operand.
    pub channels: Vec<f64>,
}

/// Everything that widths depend on.
pub struct Ranges {
    /// What calibration saw, by node.
    pub seen: HashMap<NodeId, NodeRange>,
    /// What the weights prove.
    pub bounds: HashMap<NodeId, Bound>,
    /// What table rows alone bring into the residual stream, by node.
    pub tables: HashMap<NodeId, f64>,
    /// Least and greatest sum of squares of a row, for normalisations whose rows are sums of table rows: of all that can
    /// be asked for.
    pub proven_squares: HashMap<NodeId, (f64, f64)>,
    /// What margins grow by: 1 for enough real inputs, more for few or made-up ones ([`crate::samples::Worth::margin`]).
    pub margin: f64,
    /// Inputs were so few that activations are lowered for all that the weights allow, where that is known.
    pub thin: bool,
}

impl Ranges {
    /// Least and greatest sum of squares that a `Normalize` took.
    pub fn sum_squares(&self, id: NodeId) -> (f64, f64) {
        self.seen[&id].sum_squares.expect("calibration saw rows of every normalisation")
    }

    /// Least and greatest row maximum of an `Attention`.
    pub fn row_max(&self, id: NodeId) -> (f64, f64) {
        self.seen[&id].row_max.expect("calibration saw scores of every attention")
    }

    /// Like [`Ranges::claim`], for some channels of an activation's operand.
    pub fn claim_of_channels(&self, id: NodeId, channels: Range<usize>, factor: f64) -> f64 {
        let proof =
            self.bounds.get(&id).map_or(f64::INFINITY, |b| b.channels[channels].iter().copied().fold(0.0, f64::max));
        self.claim(id, factor).min(proof)
    }

    /// Greatest absolute value to reckon with: the lesser of the proof and of `factor` (and the margin) times what was
    /// seen, or half of that beside what tables bring if that is more.
    pub fn claim(&self, id: NodeId, factor: f64) -> f64 {
        let seen = self.seen.get(&id).map_or(f64::INFINITY, |r| r.abs * factor * self.margin);
        let seen = self.tables.get(&id).map_or(seen, |tables| seen.max(tables + seen / 2.0));
        let proof = self.bounds.get(&id).map_or(f64::INFINITY, Bound::greatest);
        seen.min(proof)
    }
}

/// Runs every sample and merges what it shows. `samples` are inputs of the graph's bound shapes. `whole` has the same nodes
/// at the size that will be run, where `graph` is shorter: what is proved from tables must hold for all their rows.
pub fn run(
    graph: &Graph,
    whole: &Graph,
    samples: &[BTreeMap<String, Tensor>],
    margin: f64,
) -> Result<Ranges, Diagnostic> {
    if samples.is_empty() {
        return Err(Diagnostic::new(Code::CalibrationArrays, "there is nothing to calibrate with")
            .because("The arrays have no rows, or an input of the model has no elements.")
            .help("calibrate with arrays of at least one row; bind dimensions to sizes above zero"));
    }
    let merge = |mut all: HashMap<NodeId, NodeRange>, one: HashMap<NodeId, NodeRange>| {
        for (id, range) in one {
            all.entry(id).or_default().merge(&range);
        }
        Ok(all)
    };
    let seen = samples.par_iter().map(|sample| look_at(graph, sample)).try_reduce(HashMap::new, merge)?;
    let bounds = bounds::provable(whole);
    let (tables, proven_squares) = (bounds::tables(whole, &bounds), bounds::squares(whole));
    Ok(Ranges { seen, bounds, tables, proven_squares, margin, thin: false })
}

/// What one sample shows.
fn look_at(graph: &Graph, sample: &BTreeMap<String, Tensor>) -> Result<HashMap<NodeId, NodeRange>, Diagnostic> {
    let mut seen: HashMap<NodeId, NodeRange> = HashMap::new();
    // Attention is looked into with its queries and keys, so those are kept until it has been evaluated.
    let mut kept: HashMap<NodeId, ArrayD<f32>> = HashMap::new();
    graph::eval::evaluate(graph, sample, None, &mut |id, tensor| {
        let range = seen.entry(id).or_default();
        let ends = match tensor {
            Tensor::F32(value) => kernel::ends(value),
            other => kernel::ends(&kernel::floats(other)),
        };
        for end in ends.into_iter().flat_map(|(lo, hi)| [lo, hi]) {
            widen(&mut range.ends, f64::from(end));
        }
        range.abs = range.ends.map_or(0.0, |(lo, hi)| lo.abs().max(hi.abs()));
        let Tensor::F32(value) = tensor else { return };
        if let Op::Attention { pattern, .. } = &graph.node(id).op {
            look_at_scores(range, graph, id, &kept, pattern);
            let operands = graph.operands(id);
            kept.remove(&operands[0]);
            kept.remove(&operands[1]);
        }
        for reader in graph.readers(id) {
            match graph.node(reader).op {
                Op::Normalize { centred, .. } => look_at_rows(seen.entry(reader).or_default(), value, centred),
                Op::Unary(f) if activation::is_gated(f) && value.ndim() > 0 => {
                    look_at_channels(seen.entry(reader).or_default(), value)
                }
                Op::Attention { .. } => {
                    kept.entry(id).or_insert_with(|| value.clone());
                }
                _ => {}
            }
        }
    })?;
    Ok(seen)
}

impl NodeRange {
    /// Makes this range hold another.
    fn merge(&mut self, other: &NodeRange) {
        let both = |a: &mut Option<(f64, f64)>, b: Option<(f64, f64)>| {
            for v in b.into_iter().flat_map(|(lo, hi)| [lo, hi]) {
                widen(a, v);
            }
        };
        self.abs = self.abs.max(other.abs);
        both(&mut self.ends, other.ends);
        both(&mut self.sum_squares, other.sum_squares);
        both(&mut self.row_max, other.row_max);
        self.score = self.score.max(other.score);
        self.uncapped = self.uncapped.max(other.uncapped);
        self.span = self.span.max(other.span);
        self.channels.resize(self.channels.len().max(other.channels.len()), 0.0);
        self.channels.iter_mut().zip(&other.channels).for_each(|(a, b)| *a = a.max(*b));
    }
}

/// Makes a range hold a value.
pub fn widen(range: &mut Option<(f64, f64)>, value: f64) {
    *range = Some(range.map_or((value, value), |(lo, hi)| (lo.min(value), hi.max(value))));
}

fn look_at_rows(range: &mut NodeRange, x: &ArrayD<f32>, centred: bool) {
    let last = Axis(x.ndim() - 1);
    for row in x.lanes(last) {
        let n = row.len() as f64;
        let mean = if centred { 0.0 } else { row.iter().map(|&v| f64::from(v)).sum::<f64>() / n };
        let squares = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum();
        widen(&mut range.sum_squares, squares);
    }
}

fn look_at_channels(range: &mut NodeRange, x: &ArrayD<f32>) {
    let width = x.shape()[x.ndim() - 1];
    range.channels.resize(width, 0.0);
    for row in x.rows() {
        for (seen, &v) in range.channels.iter_mut().zip(row) {
            *seen = seen.max(f64::from(v.abs()));
        }
    }
}

fn look_at_scores(
    range: &mut NodeRange,
    graph: &Graph,
    id: NodeId,
    kept: &HashMap<NodeId, ArrayD<f32>>,
    pattern: &Pattern,
) {
    let operands = graph.operands(id);
    let views: Vec<View> = operands
        .iter()
        .enumerate()
        .map(|(slot, operand)| match (slot, &graph.node(*operand).op) {
            (0 | 1, _) => View::F32(kept[operand].view()),
            (_, Op::Weight { value, .. }) => View::F32(value.view()),
            (_, Op::Const(value)) => value.view(),
            // The values take no part in scores.
            _ => View::F32(kept[&operands[1]].view()),
        })
        .collect();
    for_scores(&graph.node(id).op, &views, |HeadScores { scores, sink, uncapped }| {
        range.uncapped = range.uncapped.max(f64::from(uncapped));
        for (row, &(from, to)) in scores.outer_iter().zip(&pattern.rows) {
            let kept = row.slice_axis(Axis(0), Slice::from(from as usize..to as usize));
            let with_sink = || kept.iter().copied().chain(sink);
            let least = f64::from(with_sink().fold(f32::INFINITY, f32::min));
            let greatest = f64::from(with_sink().fold(f32::NEG_INFINITY, f32::max));
            widen(&mut range.row_max, greatest);
            range.score = range.score.max(greatest.abs()).max(least.abs());
            range.span = range.span.max(greatest - least);
        }
    });
}
