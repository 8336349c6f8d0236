//! Passes admitted requests on to kube-apiserver, and its answers back.

use std::time::Duration;

use aggregator_page::assets::{HEADERS, HTML, UNCACHED};
use aggregator_page::{Depth, problem};
use bytes::Bytes;
use common_http::BoxError;
use http::header::{self, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use kube::client::Body;
use serde::Deserialize;

use super::gate::{Admitted, Gate, Refused};
use crate::{Connection, clock};

/// Until an answer begins.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a refusal that is shown in a page of ours.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// What of a request goes on: the rest is between browser and proxy, above all whatever says who
/// the user is.
const ASKED: [HeaderName; 2] = [header::ACCEPT, header::IF_NONE_MATCH];
/// What of an answer comes back.
const ANSWERED: [HeaderName; 3] = [CONTENT_TYPE, CACHE_CONTROL, header::ETAG];

pub(crate) type HttpResponse = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// A gate and what is behind it.
#[derive(Debug)]
pub(crate) struct Proxy {
    gate: Gate,
    connection: Connection,
    answer_within: Duration,
}

/// As far as a refusal of Kubernetes is shown.
#[derive(Deserialize)]
struct Status {
    message: String,
}

// === impl Proxy ===

impl Proxy {
    pub(crate) fn new(gate: Gate, connection: Connection) -> Self {
        Self {
            gate,
            connection,
            answer_within: ANSWER_WITHIN,
        }
    }

    /// The same with another deadline until an answer begins.
    #[cfg(test)]
    pub(crate) fn answering_within(mut self, answer_within: Duration) -> Self {
        self.answer_within = answer_within;
        self
    }

    /// Answers a request of a browser.
    pub(crate) async fn respond_to(&self, head: &Parts) -> HttpResponse {
        let mut response = match self.gate.admit(head) {
            Ok(Admitted::Forward(path)) => self.forward(head, &path).await,
            Ok(Admitted::Redirect(to)) => redirect(&to),
            Err(refused) => refusal(refused),
        };
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        response
    }

    async fn forward(&self, head: &Parts, path: &str) -> HttpResponse {
        let mut request = Request::get(path);
        for name in ASKED {
            if let Some(value) = head.headers.get(&name) {
                request = request.header(name, value);
            }
        }
        let Ok(request) = request.body(Body::empty()) else {
            return refusal(Refused::Path);
        };
        let sent = self.connection.client().send(request);
        let response = match tokio::time::timeout(self.answer_within, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let message = format!("{} does not answer: {error}", self.connection.server());
                return shown(path, StatusCode::BAD_GATEWAY, &message);
            }
            Err(_) => {
                let seconds = self.answer_within.as_secs_f32();
                let message = format!(
                    "{} did not answer within {seconds} s",
                    self.connection.server()
                );
                return shown(path, StatusCode::GATEWAY_TIMEOUT, &message);
            }
        };
        let (answered, body) = response.into_parts();
        let is_page = answered
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value == HTML);
        if !answered.status.is_success() && answered.status != StatusCode::NOT_MODIFIED && !is_page
        {
            return self.refused(path, answered.status, body).await;
        }
        let mut response = Response::new(body.map_err(BoxError::from).boxed_unsync());
        *response.status_mut() = answered.status;
        for name in ANSWERED {
            if let Some(value) = answered.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }

    /// The message of a refusal of kube-apiserver, as a page.
    async fn refused(&self, path: &str, status: StatusCode, body: Body) -> HttpResponse {
        let read = Limited::new(body, REFUSAL_BYTES_MAX).collect();
        let bytes = match tokio::time::timeout(self.answer_within, read).await {
            Ok(Ok(read)) => read.to_bytes(),
            _ => Bytes::new(),
        };
        let message = match serde_json::from_slice::<Status>(&bytes) {
            Ok(status) if !status.message.is_empty() => status.message,
            _ => format!("{} answered {status}", self.connection.server()),
        };
        shown(path, status, &message)
    }
}

/// `message` as a page in place of the one at `path`.
fn shown(path: &str, status: StatusCode, message: &str) -> HttpResponse {
    let path = path.split('?').next().unwrap_or_default();
    let segments: Vec<&str> = path.split('/').collect();
    let namespace = match segments.as_slice() {
        [_, _, _, _, "namespaces", namespace, ..] => Some(*namespace),
        _ => None,
    };
    let depth = if path.ends_with("/page") {
        Depth::Page
    } else {
        Depth::Below
    };
    let now = clock::read().unix_ms();
    html(status, problem(namespace, depth, now, message).to_html())
}

/// A refusal of the gate. Plain text: it may not have the key, so no link of it would hold.
fn refusal(refused: Refused) -> HttpResponse {
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut response = whole(refused.status(), refused.to_string() + "\n", text);
    if refused == Refused::Method {
        let get = HeaderValue::from_static("GET");
        response.headers_mut().insert(ALLOW, get);
    }
    response
}

fn redirect(to: &str) -> HttpResponse {
    let mut response = html(StatusCode::SEE_OTHER, String::new());
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn html(status: StatusCode, text: String) -> HttpResponse {
    whole(status, text, HeaderValue::from_static(HTML))
}

fn whole(status: StatusCode, text: String, content_type: HeaderValue) -> HttpResponse {
    let body = Full::new(Bytes::from(text));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(UNCACHED));
    response
}
