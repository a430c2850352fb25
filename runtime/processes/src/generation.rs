//! Generation as the client's process does it: a session of steps, a token each.
//!
//! Threads  A session has a thread of its own, which holds its connections and runs its steps when asked. While a step
//!          runs, a second thread does what the next one's input is not needed for: the client's products with the masked
//!          weights, unless a stock has them, and the messages that go ahead, which are kept until the connection is free
//!          for them. That work has a pool of its own, half of the cores, so that the step that runs does not queue behind
//!          it.
//! Memory   Material of two steps, the masked weights once for all sessions, and the openings of the session's slots.
//! Ends     With the session's owner, on cancellation, or by a fault; the next session connects anew. What was dealt for
//!          steps that did not run is forgotten.

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use ir::Party;
use ir::program::Encoding;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::client::{Ask, Client, Opened, Wants, machine};
use super::material::Turn;
use super::online::{Threads, step};
use super::refill::{Refiller, Texts};
use super::{Due, GO_ON, Loaded, Plan, Purpose, Refill, RunError, Watch, trace};
use crate::handshake::Role;
use crate::inputs::outside;
use crate::net::frame::Kind;
use crate::net::{Conn, Net};
use crate::setup::Masked;
use kernels::codec::dimensions;
use kernels::ring::Tensor;
use machine::link::{Link, LinkError};
use machine::{Machine, Products, products_len};
use protocols::cache::Openings;
use protocols::step;

/// A model that runs as a client of a server and a dealer.
pub struct Generator(Arc<Shared>);

pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) plan: Plan,
    pub(super) texts: watch::Sender<Texts>,
    /// But for what ends its waits.
    net: Net,
    /// Those of the last session, so that the next finds them in memory.
    masked: Mutex<Option<Arc<Masked>>>,
    /// For work ahead.
    pool: ThreadPool,
}

impl Generator {
    /// For a program that was compiled for generation. Sessions connect as `net` says, whose runtime must outlive them; what ends
    /// their waits is their own.
    pub fn new(client: Client, net: &Net) -> Result<Generator, RunError> {
        let plan = Plan::of(&client.loaded.module)
            .map_err(|what| RunError::NotForGeneration { path: client.loaded.path.clone(), what })?;
        let threads = (rayon::current_num_threads() / 2).max(1);
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().map_err(RunError::Threads)?;
        Ok(Generator(Arc::new(Shared {
            pool,
            client,
            plan,
            texts: watch::Sender::default(),
            net: net.clone(),
            masked: Mutex::default(),
        })))
    }

    /// The program's entries, sizes and vocabulary.
    pub fn plan(&self) -> &Plan {
        &self.0.plan
    }

    /// The program.
    pub fn loaded(&self) -> &Loaded {
        &self.0.client.loaded
    }

    /// For how many tokens there is material.
    pub fn stock_tokens(&self) -> u64 {
        self.0.client.stocks().tokens()
    }

    /// Keeps stocks for at least so many tokens, from now on until the process is told to stop, as `net` knows it. A text has at
    /// most `most` of them.
    pub fn refill(&self, net: &Net, tokens: NonZeroUsize, most: NonZeroUsize) -> Refill {
        Refiller { net: net.clone(), shared: self.0.clone(), tokens: tokens.get(), most: most.get() }.start()
    }

    /// Starts on a prompt of at least one token that the plan has room for, token ids below the vocabulary. The session
    /// asks `noise` for each token's noise, and gives up with [`NetError::Interrupted`](crate::net::NetError::Interrupted) soon
    /// after `cancel` turns true, also in its later calls.
    pub fn begin(
        &self,
        prompt: &[u32],
        noise: Box<dyn Noise>,
        cancel: watch::Receiver<bool>,
    ) -> Result<Session, RunError> {
        let (asks, asked) = channel();
        let (answers, answered) = channel();
        let job = Job {
            _counted: Counted::new(&self.0, prompt.len()),
            shared: self.0.clone(),
            net: self.0.net.stopped_by(cancel),
            prompt: Zeroizing::new(prompt.to_vec()),
            noise,
        };
        let thread = thread::spawn(move || job.run(&asked, &answers));
        let mut session = Session { asks: Some(asks), answered, thread: Some(thread) };
        // The first answer says that the session is there.
        session.answer()?;
        Ok(session)
    }
}

/// What a session's thread tells: once that the session is there, then a token for each ask.
type Answer = Result<Step, RunError>;

/// What the client adds to its share of the logits.
pub trait Noise: Send + Sync {
    /// That of the token that comes `step`-th, from 0, in units of 2^-scale: one number per entry of the vocabulary.
    fn fill(&self, step: u32, scale: u8, out: &mut [i64]);
}

/// A token and what it took.
#[derive(Clone, Copy)]
pub struct Step {
    /// The token.
    pub token: u32,
    /// Bytes that the client sent for it.
    pub sent_bytes: u64,
    /// Bytes that the client received for it.
    pub received_bytes: u64,
    /// Wall time, waiting included.
    pub seconds: f64,
    /// For how many tokens there is material left, over all sessions; nothing if it is dealt on demand.
    pub material_tokens: Option<u64>,
    /// How many elements left their tables.
    pub outside: u64,
}

