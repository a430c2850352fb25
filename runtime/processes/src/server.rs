//! The server's process: runs one after another and generations beside them, until it is told to stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ir::cost::setup_bytes;
use ir::{Party, Program};
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

use super::growth::{Begun, Growth};
use super::guests::{Audit, Guests};
use super::manifest::Seeds;
use super::material::{AHEAD, Delivery, Office, Source, Turn};
use super::once::{self, Answer, Counts, Ready};
use super::online::{Threads, over, run, step};
use super::pair::{self, ASIDE};
use super::plan::{Due, Plan};
use super::prepare::keep;
use super::started::{self, Half, Started};
use super::stock::Named;
use super::stream::Outgoing;
use super::usage::Tally;
use super::{
    Allowance, BEGIN, Begin, Entropy, GO_ON, Loaded, Purpose, Record, RunError, State, Stocks, Watch, accept, chain,
    trace, write_json,
};
use crate::handshake::{self, Hello, Mismatch, Role, Session, greet, hex, link_digest};
use crate::keys::MasterKey;
use crate::ledger::Peer;
use crate::limits::{Count, Limits};
use crate::net::frame::Kind;
use crate::net::{Conn, Links, Listener, Net, NetError, Refusal};
use crate::setup::{SetupDigest, layout};
use crate::weights_file::{EntryWeights, WeightsFile};
use kernels::prg::Seed;
use machine::meter::Phases;
use machine::profile::Totals;
use machine::{Machine, VmError};
use protocols::Maker;
use protocols::cache::Openings;
use protocols::linear::{WeightMask, mask_weight};
use protocols::step::Step;
use protocols::weights::ServerWeights;

/// Connections at one time. Those beyond are turned away.
const CONNECTIONS: usize = 64;

/// How long a generation may ask for no token, unless told otherwise.
pub const IDLE: Duration = Duration::from_secs(300);

/// Who may come.
pub const GUESTS: [Role; 1] = [Role::Party(Party::Client)];

/// What the server needs besides its sockets.
pub struct Server {
    /// The program.
    pub loaded: Loaded,
    /// Its weights.
    pub weights: WeightsFile,
    /// From which the weights' masks derive.
    pub key: MasterKey,
    /// Burnt sessions, and stocks.
    pub state: State,
    /// Where the dealer listens; without one both parties make their material.
    pub dealer: Option<SocketAddr>,
    /// Where seeds and sessions come from.
    pub entropy: Box<dyn Entropy>,
    /// Generations at one time; more wait, and are refused when none ends within the timeout. Runs go one by one.
    pub sessions: usize,
    /// Tokens that it keeps material for at most, for each client.
    pub stock: Option<NonZeroUsize>,
    /// What clients may ask for whose pins do not say.
    pub limits: Limits,
    /// How long a generation may ask for no token before its place goes to another.
    pub idle: Duration,
    /// What making stocks may take.
    pub allowance: Allowance,
    /// Where to write what the last run took.
    pub report: Option<PathBuf>,
}

impl Server {
    /// Who makes the material of its sessions.
    pub fn maker(&self) -> Maker {
        if self.dealer.is_some() { Maker::Dealer } else { Maker::Pair }
    }
}

/// The server's report.
#[derive(Serialize)]
struct ServerReport {
    preprocessing: &'static str,
    links: Links,
    program: String,
    #[serde(flatten)]
    totals: Totals,
    session: Record,
}

struct Desk {
    net: Net,
    server: Server,
    /// Of the weights' masks.
    mask_seed: Seed,
    /// Of the masked weights that clients get, or zero if they get none.
    setup: SetupDigest,
    plan: Option<Plan>,
    guests: Guests,
    running: Semaphore,
    generating: Semaphore,
    /// A stock that is made takes no place of a text.
    preparing: Semaphore,
    /// How many tokens the stocks are to have that are being made, and for whom.
    promised: Mutex<BTreeMap<[u8; 16], (Peer, u64)>>,
}

