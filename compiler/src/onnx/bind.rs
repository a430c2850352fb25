//! Sizes for the dimensions that a model file leaves open, and values for the inputs that are public.
//!
//! A dimension is bound, in this order, by
//! 1. `--dim NAME=N`; a dimension without a name is called `INPUT.AXIS`; else the array that `--bind` gives that input;
//! 2. the shape of the calibration array of that input, except along axis 0, where an array holds samples;
//! 3. its kind. Axis 0 is the batch: another bound batch, else 1. Axis 1 of a matrix of integers is the sequence:
//!    another bound sequence, else the rows of a position table, as many as [`Sequence`] says. An attention mask is as
//!    long as the past and the sequence together. A name such as `past + sequence` is the sum of the others.
//!
//! Equal names are equal sizes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ndarray::{ArrayD, IxDyn};

use super::Bindings;
use super::file::Model;
use super::proto::{DimensionProto, GraphProto, NodeProto, ValueInfoProto};
use super::public::{self as arithmetic, MAX_MADE, MAX_PLANE};
use super::tensor;
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::kernel::from_vec;
use crate::graph::shape::check_size;
use crate::graph::{DType, Tensor};

/// Sequence length where neither the user, nor calibration, nor a shorter position table gives one.
pub const DEFAULT_SEQUENCE: usize = 128;

/// How long a sequence is that neither `--dim` nor calibration binds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sequence {
    /// As many as the model has positions, but at most [`DEFAULT_SEQUENCE`].
    #[default]
    Short,
    /// As many as the model has positions.
    Context,
    /// So many.
    Of(usize),
}

/// A value for an input, as the user says it.
#[derive(Clone, PartialEq, Debug)]
pub enum Given {
    /// The value itself.
    Tensor(Tensor),
    /// One number everywhere.
    Fill(f64),
    /// 0, 1, .. along the last axis.
    Count,
}

impl From<Tensor> for Given {
    fn from(tensor: Tensor) -> Given {
        Given::Tensor(tensor)
    }
}

impl Given {
    /// The tensor of a shape and an element type; none if it has others.
    fn tensor(&self, shape: &[usize], dtype: DType) -> Option<Tensor> {
        let integers = match self {
            Given::Tensor(given) if given.shape() != shape => return None,
            Given::Tensor(given) if given.dtype() == dtype => return Some(given.clone()),
            // A float is no integer, and a number that is neither 0 nor 1 no truth.
            Given::Tensor(Tensor::F32(_)) => return None,
            Given::Tensor(given) => arithmetic::cast(&given.view(), DType::I64),
            Given::Fill(number) if dtype == DType::F32 => {
                return Some(Tensor::F32(ArrayD::from_elem(IxDyn(shape), *number as f32)));
            }
            Given::Fill(number) if number.fract() != 0.0 || number.abs() > 2f64.powi(53) => return None,
            Given::Fill(number) => Tensor::I64(ArrayD::from_elem(IxDyn(shape), *number as i64)),
            Given::Count => {
                let length = shape.last().copied().unwrap_or(1).max(1);
                let count = shape.iter().product::<usize>();
                Tensor::I64(from_vec(shape, (0..count).map(|i| (i % length) as i64).collect()))
            }
        };
        let Tensor::I64(numbers) = &integers else { unreachable!("made of integers above") };
        let fits = dtype != DType::Bool || numbers.iter().all(|n| (0..=1).contains(n));
        fits.then(|| arithmetic::cast(&integers.view(), dtype))
    }

    /// What messages call it.
    fn describe(&self) -> String {
        match self {
            Given::Tensor(tensor) => format!("{:?} {:?}", tensor.dtype(), tensor.shape()),
            Given::Fill(number) => number.to_string(),
            Given::Count => "a count".to_owned(),
        }
    }
}

/// A graph input, sizes bound.
pub struct BoundInput {
    /// ONNX name.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
    /// The longest dimension that the file leaves open, which has the size that a user or its kind gives.
    pub longest: usize,
    /// Its value, if it is public.
    pub value: Option<Tensor>,
}

/// What an open dimension counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Batch,
    Sequence,
    Past,
    /// Past and sequence.
    Whole,
    Other,
}

/// A dimension of an input that the file gives no number for.
struct Open<'a> {
    input: usize,
    axis: usize,
    name: String,
    /// The names that the name is a sum of, if it is one.
    terms: Option<Vec<&'a str>>,
    kind: Kind,
}

