//! The client's process: one run of a program after another, each with a session, seeds and material of its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ir::cost::setup_bytes;
use ir::{Party, Program};
use ndarray::ArrayD;

use super::growth::{Begun, Growth};
use super::manifest::Seeds;
use super::material::{AHEAD, Dealing, Delivery, Office, Source, Turn};
use super::once::{self, Answer, Counts, Ready};
use super::online::run;
use super::pair::{self, ASIDE};
use super::part::Part;
use super::progress::Progress;
use super::started::{self, Half, Started};
use super::state::State;
use super::stock::Named;
use super::stream::receive;
use super::{Allowance, Begin, Entropy, Loaded, Purpose, Record, RunError, Stocks, Watch};
use crate::handshake::{Hello, Mismatch, Role, Session, greet, link_digest};
use crate::inputs::{Run, decode, outside};
use crate::ledger::Peer;
use crate::net::frame::Kind;
use crate::net::{Conn, Net, Options};
use crate::setup::{Cache, Masked, Model, layout};
use kernels::prg::Seed;
use machine::meter::Phases;
use machine::{Machine, VmError};
use protocols::Maker;
use protocols::step::Step;

/// What the client needs besides its input.
pub struct Client {
    /// The program.
    pub loaded: Loaded,
    /// Where masked weights are kept.
    pub cache: Cache,
    /// Burnt sessions, and stocks.
    pub state: State,
    /// Where the server listens.
    pub server: SocketAddr,
    /// Where the dealer listens; without one both parties make their material.
    pub dealer: Option<SocketAddr>,
    /// When material is dealt.
    pub dealing: Dealing,
    /// Of the connection to the server.
    pub options: Options,
    /// What making stocks may take.
    pub allowance: Allowance,
    /// Where seeds come from.
    pub entropy: Box<dyn Entropy>,
    /// The server that was spoken with last.
    pub peer: Mutex<Option<Peer>>,
}

/// What a session begins with.
pub(super) struct Ask<'a> {
    /// The entry that runs first.
    pub(super) program: &'a Program,
    /// Its public numbers.
    pub(super) publics: &'a [u32],
    /// What the session is for.
    pub(super) purpose: Purpose,
    /// Frames of material that wait here at most.
    pub(super) frames: usize,
    /// What is wanted of the stocks that the two have.
    pub(super) wants: Wants,
}

/// What a session wants of a stock, which begins with its entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wants {
    /// None.
    Nothing,
    /// One to use.
    Use { entry: u32 },
    /// One to go on making that has fewer steps, or a new one.
    Grow { entry: u32, steps: u32 },
}

/// A session whose first step may run.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) seeds: Seeds,
    /// Unless both parties make their material.
    pub(super) masked: Option<Arc<Masked>>,
    pub(super) delivery: Delivery,
    /// Steps that the stock lasts for, if there is one; and those that others last for.
    pub(super) steps: Option<u64>,
    pub(super) left: u64,
    /// The stock, if more steps of it are to be made.
    pub(super) growth: Option<Growth>,
    /// The products of these steps.
    pub(super) products: Option<Part>,
    pub(super) setup_bytes: u64,
    pub(super) phases: Phases,
}

/// The client's machine of a step: without masked weights, on material that both parties made.
pub(super) fn machine<'a>(
    step: Step<'a>,
    seed: &'a Seed,
    publics: &'a [u32],
    masked: Option<&'a Masked>,
) -> Result<Machine<'a>, VmError> {
    match masked {
        Some(masked) => Machine::client(step, seed, publics, masked),
        None => Machine::client_of_pair(step, seed, publics),
    }
}

/// What a run gave and took.
pub struct Outcome {
    /// Outputs by name.
    pub outputs: Vec<(String, ArrayD<f32>)>,
    /// How many elements left their tables, if the program counts them.
    pub outside: Option<u64>,
    /// For the report file.
    pub record: Record,
}

impl Client {
    /// Runs an entry of the program once.
    pub fn run(&self, net: &Net, program: &Program, input: &Run) -> Result<Outcome, RunError> {
        // Before anything is sent: an input that cannot be encoded should cost nothing.
        let inputs = input.encode(program)?;
        let watch = Watch::start();
        let mut conn = net.connect(Role::Party(Party::Server), self.server, self.options, None)?;
        let result = self.session(net, &mut conn, watch, program, input, inputs);
        match result {
            Ok(outcome) => {
                conn.close();
                Ok(outcome)
            }
            Err(error) => {
                conn.fail(&error.for_peer());
                Err(error)
            }
        }
    }

