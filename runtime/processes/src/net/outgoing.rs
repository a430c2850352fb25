//! The sending half of a connection: frames queue for a task that writes them, and short ones go past it when nothing waits,
//! since waking the task takes longer than writing them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::frame::{Header, Kind};
use super::pulse::Pulse;
use super::seal::{Plain, Seal};
use super::shape::Pace;

/// Frames of at most so many bytes are written by the thread that sends them, if the system takes them.
const SHORT: usize = 1 << 15;

/// A frame that waits to be written, and since when.
pub type Queued = (std::time::Instant, Kind, Unwritten);

/// What is left to write of a frame.
pub struct Unwritten {
    /// What is not yet sealed.
    plain: Plain,
    /// What is, and follows on what was written.
    sealed: Bytes,
}

impl Unwritten {
    /// Bytes of the frame, of which nothing was written.
    fn length(&self) -> usize {
        self.plain.remaining()
    }
}

/// A whole frame.
pub fn unwritten(header: Header, payload: Bytes) -> Unwritten {
    Unwritten { plain: Bytes::copy_from_slice(&header.encode()).chain(payload), sealed: Bytes::new() }
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
        if self.at_once && frame.length() <= SHORT && self.outlet.begin() {
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
    /// Used by one at a time: whoever writes the frame whose turn it is.
    seal: Mutex<Seal>,
    /// Frames that are queued or being written. Who raises it from zero may write without queuing.
    unfinished: AtomicUsize,
    pulse: Arc<Pulse>,
}

impl Outlet {
    /// Of a socket on which nothing was written.
    pub fn new(half: OwnedWriteHalf, seal: Seal, pulse: Arc<Pulse>) -> Outlet {
        Outlet { half, seal: Mutex::new(seal), unfinished: AtomicUsize::new(0), pulse }
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
        loop {
            if frame.sealed.is_empty() {
                if !frame.plain.has_remaining() {
                    return Ok(true);
                }
                frame.sealed = self.seal.lock().unwrap_or_else(PoisonError::into_inner).seal(&mut frame.plain)?;
            }
            match self.half.try_write(&frame.sealed) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => frame.sealed.advance(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
            if kind != Kind::Alive {
                self.pulse.beat();
            }
        }
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
            pace.hold(queued, frame.length());
        }
        // The reading task sees the same fault and names it.
        if outlet.write(kind, frame).await.is_err() {
            return;
        }
        outlet.finish();
    }
}
