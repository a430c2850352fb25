//! Lowering: from the fused float graph to protocols.
//!
//! One file for each construct: what it costs in rounds, which scales, claims and tables it takes from the calibrated
//! ranges, and where there are several, which protocol variant ([`variant`]). Ring widths are left to
//! `pass::assign_width`; a node whose width runs out is lowered again with coarser scales of its own ([`Rungs`]).

pub mod activation;
pub mod argmax;
pub mod arithmetic;
pub mod attention;
pub mod draft;
pub mod function;
pub mod linear;
pub mod matmul;
pub mod moves;
pub mod norm;
pub mod outside;
pub mod reduce;
pub mod rotary;
pub mod select;
pub mod softmax;
pub mod unfit;
pub mod variant;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use ir::pair::Maker;
use ir::program::{Encoding, Input, Output, Public};
use ir::{Kind, MAX_WIDTH, Party, Scale, Shape, Table, Type, Value};
use ndarray::ArrayD;

use crate::calibrate::Ranges;
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::{DType, Graph, NodeId, Op};
use crate::tables::{SplineFit, TableError};
use draft::Draft;
use variant::Link;

/// Fractional bits that the lowering of a node works with. Chosen on trained models (see ARCHITECTURE.md, Ranges).
#[derive(Clone, Copy, Debug)]
pub struct Scales {
    /// Server-owned matrices.
    pub weight: Scale,
    /// Values that enter a `linear`: attention results, activations.
    pub operand: Scale,
    /// Normalised rows, which enter one too. Their elements are about one in size, where activations may be small, so two
    /// bits less serve as well.
    pub normalised: Scale,
    /// Queries and keys.
    pub query: Scale,
    /// Values of an attention and its exponentials.
    pub value: Scale,
    /// Significant bits that a normalisation keeps of its least row.
    pub norm_bits: Scale,
    /// Inputs of an activation.
    pub activation: Scale,
    /// Revealed outputs.
    pub output: Scale,
}

impl Scales {
    /// The most precise set.
    const FINEST: Scales = Scales {
        weight: 14,
        operand: 13,
        normalised: 11,
        query: 11,
        value: 12,
        norm_bits: 11,
        activation: 12,
        output: 14,
    };

    /// Less of everything but the normalised rows.
    const COARSER: Scales = Scales {
        weight: 12,
        operand: 12,
        query: 10,
        value: 11,
        norm_bits: 10,
        activation: 11,
        output: 12,
        ..Scales::FINEST
    };

    /// From the most precise set to the one that spends least width. Between the first two a `Normalize` opens its rows
    /// with no more bits than its least row needs, which costs nothing that shows.
    pub const LADDER: &[Scales] = &[
        Scales::FINEST,
        Scales::FINEST,
        Scales { weight: 13, ..Scales::FINEST },
        Scales { weight: 12, query: 10, ..Scales::FINEST },
        Scales::COARSER,
        Scales { weight: 11, operand: 11, query: 9, norm_bits: 9, ..Scales::COARSER },
    ];
}

/// How far down [`Scales::LADDER`] each node is; the top where nothing is said.
#[derive(Clone, Debug, Default)]
pub struct Rungs(pub HashMap<NodeId, usize>);

impl Rungs {
    /// A node's place.
    pub fn of(&self, id: NodeId) -> usize {
        self.0.get(&id).copied().unwrap_or(0)
    }
}

/// Which entry of a module a graph is lowered to. In the last two, keys and values are kept from step to step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A run by itself.
    Once,
    /// The tokens of a prompt, padded on the right, in slots 0, 1, ..
    Prefill,
    /// One token more.
    Decode {
        /// Slots that it looks at, its own among them.
        capacity: u32,
    },
}

/// What the client learns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reveal {
    /// The outputs of the graph.
    Outputs,
    /// The token of the greatest sum of a logit and the client's noise; see [`argmax`].
    Token,
}

