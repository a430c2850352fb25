//! Small things that all processes share.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::RunError;
use crate::handshake::Session;
use crate::prg::Seed;

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

/// Seconds of a run's phases.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Phases {
    /// From connecting until both sides know that they fit.
    pub handshake_seconds: f64,
    /// Transfer of masked weights, or loading them.
    pub setup_seconds: f64,
    /// From connecting to the dealer until the material is there in full.
    pub dealing_seconds: f64,
    /// The client's work ahead of the input.
    pub prepare_seconds: f64,
    /// From input to output.
    pub online_seconds: f64,
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
