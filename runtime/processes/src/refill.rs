//! Stocks that are made in the background: whenever there are fewer than wanted and no text runs.
//!
//! Sizes     For prompts of the size that the last text had, at first of the least. A stock lasts for at most [`TOKENS`] tokens, or as
//!           many as a text may have, or the context has room for; a text takes one and leaves nothing of it. One that was begun is ended first.
//! Texts     A text that begins holds up the making at the end of a step, and waits for nothing. A making that is held up for long
//!           ends: what is whole is kept, and gone on with.
//! Faults    The pauses between attempts grow. A fault is logged when it is new.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::generation::Shared;
use super::{Order, RunError, chain};
use crate::net::Net;

/// Tokens that a stock lasts for at most.
const TOKENS: usize = 64;

/// How long it is until a look at the stocks, which others may use too.
const LOOK: Duration = Duration::from_secs(2);

/// The first pause after a fault, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(300)];

/// Timeouts that a making is held up at most. The server ends it after twice as many of its own.
const PATIENCE: u32 = 10;

/// Longest wait for the end of the making when the process is told to stop.
const FAREWELL: Duration = Duration::from_secs(2);

/// The texts of a client.
#[derive(Clone, Copy, Default)]
pub(super) struct Texts {
    /// How many are being written.
    pub(super) running: usize,
    /// The size of prompts that the last one had.
    pub(super) size: Option<usize>,
}

/// The thread that makes stocks. It ends when the process is told to stop.
pub struct Refill(Option<JoinHandle<()>>);

impl Drop for Refill {
    /// Gives it a little time. What it writes is whole at any moment.
    fn drop(&mut self) {
        let (begin, thread) = (Instant::now(), self.0.take().expect("it is dropped once"));
        while !thread.is_finished() && begin.elapsed() < FAREWELL {
            thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            // A panic was reported.
            let _ = thread.join();
        }
    }
}

/// What is behind it: whose stocks, and for how many tokens there are to be.
pub(super) struct Refiller {
    pub(super) net: Net,
    pub(super) shared: Arc<Shared>,
    pub(super) tokens: usize,
    /// Tokens of a text at most.
    pub(super) most: usize,
}

/// What was told last.
#[derive(PartialEq, Eq)]
enum State {
    Full,
    Making,
    /// A fault without its figures.
    Failing(String),
}

impl Refiller {
    pub(super) fn start(self) -> Refill {
        Refill(Some(thread::spawn(move || self.run())))
    }

    fn run(&self) {
        let (mut state, mut pause) = (None, PAUSES[0]);
        while !self.net.stopped() {
            if !self.goes_on() {
                continue;
            }
            let Some(order) = self.order() else {
                self.tell(&mut state, State::Full, || format!("there is material for {} tokens", self.tokens));
                self.until_a_text_comes_or_goes();
                continue;
            };
            match self.make(order) {
                Ok(()) => {
                    self.tell(&mut state, State::Making, || "stocks are made".to_owned());
                    pause = PAUSES[0];
                }
                _ if self.net.stopped() => return,
                // It was of use.
                Err(RunError::Taken) => self.wait(PAUSES[0]),
                Err(error) => {
                    let what = chain(&error);
                    let kind = what.chars().filter(|c| !c.is_ascii_digit()).collect();
                    self.tell(&mut state, State::Failing(kind), || format!("{what}\n  try: {}", error.hint()));
                    self.wait(pause);
                    pause = (pause * 2).min(PAUSES[1]);
                }
            }
        }
    }

    /// What is to be made, if anything.
    fn order(&self) -> Option<Order> {
        let Shared { client, plan, texts, .. } = &*self.shared;
        let size = texts.borrow().size.unwrap_or(plan.prefill()[0]);
        let (stocks, entry, peer) = (client.stocks(), plan.entry(size, 0)?, client.last_peer());
        let there = stocks.lasting(peer.as_ref(), entry);
        let missing = self.tokens.checked_sub(there as usize).filter(|&missing| missing > 0)?;
        let room = (plan.slots() + 1).saturating_sub(size).min(plan.context().saturating_sub(1));
        let tokens = match stocks.begun(peer.as_ref(), entry) {
            Some((_, wanted)) => wanted as usize,
            None => missing.min(TOKENS).min(self.most),
        };
        Some(Order { prefill: Some(size), tokens: tokens.min(room), watched: false }).filter(|order| order.tokens > 0)
    }

    /// Makes it, as far as texts let it.
    fn make(&self, order: Order) -> Result<(), RunError> {
        let Shared { client, plan, .. } = &*self.shared;
        client.prepare(&self.net, plan, order, &mut |_| self.goes_on())?;
        Ok(())
    }

    /// Waits until no text runs, and says whether that was soon enough to go on.
    fn goes_on(&self) -> bool {
        let mut texts = self.shared.texts.subscribe();
        let patience = self.net.timeout() * PATIENCE;
        self.net.handle().block_on(async {
            tokio::select! {
                biased;
                () = self.net.until_stopped() => false,
                ended = timeout(patience, texts.wait_for(|texts| texts.running == 0)) => ended.is_ok(),
            }
        })
    }

    fn until_a_text_comes_or_goes(&self) {
        let mut texts = self.shared.texts.subscribe();
        self.net.handle().block_on(async {
            tokio::select! {
                () = self.net.until_stopped() => {}
                _ = timeout(LOOK, texts.changed()) => {}
            }
        });
    }

    /// Logs what is new.
    fn tell(&self, state: &mut Option<State>, new: State, what: impl FnOnce() -> String) {
        if state.as_ref() == Some(&new) {
            return;
        }
        match &new {
            State::Failing(_) => tracing::warn!("no stock is made, and it is tried again: {}", what()),
            _ => tracing::info!("{}", what()),
        }
        *state = Some(new);
    }

    /// Waits, unless the process is told to stop.
    fn wait(&self, time: Duration) {
        self.net.handle().block_on(async {
            tokio::select! {
                () = self.net.until_stopped() => {}
                () = sleep(time) => {}
            }
        });
    }
}