    fn session(
        &self,
        net: &Net,
        conn: &mut Conn,
        mut watch: Watch,
        program: &Program,
        input: &Run,
        inputs: Vec<kernels::ring::Tensor>,
    ) -> Result<Outcome, RunError> {
        let bytes = ir::cost::cost(program).client_material_bytes;
        let (purpose, frames) = (Purpose::Run(self.dealing), AHEAD);
        let ask = Ask { program, publics: &input.publics, purpose, frames, wants: Wants::Nothing };
        let Opened { session, seeds, masked, mut delivery, setup_bytes, mut phases, .. } =
            self.open(net, conn, &mut watch, ask)?;
        let step = self.loaded.first_step(program);
        delivery.ask(step.number, step.entry)?;
        delivery.turn(Turn { step, bytes, weights: None, kept: None, ahead: &[] }, conn)?;
        let machine = machine(step, seeds.of(0), &input.publics, masked.as_deref())?;
        let finished = run(conn, delivery, self.dealing, machine, inputs, &mut watch, &mut phases)?;
        conn.send_frame(Kind::Done, 0, Bytes::new())?;
        let record = Record::new(session, phases, setup_bytes, conn, finished.report);
        let outside = outside(program, &finished.outputs);
        Ok(Outcome { outputs: decode(program, finished.outputs), outside, record })
    }

    /// Everything before the first step: handshake, masked weights, and the dealer.
    pub(super) fn open(&self, net: &Net, conn: &mut Conn, watch: &mut Watch, ask: Ask<'_>) -> Result<Opened, RunError> {
        let Ask { program, publics, purpose, frames, wants } = ask;
        let maker = self.maker();
        let mut phases = Phases::default();
        let ours = Hello {
            entry: program.name.clone(),
            publics: publics.to_vec(),
            ..self.loaded.hello(Role::Party(Party::Client))
        };
        let theirs =
            greet(conn, &Hello { state: self.state.ledger.id(), ..ours.clone() }, &[Role::Party(Party::Server)])?;
        let peer = once::peer(conn, &theirs);
        let entries = &self.loaded.module.entries;
        let most = |program: &Program| ir::cost::cost(program).server_sent_bytes;
        let online = match purpose {
            Purpose::Run(_) => most(program),
            Purpose::Generate | Purpose::Prepare => entries.iter().map(most).max().unwrap_or(0),
        };
        conn.trust(if maker == Maker::Pair { online.max(ASIDE) } else { online });
        phases.handshake_seconds = watch.lap();

        let model = Model { hash: &self.loaded.hash, commitment: &theirs.commitment, entries, digest: theirs.setup };
        let kept = match maker {
            Maker::Dealer => self.cache.load(model)?,
            Maker::Pair => None,
        };
        let holds_setup = kept.is_some() || maker == Maker::Pair;
        let (mut half, left) = self.half(&peer, wants)?;
        let named = match &half {
            Half::Nothing => Named { session: Session::default(), steps: 0 },
            Half::Use(reserved) => reserved.named(),
            Half::Grow(begun) => begun.named(),
        };
        let counts = Counts::of(self.state.ledger.marks(&peer)?);
        let begin = Begin { holds_setup, maker, purpose, stock: named.session, steps: named.steps, counts };
        conn.send_frame(Kind::Begin, 0, begin.encode())?;
        if purpose == Purpose::Prepare {
            once::tell_kept(conn, &self.stocks(), &peer)?;
        }
        // Steps that both have of the stock.
        let mut both = 0;
        if !matches!(purpose, Purpose::Run(_)) {
            // The server has a place. A party that waits for one should not keep the dealer waiting.
            let ready = Ready::receive(conn)?;
            once::heed_server(&self.state, &peer, counts, ready)?;
            (half, both) = agree(half, named.steps, ready.answer)?;
        }
        let setup_bytes = if holds_setup { 0 } else { setup_bytes(entries) };
        let masked = match holds_setup {
            true => kept,
            false => Some(self.set_up(conn, model)?),
        };
        phases.setup_seconds = watch.lap();

        let session = if both > 0 { named.session } else { theirs.session };
        let (stocks, fresh) = (self.stocks(), self.entropy.seed()?);
        let started = started::begin(&stocks, entries, conn, (half, both), (session, peer), (purpose, fresh))?;
        let Started { seeds, stock, growth, products, masks } = started;
        let source = match self.dealer {
            None => {
                let stock = (purpose == Purpose::Prepare).then(|| (&self.allowance, masks.unwrap_or_default()));
                let (program, seed) = (&self.loaded.hash, seeds.of(both).clone());
                let link = (conn.binding(), theirs.session);
                Source::Pair(pair::Maker::new(Party::Client, program, link, seed, stock)?)
            }
            Some(dealer) => {
                let hello = Hello { session, link: link_digest(conn), ..ours };
                Source::Dealer(Office { net: net.clone(), dealer, hello, seeds: vec![seeds.of(0).clone()], frames })
            }
        };
        let steps = products.as_ref().and(stock.as_ref()).map(|stock| stock.entries.len() as u64);
        let delivery = Delivery::begin(source, stock, conn)?;
        phases.dealing_seconds = watch.lap();
        Ok(Opened { session, seeds, masked, delivery, steps, left, growth, products, setup_bytes, phases })
    }

