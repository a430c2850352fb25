//! Serving many connections: a thread each, up to a limit, until the process is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::net::{Conn, Listener};

/// Longest wait for running sessions when the process is told to stop.
const FAREWELL: Duration = Duration::from_secs(2);

/// Attends to everybody who connects and says who it is, at most `limit` at a time; those beyond are turned away.
/// Returns when the process was told to stop and all have left, who then have little time.
pub(super) fn serve<D: Send + Sync + 'static>(listener: &Listener, limit: usize, desk: D, attend: fn(&D, Conn)) {
    let (desk, guests) = (Arc::new(desk), Arc::new(AtomicUsize::new(0)));
    while let Some(conn) = listener.accept() {
        if guests.fetch_add(1, Ordering::SeqCst) >= limit {
            guests.fetch_sub(1, Ordering::SeqCst);
            tracing::warn!("a connection was turned away: {limit} are open");
            continue;
        }
        let (desk, leave) = (desk.clone(), Leave(guests.clone()));
        std::thread::spawn(move || {
            let _leave = leave;
            attend(&desk, conn);
        });
    }
    // Their connections end by themselves now.
    let begin = Instant::now();
    while guests.load(Ordering::SeqCst) > 0 && begin.elapsed() < FAREWELL {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Counts a guest out, also when its thread panics.
struct Leave(Arc<AtomicUsize>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
