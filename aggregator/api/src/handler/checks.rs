//! What is refused before a route is served: limits, methods, media types, watches.

use http::Method;
use http::request::Parts;

use super::{HEADER_BYTES_MAX, HEADERS_MAX, URL_BYTES_MAX, resource_of};
use crate::accept;
use crate::form::Parameters;
use crate::path::{EXTERNAL_GROUP, GROUP, PathError, Route, VIEW_GROUP, ViewPath};
use crate::status::{Details, Kind, Reason, Refusal};

pub(super) fn check_limits(request: &Parts, has_body: bool) -> Result<(), Refusal> {
    let url_bytes = request
        .uri
        .path_and_query()
        .map_or(0, |url| url.as_str().len());
    if url_bytes > URL_BYTES_MAX {
        let message = format!("the URL has {url_bytes} bytes, at most {URL_BYTES_MAX} are allowed");
        return Err(Refusal::new(Kind::UriTooLong, Reason::UrlLength, message));
    }
    let headers = &request.headers;
    let header_bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if header_bytes > HEADER_BYTES_MAX || headers.len() > HEADERS_MAX {
        let message = format!(
            "the request has {} header lines with {header_bytes} bytes, at most {HEADERS_MAX} with {HEADER_BYTES_MAX} are allowed",
            headers.len()
        );
        return Err(Refusal::new(
            Kind::HeadersTooLarge,
            Reason::HeaderSize,
            message,
        ));
    }
    if request.method != Method::GET {
        let method: String = request.method.as_str().chars().take(32).collect();
        let message = format!("the method {method} is not supported: this API only serves GET");
        return Err(Refusal::new(
            Kind::MethodNotAllowed,
            Reason::Method,
            message,
        ));
    }
    if has_body {
        return Err(Refusal::bad_request(
            Reason::Body,
            "a GET request must not have a body",
        ));
    }
    Ok(())
}

/// What holds for every request for JSON.
pub(super) fn check_view(request: &Parts, has_body: bool, path: &ViewPath) -> Result<(), Refusal> {
    check_limits(request, has_body)?;
    if !accept::takes_json(&request.headers) {
        let message = "only the following media types are accepted: application/json";
        return Err(Refusal::new(Kind::NotAcceptable, Reason::Accept, message));
    }
    let parameters = Parameters::parse(request.uri.query().unwrap_or_default())
        .map_err(|error| Refusal::bad_request(Reason::Query, error.to_string()))?;
    if parameters.watch {
        refuse_watch(&Route::View(path.clone()))?;
    }
    Ok(())
}

/// Refuses a watch, in the words of kube-apiserver's library: values are computed on request, so
/// there is nothing to watch.
pub(super) fn refuse_watch(route: &Route) -> Result<(), Refusal> {
    let (group, resource) = match route {
        Route::Metric(_) => (GROUP, resource_of(route)),
        Route::View(path) => (VIEW_GROUP, path.resource()),
        Route::External(path) => (EXTERNAL_GROUP, path.metric.as_str()),
        _ => return Ok(()),
    };
    let message = format!("watch is not supported on resources of kind \"{resource}.{group}\"");
    let mut refusal = Refusal::new(Kind::MethodNotAllowed, Reason::Query, message);
    refusal.details = Some(Box::new(Details {
        name: String::new(),
        group: group.to_owned(),
        kind: resource.to_owned(),
        causes: Vec::new(),
    }));
    Err(refusal)
}

pub(super) fn path_refusal(error: &PathError) -> Refusal {
    match error {
        PathError::Unknown(_) | PathError::Resource { .. } | PathError::ReadsMoved { .. } => {
            Refusal::not_found(Reason::Path, error.to_string())
        }
        PathError::Percent(_)
        | PathError::Name { .. }
        | PathError::Wildcard { .. }
        | PathError::NestedNamespace { .. } => {
            Refusal::bad_request(Reason::Path, error.to_string())
        }
    }
}
