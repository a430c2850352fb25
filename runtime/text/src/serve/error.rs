//! What a request is told when it gets no answer, in OpenAI's shape; and why the endpoint does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::TokenError;
use super::reply::json_response;
use crate::{GenerateError, TextError};
use processes::net::{NetError, Refusal};
use processes::{RunError, chain};

/// What OpenAI's clients heed before they try again by themselves.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Seconds that a program waits by itself.
const PATIENCE: u32 = 60;

/// Why the endpoint does not start.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum ServeError {
    #[error("{address} is not a loopback address: prompts and answers would cross the network unencrypted")]
    NotLoopback { address: SocketAddr },
    #[error(transparent)]
    Address(NetError),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("program {} has no name that can be served", program.display())]
    Name { program: PathBuf },
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
}

impl ServeError {
    /// A way out, for the user.
    pub fn hint(&self) -> String {
        match self {
            ServeError::NotLoopback { .. } => {
                "a proxy with TLS in front of a loopback address, or `--expose` on a network that you trust".to_owned()
            }
            ServeError::Address(e) => e.hint().to_owned(),
            ServeError::Listen { .. } => "another `--listen`; port 0 picks a free port".to_owned(),
            ServeError::Name { .. } => "`--name NAME`".to_owned(),
            ServeError::Token(e) => e.hint().to_owned(),
            ServeError::Generate(e) => e.hint(),
        }
    }
}

/// Why a request gets no answer.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    /// One of OpenAI's words.
    pub(super) code: &'static str,
    /// The parameter at fault.
    param: Option<String>,
    message: String,
    /// Seconds after which it makes sense to try again.
    again: Option<u32>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, code, param: None, message: message.into(), again: None }
    }

    /// A request that is wrong in itself.
    pub(super) fn request(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// A request that is wrong in one parameter.
    pub(super) fn param(code: &'static str, param: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError { param: Some(param.into()), ..ApiError::request(code, message) }
    }

    pub(super) fn unauthorized() -> ApiError {
        let message = "a bearer token is needed: `Authorization: Bearer TOKEN`; `ssvm serve` says which file holds it";
        ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    pub(super) fn no_path() -> ApiError {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "no such path; the endpoint has `/v1/models`, `/v1/completions` and `/v1/chat/completions`",
        )
    }

    pub(super) fn no_method() -> ApiError {
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path takes another method")
    }

    pub(super) fn no_model(served: &str) -> ApiError {
        let message = format!("there is one model here, `{served}`");
        ApiError { param: Some("model".to_owned()), ..ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message) }
    }

    pub(super) fn too_large(limit: usize) -> ApiError {
        let message = format!("the body is longer than {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    }

    pub(super) fn slow_body() -> ApiError {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time")
    }

    pub(super) fn busy(limit: usize) -> ApiError {
        let message = format!("{limit} requests are being answered already; try again when one has ended");
        ApiError::too_many(message, 1)
    }

    /// With the seconds until there may be room.
    fn too_many(message: impl Into<String>, again: u32) -> ApiError {
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message);
        ApiError { again: Some(again), ..error }
    }

    pub(super) fn deadline(seconds: f64) -> ApiError {
        let message =
            format!("no answer within {seconds} s; ask for fewer tokens, or start with a longer `--deadline`");
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    pub(super) fn stopping() -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the endpoint is being stopped")
    }

    pub(super) fn internal() -> ApiError {
        let message = "a fault of the program; its log says more";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// The error as JSON, as in a body or an event.
    pub(super) fn json(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl From<GenerateError> for ApiError {
    fn from(error: GenerateError) -> ApiError {
        let message = format!("{}; try: {}", chain(&error), error.hint());
        let at = |param: &str, code| ApiError::param(code, param, message.clone());
        match error {
            GenerateError::EmptyPrompt => at("prompt", "invalid_value"),
            GenerateError::PromptTooLong { .. } => at("prompt", "context_length_exceeded"),
            GenerateError::TokenOutOfRange { .. } => at("prompt", "invalid_value"),
            GenerateError::Temperature { .. } => at("temperature", "invalid_value"),
            GenerateError::EmptyStop => at("stop", "invalid_value"),
            GenerateError::Chat(_) => at("messages", "invalid_value"),
            GenerateError::Text(TextError::Special { .. }) => ApiError::request("invalid_value", message),
            GenerateError::MaterialUsedUp => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "material_used_up", message)
            }
            GenerateError::Run(RunError::Net(NetError::Refused { refusal, .. })) => match refusal {
                Refusal::Busy { .. } => ApiError::too_many(message, 1),
                Refusal::Limit { seconds, .. } => ApiError::too_many(message, seconds),
                Refusal::NotAllowed { .. } => ApiError::new(StatusCode::FORBIDDEN, "not_allowed", message),
            },
            GenerateError::Cancelled | GenerateError::Run(_) => {
                ApiError::new(StatusCode::BAD_GATEWAY, "session_failed", message)
            }
            GenerateError::Text(_)
            | GenerateError::Config(_)
            | GenerateError::Vocabulary { .. }
            | GenerateError::OtherTokenizer { .. }
            | GenerateError::OtherTemplate { .. } => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "tokenizer", message)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.json());
        if let Some(seconds) = self.again {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            if seconds > PATIENCE {
                response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
        }
        let mut add = |name: HeaderName, value| response.headers_mut().insert(name, HeaderValue::from_static(value));
        match self.status {
            StatusCode::UNAUTHORIZED => add(header::WWW_AUTHENTICATE, "Bearer"),
            // The rest of the body is not read.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => add(header::CONNECTION, "close"),
            // Another try costs material and is the person's decision; OpenAI's clients heed this.
            status if status.is_server_error() => add(SHOULD_RETRY, "false"),
            _ => None,
        };
        response
    }
}
