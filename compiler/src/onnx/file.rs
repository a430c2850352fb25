//! A model file, decoded: its operator set known, its live nodes in topological order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use prost::Message;
use prost::bytes::Bytes;

use super::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use super::{functions, tensor};
use crate::diagnostic::{Code, Diagnostic};

/// Versions of the standard operator set that the importer knows.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;

/// See the module head.
pub struct Model {
    /// File name, for messages.
    pub name: String,
    /// Folder of the file, for data in other files.
    pub dir: PathBuf,
    /// Size in bytes of the file, and of others in which its weights lie.
    pub bytes: usize,
    /// Version of the standard operator set.
    pub opset: i64,
    /// The computation.
    pub graph: GraphProto,
    /// Version of the standard operator set for each node: that of the function that it is from, else the model's.
    pub opsets: Vec<i64>,
    /// Indices of the nodes that an output depends on, operands first. Files do occur whose nodes are in no such order.
    pub order: Vec<usize>,
}

/// Reads and decodes a file.
pub fn load(path: &Path) -> Result<Model, Diagnostic> {
    let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
    super::foreign::check(path)?;
    let bytes = std::fs::read(path).map_err(|e| {
        Diagnostic::new(Code::FileUnreadable, "the model cannot be read")
            .at(path.display().to_string())
            .because(format!("{e}."))
    })?;
    let size = bytes.len();
    let corrupt = |why: String| {
        Diagnostic::new(Code::BrokenModel, "this is not a valid ONNX model").at(name.clone()).because(why)
    };
    let model = ModelProto::decode(Bytes::from(bytes)).map_err(|e| {
        // The innermost message and what is wrong with it; a path of all messages around it can be very long.
        let text = e.to_string();
        let mut parts: Vec<&str> = text.rsplitn(3, ": ").take(2).collect();
        parts.reverse();
        corrupt(format!("{}; the file has {size} bytes.", parts.join(": ")))
            .help("fetch or export the file again, it may be truncated")
    })?;
    let mut graph = model.graph.ok_or_else(|| corrupt("It holds no graph.".into()))?;
    if graph.output.is_empty() {
        return Err(corrupt("Its graph has no output.".into()));
    }
    let opset = standard(&model.opset_import).ok_or_else(|| corrupt("It imports no standard operator set.".into()))?;
    if !OPSETS.contains(&opset) {
        return Err(Diagnostic::new(Code::Opset, format!("operator set {opset} is not supported"))
            .at(name)
            .because(format!("Versions {} to {} are.", OPSETS.start(), OPSETS.end()))
            .help("export the model with opset_version=17"));
    }
    let opsets = functions::expand(&mut graph, &model.functions, opset, size).map_err(corrupt)?;
    let order = order(&graph).map_err(corrupt)?;
    let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let bytes = size + tensor::size_of_others(&graph.initializer, &dir);
    Ok(Model { name, dir, bytes, opset, graph, opsets, order })
}

/// Version of the standard operator set.
pub fn standard(imports: &[OperatorSetIdProto]) -> Option<i64> {
    imports.iter().find(|o| is_standard(o.domain())).map(OperatorSetIdProto::version)
}

/// Names that a node reads: its operands, and what the graphs among its attributes read from outside.
pub fn reads(node: &NodeProto) -> Vec<&str> {
    let operands = node.input.iter().map(String::as_str);
    let graphs = node.attribute.iter().filter_map(|a| a.g.as_deref());
    operands.chain(graphs.flat_map(captured)).filter(|name| !name.is_empty()).collect()
}

/// Names that a graph inside another one reads from there.
fn captured(graph: &GraphProto) -> Vec<&str> {
    let mut known: HashSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
    known.extend(graph.input.iter().map(ValueInfoProto::name));
    known.extend(graph.node.iter().flat_map(|node| &node.output).map(String::as_str));
    let inner = graph.node.iter().flat_map(reads).chain(graph.output.iter().map(ValueInfoProto::name));
    inner.filter(|name| !known.contains(name)).collect()
}

/// Whether a domain is the standard one.
pub fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// What a node is called in messages: its name, or its operator and first result.
pub fn title(node: &NodeProto) -> String {
    match node.name() {
        "" => format!("{} {}", node.op_type(), node.output.first().map_or("", String::as_str)),
        name => name.to_string(),
    }
}

/// Live nodes, operands first, ties by position in the file.
fn order(graph: &GraphProto) -> Result<Vec<usize>, String> {
    let lists: [(&str, Vec<&str>); 3] = [
        ("inputs", graph.input.iter().map(ValueInfoProto::name).collect()),
        ("weights", graph.initializer.iter().map(TensorProto::name).collect()),
        ("outputs", graph.output.iter().map(ValueInfoProto::name).collect()),
    ];
    for (kind, names) in lists {
        let mut seen = HashSet::new();
        if let Some(name) = names.into_iter().find(|name| !seen.insert(*name)) {
            return Err(format!("Two {kind} are called `{name}`."));
        }
    }

    let mut source: HashMap<&str, Option<usize>> = HashMap::new();
    for name in graph.input.iter().map(|i| i.name()).chain(graph.initializer.iter().map(|t| t.name())) {
        source.insert(name, None);
    }
    for (i, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if source.insert(output, Some(i)).is_some() {
                return Err(format!("`{output}` is defined twice, the second time by node \"{}\".", title(node)));
            }
        }
    }

    let mut live = HashSet::new();
    let mut stack = Vec::new();
    for output in &graph.output {
        match source.get(output.name()) {
            Some(&origin) => stack.extend(origin),
            None => return Err(format!("Output `{}` is defined by nothing.", output.name())),
        }
    }
    let mut readers: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut missing: HashMap<usize, usize> = HashMap::new();
    while let Some(i) = stack.pop() {
        if !live.insert(i) {
            continue;
        }
        missing.insert(i, 0);
        for input in reads(&graph.node[i]) {
            match source.get(input) {
                Some(Some(from)) => {
                    readers.entry(*from).or_default().push(i);
                    *missing.entry(i).or_default() += 1;
                    stack.push(*from);
                }
                Some(None) => {}
                None => {
                    return Err(format!("Node \"{}\" reads `{input}`, which nothing defines.", title(&graph.node[i])));
                }
            }
        }
    }

    let mut ready: BinaryHeap<_> = missing.iter().filter(|m| *m.1 == 0).map(|m| Reverse(*m.0)).collect();
    let mut order = Vec::with_capacity(live.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for reader in readers.get(&i).into_iter().flatten() {
            let left = missing.get_mut(reader).expect("readers are live");
            *left -= 1;
            if *left == 0 {
                ready.push(Reverse(*reader));
            }
        }
    }
    if order.len() < live.len() {
        return Err("Its nodes depend on each other in a circle.".into());
    }
    Ok(order)
}
