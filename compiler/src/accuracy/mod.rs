//! How far the private result is from the float one, and where the distance arises.
//!
//! The exact evaluator of `ir::eval` runs the program as the two parties would, up to the last bit of roundings; beside it
//! the float graph runs on the same input. `sscc compile` does so for inputs that calibration did not see
//! ([`held_back`]), `sscc accuracy` for inputs of the user's choice ([`compare`]).

mod files;
mod measure;
pub mod page;
pub mod text;
mod trace;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ir::Program;
use ir::eval::Session;
use ir::slots::{POSITION, Slots};
use ndarray::{ArrayD, Axis, IxDyn, Slice};

pub use files::Files;
pub use measure::{Errors, Measure, Point};
pub use trace::{NodeError, RangeUse};

use crate::calibrate::widen;
use crate::diagnostic::{Code, Diagnostic};
use crate::entries::{Entry, Plan};
use crate::exact::{self, Exact, Outcome};
use crate::graph::{self, DType, Graph, NodeId, Op, Tensor, kernel};
use crate::layers::Layers;
use crate::pass::resize::{self, Positions};
use crate::pipeline::Compiled;
use crate::samples::Arrays;
use trace::{Totals, Trace};

/// The float side of a program: what its entries were lowered from.
pub enum Float {
    /// A run by itself.
    Once(Box<Graph>),
    /// Generation token by token.
    Generation {
        /// Sizes of the entries.
        plan: Plan,
        /// At the full context.
        fused: Box<Graph>,
        /// Where it has its positions.
        positions: Positions,
        /// The graphs of the entries, in the order of the module.
        entries: Vec<Entry>,
    },
}

impl Float {
    /// Of a fused graph, for generation where there is a plan.
    pub fn new(fused: &Graph, plan: Option<&Plan>) -> Result<Float, Diagnostic> {
        let Some(plan) = plan else { return Ok(Float::Once(Box::new(fused.clone()))) };
        let positions = resize::positions(fused)?;
        let entries = plan.entries(fused, &positions);
        Ok(Float::Generation { plan: plan.clone(), fused: Box::new(fused.clone()), positions, entries })
    }
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Inputs.
    pub rows: usize,
    /// Tokens of an input that are asked for one by one.
    pub steps: usize,
    /// Take the least prefill, not the greatest that there are tokens for.
    pub least_prefill: bool,
    /// No input begins later than this.
    pub time: Duration,
}

/// What a comparison finds.
pub struct Report {
    /// Inputs that were compared.
    pub rows: usize,
    /// Inputs that were given.
    pub given: usize,
    /// By output; for generation the logits of every step.
    pub outputs: Vec<Errors>,
    /// Tokens that a generation chooses as float does, and all.
    pub tokens: Option<(u64, u64)>,
    /// Values outside their tables, as the runs themselves count them for the client.
    pub outside: Option<u64>,
    /// By node, in the order of the graph.
    pub nodes: Vec<NodeError>,
    /// By claim and table, in the order of the program.
    pub ranges: Vec<RangeUse>,
    /// Which layer a node belongs to.
    pub layers: Layers,
}

impl Report {
    /// Greatest difference of an output element from its float, relative to the spread of the output.
    pub fn relative(&self) -> f64 {
        self.outputs.iter().map(Errors::relative).fold(0.0, f64::max)
    }

    /// Claims that were broken.
    pub fn broken(&self) -> impl Iterator<Item = &RangeUse> {
        self.ranges.iter().filter(|r| r.op == "open" && r.outside > 0)
    }

    /// Tables that were left.
    pub fn left(&self) -> impl Iterator<Item = &RangeUse> {
        self.ranges.iter().filter(|r| r.op != "open" && r.outside > 0)
    }

    /// The node at which most of the error is new.
    pub fn source(&self) -> Option<&NodeError> {
        self.nodes.iter().filter(|n| n.added > 0.0).max_by(|a, b| a.added.total_cmp(&b.added))
    }
}

/// Compares inputs. For generation they are rows of token ids, of which the last few are asked for one by one.
pub fn compare(exact: &Exact, float: &Float, samples: &[Arrays], limit: Limit) -> Result<Report, Diagnostic> {
    let mut run = Comparison { exact, totals: Totals::default(), outputs: Vec::new(), tokens: None, outside: None };
    let begun = Instant::now();
    let mut rows = 0;
    for sample in samples.iter().take(limit.rows) {
        if rows > 0 && begun.elapsed() > limit.time {
            break;
        }
        match float {
            Float::Once(graph) => run.once(graph, sample)?,
            Float::Generation { plan, fused, positions, entries } => {
                run.generation(plan, (fused, positions), entries, sample, limit)?;
            }
        }
        rows += 1;
    }
    let outputs = run.outputs.into_iter().map(Measure::finish).collect();
    let layers = Layers::new(&exact.entries[0]);
    Ok(Report {
        rows,
        given: samples.len(),
        outputs,
        tokens: run.tokens,
        outside: run.outside,
        nodes: run.totals.nodes,
        ranges: run.totals.ranges,
        layers,
    })
}

