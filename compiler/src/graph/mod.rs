//! The float graph: what an ONNX model computes, shapes bound, one result per node, with the owner of every value and
//! the ONNX node that it comes from.
//!
//! Two stages share this type. `graph` is what the importer makes: a node per ONNX node, with all public arithmetic
//! (shapes, masks, position ids) folded away. `fused` is what the passes make of it: only the ops under "Fused" plus
//! `Input`, `Add`, `Reshape`, `Transpose`, `Slice` and `Concat` remain, each with a lowering to protocols.

pub mod build;
pub mod eval;
pub mod function;
pub mod kernel;
pub mod ops;
pub mod shape;
pub mod text;
pub mod verify;

use std::sync::Arc;

use ir::Pattern;
use ndarray::ArrayD;
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

pub use function::{Function, GeluForm};
pub use verify::{Stage, verify};

/// A node of the graph and, at the same time, its only result.
pub type NodeId = NodeIndex<u32>;

/// A dense tensor of one of the element types that the importer knows (float16 and float64 are converted to `F32`,
/// all other integers to `I64`).
#[derive(Clone, PartialEq, Debug)]
pub enum Tensor {
    /// 32-bit floats.
    F32(ArrayD<f32>),
    /// Integers.
    I64(ArrayD<i64>),
    /// Booleans.
    Bool(ArrayD<bool>),
}

impl Tensor {
    /// Dimensions.
    pub fn shape(&self) -> &[usize] {
        match self {
            Tensor::F32(a) => a.shape(),
            Tensor::I64(a) => a.shape(),
            Tensor::Bool(a) => a.shape(),
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            Tensor::F32(_) => DType::F32,
            Tensor::I64(_) => DType::I64,
            Tensor::Bool(_) => DType::Bool,
        }
    }
}

/// Element type of a [`Tensor`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 64-bit integer.
    I64,
    /// Boolean.
    Bool,
}

/// Who knows a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Owner {
    /// Everybody: constants, shapes, masks.
    Public,
    /// The client: token ids.
    Client,
    /// The server: weights and what is computed from weights alone.
    Server,
    /// Nobody: it depends on a client's and a server's value.
    Shared,
}

impl Owner {
    /// Owner of a value that depends on both.
    pub fn join(self, other: Owner) -> Owner {
        match (self, other) {
            (Owner::Public, o) | (o, Owner::Public) => o,
            (a, b) if a == b => a,
            _ => Owner::Shared,
        }
    }
}

/// What a node computes. Operands are the node's incoming edges, in the order of their slots. Semantics are ONNX's
/// (opset differences are resolved by the importer) unless said otherwise.
#[derive(Clone, PartialEq, Debug)]
pub enum Op {
    // ---- Sources ----
    /// A graph input.
    Input {
        /// ONNX name.
        name: String,
    },
    /// A public constant (integers, booleans, or floats that no weight took part in).
    Const(Arc<Tensor>),
    /// An initializer, or what folding made of initializers alone. Owned by the server.
    Weight {
        /// Name of the initializer, or of the node that was folded.
        name: String,
        /// Its value.
        value: Arc<ArrayD<f32>>,
    },

    // ---- Imported; gone after fusion unless listed in the module head ----
    /// Operands data, indices.
    Gather {
        /// Axis of the data.
        axis: usize,
    },
    /// Numpy matmul.
    MatMul,
    /// Element-wise with broadcasting.
    Add,
    /// Element-wise with broadcasting.
    Sub,
    /// Element-wise with broadcasting.
    Mul,
    /// Element-wise with broadcasting.
    Div,
    /// Element-wise with broadcasting.
    Pow,
    /// Element-wise.
    Neg,
    /// A function of one number, element-wise.
    Unary(Function),
    /// Operands condition, x, y; with broadcasting.
    Where,
    /// Element-wise test, gives booleans.
    IsNaN,
    /// To float (integers and booleans convert; floats pass).
    ToF32,
    /// The same elements in the node's shape.
    Reshape,
    /// Axes in the order `perm`.
    Transpose {
        /// Permutation.
        perm: Vec<usize>,
    },
    /// from .. to along one axis, step 1.
    Slice {
        /// Axis.
        axis: usize,
        /// First element.
        from: usize,
        /// One past the last element.
        to: usize,
    },
    /// Along an axis.
    Concat {
        /// Axis.
        axis: usize,
    },
    /// Broadcast to the node's shape.
    Expand,
    /// Along one axis.
    Softmax {
        /// Axis.
        axis: usize,
    },
    /// Mean over axes, dimensions kept (a Reshape follows where ONNX drops them).
    ReduceMean {
        /// Axes.
        axes: Vec<usize>,
    },
    /// Sum over axes, dimensions kept.
    ReduceSum {
        /// Axes.
        axes: Vec<usize>,
    },
    /// Maximum over axes, dimensions kept.
    ReduceMax {
        /// Axes.
        axes: Vec<usize>,
    },
    /// Index of the greatest element along an axis, whose dimension becomes 1; of equal ones the first, or the last.
    ArgMax {
        /// Axis.
        axis: usize,
        /// The last of equal ones.
        last: bool,
    },
    /// Element-wise test of floats with broadcasting, gives booleans: x < y.
    Less,
    /// Element-wise test of floats with broadcasting, gives booleans: x <= y.
    LessOrEqual,
    /// ONNX LayerNormalization over the last axis; operands x, gamma and optionally beta.
    LayerNormalization {
        /// Added to the variance.
        epsilon: f32,
    },

