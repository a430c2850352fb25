//! The passes from an imported graph to the fused stage, in order.
//!
//! A pass decides in functions that only read and changes the graph in few places. After each pass, nodes that no output
//! needs are removed and the graph is verified.

use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeId, Op, Stage, verify};

pub mod assign_width;
pub mod centre_logits;
pub mod group_channels;
mod known;

mod centre;
mod check_fused;
mod embedding;
mod fold_affine;
mod fuse_activation;
mod fuse_attention;
mod fuse_linear;
mod fuse_norm;
mod fuse_qkv;
mod fuse_rotary;
mod last_position;
mod masked_softmax;
mod own_weights;
pub mod resize;
mod ride;
mod simplify;

/// For which positions a language model's logits are computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Logits {
    /// For one, chosen by a public run-time index: the language-model head then runs on one row.
    #[default]
    Last,
    /// For those that the model gives.
    All,
}

/// What the user may choose about the passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Positions of the output called `logits`, else of the first, if a linear layer ends there.
    pub logits: Logits,
}

/// A pass. On an error the graph is left half rewritten.
pub struct Pass {
    /// Name, as in its file.
    pub name: &'static str,
    /// Constructs that it recognises, for people.
    pub makes: &'static [&'static str],
    /// Runs it.
    pub run: fn(&mut Graph, &Options) -> Result<(), Diagnostic>,
}

/// All passes in order; each one's file says what it needs from those before.
pub const PASSES: &[Pass] = &[
    Pass { name: "simplify", makes: &[], run: simplify::run },
    Pass {
        name: "embedding",
        makes: &["rows of a table chosen by token ids", "position tables", "token types"],
        run: embedding::run,
    },
    Pass {
        name: "fuse_norm",
        makes: &["LayerNorm", "RMSNorm", "both spelt out or as one operator"],
        run: fuse_norm::run,
    },
    Pass { name: "fuse_linear", makes: &["linear layers with and without bias"], run: fuse_linear::run },
    Pass {
        name: "fuse_activation",
        makes: &["GELU (erf and tanh forms)", "SiLU, QuickGELU and their like"],
        run: fuse_activation::run,
    },
    Pass {
        name: "fuse_rotary",
        makes: &["rotary position embedding: halves or interleaved, partial, scaled"],
        run: fuse_rotary::run,
    },
    Pass {
        name: "fuse_attention",
        makes: &[
            "softmax attention of several heads",
            "grouped queries",
            "public masks and windows",
            "numeric biases",
            "soft-capped scores",
            "sinks",
        ],
        run: fuse_attention::run,
    },
    Pass {
        name: "masked_softmax",
        makes: &["public masks of any pattern, which may differ between heads and batch elements"],
        run: masked_softmax::run,
    },
    Pass { name: "simplify", makes: &[], run: simplify::run },
    Pass { name: "last_position", makes: &["logits of one position"], run: last_position::run },
    Pass { name: "fold_affine", makes: &["gains, shifts and factors beside linear layers"], run: fold_affine::run },
    Pass { name: "ride", makes: &["normalisations that the residual reads (post-norm)"], run: ride::run },
    Pass { name: "fold_affine", makes: &[], run: fold_affine::run },
    Pass { name: "centre", makes: &[], run: centre::run },
    Pass { name: "fuse_qkv", makes: &["one product for queries, keys and values"], run: fuse_qkv::run },
    Pass { name: "simplify", makes: &[], run: simplify::run },
    Pass { name: "own_weights", makes: &[], run: own_weights::run },
    Pass { name: "check_fused", makes: &[], run: check_fused::run },
];

/// Brings an imported graph to the fused stage. The error names all that passes refuse, and every node that none of them
/// could fuse.
pub fn run_all(graph: &mut Graph, options: &Options) -> Result<(), Diagnostic> {
    verify(graph, Stage::Graph)?;
    let mut found: Vec<Diagnostic> = Vec::new();
    for pass in PASSES {
        let refused = (pass.run)(graph, options).err();
        graph.sweep();
        match (verify(graph, Stage::Graph), refused) {
            (Ok(()), refused) => found.extend(refused),
            // What is half rewritten cannot go on.
            (Err(_), Some(refused)) => {
                found.push(refused);
                break;
            }
            (Err(fault), None) => panic!("pass {} broke the graph: {fault}", pass.name),
        }
    }
    Diagnostic::check(found)?;
    if let Err(fault) = verify(graph, Stage::Fused) {
        panic!("the passes end beside the fused stage: {fault}");
    }
    Ok(())
}

/// Offers every node to `step`, which says whether it changed the graph, until nothing changes any more.
fn rewrite(
    graph: &mut Graph,
    mut step: impl FnMut(&mut Graph, NodeId) -> Result<bool, Diagnostic>,
) -> Result<(), Diagnostic> {
    let mut changed = true;
    while std::mem::take(&mut changed) {
        for id in graph.order() {
            // Nodes that died are swept at once, so that they count as readers no longer. Their numbers may be given to
            // new nodes, which are then offered early: no harm.
            if graph.dag.contains_node(id) && step(graph, id)? {
                graph.sweep();
                changed = true;
            }
        }
    }
    Ok(())
}

/// The only reader of a node, unless the node is a graph output too.
fn sole_reader(graph: &Graph, id: NodeId) -> Option<NodeId> {
    match graph.readers(id)[..] {
        [reader] if graph.outputs.iter().all(|output| output.1 != id) => Some(reader),
        _ => None,
    }
}

/// Greatest number of elements of a value that a pass may look at one by one. Sizes of inputs cost a file nothing; beyond
/// what any sequence of a small model needs, weights must explain them.
fn most_elements(graph: &Graph) -> usize {
    let weights = graph.dag.node_weights().filter(|node| matches!(node.op, Op::Weight { .. }));
    (1 << 22) + 4 * weights.map(|node| elements(&node.shape)).sum::<usize>()
}

fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// How a diagnostic names a node.
fn place(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    format!("node {:?} ({})", node.origin, node.op.name())
}
