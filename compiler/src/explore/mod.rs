//! A program as a picture: by layer, ONNX node and instruction, with owner, width, scale, protocol and cost of what flows
//! between them. `sscc graph` writes it for Graphviz ([`dot`]) or as a page that folds and zooms ([`page`]).

pub mod dot;
pub mod page;

use std::collections::BTreeMap;

use ir::cost::{self, Cost};
use ir::{Kind, Op, Program, Value};

use crate::layers::Layers;

/// An entry of a program with what pictures show of it.
pub struct Picture<'a> {
    program: &'a Program,
    layers: Layers,
    cost: Cost,
    /// ONNX nodes in the order of their first instructions: their origins.
    nodes: Vec<u32>,
    /// The node of each instruction; none for `round` and `send`.
    node_of: Vec<Option<usize>>,
    /// The round or one-way message in which an instruction's message goes.
    message: Vec<Option<Message>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Round(u32),
    Send(u32),
}

/// A value that flows to a reader.
struct Flow<'a> {
    /// Who knows it.
    owner: &'static str,
    /// Bits and fractional bits.
    width: String,
    /// Dimensions.
    shape: String,
    /// The op that reads it.
    protocol: &'static str,
    /// Bytes that both parties send, and bytes of material, that are due to this reader.
    bytes: (u64, u64),
    /// The instruction that makes it, or the weight that it is.
    source: Source<'a>,
}

enum Source<'a> {
    Value(Value),
    Weight(&'a str),
}

impl<'a> Picture<'a> {
    /// Of a scheduled entry.
    pub fn new(program: &'a Program) -> Picture<'a> {
        let (mut nodes, mut places) = (Vec::new(), BTreeMap::new());
        let mut node_of = Vec::with_capacity(program.instrs.len());
        let mut message = vec![None; program.instrs.len()];
        let (mut waiting, mut rounds, mut sends) = (Vec::new(), 0, 0);
        for (index, instr) in program.instrs.iter().enumerate() {
            node_of.push(instr.origin.map(|origin| {
                *places.entry(origin.0).or_insert_with(|| {
                    nodes.push(origin.0);
                    nodes.len() - 1
                })
            }));
            let leaves = match instr.op {
                ref op if op.exchanges() || matches!(op, Op::Linear { .. }) => {
                    waiting.push(index);
                    continue;
                }
                Op::Round {} => {
                    rounds += 1;
                    Message::Round(rounds)
                }
                Op::Send {} => {
                    sends += 1;
                    Message::Send(sends)
                }
                _ => continue,
            };
            waiting.drain(..).for_each(|i: usize| message[i] = Some(leaves));
        }
        Picture { program, layers: Layers::new(program), cost: cost::cost(program), nodes, node_of, message }
    }

    fn name(&self, node: usize) -> &'a str {
        &self.program.origins[self.nodes[node] as usize]
    }

    fn layer(&self, node: usize) -> usize {
        self.layers.of(self.name(node))
    }

    /// Bytes that both parties send for an instruction, and those of its material.
    fn bytes(&self, index: usize) -> (u64, u64) {
        let cost = &self.cost.per_instruction[index];
        (
            cost.client_payload_bytes + cost.server_payload_bytes,
            2 * cost.dealt.to_both_bytes + cost.dealt.to_server_bytes,
        )
    }

    /// What an instruction reads. Its cost stands with the first.
    fn flows(&self, index: usize) -> Vec<Flow<'a>> {
        let op = &self.program.instrs[index].op;
        let mut flows: Vec<Flow> = op
            .operands()
            .map(|value| {
                let ty = self.program.ty(value);
                let owner = match (&self.program.instrs[value.index()].op, ty.kind) {
                    (Op::Input { .. }, _) => "client",
                    (_, Kind::Share) => "shared",
                    (_, Kind::Opened { .. }) => "masked, both",
                };
                Flow {
                    owner,
                    width: format!("{}.{}", ty.width, ty.scale),
                    shape: ty.shape.to_string(),
                    protocol: op.mnemonic(),
                    bytes: (0, 0),
                    source: Source::Value(value),
                }
            })
            .collect();
        if let Op::Linear { weight, .. }
        | Op::AddWeight { weight, .. }
        | Op::AddRow { weight, .. }
        | Op::AddBand { weight, .. } = op
        {
            let declared = &self.program.weights[weight.index()];
            flows.push(Flow {
                owner: "server",
                width: format!(".{}", declared.scale),
                shape: declared.shape.to_string(),
                protocol: op.mnemonic(),
                bytes: (0, 0),
                source: Source::Weight(&declared.name),
            });
        }
        if let Some(first) = flows.first_mut() {
            first.bytes = self.bytes(index);
        }
        flows
    }
}
