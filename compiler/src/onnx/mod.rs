//! Import of ONNX models: a file becomes a [`Graph`] with every size bound and all public arithmetic folded away.
//!
//! Owners. Token ids and float inputs are the client's, a cache of keys and values too. If it is empty, the model is the plain one, without cache and `present` outputs. `attention_mask`,
//! `token_type_ids` and `position_ids` (of encoder and decoder) are public and bound at compile time ([`Imported::bound`]): a run with other
//! values needs another program. Initializers are the server's, unless they are integers, booleans, scalars of rank 0,
//! [structure](is_structure), or named as public; what is computed from weights alone becomes a weight, what is computed
//! from public values a constant.
//!
//! Errors name the file and the node; all nodes that cannot be imported come in one report.

mod assume;
mod bind;
mod build;
mod file;
mod foreign;
mod functions;
pub mod ops;
pub mod proto;
mod public;
mod refuse;
mod tensor;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use ndarray::{ArrayD, Axis};
use rayon::prelude::*;

use crate::diagnostic::{Code, Diagnostic};
use crate::graph::kernel::View;
use crate::graph::{DType, Graph, NodeId, Op, Owner, Tensor};
use build::{Builder, Room, Value};
use file::Model;
use ops::Call;
use proto::{NodeProto, TensorProto};
use refuse::{Refused, refuse};

pub use bind::{DEFAULT_SEQUENCE, Given, Sequence};
pub use file::OPSETS;
pub use tensor::half;

/// What the user fixes about a model. The head of `bind.rs` gives the rules.
#[derive(Clone, Default, Debug)]
pub struct Bindings {
    /// Sizes by dimension name.
    pub dims: BTreeMap<String, usize>,
    /// Length of a sequence that nothing else binds.
    pub sequence: Sequence,
    /// Whether a cache of keys and values is empty unless something else binds it.
    pub without_past: bool,
    /// Shapes of calibration arrays by input name.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
    /// Values for inputs, which makes them public.
    pub values: BTreeMap<String, Given>,
    /// Initializers that are public.
    pub public: BTreeSet<String>,
}

/// A model as the passes take it.
pub struct Imported {
    /// The computation.
    pub graph: Graph,
    /// Inputs that are public, with the values that the program is compiled for.
    pub bound: BTreeMap<String, Tensor>,
    /// Sizes of the named dimensions.
    pub dims: BTreeMap<String, usize>,
    /// Whether the model has a cache of keys and values, here empty.
    pub without_past: bool,
    /// Float tensors that count as [structure](is_structure) and are therefore public.
    pub structure: Vec<String>,
    /// Pairs of weights of which one is the other's transpose: tied embeddings, stored twice.
    pub tied: Vec<(String, String)>,
    /// What is assumed of the client's token ids, a sentence each.
    pub assumed: Vec<String>,
}

impl Imported {
    /// Removes the public inputs from given ones, after a check that they have the values of [`Imported::bound`].
    pub fn take_bound(&self, inputs: &mut BTreeMap<String, Tensor>) -> Result<(), Diagnostic> {
        Diagnostic::check(self.bound.iter().filter_map(|(name, bound)| {
            let given = inputs.remove(name)?;
            (given != *bound).then(|| {
                Diagnostic::new(
                    Code::OtherValue,
                    format!("input `{name}` differs from the value that the program is compiled for"),
                )
                .because("Masks and positions are public and part of the program.")
                .help(format!("leave `{name}` out, or compile with this value"))
            })
        }))
    }
}

/// Reads a model file. See the module head.
pub fn import(path: &Path, bindings: &Bindings) -> Result<Imported, Diagnostic> {
    let model = file::load(path)?;
    let (inputs, dims) = bind::bind(&model, bindings)?;
    let mut values: HashMap<&str, Value> = HashMap::new();
    let mut bound = BTreeMap::new();
    let mut builder = Builder::new(room(&model, &inputs));
    for input in &inputs {
        let name = input.name.as_str();
        let value = match &input.value {
            Some(value) => {
                if !input.is_empty_past() {
                    bound.insert(name.to_string(), value.clone());
                }
                Value::public(value.clone())
            }
            // What has no elements holds no secret.
            None if input.shape.contains(&0) => Value::public(bind::zeros(&input.shape, input.dtype)),
            None => builder.input(name, &input.shape, input.dtype, Owner::Client),
        };
        values.insert(name, value);
    }
    let without_past = inputs.iter().any(bind::BoundInput::is_empty_past);
    let mut import = Importer {
        model: &model,
        bindings,
        builder,
        values,
        uses: HashMap::new(),
        initializers: model.graph.initializer.iter().map(|t| (t.name(), t)).collect(),
        inner: HashMap::new(),
        ends: HashSet::new(),
        assumed: BTreeSet::new(),
        faults: BTreeMap::new(),
    };
    import.check_public_names()?;
    import.nodes()?;
    let outputs = import.outputs(without_past)?;
    let assumed = import.assumed.into_iter().collect();
    let Builder { mut graph, structure, .. } = import.builder;
    graph.outputs = outputs;
    graph.sweep();
    check_integers(&graph, &model.name)?;
    let tied = tied(&graph);
    Ok(Imported { graph, bound, dims, without_past, structure, tied, assumed })
}