/// Multiply-adds that a check of held-back inputs may take: a few seconds.
const CHECK_MACS: u64 = 4_000_000_000;

/// A single run of this many is too long for a check.
const GREATEST_CHECK_MACS: u64 = 6 * CHECK_MACS;

/// A weight of more elements is not unpacked for a check, which would take 8 bytes for each.
const GREATEST_WEIGHT: u64 = 1 << 27;

/// Steps of a generation that a check runs after the prefill.
const CHECK_STEPS: usize = 4;

/// Compares inputs that calibration did not see, as many as take a few seconds. `None` if there are none; the error of the
/// inner result says why the model is not checked.
pub fn held_back(compiled: &Compiled) -> Result<Option<Result<Report, String>>, Diagnostic> {
    if compiled.held.is_empty() {
        return Ok(None);
    }
    let largest = |entry: &Program| entry.weights.iter().filter_map(|w| w.shape.elements()).max().unwrap_or(0);
    let first = &compiled.schedules[0];
    let macs = macs(first);
    if macs > GREATEST_CHECK_MACS || largest(first) > GREATEST_WEIGHT {
        let why = format!("one run is {:.0} billion multiply-adds in the clear; use sscc accuracy", macs as f64 / 1e9);
        return Ok(Some(Err(why)));
    }
    // A step of one token reads every weight, which takes as long as a few tokens at once do.
    let steps = if compiled.plan.is_some() { CHECK_STEPS as u64 } else { 0 };
    let elements: u64 = first.weights.iter().filter_map(|w| w.shape.elements()).sum();
    let row = macs + 3 * steps * elements;
    let rows = (CHECK_MACS / row.max(1)).clamp(1, compiled.held.len() as u64) as usize;
    let float = Float::new(&compiled.fused, compiled.plan.as_ref())?;
    let limit = Limit { rows, steps: CHECK_STEPS, least_prefill: true, time: Duration::from_secs(20) };
    compare(&Exact::of(compiled), &float, &compiled.held, limit).map(|report| Some(Ok(report)))
}

/// Refuses a program whose error on held-back inputs is greater than `limit`, as a part of the spread.
pub fn check(report: &Report, limit: f64) -> Result<(), Diagnostic> {
    let Some(worst) = report.outputs.iter().max_by(|a, b| a.relative().total_cmp(&b.relative())) else { return Ok(()) };
    if worst.relative() <= limit {
        return Ok(());
    }
    let mut fault = Diagnostic::new(Code::Inaccurate, Code::Inaccurate.meaning()).because(format!(
        "Output \"{}\": greatest error {:.3} of a spread of {:.3} ({:.1} %) on {} held-back inputs; --max-error allows {:.1} %.",
        worst.name,
        worst.greatest,
        worst.spread,
        100.0 * worst.relative(),
        report.rows,
        100.0 * limit
    ));
    let (broken, left) = (report.broken().count(), report.left().count());
    if let Some(first) = report.broken().chain(report.left()).next() {
        fault = fault
            .at(format!("node \"{}\"", first.origin))
            .because(format!("Values lie outside {broken} claims and {left} tables, first at this node."))
            .help("calibrate with at least 32 inputs like the ones that will be asked");
    } else if let Some(source) = report.source() {
        fault = fault
            .at(format!("node \"{}\"", source.origin))
            .because("All values lie within their ranges; most of the error is new at this node.");
    }
    Err(fault.help("--max-error inf compiles it all the same; sscc accuracy then shows where the error arises"))
}

/// Multiply-adds of a run, but for the rows that one-hot inputs choose of a table.
fn macs(program: &Program) -> u64 {
    let chooses = |op: &ir::Op| match op {
        ir::Op::Linear { x, .. } => matches!(program.instrs[x.index()].op, ir::Op::Input { .. }),
        _ => false,
    };
    let cost = ir::cost::per_instruction(program);
    let each = program.instrs.iter().zip(&cost.per_instruction);
    each.filter(|(instr, _)| !chooses(&instr.op)).map(|(_, cost)| cost.macs).sum()
}

struct Comparison<'a> {
    exact: &'a Exact<'a>,
    totals: Totals,
    outputs: Vec<Measure>,
    tokens: Option<(u64, u64)>,
    outside: Option<u64>,
}

