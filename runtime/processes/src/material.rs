//! A party at the dealer: hands in its seeds and takes the session's material, step by step, as it comes or in full
//! beforehand.
//!
//! At most [`AHEAD`] frames of a run wait to be taken; then the dealer does. All three processes take the instructions in
//! one order and the dealer holds nothing back when it goes on to the next, so whoever waits, waits for one that can go on.
//! In a generation the material of two steps may wait, so that a step's is at hand when the step begins.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use ir::Program;
use memmap2::MmapMut;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::RunError;
use super::pair::Maker;
use super::part::Part;
use super::progress::Progress;
use crate::handshake::{Hello, Mismatch, Role, greet};
use crate::net::frame::{Kind, PAYLOAD};
use crate::net::{Conn, Links, Net, NetError, Options};
use kernels::prg::Seed;
use protocols::cache::Openings;
use protocols::material::{Material, MaterialError};
use protocols::pair::Weights;
use protocols::step::Step;

/// Frames of the material of a run that wait at a party.
pub(super) const AHEAD: usize = 256;

/// When material is dealt. The client chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dealing {
    /// In full before the online phase.
    First,
    /// During the online phase, just ahead of its use.
    Overlapped,
}

/// Frames that the material of a step comes in at most: a frame is full, or ends an instruction.
pub(super) fn frames(program: &Program, bytes: u64) -> usize {
    length(bytes) / PAYLOAD + program.instrs.len() + 1
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("the verifier bounds the material's size")
}

/// Where a session's material comes from.
pub(super) enum Source {
    /// A dealer.
    Dealer(Office),
    /// Both parties.
    Pair(Maker),
}

/// What a step begins with.
pub(super) struct Turn<'a> {
    pub(super) step: Step<'a>,
    /// Bytes that a dealer would deal.
    pub(super) bytes: u64,
    /// The server's weights, which it puts into what both make.
    pub(super) weights: Weights<'a>,
    /// What the session keeps.
    pub(super) kept: Option<&'a Openings>,
    /// Entries of the steps after it that are sure to be asked for.
    pub(super) ahead: &'a [u32],
}

/// How to reach the dealer for a session.
pub(super) struct Office {
    pub(super) net: Net,
    pub(super) dealer: SocketAddr,
    pub(super) hello: Hello,
    /// The party's own and, from the server, that of its weights' masks.
    pub(super) seeds: Vec<Seed>,
    /// Frames of material that wait here at most.
    pub(super) frames: usize,
}

impl Office {
    /// Connects and hands in the seeds. Gives up when the connection to the other party is lost.
    fn visit(&self, peer: &mut Conn) -> Result<Conn, RunError> {
        let options = Options { incoming_frames: self.frames, shape: None };
        if self.net.links() == Links::Insecure && !self.dealer.ip().is_loopback() {
            return Err(NetError::SeedsInTheClear { address: self.dealer }.into());
        }
        let mut conn = self.net.connect(Role::Dealer, self.dealer, options, Some(peer))?;
        let mut enter = || -> Result<(), RunError> {
            greet(&mut conn, &self.hello, &[Role::Dealer])?;
            let mut bytes = BytesMut::new();
            self.seeds.iter().for_each(|seed| bytes.put_slice(seed.expose()));
            conn.send_frame(Kind::Seeds, 0, bytes.freeze())?;
            Ok(())
        };
        match enter() {
            Ok(()) => {
                conn.trust(0);
                Ok(conn)
            }
            Err(error) => {
                conn.fail(&error.for_peer());
                Err(error)
            }
        }
    }
}

/// The material of a stock.
pub(super) struct Dealt {
    /// The entry of each step.
    pub(super) entries: Vec<u32>,
    /// None if the steps are not to run: more are to be made.
    pub(super) material: Option<Part>,
}

