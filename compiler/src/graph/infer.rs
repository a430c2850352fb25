//! The type of a node's result, from its operation and its operands.
//!
//! One function serves the verifier (the recorded type must be the inferred one) and the passes ([`Graph::push`], which
//! records it). Semantics are those stated at [`Op`].

use petgraph::Direction;
use petgraph::visit::EdgeRef;

use super::{DType, Graph, Node, NodeId, Op, Owner};

/// Shape under numpy's broadcasting rule, or `None` where the shapes do not fit.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// Least and greatest number of operands.
pub fn arity(op: &Op) -> (usize, usize) {
    match op {
        Op::Input { .. } | Op::Const(_) | Op::Weight { .. } => (0, 0),
        Op::Sqrt
        | Op::Erf
        | Op::Tanh
        | Op::Exp
        | Op::Neg
        | Op::Reciprocal
        | Op::Sigmoid
        | Op::Relu
        | Op::IsNaN
        | Op::ToF32
        | Op::Reshape
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Expand
        | Op::Softmax { .. }
        | Op::ReduceMean { .. }
        | Op::ReduceSum { .. }
        | Op::Normalize { .. }
        | Op::Gelu(_)
        | Op::Pick { .. } => (1, 1),
        Op::Gather { .. }
        | Op::MatMul
        | Op::Add
        | Op::Sub
        | Op::Mul
        | Op::Div
        | Op::Pow
        | Op::Embed
        | Op::AddWeight => (2, 2),
        Op::LayerNormalization { .. } | Op::Linear => (2, 3),
        Op::Where | Op::Attention { .. } => (3, 3),
        Op::Concat { .. } => (1, usize::MAX),
    }
}

