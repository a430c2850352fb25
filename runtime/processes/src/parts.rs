//! Small things that all processes share.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use super::RunError;
use super::material::Dealing;
use super::once::Counts;
use crate::handshake::Session;
use crate::net::Conn;
use kernels::prg::Seed;
use machine::meter::{Phases, Report};
use machine::profile::Totals;
use protocols::Maker;

/// Where seeds and session identifiers come from.
pub trait Entropy: Send + Sync {
    /// A fresh seed.
    fn seed(&self) -> Result<Seed, RunError>;

    /// A fresh session identifier.
    fn session(&self) -> Result<Session, RunError>;
}

/// The operating system's generator.
pub struct Os;

impl Entropy for Os {
    fn seed(&self) -> Result<Seed, RunError> {
        Seed::random().map_err(RunError::Random)
    }

    fn session(&self) -> Result<Session, RunError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(RunError::Random)?;
        Ok(Session(bytes))
    }
}

/// What a session is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// One step, whose material comes by this choice.
    Run(Dealing),
    /// A generation, the first step of which was asked for. The material is taken from a stock, or comes as it is dealt.
    Generate,
    /// The material of a generation that begins so, to be kept.
    Prepare,
}

/// What the client tells the server before its first step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Begin {
    /// The client holds the masked weights, or needs none.
    pub(super) holds_setup: bool,
    /// Who makes the material.
    pub(super) maker: Maker,
    /// What the session is for.
    pub(super) purpose: Purpose,
    /// The stock that it names, and the steps of it that it has: 0 if it names none.
    pub(super) stock: Session,
    pub(super) steps: u32,
    /// What it says of sessions with the server.
    pub(super) counts: Counts,
}

const PURPOSES: [Purpose; 4] =
    [Purpose::Run(Dealing::First), Purpose::Run(Dealing::Overlapped), Purpose::Generate, Purpose::Prepare];

impl Begin {
    pub(super) fn encode(self) -> Bytes {
        let purpose = PURPOSES.iter().position(|p| *p == self.purpose).expect("all are listed");
        let pair = u8::from(self.maker == Maker::Pair);
        let choices = u8::from(self.holds_setup) | pair << 1 | (purpose as u8) << 2;
        Bytes::from([&[choices][..], &self.stock.0, &self.steps.to_le_bytes(), &self.counts.encode()].concat())
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Begin> {
        let (&[choices], rest) = bytes.split_first_chunk()?;
        let (stock, rest) = rest.split_first_chunk()?;
        let (steps, counts) = rest.split_first_chunk()?;
        let (stock, steps) = (Session(*stock), u32::from_le_bytes(*steps));
        let counts = Counts::decode(counts.try_into().ok()?);
        let maker = if choices & 2 == 0 { Maker::Dealer } else { Maker::Pair };
        let purpose = *PURPOSES.get(usize::from(choices >> 2))?;
        Some(Begin { holds_setup: choices & 1 != 0, maker, purpose, stock, steps, counts })
    }
}

/// What the client says to the server between steps: run the step that is due, or deal it. Anything else ends the session.
pub(super) const GO_ON: u8 = 1;

/// Bytes of [`Begin`].
pub(super) const BEGIN: usize = 21 + Counts::LENGTH;

/// A run in the report file.
#[derive(Serialize)]
pub struct Record {
    /// The session.
    pub session: String,
    /// Seconds by phase.
    pub phases: Phases,
    /// Bytes of masked weights transferred; none if the client had kept them.
    pub setup_bytes: u64,
    /// Bytes on the socket sent to the other party, with handshake, setup and frame headers.
    pub socket_sent_bytes: u64,
    /// Bytes on the socket received from it, counted alike.
    pub socket_received_bytes: u64,
    /// The online phase, by instruction.
    pub online: Report,
}

impl Record {
    pub(super) fn new(session: Session, phases: Phases, setup_bytes: u64, conn: &Conn, mut online: Report) -> Record {
        online.peak_rss_bytes = peak_rss_bytes();
        let (socket_sent_bytes, socket_received_bytes) = (conn.sent_bytes(), conn.received_bytes());
        Record { session: session.to_string(), phases, setup_bytes, socket_sent_bytes, socket_received_bytes, online }
    }
}

/// Logs where the time of a generation's step went, for `--log processes=trace`. There is no secret in a profile.
pub(super) fn trace(number: u32, report: &Report) {
    if tracing::enabled!(tracing::Level::TRACE) {
        let (ahead, online) = (report.setup_seconds, report.online_seconds);
        let profile = Totals::of([(report, Phases::default(), 0)]).profile();
        tracing::trace!("step {number}: {ahead:.4} s ahead, {online:.4} s online\n{profile}");
    }
}

/// Greatest resident memory of this process so far, from Linux's `/proc`; `None` elsewhere.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Writes a report file.
pub fn write_json(path: &Path, report: &impl Serialize) -> Result<(), RunError> {
    let text = serde_json::to_string_pretty(report).expect("a report is plain data");
    std::fs::write(path, text).map_err(|source| RunError::File { path: path.to_owned(), source })
}

/// A stopwatch that is read phase by phase.
pub struct Watch(Instant);

impl Watch {
    /// Starts.
    pub fn start() -> Watch {
        Watch(Instant::now())
    }

    /// Seconds since the last call.
    pub fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap: Duration = now - std::mem::replace(&mut self.0, now);
        lap.as_secs_f64()
    }
}
