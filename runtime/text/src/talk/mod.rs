//! A conversation whose session goes on over its turns, so that a turn pays for its own tokens alone.
//!
//! Turn     The whole conversation is rendered by the chat template, and made tokens of. Where these go on from what the session's state
//!          holds ([`Running`]), the rest is given to it, a step each; the first token of the answer comes with the last of them.
//! Anew     Else a new session begins with all of it: when the template writes earlier turns otherwise (as those do that drop what a
//!          model thought), after a stop string or a turn that was broken off while it was read, and when its session has ended,
//!          as idle ones do at the server.
//! Context  An answer is to have room for as many tokens as were asked for, at least a quarter of the context otherwise. Without it the
//!          oldest turns are told no longer, until half of the context is free, and a new session begins.
//! Broken   A turn that got no token is forgotten; an answer that broke off stands as it is.

mod command;
mod interrupt;
mod lines;
mod save;

use std::io;

use super::generation::{check_temperature, check_tokens};
use super::{
    Cancel, ChatError, Conversation, Finish, GenerateError, Generation, Language, Model, Running, Settings, Totals,
};
use processes::chain;

pub use command::ChatOptions;
pub use interrupt::Interrupt;

/// What somebody said. It is secret: no `Debug`.
#[derive(Clone)]
pub struct Turn {
    /// `user` or `assistant`.
    pub role: &'static str,
    /// The text.
    pub text: String,
}

/// See the module head. It is secret: no `Debug`.
pub struct Talk<'a> {
    model: &'a dyn Model,
    language: &'a Language,
    settings: Settings,
    interrupt: Interrupt,
    system: Option<String>,
    /// User and assistant in turn.
    turns: Vec<Turn>,
    /// Turns before this one are told no longer.
    from: usize,
    running: Option<(Running, Cancel)>,
    sessions: usize,
}

/// What an answer shows while it comes.
pub enum Shown<'s> {
    /// One more token was read, of so many.
    Read {
        /// Tokens so far.
        done: usize,
        /// All.
        all: usize,
    },
    /// Text, never empty.
    Text(&'s str),
}

/// How an answer ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The model ended it, or its length did.
    Finished(Finish),
    /// A person stopped it.
    Stopped,
}

/// Why a session began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Began {
    /// There was none.
    First,
    /// The last one ended, for this reason.
    Lost(String),
    /// Its state was not the beginning of the conversation as the template writes it now.
    Rewritten,
    /// The context was full; so many turns were dropped.
    Full {
        /// Turns of the user, with their answers.
        dropped: usize,
    },
}

/// What an answer took. All of it is public.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub ended: Ended,
    /// Set if a session began for it.
    pub began: Option<Began>,
    /// Its tokens, bytes and time.
    pub totals: Totals,
    /// Tokens by which the state grew: what the server learns of it.
    pub grew: usize,
    /// Tokens that the state holds.
    pub held: usize,
    /// Tokens that there is room for.
    pub left: usize,
}

/// Why there is no answer.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum TalkError {
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error("the answer cannot be shown")]
    Show(#[source] io::Error),
}

/// How a turn is taken.
enum Way {
    /// By the session that there is, to which these are given.
    On(Vec<u32>),
    /// By a new one.
    Anew { tokens: Vec<u32>, began: Began },
}

