//! Operators that a model defines itself, put in the place of the nodes that use them.

use std::collections::HashMap;

use prost::Message;

use super::file::{standard, title};
use super::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};

/// Functions that may use each other, one inside the other.
const MAX_DEPTH: usize = 16;

/// Bytes that writing functions out may add, beside the size of the file: nodes that are used many times, each under
/// another name.
const ROOM: usize = 1 << 23;

/// What a node takes beside its names and attributes.
const NODE: usize = 256;

/// Writes all functions out, and gives the version of the standard operator set of each node. `size` is the file's.
pub fn expand(
    graph: &mut GraphProto,
    functions: &[FunctionProto],
    opset: i64,
    size: usize,
) -> Result<Vec<i64>, String> {
    if functions.is_empty() {
        return Ok(vec![opset; graph.node.len()]);
    }
    let known = functions.iter().map(|f| ((f.domain(), f.name()), f)).collect();
    let mut out = Out { known, nodes: Vec::new(), opsets: Vec::new(), count: 0, room: ROOM + size };
    for node in std::mem::take(&mut graph.node) {
        out.add(node, opset, 0)?;
    }
    graph.node = out.nodes;
    Ok(out.opsets)
}

struct Out<'a> {
    known: HashMap<(&'a str, &'a str), &'a FunctionProto>,
    nodes: Vec<NodeProto>,
    opsets: Vec<i64>,
    /// Uses of functions so far: names inside differ by it.
    count: usize,
    /// Bytes that may still be added.
    room: usize,
}

impl Out<'_> {
    fn add(&mut self, node: NodeProto, opset: i64, depth: usize) -> Result<(), String> {
        let Some(&function) = self.known.get(&(node.domain(), node.op_type())) else {
            self.nodes.push(node);
            self.opsets.push(opset);
            return Ok(());
        };
        if depth == MAX_DEPTH {
            return Err(format!("Its functions use each other more than {MAX_DEPTH} deep."));
        }
        self.count += 1;
        let prefix = format!("{}/{}/", title(&node), self.count);
        let mut names: HashMap<String, String> = HashMap::new();
        for (i, name) in function.input.iter().enumerate() {
            names.insert(name.clone(), node.input.get(i).cloned().unwrap_or_default());
        }
        for (i, name) in function.output.iter().enumerate() {
            let outer = node.output.get(i).filter(|outer| !outer.is_empty()).cloned();
            let outer = outer.unwrap_or_else(|| format!("{prefix}{name}"));
            if let Some(operand) = names.get(name) {
                // A result that is an operand as it is.
                let (input, output) = (vec![operand.clone()], vec![outer]);
                let op_type = Some("Identity".to_owned());
                self.nodes.push(NodeProto { input, output, op_type, ..NodeProto::default() });
                self.opsets.push(opset);
                continue;
            }
            names.insert(name.clone(), outer);
        }
        let opset = standard(&function.opset_import).unwrap_or(opset);
        for inner in &function.node {
            let mut inner = inner.clone();
            rename(&mut inner, &names, &prefix);
            inner.attribute = std::mem::take(&mut inner.attribute)
                .into_iter()
                .filter_map(|attribute| passed(attribute, &node, function))
                .collect();
            inner.name = Some(format!("{prefix}{}", title(&inner)));
            // Uses of functions count too, though they leave no node.
            let left = self.room.checked_sub(NODE + inner.encoded_len());
            self.room = left.ok_or("Its functions use each other so often that they make far more than the file.")?;
            self.add(inner, opset, depth + 1)?;
        }
        Ok(())
    }
}

/// The attribute itself, or what it stands for: the caller's, or the function's default.
fn passed(attribute: AttributeProto, caller: &NodeProto, function: &FunctionProto) -> Option<AttributeProto> {
    let Some(wanted) = attribute.ref_attr_name.as_deref().filter(|name| !name.is_empty()) else {
        return Some(attribute);
    };
    let found = caller.attribute.iter().chain(&function.attribute_proto).find(|a| a.name() == wanted)?;
    Some(AttributeProto { name: attribute.name, ..found.clone() })
}

/// Gives names that are not the caller's a prefix, in graphs inside too.
fn rename(node: &mut NodeProto, names: &HashMap<String, String>, prefix: &str) {
    let new = |name: &mut String| {
        if !name.is_empty() {
            *name = names.get(name.as_str()).cloned().unwrap_or_else(|| format!("{prefix}{name}"));
        }
    };
    node.input.iter_mut().chain(&mut node.output).for_each(new);
    for graph in node.attribute.iter_mut().filter_map(|a| a.g.as_deref_mut()) {
        let values = graph.input.iter_mut().chain(&mut graph.output).filter_map(|v| v.name.as_mut());
        values.chain(graph.initializer.iter_mut().filter_map(|t| t.name.as_mut())).for_each(new);
        graph.node.iter_mut().for_each(|inner| rename(inner, names, prefix));
    }
}
