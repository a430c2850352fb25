//! The two parties in the dealer's place: material of one step after another, made over the connection between them.
//!
//! Keys       of the transfers come from the operating system, once a connection; their names from the program, the session that
//!            the server named for the connection, and what the connection's two ends alone have in common ([`Conn::binding`]). So a
//!            stock that is continued has transfers of its own, and messages of one connection are of no use on another.
//! When       A step's material is made when the step begins, unless a stock has it. Whoever continues a stock goes on from the
//!            masks of what its session keeps.
//! Messages   are frames of a kind of their own with the step's number; their lengths follow from the program.
//! Errors     What was made of a step that failed is dropped by both sides, with the keys and the seeds that it was made from.

use std::time::Instant;

use bytes::Bytes;
use ir::{Party, Program};
use ot::{Channel, Pair};
use rayon::ThreadPool;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::RunError;
use super::allowance::Allowance;
use super::material::Turn;
use super::rows::Kept;
use crate::handshake::Session;
use crate::net::frame::{HEADER, Kind, PAYLOAD};
use crate::net::{Conn, NetError};
use kernels::prg::Seed;
use protocols::cache::{Masks, Openings};
use protocols::dealer::material_bytes;
use protocols::pair::{self, Engine, PairError, Products, make};
use protocols::step::Step;

/// Bytes that the peer may send while this side sends as well: more than the greatest message of what is made at once.
pub(super) const ASIDE: u64 = 1 << 30;

/// A party's end of a session's making.
pub(super) struct Maker {
    party: Party,
    /// Tells this connection's transfers from all others.
    name: [u8; 32],
    seed: Seed,
    allowance: Allowance,
    pool: Option<ThreadPool>,
    engine: Option<Engine>,
    kept: Option<Kept>,
    products: Products,
}

impl Maker {
    /// For a connection of a program, by what its two ends alone have in common and the session that the server named for it; `seed` is the party's, and new to every step
    /// that is made. For a stock, it has an allowance, and `kept` has the masks of the steps before, which else are a machine's to give.
    pub(super) fn new(
        party: Party,
        program: &[u8; 32],
        (binding, named): (&[u8; 32], Session),
        seed: Seed,
        stock: Option<(&Allowance, Kept)>,
    ) -> Result<Maker, RunError> {
        let mut hasher = blake3::Hasher::new_derive_key("ssvm making, name of a connection, 3");
        hasher.update(program).update(&named.0).update(binding);
        let (allowance, kept) =
            stock.map_or_else(Default::default, |(allowance, kept)| (allowance.clone(), Some(kept)));
        let (name, pool, products) = (hasher.finalize().into(), allowance.pool()?, Products::default());
        Ok(Maker { party, name, seed, allowance, pool, engine: None, kept, products })
    }

    /// The masks of what the session keeps of a step, which was made last.
    pub(super) fn rows(&mut self, step: Step) -> Option<Zeroizing<Vec<u8>>> {
        Some(self.kept.as_mut()?.rows(step))
    }

    /// Bytes of material that a step of a program takes here.
    pub(super) fn bytes(&self, program: &Program) -> u64 {
        material_bytes(program, ir::pair::Maker::Pair, self.party)
    }

    /// Makes the material of a step: what the server keeps, nothing at the client.
    pub(super) fn step(&mut self, turn: &Turn, peer: &mut Conn) -> Result<Vec<u8>, RunError> {
        let Turn { step, weights, kept, ahead, .. } = *turn;
        let mut way = Way { conn: peer, step: step.number, allowance: &self.allowance, fault: None };
        let masks = || Kept::of(kept.map_or_else(Masks::default, Openings::masks));
        let masks = &mut self.kept.get_or_insert_with(masks).masks;
        let (products, mut made) = (&mut self.products, Vec::new());
        let mut work = || {
            // Before anything is sent for it.
            masks.check(step).map_err(PairError::from)?;
            let engine = match &mut self.engine {
                Some(engine) => engine,
                empty => {
                    let seed = Seed::random().map_err(RunError::Random)?;
                    let pair = Pair::set_up(&mut way, self.party, self.name, &seed).map_err(RunError::Transfers)?;
                    empty.insert(Engine::new(pair))
                }
            };
            let mut engine = engine.over(&mut way);
            let begin = Instant::now();
            if !products.has(step) {
                let steps = together(step, ahead);
                pair::products(&steps, &self.seed, weights, masks, &mut engine, products).map_err(RunError::Making)?;
            }
            let of_products = begin.elapsed().as_secs_f64();
            make(step, &self.seed, weights, products, masks, &mut engine, &mut made).map_err(RunError::Making)?;
            let seconds = begin.elapsed().as_secs_f64();
            tracing::debug!(step = step.number, seconds, of_products, "made the material of a step");
            Ok(())
        };
        let done = match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        };
        match way.fault {
            Some(fault) => Err(fault.into()),
            None => done.map(|()| made),
        }
    }
}

/// A step and those of the entries after it whose products are made at once.
fn together<'a>(step: Step<'a>, ahead: &[u32]) -> Vec<Step<'a>> {
    let after = (step.number + 1..).zip(ahead).map(|(number, &entry)| Step { entry, number, ..step });
    let mut steps: Vec<Step> = std::iter::once(step).chain(after).collect();
    steps.truncate(ir::making::together(steps.iter().map(|step| step.program())));
    steps
}

/// The way to the peer while a step's material is made.
struct Way<'a> {
    conn: &'a mut Conn,
    step: u32,
    allowance: &'a Allowance,
    /// The fault that ended it, in full; the transfers know it only in short.
    fault: Option<NetError>,
}

impl Way<'_> {
    fn kept<T>(&mut self, done: Result<T, NetError>) -> Result<T, ot::Error> {
        done.map_err(|fault| {
            let short = ot::Error::Channel(fault.to_string().into());
            self.fault = Some(fault);
            short
        })
    }

    /// Frame by frame, so that the peer hears of this side while a long message is held back.
    fn hold_and_send(&mut self, mut rest: Bytes) -> Result<(), NetError> {
        while !rest.is_empty() {
            let payload = rest.split_to(rest.len().min(PAYLOAD));
            if let Some(time) = self.allowance.hold(HEADER + payload.len()).filter(|time| !time.is_zero()) {
                self.conn.during(async { sleep(time).await })?;
            }
            self.conn.send_frame(Kind::Making, self.step, payload)?;
        }
        Ok(())
    }
}

impl Channel for Way<'_> {
    fn send(&mut self, bytes: Vec<u8>) -> Result<(), ot::Error> {
        let sent = self.hold_and_send(bytes.into());
        self.kept(sent)
    }

    fn receive(&mut self, length: usize) -> Result<Vec<u8>, ot::Error> {
        let received = self.conn.receive(Kind::Making, self.step, length);
        self.kept(received)
    }
}
