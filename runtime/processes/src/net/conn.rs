//! A connection: two socket tasks behind a synchronous interface with deadlines.
//!
//! Silence   A side that computes sends an `alive` frame every second, so a wait ends after the timeout without a single
//!           byte, not when a message takes long. Since `alive` frames alone must not hold a wait for ever, it also ends
//!           after [`PATIENCE`] timeouts; before both have greeted each other, already after one, which is then short.
//! Sending   Queues up to [`QUEUE`] frames; a short one that finds the queue empty is written at once. When the queue is
//!           full, frames that arrive are set aside, so two parties that send at once never block each other; what is set
//!           aside has a limit that follows from the program.
//! Haste     A thread that waits goes on looking for [`HASTE`] before it sleeps, and lets others run meanwhile: a pass has
//!           hundreds of messages, and waking a thread takes longer than most of them need.
//! Ending    A side that gives up sends an `error` frame, half-closes and reads on for a second: closing with unread bytes
//!           would reset the connection and take the reason with it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::error::shortened;
use super::frame::{Frame, HEADER, Header, Kind, PAYLOAD, describe};
use super::link::{End, HANDSHAKE, Link, Links, Peer, Protection, begin};
use super::listener::Listener;
use super::outgoing::{Outgoing, Outlet, unwritten, write_frames};
use super::pulse::Pulse;
use super::seal::Inlet;
use super::shape::{Pace, Shape};
use super::{MAX_REASON, NetError, Refusal, printable};
use crate::handshake::Role;

/// Frames that wait in either direction, unless [`Options`] say otherwise.
const QUEUE: usize = 8;

/// How long a thread looks for a frame before it sleeps: longer than a neighbour computes before most messages, and shorter
/// than a message's way from far off.
const HASTE: Duration = Duration::from_micros(200);

/// Timeouts that a wait lasts at most, however alive the peer is.
const PATIENCE: u32 = 20;

/// After so long without anybody at an address the user is told what is waited for.
const NOTICE: Duration = Duration::from_secs(3);

/// Longest time that an ending connection waits for the other side to read.
const LINGER: Duration = Duration::from_secs(1);

/// What sets a connection apart.
#[derive(Clone, Copy)]
pub struct Options {
    /// Frames that have arrived and wait for this process; when there are more, the other side waits.
    pub incoming_frames: usize,
    /// How the network slows down what this side sends.
    pub shape: Option<Shape>,
}

impl Default for Options {
    fn default() -> Options {
        Options { incoming_frames: QUEUE, shape: None }
    }
}

/// What every connection of a process shares: where its tasks run, how long it waits, whether to stop, and how it is protected.
#[derive(Clone)]
pub struct Net {
    handle: Handle,
    timeout: Duration,
    stop: watch::Receiver<bool>,
    protection: Arc<Protection>,
}

impl Net {
    /// Tasks run on `handle`, whose runtime must outlive all connections. Waits end when `stop` becomes true.
    pub fn new(handle: Handle, timeout: Duration, stop: watch::Receiver<bool>, protection: Protection) -> Net {
        Net { handle, timeout, stop, protection: Arc::new(protection) }
    }

    /// The same, but that its waits end by another `stop`.
    pub fn stopped_by(&self, stop: watch::Receiver<bool>) -> Net {
        Net { stop, ..self.clone() }
    }

    /// How its links are protected.
    pub(super) fn protection(&self) -> &Protection {
        &self.protection
    }

    /// What its links are.
    pub fn links(&self) -> Links {
        self.protection.links()
    }

    /// How long a stranger has to say who it is.
    pub(super) fn short(&self) -> Duration {
        self.timeout.min(HANDSHAKE)
    }

    /// The longest silence.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The runtime of the socket tasks.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Becomes true when the process is told to stop.
    pub fn stop(&self) -> watch::Receiver<bool> {
        self.stop.clone()
    }