/// Serves all clients that come, until told to stop.
pub fn serve(net: &Net, listener: &Listener, server: Server) {
    let plan = Plan::of(&server.loaded.module).ok();
    let [generating, preparing] = [(); 2].map(|()| Semaphore::new(server.sessions));
    let (running, promised) = (Semaphore::new(1), Mutex::default());
    let Server { loaded, weights, key, .. } = &server;
    let (entries, mask_seed) = (&loaded.module.entries, key.mask_seed(&loaded.hash, weights.digest()));
    let setup = match server.maker() {
        Maker::Dealer => SetupDigest::of_server(entries, &mask_seed, &weights.of(&entries[0])),
        Maker::Pair => SetupDigest::default(),
    };
    let (net, guests) = (net.clone(), Guests::new(server.limits.clone()));
    let desk = Desk { net, server, mask_seed, setup, plan, guests, running, generating, preparing, promised };
    accept::serve(listener, CONNECTIONS, desk, Desk::attend);
}

impl Desk {
    fn attend(&self, mut conn: Conn) {
        let session = match self.server.entropy.session() {
            Ok(session) => session,
            Err(error) => return refuse(conn, &error),
        };
        let mut audit = Audit::begin(&conn, session);
        let done = self.session(&mut conn, session, &mut audit);
        audit.tell(&self.trust(), &done);
        match done {
            Ok(Some(record)) => {
                conn.close();
                self.report(*record);
            }
            Ok(None) => conn.close(),
            Err(RunError::Refused(refusal)) => conn.refuse(&refusal),
            Err(error) => conn.fail(&error.for_peer()),
        }
    }

    /// What a session's privacy rests on.
    fn trust(&self) -> String {
        format!("{}, {}", self.server.maker().trust(), self.net.links().name())
    }

    /// A report that cannot be written ends no service.
    fn report(&self, session: Record) {
        let Some(path) = &self.server.report else { return };
        let program = hex(&self.server.loaded.hash);
        let totals = Totals::of([(&session.online, session.phases, session.setup_bytes)]);
        let (preprocessing, links) = (self.server.maker().trust(), self.net.links());
        let report = ServerReport { preprocessing, links, program, totals, session };
        if let Err(error) = write_json(path, &report) {
            tracing::warn!("report: {}", chain(&error));
        }
    }

