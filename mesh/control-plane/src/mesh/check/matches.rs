//! Checks what requests a route is for.

use super::{path_fault, regex};
use crate::resources::{GrpcMatch, HeaderMatch, HttpMatch, PathMatch, ValueMatch};

/// Longest value that is compared with, as in App Mesh's schema.
const VALUE_BYTES_MAX: usize = 255;

/// Conditions of a list at most, as in App Mesh's schema.
const CONDITIONS_MAX: usize = 10;

/// Values that Envoy would reject, and conditions that nothing meets.
pub(super) fn http_fault(matched: &HttpMatch) -> Option<String> {
    let path = match (&matched.prefix, &matched.path) {
        (Some(prefix), None) => path_fault("match.prefix", prefix),
        (None, Some(PathMatch::Exact(path))) => path_fault("match.path.exact", path),
        (None, Some(PathMatch::Regex(text))) => regex::fault("match.path.regex", text),
        _ => Some("match: one of prefix and path is needed".to_owned()),
    };
    path.or_else(|| headers_fault("match.headers", &matched.headers))
        .or_else(|| {
            let field = "match.queryParameters";
            let parameters = &matched.query_parameters;
            count_fault(field, parameters.len()).or_else(|| {
                let mut names = parameters.iter().map(|parameter| parameter.name.as_str());
                names
                    .any(|name| name.is_empty() || name.contains(char::is_control))
                    .then(|| format!("{field}: a name is needed"))
            })
        })
}

pub(super) fn grpc_fault(matched: &GrpcMatch) -> Option<String> {
    let is_name = |name: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
        !name.is_empty() && name.bytes().all(plain)
    };
    let (service, method) = (&matched.service_name, &matched.method_name);
    if let Some(name) = service.as_ref().filter(|name| !is_name(name)) {
        return Some(format!(
            "match.serviceName: {name:?} is not PACKAGE.SERVICE"
        ));
    }
    if let Some(name) = method.as_ref().filter(|name| !is_name(name)) {
        return Some(format!(
            "match.methodName: {name:?} is not the name of a method"
        ));
    }
    if method.is_some() && service.is_none() {
        return Some("match.methodName: match.serviceName is needed with it".to_owned());
    }
    headers_fault("match.metadata", &matched.metadata)
}

fn count_fault(field: &str, count: usize) -> Option<String> {
    (count > CONDITIONS_MAX).then(|| format!("{field}: {count} are more than {CONDITIONS_MAX}"))
}

fn headers_fault(field: &str, headers: &[HeaderMatch]) -> Option<String> {
    count_fault(field, headers.len()).or_else(|| {
        headers.iter().find_map(|header| {
            let name = &header.name;
            if !is_header_name(name) {
                return Some(format!("{field}: {name:?} is not the name of a header"));
            }
            let field = format!("{field}: {name}");
            value_fault(&field, header.r#match.as_ref()?)
        })
    })
}

fn value_fault(field: &str, value: &ValueMatch) -> Option<String> {
    match value {
        ValueMatch::Regex(text) => regex::fault(&format!("{field}: regex"), text),
        ValueMatch::Range(range) => (range.start >= range.end).then(|| {
            let (start, end) = (range.start, range.end);
            format!("{field}: range: nothing is from {start} to below {end}")
        }),
        ValueMatch::Exact(text) | ValueMatch::Prefix(text) | ValueMatch::Suffix(text) => {
            let is_bad =
                text.is_empty() || text.len() > VALUE_BYTES_MAX || text.contains(char::is_control);
            is_bad.then(|| {
                format!("{field}: 1 to {VALUE_BYTES_MAX} bytes of text are needed, not {text:?}")
            })
        }
    }
}

/// Of HTTP, or of a pseudo header such as `:authority`.
fn is_header_name(name: &str) -> bool {
    let plain = name.strip_prefix(':').unwrap_or(name);
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !plain.is_empty() && plain.bytes().all(is_token)
}