/// Binds all inputs that are not initializers, in file order, and returns the sizes by name.
pub fn bind(model: &Model, bindings: &Bindings) -> Result<(Vec<BoundInput>, BTreeMap<String, usize>), Diagnostic> {
    let initializers: BTreeSet<&str> = model.graph.initializer.iter().map(|t| t.name()).collect();
    let inputs: Vec<&ValueInfoProto> = model.graph.input.iter().filter(|i| !initializers.contains(i.name())).collect();
    let fault = |code: Code, title: String| Diagnostic::new(code, title).at(model.name.clone());

    let mut bound = Vec::new();
    let mut open = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let found = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let typed = found.and_then(|t| Some((t.elem_type(), t.shape.as_ref()?)));
        let Some((elem_type, shape)) = typed else {
            return Err(fault(Code::InputType, format!("input `{}` has no tensor type with a shape", input.name())));
        };
        let dtype =
            tensor::dtype(elem_type).map_err(|e| fault(Code::InputType, format!("input `{}`: {e}", input.name())))?;
        let mut sizes = Vec::new();
        for (axis, dim) in shape.dim.iter().enumerate() {
            match dim.dim_value.map(usize::try_from) {
                Some(Ok(size)) => sizes.push(size),
                _ => {
                    sizes.push(0);
                    let kind = kind(input.name(), dtype, axis, shape.dim.len());
                    open.push(Open { input: i, axis, name: name(input, axis, dim), terms: terms(dim), kind });
                }
            }
        }
        bound.push(BoundInput { name: input.name().to_string(), shape: sizes, dtype, longest: 0, value: None });
    }

    let sizes = sizes(model, bindings, &inputs, &open)?;
    for dim in &open {
        bound[dim.input].shape[dim.axis] = sizes[&dim.name];
        // A sum may have numbers of the file.
        if dim.terms.is_none() {
            bound[dim.input].longest = bound[dim.input].longest.max(sizes[&dim.name]);
        }
    }
    let mut made = 0usize;
    for input in &bound {
        if convention(&input.name).is_some() {
            made = made.saturating_add(input.shape.iter().fold(1usize, |n, &d| n.saturating_mul(d)));
        }
        let most = MAX_MADE.max(input.longest.saturating_mul(input.longest).min(MAX_PLANE));
        check_size(&input.shape)
            .and(if made > most { Err(format!("public inputs have more than {most} elements")) } else { Ok(()) })
            .map_err(|e| {
                fault(Code::LargeInput, format!("input `{}` is too large", input.name)).because(format!("{e}."))
            })?;
    }
    let past = bound.iter().find(|i| is_past(&i.name) && i.shape.len() == 4).map_or(0, |i| i.shape[2]);
    for input in &mut bound {
        if input.is_empty_past() {
            input.value = Some(zeros(&input.shape, input.dtype));
            continue;
        }
        input.value = match bindings.values.get(&input.name) {
            Some(given) => Some(given.tensor(&input.shape, input.dtype).ok_or_else(|| {
                fault(Code::InputValue, format!("the value for input `{}` does not fit", input.name)).because(format!(
                    "The model takes {:?} {:?}, the value is {}.",
                    input.dtype,
                    input.shape,
                    given.describe()
                ))
            })?),
            None => public(&input.name, &input.shape, input.dtype, past),
        };
    }
    if let Some(name) = bindings.values.keys().find(|n| !bound.iter().any(|i| i.name == **n)) {
        return Err(fault(Code::InputValue, format!("the model has no input `{name}` to give a value to")));
    }
    Ok((bound, sizes))
}

/// A tensor of zeros.
pub fn zeros(shape: &[usize], dtype: DType) -> Tensor {
    match dtype {
        DType::F32 => Tensor::F32(ArrayD::zeros(IxDyn(shape))),
        DType::I64 => Tensor::I64(ArrayD::zeros(IxDyn(shape))),
        DType::Bool => Tensor::Bool(ArrayD::default(IxDyn(shape))),
    }
}

impl BoundInput {
    /// A part of a cache of keys and values that holds nothing.
    pub fn is_empty_past(&self) -> bool {
        is_past(&self.name) && self.dtype == DType::F32 && self.shape.contains(&0)
    }
}

/// Whether an input is a part of a cache of keys and values.
pub fn is_past(name: &str) -> bool {
    name.starts_with("past")
}

