//! Requests: what they ask for, or which parameter is at fault. Messages and tools are in `messages`.
//!
//! A parameter is followed, refused unless it has the value that changes nothing ([`REFUSED`]), known to change nothing
//! and ignored ([`IGNORED`]), or unknown and refused, as OpenAI does. `null` counts as absent.

use std::num::NonZeroUsize;

use serde_json::{Map, Value};

use super::error::ApiError;
use super::messages::conversation;
use crate::{Conversation, Settings};

/// Most stop strings, as OpenAI has it.
const STOPS: usize = 4;

/// Tokens of a completion that does not say how many, as OpenAI has it.
const COMPLETION_TOKENS: usize = 16;

/// Which of the two ways of asking.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `/v1/completions`.
    Completion,
    /// `/v1/chat/completions`.
    Chat,
}

/// What is to be continued.
pub(super) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    Messages(Box<Conversation>),
}

/// A request that is understood. No `Debug`: the prompt is secret.
pub(super) struct Ask {
    /// The name of the model, if it was given.
    pub(super) model: Option<String>,
    pub(super) prompt: Prompt,
    pub(super) settings: Settings,
    /// Whether the answer comes in pieces.
    pub(super) stream: bool,
    /// Whether the last piece has the counts.
    pub(super) include_usage: bool,
}

/// A parameter that this endpoint cannot follow, the value that changes nothing, and why.
struct Refused {
    name: &'static str,
    neutral: fn(&Value) -> bool,
    reason: &'static str,
}

const LOGITS: &str = "it needs the logits, which nobody learns: only the chosen token is revealed";
const ONE: &str = "a request has one answer; send several";
const BIAS: &str = "logits are chosen among as they are; `temperature` is the one way to change that";
const TEXT: &str = "the model writes plain text";
const FREE: &str = "the model writes what it likes, a call or not; `auto` and `none` can be had";

/// Parameters that would change the answer.
const REFUSED: &[Refused] = &[
    Refused { name: "n", neutral: |v| number(v, 1.0), reason: ONE },
    Refused { name: "best_of", neutral: |v| number(v, 1.0), reason: ONE },
    Refused { name: "top_p", neutral: |v| number(v, 1.0), reason: LOGITS },
    Refused { name: "top_k", neutral: |v| number(v, 0.0) || number(v, -1.0), reason: LOGITS },
    Refused { name: "min_p", neutral: |v| number(v, 0.0), reason: LOGITS },
    Refused { name: "logprobs", neutral: |v| *v == false, reason: LOGITS },
    Refused { name: "typical_p", neutral: |v| number(v, 1.0), reason: LOGITS },
    Refused { name: "top_a", neutral: |v| number(v, 0.0), reason: LOGITS },
    Refused { name: "min_tokens", neutral: |v| number(v, 0.0), reason: BIAS },
    Refused { name: "ignore_eos", neutral: |v| *v == false, reason: BIAS },
    Refused { name: "guided_json", neutral: |_| false, reason: LOGITS },
    Refused { name: "guided_regex", neutral: |_| false, reason: LOGITS },
    Refused { name: "grammar", neutral: empty, reason: LOGITS },
    Refused { name: "top_logprobs", neutral: |v| number(v, 0.0), reason: LOGITS },
    Refused { name: "presence_penalty", neutral: |v| number(v, 0.0), reason: BIAS },
    Refused { name: "frequency_penalty", neutral: |v| number(v, 0.0), reason: BIAS },
    Refused { name: "repetition_penalty", neutral: |v| number(v, 1.0), reason: BIAS },
    Refused { name: "logit_bias", neutral: empty, reason: BIAS },
    Refused { name: "echo", neutral: |v| *v == false, reason: "the answer has new text alone" },
    Refused { name: "suffix", neutral: empty, reason: "text is continued at its end alone" },
    Refused { name: "tools", neutral: empty, reason: "a completion has no tools; `/v1/chat/completions` has" },
    Refused { name: "tool_choice", neutral: |v| *v == "none" || *v == "auto", reason: FREE },
    Refused { name: "functions", neutral: empty, reason: TEXT },
    Refused { name: "function_call", neutral: |v| *v == "none" || *v == "auto", reason: TEXT },
    Refused { name: "response_format", neutral: |v| v["type"] == "text", reason: TEXT },
    Refused { name: "modalities", neutral: |v| *v == serde_json::json!(["text"]), reason: TEXT },
    Refused { name: "audio", neutral: |_| false, reason: TEXT },
    Refused { name: "web_search_options", neutral: |_| false, reason: TEXT },
];

/// Parameters that change nothing here.
const IGNORED: &[&str] = &[
    "cache_prompt",
    "keep_alive",
    "metadata",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
];

fn number(value: &Value, wanted: f64) -> bool {
    value.as_f64() == Some(wanted)
}

fn empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// The parameters of a request, each taken once.
struct Parameters(Map<String, Value>);

