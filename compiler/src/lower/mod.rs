//! Lowering: from the fused float graph to protocols.
//!
//! One file per graph op. A lowering chooses scales, claims and tables from the calibrated ranges, and a protocol
//! variant where there are several ([`variant`]); it leaves ring widths to `pass::assign_width`.

pub mod argmax;
pub mod attention;
pub mod draft;
pub mod gelu;
pub mod norm;
pub mod variant;

use std::collections::HashMap;

use ir::program::{Encoding, Input, Output, Public};
use ir::{Kind, MAX_WIDTH, Party, Scale, Shape, Table, Type, Value};

use crate::calibrate::Ranges;
use crate::diagnostic::Diagnostic;
use crate::graph::{DType, Function, Graph, NodeId, Op};
use crate::tables::{SplineFit, TableError};
use draft::Draft;
use variant::Link;

/// Fractional bits that the lowering works with. Chosen on trained models (see ARCHITECTURE.md, Widths and scales);
/// `assign_width` reports an overflow and the pipeline retries with a smaller set.
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

    /// From the most precise set to the one that spends least width.
    pub const LADDER: &[Scales] = &[
        Scales::FINEST,
        Scales { weight: 13, ..Scales::FINEST },
        Scales { weight: 12, query: 10, ..Scales::FINEST },
        Scales::COARSER,
        Scales { weight: 11, operand: 11, query: 9, norm_bits: 9, ..Scales::COARSER },
    ];
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

/// The publics of a decode step that say which slots hold tokens: `prompt` tokens in slots 0, 1, ..; then padding up to
/// `prefill`; then tokens up to `used`, the newest among them.
fn slots(capacity: u32) -> [Public; 3] {
    ["prompt", "prefill", "used"].map(|name| Public { name: name.to_owned(), bound: capacity + 1 })
}

/// What a lowering sees beside its node.
pub struct Context<'a> {
    /// The fused graph.
    pub graph: &'a Graph,
    /// Calibrated and provable ranges.
    pub ranges: &'a Ranges,
    /// Fractional bits.
    pub scales: Scales,
    /// Fractional bits of the residual stream.
    pub residual: Scale,
    /// Prices protocol variants.
    pub link: Link,
    /// Which entry is made.
    pub step: Step,
    /// What it reveals.
    pub reveal: Reveal,
}

impl<'a> Context<'a> {
    /// For a run by itself that reveals the graph's outputs.
    pub fn new(graph: &'a Graph, ranges: &'a Ranges, scales: Scales, link: Link) -> Context<'a> {
        let residual = norm::residual_scale(graph, ranges, scales);
        Context { graph, ranges, scales, residual, link, step: Step::Once, reveal: Reveal::Outputs }
    }
}

/// Lowers a fused graph into a draft that may know weights and states of other entries.
pub fn run(context: &Context, mut draft: Draft) -> Result<Draft, Diagnostic> {
    let (graph, scales) = (context.graph, context.scales);
    let mut values: HashMap<NodeId, Value> = HashMap::new();
    for id in graph.order() {
        let node = graph.node(id);
        draft.set_origin(&node.origin);
        if let Some(value) = lower(context, &mut draft, &mut values, id)? {
            values.insert(id, value);
        }
    }
    for (name, id) in &graph.outputs {
        let node = graph.node(*id);
        draft.set_origin(&node.origin);
        let (mut x, bound) = (values[id], context.ranges.claim(*id, 4.0));
        if context.reveal == Reveal::Token {
            argmax::lower(&mut draft, x, bound);
            continue;
        }
        if draft.scale(x) > scales.output {
            x = draft.down_to(x, scales.output);
        }
        let shape = Shape(node.shape.iter().map(|&d| d as u32).collect());
        draft.output_bounds.push(bound);
        draft.reveal(x, Output { name: name.clone(), shape, to: Party::Client });
    }
    Ok(draft)
}