    // ---- Fused ----
    /// Rows of a table: operands ids [..] and table `Weight` [classes, d]; result [.., d].
    Embed,
    /// Operands x `[.., k]`, w `Weight` `[k, m]` and optionally b `Weight` `[m]`; result `[.., m]` = x·w + b.
    Linear,
    /// Operands x and a `Weight` that broadcasts to x's shape.
    AddWeight,
    /// Operands x `[.., d]` and a `Weight` `[n, d]`: x plus the row at a public run-time index, by default the last.
    AddRow,
    /// (x - mean) / sqrt(mean((x - mean)²) + epsilon) over the last axis, no gamma and beta.
    Normalize {
        /// Added to the variance.
        epsilon: f32,
        /// The operand's rows sum to zero by construction (its writers were centred), so no mean is taken. Also how
        /// RMS normalisation is written.
        centred: bool,
    },
    /// Rotary position embedding. Operands x [batch, rows, heads·d] and the public constants cos and sin [rows, d]: element
    /// i of a head in row t becomes `cos[t, i]·x[i] + sin[t, i]·x[partner[i]]` (the sign of a rotation is in `sin`).
    Rotary {
        /// Number of heads; head h is the h-th part of the last axis.
        heads: usize,
        /// The element that each element of a head is rotated with.
        partner: Arc<Vec<usize>>,
        /// The constants are [n, d] with n above the number of rows, and a public run-time index says which row of them
        /// is the first row's; by default the last.
        at_position: bool,
    },
    /// Operands q [batch, rows, heads·dh], k [batch, columns, kv_heads·dh], v [batch, columns, kv_heads·dv], then, where
    /// there is a [`Bias`], a weight or constant that is added to the scores, then, where `sinks`, a weight or constant
    /// `[heads]`; result `[batch, rows, heads·dv]` = softmax(cap(q·kᵀ) + bias over the pattern's kept elements)·v per head.
    /// Head h looks at part h / (heads / kv_heads) of k and v. Any scale factor is folded into q.
    Attention {
        /// Number of heads of q.
        heads: usize,
        /// Number of heads of k and v, a divisor of `heads`.
        kv_heads: usize,
        /// Kept scores.
        pattern: Pattern,
        /// cap(s) = softcap·tanh(s/softcap).
        softcap: Option<f32>,
        /// What is added to the scores.
        bias: Option<Bias>,
        /// The pattern is causal, and a row keeps the last so many columns of it at most.
        window: Option<u32>,
        /// Each head has one score more, which takes part in the softmax and is dropped from it.
        sinks: bool,
    },
    /// One position along `axis` (dimension becomes 1): a public run-time index, by default the last.
    Pick {
        /// Axis.
        axis: usize,
    },
}

/// The form of what is added to the scores of an [`Op::Attention`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bias {
    /// [1 or heads, rows, columns]: a number for each score.
    Scores,
    /// [1 or heads, n]: a number for each distance. Row i looks back over columns - rows + i - j to column j, which is
    /// less than n for every kept score.
    Distances,
}

impl Op {
    /// An attention whose heads have keys and values of their own, with nothing done to the scores.
    pub fn attention(heads: usize, pattern: Pattern) -> Op {
        Op::Attention { heads, kv_heads: heads, pattern, softcap: None, bias: None, window: None, sinks: false }
    }
}