impl Parameters {
    /// A parameter by name, if it is there and of the kind that `read` knows.
    fn take<T>(&mut self, name: &str, kind: &str, read: fn(Value) -> Option<T>) -> Result<Option<T>, ApiError> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                None => Err(ApiError::param("invalid_type", name, format!("`{name}` is to be {kind}"))),
                read => Ok(read),
            },
        }
    }

    fn count(&mut self, name: &str) -> Result<Option<NonZeroUsize>, ApiError> {
        self.take(name, "a whole number, at least 1", |v| NonZeroUsize::new(usize::try_from(v.as_u64()?).ok()?))
    }

    fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        Ok(self.take(name, "true or false", |v| v.as_bool())?.unwrap_or(false))
    }

    /// What is left must change nothing.
    fn finish(self) -> Result<(), ApiError> {
        for (name, value) in self.0.iter().filter(|(_, value)| !value.is_null()) {
            match REFUSED.iter().find(|row| row.name == name) {
                Some(row) if (row.neutral)(value) => {}
                Some(row) => {
                    let message = format!("`{name}` cannot be followed: {}", row.reason);
                    return Err(ApiError::param("unsupported_parameter", name, message));
                }
                None if IGNORED.contains(&name.as_str()) => {}
                None => {
                    let message =
                        format!("`{}` is no parameter of this endpoint", processes::net::printable(name.as_bytes()));
                    return Err(ApiError::param("unknown_parameter", name, message));
                }
            }
        }
        Ok(())
    }
}

impl Ask {
    /// Reads a body. `temperature` is that of a request that names none.
    pub(super) fn read(way: Way, body: &[u8], temperature: f64) -> Result<Ask, ApiError> {
        let faulty = |e: serde_json::Error| {
            ApiError::request("invalid_json", format!("the body is no JSON: line {}, column {}", e.line(), e.column()))
        };
        let Value::Object(map) = serde_json::from_slice(body).map_err(faulty)? else {
            return Err(ApiError::request("invalid_type", "the body is to be a JSON object"));
        };
        let mut all = Parameters(map);
        let prompt = match way {
            Way::Completion => all.0.remove("prompt").map(prompt).unwrap_or_else(|| Err(missing("prompt")))?,
            Way::Chat => {
                // In the order of keys that the body has: templates write them out.
                let ordered: minijinja::Value = serde_json::from_slice(body).map_err(faulty)?;
                let wanted = all.take("tool_choice", FREE, |v| match v.as_str() {
                    Some("auto") => Some(true),
                    Some("none") => Some(false),
                    _ => None,
                });
                let wanted = wanted.map_err(|_| {
                    let message = format!("`tool_choice` cannot be followed: {FREE}");
                    ApiError::param("unsupported_parameter", "tool_choice", message)
                })?;
                let given = ["messages", "tools", "chat_template_kwargs"].map(|name| all.0.remove(name));
                Prompt::Messages(Box::new(conversation(given, &ordered, wanted.unwrap_or(true))?))
            }
        };
        let mut max_tokens = all.count("max_tokens")?;
        match way {
            Way::Completion => max_tokens = max_tokens.or(NonZeroUsize::new(COMPLETION_TOKENS)),
            Way::Chat => max_tokens = all.count("max_completion_tokens")?.or(max_tokens),
        }
        let stream = all.flag("stream")?;
        let options = all.take("stream_options", "an object", |v| match v {
            Value::Object(map) => Some(map),
            _ => None,
        })?;
        let mut options = Parameters(options.unwrap_or_default());
        let include_usage = options.flag("include_usage")?;
        // Padding against observers of a link's sizes, which here is loopback.
        options.flag("include_obfuscation")?;
        options.finish()?;
        let ask = Ask {
            model: all.take("model", "a string", string)?,
            prompt,
            settings: Settings {
                max_tokens,
                stop: all
                    .take("stop", &format!("a string, or up to {STOPS} of them, none empty"), stops)?
                    .unwrap_or_default(),
                temperature: all.take("temperature", "a number", |v| v.as_f64())?.unwrap_or(temperature),
                seed: all.take("seed", "a whole number", |v| v.as_u64().or(v.as_i64().map(i64::cast_unsigned)))?,
                ..Settings::default()
            },
            stream,
            include_usage,
        };
        all.finish()?;
        Ok(ask)
    }
}

pub(super) fn missing(name: &str) -> ApiError {
    ApiError::param("missing_required_parameter", name, format!("`{name}` is needed"))
}

fn string(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn stops(value: Value) -> Option<Vec<String>> {
    let all = match value {
        Value::String(text) => vec![text],
        Value::Array(list) if list.len() <= STOPS => list.into_iter().map(string).collect::<Option<_>>()?,
        _ => return None,
    };
    all.iter().all(|stop| !stop.is_empty()).then_some(all)
}

/// A text, token ids, or a list of one of these.
fn prompt(value: Value) -> Result<Prompt, ApiError> {
    let tokens = |list: &[Value]| {
        list.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect::<Option<Vec<u32>>>()
    };
    let one = match value {
        Value::Array(mut list) if matches!(list.first(), Some(Value::String(_) | Value::Array(_))) => {
            match list.len() {
                1 => list.remove(0),
                _ => {
                    return Err(ApiError::param(
                        "unsupported_parameter",
                        "prompt",
                        format!("`prompt` is one text: {ONE}"),
                    ));
                }
            }
        }
        value => value,
    };
    let read = match one {
        Value::String(text) => Some(Prompt::Text(text)),
        Value::Array(list) => tokens(&list).map(Prompt::Tokens),
        _ => None,
    };
    read.ok_or_else(|| ApiError::param("invalid_type", "prompt", "`prompt` is to be a string or a list of token ids"))
}
