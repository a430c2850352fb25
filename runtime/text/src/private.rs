//! The model of a program that runs with a server, and with a dealer where there is one.

use std::num::NonZeroUsize;

use ir::noise::TEMPERATURE_BOUND;
use processes::client::Client;
use processes::generation::{self, Generator, Step};
use processes::net::{Links, Net, NetError};
use processes::{Refill, RunError};

use super::{Cancel, Companions, GenerateError, Limits, Model, Noise, Session};

/// A model that runs as a client of a server, and of a dealer where there is one.
pub struct PrivateModel {
    generator: Generator,
    limits: Limits,
    trust: &'static str,
    links: Links,
}

impl PrivateModel {
    /// See [`Generator::new`].
    pub fn new(client: Client, net: &Net) -> Result<PrivateModel, RunError> {
        let trust = client.maker().trust();
        let generator = Generator::new(client, net)?;
        let plan = generator.plan();
        let limits = Limits {
            context: plan.context(),
            slots: plan.slots(),
            prefill: plan.prefill(),
            vocabulary: plan.vocabulary(),
            ends: plan.ends().to_vec(),
            temperature: if plan.noise() { TEMPERATURE_BOUND } else { 0.0 },
            companions: Companions::of(&generator.loaded().module.metadata),
        };
        Ok(PrivateModel { generator, limits, trust, links: net.links() })
    }

    /// See [`Generator::refill`].
    pub fn refill(&self, net: &Net, tokens: NonZeroUsize, most: NonZeroUsize) -> Refill {
        self.generator.refill(net, tokens, most)
    }
}

impl Model for PrivateModel {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn trust(&self) -> &'static str {
        self.trust
    }

    fn links(&self) -> Links {
        self.links
    }

    fn stock_tokens(&self) -> u64 {
        self.generator.stock_tokens()
    }

    fn begin(&self, prompt: &[u32], noise: Noise, cancel: &Cancel) -> Result<Box<dyn Session>, GenerateError> {
        let session = self.generator.begin(prompt, Box::new(noise), cancel.subscribe());
        let session = session.map_err(|error| ended(error, cancel))?;
        Ok(Box::new(PrivateSession { session, cancel: cancel.clone() }))
    }
}

struct PrivateSession {
    session: generation::Session,
    cancel: Cancel,
}

impl Session for PrivateSession {
    fn next(&mut self, given: Option<u32>) -> Result<Step, GenerateError> {
        self.session.next(given).map_err(|error| ended(error, &self.cancel))
    }
}

/// A wait that ended because the owner cancelled is no fault.
fn ended(error: RunError, cancel: &Cancel) -> GenerateError {
    match error {
        RunError::Net(NetError::Interrupted) if cancel.is_cancelled() => GenerateError::Cancelled,
        error => error.into(),
    }
}
