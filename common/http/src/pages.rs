//! The pages of every admin port: `/livez`, `/healthz`, `/readyz` and `/metrics`; and plain
//! responses.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::Full;
use prometheus_client::registry::Registry;

use crate::health::{self, Check, HealthQuery};
use crate::settings::{Deadlines, Http2, Limits, Protocol, Settings};

const TEXT: &str = "text/plain; charset=utf-8";

/// Connections of an admin port: a few scrapers, probes, people.
const CONNECTIONS: usize = 64;

pub type HttpResponse = Response<Full<Bytes>>;

/// The settings of an admin port.
pub fn settings() -> Settings {
    Settings {
        listener: "admin",
        protocol: Protocol::Http1,
        limits: Limits::of(CONNECTIONS),
        deadlines: Deadlines::default(),
        head_bytes_max: 16 * 1024,
        headers_max: 100,
        http2: Http2::default(),
    }
}

/// The page at `uri`; `None` for other paths.
pub fn page(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    registry: &Registry,
    checks: impl FnOnce() -> Vec<Check>,
) -> Option<HttpResponse> {
    let path = uri.path();
    if !["/livez", "/healthz", "/readyz", "/metrics"].contains(&path) {
        return None;
    }
    if method != Method::GET {
        return Some(only_get());
    }
    Some(match path {
        "/metrics" => metrics(registry, headers),
        "/readyz" => health("readyz", &checks(), uri.query()),
        _ => {
            let ping = Check {
                name: "ping",
                failure: None,
            };
            health("livez", &[ping], uri.query())
        }
    })
}

/// The metrics in the format that `headers` accept.
fn metrics(registry: &Registry, headers: &HeaderMap) -> HttpResponse {
    match common_exposition::page(registry, headers) {
        Ok((page, media_type)) => {
            let mut answer = answer(StatusCode::OK, page.into(), media_type);
            let vary = HeaderValue::from_static("Accept");
            answer.headers_mut().insert(VARY, vary);
            answer
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn health(endpoint: &str, checks: &[Check], query: Option<&str>) -> HttpResponse {
    let verbose =
        query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("verbose")));
    let query = HealthQuery {
        verbose,
        ..HealthQuery::default()
    };
    match health::report(endpoint, checks, &query) {
        Some((status, report)) => text(status, report),
        None => text(StatusCode::NOT_FOUND, "no such check\n"),
    }
}

pub fn only_get() -> HttpResponse {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is supported\n");
    let allow = HeaderValue::from_static("GET, HEAD");
    answer.headers_mut().insert(ALLOW, allow);
    answer
}

pub fn text(status: StatusCode, text: impl Into<Bytes>) -> HttpResponse {
    answer(status, text.into(), TEXT)
}

pub fn answer(status: StatusCode, body: Bytes, media_type: &'static str) -> HttpResponse {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}
