//! Answers in OpenAI's shape.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use processes::net::Links;
use serde_json::{Value, json};

use super::request::Way;
use super::unix_time;
use crate::{Finish, Totals};

/// The field of an answer that says how many elements left their calibrated ranges; above zero, the text may be wrong.
const OUTSIDE: &str = "outside";

/// The field of an answer that says what the links were that its prompt took: encrypted, or not.
const LINKS: &str = "links";

/// What all parts of an answer have in common.
pub(super) struct Reply {
    way: Way,
    id: String,
    created: u64,
    model: String,
    /// Says, in each answer, whom its privacy rests on.
    fingerprint: String,
    links: Links,
}

impl Reply {
    /// A new answer, with an id of its own.
    pub(super) fn new(way: Way, model: &str, trust: &str, links: Links) -> Result<Reply, getrandom::Error> {
        let mut random = [0; 12];
        getrandom::fill(&mut random)?;
        let prefix = match way {
            Way::Completion => "cmpl",
            Way::Chat => "chatcmpl",
        };
        let id = format!("{prefix}-{}", processes::handshake::hex(&random));
        let fingerprint = format!("ssvm-{} ({trust})", env!("CARGO_PKG_VERSION"));
        Ok(Reply { way, id, created: unix_time(), model: model.to_owned(), fingerprint, links })
    }

    /// An answer as a whole.
    pub(super) fn whole(&self, text: &str, finish: Finish, totals: &Totals) -> Value {
        let (object, content) = match self.way {
            Way::Completion => ("text_completion", json!(text)),
            Way::Chat => ("chat.completion", json!({"role": "assistant", "content": text, "refusal": null})),
        };
        let mut answer = self.part(object, vec![self.choice(content, Some(finish))]);
        answer["usage"] = usage(totals);
        answer[OUTSIDE] = json!(totals.outside);
        answer[LINKS] = json!(self.links);
        answer
    }

    /// The first piece of a chat's answer, which says who speaks; a completion has none.
    pub(super) fn opening(&self) -> Option<Value> {
        match self.way {
            Way::Completion => None,
            Way::Chat => Some(self.delta(json!({"role": "assistant", "content": ""}), None)),
        }
    }

    /// A piece with text.
    pub(super) fn piece(&self, text: &str) -> Value {
        match self.way {
            Way::Completion => self.delta(json!(text), None),
            Way::Chat => self.delta(json!({"content": text}), None),
        }
    }

    /// The piece that says why the text ended.
    pub(super) fn ending(&self, finish: Finish, totals: &Totals) -> Value {
        let mut piece = match self.way {
            Way::Completion => self.delta(json!(""), Some(finish)),
            Way::Chat => self.delta(json!({}), Some(finish)),
        };
        piece[OUTSIDE] = json!(totals.outside);
        piece[LINKS] = json!(self.links);
        piece
    }

    /// The piece that has the counts and no text.
    pub(super) fn counts(&self, totals: &Totals) -> Value {
        let mut piece = self.part(self.piece_object(), Vec::new());
        piece["usage"] = usage(totals);
        piece
    }

    fn delta(&self, content: Value, finish: Option<Finish>) -> Value {
        let mut choice = self.choice(content, finish);
        if let (Way::Chat, Some(choice)) = (self.way, choice.as_object_mut()) {
            let delta = choice.remove("message").unwrap_or_default();
            choice.insert("delta".to_owned(), delta);
        }
        self.part(self.piece_object(), vec![choice])
    }

    fn choice(&self, content: Value, finish: Option<Finish>) -> Value {
        let name = match self.way {
            Way::Completion => "text",
            Way::Chat => "message",
        };
        json!({"index": 0, name: content, "logprobs": null, "finish_reason": finish.map(Finish::name)})
    }

    fn piece_object(&self) -> &'static str {
        match self.way {
            Way::Completion => "text_completion",
            Way::Chat => "chat.completion.chunk",
        }
    }

    fn part(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }
}

fn usage(totals: &Totals) -> Value {
    json!({
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.tokens,
        "total_tokens": totals.prompt_tokens + totals.tokens,
    })
}

/// A response with a JSON body.
pub(super) fn json_response(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