impl<'a> Talk<'a> {
    /// One that has not begun, with a model that chats and can sample so.
    pub fn new(
        model: &'a dyn Model,
        language: &'a Language,
        settings: Settings,
        interrupt: Interrupt,
    ) -> Result<Talk<'a>, GenerateError> {
        check_temperature(model.limits(), &settings)?;
        match &language.chat {
            Ok(_) => {}
            Err(ChatError::None) => return Err(ChatError::None.into()),
            Err(error) => return Err(ChatError::Unusable { reason: error.to_string() }.into()),
        }
        let (system, turns) = (None, Vec::new());
        Ok(Talk { model, language, settings, interrupt, system, turns, from: 0, running: None, sessions: 0 })
    }

    /// Begins anew, under what the assistant is told before, if that is given.
    pub fn begin(&mut self, system: Option<String>) {
        if let Some(system) = system {
            self.system = Some(system);
        }
        self.turns.clear();
        (self.from, self.running) = (0, None);
    }

    /// What the assistant is told before.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// All turns, those included that are told no longer.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// Sessions that were begun.
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// Says something to the model, and shows its answer as it comes.
    pub fn ask(&mut self, text: &str, show: &mut dyn FnMut(Shown<'_>) -> io::Result<()>) -> Result<Answer, TalkError> {
        let (_answering, before) = (self.interrupt.answering(), self.turns.len());
        self.turns.push(Turn { role: "user", text: text.to_owned() });
        let done = self.turn(show);
        if self.turns.len() == before + 1 {
            // It got no answer.
            self.turns.pop();
        }
        done
    }

    /// Takes the last turn, by a new session if the one that there was turns out to have ended.
    fn turn(&mut self, show: &mut dyn FnMut(Shown<'_>) -> io::Result<()>) -> Result<Answer, TalkError> {
        let (way, turns) = (self.way(None)?, self.turns.len());
        let kept = matches!(way, Way::On(_));
        match self.answer(way, show) {
            Err(TalkError::Generate(GenerateError::Run(error))) if kept && self.turns.len() == turns => {
                let way = self.way(Some(chain(&error)))?;
                self.answer(way, show)
            }
            done => done,
        }
    }

    /// How the last turn is taken, by a new session if the one that there was is lost.
    fn way(&mut self, lost: Option<String>) -> Result<Way, GenerateError> {
        let limits = self.model.limits();
        let asked = self.settings.max_tokens.map_or(usize::MAX, |most| most.get());
        let least = asked.min(limits.context / 4).max(1);
        let (mut from, mut tokens) = (self.from, self.tokens(self.from)?);
        let mut full = limits.room_after(tokens.len()) < least;
        let broken = || (self.turns.len() > 1).then(|| "the turn before broke it off".to_owned());
        let mut began = lost.or_else(broken).map_or(Began::First, Began::Lost);
        if let Some((running, _)) = &self.running {
            match running.rest(&self.language.text, &tokens)? {
                Some(rest) if running.room(rest.len()) >= least => return Ok(Way::On(rest)),
                Some(_) => full = true,
                None => began = Began::Rewritten,
            }
        }
        if full {
            while from + 1 < self.turns.len() && limits.room_after(tokens.len()) < least.max(limits.context / 2) {
                from += 2;
                tokens = self.tokens(from)?;
            }
            began = Began::Full { dropped: (from - self.from) / 2 };
        }
        let most = limits.prompt() + limits.room(limits.prompt()).saturating_sub(1);
        check_tokens(limits, &tokens, most)?;
        self.from = from;
        Ok(Way::Anew { tokens, began })
    }

    /// The conversation from a turn on.
    fn conversation(&self, from: usize) -> Conversation {
        let told = self.system.iter().fold(Conversation::new(), |talk, system| talk.with("system", system));
        self.turns[from..].iter().fold(told, |talk, turn| talk.with(turn.role, &turn.text))
    }

    fn tokens(&self, from: usize) -> Result<Vec<u32>, GenerateError> {
        self.language.conversation(&self.conversation(from))
    }

    /// Runs the last turn, and appends the answer if there is any.
    fn answer(&mut self, way: Way, show: &mut dyn FnMut(Shown<'_>) -> io::Result<()>) -> Result<Answer, TalkError> {
        let (running, began) = (self.running.take(), matches!(way, Way::Anew { .. }));
        let (session, cancel, why) = match (way, running) {
            (Way::On(rest), Some((running, cancel))) => ((running, rest), self.interrupt.session(cancel), None),
            (Way::On(_), None) => unreachable!("a session is there that goes on"),
            (Way::Anew { tokens, began }, running) => {
                // The server has a place again before it is asked for one.
                drop(running);
                let cancel = self.interrupt.session(Cancel::default());
                let (running, rest) = Running::begin(self.model, &tokens, self.settings.noise()?, &cancel)?;
                self.sessions += 1;
                ((running, rest.to_vec()), cancel, Some(began))
            }
        };
        let (held, unread) = (if began { 0 } else { session.0.held() }, session.1.len());
        let all = unread + usize::from(began);
        let mut generation = Generation::over(self.model, self.language, session, &self.settings, &cancel)?;
        let (mut text, mut steps) = (String::new(), 0);
        let done = loop {
            if self.interrupt.is_stopped() {
                break generation.cut().map_err(TalkError::from).map(|piece| (piece, Ended::Stopped));
            }
            let advance = match generation.advance() {
                Ok(advance) => advance,
                Err(error) => break Err(error.into()),
            };
            steps += 1;
            if generation.totals().tokens == 0 {
                if let Err(error) = show(Shown::Read { done: steps, all }) {
                    break Err(TalkError::Show(error));
                }
                continue;
            }
            if let Some(finish) = advance.finish {
                break Ok((advance.text, Ended::Finished(finish)));
            }
            text += &advance.text;
            if let Err(error) = piece(&advance.text, show) {
                break Err(error);
            }
        };
        let done = done.and_then(|(last, ended)| {
            text += &last;
            piece(&last, show).map(|()| ended)
        });
        let (totals, alive) = (generation.totals().clone(), done.is_ok() && !cancel.is_cancelled());
        if totals.tokens > 0 {
            let text = self.as_the_template_writes(text);
            self.turns.push(Turn { role: "assistant", text });
        }
        let running = generation.into_running();
        let (now, left) = (running.held(), running.left());
        if alive {
            self.running = Some((running, cancel));
        }
        done.map(|ended| Answer { ended, began: why, totals, grew: now - held, held: now, left })
    }

    /// An answer to the last turn as the conversation is to have it: without the space around it if the template, which may put some
    /// of its own, else writes something that the session's state does not hold.
    fn as_the_template_writes(&self, said: String) -> String {
        let trimmed = said.trim();
        let Ok(template) = &self.language.chat else { return said };
        let told = self.conversation(self.from);
        let Ok(before) = template.prompt(&told) else { return said };
        let goes_on = |answer: &str| {
            let next = template.prompt(&told.clone().with("assistant", answer).with("user", "?"));
            next.is_ok_and(|next| next.strip_prefix(&before).is_some_and(|rest| rest.starts_with(&said)))
        };
        match !goes_on(&said) && goes_on(trimmed) {
            true => trimmed.to_owned(),
            false => said,
        }
    }
}

fn piece(text: &str, show: &mut dyn FnMut(Shown<'_>) -> io::Result<()>) -> Result<(), TalkError> {
    match text.is_empty() {
        true => Ok(()),
        false => show(Shown::Text(text)).map_err(TalkError::Show),
    }
}