    /// Whether the process was told to stop.
    pub fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until the process is told to stop. Never, if nobody can tell it.
    pub async fn until_stopped(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Opens a listening socket, for peers in one of these roles.
    pub fn listen(&self, address: SocketAddr, roles: &[Role]) -> Result<Listener, NetError> {
        Listener::open(self.clone(), address, roles)
    }

    /// Connects to the peer in `role`, trying again until the timeout. Gives up early if `watched`, to whom this connection
    /// matters, goes away.
    pub fn connect(
        &self,
        role: Role,
        address: SocketAddr,
        options: Options,
        mut watched: Option<&mut Conn>,
    ) -> Result<Conn, NetError> {
        let peer = role.name();
        let begin_at = Instant::now();
        let deadline = begin_at + self.timeout;
        let (mut pause, mut said) = (Duration::from_millis(20), false);
        let attempts = async {
            loop {
                let failure = match timeout_at(deadline, TcpStream::connect(address)).await {
                    // Between refusals, the kernel may pick the wanted port as the local one and connect it to itself.
                    Ok(Ok(stream)) if stream.local_addr().ok() == Some(address) => None,
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(e)) => Some(e),
                    Err(_) => None,
                };
                if Instant::now() + pause >= deadline {
                    let source = failure.unwrap_or_else(|| io::ErrorKind::TimedOut.into());
                    return Err(NetError::Unreachable { peer, address, seconds: self.timeout.as_secs_f64(), source });
                }
                if !said && begin_at.elapsed() >= NOTICE {
                    said = true;
                    let seconds = self.timeout.as_secs_f64();
                    tracing::warn!("no {peer} at {address} yet; it may still start: waiting up to {seconds} s");
                }
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
            }
        };
        let link = self.handle.block_on(async {
            tokio::select! {
                stream = attempts => begin(stream?, End::Connects, &self.protection, &[role], self.short()).await.map(Some),
                () = self.until_stopped() => Err(NetError::Interrupted),
                () = lost(watched.as_ref().map(|conn| &conn.lost)) => Ok(None),
            }
        })?;
        match (link, &mut watched) {
            (Some(link), _) => Ok(Conn::new(self.clone(), peer, link, options)),
            (None, Some(conn)) => Err(conn.failure()),
            (None, None) => unreachable!("nobody was watched"),
        }
    }
}

/// Waits until a connection is known to be lost. Never, if there is none.
async fn lost(conn: Option<&watch::Receiver<bool>>) {
    let lost = match conn {
        Some(lost) => lost.clone().wait_for(|lost| *lost).await.is_ok(),
        None => false,
    };
    if !lost {
        std::future::pending::<()>().await;
    }
}

/// A connection. Dropping it sends what is queued, then closes.
pub struct Conn {
    net: Net,
    peer: &'static str,
    known: Option<Peer>,
    binding: [u8; 32],
    address: Option<SocketAddr>,
    /// The longest silence.
    limit: Duration,
    patience: u32,
    /// How long a wait lasts at most, where that is not `patience` times the longest silence.
    whole: Option<Duration>,
    outgoing: Option<Outgoing>,
    incoming: mpsc::Receiver<Result<Frame, NetError>>,
    aside: VecDeque<Frame>,
    aside_bytes: u64,
    aside_limit: u64,
    pulse: Arc<Pulse>,
    lost: watch::Receiver<bool>,
    reader: JoinHandle<()>,
    writer: Option<JoinHandle<()>>,
    sent_bytes: u64,
    received_bytes: u64,
}

