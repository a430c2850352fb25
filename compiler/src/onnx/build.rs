//! Builds the graph: an operation whose operands are all known is computed on the spot, any other becomes a node.
//!
//! What is known is either public or the server's (it depends on weights). Nothing is copied for an alias, equal weights
//! share memory, and a value is dropped after its last reader.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ndarray::ArrayD;

use super::public::check_made;
use crate::graph::kernel::{View, apply};
use crate::graph::shape::{Typed, check_size, infer};
use crate::graph::{DType, Graph, Node, NodeId, Op, Owner, Tensor};

/// A value of the ONNX graph during import.
#[derive(Clone)]
pub enum Value {
    /// Known to everybody.
    Public(Arc<Tensor>),
    /// Known to the server: a weight, or made of weights and constants.
    Server {
        /// Initializer, or the node that made it.
        name: Arc<str>,
        /// Elements.
        value: Arc<ArrayD<f32>>,
    },
    /// A node.
    Secret(NodeId),
    /// The result of a node that was reported already.
    Unknown,
}

impl Value {
    /// A public value.
    pub fn public(tensor: Tensor) -> Value {
        Value::Public(Arc::new(tensor))
    }

    /// A public vector of integers.
    pub fn integers(values: Vec<i64>) -> Value {
        Value::public(Tensor::I64(ndarray::Array1::from(values).into_dyn()))
    }

    /// A public scalar.
    pub fn scalar(value: f32) -> Value {
        Value::public(Tensor::F32(ndarray::arr0(value).into_dyn()))
    }

    /// The elements, if they are known.
    pub fn view(&self) -> Option<View<'_>> {
        match self {
            Value::Public(tensor) => Some(tensor.view()),
            Value::Server { value, .. } => Some(View::F32(value.view())),
            Value::Secret(_) | Value::Unknown => None,
        }
    }
}

/// A weight and its name.
type Named = (Arc<str>, Arc<ArrayD<f32>>);

/// See the module head.
#[derive(Default)]
pub struct Builder {
    /// What has been built.
    pub graph: Graph,
    /// Names of float tensors that are public because they are structure.
    pub structure: Vec<String>,
    /// Node of each known value that a node reads, by its address, which the graph keeps alive.
    sources: HashMap<usize, NodeId>,
    /// Names of weights in the graph.
    names: HashSet<String>,
    /// Weights by shape and hash.
    weights: HashMap<(Vec<usize>, blake3::Hash), Named>,
    room: Room,
}

/// What known values may take: bounds the time and the memory that a small file can ask for.
#[derive(Clone, Copy, Default)]
pub struct Room {
    /// Elements that folding may still go through.
    pub work: usize,
    /// Greatest number of elements that an operator may make out of fewer.
    pub made: usize,
    /// Nodes that the graph may have.
    pub nodes: usize,
}

impl Builder {
    /// An empty graph, and what its known values may take.
    pub fn new(room: Room) -> Builder {
        Builder { room, ..Builder::default() }
    }

    /// The number of elements of a shape that an operator is about to make out of nothing, if it may.
    pub fn make(&mut self, shape: &[usize]) -> Result<usize, String> {
        check_size(shape)?;
        check_made(size(shape), self.room.made)?;
        self.spend(size(shape))?;
        Ok(size(shape))
    }

    /// The most elements that an operator may make out of nothing.
    pub fn most_made(&self) -> usize {
        self.room.made
    }

    /// Takes work off what is left.
    pub fn spend(&mut self, work: usize) -> Result<(), String> {
        let left = self.room.work.checked_sub(work);
        self.room.work = left.ok_or("the model's constants take more arithmetic than its size explains")?;
        Ok(())
    }

    /// A float tensor of the file: the server's, unless it is structure.
    pub fn float(&mut self, name: &str, value: ArrayD<f32>) -> Value {
        if !super::is_structure(&value) {
            return self.server(name, value);
        }
        self.structure.push(name.to_string());
        Value::public(Tensor::F32(value))
    }

    /// A value of the server, merged with an equal one.
    fn server(&mut self, name: &str, value: ArrayD<f32>) -> Value {
        let mut hasher = blake3::Hasher::new();
        let mut bytes = Vec::with_capacity(1 << 16);
        for chunk in value.as_slice().expect("standard layout").chunks(1 << 14) {
            bytes.clear();
            bytes.extend(chunk.iter().flat_map(|x| x.to_le_bytes()));
            hasher.update(&bytes);
        }
        let key = (value.shape().to_vec(), hasher.finalize());
        let (name, value) = self.weights.entry(key).or_insert_with(|| (name.into(), Arc::new(value))).clone();
        Value::Server { name, value }
    }

    /// Forgets weights that nothing refers to any more.
    pub fn release(&mut self) {
        self.weights.retain(|_, (_, value)| Arc::strong_count(value) > 1);
    }

    /// Shape and element type.
    pub fn typed(&self, value: &Value) -> Typed {
        match value {
            Value::Public(tensor) => (tensor.shape().to_vec(), tensor.dtype()),
            Value::Server { value, .. } => (value.shape().to_vec(), DType::F32),
            Value::Secret(id) => (self.graph.node(*id).shape.clone(), self.graph.node(*id).dtype),
            Value::Unknown => panic!("the readers of an unknown value are not built"),
        }
    }

    /// Shape.
    pub fn shape(&self, value: &Value) -> Vec<usize> {
        self.typed(value).0
    }