/// A session's material on its way, from a stock as far as that lasts, else from the dealer, or as both parties make it. Chunks are
/// dropped as they are used up.
pub(super) struct Delivery {
    source: Source,
    stock: Option<Dealt>,
    /// None while a stock lasts.
    conn: Option<Conn>,
    /// The step whose material comes.
    step: u32,
    chunks: VecDeque<Bytes>,
    /// Bytes of the step that have not been taken, and of them those that have not arrived.
    left: usize,
    coming: usize,
    total: usize,
    /// Whether the connection to the other party was lost.
    lost: watch::Receiver<bool>,
    fault: Option<NetError>,
}

impl Delivery {
    /// With a stock, or from the dealer, to whom it connects. Waits end when the connection to the other party is lost.
    pub(super) fn begin(source: Source, stock: Option<Dealt>, peer: &mut Conn) -> Result<Delivery, RunError> {
        let conn = match (&stock, &source) {
            (None, Source::Dealer(office)) => Some(office.visit(peer)?),
            _ => None,
        };
        let (lost, chunks) = (peer.lost(), VecDeque::new());
        Ok(Delivery { source, stock, conn, step: 0, chunks, left: 0, coming: 0, total: 0, lost, fault: None })
    }

    /// Asks for a step, whose material comes after that of the steps before. The dealer waits until both have asked. A stock
    /// is not asked; the first step that it lacks is asked for when it begins.
    pub(super) fn ask(&mut self, step: u32, entry: u32) -> Result<(), NetError> {
        match &mut self.conn {
            Some(conn) => ask(conn, step, entry, true),
            None => Ok(()),
        }
    }

    /// The masks of what the session keeps of a step, which was made last; none of a dealer's.
    pub(super) fn rows(&mut self, step: Step) -> Option<Zeroizing<Vec<u8>>> {
        match &mut self.source {
            Source::Dealer(_) => None,
            Source::Pair(maker) => maker.rows(step),
        }
    }

    /// Goes on to a step that was asked for; the step before has taken its own. Both parties make it now, if they do.
    pub(super) fn turn(&mut self, turn: Turn, peer: &mut Conn) -> Result<(), RunError> {
        assert!(self.left == 0 && self.chunks.is_empty(), "a step takes what the program implies");
        let (step, entry) = (turn.step.number, turn.step.entry);
        let bytes = match self.source {
            Source::Dealer(_) => turn.bytes,
            Source::Pair(ref maker) => maker.bytes(turn.step.program()),
        };
        let total = length(bytes);
        (self.step, self.left, self.coming, self.total) = (step, total, total, total);
        let kept = self.stock.as_ref().map(|stock| stock.entries.get(step as usize).copied());
        if let (None | Some(None), Source::Pair(maker)) = (kept, &mut self.source) {
            self.stock = None;
            let made = maker.step(&turn, peer)?;
            assert_eq!(made.len(), total, "what is made is what the program implies");
            self.coming = 0;
            self.chunks.extend((total > 0).then(|| Bytes::from(made)));
            return Ok(());
        }
        let Some(stock) = &mut self.stock else { return Ok(()) };
        match kept.flatten() {
            Some(kept) if kept == entry => {
                let material = stock.material.as_mut().expect("a stock that grows is not read");
                let kept = material.read(total)?;
                self.coming = 0;
                self.chunks.extend((total > 0).then_some(kept));
            }
            Some(_) => return Err(Mismatch::Session { what: "the stock was dealt for other entries" }.into()),
            None => {
                // The dealer makes the masks of what is cached once more.
                let Source::Dealer(office) = &self.source else { unreachable!("made above") };
                let mut conn = office.visit(peer)?;
                for (step, &entry) in (0..).zip(&stock.entries) {
                    ask(&mut conn, step, entry, false)?;
                }
                ask(&mut conn, step, entry, true)?;
                (self.conn, self.stock) = (Some(conn), None);
            }
        }
        Ok(())
    }