/// What an input that is public by convention holds, told by the end of its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Convention {
    Mask,
    Segments,
    Positions,
}

fn convention(name: &str) -> Option<Convention> {
    let ends = [
        ("attention_mask", Convention::Mask),
        ("token_type_ids", Convention::Segments),
        ("position_ids", Convention::Positions),
        ("cache_position", Convention::Positions),
    ];
    ends.iter().find(|(end, _)| name.ends_with(end)).map(|&(_, convention)| convention)
}

/// The value of an input that is public by convention: nothing is padding, all is one segment, positions count up.
fn public(name: &str, shape: &[usize], dtype: DType, past: usize) -> Option<Tensor> {
    let integers = match convention(name)? {
        Convention::Mask => ArrayD::ones(IxDyn(shape)),
        Convention::Segments => ArrayD::zeros(IxDyn(shape)),
        Convention::Positions => {
            let (count, length) = (shape.iter().product::<usize>(), shape.last().copied().unwrap_or(1));
            from_vec(shape, (0..count).map(|i| (past + i % length.max(1)) as i64).collect())
        }
    };
    Some(match dtype {
        DType::I64 => Tensor::I64(integers),
        DType::F32 => Tensor::F32(integers.mapv(|x| x as f32)),
        DType::Bool => Tensor::Bool(integers.mapv(|x| x != 0)),
    })
}

fn kind(input: &str, dtype: DType, axis: usize, rank: usize) -> Kind {
    match (axis, rank) {
        (0, _) => Kind::Batch,
        (1, 2) if matches!(input, "attention_mask" | "decoder_attention_mask") => Kind::Whole,
        (1, 2) if convention(input) == Some(Convention::Mask) => Kind::Other,
        (1, 2) if dtype == DType::I64 => Kind::Sequence,
        (2, 4) if is_past(input) => Kind::Past,
        _ => Kind::Other,
    }
}

fn name(input: &ValueInfoProto, axis: usize, dim: &DimensionProto) -> String {
    match dim.dim_param() {
        "" => format!("{}.{axis}", input.name()),
        name => name.to_string(),
    }
}

/// Parts of a name such as `past_sequence_length + sequence_length`.
fn terms(dim: &DimensionProto) -> Option<Vec<&str>> {
    let terms: Vec<&str> = dim.dim_param().split('+').map(str::trim).collect();
    (terms.len() > 1).then_some(terms)
}

