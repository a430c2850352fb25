//! Recognise the lookup of rows by the client's ids, and what weights are added to the rows.
//!
//! Rewrites  `gather(table, ids)`  into  `embed`;  `embed * c`  into  `embed` of the table times c;
//!           `embed + w`  into  `add_weight`, and two of these into one.
//! Why       A lookup by a secret id is a product with a one-hot matrix, not a memory access.
//! Needs     Stage `graph`.
//! Keeps     Shapes; real values, up to the rounding of products and sums of weights.
//! Skips     A lookup by public ids, which the importer has folded away.

use std::sync::Arc;

use super::{Options, known, rewrite, sole_reader};
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeId, Op, Owner};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    rewrite(graph, |graph, id| {
        let Some(form) = find(graph, id) else { return Ok(false) };
        let origin = graph.node(id).origin.clone();
        let new = match form {
            Form::Lookup { ids, table } => graph.push(Op::Embed, &[ids, table], &origin),
            Form::Scaled { embed, factor } => {
                let (ids, table) = (graph.operands(embed)[0], graph.operands(embed)[1]);
                let name = format!("{} * {factor}", known::label(graph, table));
                let scaled = known::times(graph, table, ndarray::arr0(factor).view().into_dyn());
                let table = known::add_value(graph, &name, Arc::new(scaled));
                let origin = graph.node(embed).origin.clone();
                graph.push(Op::Embed, &[ids, table], &origin)
            }
            Form::Plus { rows, weight } => {
                let weight = as_weight(graph, weight);
                graph.push(Op::AddWeight, &[rows, weight], &origin)
            }
            Form::TwoWeights { rows, first, second } => {
                let name = format!("{} + {}", known::label(graph, first), known::label(graph, second));
                let (a, b) = (known::tensor(graph, first), known::tensor(graph, second));
                let sum = a.expect("a weight is known") + &b.expect("a weight is known");
                let weight = known::add_weight(graph, &name, &sum);
                graph.push(Op::AddWeight, &[rows, weight], &origin)
            }
        };
        graph.replace(id, new);
        Ok(true)
    })
}

enum Form {
    Lookup { ids: NodeId, table: NodeId },
    Scaled { embed: NodeId, factor: f64 },
    Plus { rows: NodeId, weight: NodeId },
    TwoWeights { rows: NodeId, first: NodeId, second: NodeId },
}

fn find(graph: &Graph, id: NodeId) -> Option<Form> {
    let node = graph.node(id);
    match node.op {
        Op::Gather { axis: 0 } => {
            let (table, ids) = (graph.operands(id)[0], graph.operands(id)[1]);
            let is_table = matches!(graph.node(table).op, Op::Weight { .. }) && graph.node(table).shape.len() == 2;
            (is_table && graph.node(ids).owner != Owner::Public).then_some(Form::Lookup { ids, table })
        }
        Op::Mul => {
            let (embed, factor, _) = known::split(graph, id)?;
            let fits = matches!(graph.node(embed).op, Op::Embed) && graph.node(embed).shape == node.shape;
            sole_reader(graph, embed).filter(|_| fits)?;
            Some(Form::Scaled { embed, factor: known::scalar(graph, factor)? })
        }
        Op::Add => {
            let (rows, weight, _) = known::split(graph, id)?;
            let fits = matches!(graph.node(rows).op, Op::Embed | Op::AddWeight) && graph.node(rows).shape == node.shape;
            fits.then_some(Form::Plus { rows, weight })
        }
        Op::AddWeight => {
            let (inner, second) = (graph.operands(id)[0], graph.operands(id)[1]);
            if !matches!(graph.node(inner).op, Op::AddWeight) {
                return None;
            }
            let (rows, first) = (graph.operands(inner)[0], graph.operands(inner)[1]);
            sole_reader(graph, inner)?;
            Some(Form::TwoWeights { rows, first, second })
        }
        _ => None,
    }
}

/// The server may add a public constant as it adds a weight.
fn as_weight(graph: &mut Graph, id: NodeId) -> NodeId {
    match graph.node(id).op {
        Op::Weight { .. } => id,
        _ => {
            let name = known::label(graph, id);
            let value = known::tensor(graph, id).expect("the operand is known");
            known::add_weight(graph, &name, &value)
        }
    }
}
