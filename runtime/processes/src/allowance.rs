//! What the making of stocks may take of a machine and a link that have other work, too.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::RunError;

/// What may leave at once before the rate tells.
const BURST: Duration = Duration::from_millis(100);

/// Limits of what a process takes to make stocks. What a text waits for has none.
#[derive(Clone, Default)]
pub struct Allowance {
    rate: Option<Arc<Rate>>,
    threads: Option<NonZeroUsize>,
}

impl Allowance {
    /// At most so many bits a second sent, over all makings, and so many threads in each. Without a number there is no limit.
    pub fn new(bits_per_second: Option<f64>, threads: Option<NonZeroUsize>) -> Allowance {
        Allowance { rate: bits_per_second.map(|rate| Arc::new(Rate::new(rate))), threads }
    }

    /// Threads for a making to work in; those of the process if there is no limit.
    pub(super) fn pool(&self) -> Result<Option<ThreadPool>, RunError> {
        let pool = |threads: NonZeroUsize| ThreadPoolBuilder::new().num_threads(threads.get()).build();
        self.threads.map(pool).transpose().map_err(RunError::Threads)
    }

    /// How long to wait before so many bytes may be sent, which are counted as sent; none if there is no limit.
    pub(super) fn hold(&self, bytes: usize) -> Option<Duration> {
        Some(self.rate.as_ref()?.hold(bytes, Instant::now()))
    }
}

/// A bucket that fills at a rate: [`BURST`] of it at most.
struct Rate {
    bits_per_second: f64,
    /// When all that was counted so far has left.
    free: Mutex<Instant>,
}

impl Rate {
    fn new(bits_per_second: f64) -> Rate {
        Rate { bits_per_second, free: Mutex::new(Instant::now()) }
    }

    fn hold(&self, bytes: usize, now: Instant) -> Duration {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.checked_sub(BURST).map_or(*free, |early| free.max(early));
        *free = since + Duration::from_secs_f64(bytes as f64 * 8.0 / self.bits_per_second);
        free.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_at_their_rate_after_a_burst() {
        let rate = Rate::new(8e6);
        let start = Instant::now() + Duration::from_secs(1);
        let ms = Duration::from_millis;
        // 100 ms of 1 MB/s are there at once, the next have to wait.
        assert_eq!(rate.hold(100_000, start), ms(0));
        assert_eq!(rate.hold(50_000, start), ms(50));
        assert_eq!(rate.hold(50_000, start + ms(50)), ms(50));
        // What was not used for long is lost but for a burst.
        assert_eq!(rate.hold(200_000, start + ms(10_000)), ms(100));
        assert_eq!(Allowance::default().hold(1 << 30), None);
    }
}