/// What known values may take: a few copies of each weight, and masks of some layers, of as many rows and columns as the
/// longest dimension that the file leaves open.
fn room(model: &Model, inputs: &[bind::BoundInput]) -> Room {
    let longest = inputs.iter().map(|i| i.longest).max().unwrap_or(0);
    let plane = longest.saturating_mul(longest).min(public::MAX_PLANE);
    Room {
        work: (1 << 26) + 64usize.saturating_mul(model.bytes).saturating_add(plane.saturating_mul(64)),
        made: (public::MAX_MADE + model.bytes / 2).max(plane.saturating_mul(4)),
        nodes: (1 << 14) + model.bytes / 16,
    }
}

struct Importer<'a> {
    model: &'a Model,
    bindings: &'a Bindings,
    builder: Builder,
    values: HashMap<&'a str, Value>,
    /// How often each value is still read.
    uses: HashMap<&'a str, usize>,
    /// Initializers of the model, and of branches that were entered.
    initializers: HashMap<&'a str, &'a TensorProto>,
    inner: HashMap<&'a str, &'a TensorProto>,
    /// Comparisons that look for the end of a text.
    ends: HashSet<&'a str>,
    /// See [`Imported::assumed`].
    assumed: BTreeSet<String>,
    /// Nodes that cannot be built, by operator and reason.
    faults: BTreeMap<(String, String), Vec<String>>,
}

impl<'a> Importer<'a> {
    fn check_public_names(&self) -> Result<(), Diagnostic> {
        let known = |name: &String| self.model.graph.initializer.iter().any(|t| t.name() == name);
        Diagnostic::check(self.bindings.public.iter().filter(|name| !known(name)).map(|name| {
            Diagnostic::new(Code::NoSuchTensor, format!("the model has no initializer `{name}` to make public"))
                .at(self.model.name.clone())
        }))
    }

    /// Builds all live nodes; those that cannot be are reported together, by operator and reason.
    fn nodes(&mut self) -> Result<(), Diagnostic> {
        let model = self.model;
        let live: Vec<&'a NodeProto> = model.order.iter().map(|&i| &model.graph.node[i]).collect();
        self.ends = assume::searches_for_ends(&live);
        let outputs = model.graph.output.iter().filter_map(|o| o.name.as_deref());
        for name in live.iter().flat_map(|n| file::reads(n)).chain(outputs) {
            *self.uses.entry(name).or_default() += 1;
        }
        for (&i, node) in model.order.iter().zip(live) {
            self.node(node, model.opsets[i])?;
        }
        Diagnostic::check(
            self.faults.iter().map(|((operator, why), nodes)| refuse(self.model, &Refused { operator, why, nodes })),
        )
    }

    fn node(&mut self, node: &'a NodeProto, opset: i64) -> Result<(), Diagnostic> {
        let origin = file::title(node);
        let operator = if file::is_standard(node.domain()) {
            node.op_type().to_string()
        } else {
            format!("{}.{}", node.domain(), node.op_type())
        };
        let mut operands = Vec::new();
        for name in &node.input {
            operands.push(if name.is_empty() { None } else { Some(self.value(name)?) });
        }
        let known = !operands.iter().flatten().any(|v| matches!(v, Value::Unknown));
        let results = if !known {
            // What is not known at all is told, whatever its operands.
            if operator == "If" || ops::handler(&operator).is_some() { Ok(Vec::new()) } else { Err(String::new()) }
        } else if operator == "If" {
            self.branch(node, operands, opset)?
        } else {
            for name in node.input.iter().filter(|name| !name.is_empty()) {
                self.used(name);
            }
            let call = Call { node, opset, origin: &origin, operands, dir: &self.model.dir };
            match assume::result(&mut self.builder, &call, &self.ends) {
                Some(assumed) => assumed.map(|(value, assumption)| {
                    self.assumed.extend(assumption);
                    vec![value]
                }),
                None => match ops::handler(&operator) {
                    None => Err(String::new()),
                    Some(handler) => handler(&mut self.builder, &call),
                },
            }
        };
        if !known || operator == "If" {
            file::reads(node).into_iter().for_each(|name| self.used(name));
        }
        let results = results.and_then(|results| self.check_count(node, results, known));
        let mut results = results.unwrap_or_else(|why| {
            self.faults.entry((operator, why)).or_default().push(origin);
            Vec::new()
        });
        results.resize(node.output.len().max(results.len()), Value::Unknown);
        for (name, value) in node.output.iter().zip(results) {
            if self.uses.contains_key(name.as_str()) && !name.is_empty() {
                self.values.insert(name, value);
            }
        }
        Ok(())
    }