    /// This side's half of the stock that is wanted, and for how many tokens others last.
    fn half(&self, peer: &Peer, wants: Wants) -> Result<(Half, u64), RunError> {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = Some(*peer);
        let stocks = self.stocks();
        Ok(match wants {
            Wants::Nothing => (Half::Nothing, 0),
            Wants::Use { entry } => {
                let (reserved, left) = stocks.offer(peer, entry);
                (reserved.map_or(Half::Nothing, |reserved| Half::Use(Box::new(reserved))), left)
            }
            Wants::Grow { entry, steps } => {
                let begun = stocks.begun(Some(peer), entry).filter(|(named, _)| named.steps < steps);
                let reserved = match begun {
                    Some((named, _)) => stocks.reserve(named.session, peer)?,
                    None => None,
                };
                let found = reserved.map(|reserved| Begun::find(reserved, &stocks)).transpose()?.flatten();
                (found.map_or(Half::Nothing, |begun| Half::Grow(Box::new(begun))), 0)
            }
        })
    }

    /// With whom it spoke last.
    pub(super) fn last_peer(&self) -> Option<Peer> {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who makes the material of its sessions.
    pub fn maker(&self) -> Maker {
        if self.dealer.is_some() { Maker::Dealer } else { Maker::Pair }
    }

    /// Material that was made beforehand.
    pub fn stocks(&self) -> Stocks {
        self.state.stocks(Party::Client, self.loaded.hash, self.maker())
    }

    /// Receives and keeps the masked weights.
    fn set_up(&self, conn: &mut Conn, model: Model<'_>) -> Result<Arc<Masked>, RunError> {
        let pieces = layout(model.entries);
        let progress = Progress::bytes("setup", pieces.last().map_or(0, |p| p.bytes.end as u64));
        let mut store = self.cache.store(model)?;
        for (step, piece) in pieces.iter().enumerate() {
            receive::<RunError>(conn, (Kind::Setup, step as u32), piece.bytes.len(), |chunk| {
                progress.add(chunk.len());
                Ok(store.write(&chunk)?)
            })?;
            store.end_piece();
        }
        store.finish(&self.cache, model)
    }
}

/// What is left of a half by what the server says of its own, and the steps that both have.
fn agree(half: Half, steps: u32, answer: Answer) -> Result<(Half, u32), RunError> {
    let lacking = match (&half, answer) {
        (Half::Nothing, _) => return Ok((half, 0)),
        (_, Answer::Steps(theirs)) if theirs > 0 => return Ok((half, steps.min(theirs))),
        (_, Answer::Held) => {
            return Err(Mismatch::Session { what: "another session uses the stock at the server" }.into());
        }
        (_, answer) => answer,
    };
    // It is of no use.
    match half {
        Half::Nothing => {}
        Half::Use(reserved) => reserved.discard()?,
        Half::Grow(begun) => begun.discard()?,
    }
    match lacking {
        Answer::Used => Err(RunError::UsedBefore { peer: "server" }),
        _ => {
            tracing::warn!("a stock is removed: the server lacks its half, or cannot use it any more");
            Ok((Half::Nothing, 0))
        }
    }
}