/// A prompt that is being continued: the owner's end of its thread. Dropping it ends it.
pub struct Session {
    asks: Option<Sender<Option<u32>>>,
    answered: Receiver<Answer>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Session {
    fn answer(&mut self) -> Result<Step, RunError> {
        self.answered.recv().expect("the thread of a session answers unless it panics, which it has reported")
    }

    /// The next token after `given`, or after the one that was chosen last: the session takes this one as appended. The first
    /// token follows the prompt, and nothing is given for it. Not to be called after an error or past the context. Nobody else
    /// learns which of the two a step was.
    pub fn next(&mut self, given: Option<u32>) -> Result<Step, RunError> {
        // A thread that has ended has left an error to receive.
        let _ = self.asks.as_ref().expect("asks are open until the end").send(given);
        self.answer()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.asks.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported, and answered with one.
            let _ = thread.join();
        }
    }
}

/// A text that runs, for as long as this lasts.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>, prompt: usize) -> Counted {
        let size = shared.plan.prefill().into_iter().find(|&size| size >= prompt);
        shared.texts.send_modify(|texts| *texts = Texts { running: texts.running + 1, size: size.or(texts.size) });
        Counted(shared.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.texts.send_modify(|texts| texts.running -= 1);
    }
}

/// A session of one prompt.
struct Job {
    _counted: Counted,
    shared: Arc<Shared>,
    net: Net,
    prompt: Zeroizing<Vec<u32>>,
    noise: Box<dyn Noise>,
}

impl Job {
    fn run(self, asked: &Receiver<Option<u32>>, answers: &Sender<Answer>) {
        if let Err(error) = self.session(asked, answers) {
            // Nobody may be listening any more.
            let _ = answers.send(Err(error));
        }
    }

    /// All steps that there is room for, and what they run on. Short, since sizes of a program are bounded.
    fn schedule(&self) -> Vec<Due> {
        let Shared { plan, client, .. } = &*self.shared;
        (0..).map_while(|number| plan.due(&client.loaded.module, self.prompt.len(), number)).collect()
    }

    fn session(&self, asked: &Receiver<Option<u32>>, answers: &Sender<Answer>) -> Result<(), RunError> {
        let client = &self.shared.client;
        let schedule = self.schedule();
        let mut conn = self.net.connect(Role::Party(Party::Server), client.server, client.options, None)?;
        let done = self.steps(&mut conn, &schedule, asked, answers);
        match &done {
            Ok(()) => conn.close(),
            Err(error) => conn.fail(&error.for_peer()),
        }
        done
    }

