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
    let text = "Too many requests, please try again later.\n";
    let mut refused = answer(code, Full::new(Bytes::from(text)).boxed_unsync());
    let headers = refused.headers_mut();
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, plain);
    headers.insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    refused
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