/// Shape and element type of the result of `op`. `claimed` is the recorded shape; only `Input`, `Reshape` and `Expand`
/// take their shape from it. The error is a sentence without a place.
pub fn infer(op: &Op, operands: &[&Node], claimed: &[usize]) -> Result<(Vec<usize>, DType), String> {
    let (least, most) = arity(op);
    if operands.len() < least || operands.len() > most {
        let wanted = match (least, most) {
            (a, b) if a == b => format!("{a}"),
            (a, usize::MAX) => format!("at least {a}"),
            (a, b) => format!("{a} to {b}"),
        };
        return Err(format!("takes {wanted} operands, not {}", operands.len()));
    }
    let shape = |i: usize| operands[i].shape.as_slice();
    let is = |i: usize, dtype: DType| match operands[i].dtype == dtype {
        true => Ok(()),
        false => Err(format!("operand {i} is {}, not {}", operands[i].dtype.name(), dtype.name())),
    };
    let floats = |n: usize| (0..n).try_for_each(|i| is(i, DType::F32));
    let has_axis = |axis: usize, rank: usize| match axis < rank {
        true => Ok(()),
        false => Err(format!("axis {axis} of a tensor of rank {rank}")),
    };
    let last = |i: usize| shape(i).last().copied().ok_or_else(|| format!("operand {i} is a scalar"));
    let joined = |a: &[usize], b: &[usize]| broadcast(a, b).ok_or_else(|| format!("{a:?} and {b:?} do not broadcast"));

    match op {
        Op::Input { .. } => Ok((claimed.to_vec(), DType::F32)),
        Op::Const(value) => Ok((value.shape().to_vec(), value.dtype())),
        Op::Weight { value, .. } => Ok((value.shape().to_vec(), DType::F32)),
        Op::Gather { axis } => {
            is(1, DType::I64)?;
            has_axis(*axis, shape(0).len())?;
            let result = [&shape(0)[..*axis], shape(1), &shape(0)[axis + 1..]].concat();
            Ok((result, operands[0].dtype))
        }
        Op::MatMul => {
            floats(2)?;
            Ok((matmul(shape(0), shape(1))?, DType::F32))
        }
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Pow => {
            is(1, operands[0].dtype)?;
            Ok((joined(shape(0), shape(1))?, operands[0].dtype))
        }
        Op::Sqrt
        | Op::Erf
        | Op::Tanh
        | Op::Exp
        | Op::Neg
        | Op::Reciprocal
        | Op::Sigmoid
        | Op::Relu
        | Op::Gelu(_)
        | Op::Normalize { .. } => {
            floats(1)?;
            if matches!(op, Op::Normalize { .. }) {
                last(0)?;
            }
            Ok((shape(0).to_vec(), DType::F32))
        }
        Op::Where => {
            is(0, DType::Bool)?;
            is(2, operands[1].dtype)?;
            Ok((joined(shape(0), &joined(shape(1), shape(2))?)?, operands[1].dtype))
        }
        Op::IsNaN => {
            floats(1)?;
            Ok((shape(0).to_vec(), DType::Bool))
        }
        Op::ToF32 => Ok((shape(0).to_vec(), DType::F32)),
        Op::Reshape => {
            let elements = |s: &[usize]| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            match elements(claimed).is_some_and(|n| Some(n) == elements(shape(0))) {
                true => Ok((claimed.to_vec(), operands[0].dtype)),
                false => Err(format!("{:?} has not as many elements as {claimed:?}", shape(0))),
            }
        }
        Op::Transpose { perm } => {
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            match sorted.iter().copied().eq(0..shape(0).len()) {
                true => Ok((perm.iter().map(|&axis| shape(0)[axis]).collect(), operands[0].dtype)),
                false => Err(format!("{perm:?} is no permutation of {} axes", shape(0).len())),
            }
        }
        Op::Slice { axis, from, to } => {
            has_axis(*axis, shape(0).len())?;
            if from > to || *to > shape(0)[*axis] {
                return Err(format!("{from}..{to} of an axis of {} elements", shape(0)[*axis]));
            }
            let mut result = shape(0).to_vec();
            result[*axis] = to - from;
            Ok((result, operands[0].dtype))
        }
        Op::Concat { axis } => {
            has_axis(*axis, shape(0).len())?;
            let mut result = shape(0).to_vec();
            for i in 1..operands.len() {
                is(i, operands[0].dtype)?;
                let rest =
                    |s: &[usize]| s.iter().enumerate().filter(|d| d.0 != *axis).map(|d| *d.1).collect::<Vec<_>>();
                if shape(i).len() != result.len() || rest(shape(i)) != rest(&result) {
                    return Err(format!("{:?} and {:?} differ beside axis {axis}", shape(0), shape(i)));
                }
                let sum = result[*axis].checked_add(shape(i)[*axis]);
                result[*axis] = sum.ok_or("the axis is too long")?;
            }
            Ok((result, operands[0].dtype))
        }
        Op::Expand => match broadcast(shape(0), claimed).is_some_and(|s| s == claimed) {
            true => Ok((claimed.to_vec(), operands[0].dtype)),
            false => Err(format!("{:?} does not broadcast to {claimed:?}", shape(0))),
        },
        Op::Softmax { axis } => {
            floats(1)?;
            has_axis(*axis, shape(0).len())?;
            Ok((shape(0).to_vec(), DType::F32))
        }
        Op::ReduceMean { axes } | Op::ReduceSum { axes } => {
            floats(1)?;
            let mut result = shape(0).to_vec();
            for &axis in axes {
                has_axis(axis, result.len())?;
                result[axis] = 1;
            }
            Ok((result, DType::F32))
        }
        Op::LayerNormalization { .. } => {
            floats(operands.len())?;
            let width = last(0)?;
            for i in 1..operands.len() {
                if shape(i) != [width] {
                    return Err(format!("operand {i} is {:?}, not [{width}]", shape(i)));
                }
            }
            Ok((shape(0).to_vec(), DType::F32))
        }
        Op::Embed => {
            is(0, DType::I64)?;
            is(1, DType::F32)?;
            match shape(1) {
                &[_, width] => Ok(([shape(0), &[width]].concat(), DType::F32)),
                other => Err(format!("the table is {other:?}, not a matrix")),
            }
        }
        Op::Linear => {
            floats(operands.len())?;
            let width = last(0)?;
            let &[rows, columns] = shape(1) else {
                return Err(format!("the weight is {:?}, not a matrix", shape(1)));
            };
            if rows != width {
                return Err(format!("x has {width} columns, the weight {rows} rows"));
            }
            if operands.len() == 3 && shape(2) != [columns] {
                return Err(format!("the bias is {:?}, not [{columns}]", shape(2)));
            }
            let rank = shape(0).len();
            Ok(([&shape(0)[..rank - 1], &[columns]].concat(), DType::F32))
        }
        Op::AddWeight => {
            floats(2)?;
            match joined(shape(0), shape(1))? {
                result if result == shape(0) => Ok((result, DType::F32)),
                _ => Err(format!("{:?} does not broadcast to {:?}", shape(1), shape(0))),
            }
        }
        Op::Attention { heads, pattern } => {
            floats(3)?;
            let (&[batch, rows, dq], &[bk, columns, dk], &[bv, cv, dv]) = (shape(0), shape(1), shape(2)) else {
                return Err("q, k and v are not all of rank 3".into());
            };
            if bk != batch || bv != batch || cv != columns || dk != dq {
                return Err(format!("q {:?}, k {:?} and v {:?} do not fit", shape(0), shape(1), shape(2)));
            }
            if *heads == 0 || dq % heads != 0 || dv % heads != 0 {
                return Err(format!("{dq} and {dv} columns do not divide into {heads} heads"));
            }
            if pattern.rows.len() != rows || pattern.columns as usize != columns {
                return Err(format!("the pattern is {}x{}, not {rows}x{columns}", pattern.rows.len(), pattern.columns));
            }
            match pattern.rows.iter().position(|&(from, to)| from >= to || to > pattern.columns) {
                Some(row) => Err(format!("row {row} of the pattern keeps no column, or one beyond the last")),
                None => Ok((vec![batch, rows, dv], DType::F32)),
            }
        }
        Op::Pick { axis } => {
            has_axis(*axis, shape(0).len())?;
            if shape(0)[*axis] == 0 {
                return Err(format!("axis {axis} is empty"));
            }
            let mut result = shape(0).to_vec();
            result[*axis] = 1;
            Ok((result, operands[0].dtype))
        }
    }
}

