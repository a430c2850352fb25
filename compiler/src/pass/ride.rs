//! Let factors that the server owns ride in products.
//!
//! Rewrites  `x * g`, g a weight that varies along rows only, into  `linear(x, diagonal g)`.
//! Why       A post-norm block adds gain·n + shift to its residual stream, so no layer takes the gain up. A product of two
//!           secrets takes a round; a product with the server's matrix takes a message, and none of its own where
//!           `fuse_qkv` joins it to the layers that read n too. `centre` may take the mean of each row away, as from every
//!           other layer that writes the stream.
//! Needs     `fold_affine`, which has folded what it could, and folds shifts afterwards.
//! Keeps     Shapes and real values, exactly.
//! Skips     A factor that both parties know, which is local; rows longer than [`LONGEST`]; diagonals that the
//!           model's own weights do not explain.
//! Source    The identity is elementary.

use ndarray::{Array1, Array2};

use super::fold_affine::{Map, affine};
use super::{Options, known, most_elements, rewrite};
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeId, Op};

/// Rows up to this length: the diagonal is stored and multiplied as a whole matrix.
const LONGEST: usize = 8192;

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &Options) -> Result<(), Diagnostic> {
    let mut room = most_elements(graph);
    rewrite(graph, |graph, id| {
        let Some((x, map)) = find(graph, id) else { return Ok(false) };
        let Some(left) = room.checked_sub(map.mul.len() * map.mul.len()) else { return Ok(false) };
        room = left;
        let diagonal = Array2::from_diag(&Array1::from(map.mul));
        let weight = known::add_weight(graph, &format!("diagonal {}", map.label), &diagonal);
        let origin = graph.node(id).origin.clone();
        let new = graph.push(Op::Linear, &[x, weight], &origin);
        graph.replace(id, new);
        Ok(true)
    })
}

/// A value and the factor that it is multiplied by.
fn find(graph: &Graph, id: NodeId) -> Option<(NodeId, Map)> {
    let node = graph.node(id);
    let is_product = matches!(node.op, Op::Mul | Op::Div);
    if !is_product || node.shape.len() < 2 || node.shape.last().is_none_or(|&d| d > LONGEST) {
        return None;
    }
    let (_, factor, _) = known::split(graph, id)?;
    matches!(graph.node(factor).op, Op::Weight { .. }).then(|| affine(graph, id))?
}