    /// A session to its end; gives the record of a pass.
    fn session(&self, conn: &mut Conn, session: Session, audit: &mut Audit) -> Result<Option<Box<Record>>, RunError> {
        let Server { loaded, weights, state, dealer, entropy, allowance, idle, .. } = &self.server;
        let (mut phases, mut watch) = (Phases::default(), Watch::start());
        let ours = Hello { session, ..loaded.hello(Role::Party(Party::Server)) };
        let greeting = Hello { setup: self.setup, state: state.ledger.id(), ..ours.clone() };
        let theirs = greet(conn, &greeting, &GUESTS)?;
        let peer = once::peer(conn, &theirs);
        let program = handshake::entry(&loaded.module, &theirs)?;
        let (step, entries) = (loaded.first_step(program), &loaded.module.entries);
        let begin = Begin::decode(&conn.receive_small(Kind::Begin, BEGIN)?).ok_or_else(|| NetError::BadFrame {
            peer: conn.peer(),
            expected: "a begin with known choices".to_owned(),
            got: "something else".to_owned(),
        })?;
        audit.asked(begin.purpose, &program.name);
        let maker = self.server.maker();
        if begin.maker != maker {
            let what = match maker {
                Maker::Dealer => "this server takes material from a dealer, the client makes it with the server",
                Maker::Pair => "this server makes material with its clients, the client takes it from a dealer",
            };
            return Err(Mismatch::Maker { what }.into());
        }
        let plan = match begin.purpose {
            Purpose::Run(_) => None,
            Purpose::Generate | Purpose::Prepare => Some(self.generation(step.entry, &theirs.publics)?),
        };
        let most = |program: &Program| ir::cost::cost(program).client_sent_bytes;
        let online = match begin.purpose {
            Purpose::Run(_) => most(program),
            Purpose::Generate | Purpose::Prepare => entries.iter().map(most).max().unwrap_or(0),
        };
        conn.trust(if maker == Maker::Pair { online.max(ASIDE) } else { online });
        phases.handshake_seconds = watch.lap();

        let limits = self.guests.limits(conn);
        limits.allow(program)?;
        let at_once = (begin.purpose != Purpose::Prepare).then(|| self.guests.come(peer.key, &limits));
        let _place = at_once.transpose()?;
        let _permit = self.permit(conn, begin.purpose)?;
        let mut tally = match begin.purpose {
            Purpose::Run(_) => Some(Tally::begin(state, peer.key, limits, Count::Passes)?),
            Purpose::Generate => Some(Tally::begin(state, peer.key, limits, Count::Sessions)?),
            Purpose::Prepare => None,
        };
        let (mut half, mut both) = (Half::Nothing, 0);
        if plan.is_some() {
            (half, both) = self.half(conn, &peer, begin)?;
        }
        audit.stock = both > 0;
        let weights = weights.of(program);
        if !begin.holds_setup {
            for (number, piece) in layout(entries).into_iter().enumerate() {
                let mut out = Outgoing::new(conn, Kind::Setup, number as u32, piece.bytes.len() as u64);
                let integers = weights.integers(piece.weight);
                let mask = WeightMask::new(&self.mask_seed, (piece.weight, piece.width));
                let sent = mask_weight(mask, integers, &mut out);
                out.finish(sent.is_ok())?;
            }
        }
        phases.setup_seconds = watch.lap();

        let (named, fresh) = (session, entropy.seed()?);
        let session = if both > 0 { begin.stock } else { named };
        let begun =
            started::begin(&self.stocks(), entries, conn, (half, both), (session, peer), (begin.purpose, fresh))?;
        let Started { seeds, stock, growth, masks, .. } = begun;
        let bytes = ir::cost::cost(program).server_material_bytes;
        let frames = match (begin.purpose, plan) {
            (Purpose::Run(_), _) => AHEAD,
            (_, Some((plan, _))) => plan.frames(&loaded.module, step.entry, Party::Server),
            (_, None) => unreachable!("a generation has a plan"),
        };
        let source = match *dealer {
            None => {
                let stock = (begin.purpose == Purpose::Prepare).then(|| (allowance, masks.unwrap_or_default()));
                let link = (conn.binding(), named);
                Source::Pair(pair::Maker::new(Party::Server, &loaded.hash, link, seeds.of(both).clone(), stock)?)
            }
            Some(dealer) => Source::Dealer(Office {
                net: self.net.clone(),
                dealer,
                // Without the setup's digest, by which one who has the masks could check a guess of the weights.
                hello: Hello { entry: program.name.clone(), session, link: link_digest(conn), ..ours },
                seeds: vec![seeds.of(0).clone(), self.mask_seed.clone()],
                frames,
            }),
        };
        let mut delivery = Delivery::begin(source, stock, conn)?;
        phases.dealing_seconds = watch.lap();

        let dealing = match (begin.purpose, plan) {
            (Purpose::Run(dealing), _) => dealing,
            (purpose, Some((plan, prompt))) => {
                let steps = Steps { loaded, plan, prompt, maker, idle: *idle };
                let done = match (purpose, &mut tally) {
                    (Purpose::Generate, Some(tally)) => {
                        let done = generate(conn, &mut delivery, steps, &seeds, &weights, tally);
                        audit.tokens = tally.steps;
                        done
                    }
                    _ => {
                        let growth = growth.expect("begun above");
                        let kept = self.keep(conn, &mut delivery, steps, (growth, peer), &weights);
                        kept.map(|steps| audit.tokens = steps)
                    }
                };
                delivery.end(&done);
                return done.map(|()| None);
            }
            (_, None) => unreachable!("a generation has a plan"),
        };
        delivery.ask(step.number, step.entry)?;
        delivery.turn(Turn { step, bytes, weights: Some(&weights), kept: None, ahead: &[] }, conn)?;
        let machine = machine(maker, step, seeds.of(0), &theirs.publics, &weights)?;
        let finished = run(conn, delivery, dealing, machine, Vec::new(), &mut watch, &mut phases)?;
        conn.receive_small(Kind::Done, 0)?;
        let setup_bytes = if begin.holds_setup { 0 } else { setup_bytes(entries) };
        Ok(Some(Box::new(Record::new(session, phases, setup_bytes, conn, finished.report))))
    }