    /// Computes `op`, or adds a node for it. `origin` is the ONNX node.
    pub fn apply(&mut self, origin: &str, op: Op, operands: &[Value]) -> Result<Value, String> {
        self.shaped(origin, op, operands, &[])
    }

    /// The same, for ops that need the shape of the result.
    pub fn shaped(&mut self, origin: &str, op: Op, operands: &[Value], shape: &[usize]) -> Result<Value, String> {
        let typed: Vec<Typed> = operands.iter().map(|v| self.typed(v)).collect();
        let (shape, dtype) = infer(&op, &typed, (shape, DType::F32))?;
        check_size(&shape)?;
        if is_alias(&op, &typed, &shape) {
            return Ok(operands[0].clone());
        }
        if operands.iter().all(|v| v.view().is_some()) {
            if op == Op::MatMul {
                // Every element is a sum; a product takes a fraction of the time of other work.
                self.spend(steps(&shape).saturating_mul(typed[0].0.last().copied().unwrap_or(1)) / 8)?;
            }
            return self.fold(origin, operands, &shape, |views| apply(&op, views, &shape, None));
        }
        if self.graph.dag.node_count() >= self.room.nodes {
            return Err("the model takes more operations than its size explains".into());
        }
        let ids: Vec<NodeId> = operands.iter().map(|v| self.node(v)).collect();
        let owner = ids.iter().map(|&id| self.graph.node(id).owner).fold(Owner::Public, Owner::join);
        let node = Node { op, shape, dtype, owner, origin: origin.to_string() };
        Ok(Value::Secret(self.graph.add(node, &ids)))
    }

    /// Computes a function of known values; `shape` is the result's, as far as it is known.
    pub fn fold(
        &mut self,
        origin: &str,
        operands: &[Value],
        shape: &[usize],
        f: impl FnOnce(&[View<'_>]) -> Result<Tensor, String>,
    ) -> Result<Value, String> {
        let views: Vec<View<'_>> = operands
            .iter()
            .map(Value::view)
            .collect::<Option<_>>()
            .ok_or("it works on public values only, and an operand is secret")?;
        let read = views.iter().map(|v| size(v.shape())).max().unwrap_or(0);
        if size(shape) > read.max(self.room.made) {
            return Err(format!("a constant of shape {shape:?} is larger than all that it is made of"));
        }
        let expected = views.iter().map(|v| steps(v.shape())).fold(steps(shape), usize::max);
        self.spend(expected)?;
        let result = f(&views)?;
        self.spend(steps(result.shape()).saturating_sub(expected))?;
        if operands.iter().all(|v| matches!(v, Value::Public(_))) {
            return Ok(Value::public(result));
        }
        match result {
            Tensor::F32(value) => Ok(self.server(origin, value)),
            other => Err(format!("it makes {:?} of weights, which the server alone knows", other.dtype())),
        }
    }

    /// The node of a value. Parts of one weight that were folded by one node get names of their own.
    pub fn node(&mut self, value: &Value) -> NodeId {
        let address = match value {
            Value::Secret(id) => return *id,
            Value::Unknown => panic!("the readers of an unknown value are not built"),
            Value::Public(tensor) => Arc::as_ptr(tensor) as usize,
            Value::Server { value, .. } => Arc::as_ptr(value) as usize,
        };
        if let Some(&id) = self.sources.get(&address) {
            return id;
        }
        let node = match value {
            Value::Server { name, value } => {
                let mut unique = name.to_string();
                let mut part = 1;
                while !self.names.insert(unique.clone()) {
                    part += 1;
                    unique = format!("{name}#{part}");
                }
                let op = Op::Weight { name: unique.clone(), value: value.clone() };
                source(op, value.shape(), DType::F32, Owner::Server, &unique)
            }
            Value::Public(tensor) => {
                source(Op::Const(tensor.clone()), tensor.shape(), tensor.dtype(), Owner::Public, "constant")
            }
            Value::Secret(_) | Value::Unknown => unreachable!("returned above"),
        };
        let id = self.graph.add(node, &[]);
        self.sources.insert(address, id);
        id
    }

    /// Adds a graph input.
    pub fn input(&mut self, name: &str, shape: &[usize], dtype: DType, owner: Owner) -> Value {
        let id = self.graph.add(source(Op::Input { name: name.to_string() }, shape, dtype, owner, name), &[]);
        self.graph.inputs.push(id);
        Value::Secret(id)
    }
}

fn source(op: Op, shape: &[usize], dtype: DType, owner: Owner, origin: &str) -> Node {
    Node { op, shape: shape.to_vec(), dtype, owner, origin: origin.to_string() }
}

fn size(shape: &[usize]) -> usize {
    shape.iter().fold(1, |n, &d| n.saturating_mul(d))
}

/// What going through a tensor of a shape takes: rows of no elements take time too.
fn steps(shape: &[usize]) -> usize {
    shape.iter().fold(1, |n, &d| n.saturating_mul(d.max(1)))
}

/// Whether the result is operand 0 as it is.
fn is_alias(op: &Op, operands: &[Typed], shape: &[usize]) -> bool {
    match op {
        Op::Reshape | Op::Expand | Op::Slice { .. } => operands[0].0 == shape,
        Op::Transpose { perm } => perm.iter().copied().eq(0..perm.len()),
        Op::Concat { .. } => operands.len() == 1,
        Op::ToF32 => operands[0].1 == DType::F32,
        _ => false,
    }
}