/// Lowers one node; weights give no value, they are taken where they are read.
fn lower(
    context: &Context,
    draft: &mut Draft,
    values: &mut HashMap<NodeId, Value>,
    id: NodeId,
) -> Result<Option<Value>, Diagnostic> {
    let node = context.graph.node(id);
    let operands = context.graph.operands(id);
    let value = match &node.op {
        Op::Weight { .. } => return Ok(None),
        Op::Input { name } => input(draft, context, id, name)?,
        Op::Embed => {
            let (table_name, table) = weight(context, operands[1]);
            let table = draft.weight(table_name, table, context.residual);
            draft.linear(values[&operands[0]], table)
        }
        Op::AddWeight => {
            let x = values[&operands[0]];
            let (name, value) = weight(context, operands[1]);
            let weight = draft.weight(name, value, draft.scale(x));
            draft.add_weight(x, weight)
        }
        Op::AddRow => {
            let x = values[&operands[0]];
            let (name, value) = weight(context, operands[1]);
            let bound = value.shape()[0] as u32;
            let weight = draft.weight(name, value, draft.scale(x));
            draft.add_row(x, weight, Public { name: "position".to_owned(), bound })
        }
        Op::Linear => linear(context, draft, values[&operands[0]], &operands),
        Op::Add => {
            let (x, y) = (values[&operands[0]], values[&operands[1]]);
            let scale = draft.scale(x).min(draft.scale(y)).min(context.residual);
            let (x, y) = (draft.down_to(x, scale), draft.down_to(y, scale));
            let x = draft.at_scale(x, context.residual);
            let y = draft.at_scale(y, context.residual);
            draft.add(x, y)
        }
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
        Op::Unary(Function::Gelu(form)) => gelu::lower(context, draft, values[&operands[0]], id, operands[0], *form)?,
        Op::Attention { heads, pattern, .. } => {
            let [q, k, v] = [0, 1, 2].map(|i| values[&operands[i]]);
            attention::lower(context, draft, [q, k, v], id, operands[2], *heads, pattern)?
        }
        Op::Slice { axis, from, to } => draft.slice(values[&operands[0]], *axis as u32, *from as u32, *to as u32),
        Op::Transpose { perm } => {
            let perm: Vec<u32> = perm.iter().map(|&p| p as u32).collect();
            draft.transpose(values[&operands[0]], &perm)
        }
        Op::Reshape => {
            let shape: Vec<u32> = node.shape.iter().map(|&d| d as u32).collect();
            draft.reshape(values[&operands[0]], &shape)
        }
        Op::Concat { axis } => {
            let xs: Vec<Value> = operands.iter().map(|o| values[o]).collect();
            let scale = xs.iter().map(|&x| draft.scale(x)).min().expect("concatenation of something");
            let xs: Vec<Value> = xs.into_iter().map(|x| draft.down_to(x, scale)).collect();
            draft.concat(&xs, *axis as u32)
        }
        Op::Pick { axis } => {
            let x = values[&operands[0]];
            let bound = draft.shape(x)[*axis];
            draft.pick(x, *axis as u32, Public { name: "position".to_owned(), bound })
        }
        other => panic!("the fused stage has no {other:?}"),
    };
    Ok(Some(value))
}

/// x·w + b; the operand is brought to the scale that products work at.
fn linear(context: &Context, draft: &mut Draft, x: Value, operands: &[NodeId]) -> Value {
    let x = if draft.scale(x) > context.scales.operand { draft.down_to(x, context.scales.operand) } else { x };
    let (name, value) = weight(context, operands[1]);
    let w = draft.weight(name, value, context.scales.weight);
    let product = draft.linear(x, w);
    let Some(&bias) = operands.get(2) else { return product };
    let (name, value) = weight(context, bias);
    let b = draft.weight(name, value, draft.scale(product));
    draft.add_weight(product, b)
}

fn weight<'a>(context: &'a Context, id: NodeId) -> (&'a str, std::sync::Arc<ndarray::ArrayD<f32>>) {
    match &context.graph.node(id).op {
        Op::Weight { name, value } => (name, value.clone()),
        other => panic!("a verified fused graph has a weight here, not {other:?}"),
    }
}

/// The table of a spline, or what is wrong with its interval.
fn spline(context: &Context, id: NodeId, fit: Result<SplineFit, TableError>) -> Result<Table, Diagnostic> {
    fit.map(|fit| fit.table).map_err(|e| {
        Diagnostic::new("a calibrated interval has no table")
            .at(format!("node \"{}\"", context.graph.node(id).origin))
            .because(e.to_string())
            .help("calibrate with inputs like the ones that will be asked")
    })
}

/// Token ids become one-hot rows, real numbers fixed point.
fn input(draft: &mut Draft, context: &Context, id: NodeId, name: &str) -> Result<Value, Diagnostic> {
    let node = context.graph.node(id);
    let shape: Vec<u32> = node.shape.iter().map(|&d| d as u32).collect();
    let share = |scale, shape| Type { kind: Kind::Share, width: MAX_WIDTH, scale, shape: Shape(shape) };
    let (encoding, ty) = match node.dtype {
        DType::F32 => (Encoding::Fixed, share(context.scales.operand, shape.clone())),
        DType::I64 | DType::Bool => {
            let embeds = context.graph.readers(id).into_iter().find(|&r| context.graph.node(r).op == Op::Embed);
            let Some(embed) = embeds else {
                return Err(Diagnostic::new(format!("integer input \"{name}\" is not read by an embedding"))
                    .help("only token ids are supported as secret integers"));
            };
            let classes = context.graph.node(context.graph.operands(embed)[1]).shape[0] as u32;
            let mut one_hot = shape.clone();
            one_hot.push(classes);
            (Encoding::OneHot { classes }, share(0, one_hot))
        }
    };
    Ok(draft.input(Input { name: name.to_owned(), shape: Shape(shape), encoding, ty }))
}