    /// Hands the step's material to `take` instead of a machine, as it comes.
    pub(super) fn drain(&mut self, mut take: impl FnMut(&[u8]) -> Result<(), RunError>) -> Result<(), RunError> {
        while self.left > 0 {
            if self.chunks.is_empty() {
                self.receive()?;
            }
            for chunk in self.chunks.drain(..) {
                self.left -= chunk.len();
                take(&chunk)?;
            }
        }
        Ok(())
    }

    /// Waits until all of the step is there, and lays it out in one piece: what crosses the ends of frames is not copied
    /// when it is used, and the system maps it in large pages and unmaps it once, instead of frame by frame during the run.
    pub(super) fn complete(&mut self) -> Result<(), NetError> {
        let progress = Progress::bytes("material", self.coming as u64);
        let mut whole = match MmapMut::map_anon(self.left) {
            Ok(whole) if self.coming > 0 => whole,
            // Nothing comes; or the system has no such region, and the frames will do.
            _ => {
                while self.coming > 0 {
                    progress.add(self.receive()?);
                }
                return Ok(());
            }
        };
        #[cfg(target_os = "linux")]
        if let Err(refused) = whole.advise(memmap2::Advice::HugePage) {
            tracing::debug!("material lies in small pages: {refused}");
        }
        let mut place = &mut whole[..];
        while !place.is_empty() {
            if self.chunks.is_empty() {
                progress.add(self.receive()?);
            }
            let chunk = self.chunks.pop_front().expect("a chunk has arrived");
            let here = place.split_off_mut(..chunk.len()).expect("no more arrives than is coming");
            here.copy_from_slice(&chunk);
        }
        self.chunks.push_back(Bytes::from_owner(whole));
        Ok(())
    }

    /// The fault that ended the delivery, in full; the virtual machine knows it only in short.
    pub(super) fn fault(&mut self) -> Option<NetError> {
        self.fault.take()
    }

    /// Ends the delivery. The dealer takes its end as the end of the session, so it lasts until the last step is over.
    pub(super) fn end<T>(self, result: &Result<T, RunError>) {
        match (self.conn, result) {
            (None, _) => {}
            (Some(conn), Ok(_)) => conn.close(),
            (Some(conn), Err(error)) => conn.fail(&error.for_peer()),
        }
    }

    /// Waits for a chunk, and says how long it is.
    fn receive(&mut self) -> Result<usize, NetError> {
        let conn = self.conn.as_mut().expect("a stock has all of a step, else the dealer is there");
        let chunk = conn.receive_some((Kind::Material, self.step), self.coming, &self.lost)?;
        let length = chunk.len();
        self.coming -= length;
        self.chunks.push_back(chunk);
        Ok(length)
    }

    /// The chunk at the front, which is not empty; the material has not been taken in full.
    fn front(&mut self) -> Result<&mut Bytes, MaterialError> {
        if self.chunks.is_empty()
            && let Err(fault) = self.receive()
        {
            let short = MaterialError::Dealer(fault.to_string());
            self.fault = Some(fault);
            return Err(short);
        }
        Ok(self.chunks.front_mut().expect("a chunk has arrived"))
    }
}

/// Asks the dealer for a step, or tells it that the step's material is there.
fn ask(conn: &mut Conn, step: u32, entry: u32, wanted: bool) -> Result<(), NetError> {
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(entry);
    bytes.put_u8(u8::from(wanted));
    conn.send_frame(Kind::Next, step, bytes.freeze())
}

impl Material for Delivery {
    fn take(&mut self, length: usize) -> Result<Bytes, MaterialError> {
        if length > self.left {
            let got = (self.total - self.left + length) as u64;
            return Err(MaterialError::Length { expected: self.total as u64, got });
        }
        self.left -= length;
        let mut joined = BytesMut::new();
        let mut rest = length;
        while rest > 0 {
            let chunk = self.front()?;
            let part = chunk.split_to(chunk.len().min(rest));
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            rest -= part.len();
            if part.len() == length {
                return Ok(part);
            }
            joined.extend_from_slice(&part);
        }
        Ok(joined.freeze())
    }
}