    fn steps(
        &self,
        conn: &mut Conn,
        schedule: &[Due],
        asked: &Receiver<Option<u32>>,
        answers: &Sender<Answer>,
    ) -> Result<(), RunError> {
        let Shared { client, plan, masked, .. } = &*self.shared;
        let module = &client.loaded.module;
        let Some(first) = schedule.first() else {
            return Err(self.beyond());
        };
        let ask = Ask {
            program: &module.entries[first.entry as usize],
            publics: &first.publics,
            purpose: Purpose::Generate,
            frames: plan.frames(module, first.entry, Party::Client),
            wants: Wants::Use { entry: first.entry },
        };
        let mut opened = client.open(&self.net, conn, &mut Watch::start(), ask)?;
        let material = opened.steps.map(|steps| opened.left + steps);
        masked.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&opened.masked);
        let done = self.one_by_one(conn, &mut opened, (schedule, material), asked, answers);
        opened.delivery.end(&done);
        done
    }

    fn one_by_one(
        &self,
        conn: &mut Conn,
        opened: &mut Opened,
        (schedule, material): (&[Due], Option<u64>),
        asked: &Receiver<Option<u32>>,
        answers: &Sender<Answer>,
    ) -> Result<(), RunError> {
        let (plan, entries) = (&self.shared.plan, &self.shared.client.loaded.module.entries);
        let Opened { seeds, masked, delivery, steps, products, .. } = opened;
        let steps = steps.unwrap_or(0);
        let (seeds, masked) = (&*seeds, masked.as_deref());
        let mut prepare = |number: usize| -> Result<(Machine<'_>, Ahead), RunError> {
            let due = &schedule[number];
            let step = step::Step { entries, entry: due.entry, number: number as u32 };
            let (mut machine, mut ahead) =
                (machine(step, seeds.of(step.number), &due.publics, masked)?, Ahead::default());
            if let Some(products) = products.as_mut().filter(|_| masked.is_some() && (number as u64) < steps) {
                let packed = products.read(products_len(step.program()))?;
                machine =
                    machine.with_products(Products::new(step.program(), packed).expect("as many bytes as asked for"));
            }
            self.shared.pool.install(|| machine.prepare(&mut ahead))?;
            Ok((machine, ahead))
        };
        let tell = |answer| answers.send(Ok(answer)).is_ok();
        tell(Step { token: 0, sent_bytes: 0, received_bytes: 0, seconds: 0.0, material_tokens: None, outside: 0 });
        let (mut cache, mut token) = (Openings::default(), Zeroizing::new(0));
        delivery.ask(0, schedule[0].entry)?;
        let (threads, mut prepared) = (Threads::new()?, Some(prepare(0)));
        for number in 0.. {
            // The owner of a session that has ended is gone.
            let Ok(given) = asked.recv() else {
                conn.send_frame(Kind::Next, 0, Bytes::new())?;
                return Ok(());
            };
            *token = match given {
                Some(given) if given as usize >= plan.vocabulary() => return Err(self.odd("it has no such token")),
                given => given.unwrap_or(*token),
            };
            let Some(due) = schedule.get(number) else { return Err(self.beyond()) };
            // Its owner may have looked at the token for long: whoever ended the session meanwhile said why.
            conn.check()?;
            let (start, before) = (Instant::now(), (conn.sent_bytes(), conn.received_bytes()));
            conn.send_frame(Kind::Next, 0, Bytes::from_static(&[GO_ON]))?;
            let this = step::Step { entries, entry: due.entry, number: number as u32 };
            let bytes = plan.material_bytes(due.entry, Party::Client);
            delivery.turn(Turn { step: this, bytes, weights: None, kept: Some(&cache), ahead: &[] }, conn)?;
            let next = schedule.get(number + 1);
            if let Some(next) = next {
                delivery.ask(number as u32 + 1, next.entry)?;
            }
            let inputs = self.inputs(due, number, *token);
            thread::scope(|scope| -> Result<(), RunError> {
                let (machine, ahead) = prepared.take().expect("prepared while the step before ran")?;
                let preparing = next.map(|_| scope.spawn(|| prepare(number + 1)));
                ahead.0.into_iter().try_for_each(|(step, frame)| conn.send_frame(Kind::Online, step, frame))?;
                let finished = step(&threads, conn, delivery, machine, &mut cache, inputs)?;
                trace(number as u32, &finished.report);
                let outside = outside(&entries[due.entry as usize], &finished.outputs).unwrap_or(0);
                *token = self.token(finished.outputs)?;
                // Before the next step is prepared in full: its owner may look at the token meanwhile.
                tell(Step {
                    token: *token,
                    sent_bytes: conn.sent_bytes() - before.0,
                    received_bytes: conn.received_bytes() - before.1,
                    seconds: start.elapsed().as_secs_f64(),
                    material_tokens: material.map(|all| all - (number as u64 + 1).min(steps)),
                    outside,
                });
                prepared = preparing.map(|thread| thread.join().expect("a panic is our own mistake"));
                Ok(())
            })?;
        }
        unreachable!("a schedule has an end")
    }

    /// The shares of a step's inputs: the prompt, padded, or the last token; and noise.
    fn inputs(&self, due: &Due, number: usize, token: u32) -> Vec<Tensor> {
        let program = &self.shared.client.loaded.module.entries[due.entry as usize];
        let tokens = if number == 0 { &self.prompt[..] } else { &[token][..] };
        let share = |input: &ir::program::Input| {
            let mut share = Tensor::zeros(&dimensions(&input.ty.shape));
            match input.encoding {
                Encoding::OneHot { classes } => {
                    let rows = share.data.chunks_exact_mut(classes as usize);
                    // Padding may be any token.
                    let padded = tokens.iter().copied().chain(std::iter::repeat(0));
                    rows.zip(padded).for_each(|(row, token)| row[token as usize] = 1);
                }
                Encoding::Fixed => {
                    let mut noise = Zeroizing::new(vec![0; share.data.len()]);
                    let scale = u8::try_from(input.ty.scale).expect("noise is no coarser than whole numbers");
                    self.noise.fill(number as u32, scale, &mut noise);
                    share.data.iter_mut().zip(noise.iter()).for_each(|(share, &noise)| *share = noise as u64);
                }
            }
            share
        };
        program.inputs.iter().map(share).collect()
    }

    /// The token that a step revealed.
    fn token(&self, outputs: Vec<Option<Vec<i64>>>) -> Result<u32, RunError> {
        let revealed = outputs.into_iter().flatten().flatten().next().expect("planned: a token");
        match u32::try_from(revealed) {
            Ok(token) if (token as usize) < self.shared.plan.vocabulary() => Ok(token),
            _ => Err(self.odd("it revealed no token: a claim was broken, or the server does not follow the protocol")),
        }
    }

    fn beyond(&self) -> RunError {
        self.odd("it has no entry for a further token")
    }

    fn odd(&self, what: &str) -> RunError {
        RunError::Program { path: self.shared.client.loaded.path.clone(), what: what.to_owned() }
    }
}

/// The messages that a client sends ahead, until the connection is free for them.
#[derive(Default)]
struct Ahead(Vec<(u32, Bytes)>);

impl Link for Ahead {
    fn send(&mut self, step: u32, frame: Bytes) -> Result<(), LinkError> {
        self.0.push((step, frame));
        Ok(())
    }

    fn receive(&mut self, _: u32, _: usize) -> Result<Bytes, LinkError> {
        // A client receives nothing before its step begins.
        Err(LinkError::Closed)
    }
}
