//! For Graphviz: a cluster for each layer, a box for each ONNX node, an edge for each value that one makes and another
//! reads.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Picture, Source};
use crate::report::size;

/// Protocols that read an edge, and the bytes that either party sends for it.
type Load<'a> = (Vec<&'a str>, u64, u64);

/// The text of a `.dot` file.
pub fn dot(picture: &Picture) -> String {
    let mut out = format!("digraph {} {{\n", quoted(&picture.program.name));
    out.push_str("  rankdir=TB; compound=true;\n  node [shape=box, fontname=\"Helvetica\", fontsize=10];\n");
    out.push_str("  edge [fontname=\"Helvetica\", fontsize=8];\n");
    let nodes = picture.nodes.len();
    for (layer, name) in picture.layers.names.iter().enumerate() {
        let _ = writeln!(out, "  subgraph cluster_{layer} {{\n    label={};", quoted(name));
        for node in (0..nodes).filter(|&node| picture.layer(node) == layer) {
            let own = (0..picture.node_of.len()).filter(|&i| picture.node_of[i] == Some(node));
            let (mut sent, mut material, mut protocols) = (0, 0, Vec::new());
            for index in own {
                let (bytes, dealt) = picture.bytes(index);
                (sent, material) = (sent + bytes, material + dealt);
                let name = picture.program.instrs[index].op.mnemonic();
                if bytes + dealt > 0 && !protocols.contains(&name) {
                    protocols.push(name);
                }
            }
            let cost = match protocols.is_empty() {
                true => "local".to_owned(),
                false => format!("{}\n{} sent, {} material", protocols.join(", "), size(sent), size(material)),
            };
            let label = format!("{}\n{cost}", picture.name(node));
            let _ = writeln!(out, "    n{node} [label={}];", quoted(&label));
        }
        out.push_str("  }\n");
    }
    // A weight is a source of its own; a value that several instructions of a node read is one edge.
    let mut weights: BTreeMap<&str, usize> = BTreeMap::new();
    let mut edges: BTreeMap<(String, usize, String), Load> = BTreeMap::new();
    for (index, node) in picture.node_of.iter().enumerate() {
        let Some(node) = *node else { continue };
        for flow in picture.flows(index) {
            let from = match flow.source {
                Source::Value(value) => match picture.node_of[value.index()] {
                    Some(from) if from != node => format!("n{from}"),
                    _ => continue,
                },
                Source::Weight(name) => {
                    let count = weights.len();
                    format!("w{}", weights.entry(name).or_insert(count))
                }
            };
            let what = format!("{} <{}> {}", flow.owner, flow.width, flow.shape);
            let edge = edges.entry((from, node, what)).or_default();
            if !edge.0.contains(&flow.protocol) {
                edge.0.push(flow.protocol);
            }
            edge.1 += flow.bytes.0;
            edge.2 += flow.bytes.1;
        }
    }
    for (name, number) in &weights {
        let _ = writeln!(out, "  w{number} [label={}, shape=cylinder];", quoted(name));
    }
    for ((from, to, what), (protocols, sent, material)) in &edges {
        let cost = match (sent, material) {
            (0, 0) => "local".to_owned(),
            _ => format!("{} sent, {} material", size(*sent), size(*material)),
        };
        let label = format!("{what}\n{}: {cost}", protocols.join(", "));
        let _ = writeln!(out, "  {from} -> n{to} [label={}];", quoted(&label));
    }
    out.push_str("}\n");
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
