//! An endpoint in this process, and a client for it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::processes::repository;
use tests::toy::{Counters, Toy};
use text::serve::{Caps, Endpoint, Token, bind, serve};
use text::{ChatError, ChatTemplate, Language, Text};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// The token that the endpoint takes.
pub const TOKEN: &str = "0123456789abcdef-test";

/// What the toy says.
pub const SPEECH: &str = "Good morrow, cousin. Is the day so young?";

/// The language of the shipped model.
pub fn language() -> Language {
    Language::beside(&repository().join("models/tiny-shakespeare/tokenizer.json")).unwrap()
}

/// The tokenizer of the shipped model.
pub fn text() -> Text {
    language().text
}

/// A toy that says [`SPEECH`], then ends the text.
pub fn toy() -> Toy {
    Toy::new(text().encode(SPEECH).unwrap())
}

/// Caps that few tests notice.
pub fn caps() -> Caps {
    Caps { requests: 3, tokens: NonZeroUsize::MAX, body_bytes: 10_000, deadline: Duration::from_secs(20) }
}

/// A served endpoint, stopped when this is dropped.
pub struct Served {
    /// Its base address, without a slash at the end.
    pub base: String,
    /// Its address.
    pub address: std::net::SocketAddr,
    /// What the toy counts.
    pub counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Served {
    /// Serves a toy whose chats are plain lines.
    pub fn start(toy: Toy, caps: Caps) -> Served {
        Served::with(toy, caps, Some(ChatTemplate::plain()))
    }

    /// Serves a toy.
    pub fn with(toy: Toy, caps: Caps, chat: Option<ChatTemplate>) -> Served {
        Served::of(toy, caps, chat, &[])
    }

    /// Serves a toy to pages of these origins, too.
    pub fn shared(toy: Toy, caps: Caps, origins: &[&str]) -> Served {
        Served::of(toy, caps, Some(ChatTemplate::plain()), origins)
    }

    fn of(toy: Toy, caps: Caps, chat: Option<ChatTemplate>, origins: &[&str]) -> Served {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let counters = toy.counters();
        let (stop, stopped) = watch::channel(false);
        let language = Language { chat: chat.ok_or(ChatError::None), ..language() };
        let endpoint = Endpoint::new(Arc::new(toy), language, "toy".to_owned(), token(folder.path()), caps, stopped);
        let endpoint = endpoint.with_origins(origins.iter().map(|origin| (*origin).to_owned()).collect());
        let listener = runtime.block_on(bind(([127, 0, 0, 1], 0).into())).unwrap();
        let address = listener.local_addr().unwrap();
        let task = runtime.spawn(serve(listener, endpoint));
        Served { base: format!("http://{address}"), address, counters, stop, runtime: Some(runtime), task: Some(task) }
    }

    /// Stops it as a signal does; gives how long that took.
    pub fn stop(&mut self) -> Duration {
        let begin = Instant::now();
        self.stop.send_replace(true);
        if let (Some(runtime), Some(task)) = (&self.runtime, self.task.take()) {
            runtime.block_on(task).unwrap();
        }
        begin.elapsed()
    }

    /// Answers a `POST` with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(path, &body.to_string(), Some(&format!("Bearer {TOKEN}")))
    }

    /// Answers a `POST` with any body and authorization.
    pub fn send(&self, path: &str, body: &str, authorization: Option<&str>) -> Answer {
        let mut request = agent().post(format!("{}{path}", self.base)).header("content-type", "application/json");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        Answer(request.send(body).unwrap())
    }

    /// Answers a `GET`.
    pub fn get(&self, path: &str) -> Answer {
        let request = agent().get(format!("{}{path}", self.base)).header("authorization", format!("Bearer {TOKEN}"));
        Answer(request.call().unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn token(folder: &Path) -> Token {
    let file = tempfile::NamedTempFile::new_in(folder).unwrap();
    std::fs::write(file.path(), TOKEN).unwrap();
    Token::find(Some(file.path()), folder).unwrap().0
}

/// A client that takes errors as answers, with a connection for each request.
fn agent() -> ureq::Agent {
    let config =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(30)));
    config.build().into()
}

/// A response.
pub struct Answer(pub ureq::http::Response<ureq::Body>);

impl Answer {
    pub fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    pub fn header(&self, name: &str) -> &str {
        self.0.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(mut self) -> String {
        self.0.body_mut().read_to_string().unwrap()
    }

    /// The body of a success.
    pub fn json(self) -> Value {
        let status = self.status();
        let text = self.text();
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Status, `error.code` and `error.param` of a failure, whose shape is OpenAI's.
    pub fn error(self) -> (u16, String, Option<String>) {
        let status = self.status();
        assert_eq!(self.header("content-type"), "application/json");
        let body: Value = serde_json::from_str(&self.text()).unwrap();
        let error = &body["error"];
        assert!(error["message"].as_str().is_some_and(|text| text.len() > 10), "{body}");
        assert!(error["type"].as_str().is_some_and(|kind| kind.ends_with("_error")), "{body}");
        (status, error["code"].as_str().unwrap().to_owned(), error["param"].as_str().map(str::to_owned))
    }

    /// The data of server-sent events.
    pub fn events(self) -> Vec<String> {
        assert_eq!((self.status(), self.header("content-type")), (200, "text/event-stream"));
        let text = self.text();
        text.split("\n\n").filter_map(|event| event.strip_prefix("data: ").map(str::to_owned)).collect()
    }
}

/// Waits until something holds.
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(10), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
