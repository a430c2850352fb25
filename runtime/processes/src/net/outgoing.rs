//! The sending half of a connection: frames queue for a task that writes them, and short ones go past it when nothing waits,
//! since waking the task takes longer than writing them.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::frame::{Header, Kind};
use super::pulse::Pulse;
use super::shape::Pace;

/// Frames of at most so many bytes are written by the thread that sends them, if the system takes them.
const SHORT: usize = 1 << 15;

/// A frame that waits to be written, and since when.
pub type Queued = (std::time::Instant, Kind, Unwritten);

/// What is left to write of a frame: header and payload leave in one segment where they fit.
pub type Unwritten = Chain<Bytes, Bytes>;

/// A whole frame.
pub fn unwritten(header: Header, payload: Bytes) -> Unwritten {
    Bytes::copy_from_slice(&header.encode()).chain(payload)
}

/// Where frames go: to the writing task, or past it.
pub struct Outgoing {
    /// To the writing task.
    pub queue: mpsc::Sender<Queued>,
    /// Past it.
    pub outlet: Arc<Outlet>,
    /// Short frames need not queue. The network's shape holds them all.
    pub at_once: bool,
}

impl Outgoing {
    /// Writes a short frame if no other is unfinished, or begins to; true if that is all. If not, it is to be queued.
    pub fn write_at_once(&self, kind: Kind, frame: &mut Unwritten) -> bool {
        if self.at_once && frame.remaining() <= SHORT && self.outlet.begin() {
            // A fault is the reading task's to name, and the writing task comes upon it, too.
            let written = self.outlet.write_now(kind, frame).unwrap_or(false);
            if written {
                self.outlet.finish();
            }
            return written;
        }
        self.outlet.unfinished.fetch_add(1, Ordering::Relaxed);
        false
    }
}

/// The sending half of a socket; dropping it closes that half.
pub struct Outlet {
    half: OwnedWriteHalf,
    /// Frames that are queued or being written. Who raises it from zero may write without queuing.
    unfinished: AtomicUsize,
    pulse: Arc<Pulse>,
}

impl Outlet {
    /// Of a socket on which nothing was written.
    pub fn new(half: OwnedWriteHalf, pulse: Arc<Pulse>) -> Outlet {
        Outlet { half, unfinished: AtomicUsize::new(0), pulse }
    }

    /// True if there is nothing to write but a frame of the caller's, who finishes it.
    fn begin(&self) -> bool {
        self.unfinished.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn finish(&self) {
        self.unfinished.fetch_sub(1, Ordering::Release);
    }

    /// Writes as much as the system takes at once; true if that is all.
    fn write_now(&self, kind: Kind, frame: &mut Unwritten) -> io::Result<bool> {
        while frame.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = frame.chunks_vectored(&mut slices);
            match self.half.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => frame.advance(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
            if kind != Kind::Alive {
                self.pulse.beat();
            }
        }
        Ok(true)
    }

    /// Writes a frame, or what is left of it.
    async fn write(&self, kind: Kind, mut frame: Unwritten) -> io::Result<()> {
        while !self.write_now(kind, &mut frame)? {
            self.half.writable().await?;
        }
        Ok(())
    }
}

/// Writes frames until there are no more to come, and a sign of life whenever nothing else was queued for `idle`.
pub async fn write_frames(
    outlet: Arc<Outlet>,
    mut frames: mpsc::Receiver<Queued>,
    idle: Duration,
    mut pace: Option<Pace>,
) {
    loop {
        let (queued, kind, frame) = match timeout(idle, frames.recv()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            // A frame that is unfinished shows as well that this side is alive.
            Err(_) if !outlet.begin() => continue,
            Err(_) => {
                let header = Header { kind: Kind::Alive, step: 0, length: 0 };
                (std::time::Instant::now(), Kind::Alive, unwritten(header, Bytes::new()))
            }
        };
        if let Some(pace) = &mut pace {
            pace.hold(queued, frame.remaining());
        }
        // The reading task sees the same fault and names it.
        if outlet.write(kind, frame).await.is_err() {
            return;
        }
        outlet.finish();
    }
}
