//! Which layer of the model an instruction belongs to, for people who look at a program.
//!
//! ONNX node names usually say it: `/transformer/h.3/attn/MatMul` is of layer `transformer/h.3`, the part up to the first
//! number. Where names say nothing, a layer begins at the last normalisation before an attention. What comes before
//! the first layer is `input`, what comes after the last is `output`.

use std::collections::BTreeMap;

use ir::{Op, Program};

/// Layers of a program, in the order in which they are computed.
pub struct Layers {
    /// Their names.
    pub names: Vec<String>,
    /// The layer of each ONNX node, by name.
    of: BTreeMap<String, usize>,
}

impl Layers {
    /// The layer of an ONNX node; the first for one that has no instructions.
    pub fn of(&self, origin: &str) -> usize {
        self.of.get(origin).copied().unwrap_or(0)
    }

    /// Reads a program.
    pub fn new(program: &Program) -> Layers {
        let nodes = nodes(program);
        let named: Vec<Option<String>> = nodes.iter().map(|(name, _)| prefix(name)).collect();
        let mut distinct: Vec<&String> = named.iter().flatten().collect();
        distinct.sort();
        distinct.dedup();
        let labels = if distinct.len() > 1 { by_name(&named) } else { by_attention(&nodes) };
        let mut layers = Layers { names: Vec::new(), of: BTreeMap::new() };
        for ((name, _), label) in nodes.iter().zip(labels) {
            let index = layers.names.iter().position(|n| *n == label).unwrap_or_else(|| {
                layers.names.push(label);
                layers.names.len() - 1
            });
            layers.of.insert((*name).to_owned(), index);
        }
        layers
    }
}

/// What a node does, as far as it tells layers apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Norm,
    Attention,
    Other,
}

/// ONNX nodes in the order of their first instructions.
fn nodes(program: &Program) -> Vec<(&str, Role)> {
    let mut nodes: Vec<(&str, Role)> = Vec::new();
    let mut places: BTreeMap<u32, usize> = BTreeMap::new();
    for instr in &program.instrs {
        let Some(origin) = instr.origin else { continue };
        let at = *places.entry(origin.0).or_insert_with(|| {
            nodes.push((&program.origins[origin.index()], Role::Other));
            nodes.len() - 1
        });
        match instr.op {
            Op::SumSquares { .. } => nodes[at].1 = Role::Norm,
            Op::Sddmm { .. } => nodes[at].1 = Role::Attention,
            _ => {}
        }
    }
    nodes
}

/// The part of a node's name up to its first number, if that stands for itself: `h.3`, `layers/3`, `block_3`.
fn prefix(name: &str) -> Option<String> {
    let separators = ['/', '.', '_', ':'];
    let mut from = 0;
    for part in name.split(separators) {
        let to = from + part.len();
        if !part.is_empty() && from > 1 && part.bytes().all(|b| b.is_ascii_digit()) {
            // A number at the end of the name counts nodes of a kind, not layers.
            return (to < name.len()).then(|| name[..to].trim_start_matches(separators).to_owned());
        }
        from = to + 1;
    }
    None
}

fn by_name(named: &[Option<String>]) -> Vec<String> {
    let last = named.iter().rposition(Option::is_some).unwrap_or(0);
    let mut current = "input".to_owned();
    named
        .iter()
        .enumerate()
        .map(|(at, name)| {
            if let Some(name) = name {
                current.clone_from(name);
            }
            if at > last { "output".to_owned() } else { current.clone() }
        })
        .collect()
}

fn by_attention(nodes: &[(&str, Role)]) -> Vec<String> {
    let attentions: Vec<usize> = (0..nodes.len()).filter(|&i| nodes[i].1 == Role::Attention).collect();
    let mut labels = vec!["input".to_owned(); nodes.len()];
    let mut before = 0;
    for (number, &at) in attentions.iter().enumerate() {
        let start = (before..at).rev().find(|&i| nodes[i].1 == Role::Norm).unwrap_or(before);
        labels[start..].fill(format!("layer {number}"));
        before = at + 1;
    }
    // The head begins at the last normalisation, if the last layer has one of its own before that.
    if let Some(&at) = attentions.last() {
        let norms: Vec<usize> = (at..nodes.len()).filter(|&i| nodes[i].1 == Role::Norm).collect();
        if let [_, .., last] = norms[..] {
            labels[last..].fill("output".to_owned());
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_layers() {
        for (name, layer) in [
            ("/transformer/h.3/attn/MatMul", Some("transformer/h.3")),
            ("/model/layers.12/mlp/act_fn/Mul_1", Some("model/layers.12")),
            ("encoder/layer_0/add", Some("encoder/layer_0")),
            ("/lm_head/MatMul", None),
            ("node_MatMul_17", None),
            ("/model/norm/Mul_1", None),
            ("", None),
        ] {
            assert_eq!(prefix(name).as_deref(), layer, "{name}");
        }
        let named = [None, Some("h.0"), None, Some("h.1"), None].map(|n: Option<&str>| n.map(str::to_owned));
        assert_eq!(by_name(&named), ["input", "h.0", "h.0", "h.1", "output"]);
    }

    #[test]
    fn attentions_tell_layers() {
        use Role::*;
        let roles = [Other, Norm, Attention, Norm, Other, Norm, Attention, Norm, Other, Norm, Other];
        let nodes: Vec<(&str, Role)> = roles.into_iter().map(|role| ("", role)).collect();
        let layers = by_attention(&nodes);
        let short: Vec<&str> = layers.iter().map(|l| l.trim_start_matches("layer ")).collect();
        assert_eq!(short, ["input", "0", "0", "0", "0", "1", "1", "1", "1", "output", "output"]);
    }
}
