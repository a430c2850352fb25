//! Adding operations to a graph whose type and owner follow from their operands: what passes build by.

use petgraph::Direction;
use petgraph::visit::EdgeRef;

use super::shape::{Typed, infer};
use super::{DType, Graph, Node, NodeId, Op, Owner};

/// Owner of a result: nobody knows more than all operands' owners do.
pub fn owner(operands: &[&Node]) -> Owner {
    operands.iter().fold(Owner::Public, |owner, operand| owner.join(operand.owner))
}

impl Graph {
    /// Adds an operation whose result type follows from its operands. An operation that does not fit them is the
    /// calling pass's mistake.
    pub fn push(&mut self, op: Op, operands: &[NodeId], origin: &str) -> NodeId {
        assert!(!matches!(op, Op::Input { .. } | Op::Reshape | Op::Expand), "its shape does not follow from operands");
        self.push_shaped(op, operands, &[], origin)
    }

    /// `operand` in another shape; the operand itself where it has that shape already.
    pub fn push_reshape(&mut self, operand: NodeId, shape: &[usize], origin: &str) -> NodeId {
        match self.node(operand).shape == shape {
            true => operand,
            false => self.push_shaped(Op::Reshape, &[operand], shape, origin),
        }
    }

    /// `operand` copied along axes of one; the operand itself where it has that shape already.
    pub fn push_expand(&mut self, operand: NodeId, shape: &[usize], origin: &str) -> NodeId {
        match self.node(operand).shape == shape {
            true => operand,
            false => self.push_shaped(Op::Expand, &[operand], shape, origin),
        }
    }

    fn push_shaped(&mut self, op: Op, operands: &[NodeId], claimed: &[usize], origin: &str) -> NodeId {
        let nodes: Vec<&Node> = operands.iter().map(|&id| self.node(id)).collect();
        let typed: Vec<Typed> = nodes.iter().map(|n| (n.shape.clone(), n.dtype)).collect();
        let owner = match op {
            Op::Weight { .. } => Owner::Server,
            _ => owner(&nodes),
        };
        let (shape, dtype) = infer(&op, &typed, (claimed, DType::F32)).expect("a pass builds what fits its operands");
        self.add(Node { op, shape, dtype, owner, origin: origin.to_owned() }, operands)
    }

    /// Makes `id` read `operand` in `slot`.
    pub fn set_operand(&mut self, id: NodeId, slot: usize, operand: NodeId) {
        let edges = self.dag.edges_directed(id, Direction::Incoming);
        let old: Vec<_> = edges.filter(|e| *e.weight() as usize == slot).map(|e| e.id()).collect();
        for edge in old {
            self.dag.remove_edge(edge);
        }
        self.dag.add_edge(operand, id, slot as u32);
    }
}
