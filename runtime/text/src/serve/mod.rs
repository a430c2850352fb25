//! An HTTP endpoint in the shape of OpenAI's, on the client's own machine, in front of a [`Model`].
//!
//! | path | what |
//! | --- | --- |
//! | `POST /v1/completions`, `POST /v1/chat/completions` | text, whole or as server-sent events |
//! | `GET /v1/models`, `GET /v1/models/NAME` | the one model there is |
//! | `GET /metrics` | counters in the OpenMetrics format, for Prometheus |
//! | `GET /health` | whether the process serves; the one path that takes no token |
//!
//! Trust       Who reaches the endpoint with its token uses up material and reads nothing but its own answers. Prompts and
//!             answers cross this link in the clear, so it listens on loopback unless told otherwise. Other users of the
//!             machine and web pages in a browser lack the token. No prompt and no answer is logged or kept.
//! Browsers    A page of another origin reads answers if `--allow-origin` names it, and has the token.
//! Parameters  What changes an answer is either followed or refused by name (`request`); what does not is ignored, as
//!             OpenAI does.
//! Seeds       `seed` draws the noise of an earlier request again, and temperature 0 takes the likeliest token. Results are
//!             rounded, and how depends on masks: of tokens about equally likely either may come. `system_fingerprint` names
//!             release and trust, and promises no more.
//! Limits      Size of a body, number of requests at once (429 beyond), number of connections, time of a request, of its
//!             head, of its body and of each write. A request that nobody waits for is cancelled.
//! Threads     A request's session blocks a thread of its own (`worker`); sockets are tasks.
//!
//! [`Model`]: crate::Model

mod error;
mod handlers;
mod listen;
mod messages;
mod metrics;
mod options;
mod reply;
mod request;
mod token;
mod worker;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, watch};

use crate::{Language, Model};
use metrics::Metrics;

pub use error::ServeError;
pub use listen::{bind, serve};
pub use options::ServeOptions;
pub use token::{Token, TokenError, TokenSource};

/// What a request may take.
#[derive(Clone, Copy)]
pub struct Caps {
    /// Requests that generate at once.
    pub requests: usize,
    /// Most tokens of an answer.
    pub tokens: NonZeroUsize,
    /// Longest body, in bytes.
    pub body_bytes: usize,
    /// Longest time from a request's head to its answer's end.
    pub deadline: Duration,
}

/// What the endpoint serves.
pub struct Endpoint {
    model: Arc<dyn Model>,
    language: Language,
    /// The model's name in requests and answers.
    name: String,
    token: Token,
    caps: Caps,
    slots: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    /// Unix time of the start.
    created: u64,
    /// Becomes true when the process is to end.
    stop: watch::Receiver<bool>,
    /// Origins whose pages may read answers.
    origins: Vec<String>,
    /// Whether answers go on to their most tokens when they have ended.
    fixed_length: bool,
}

impl Endpoint {
    /// An endpoint that serves until `stop` becomes true.
    pub fn new(
        model: Arc<dyn Model>,
        language: Language,
        name: String,
        token: Token,
        caps: Caps,
        stop: watch::Receiver<bool>,
    ) -> Endpoint {
        Endpoint {
            model,
            language,
            name,
            token,
            caps,
            slots: Arc::new(Semaphore::new(caps.requests)),
            metrics: Arc::new(Metrics::new()),
            created: unix_time(),
            stop,
            origins: Vec::new(),
            fixed_length: false,
        }
    }

    /// The same for pages of these origins, as in `http://localhost:3000`; `*` is any.
    pub fn with_origins(self, origins: Vec<String>) -> Endpoint {
        Endpoint { origins, ..self }
    }

    /// The same, whose answers go on to their most tokens when they have ended, or do not.
    pub fn with_fixed_length(self, fixed_length: bool) -> Endpoint {
        Endpoint { fixed_length, ..self }
    }
}

/// Seconds since 1970.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
