//! A text that grows: prompt, session, detokenizer and stop strings as one loop.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use serde::Serialize;

use super::{Cancel, Detokenizer, GenerateError, Language, Limits, Model, Noise, Running, StopFinder};
use processes::RunError;

/// What a person chooses.
#[derive(Clone, Default)]
pub struct Settings {
    /// Most tokens to generate; less if the context has no room for them.
    pub max_tokens: Option<NonZeroUsize>,
    /// Strings that end the text and are no part of it.
    pub stop: Vec<String>,
    /// 0: the likeliest token each time. Else samples of softmax(logits / temperature).
    pub temperature: f64,
    /// Repeats the noise of an earlier request; else it is fresh.
    pub seed: Option<u64>,
    /// Go on to the most tokens when the text has ended, and show nothing of that: the server then does not learn where it ended.
    pub fixed_length: bool,
}

/// Why a text ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// The model ended it, or a stop string did.
    Stop,
    /// As many tokens as were asked for, or as the context holds.
    Length,
}

impl Finish {
    /// Its name in OpenAI's interface.
    pub fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
        }
    }
}

/// What a generation has taken so far.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Totals {
    /// Tokens before the text.
    pub prompt_tokens: usize,
    /// Tokens that were generated, one that ended the text and those behind it included.
    pub tokens: usize,
    /// Bytes that the client sent.
    pub sent_bytes: u64,
    /// Bytes that the client received.
    pub received_bytes: u64,
    /// Wall time of the steps.
    pub seconds: f64,
    /// Of each; the first reads the prompt.
    pub token_seconds: Vec<f64>,
    /// For how many tokens there is material left, if that is known.
    pub material_tokens: Option<u64>,
    /// How many elements left their tables: above zero, the text may be wrong.
    pub outside: u64,
}

/// What a step brought.
pub struct Advance {
    /// Text that has become certain; may be empty.
    pub text: String,
    /// Set when the text has ended.
    pub finish: Option<Finish>,
    /// Wall time of the step.
    pub seconds: f64,
}

/// A prompt that is being continued.
pub struct Generation<'a> {
    language: &'a Language,
    running: Running,
    /// Tokens that come before the text, to be given to the session.
    rest: VecDeque<u32>,
    most: usize,
    /// Time that reading them has taken.
    reading_seconds: f64,
    cancel: Cancel,
    /// Tokens that end this text: the model's, and those that a stop string names.
    stops: Vec<u32>,
    fixed_length: bool,
    /// Why the text has ended, if steps go on.
    ended: Option<Finish>,
    /// Taken at the end, for what they hold back.
    ends: Option<(Detokenizer, StopFinder)>,
    totals: Totals,
}