/// A public number of a decode step (see [`ir::slots`]) that counts some of its slots.
fn slot_count(name: &str, capacity: u32) -> Public {
    Public { name: name.to_owned(), bound: capacity + 1 }
}

/// What a lowering sees beside its node.
pub struct Context<'a> {
    /// The fused graph.
    pub graph: &'a Graph,
    /// Calibrated and provable ranges.
    pub ranges: &'a Ranges,
    /// Which scales each node works with.
    pub rungs: &'a Rungs,
    /// Fractional bits of the residual stream.
    pub residual: Scale,
    /// Prices protocol variants.
    pub link: Link,
    /// Who will make the material.
    pub maker: Maker,
    /// Which entry is made.
    pub step: Step,
    /// What it reveals.
    pub reveal: Reveal,
    /// Tables that were worked out already.
    pub memo: Rc<Memo>,
}

/// Tables that take long to fit, by what they are for: every layer and every entry asks for the same ones.
#[derive(Default)]
pub struct Memo {
    series: RefCell<HashMap<String, Option<Table>>>,
    splines: RefCell<HashMap<String, Result<SplineFit, TableError>>>,
}

impl Memo {
    /// The series of a name, which says everything that `find` depends on.
    pub fn series(&self, name: String, find: impl FnOnce() -> Option<Table>) -> Option<Table> {
        self.series.borrow_mut().entry(name).or_insert_with(find).clone()
    }

    /// The spline of a name, which says everything that `find` depends on.
    pub fn spline(
        &self,
        name: String,
        find: impl FnOnce() -> Result<SplineFit, TableError>,
    ) -> Result<SplineFit, TableError> {
        self.splines.borrow_mut().entry(name).or_insert_with(find).clone()
    }
}

