//! A toy language model for tests of what stands around a model: quick, deterministic, and it fails on request.
//!
//! It recites a script, then ends the text, and begins again after a token that it is given; noise makes it say other tokens. The last
//! token of a prompt can ask for a [`Misfortune`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use processes::RunError;
use processes::net::{Links, NetError};
use text::{Cancel, Companions, GenerateError, Limits, Model, Noise, Session, Step};

/// What a prompt can ask the toy for by its last token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Misfortune {
    /// The session cannot begin.
    NoServer = 0,
    /// The session breaks at its third token.
    Breaks = 1,
    /// Each token takes [`Toy::SLOW`].
    Slow = 2,
    /// The session panics at its second token.
    Panics = 3,
    /// No material is left.
    Material = 4,
    /// The second token ignores cancellation, for [`Toy::DEAF`].
    Deaf = 5,
}

/// The model.
pub struct Toy {
    limits: Limits,
    script: Vec<u32>,
    counters: Arc<Counters>,
}

/// What a test can watch.
#[derive(Default)]
pub struct Counters {
    /// Sessions that are there.
    pub sessions: AtomicUsize,
    /// Tokens that were generated.
    pub tokens: AtomicU64,
}

impl Toy {
    /// Tokens of the vocabulary that ask for a misfortune, the first of [`Misfortune`].
    pub const FAULTS: u32 = 1000;

    /// A slow token.
    pub const SLOW: Duration = Duration::from_millis(50);

    /// How long a deaf session hears nothing.
    pub const DEAF: Duration = Duration::from_secs(3);

    /// Entries of the vocabulary, those of the shipped tokenizer.
    pub const VOCABULARY: usize = 1024;

    /// A model that says `script`, then ends the text, whatever it is asked. With noise it says other tokens.
    pub fn new(script: Vec<u32>) -> Toy {
        let limits = Limits {
            context: 64,
            slots: 1 << 10,
            prefill: vec![16, 48],
            vocabulary: Toy::VOCABULARY,
            ends: Vec::new(),
            temperature: ir::noise::TEMPERATURE_BOUND,
            companions: Companions::default(),
        };
        Toy { limits, script, counters: Arc::default() }
    }

    /// The same without a place for noise.
    pub fn greedy(script: Vec<u32>) -> Toy {
        let mut toy = Toy::new(script);
        toy.limits.temperature = 0.0;
        toy
    }

    /// What a test can watch.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }
}

/// The token that asks for a misfortune.
pub fn fault(what: Misfortune) -> u32 {
    Toy::FAULTS + what as u32
}

impl Model for Toy {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn trust(&self) -> &'static str {
        "no third party"
    }

    fn links(&self) -> Links {
        Links::Encrypted
    }

    fn stock_tokens(&self) -> u64 {
        500 - self.counters.tokens.load(Ordering::SeqCst)
    }

    fn begin(&self, prompt: &[u32], noise: Noise, cancel: &Cancel) -> Result<Box<dyn Session>, GenerateError> {
        let last = *prompt.last().expect("a prompt");
        if last == fault(Misfortune::NoServer) {
            let address = ([127, 0, 0, 1], 9).into();
            let source = std::io::ErrorKind::ConnectionRefused.into();
            return Err(RunError::Net(NetError::Unreachable { peer: "server", address, seconds: 1.0, source }).into());
        }
        self.counters.sessions.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Reciting {
            last,
            noise,
            cancel: cancel.clone(),
            script: self.script.clone(),
            step: 0,
            said: 0,
            counters: self.counters.clone(),
        }))
    }
}

struct Reciting {
    last: u32,
    noise: Noise,
    cancel: Cancel,
    script: Vec<u32>,
    step: u32,
    /// Tokens of the script since the last that was given.
    said: usize,
    counters: Arc<Counters>,
}

impl Reciting {
    /// Waits, unless it is cancelled.
    fn wait(&self, time: Duration) -> Result<(), GenerateError> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.cancel.is_cancelled() {
                return Err(GenerateError::Cancelled);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Session for Reciting {
    fn next(&mut self, given: Option<u32>) -> Result<Step, GenerateError> {
        if given.is_some() {
            self.said = 0;
        }
        let asked = |what| self.last == fault(what);
        match self.step {
            _ if asked(Misfortune::Slow) => self.wait(Toy::SLOW)?,
            0 if asked(Misfortune::Material) => return Err(GenerateError::MaterialUsedUp),
            1 if asked(Misfortune::Panics) => panic!("the toy panics, as it was asked to"),
            1 if asked(Misfortune::Deaf) => std::thread::sleep(Toy::DEAF),
            2 if asked(Misfortune::Breaks) => {
                return Err(RunError::Net(NetError::Closed { peer: "server" }).into());
            }
            _ => {}
        }
        // A logit of 4 for the scripted token and 0 for the others, noise added, the greatest wins.
        const SCALE: u8 = 10;
        let mut noisy = vec![0; Toy::VOCABULARY];
        self.noise.fill(self.step, SCALE, &mut noisy);
        let scripted = self.script.get(self.said).copied().unwrap_or(0);
        noisy[scripted as usize] += 4 << SCALE;
        let token = (0..Toy::VOCABULARY as u32).max_by_key(|&token| noisy[token as usize]).expect("a vocabulary");
        self.step += 1;
        self.said += 1;
        self.counters.tokens.fetch_add(1, Ordering::SeqCst);
        Ok(Step {
            token,
            sent_bytes: 1000,
            received_bytes: 2000,
            seconds: 0.001,
            material_tokens: Some(500 - u64::from(self.step)),
            outside: 0,
        })
    }
}

impl Drop for Reciting {
    fn drop(&mut self) {
        self.counters.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}
