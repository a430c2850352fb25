//! The paths of the endpoint.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::error::ApiError;
use super::reply::{Reply, json_response};
use super::request::{Ask, Way};
use super::worker::{Answer, Event};
use super::{Endpoint, metrics};

/// Longest time for a request's body to arrive.
const BODY: Duration = Duration::from_secs(10);

/// Silence after which a stream sends a comment, for proxies that close silent connections.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Headers that a page may send: what the API needs, and what OpenAI's client for browsers adds.
const BROWSER_HEADERS: &str = "authorization, content-type, openai-organization, openai-project, x-stainless-arch, \
    x-stainless-custom-poll-interval, x-stainless-helper-method, x-stainless-lang, x-stainless-os, x-stainless-package-version, \
    x-stainless-poll-helper, x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout";

/// Temperature of a request that names none, as OpenAI has it, if the model can.
const TEMPERATURE: f64 = 1.0;

type Shared = State<Arc<Endpoint>>;

/// All paths.
pub(super) fn router(endpoint: Arc<Endpoint>) -> Router {
    let guarded = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/completions", post(completion))
        .route("/v1/chat/completions", post(chat))
        .route("/metrics", get(counters))
        .fallback(async || ApiError::no_path())
        .method_not_allowed_fallback(async || ApiError::no_method())
        .layer(from_fn_with_state(endpoint.clone(), authorize));
    let open = Router::new().route("/health", get(async || json_response(StatusCode::OK, &json!({"status": "ok"}))));
    let all = open.merge(guarded).layer(from_fn_with_state(endpoint.clone(), share));
    all.layer(from_fn_with_state(endpoint.clone(), count)).with_state(endpoint)
}

/// Tells a browser whether a page of another origin may read the answer, and answers the question that it asks before. A page that
/// may not still needs the token.
async fn share(State(endpoint): Shared, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let known = |origin: &HeaderValue| {
        let same = |known: &String| known == "*" || known.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
        endpoint.origins.iter().any(same)
    };
    let Some(origin) = origin.filter(known) else { return next.run(request).await };
    let asks =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if asks { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    if asks {
        let mut add = |name, value| headers.insert(name, HeaderValue::from_static(value));
        add(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
        add(header::ACCESS_CONTROL_ALLOW_HEADERS, BROWSER_HEADERS);
        add(header::ACCESS_CONTROL_MAX_AGE, "600");
    }
    response
}

/// Lets a request pass that has the token.
async fn authorize(State(endpoint): Shared, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let token = header.and_then(|header| header.split_at_checked("Bearer ".len()));
    match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") && endpoint.token.matches(token) => {
            next.run(request).await
        }
        _ => ApiError::unauthorized().into_response(),
    }
}

/// Counts answers by path and status. Paths that do not exist are one.
async fn count(State(endpoint): Shared, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    endpoint.metrics.answered(&path, response.status().as_u16());
    response
}

async fn counters(State(endpoint): Shared) -> Response {
    let mut response = Response::new(endpoint.metrics.encode(endpoint.model.stock_tokens()).into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    response
}

fn described(endpoint: &Endpoint) -> Value {
    let (model, limits) = (&endpoint.model, endpoint.model.limits());
    json!({
        "id": endpoint.name,
        "object": "model",
        "created": endpoint.created,
        "owned_by": "ssvm",
        // Tokens of a prompt and its text together, and of a prompt; the first under the name that others know it by, too.
        "context_length": limits.context,
        "max_model_len": limits.context,
        "max_prompt_tokens": limits.prompt(),
        "chat": endpoint.language.chat.is_ok(),
        "preprocessing": model.trust(),
        "links": model.links(),
    })
}

async fn models(State(endpoint): Shared) -> Response {
    json_response(StatusCode::OK, &json!({"object": "list", "data": [described(&endpoint)]}))
}

async fn model(State(endpoint): Shared, Path(name): Path<String>) -> Response {
    match name == endpoint.name {
        true => json_response(StatusCode::OK, &described(&endpoint)),
        false => ApiError::no_model(&endpoint.name).into_response(),
    }
}

async fn completion(State(endpoint): Shared, request: Request) -> Result<Response, ApiError> {
    answer(Way::Completion, endpoint, request).await
}

async fn chat(State(endpoint): Shared, request: Request) -> Result<Response, ApiError> {
    answer(Way::Chat, endpoint, request).await
}

async fn answer(way: Way, endpoint: Arc<Endpoint>, request: Request) -> Result<Response, ApiError> {
    let limit = endpoint.caps.body_bytes;
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(ApiError::too_large(limit));
    }
    let body = axum::body::to_bytes(request.into_body(), limit);
    let body = timeout(BODY, body).await.map_err(|_| ApiError::slow_body())?;
    let body = body.map_err(|_| ApiError::too_large(limit))?;
    let ask = Ask::read(way, &body, TEMPERATURE.min(endpoint.model.limits().temperature))?;
    if ask.model.as_ref().is_some_and(|model| *model != endpoint.name) {
        return Err(ApiError::no_model(&endpoint.name));
    }
    let reply = Reply::new(way, &endpoint.name, endpoint.model.trust(), endpoint.model.links())
        .map_err(|_| ApiError::internal())?;
    let (stream, include_usage) = (ask.stream, ask.include_usage);
    let mut answer = Answer::start(&endpoint, ask)?;
    if stream {
        // What is wrong with the request, or no session at all, is a status and no event.
        match answer.next().await? {
            Event::Begun => Ok(streamed(reply, answer, include_usage)),
            Event::Text(_) | Event::End(..) => Err(ApiError::internal()),
        }
    } else {
        let mut text = String::new();
        loop {
            match answer.next().await? {
                Event::Begun => {}
                Event::Text(piece) => text += &piece,
                Event::End(finish, totals) => {
                    return Ok(json_response(StatusCode::OK, &reply.whole(&text, finish, &totals)));
                }
            }
        }
    }
}

/// An answer as server-sent events: pieces, then `[DONE]`; or an error, which ends them.
fn streamed(reply: Reply, answer: Answer, include_usage: bool) -> Response {
    let first: Vec<Value> = reply.opening().into_iter().collect();
    let pieces =
        stream::unfold((Some(answer), reply, first.into_iter()), move |(answer, reply, mut ready)| async move {
            if let Some(piece) = ready.next() {
                return Some((data(&piece), (answer, reply, ready)));
            }
            let mut listening = answer?;
            let (piece, answer, more) = match listening.next().await {
                Ok(Event::Begun) => (sse::Event::default().comment("begun"), Some(listening), Vec::new()),
                Ok(Event::Text(text)) => (data(&reply.piece(&text)), Some(listening), Vec::new()),
                Ok(Event::End(finish, totals)) => {
                    let counts = include_usage.then(|| reply.counts(&totals));
                    (data(&reply.ending(finish, &totals)), None, counts.into_iter().chain([Value::Null]).collect())
                }
                Err(error) => (data(&error.json()), None, Vec::new()),
            };
            Some((piece, (answer, reply, more.into_iter())))
        });
    let pieces = futures_util::StreamExt::map(pieces, Ok::<_, Infallible>);
    Sse::new(pieces).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// An event with JSON; no value at all is the end.
fn data(value: &Value) -> sse::Event {
    sse::Event::default().data(if value.is_null() { "[DONE]".to_owned() } else { value.to_string() })
}