    /// The plan of a generation that begins so, and the length of its prompt.
    fn generation(&self, entry: u32, publics: &[u32]) -> Result<(&Plan, usize), RunError> {
        let prompt =
            self.plan.as_ref().and_then(|plan| Some((plan, plan.prompt(&self.server.loaded.module, entry, publics)?)));
        let what = "a generation does not begin with this entry and these public numbers";
        prompt.ok_or_else(|| Mismatch::Session { what }.into())
    }

    /// Keeps the material of further steps of a stock, as long as the client asks for them; gives their number.
    fn keep(
        &self,
        conn: &mut Conn,
        delivery: &mut Delivery,
        Steps { plan, loaded, prompt, .. }: Steps<'_>,
        (mut growth, peer): (Growth, Peer),
        weights: &EntryWeights<'_>,
    ) -> Result<u32, RunError> {
        let first = plan.due(&loaded.module, prompt, 0).and_then(|due| plan.size(due.entry));
        let size = first.expect("the session began with a prefill");
        let count = conn.receive_small(Kind::Next, 4)?;
        let count = count[..].try_into().map_or(u32::MAX, u32::from_le_bytes);
        let entries: Option<Vec<u32>> = (0..count).map(|number| plan.entry(size, number)).collect();
        let Some(entries) = entries else {
            return Err(Mismatch::Session { what: "a step beyond the last slot was asked for" }.into());
        };
        if !entries.starts_with(growth.entries()) {
            return Err(Mismatch::Session { what: "the stock was begun for other entries" }.into());
        }
        let _promise = self.promise(&growth, peer, count)?;
        growth.want(count);
        let begun = growth.steps();
        let mut grow = || -> Result<(), RunError> {
            while goes_on(conn)? {
                let number = growth.steps();
                let Some(&entry) = entries.get(number as usize) else {
                    return Err(Mismatch::Session { what: "more steps were asked for than were said" }.into());
                };
                let step = Step { entries: &loaded.module.entries, entry, number };
                let bytes = plan.material_bytes(entry, Party::Server);
                let ahead = &entries[number as usize + 1..];
                keep(delivery, &mut growth, Turn { step, bytes, weights: Some(weights), kept: None, ahead }, conn)?;
                growth.whole(&[entry])?;
            }
            Ok(())
        };
        let grown = grow();
        let settled = growth.settle();
        grown.and(settled)?;
        let steps = growth.steps() - begun;
        growth.end()?;
        conn.send_frame(Kind::Done, 0, Bytes::new())?;
        Ok(steps)
    }

    /// Answers what the client says of counts and of the stock that it names: this side's half, and the steps that both have.
    fn half(&self, conn: &mut Conn, peer: &Peer, begin: Begin) -> Result<(Half, u32), RunError> {
        let state = &self.server.state;
        if begin.purpose == Purpose::Prepare {
            once::forget_lost(conn, &self.stocks(), peer)?;
        }
        let honest = once::heed_client(state, peer, begin.counts)?;
        let (half, answer) = match begin.steps {
            _ if !honest => (Half::Nothing, Answer::Restored),
            0 => (Half::Nothing, Answer::Unknown),
            _ => self.find(conn, peer, begin.stock, begin.purpose)?,
        };
        let counts = Counts::of(state.ledger.marks(peer)?);
        Ready { answer, counts }.send(conn)?;
        match answer {
            Answer::Restored => Err(RunError::PeerRestored { peer: "client" }),
            Answer::Used => Err(RunError::UsedBefore { peer: "server" }),
            Answer::Steps(steps) => Ok((half, steps.min(begin.steps))),
            _ => Ok((Half::Nothing, 0)),
        }
    }

