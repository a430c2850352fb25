//! A request's session: it blocks a thread and tells what happens through a channel.
//!
//! The thread holds the request's slot until it ends, also when nobody listens any more. Whoever drops the other end
//! cancels the session, so a client that goes away, a deadline and the end of the process come to the same.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};

use super::Endpoint;
use super::error::ApiError;
use super::request::{Ask, Prompt};
use crate::{Cancel, Finish, GenerateError, Generation, Totals};
use processes::chain;

/// Events that wait for a client that reads slowly; beyond, the session waits.
const QUEUE: usize = 16;

/// What happens to a request, in this order: `Begun` once, `Text` often, `End` once; or it fails.
pub(super) enum Event {
    /// The prompt was accepted and the session is there.
    Begun,
    /// Text, never empty.
    Text(String),
    /// The text has ended.
    End(Finish, Totals),
}

/// The listening end.
pub(super) struct Answer {
    events: mpsc::Receiver<Result<Event, GenerateError>>,
    endpoint: Arc<Endpoint>,
    deadline: Instant,
    cancel: Cancel,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Answer {
    /// Starts a session if one of the slots is free.
    pub(super) fn start(endpoint: &Arc<Endpoint>, ask: Ask) -> Result<Answer, ApiError> {
        let slot = endpoint.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| ApiError::busy(endpoint.caps.requests))?;
        let (sender, events) = mpsc::channel(QUEUE);
        let cancel = Cancel::default();
        let thread = (endpoint.clone(), cancel.clone());
        tokio::task::spawn_blocking(move || work(&thread.0, ask, &thread.1, &sender, slot));
        let deadline = Instant::now() + endpoint.caps.deadline;
        Ok(Answer { events, endpoint: endpoint.clone(), deadline, cancel })
    }

    /// The next event. After an error there is none.
    pub(super) async fn next(&mut self) -> Result<Event, ApiError> {
        let mut stop = self.endpoint.stop.clone();
        let next = tokio::select! {
            biased;
            // An endpoint that nobody can stop goes on.
            Ok(_) = stop.wait_for(|stop| *stop) => Err(ApiError::stopping()),
            event = timeout_at(self.deadline, self.events.recv()) => match event {
                Err(_) => Err(ApiError::deadline(self.endpoint.caps.deadline.as_secs_f64())),
                Ok(None) => Err(ApiError::internal()),
                Ok(Some(event)) => event.map_err(ApiError::from),
            },
        };
        if let Err(error) = &next {
            self.endpoint.metrics.failed(error.code);
        }
        next
    }
}

/// The thread of a session.
fn work(
    endpoint: &Endpoint,
    ask: Ask,
    cancel: &Cancel,
    events: &mpsc::Sender<Result<Event, GenerateError>>,
    slot: OwnedSemaphorePermit,
) {
    let running = endpoint.metrics.run();
    let done = generate(endpoint, ask, cancel, events);
    if let Err(GenerateError::Run(error)) = &done {
        tracing::warn!("a request failed: {}", chain(error));
    }
    // A client that has its answer finds the slot free.
    drop((running, slot));
    let _ = events.blocking_send(done);
}

/// Sends events until the text has ended, or nobody listens any more; gives the last event.
fn generate(
    endpoint: &Endpoint,
    ask: Ask,
    cancel: &Cancel,
    events: &mpsc::Sender<Result<Event, GenerateError>>,
) -> Result<Event, GenerateError> {
    let language = &endpoint.language;
    let prompt = match ask.prompt {
        Prompt::Text(text) => language.prompt(&text)?,
        Prompt::Tokens(tokens) => tokens,
        Prompt::Messages(messages) => language.conversation(&messages)?,
    };
    let mut settings = ask.settings;
    let most = settings.max_tokens.map_or(endpoint.caps.tokens, |asked| asked.min(endpoint.caps.tokens));
    settings.max_tokens = Some(most);
    settings.fixed_length = endpoint.fixed_length;
    let mut generation = Generation::begin(&*endpoint.model, language, &prompt, &settings, cancel)?;
    endpoint.metrics.begun(prompt.len());
    let send = |event| events.blocking_send(Ok(event)).map_err(|_| GenerateError::Cancelled);
    send(Event::Begun)?;
    loop {
        let before = generation.totals().clone();
        let step = generation.advance()?;
        let totals = generation.totals();
        endpoint.metrics.advanced(&step, &before, totals);
        if !step.text.is_empty() {
            send(Event::Text(step.text))?;
        }
        if let Some(finish) = step.finish {
            return Ok(Event::End(finish, totals.clone()));
        }
    }
}
