//! Answers as the API server gives them.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(super) type Answer = Response<Body>;

pub(super) fn not_found(what: &str) -> Answer {
    failure(StatusCode::NOT_FOUND, &format!("{what} not found"))
}

/// Of a kind that is not installed, in plain text.
pub(super) fn page_not_found() -> Answer {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// That there is one of this name already.
pub(super) fn already_exists(name: &str) -> Answer {
    let mut taken = status(StatusCode::CONFLICT, &format!("{name} already exists"));
    taken["reason"] = "AlreadyExists".into();
    reply(StatusCode::CONFLICT, &taken)
}

/// A refusal as a `Status`.
pub(super) fn failure(code: StatusCode, message: &str) -> Answer {
    let status = status(code, message);
    reply(code, &status)
}

/// As a server that fails or has too much to do.
pub(super) fn outage(code: StatusCode) -> Answer {
    if code != StatusCode::TOO_MANY_REQUESTS {
        return failure(code, "injected");
    }
    // Priority and fairness speaks plain text.
    let mut refused = plain(code, "Too many requests, please try again later.\n");
    let headers = refused.headers_mut();
    headers.insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    refused
}

pub(super) fn plain(code: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = answer(code, Full::new(text.into()).boxed_unsync());
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    answer
}

pub(super) fn status(code: StatusCode, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
           "reason": code.canonical_reason().unwrap_or_default().replace(' ', ""), "code": code.as_u16()})
}

pub(super) fn reply(code: StatusCode, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    answer(code, body)
}

pub(super) fn answer(code: StatusCode, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    let json = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}
