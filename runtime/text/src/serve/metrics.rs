//! Counters for Prometheus, in the OpenMetrics text format. They count; they hold no text and no token.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::{Advance, Totals};

/// The type of what [`Metrics::encode`] writes.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Answered {
    path: String,
    status: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Failed {
    code: &'static str,
}

/// See the module head.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    failures: Family<Failed, Counter>,
    running: Gauge,
    prompt_tokens: Counter,
    tokens: Counter,
    token_seconds: Histogram,
    sent_bytes: Counter,
    received_bytes: Counter,
    material_tokens: Gauge,
    outside: Counter,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("ssvm");
        let metrics = Metrics {
            requests: Family::default(),
            failures: Family::default(),
            running: Gauge::default(),
            prompt_tokens: Counter::default(),
            tokens: Counter::default(),
            // 10 ms to 82 s.
            token_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 14)),
            sent_bytes: Counter::default(),
            received_bytes: Counter::default(),
            material_tokens: Gauge::default(),
            outside: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests by path and status", metrics.requests.clone());
        registry.register("failures", "Answers that failed, by code", metrics.failures.clone());
        registry.register("running_requests", "Requests that are being answered", metrics.running.clone());
        registry.register("prompt_tokens", "Tokens of prompts", metrics.prompt_tokens.clone());
        registry.register("tokens", "Tokens generated", metrics.tokens.clone());
        let seconds = metrics.token_seconds.clone();
        registry.register_with_unit("token", "Wall time of a token", Unit::Seconds, seconds);
        registry.register_with_unit("sent", "Sent to the parties", Unit::Bytes, metrics.sent_bytes.clone());
        registry.register_with_unit("received", "Received from them", Unit::Bytes, metrics.received_bytes.clone());
        let help = "Tokens for which there is material in stocks, those that texts have taken left out";
        registry.register("material_tokens", help, metrics.material_tokens.clone());
        let help = "Elements that left their calibrated ranges; answers with such may be wrong";
        registry.register("outside_elements", help, metrics.outside.clone());
        Metrics { registry, ..metrics }
    }

    /// All of it, beside for how many tokens there is material now: others make stocks and take them, too.
    pub(super) fn encode(&self, stock_tokens: u64) -> String {
        self.material_tokens.set(i64::try_from(stock_tokens).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes all that is written");
        text
    }

    /// A request was answered, or began to be.
    pub(super) fn answered(&self, path: &str, status: u16) {
        self.requests.get_or_create(&Answered { path: path.to_owned(), status }).inc();
    }

    pub(super) fn failed(&self, code: &'static str) {
        self.failures.get_or_create(&Failed { code }).inc();
    }

    pub(super) fn begun(&self, prompt_tokens: usize) {
        self.prompt_tokens.inc_by(prompt_tokens as u64);
    }

    /// A token was generated; `before` and `after` are the totals around it.
    pub(super) fn advanced(&self, step: &Advance, before: &Totals, after: &Totals) {
        self.tokens.inc_by((after.tokens - before.tokens) as u64);
        self.token_seconds.observe(step.seconds);
        self.sent_bytes.inc_by(after.sent_bytes - before.sent_bytes);
        self.received_bytes.inc_by(after.received_bytes - before.received_bytes);
        self.outside.inc_by(after.outside - before.outside);
    }

    /// Counts a request as running until the guard is dropped.
    pub(super) fn run(&self) -> Running {
        self.running.inc();
        Running(self.running.clone())
    }
}

/// A request that is being answered.
pub(super) struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