    /// The half of a stock that a client names. A connection that was lost may not have let go of it yet.
    fn find(
        &self,
        conn: &mut Conn,
        peer: &Peer,
        session: Session,
        purpose: Purpose,
    ) -> Result<(Half, Answer), RunError> {
        let (begin, stocks) = (Instant::now(), self.stocks());
        loop {
            let found = match stocks.reserve(session, peer) {
                Ok(Some(reserved)) if purpose == Purpose::Prepare => Begun::find(reserved, &stocks).map(|begun| {
                    let steps = begun.as_ref().map(|begun| begun.named().steps);
                    (
                        begun.map_or(Half::Nothing, |begun| Half::Grow(Box::new(begun))),
                        steps.map_or(Answer::Unknown, Answer::Steps),
                    )
                }),
                Ok(Some(reserved)) => {
                    let steps = reserved.named().steps;
                    Ok((Half::Use(Box::new(reserved)), Answer::Steps(steps)))
                }
                Ok(None) if self.server.state.ledger.is_burnt(Party::Server, &session)? => {
                    Ok((Half::Nothing, Answer::Used))
                }
                Ok(None) if stocks.is_reserved(session) => Err(RunError::Growing),
                Ok(None) => Ok((Half::Nothing, Answer::Unknown)),
                Err(error) => Err(error.into()),
            };
            match found {
                Err(RunError::Growing) if begin.elapsed() < self.net.timeout() => {
                    conn.during(async { sleep(Duration::from_millis(20)).await })?;
                }
                Err(RunError::Growing) => return Ok((Half::Nothing, Answer::Held)),
                // Nobody can use it, or go on with it.
                Err(RunError::Stock(error)) => {
                    tracing::warn!("a stock is passed over: {}", chain(&error));
                    return Ok((Half::Nothing, Answer::Unusable));
                }
                found => return found,
            }
        }
    }

    /// Promises to keep a stock of so many tokens, if that is within the limit.
    fn promise(&self, growth: &Growth, peer: Peer, tokens: u32) -> Result<Promise<'_>, RunError> {
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let session = growth.session().0;
        if let Some(limit) = self.server.stock {
            let limit = limit.get() as u64;
            let counted = |named: &Named| named.session.0 == session || promised.contains_key(&named.session.0);
            let others = self.stocks().sessions_of(&peer.key).into_iter().filter(|named| !counted(named));
            let making = promised.values().filter(|(whose, _)| whose.key == peer.key).map(|(_, tokens)| tokens);
            let kept = others.map(|named| u64::from(named.steps)).sum::<u64>() + making.sum::<u64>();
            let (kept, more) = (kept + u64::from(growth.steps()), u64::from(tokens.saturating_sub(growth.steps())));
            if kept + more > limit {
                return Err(RunError::Enough { limit, kept, more });
            }
        }
        promised.insert(session, (peer, tokens.into()));
        Ok(Promise { desk: self, session })
    }

    fn stocks(&self) -> Stocks {
        self.server.state.stocks(Party::Server, self.server.loaded.hash, self.server.maker())
    }

    /// Waits for a place.
    fn permit(&self, conn: &mut Conn, purpose: Purpose) -> Result<SemaphorePermit<'_>, RunError> {
        let limit = self.net.timeout();
        let acquired = match purpose {
            Purpose::Run(_) => Ok(conn.during(self.running.acquire())?),
            Purpose::Generate => conn.during(async { timeout(limit, self.generating.acquire()).await })?,
            Purpose::Prepare => conn.during(async { timeout(limit, self.preparing.acquire()).await })?,
        };
        match acquired {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => {
                let (sessions, seconds) = (self.server.sessions, limit.as_secs_f64());
                let what =
                    format!("{sessions} sessions are running (`--sessions`), and none has ended within {seconds} s");
                Err(Refusal::Busy { what }.into())
            }
        }
    }
}