impl Conn {
    pub(super) fn new(net: Net, peer: &'static str, link: Link, options: Options) -> Conn {
        let Link { stream, seal, opener, rest, peer: known, binding } = link;
        let address = stream.peer_addr().ok();
        let peer = match known.as_ref().map(|known| &known.roles[..]) {
            Some([role]) => role.name(),
            _ => peer,
        };
        let (read, write) = stream.into_split();
        let in_flight = options.shape.map_or(0, |shape| shape.frames_in_flight());
        let (queue, to_write) = mpsc::channel(QUEUE + in_flight);
        let (to_read, incoming) = mpsc::channel(options.incoming_frames);
        let (lose, lost) = watch::channel(false);
        let pulse = Arc::new(Pulse::new());
        let idle = (net.timeout / 3).min(Duration::from_secs(1));
        let inlet = Inlet::new(read, opener, &rest, peer, pulse.clone());
        let reader = net.handle.spawn(read_frames(inlet, peer, to_read, lose));
        let pace = options.shape.map(Pace::new);
        let outlet = Arc::new(Outlet::new(write, seal, pulse.clone()));
        let (paced, writing) = (pace.is_some(), write_frames(outlet.clone(), to_write, idle, pace));
        let writer = match paced {
            false => net.handle.spawn(writing),
            // Holding frames blocks, so it takes a thread of its own.
            true => {
                let handle = net.handle.clone();
                net.handle.spawn_blocking(move || handle.block_on(writing))
            }
        };
        Conn {
            limit: net.short(),
            net,
            peer,
            known,
            binding,
            address,
            patience: 1,
            whole: None,
            outgoing: Some(Outgoing { queue, outlet, at_once: !paced }),
            incoming,
            aside: VecDeque::new(),
            aside_bytes: 0,
            aside_limit: 0,
            pulse,
            lost,
            reader,
            writer: Some(writer),
            sent_bytes: 0,
            received_bytes: 0,
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &'static str {
        self.peer
    }

    /// Says who turned out to be at the other end.
    pub fn set_peer(&mut self, peer: &'static str) {
        self.peer = peer;
    }

    /// The key and roles of the peer, which it has proven; none on an insecure link.
    pub fn known(&self) -> Option<&Peer> {
        self.known.as_ref()
    }

    /// What the two ends of this connection have in common, and nobody else on an encrypted link: for what is to be of no use on
    /// another connection.
    pub fn binding(&self) -> &[u8; 32] {
        &self.binding
    }

    /// Whether frames are in the clear on a way that leaves this machine, as far as addresses tell.
    pub fn exposed(&self) -> bool {
        self.known.is_none() && !self.address.is_some_and(|address| address.ip().is_loopback())
    }

    /// From now on the peer may be silent for the whole timeout: it has greeted.
    pub fn greeted(&mut self) {
        self.limit = self.net.timeout;
    }

    /// From now on the peer is known: it may take long as long as it shows that it is alive, and may send up to
    /// `limit` bytes while this side is sending itself.
    pub fn trust(&mut self, limit: u64) {
        self.greeted();
        self.patience = PATIENCE;
        self.aside_limit = limit;
    }

    /// Bytes of all frames sent so far, headers included, `alive` and `error` frames not.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Bytes of all frames received so far, counted alike.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Queues a message. An empty one sends nothing.
    pub fn send(&mut self, kind: Kind, step: u32, message: Bytes) -> Result<(), NetError> {
        let mut rest = message;
        while !rest.is_empty() {
            let payload = rest.split_to(rest.len().min(PAYLOAD));
            self.send_frame(kind, step, payload)?;
        }
        Ok(())
    }

    /// Queues one frame, which may be empty.
    pub fn send_frame(&mut self, kind: Kind, step: u32, payload: Bytes) -> Result<(), NetError> {
        let header = Header { kind, step, length: payload.len() as u32 };
        let bytes = (HEADER + payload.len()) as u64;
        let mut frame = unwritten(header, payload);
        if self.net.stopped() {
            return Err(NetError::Interrupted);
        }
        if self.outgoing().write_at_once(kind, &mut frame) {
            self.sent_bytes += bytes;
            return Ok(());
        }
        let (mut unqueued, begin) = (Some(frame), Instant::now());
        let sent = loop {
            let queue = &self.outgoing.as_ref().expect("as `outgoing` has it").queue;
            let deadline = self.deadline(begin);
            let outcome = self.net.handle.block_on(async {
                tokio::select! {
                    biased;
                    () = self.net.until_stopped() => Err(NetError::Interrupted),
                    permit = queue.reserve() => match permit {
                        Ok(permit) => {
                            let frame = unqueued.take().expect("queued once");
                            permit.send((std::time::Instant::now(), kind, frame));
                            Ok(Some(Sent::Queued))
                        }
                        Err(_) => Ok(Some(Sent::Broken)),
                    },
                    frame = self.incoming.recv() => match frame {
                        Some(Ok(frame)) => Ok(Some(Sent::Arrived(frame))),
                        Some(Err(error)) => Err(error),
                        None => Ok(Some(Sent::Broken)),
                    },
                    () = sleep_until(deadline) => Ok(None),
                }
            })?;
            match outcome {
                Some(Sent::Arrived(frame)) => self.set_aside(frame)?,
                Some(done) => break done,
                None if self.deadline(begin) > Instant::now() => {}
                None => return Err(self.silent(kind.name(), begin)),
            }
        };
        match sent {
            Sent::Queued => {
                self.sent_bytes += bytes;
                Ok(())
            }
            _ => Err(self.failure()),
        }
    }

    /// Waits for a message of exactly `length` bytes.
    pub fn receive(&mut self, kind: Kind, step: u32, length: usize) -> Result<Vec<u8>, NetError> {
        // Grows with what really arrives: `length` follows from the program, but the peer may never send it.
        let mut message = Vec::with_capacity(length.min(PAYLOAD));
        while message.len() < length {
            message.extend_from_slice(&self.receive_frame(kind, step, length - message.len())?);
        }
        Ok(message)
    }

    /// Waits for the next frame of a message of which `rest` bytes are to come.
    pub fn receive_frame(&mut self, kind: Kind, step: u32, rest: usize) -> Result<Bytes, NetError> {
        let length = rest.min(PAYLOAD);
        let frame = self.next(kind.name(), None)?;
        if (frame.kind, frame.step, frame.payload.len()) != (kind, step, length) {
            let (expected, got) = (describe(kind, step, length), frame.describe());
            return Err(NetError::BadFrame { peer: self.peer, expected, got });
        }
        Ok(frame.payload)
    }

    /// Waits for a message that is one frame of at most `most` bytes, and that has step 0.
    pub fn receive_small(&mut self, kind: Kind, most: usize) -> Result<Bytes, NetError> {
        self.receive_up_to((kind, 0), most, None)
    }

    /// The same, but for so long as `limit` while the peer shows that it is alive: it waits for a person.
    pub fn receive_small_within(&mut self, kind: Kind, most: usize, limit: Duration) -> Result<Bytes, NetError> {
        let usual = self.whole.replace(limit);
        let received = self.receive_small(kind, most);
        self.whole = usual;
        received
    }

    /// Waits for the next frame of a stream, of which `rest` bytes are to come: one at least, where they are cut is for
    /// the sender to choose. Ends with [`NetError::Vain`] when the connection behind `lost` is.
    pub fn receive_some(
        &mut self,
        stream: (Kind, u32),
        rest: usize,
        lost: &watch::Receiver<bool>,
    ) -> Result<Bytes, NetError> {
        let some = self.receive_up_to(stream, rest, Some(lost))?;
        if some.is_empty() {
            let (expected, got) = ("a frame with content".to_owned(), describe(stream.0, stream.1, 0));
            return Err(NetError::BadFrame { peer: self.peer, expected, got });
        }
        Ok(some)
    }

    fn receive_up_to(
        &mut self,
        (kind, step): (Kind, u32),
        most: usize,
        lost: Option<&watch::Receiver<bool>>,
    ) -> Result<Bytes, NetError> {
        let frame = self.next(kind.name(), lost)?;
        if frame.kind != kind || frame.step != step || frame.payload.len() > most {
            let expected = format!("{} frame, step {step}, at most {most} bytes", kind.name());
            return Err(NetError::BadFrame { peer: self.peer, expected, got: frame.describe() });
        }
        Ok(frame.payload)
    }

    /// Becomes true when the connection is lost.
    pub fn lost(&self) -> watch::Receiver<bool> {
        self.lost.clone()
    }

    /// The error of a connection that is known to be lost, or no error.
    pub fn check(&mut self) -> Result<(), NetError> {
        if *self.lost.borrow() { Err(self.failure()) } else { Ok(()) }
    }

    /// Waits for `wait`, but not beyond the death of this connection or the end of the process.
    pub fn during<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, NetError> {
        let outcome = self.net.handle.block_on(async {
            tokio::select! {
                done = wait => Ok(Some(done)),
                () = self.net.until_stopped() => Err(NetError::Interrupted),
                () = lost(Some(&self.lost)) => Ok(None),
            }
        })?;
        outcome.ok_or_else(|| self.failure())
    }

    /// Ends the connection and tells the peer why.
    pub fn fail(self, reason: &str) {
        let reason = Bytes::copy_from_slice(shortened(reason));
        self.net.handle.clone().block_on(self.farewell(Kind::Error, reason));
    }

    /// Ends the connection and tells the peer that, and why, it gets nothing.
    pub fn refuse(self, refusal: &Refusal) {
        self.net.handle.clone().block_on(self.farewell(Kind::Refused, refusal.encode().into()));
    }

    /// The same, in the background.
    pub fn turn_away(self, refusal: &Refusal) {
        self.net.handle.clone().spawn(self.farewell(Kind::Refused, refusal.encode().into()));
    }

    async fn farewell(mut self, kind: Kind, reason: Bytes) {
        let header = Header { kind, step: 0, length: reason.len() as u32 };
        let mut frame = unwritten(header, reason);
        let outgoing = self.outgoing.take().expect("the queue is open until the connection ends");
        let written = outgoing.write_at_once(kind, &mut frame);
        let (incoming, reader) = (&mut self.incoming, &mut self.reader);
        let farewell = async move {
            if !written {
                let _ = outgoing.queue.send((std::time::Instant::now(), kind, frame)).await;
            }
            drop(outgoing);
            while incoming.recv().await.is_some() {}
            let _ = reader.await;
        };
        // A peer that takes nothing within the limit will not learn the reason.
        let _ = timeout(LINGER, farewell).await;
    }

    /// Ends the connection after all that is queued has been handed to the system.
    pub fn close(mut self) {
        drop(self.outgoing.take());
        if let Some(writer) = self.writer.take() {
            let _ = self.net.handle.block_on(async { timeout(self.net.timeout, writer).await });
        }
    }

    /// Waits for the next frame, whatever it is, while the connection behind `watched` lives.
    fn next(&mut self, waiting: &'static str, watched: Option<&watch::Receiver<bool>>) -> Result<Frame, NetError> {
        let begin = Instant::now();
        let frame = loop {
            if let Some(frame) = self.aside.pop_front() {
                self.aside_bytes -= frame.payload.len() as u64;
                break frame;
            }
            if let Some(frame) = self.soon()? {
                break frame.map_err(|e| self.named(e))?;
            }
            let deadline = self.deadline(begin);
            let outcome = self.net.handle.block_on(async {
                tokio::select! {
                    biased;
                    () = self.net.until_stopped() => Wait::Stopped,
                    frame = self.incoming.recv() => {
                        Wait::Over(frame.unwrap_or(Err(NetError::Closed { peer: self.peer })))
                    }
                    () = lost(watched) => Wait::Lost,
                    () = sleep_until(deadline) => Wait::Late,
                }
            });
            match outcome {
                Wait::Over(frame) => break frame.map_err(|e| self.named(e))?,
                Wait::Stopped => return Err(NetError::Interrupted),
                Wait::Lost => return Err(NetError::Vain { peer: self.peer }),
                Wait::Late if self.deadline(begin) > Instant::now() => {}
                Wait::Late => return Err(self.silent(waiting, begin)),
            }
        };
        self.received_bytes += (HEADER + frame.payload.len()) as u64;
        Ok(frame)
    }

    /// What arrives before it is time to sleep.
    fn soon(&mut self) -> Result<Option<Result<Frame, NetError>>, NetError> {
        let begin = std::time::Instant::now();
        while !self.net.stopped() {
            match self.incoming.try_recv() {
                Ok(frame) => return Ok(Some(frame)),
                Err(mpsc::error::TryRecvError::Empty) if begin.elapsed() < HASTE => std::thread::yield_now(),
                Err(_) => return Ok(None),
            }
        }
        Err(NetError::Interrupted)
    }

    fn outgoing(&self) -> &Outgoing {
        self.outgoing.as_ref().expect("the queue is open until the connection ends")
    }

    fn deadline(&self, begin: Instant) -> Instant {
        let silence = self.pulse.last().max(begin) + self.limit;
        silence.min(begin + self.whole.unwrap_or(self.limit * self.patience))
    }

    fn silent(&self, waiting: &'static str, begin: Instant) -> NetError {
        let seconds = (begin.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        NetError::Timeout { peer: self.peer, waiting, seconds }
    }

    fn set_aside(&mut self, frame: Frame) -> Result<(), NetError> {
        self.aside_bytes += frame.payload.len() as u64;
        if self.aside_bytes > self.aside_limit {
            let expected = format!("at most {} bytes while this side is sending", self.aside_limit);
            return Err(NetError::BadFrame { peer: self.peer, expected, got: frame.describe() });
        }
        self.aside.push_back(frame);
        Ok(())
    }

    /// Why the connection was lost. The other side's reason may still be on its way when sending fails.
    fn failure(&mut self) -> NetError {
        let incoming = &mut self.incoming;
        let reason = async move {
            loop {
                match incoming.recv().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Some(error),
                    None => return None,
                }
            }
        };
        let reason = self.net.handle.block_on(async { timeout(LINGER, reason).await });
        let error = reason.ok().flatten().unwrap_or(NetError::Closed { peer: self.peer });
        self.named(error)
    }

    /// The reading task does not know who the peer turned out to be.
    fn named(&self, error: NetError) -> NetError {
        let peer = self.peer;
        match error {
            NetError::Closed { .. } => NetError::Closed { peer },
            NetError::BadFrame { expected, got, .. } => NetError::BadFrame { peer, expected, got },
            NetError::Peer { reason, .. } => NetError::Peer { peer, reason },
            NetError::Refused { refusal, .. } => NetError::Refused { peer, refusal },
            NetError::Io { source, .. } => NetError::Io { peer, source },
            NetError::Tls { source, .. } => NetError::Tls { peer, source },
            NetError::Changed { .. } => NetError::Changed { peer },
            other => other,
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.reader.abort();
        // The writing task sends what is queued and ends, unless the peer takes nothing.
        if let Some(writer) = self.writer.take() {
            let limit = self.net.timeout;
            self.net.handle.spawn(async move {
                let abort = writer.abort_handle();
                if timeout(limit, writer).await.is_err() {
                    abort.abort();
                }
            });
        }
    }
}

/// How a wait for a frame ended.
enum Wait {
    Over(Result<Frame, NetError>),
    Stopped,
    /// The watched connection is gone.
    Lost,
    Late,
}

/// What an attempt to queue a frame led to.
enum Sent {
    Queued,
    Arrived(Frame),
    Broken,
}

async fn read_frames(
    mut inlet: Inlet,
    peer: &'static str,
    frames: mpsc::Sender<Result<Frame, NetError>>,
    lose: watch::Sender<bool>,
) {
    loop {
        match read_frame(&mut inlet, peer).await {
            Ok(frame) if frame.kind == Kind::Alive => {}
            Ok(frame) => {
                if frames.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                lose.send_replace(true);
                let _ = frames.send(Err(error)).await;
                break;
            }
        }
    }
    drop(frames);
    // Unread bytes would make closing reset the connection before the peer reads our reason.
    inlet.drain().await;
}

async fn read_frame(inlet: &mut Inlet, peer: &'static str) -> Result<Frame, NetError> {
    let most = |header: &Header| match header.kind {
        Kind::Alive => 0,
        Kind::Error => MAX_REASON,
        Kind::Refused => Refusal::MOST,
        _ => PAYLOAD,
    };
    let (Header { kind, step, .. }, payload) = inlet.frame(most).await?;
    if kind == Kind::Error {
        return Err(NetError::Peer { peer, reason: printable(&payload) });
    }
    if kind == Kind::Refused {
        return Err(match Refusal::decode(&payload) {
            Some(refusal) => NetError::Refused { peer, refusal },
            None => {
                let (expected, got) = ("a refusal".to_owned(), describe(kind, step, payload.len()));
                NetError::BadFrame { peer, expected, got }
            }
        });
    }
    Ok(Frame { kind, step, payload })
}

/// What a fault of a socket means.
pub(super) fn ended(peer: &'static str, source: io::Error) -> NetError {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match source.kind() {
        UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe => NetError::Closed { peer },
        _ => NetError::Io { peer, source },
    }
}
