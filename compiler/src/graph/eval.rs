//! The float evaluator: what a graph computes, in 32-bit floats, for calibration, as the reference of every pass and of
//! the protocols. Values are freed after their last reader.

use std::collections::{BTreeMap, HashMap};

use super::kernel::{View, apply};
use super::shape::infer;
use super::{Graph, NodeId, Op, Tensor};
use crate::diagnostic::{Code, Diagnostic};

/// Outputs of the graph in file order. `inputs` holds exactly the graph's inputs by ONNX name, in the shapes that the
/// graph binds (a caller with more rows than the graph's batch splits them). `position` is the index that every `Pick`
/// and `AddRow` takes, by default the last. `observe` sees the value of each input and of each computed node, in an order that
/// depends on the graph alone; constants and weights are in the graph already.
pub fn evaluate(
    graph: &Graph,
    inputs: &BTreeMap<String, Tensor>,
    position: Option<usize>,
    observe: &mut dyn FnMut(NodeId, &Tensor),
) -> Result<Vec<(String, Tensor)>, Diagnostic> {
    check_inputs(graph, inputs)?;
    let order = graph.order();
    let mut reads: HashMap<NodeId, usize> = order.iter().map(|&id| (id, graph.readers(id).len())).collect();
    for (_, id) in &graph.outputs {
        *reads.get_mut(id).expect("outputs are nodes") += 1;
    }
    let mut values: HashMap<NodeId, Tensor> = HashMap::new();
    for id in order {
        let node = graph.node(id);
        let operands = graph.operands(id);
        let value = match &node.op {
            Op::Const(_) | Op::Weight { .. } => continue,
            Op::Input { name } => inputs[name].clone(),
            op => {
                let views: Vec<View<'_>> = operands.iter().map(|&o| view(graph, &values, o)).collect();
                let typed: Vec<_> = views.iter().map(|v| (v.shape().to_vec(), v.dtype())).collect();
                infer(op, &typed, (&node.shape, node.dtype))
                    .and_then(|(shape, _)| apply(op, &views, &shape, position))
                    .map_err(|fault| {
                        Diagnostic::new(Code::Evaluation, "a node cannot be evaluated")
                            .at(format!("node \"{}\"", node.origin))
                            .because(fault)
                    })?
            }
        };
        observe(id, &value);
        for operand in operands {
            let left = reads.get_mut(&operand).expect("operands are nodes");
            *left -= 1;
            if *left == 0 {
                values.remove(&operand);
            }
        }
        if reads[&id] > 0 {
            values.insert(id, value);
        }
    }
    Ok(graph.outputs.iter().map(|(name, id)| (name.clone(), to_tensor(view(graph, &values, *id)))).collect())
}

/// The value of a node that is a source or was computed.
fn view<'a>(graph: &'a Graph, values: &'a HashMap<NodeId, Tensor>, id: NodeId) -> View<'a> {
    match &graph.node(id).op {
        Op::Const(value) => value.view(),
        Op::Weight { value, .. } => View::F32(value.view()),
        _ => values[&id].view(),
    }
}

fn to_tensor(view: View<'_>) -> Tensor {
    match view {
        View::F32(a) => Tensor::F32(a.to_owned()),
        View::I64(a) => Tensor::I64(a.to_owned()),
        View::Bool(a) => Tensor::Bool(a.to_owned()),
    }
}

/// Every input of the graph is there, in its type and shape, and nothing else.
fn check_inputs(graph: &Graph, inputs: &BTreeMap<String, Tensor>) -> Result<(), Diagnostic> {
    let mut faults = Vec::new();
    let mut names = Vec::new();
    for &id in &graph.inputs {
        let node = graph.node(id);
        let Op::Input { name } = &node.op else { panic!("a graph input is an `Input`") };
        names.push(name.as_str());
        let wants = format!("The model takes {:?} {:?}.", node.dtype, node.shape);
        match inputs.get(name) {
            None => faults.push(Diagnostic::new(Code::InputValue, format!("input `{name}` is missing")).because(wants)),
            Some(given) if (given.dtype(), given.shape()) != (node.dtype, &node.shape[..]) => faults.push(
                Diagnostic::new(Code::InputValue, format!("input `{name}` has the wrong type or shape"))
                    .because(format!("{wants} The given array is {:?} {:?}.", given.dtype(), given.shape()))
                    .help("an array of that type and shape, or other sizes with --dim"),
            ),
            Some(_) => {}
        }
    }
    for name in inputs.keys().filter(|name| !names.contains(&name.as_str())) {
        faults.push(
            Diagnostic::new(Code::InputValue, format!("the model has no input `{name}`"))
                .because(format!("Its inputs are: {}.", names.join(", "))),
        );
    }
    Diagnostic::check(faults)
}