fn sizes(
    model: &Model,
    bindings: &Bindings,
    inputs: &[&ValueInfoProto],
    open: &[Open],
) -> Result<BTreeMap<String, usize>, Diagnostic> {
    let fault = |code: Code, title: String| Diagnostic::new(code, title).at(model.name.clone());
    let mut names: BTreeSet<&str> = open.iter().map(|d| d.name.as_str()).collect();
    names.extend(open.iter().filter_map(|d| d.terms.as_ref()).flatten().filter(|t| t.parse::<usize>().is_err()));
    if let Some(name) = bindings.dims.keys().find(|name| !names.contains(name.as_str())) {
        let known: Vec<&str> = names.iter().copied().collect();
        return Err(fault(Code::NoSuchDimension, format!("the model has no dimension `{name}`")).because(match known
            .as_slice()
        {
            [] => "All its dimensions are fixed.".to_string(),
            known => format!("Its open dimensions are: {}.", known.join(", ")),
        }));
    }
    let mut sizes = bindings.dims.clone();
    // A value that is given has the batch's size too.
    for dim in open.iter().filter(|d| d.terms.is_none()) {
        if let Some(Given::Tensor(given)) = bindings.values.get(inputs[dim.input].name())
            && let Some(&size) = given.shape().get(dim.axis)
        {
            sizes.entry(dim.name.clone()).or_insert(size);
        }
    }
    for dim in open.iter().filter(|d| d.kind != Kind::Batch && d.terms.is_none()) {
        let given = bindings.input_shapes.get(inputs[dim.input].name()).and_then(|s| s.get(dim.axis));
        let Some(&given) = given else { continue };
        let size = *sizes.entry(dim.name.clone()).or_insert(given);
        if size != given && !bindings.dims.contains_key(&dim.name) {
            return Err(fault(
                Code::TwoSizes,
                format!("calibration gives dimension `{}` two sizes, {size} and {given}", dim.name),
            )
            .help(format!("--dim {}={size}", dim.name)));
        }
    }

    // Kinds that others build on first; inside a kind, what is bound already decides.
    let mut faults = BTreeMap::new();
    for kind in [Kind::Batch, Kind::Sequence, Kind::Past, Kind::Whole, Kind::Other] {
        let of = |kind: Kind, sizes: &BTreeMap<String, usize>| {
            open.iter().filter(|d| d.kind == kind).find_map(|d| sizes.get(&d.name).copied())
        };
        for dim in open.iter().filter(|d| d.kind == kind) {
            if sizes.contains_key(&dim.name) {
                continue;
            }
            let summed = dim.terms.as_ref().and_then(|terms| {
                terms.iter().try_fold(0usize, |sum, term| {
                    let size = term.parse().ok().or_else(|| sizes.get(*term).copied())?;
                    sum.checked_add(size)
                })
            });
            let size = summed.or_else(|| match kind {
                Kind::Batch => of(Kind::Batch, &sizes).or(Some(1)),
                Kind::Sequence => of(Kind::Sequence, &sizes).or_else(|| match bindings.sequence {
                    Sequence::Short => context(&model.graph, inputs).map(|rows| rows.min(DEFAULT_SEQUENCE)),
                    Sequence::Context => context(&model.graph, inputs),
                    Sequence::Of(size) => Some(size),
                }),
                Kind::Whole => {
                    let has_past = open.iter().any(|d| d.kind == Kind::Past);
                    let past = if has_past { of(Kind::Past, &sizes) } else { Some(0) };
                    past.zip(of(Kind::Sequence, &sizes)).and_then(|(past, new)| past.checked_add(new))
                }
                Kind::Past => of(Kind::Past, &sizes).or(bindings.without_past.then_some(0)),
                Kind::Other => None,
            });
            match size {
                Some(size) => {
                    sizes.insert(dim.name.clone(), size);
                }
                None if kind == Kind::Whole && !faults.is_empty() => {} // It follows from the missing one.
                None => {
                    faults.entry(&dim.name).or_insert_with(|| {
                        let report = fault(Code::OpenDimension, format!("dimension `{}` has no size", dim.name))
                            .because(format!("It is axis {} of input `{}`.", dim.axis, inputs[dim.input].name()));
                        match kind {
                            Kind::Past => report
                                .help("--generate, for text token by token: sessions keep keys and values themselves")
                                .help(format!("--dim {}=N for one pass with N tokens in the cache", dim.name)),
                            _ => report.help(format!("--dim {}=N", dim.name)),
                        }
                    });
                }
            }
        }
    }
    Diagnostic::check(faults.into_values())?;
    if let (Sequence::Of(wanted), Some(rows)) = (bindings.sequence, context(&model.graph, inputs))
        && wanted > rows
    {
        return Err(fault(Code::FewPositions, format!("the model has positions for {rows} tokens, not for {wanted}"))
            .help(format!("--max-context {rows}")));
    }
    Ok(sizes)
}

/// Rows of the smallest position table: a float matrix of which a `Gather` takes rows that no token id selects.
fn context<'a>(graph: &'a GraphProto, inputs: &[&'a ValueInfoProto]) -> Option<usize> {
    let producers: HashMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n))).collect();
    let tables: HashMap<&str, usize> = graph
        .initializer
        .iter()
        .filter(|t| tensor::dtype(t.data_type()) == Ok(DType::F32) && t.dims.len() == 2)
        .filter_map(|t| Some((t.name(), usize::try_from(t.dims[0]).ok()?)))
        .collect();
    let by_tokens = |index: &'a str| {
        let root = root(&producers, index);
        inputs.iter().any(|i| i.name() == root && i.name() != "position_ids")
    };
    graph
        .node
        .iter()
        .filter(|n| n.op_type() == "Gather" && n.input.len() == 2 && !by_tokens(&n.input[1]))
        .filter_map(|n| tables.get(root(&producers, &n.input[0])).copied())
        .min()
}

/// Follows the one operand that carries the data of an index, as far as it is only renamed.
fn root<'a>(producers: &HashMap<&'a str, &'a NodeProto>, mut name: &'a str) -> &'a str {
    for _ in 0..producers.len() {
        match producers.get(name) {
            Some(n) if matches!(n.op_type(), "Identity" | "Cast" | "Reshape" | "Unsqueeze" | "Squeeze" | "Flatten") => {
                name = n.input.first().map_or("", String::as_str);
            }
            _ => break,
        }
    }
    name
}
