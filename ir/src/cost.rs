//! The exact cost of a scheduled program: rounds, messages, bytes on the socket, material and multiply-adds.
//!
//! These are claims: a run's meter must show the same numbers. Socket bytes count frame headers (see [`crate::wire`]),
//! material counts packed bytes. With the verifier's bounds on tensors and instructions no count of messages overflows;
//! those of material and multiply-adds stop at 2^64 - 1 instead of wrapping.

use crate::ahead::ahead;
use crate::choose;
use crate::liveness;
use crate::material::{self, Dealt, lift_bits, masked_weights};
use crate::op::Op;
use crate::ops::{Place, elements};
use crate::program::Program;
use crate::types::*;
use crate::wire::{message_bytes, packed_bytes};

/// What one run of a program costs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Exchanges in both directions at once.
    pub rounds: u64,
    /// Messages in one direction: `send` and `reveal`, three of a `choose`.
    pub one_way_messages: u64,
    /// Bytes that the client sends to the server, with frame headers.
    pub client_sent_bytes: u64,
    /// Those among them that it sends before it knows its input (see [`crate::ahead`]).
    pub client_ahead_bytes: u64,
    /// Bytes that the server sends to the client, with frame headers.
    pub server_sent_bytes: u64,
    /// Bytes that the dealer sends to the client.
    pub client_material_bytes: u64,
    /// Bytes that the dealer sends to the server.
    pub server_material_bytes: u64,
    /// Bytes of masked weights that the server sends to the client, once per model; for a module of several entries see
    /// [`setup_bytes`].
    pub setup_bytes: u64,
    /// Greatest number of tensor elements alive at one time.
    pub peak_elements: u64,
    /// Multiply-adds of the matrix products, counted as the plain product.
    pub macs: u64,
    /// The same by instruction.
    pub per_instruction: Vec<InstrCost>,
}

/// What one instruction costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InstrCost {
    /// Its part of the client's message, without frame headers.
    pub client_payload_bytes: u64,
    /// Its part of the server's message, without frame headers.
    pub server_payload_bytes: u64,
    /// Its material.
    pub dealt: Dealt,
    /// Bytes of its masked weight.
    pub setup_bytes: u64,
    /// Multiply-adds, if it is a matrix product.
    pub macs: u64,
}

/// Cost of a scheduled program that passed the verifier's structure, types and tables.
pub fn cost(program: &Program) -> Cost {
    assert!(program.scheduled, "only a scheduled program has rounds to count");
    let mut cost = Cost { peak_elements: liveness::peak_elements(program), ..per_instruction(program) };
    // Payloads of the messages that wait for the next `round` or `send`; of the client's, the part that went ahead is a
    // message of its own.
    let (mut client, mut early, mut server) = (0u64, 0u64, 0u64);
    let sent_ahead = ahead(program).sent;
    for ((instr, c), sent_ahead) in program.instrs.iter().zip(&cost.per_instruction).zip(sent_ahead) {
        match instr.op {
            Op::Round {} => cost.rounds += 1,
            Op::Send {} => cost.one_way_messages += 1,
            Op::Choose { x, .. } => {
                let choosing = material::choosing(program, x);
                cost.rounds += choosing.rounds();
                cost.one_way_messages += choose::ONE_WAY;
                for message in choosing.messages() {
                    cost.client_sent_bytes += message_bytes(message.client);
                    cost.server_sent_bytes += message_bytes(message.server);
                }
                continue;
            }
            Op::Reveal { .. } => {
                cost.one_way_messages += 1;
                cost.client_sent_bytes += message_bytes(c.client_payload_bytes);
                cost.server_sent_bytes += message_bytes(c.server_payload_bytes);
                continue;
            }
            _ => {
                *if sent_ahead { &mut early } else { &mut client } += c.client_payload_bytes;
                server += c.server_payload_bytes;
                continue;
            }
        }
        cost.client_ahead_bytes += message_bytes(early);
        cost.client_sent_bytes += message_bytes(early) + message_bytes(client);
        cost.server_sent_bytes += message_bytes(server);
        (client, early, server) = (0, 0, 0);
    }
    cost
}

/// Bytes of masked weights that the server sends to the client once for all entries of a verified module.
pub fn setup_bytes(entries: &[Program]) -> u64 {
    let Some(first) = entries.first() else { return 0 };
    let piece = |(weight, width): (Weight, Width)| {
        packed_bytes(elements(&first.weights[weight.index()].shape), u64::from(width))
    };
    masked_weights(entries).into_iter().map(piece).fold(0, u64::saturating_add)
}

/// The part of the cost that needs no schedule: what each instruction costs, and the sums of material, setup and
/// multiply-adds. The rest is zero.
pub fn per_instruction(program: &Program) -> Cost {
    let lift_bits = lift_bits(program);
    let mut cost = Cost::default();
    for index in 0..program.instrs.len() {
        let c = instruction(program, index, &lift_bits);
        cost.client_material_bytes = cost.client_material_bytes.saturating_add(c.dealt.to_both_bytes);
        cost.server_material_bytes =
            cost.server_material_bytes.saturating_add(c.dealt.to_both_bytes.saturating_add(c.dealt.to_server_bytes));
        cost.setup_bytes = cost.setup_bytes.saturating_add(c.setup_bytes);
        cost.macs = cost.macs.saturating_add(c.macs);
        cost.per_instruction.push(c);
    }
    cost
}

fn instruction(program: &Program, index: usize, lift_bits: &[u8]) -> InstrCost {
    let instr = &program.instrs[index];
    let mut cost = InstrCost { dealt: material::dealt(program, index, lift_bits), ..InstrCost::default() };
    instr.op.cost(Place { program, instr, lift_bits: lift_bits[index] }, &mut cost);
    cost
}
