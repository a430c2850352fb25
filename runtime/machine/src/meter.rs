//! What a run really took: rounds, messages, bytes, material and seconds, by instruction. The cost model claims the same
//! numbers beforehand; tests hold one against the other.
//!
//! Socket bytes count frame headers, which belong to the `round`, `send`, `reveal` or `choose` whose messages they
//! carry. Material counts packed bytes. Nothing here depends on data but the seconds.

use ir::pair::Maker;
use ir::wire::message_bytes;
use ir::{Instr, Program, print};
use serde::Serialize;
use std::time::Duration;

/// A party's report.
#[derive(Clone, Serialize)]
pub struct Report {
    /// Name of the program.
    pub program: String,
    /// Who made the report: `client` or `server`.
    pub party: String,
    /// Where correlated randomness came from, and so what must be trusted.
    pub preprocessing: &'static str,
    /// Exchanges in both directions at once.
    pub rounds: u64,
    /// Messages in one direction.
    pub one_way_messages: u64,
    /// Bytes sent to the peer, with frame headers.
    pub sent_bytes: u64,
    /// Bytes received from the peer, with frame headers.
    pub received_bytes: u64,
    /// Bytes among them, sent or received, that the client sent before it knew its input.
    pub client_ahead_bytes: u64,
    /// Bytes taken from the dealer.
    pub material_bytes: u64,
    /// Seconds before the input was used.
    pub setup_seconds: f64,
    /// Seconds from the first instruction to the last.
    pub online_seconds: f64,
    /// Greatest resident memory of the process, where the system tells and the process asked it.
    pub peak_rss_bytes: Option<u64>,
    /// The same by instruction, in program order.
    pub instructions: Vec<Row>,
}

/// Where time went.
#[derive(Clone, Copy, Serialize, Default)]
pub struct Seconds {
    /// Seconds computing.
    pub compute_seconds: f64,
    /// Seconds packing, unpacking and handing over messages.
    pub packing_seconds: f64,
    /// Seconds waiting for the peer.
    pub peer_seconds: f64,
    /// Seconds waiting for the dealer.
    pub dealer_seconds: f64,
}

impl Seconds {
    /// All of it.
    pub fn total(self) -> f64 {
        self.compute_seconds + self.packing_seconds + self.peer_seconds + self.dealer_seconds
    }
}

impl std::ops::AddAssign for Seconds {
    fn add_assign(&mut self, more: Seconds) {
        self.compute_seconds += more.compute_seconds;
        self.packing_seconds += more.packing_seconds;
        self.peer_seconds += more.peer_seconds;
        self.dealer_seconds += more.dealer_seconds;
    }
}

/// One instruction's part.
#[derive(Clone, Serialize)]
pub struct Row {
    /// Name of the op.
    pub op: &'static str,
    /// The instruction as it prints.
    pub text: String,
    /// ONNX node that it comes from.
    pub origin: Option<String>,
    /// Bytes sent to the peer.
    pub sent_bytes: u64,
    /// Bytes received from the peer.
    pub received_bytes: u64,
    /// Bytes taken from the dealer.
    pub material_bytes: u64,
    /// Where its time went.
    #[serde(flatten)]
    pub seconds: Seconds,
}

impl Report {
    /// An empty report.
    pub(crate) fn new(program: &Program, party: ir::Party, maker: Maker) -> Report {
        let row = |(index, instr): (usize, &Instr)| Row {
            op: instr.op.mnemonic(),
            text: print::instr(program, index, instr),
            origin: instr.origin.map(|o| program.origins[o.index()].clone()),
            sent_bytes: 0,
            received_bytes: 0,
            material_bytes: 0,
            seconds: Seconds::default(),
        };
        Report {
            program: program.name.clone(),
            party: party.to_string(),
            preprocessing: maker.trust(),
            rounds: 0,
            one_way_messages: 0,
            sent_bytes: 0,
            received_bytes: 0,
            client_ahead_bytes: 0,
            material_bytes: 0,
            setup_seconds: 0.0,
            online_seconds: 0.0,
            peak_rss_bytes: None,
            instructions: program.instrs.iter().enumerate().map(row).collect(),
        }
    }

    /// Counts the messages of instruction `index`, whose payloads other instructions counted already.
    pub(crate) fn message(&mut self, index: usize, sent: u64, received: u64, waited: Duration) {
        let row = &mut self.instructions[index];
        row.sent_bytes += message_bytes(sent) - sent;
        row.received_bytes += message_bytes(received) - received;
        row.seconds.peer_seconds += waited.as_secs_f64();
    }

    /// Counts the message of instruction `index` that went ahead; one of both lengths is zero.
    pub(crate) fn message_ahead(&mut self, index: usize, sent: u64, received: u64) {
        self.client_ahead_bytes += message_bytes(sent) + message_bytes(received);
        self.message(index, sent, received, Duration::ZERO);
    }

    /// Adds up the rows.
    pub(crate) fn finish(&mut self, online: Duration) {
        let sum = |of: fn(&Row) -> u64| self.instructions.iter().map(of).sum();
        (self.sent_bytes, self.received_bytes) = (sum(|r| r.sent_bytes), sum(|r| r.received_bytes));
        self.material_bytes = sum(|r| r.material_bytes);
        self.online_seconds = online.as_secs_f64();
    }
}

/// Seconds of a run's phases.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Phases {
    /// From connecting until both sides know that they fit.
    pub handshake_seconds: f64,
    /// Transfer of masked weights, or loading them.
    pub setup_seconds: f64,
    /// Waiting for the dealer before the online phase: to connect and, if material is dealt first, until it is there.
    pub dealing_seconds: f64,
    /// Work and messages that the input is not needed for. Material arrives meanwhile.
    pub prepare_seconds: f64,
    /// From input to output.
    pub online_seconds: f64,
}
