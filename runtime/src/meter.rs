//! What a run really took: rounds, messages, bytes, material and seconds, by instruction. The cost model claims the same
//! numbers beforehand; tests hold one against the other.
//!
//! Socket bytes count frame headers, which belong to the `round`, `send` or `reveal` whose message they carry. Material
//! counts packed bytes. Nothing here depends on data but the seconds.

use crate::profile::{self, Group};
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
    /// Greatest resident memory of the process, where the system tells.
    pub peak_rss_bytes: Option<u64>,
    /// The same by instruction, in program order.
    pub instructions: Vec<Row>,
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
    /// Seconds computing.
    pub compute_seconds: f64,
    /// Seconds packing, unpacking and handing over messages.
    pub packing_seconds: f64,
    /// Seconds waiting for the peer.
    pub peer_seconds: f64,
    /// Seconds waiting for the dealer.
    pub dealer_seconds: f64,
}

impl Report {
    /// An empty report.
    pub(crate) fn new(program: &Program, party: ir::Party) -> Report {
        let row = |(index, instr): (usize, &Instr)| Row {
            op: instr.op.mnemonic(),
            text: print::instr(program, index, instr),
            origin: instr.origin.map(|o| program.origins[o.index()].clone()),
            sent_bytes: 0,
            received_bytes: 0,
            material_bytes: 0,
            compute_seconds: 0.0,
            packing_seconds: 0.0,
            peer_seconds: 0.0,
            dealer_seconds: 0.0,
        };
        Report {
            program: program.name.clone(),
            party: party.to_string(),
            preprocessing: "trusted dealer",
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
        row.peer_seconds += waited.as_secs_f64();
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
        self.peak_rss_bytes = peak_rss_bytes();
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

/// Sums over the runs of one party, as a report file starts with them.
#[derive(Clone, Serialize)]
pub struct Totals {
    /// Threads of the party.
    threads: usize,
    rounds: u64,
    one_way_messages: u64,
    sent_bytes: u64,
    received_bytes: u64,
    client_ahead_bytes: u64,
    material_bytes: u64,
    setup_bytes: u64,
    #[serde(flatten)]
    phases: Phases,
    peak_rss_bytes: Option<u64>,
    layers: Vec<Group>,
    ops: Vec<Group>,
    instructions: Vec<Row>,
}

impl Totals {
    /// Adds up runs of one program: what each took, its phases and its bytes of masked weights.
    pub fn of<'a>(runs: impl IntoIterator<Item = (&'a Report, Phases, u64)>) -> Totals {
        let mut totals = Totals {
            threads: rayon::current_num_threads(),
            rounds: 0,
            one_way_messages: 0,
            sent_bytes: 0,
            received_bytes: 0,
            client_ahead_bytes: 0,
            material_bytes: 0,
            setup_bytes: 0,
            phases: Phases::default(),
            peak_rss_bytes: None,
            layers: Vec::new(),
            ops: Vec::new(),
            instructions: Vec::new(),
        };
        for (report, phases, setup_bytes) in runs {
            totals.rounds += report.rounds;
            totals.one_way_messages += report.one_way_messages;
            totals.sent_bytes += report.sent_bytes;
            totals.received_bytes += report.received_bytes;
            totals.client_ahead_bytes += report.client_ahead_bytes;
            totals.material_bytes += report.material_bytes;
            totals.setup_bytes += setup_bytes;
            totals.phases.handshake_seconds += phases.handshake_seconds;
            totals.phases.setup_seconds += phases.setup_seconds;
            totals.phases.dealing_seconds += phases.dealing_seconds;
            totals.phases.prepare_seconds += phases.prepare_seconds;
            totals.phases.online_seconds += phases.online_seconds;
            totals.peak_rss_bytes = totals.peak_rss_bytes.max(report.peak_rss_bytes);
            if totals.instructions.is_empty() {
                totals.instructions = report.instructions.clone();
                continue;
            }
            for (sum, row) in totals.instructions.iter_mut().zip(&report.instructions) {
                sum.sent_bytes += row.sent_bytes;
                sum.received_bytes += row.received_bytes;
                sum.material_bytes += row.material_bytes;
                sum.compute_seconds += row.compute_seconds;
                sum.packing_seconds += row.packing_seconds;
                sum.peer_seconds += row.peer_seconds;
                sum.dealer_seconds += row.dealer_seconds;
            }
        }
        totals.layers = profile::by_layer(&totals.instructions);
        totals.ops = profile::by_op(&totals.instructions);
        totals
    }

    /// Where the time went, as text.
    pub fn profile(&self) -> String {
        profile::tables(&self.layers, &self.ops)
    }
}

/// Greatest resident memory of this process so far, from Linux's `/proc`; `None` elsewhere.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