    /// The results of the branch that a public condition takes.
    fn branch(
        &mut self,
        node: &'a NodeProto,
        operands: Vec<Option<Value>>,
        opset: i64,
    ) -> Result<Result<Vec<Value>, String>, Diagnostic> {
        let condition = match operands.first().and_then(Option::as_ref).and_then(Value::view) {
            Some(View::Bool(a)) if a.len() == 1 => a.first().copied(),
            _ => None,
        };
        // A condition that is not public is control flow.
        let Some(condition) = condition else { return Ok(Err(String::new())) };
        let name = if condition { "then_branch" } else { "else_branch" };
        let Some(graph) = node.attribute.iter().find(|a| a.name() == name).and_then(|a| a.g.as_deref()) else {
            return Ok(Err(format!("its `{name}` is missing")));
        };
        // What the branch's results depend on, in its order.
        let mut needed: BTreeSet<&str> = graph.output.iter().map(|o| o.name()).collect();
        let mut live = Vec::new();
        for inner in graph.node.iter().rev() {
            if inner.output.iter().any(|name| needed.contains(name.as_str())) {
                needed.extend(file::reads(inner));
                live.push(inner);
            }
        }
        for name in live.iter().flat_map(|n| file::reads(n)).chain(graph.output.iter().map(|o| o.name())) {
            *self.uses.entry(name).or_default() += 1;
        }
        self.inner.extend(graph.initializer.iter().map(|t| (t.name(), t)));
        for inner in live.into_iter().rev() {
            if let Some(name) = file::reads(inner).into_iter().find(|name| !self.is_defined(name)) {
                return Ok(Err(format!("its branch reads `{name}` before it is made")));
            }
            self.node(inner, opset)?;
        }
        let mut results = Vec::new();
        for output in &graph.output {
            if !self.is_defined(output.name()) {
                return Ok(Err(format!("its branch does not make `{}`", output.name())));
            }
            results.push(self.value(output.name())?);
            self.used(output.name());
        }
        Ok(Ok(results))
    }

    fn is_defined(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.initializer(name).is_some()
    }

    /// An initializer by name, of the model or of a branch that was entered.
    fn initializer(&self, name: &str) -> Option<&'a TensorProto> {
        self.inner.get(name).copied().or_else(|| self.initializers.get(name).copied())
    }

    /// Every result that somebody reads is there.
    fn check_count(&self, node: &NodeProto, results: Vec<Value>, known: bool) -> Result<Vec<Value>, String> {
        let missing = node.output.iter().skip(results.len()).find(|name| self.uses.contains_key(name.as_str()));
        match missing {
            Some(name) if known && !name.is_empty() => {
                Err(format!("its result `{name}` is read, which is not supported"))
            }
            _ => Ok(results),
        }
    }

    /// A value by name; initializers are decoded when first read.
    fn value(&mut self, name: &'a str) -> Result<Value, Diagnostic> {
        if let Some(value) = self.values.get(name) {
            return Ok(value.clone());
        }
        let proto = self.initializer(name).expect("`load` checked all names");
        let fault = |why: String| {
            Diagnostic::new(Code::BrokenTensor, format!("initializer `{name}` cannot be read"))
                .at(self.model.name.clone())
                .because(format!("{why}."))
        };
        let value = match tensor::read(proto, &self.model.dir).map_err(fault)? {
            Tensor::F32(value) if value.ndim() > 0 && !self.bindings.public.contains(name) => {
                self.builder.float(name, value)
            }
            value => Value::public(value),
        };
        self.values.insert(name, value.clone());
        Ok(value)
    }

    /// Drops a value after its last reader.
    fn used(&mut self, name: &'a str) {
        if let Some(left) = self.uses.get_mut(name) {
            *left -= 1;
            if *left == 0 && matches!(self.values.remove(name), Some(Value::Server { .. })) {
                self.builder.release();
            }
        }
    }

    /// The file's outputs; beside an empty past, what it becomes is of no use to the client.
    fn outputs(&mut self, without_past: bool) -> Result<Vec<(String, crate::graph::NodeId)>, Diagnostic> {
        let model = self.model;
        let mut outputs = Vec::new();
        for output in model.graph.output.iter().filter(|o| !(without_past && o.name().starts_with("present"))) {
            let value = self.value(output.name())?;
            outputs.push((output.name().to_string(), self.builder.node(&value)));
        }
        Ok(outputs)
    }
}