/// A node's data.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Dimensions of the result.
    pub shape: Vec<usize>,
    /// Element type of the result.
    pub dtype: DType,
    /// Who knows the result.
    pub owner: Owner,
    /// ONNX node name (or operator type and output name where the file gives none); initializer or input name for sources.
    pub origin: String,
}

/// See the module head. Edges run from operand to reader and carry the operand's slot.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Nodes and edges.
    pub dag: StableDiGraph<Node, u32>,
    /// Graph inputs, in file order.
    pub inputs: Vec<NodeId>,
    /// Graph outputs: ONNX name and the node that computes it.
    pub outputs: Vec<(String, NodeId)>,
}

impl Graph {
    /// Adds a node with its operands in slot order.
    pub fn add(&mut self, node: Node, operands: &[NodeId]) -> NodeId {
        let id = self.dag.add_node(node);
        for (slot, &operand) in operands.iter().enumerate() {
            self.dag.add_edge(operand, id, slot as u32);
        }
        id
    }

    /// A node's data.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.dag[id]
    }

    /// Operands in slot order.
    pub fn operands(&self, id: NodeId) -> Vec<NodeId> {
        let mut edges: Vec<(u32, NodeId)> =
            self.dag.edges_directed(id, Direction::Incoming).map(|e| (*e.weight(), e.source())).collect();
        edges.sort_unstable_by_key(|e| e.0);
        edges.into_iter().map(|e| e.1).collect()
    }

    /// Readers of a node (a reader that uses it twice appears twice). Graph outputs are not readers.
    pub fn readers(&self, id: NodeId) -> Vec<NodeId> {
        self.dag.edges_directed(id, Direction::Outgoing).map(|e| e.target()).collect()
    }

    /// Makes every reader and graph output of `old` use `new` instead; `old` stays until [`Graph::sweep`]. Where `new` has the
    /// same elements in another shape, it is reshaped: a known number of more axes adds axes of one in front of what it
    /// is added to or multiplied with, and is gone from what a pass puts in the place.
    pub fn replace(&mut self, old: NodeId, new: NodeId) {
        let (shape, origin) = (self.node(old).shape.clone(), self.node(old).origin.clone());
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        let new = match count(&shape) == count(&self.node(new).shape) {
            true => self.push_reshape(new, &shape, &origin),
            false => new,
        };
        let edges: Vec<_> =
            self.dag.edges_directed(old, Direction::Outgoing).map(|e| (e.id(), e.target(), *e.weight())).collect();
        for (edge, target, slot) in edges {
            if target != new {
                self.dag.remove_edge(edge);
                self.dag.add_edge(new, target, slot);
            }
        }
        for output in &mut self.outputs {
            if output.1 == old {
                output.1 = new;
            }
        }
    }

    /// Nodes in a topological order that depends on the graph alone: operands first, ties by index.
    pub fn order(&self) -> Vec<NodeId> {
        use std::cmp::Reverse;
        use std::collections::BinaryHeap;
        let mut missing: Vec<usize> = vec![0; self.dag.node_indices().map(|n| n.index() + 1).max().unwrap_or(0)];
        let mut ready = BinaryHeap::new();
        for id in self.dag.node_indices() {
            missing[id.index()] = self.dag.edges_directed(id, Direction::Incoming).count();
            if missing[id.index()] == 0 {
                ready.push(Reverse(id));
            }
        }
        let mut order = Vec::with_capacity(self.dag.node_count());
        while let Some(Reverse(id)) = ready.pop() {
            order.push(id);
            for reader in self.readers(id) {
                missing[reader.index()] -= 1;
                if missing[reader.index()] == 0 {
                    ready.push(Reverse(reader));
                }
            }
        }
        assert_eq!(order.len(), self.dag.node_count(), "a graph has no cycles");
        order
    }

    /// Removes nodes that no graph output depends on; graph inputs stay.
    pub fn sweep(&mut self) {
        let mut live: std::collections::HashSet<NodeId> = self.inputs.iter().copied().collect();
        let mut stack: Vec<NodeId> = self.outputs.iter().map(|o| o.1).collect();
        while let Some(id) = stack.pop() {
            if live.insert(id) {
                stack.extend(self.operands(id));
            }
        }
        self.dag.retain_nodes(|_, id| live.contains(&id));
    }
}