fn matmul(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let misfit = || format!("{a:?} and {b:?} do not multiply");
    if a.is_empty() || b.is_empty() {
        return Err(misfit());
    }
    // A vector stands for a row on the left and for a column on the right; its dimension then vanishes.
    let left = if a.len() == 1 { vec![1, a[0]] } else { a.to_vec() };
    let right = if b.len() == 1 { vec![b[0], 1] } else { b.to_vec() };
    let (batch_a, tail_a) = left.split_at(left.len() - 2);
    let (batch_b, tail_b) = right.split_at(right.len() - 2);
    if tail_a[1] != tail_b[0] {
        return Err(misfit());
    }
    let mut result = broadcast(batch_a, batch_b).ok_or_else(misfit)?;
    if a.len() > 1 {
        result.push(tail_a[0]);
    }
    if b.len() > 1 {
        result.push(tail_b[1]);
    }
    Ok(result)
}

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

    fn push_shaped(&mut self, op: Op, operands: &[NodeId], claimed: &[usize], origin: &str) -> NodeId {
        let nodes: Vec<&Node> = operands.iter().map(|&id| self.node(id)).collect();
        let (shape, dtype) = infer(&op, &nodes, claimed).expect("a pass builds operations that fit their operands");
        let owner = match op {
            Op::Weight { .. } => Owner::Server,
            _ => owner(&nodes),
        };
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