impl<'a> Context<'a> {
    /// For a run by itself that reveals the graph's outputs, on dealt material.
    pub fn new(graph: &'a Graph, ranges: &'a Ranges, rungs: &'a Rungs, link: Link) -> Context<'a> {
        let residual = norm::residual_scale(graph, ranges);
        let (maker, step, reveal, memo) = (Maker::Dealer, Step::Once, Reveal::Outputs, Rc::default());
        Context { graph, ranges, rungs, residual, link, maker, step, reveal, memo }
    }

    /// The scales that a node works with.
    pub fn scales(&self, id: NodeId) -> Scales {
        Scales::LADDER[self.rungs.of(id).min(Scales::LADDER.len() - 1)]
    }

    /// Greatest absolute value of a node's result to reckon with: see [`Ranges::claim`].
    pub fn claim(&self, id: NodeId) -> f64 {
        let node = self.graph.node(id);
        match (&node.op, node.dtype) {
            (Op::ArgMax { axis, .. }, _) => {
                let operand = self.graph.operands(id)[0];
                self.graph.node(operand).shape[*axis] as f64
            }
            (_, DType::Bool) => 1.0,
            (Op::ToF32, _) if self.graph.node(self.graph.operands(id)[0]).dtype == DType::Bool => 1.0,
            _ => match self.ranges.claim(id, CLAIM_MARGIN) {
                // Nothing but zeros was seen: anything may come.
                0.0 => 1.0,
                claim => claim,
            },
        }
    }

    /// What an operand is, if it is known at compile time.
    pub fn known(&self, id: NodeId) -> Option<Known> {
        match &self.graph.node(id).op {
            Op::Weight { name, value } => Some(Known { name: name.clone(), value: value.clone(), public: false }),
            Op::Const(value) => Some(Known {
                name: format!("{} constant {}", self.graph.node(id).origin, id.index()),
                value: Arc::new(crate::graph::kernel::floats(value)),
                public: true,
            }),
            _ => None,
        }
    }
}

/// A tensor that is known at compile time.
pub struct Known {
    /// Name of the weight.
    pub name: String,
    /// Elements.
    pub value: Arc<ArrayD<f32>>,
    /// Known to both parties, not to the server alone.
    pub public: bool,
}

/// Values may exceed what was seen by this factor, where nothing better is known.
pub const CLAIM_MARGIN: f64 = 4.0;

/// Values of the nodes that are lowered so far.
pub type Values = HashMap<NodeId, Value>;

/// Lowers a fused graph into a draft that may know weights and states of other entries.
pub fn run(context: &Context, mut draft: Draft) -> Result<Draft, Diagnostic> {
    let graph = context.graph;
    let mut values = Values::new();
    draft.maker = context.maker;
    // Inputs come first: what follows may need a share of zeros, which is made from one.
    let (inputs, others): (Vec<NodeId>, Vec<NodeId>) =
        graph.order().into_iter().partition(|&id| matches!(graph.node(id).op, Op::Input { .. }));
    for id in inputs.into_iter().chain(others) {
        draft.set_origin(id, &graph.node(id).origin);
        if let Some(value) = lower(context, &mut draft, &mut values, id)? {
            values.insert(id, value);
        }
    }
    if graph.outputs.iter().any(|(name, _)| name == ir::OUTSIDE) {
        let title = format!("an output of the model is called \"{}\"", ir::OUTSIDE);
        return Err(Diagnostic::new(Code::BrokenGraph, title)
            .because("So is the one that counts elements outside of the calibrated ranges.")
            .help("give the output another name in the ONNX file"));
    }
    for (name, id) in &graph.outputs {
        let node = graph.node(*id);
        draft.set_origin(*id, &node.origin);
        let (mut x, bound) = (arithmetic::operand(context, &mut draft, &values, *id), context.claim(*id));
        if context.reveal == Reveal::Token {
            argmax::choose_token(&mut draft, x, bound);
            continue;
        }
        let scale = context.scales(*id).output;
        if draft.scale(x) > scale {
            x = draft.down_to(x, scale);
        }
        draft.may_lift(x, bound);
        let shape = Shape(node.shape.iter().map(|&d| d as u32).collect());
        draft.output_bounds.push(bound);
        draft.reveal(x, Output { name: name.clone(), shape, to: Party::Client });
    }
    outside::reveal(context, &mut draft);
    Ok(draft)
}

/// Lowers one node; what is known at compile time gives no value, it is taken where it is read.
fn lower(context: &Context, draft: &mut Draft, values: &mut Values, id: NodeId) -> Result<Option<Value>, Diagnostic> {
    let node = context.graph.node(id);
    let operands = context.graph.operands(id);
    let value = match &node.op {
        Op::Weight { .. } | Op::Const(_) => return Ok(None),
        Op::Input { name } => input(draft, context, id, name)?,
        Op::Embed => linear::embed(context, draft, values[&operands[0]], &operands),
        Op::AddWeight => linear::add_weight(context, draft, values[&operands[0]], &operands),
        Op::AddRow => linear::add_row(context, draft, values[&operands[0]], &operands),
        Op::Linear => linear::lower(context, draft, values[&operands[0]], id, &operands),
        Op::Add => arithmetic::add(context, draft, values, id, false),
        Op::Sub => arithmetic::add(context, draft, values, id, true),
        Op::Neg => arithmetic::negate(draft, values[&operands[0]]),
        Op::Mul => arithmetic::mul(context, draft, values, id),
        Op::Normalize { epsilon, centred } => {
            let (normalised, lifted) =
                norm::lower(context, draft, values[&operands[0]], id, operands[0], f64::from(*epsilon), *centred)?;
            // Whoever reads the residual stream from here on reads the lifted value: it costs nothing more, and what
            // wrote the stream needs no more width than this opening.
            if let Some(lifted) = lifted {
                values.insert(operands[0], lifted);
            }
            normalised
        }
        Op::Unary(f) if activation::is_gated(*f) && !node.shape.is_empty() => {
            activation::lower(context, draft, values[&operands[0]], id, operands[0], *f)?
        }
        Op::Unary(f) => function::lower(context, draft, values[&operands[0]], id, operands[0], *f)?,
        Op::Div => arithmetic::divide(context, draft, values, id)?,
        Op::Pow => arithmetic::power(context, draft, values, id)?,
        Op::MatMul => matmul::lower(context, draft, values, id),
        Op::Softmax { axis } => softmax::lower(context, draft, values[&operands[0]], id, operands[0], *axis)?,
        Op::ReduceSum { axes } => reduce::sum(context, draft, values[&operands[0]], id, axes, false),
        Op::ReduceMean { axes } => reduce::sum(context, draft, values[&operands[0]], id, axes, true),
        Op::ReduceMax { axes } => reduce::greatest(context, draft, values[&operands[0]], id, operands[0], axes),
        Op::ArgMax { axis, last } => {
            reduce::arg_max(context, draft, values[&operands[0]], id, operands[0], *axis, *last)
        }
        Op::Less => select::less(context, draft, values, id, false),
        Op::LessOrEqual => select::less(context, draft, values, id, true),
        Op::Where => select::choose(context, draft, values, id),
        // Shares hold numbers.
        Op::IsNaN => {
            let shape: Vec<u32> = node.shape.iter().map(|&d| d as u32).collect();
            draft.zeros(&shape)
        }
        Op::ToF32 => values[&operands[0]],
        Op::Rotary { heads, partner, at_position } => {
            rotary::lower(context, draft, values[&operands[0]], id, *heads, partner, *at_position)
        }
        Op::Attention { .. } => attention::lower(context, draft, values, id)?,
        Op::Slice { .. } | Op::Transpose { .. } | Op::Reshape | Op::Expand | Op::Concat { .. } | Op::Pick { .. } => {
            moves::lower(context, draft, values, id)
        }
        Op::Gather { axis } => moves::gather(context, draft, values[&operands[0]], id, *axis),
        other => panic!("the fused stage has no {other:?}"),
    };
    Ok(Some(value))
}

/// The table of a spline, or what is wrong with its interval.
fn spline(context: &Context, id: NodeId, fit: Result<SplineFit, TableError>) -> Result<Table, Diagnostic> {
    fit.map(|fit| fit.table).map_err(|e| {
        let report = Diagnostic::new(Code::NoTable, "a calibrated interval has no table")
            .at(format!("node \"{}\"", context.graph.node(id).origin))
            .because(e.to_string());
        unfit::what_helps(report, context.ranges, 0.0)
    })
}

/// Fractional bits of a real input.
const INPUT_SCALE: Scale = 14;

/// Token ids become one-hot rows, real numbers fixed point.
fn input(draft: &mut Draft, context: &Context, id: NodeId, name: &str) -> Result<Value, Diagnostic> {
    let node = context.graph.node(id);
    let shape: Vec<u32> = node.shape.iter().map(|&d| d as u32).collect();
    let share = |scale, shape| Type { kind: Kind::Share, width: MAX_WIDTH, scale, shape: Shape(shape) };
    let (encoding, ty) = match node.dtype {
        DType::F32 => (Encoding::Fixed, share(INPUT_SCALE, shape.clone())),
        DType::I64 | DType::Bool => {
            let embeds = context.graph.readers(id).into_iter().find(|&r| context.graph.node(r).op == Op::Embed);
            let Some(embed) = embeds else {
                return Err(Diagnostic::new(
                    Code::SecretIntegers,
                    format!("integer input \"{name}\" is not read by an embedding"),
                )
                .help("only token ids are supported as secret integers"));
            };
            let classes = context.graph.node(context.graph.operands(embed)[1]).shape[0] as u32;
            let mut one_hot = shape.clone();
            one_hot.push(classes);
            (Encoding::OneHot { classes }, share(0, one_hot))
        }
    };
    let x = draft.input(Input { name: name.to_owned(), shape: Shape(shape), encoding, ty });
    if node.dtype == DType::F32 && context.graph.readers(id).is_empty() {
        // What nothing reads must still hold what the client has.
        draft.may_lift(x, context.claim(id));
    }
    Ok(x)
}
