//! What generates tokens, seen from the text side.

use std::collections::BTreeMap;

use tokio::sync::watch;

use processes::generation::Step;
use processes::net::Links;

use super::{GenerateError, Noise, SpecialTokens};

/// What a model accepts. All of it is public.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most tokens of a prompt and its continuation together.
    pub context: usize,
    /// Most slots of a session. A prompt takes as many as the size that it runs at, each token after the first of its
    /// continuation one more.
    pub slots: usize,
    /// Prompt sizes, in tokens, that the program has an entry for, ascending. A prompt runs at the least that holds it.
    pub prefill: Vec<usize>,
    /// Number of logits: every token is below it. May exceed the tokenizer's, which trained models often pad.
    pub vocabulary: usize,
    /// Tokens that end a text by what the program says, besides those of its [`Language`](super::Language).
    pub ends: Vec<u32>,
    /// Greatest temperature; 0 if the program has no place for noise, and at most [`TEMPERATURE_BOUND`].
    ///
    /// [`TEMPERATURE_BOUND`]: ir::noise::TEMPERATURE_BOUND
    pub temperature: f64,
    /// What the program says of its language.
    pub companions: Companions,
}

/// What a program carries of the files that lay beside its model.
#[derive(Clone, Default, Debug)]
pub struct Companions {
    /// BLAKE3 of the tokenizer, in hexadecimal.
    pub tokenizer: Option<String>,
    /// The chat template.
    pub chat_template: Option<String>,
    /// Names of special tokens, for the template.
    pub special_tokens: SpecialTokens,
}

impl Companions {
    /// From a program's metadata; what is missing or makes no sense there is as if it had not been beside the model.
    pub fn of(metadata: &BTreeMap<String, String>) -> Companions {
        let tokens = metadata.get("special_tokens").and_then(|tokens| serde_json::from_str(tokens).ok());
        Companions {
            tokenizer: metadata.get("tokenizer_blake3").cloned(),
            chat_template: metadata.get("chat_template").cloned(),
            special_tokens: tokens.unwrap_or_default(),
        }
    }
}

impl Limits {
    /// Most tokens of a prompt, which must leave room for one more.
    pub fn prompt(&self) -> usize {
        self.prefill.iter().copied().max().unwrap_or(0).min(self.context.saturating_sub(1))
    }

    /// Most tokens of the continuation of a prompt that may be longer: what is beyond [`Limits::prompt`] is given token by token.
    pub fn room_after(&self, tokens: usize) -> usize {
        let prompt = tokens.min(self.prompt());
        self.room(prompt).saturating_sub(tokens - prompt)
    }

    /// Most tokens of the continuation of a prompt of `prompt` tokens: the context and the slots have room for no more.
    pub fn room(&self, prompt: usize) -> usize {
        let size = self.prefill.iter().copied().find(|&size| size >= prompt);
        let slots = size.map_or(0, |size| (self.slots + 1).saturating_sub(size));
        self.context.saturating_sub(prompt).min(slots)
    }
}

/// A model that can be asked, by several sessions at once. Calls block.
pub trait Model: Send + Sync + 'static {
    /// What it accepts.
    fn limits(&self) -> &Limits;

    /// Whom its privacy rests on besides the two parties; see [`ir::pair::Maker::trust`].
    fn trust(&self) -> &'static str;

    /// What the links to the other processes are.
    fn links(&self) -> Links;

    /// For how many tokens there is material that was made beforehand.
    fn stock_tokens(&self) -> u64;

    /// Starts on a prompt that [`Limits`] allow: token ids below the vocabulary, at least one.
    ///
    /// The session asks `noise` for each token's noise, and gives up with [`GenerateError::Cancelled`] soon after
    /// `cancel` says so, also in its later calls.
    fn begin(&self, prompt: &[u32], noise: Noise, cancel: &Cancel) -> Result<Box<dyn Session>, GenerateError>;
}

/// A prompt that is being continued. Dropping it ends it.
pub trait Session: Send {
    /// The next token after `given`, or after the one that was chosen last: the session takes this one as appended. Nothing is
    /// given for the first, which follows the prompt. Not to be called after an error or past the context.
    fn next(&mut self, given: Option<u32>) -> Result<Step, GenerateError>;
}

/// Tells a session to give up. Clones are one.
#[derive(Clone)]
pub struct Cancel(watch::Sender<bool>);

impl Default for Cancel {
    fn default() -> Cancel {
        Cancel(watch::Sender::new(false))
    }
}

impl Cancel {
    /// Cancels, for good.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Whether it has been cancelled.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Becomes true on cancellation, for waits on sockets.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}