/// A stock that is being made.
struct Promise<'a> {
    desk: &'a Desk,
    session: [u8; 16],
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.desk.promised.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.session);
    }
}

/// The steps of a generation.
#[derive(Clone, Copy)]
struct Steps<'a> {
    loaded: &'a Loaded,
    plan: &'a Plan,
    prompt: usize,
    maker: Maker,
    idle: Duration,
}

/// Runs steps as long as the client asks for them, and may.
fn generate(
    conn: &mut Conn,
    delivery: &mut Delivery,
    Steps { loaded, plan, prompt, maker, idle }: Steps<'_>,
    seeds: &Seeds,
    weights: &EntryWeights<'_>,
    tally: &mut Tally<'_>,
) -> Result<(), RunError> {
    let (entries, threads) = (&loaded.module.entries, Threads::new()?);
    let mut cache = Openings::default();
    let mut due = plan.due(&loaded.module, prompt, 0);
    for number in 0.. {
        if number == 0
            && let Some(first) = &due
        {
            delivery.ask(number, first.entry)?;
        }
        // Made while the client looks at the token before.
        let ready = match &due {
            Some(Due { entry, publics }) => {
                let step = Step { entries, entry: *entry, number };
                Some((step, machine(maker, step, seeds.of(number), publics, weights)?))
            }
            None => None,
        };
        if !goes_on_within(conn, idle)? {
            return Ok(());
        }
        let Some((this, mut machine)) = ready else {
            return Err(Mismatch::Session { what: "a step beyond the context was asked for" }.into());
        };
        tally.step(this.program())?;
        let bytes = plan.material_bytes(this.entry, Party::Server);
        delivery.turn(Turn { step: this, bytes, weights: Some(weights), kept: Some(&cache), ahead: &[] }, conn)?;
        // Dealt while this one runs.
        let next = plan.due(&loaded.module, prompt, number + 1);
        if let Some(next) = &next {
            delivery.ask(number + 1, next.entry)?;
        }
        over(conn, |link| machine.prepare(link))?;
        trace(number, &step(&threads, conn, delivery, machine, &mut cache, Vec::new())?.report);
        due = next;
    }
    unreachable!("a context has an end")
}

/// The server's machine of a step.
fn machine<'a>(
    maker: Maker,
    step: Step<'a>,
    seed: &'a Seed,
    publics: &'a [u32],
    weights: &'a EntryWeights<'_>,
) -> Result<Machine<'a>, VmError> {
    match maker {
        Maker::Dealer => Machine::server(step, seed, publics, weights),
        Maker::Pair => Machine::server_of_pair(step, seed, publics, weights),
    }
}

/// Whether the client wants the step that is due. While it looks at what it has, it shows that it is alive.
fn goes_on(conn: &mut Conn) -> Result<bool, NetError> {
    Ok(conn.receive_small(Kind::Next, 1)?[..] == [GO_ON])
}

/// The same of a generation, whose client may wait for a person who types.
fn goes_on_within(conn: &mut Conn, idle: Duration) -> Result<bool, RunError> {
    let begin = Instant::now();
    match conn.receive_small_within(Kind::Next, 1, idle) {
        Ok(asked) => Ok(asked[..] == [GO_ON]),
        Err(NetError::Timeout { .. }) if begin.elapsed() >= idle => Err(RunError::Idle { seconds: idle.as_secs_f64() }),
        Err(error) => Err(error.into()),
    }
}

fn refuse(conn: Conn, error: &RunError) {
    tracing::warn!("a client was turned away: {error}");
    conn.fail(&error.for_peer());
}