impl Comparison<'_> {
    /// A run by itself; the row that counts is the last that is there.
    fn once(&mut self, graph: &Graph, sample: &Arrays) -> Result<(), Diagnostic> {
        let program = &self.exact.entries[0];
        let picked = program.publics.iter().find(|public| public.name == POSITION);
        let (sample, publics, position) = match picked {
            None => (sample.clone(), exact::last(program), None),
            Some(picked) => {
                let rows = picked.bound as usize;
                let (sample, length) = padded(graph, sample);
                let length = length.unwrap_or(rows);
                (sample, publics(program, length, rows, 0), Some(length - 1))
            }
        };
        let (floats, outputs) = evaluate(graph, &sample, position)?;
        let mut trace = Trace::new(program, graph, &floats, &[]);
        let outcome = self.exact.step(&mut Session::default(), 0, &sample, &publics, &mut |v, x| trace.visit(v, x))?;
        trace.finish(graph, &mut self.totals);
        self.count(&outcome);
        let classes = classes(graph);
        for (name, float) in &outputs {
            let Some((_, private)) = outcome.outputs.iter().find(|(n, _)| n == name) else { continue };
            let last = float.shape().last().copied().unwrap_or(1);
            let private: Vec<f32> = private.iter().copied().collect();
            self.output(name, classes == Some(last)).add(&private, &float.iter().copied().collect::<Vec<_>>(), last);
        }
        Ok(())
    }

    /// A prompt and some tokens more, which are the sample's own whatever is generated, so that each step stands for
    /// itself.
    fn generation(
        &mut self,
        plan: &Plan,
        (fused, positions): (&Graph, &Positions),
        entries: &[Entry],
        sample: &Arrays,
        limit: Limit,
    ) -> Result<(), Diagnostic> {
        let name = input_name(fused);
        let ids: Vec<i64> = match sample.get(name) {
            Some(Tensor::I64(ids)) => ids.iter().copied().take(plan.context).collect(),
            _ => Vec::new(),
        };
        if ids.is_empty() {
            return Ok(());
        }
        // The greatest prefill that leaves tokens for steps; a short row is a prompt of the least one.
        let wanted = ids.len().saturating_sub(limit.steps).max(1);
        let at = match limit.least_prefill {
            true => 0,
            false => plan.prefill.iter().rposition(|&size| size <= wanted).unwrap_or(0),
        };
        let size = plan.prefill[at];
        let prompt = size.min(wanted);
        let row = |ids: &[i64]| {
            let ids = ArrayD::from_shape_vec(IxDyn(&[1, ids.len()]), ids.to_vec()).expect("one row");
            Arrays::from([(name.to_owned(), Tensor::I64(ids))])
        };

        let mut first = ids[..prompt].to_vec();
        first.resize(size, 0);
        let (entry, graph) = (&self.exact.entries[at], &entries[at].graph);
        let (floats, _) = evaluate(graph, &row(&first), Some(prompt - 1))?;
        let logits = graph.outputs[0].1;
        let mut trace = Trace::new(entry, graph, &floats, &[logits]);
        let mut session = Session::default();
        let publics = publics(entry, prompt, size, 0);
        let outcome = self.exact.step(&mut session, at, &row(&first), &publics, &mut |v, x| trace.visit(v, x))?;
        let private = trace.found.remove(&logits);
        trace.finish(graph, &mut self.totals);
        let float: Vec<f32> = floats[&logits].iter().copied().collect();
        self.step(&outcome, private, &float);

        let ids = &ids[..ids.len().min(prompt + limit.steps)];
        let later = ids.len() - prompt;
        if later == 0 || plan.decode.is_empty() {
            return Ok(());
        }
        // Floats of the later steps: every position of the row at once.
        let all = resize::first(fused, positions, ids.len());
        let all = match resize::positions(&all) {
            Ok(positions) => resize::all(&all, &positions),
            Err(_) => return Ok(()),
        };
        let (floats, _) = evaluate(&all, &row(ids), None)?;
        let last = *all.node(logits).shape.last().expect("logits have a vocabulary");
        let rows: Vec<f32> = floats[&logits].iter().copied().collect();
        for number in 1..=later.min(limit.steps) {
            let slots = size + number;
            let Some(at) = plan.decode.iter().position(|&room| room >= slots) else { break };
            let at = plan.prefill.len() + at;
            let position = prompt - 1 + number;
            let float = ArrayD::from_shape_vec(IxDyn(&[last]), rows[position * last..][..last].to_vec());
            let floats = HashMap::from([(logits, float.expect("a row of logits"))]);
            let (entry, graph) = (&self.exact.entries[at], &entries[at].graph);
            let mut trace = Trace::new(entry, graph, &floats, &[logits]);
            let publics = self::publics(entry, prompt, size, number);
            let one = row(&ids[position..=position]);
            let outcome = self.exact.step(&mut session, at, &one, &publics, &mut |v, x| trace.visit(v, x))?;
            let private = trace.found.remove(&logits);
            trace.finish_ranges(&mut self.totals);
            let float: Vec<f32> = floats[&logits].iter().copied().collect();
            self.step(&outcome, private, &float);
        }
        Ok(())
    }

    /// Adds what a run says of values outside their tables.
    fn count(&mut self, outcome: &Outcome) {
        if let Some((_, count)) = outcome.outputs.iter().find(|(name, _)| name == ir::OUTSIDE) {
            *self.outside.get_or_insert(0) += count.sum() as u64;
        }
    }

    /// One step of a generation: its token, and the logits that it was chosen from.
    fn step(&mut self, outcome: &Outcome, private: Option<Vec<f32>>, float: &[f32]) {
        self.count(outcome);
        if let Some(private) = private {
            self.output("logits", true).add(&private, float, float.len());
        }
        let token =
            outcome.outputs.iter().find(|(name, value)| name == crate::lower::argmax::TOKEN && value.len() == 1);
        if let Some((_, token)) = token {
            let token = token.iter().next().map(|&t| t as usize);
            let tokens = self.tokens.get_or_insert((0, 0));
            tokens.0 += u64::from(token == measure::greatest(float));
            tokens.1 += 1;
        }
    }

    fn output(&mut self, name: &str, classes: bool) -> &mut Measure {
        let at = self.outputs.iter().position(|m| m.name() == name).unwrap_or_else(|| {
            self.outputs.push(Measure::new(name, classes));
            self.outputs.len() - 1
        });
        &mut self.outputs[at]
    }
}