impl<'a> Generation<'a> {
    /// Checks the prompt and settings against the model's limits, then starts a session.
    pub fn begin(
        model: &'a dyn Model,
        language: &'a Language,
        prompt: &[u32],
        settings: &Settings,
        cancel: &Cancel,
    ) -> Result<Generation<'a>, GenerateError> {
        check(model.limits(), prompt, settings)?;
        let noise = settings.noise()?;
        let (running, rest) = Running::begin(model, prompt, noise, cancel)?;
        Generation::over(model, language, (running, rest.to_vec()), settings, cancel)
    }

    /// The same over a session, after tokens that are to be given to it: some, unless it has only begun. It has room for them and
    /// for one token more, and they are below the vocabulary. Settings were checked; noise is the session's.
    pub fn over(
        model: &'a dyn Model,
        language: &'a Language,
        (running, rest): (Running, Vec<u32>),
        settings: &Settings,
        cancel: &Cancel,
    ) -> Result<Generation<'a>, GenerateError> {
        let (limits, prompt) = (model.limits(), running.with(&rest));
        let stops = StopFinder::new(settings.stop.clone())?;
        let detokenizer = Detokenizer::after(&language.text, &prompt)?;
        let room = running.room(rest.len());
        // Such a token is no text, so its name would never be found.
        let named = settings.stop.iter().filter(|stop| language.text.is_added(stop));
        let stops_by_name = named.filter_map(|stop| language.text.id(stop));
        let ends = language.ends.iter().chain(&limits.ends).copied().chain(stops_by_name).collect();
        Ok(Generation {
            language,
            running,
            rest: rest.into(),
            reading_seconds: 0.0,
            most: settings.max_tokens.map_or(room, |asked| asked.get().min(room)),
            cancel: cancel.clone(),
            stops: ends,
            fixed_length: settings.fixed_length,
            ended: None,
            ends: Some((detokenizer, stops)),
            totals: Totals { prompt_tokens: prompt.len(), ..Totals::default() },
        })
    }

    /// Generates a token, or gives one to the session. Not to be called after the text has ended or after an error.
    pub fn advance(&mut self) -> Result<Advance, GenerateError> {
        if self.cancel.is_cancelled() {
            return Err(GenerateError::Cancelled);
        }
        let given = if self.running.is_fresh() { None } else { self.rest.pop_front() };
        let step = self.running.step(given)?;
        self.totals.sent_bytes += step.sent_bytes;
        self.totals.received_bytes += step.received_bytes;
        self.totals.seconds += step.seconds;
        self.totals.material_tokens = step.material_tokens;
        self.totals.outside = self.totals.outside.saturating_add(step.outside);
        if !self.rest.is_empty() {
            self.reading_seconds += step.seconds;
            return Ok(Advance { text: String::new(), finish: None, seconds: step.seconds });
        }
        self.totals.tokens += 1;
        self.totals.token_seconds.push(step.seconds + std::mem::take(&mut self.reading_seconds));
        let full = self.totals.tokens == self.most;
        if self.ended.is_some() {
            return Ok(Advance { text: String::new(), finish: self.ended.filter(|_| full), seconds: step.seconds });
        }
        let (mut detokenizer, mut stops) = self.ends.take().expect("the text has not ended");
        let text = &self.language.text;
        let ended = self.stops.contains(&step.token);
        let mut piece = if ended { String::new() } else { detokenizer.push(text, step.token)? };
        let last = if ended || full {
            piece += &detokenizer.finish(text)?;
            None
        } else {
            Some(detokenizer)
        };
        let found = stops.push(&piece);
        let (text, finish) = match last {
            _ if found.stopped => (found.text, Some(Finish::Stop)),
            Some(detokenizer) => {
                self.ends = Some((detokenizer, stops));
                (found.text, None)
            }
            None => (found.text + &stops.finish(), Some(if ended { Finish::Stop } else { Finish::Length })),
        };
        let finish = match finish {
            Some(_) if self.fixed_length && !full => {
                self.ended = finish;
                None
            }
            finish => finish,
        };
        Ok(Advance { text, finish, seconds: step.seconds })
    }

    /// Ends the text here; what was held back of it.
    pub fn cut(&mut self) -> Result<String, GenerateError> {
        let Some((detokenizer, mut stops)) = self.ends.take() else { return Ok(String::new()) };
        let found = stops.push(&detokenizer.finish(&self.language.text)?);
        Ok(if found.stopped { found.text } else { found.text + &stops.finish() })
    }

    /// What it has taken so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Its session, for a text that goes on from this one.
    pub fn into_running(self) -> Running {
        self.running
    }
}

impl Settings {
    /// Noise for a session.
    pub(super) fn noise(&self) -> Result<Noise, GenerateError> {
        Ok(match self.temperature {
            0.0 => Noise::greedy(),
            t => Noise::new(t, self.seed).map_err(RunError::Random)?,
        })
    }
}

/// Whether a model takes a prompt and settings. The temperature may be any number.
pub fn check(limits: &Limits, prompt: &[u32], settings: &Settings) -> Result<(), GenerateError> {
    check_tokens(limits, prompt, limits.prompt())?;
    check_temperature(limits, settings)
}

/// Whether a model takes so many tokens, and these.
pub(super) fn check_tokens(limits: &Limits, tokens: &[u32], limit: usize) -> Result<(), GenerateError> {
    if tokens.is_empty() {
        return Err(GenerateError::EmptyPrompt);
    }
    if tokens.len() > limit {
        return Err(GenerateError::PromptTooLong { tokens: tokens.len(), limit });
    }
    if tokens.iter().any(|&token| token as usize >= limits.vocabulary) {
        return Err(GenerateError::TokenOutOfRange { vocabulary: limits.vocabulary });
    }
    Ok(())
}

/// Whether a model samples so.
pub(super) fn check_temperature(limits: &Limits, settings: &Settings) -> Result<(), GenerateError> {
    match (0.0..=limits.temperature).contains(&settings.temperature) {
        true => Ok(()),
        false => Err(GenerateError::Temperature { asked: settings.temperature, limit: limits.temperature }),
    }
}
