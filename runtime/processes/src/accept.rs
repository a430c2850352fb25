//! Serving many connections: a thread each, up to a limit, until the process is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::Builder;
use std::time::{Duration, Instant};

use crate::net::{Conn, Listener, Refusal};

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
            conn.turn_away(&Refusal::Busy { what: format!("{limit} connections are open") });
            continue;
        }
        let (desk, leave) = (desk.clone(), Leave(guests.clone()));
        let (hand, handed) = sync_channel::<Conn>(1);
        let thread = Builder::new().spawn(move || {
            let _leave = leave;
            if let Ok(conn) = handed.recv() {
                attend(&desk, conn);
            }
        });
        match thread {
            // It waits for nothing else.
            Ok(_) => drop(hand.send(conn)),
            Err(error) => {
                tracing::warn!("a connection was turned away: no thread: {error}");
                conn.turn_away(&Refusal::Busy { what: "there is no thread for one more".to_owned() });
            }
        }
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