/// Values of nodes.
type Floats = HashMap<NodeId, ArrayD<f32>>;

/// Outputs by name.
type Named = Vec<(String, ArrayD<f32>)>;

/// Values of all nodes that are computed, and the outputs by name.
fn evaluate(graph: &Graph, sample: &Arrays, position: Option<usize>) -> Result<(Floats, Named), Diagnostic> {
    let mut floats = HashMap::new();
    let outputs = graph::eval::evaluate(graph, sample, position, &mut |id, tensor| {
        if let (Tensor::F32(value), false) = (tensor, matches!(graph.node(id).op, Op::Input { .. })) {
            floats.insert(id, value.clone());
        }
    })?;
    Ok((floats, outputs.into_iter().map(|(name, tensor)| (name, kernel::floats(&tensor))).collect()))
}

/// The sample with rows of token ids filled up to the length that the graph is bound to, and the length before.
fn padded(graph: &Graph, sample: &Arrays) -> (Arrays, Option<usize>) {
    let mut sample = sample.clone();
    let mut length = None;
    for &id in &graph.inputs {
        let (Op::Input { name }, [batch, wanted]) = (&graph.node(id).op, &graph.node(id).shape[..]) else { continue };
        let Some(Tensor::I64(ids)) = sample.get(name) else { continue };
        if let [rows, found] = *ids.shape()
            && (rows, found < *wanted) == (*batch, true)
        {
            let mut filled = ArrayD::<i64>::zeros(IxDyn(&[rows, *wanted]));
            filled.slice_axis_mut(Axis(1), Slice::from(..found)).assign(ids);
            sample.insert(name.clone(), Tensor::I64(filled));
            length = Some(found);
        }
    }
    (sample, length)
}

/// Rows of the table that token ids index, if the graph takes any.
fn classes(graph: &Graph) -> Option<usize> {
    let embed = |&id: &NodeId| graph.readers(id).into_iter().find(|&r| graph.node(r).op == Op::Embed);
    let ids = graph.inputs.iter().filter(|&&id| graph.node(id).dtype == DType::I64);
    let tables = ids.filter_map(embed).map(|embed| graph.node(graph.operands(embed)[1]).shape[0]);
    tables.max()
}

fn input_name(graph: &Graph) -> &str {
    match &graph.node(graph.inputs[0]).op {
        Op::Input { name } => name,
        other => panic!("a graph input is an Input, not {other:?}"),
    }
}

/// Values of an entry's public numbers at a step, as `ssvm` sets them.
fn publics(program: &Program, prompt: usize, prefill: usize, number: usize) -> Vec<u32> {
    let slots = Slots { prompt: prompt as u32, prefill: prefill as u32, used: (prefill + number) as u32 };
    let value = |name: &str| {
        slots.public(name).unwrap_or_else(|| panic!("a program for generation has no public number {name:?}"))
    };
    program.publics.iter().map(|public| value(&public.name)).collect()
}