/// An input of integers is secret as a choice of rows of a table; any other use needs it public.
fn check_integers(graph: &Graph, file: &str) -> Result<(), Diagnostic> {
    fn other_reader(graph: &Graph, id: NodeId) -> Option<NodeId> {
        graph.readers(id).into_iter().find_map(|reader| match graph.node(reader).op {
            Op::Gather { .. } if graph.operands(reader)[0] != id => None,
            Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Concat { .. } | Op::Expand => {
                other_reader(graph, reader)
            }
            _ => Some(reader),
        })
    }
    Diagnostic::check(graph.inputs.iter().filter(|&&id| graph.node(id).dtype != DType::F32).filter_map(|&id| {
        let (input, reader) = (graph.node(id), graph.node(other_reader(graph, id)?));
        Some(
            Diagnostic::new(Code::SecretIntegers, format!("integer input `{}` is not token ids", input.origin))
                .at(format!("{file}, node \"{}\"", reader.origin))
                .because("Secret integers choose rows of an embedding table; this node computes with them.")
                .help(format!("--bind {}=VALUE, which makes it public and part of the program", input.origin)),
        )
    }))
}

/// Whether a float tensor is part of the architecture, which is public, and not trained: a causal matrix of zeros and ones,
/// a mask of zeros and numbers below -10000, or the frequencies of a rotary embedding (a falling geometric sequence
/// from 1). Such tensors are buffers of the exported module and look like weights in the file.
pub fn is_structure(value: &ArrayD<f32>) -> bool {
    let masks = |x: &f32| *x <= -1e4;
    if value.iter().all(|x| *x == 0.0 || masks(x)) {
        return value.iter().any(masks);
    }
    if let [.., rows, columns] = *value.shape()
        && rows == columns
        && rows > 1
    {
        let causal = |at: usize| at % columns <= at / columns % rows;
        return value.iter().enumerate().all(|(at, &x)| x == f32::from(u8::from(causal(at))));
    }
    let elements: Vec<f32> = value.iter().copied().take(MAX_FREQUENCIES + 1).collect();
    let is_vector = value.shape().iter().filter(|&&d| d > 1).count() == 1;
    is_vector
        && (2..=MAX_FREQUENCIES).contains(&elements.len())
        && elements[0] == 1.0
        && elements[1] > 0.0
        && elements[1] < 1.0
        && elements.windows(2).all(|w| (w[1] - w[0] * elements[1]).abs() <= 1e-5 * w[0])
}

/// Greatest length of a rotary embedding's frequencies: half the width of a head.
const MAX_FREQUENCIES: usize = 1 << 12;

/// Whether a matrix is the transpose of another, some rows at a time so that both are read line by line.
fn is_transpose(a: &ArrayD<f32>, b: &ArrayD<f32>) -> bool {
    const ROWS: usize = 16;
    let blocks: Vec<_> = b.axis_chunks_iter(Axis(0), ROWS).zip(a.axis_chunks_iter(Axis(1), ROWS)).collect();
    blocks.into_par_iter().all(|(b, a)| b.axis_iter(Axis(1)).zip(a.axis_iter(Axis(0))).all(|(b, a)| a == b))
}

/// See [`Imported::tied`].
fn tied(graph: &Graph) -> Vec<(String, String)> {
    let weights: Vec<(&String, &Arc<ArrayD<f32>>)> = graph
        .dag
        .node_weights()
        .filter_map(|n| match &n.op {
            Op::Weight { name, value } if value.ndim() == 2 && value.shape()[0] > 1 && value.shape()[1] > 1 => {
                Some((name, value))
            }
            _ => None,
        })
        .collect();
    let mut tied = Vec::new();
    for (i, (a_name, a)) in weights.iter().enumerate() {
        for (b_name, b) in &weights[i + 1..] {
            if a.shape() == [b.shape()[1], b.shape()[0]] && is_transpose(a, b) {
                tied.push(((*a_name).clone(), (*b_name).clone()));
            }
        }
    }
    tied
}
