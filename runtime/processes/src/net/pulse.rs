//! When a connection last moved bytes, for its deadlines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// When bytes last moved, in milliseconds since `start`.
pub struct Pulse {
    start: Instant,
    last: AtomicU64,
}

impl Pulse {
    /// Of a connection that begins now.
    pub fn new() -> Pulse {
        Pulse { start: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Bytes move now.
    pub fn beat(&self) {
        self.last.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// When they last did.
    pub fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}
