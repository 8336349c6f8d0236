//! Conditions of routes.

use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::{
    GrpcRouteMatchOptions, PathSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use envoy_types::pb::envoy::r#type::v3::Int64Range;

use crate::resources::{GrpcMatch, HeaderMatch, HttpMatch, PathMatch, QueryParameter, ValueMatch};

pub(super) fn prefix(prefix: &str) -> RouteMatch {
    with_path(PathSpecifier::Prefix(prefix.to_owned()))
}

pub(super) fn http(matched: &HttpMatch) -> RouteMatch {
    let path = match &matched.path {
        Some(PathMatch::Exact(path)) => PathSpecifier::Path(path.clone()),
        Some(PathMatch::Regex(regex)) => PathSpecifier::SafeRegex(self::regex(regex)),
        None => PathSpecifier::Prefix(matched.prefix.clone().unwrap_or_else(|| "/".to_owned())),
    };
    let method = matched
        .method
        .map(|method| exact_header(":method", method.as_str()));
    let scheme = matched
        .scheme
        .map(|scheme| exact_header(":scheme", scheme.as_str()));
    let headers = matched.headers.iter().map(header);
    RouteMatch {
        headers: method.into_iter().chain(scheme).chain(headers).collect(),
        query_parameters: matched.query_parameters.iter().map(parameter).collect(),
        ..with_path(path)
    }
}

pub(super) fn grpc(matched: &GrpcMatch) -> RouteMatch {
    let path = match (&matched.service_name, &matched.method_name) {
        (Some(service), Some(method)) => PathSpecifier::Path(format!("/{service}/{method}")),
        (Some(service), None) => PathSpecifier::Prefix(format!("/{service}/")),
        (None, _) => PathSpecifier::Prefix("/".to_owned()),
    };
    RouteMatch {
        headers: matched.metadata.iter().map(header).collect(),
        grpc: Some(GrpcRouteMatchOptions {}),
        ..with_path(path)
    }
}

fn with_path(path: PathSpecifier) -> RouteMatch {
    RouteMatch {
        path_specifier: Some(path),
        ..RouteMatch::default()
    }
}

pub(super) fn exact_header(name: &str, value: &str) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(string(MatchPattern::Exact(value.to_owned()))),
        ..HeaderMatcher::default()
    }
}

fn header(matched: &HeaderMatch) -> HeaderMatcher {
    let specifier = match &matched.r#match {
        None => HeaderMatchSpecifier::PresentMatch(true),
        Some(ValueMatch::Exact(text)) => string(MatchPattern::Exact(text.clone())),
        Some(ValueMatch::Prefix(text)) => string(MatchPattern::Prefix(text.clone())),
        Some(ValueMatch::Suffix(text)) => string(MatchPattern::Suffix(text.clone())),
        Some(ValueMatch::Regex(text)) => string(MatchPattern::SafeRegex(regex(text))),
        Some(ValueMatch::Range(range)) => HeaderMatchSpecifier::RangeMatch(Int64Range {
            start: range.start,
            end: range.end,
        }),
    };
    HeaderMatcher {
        name: matched.name.clone(),
        invert_match: matched.invert,
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    }
}

fn parameter(parameter: &QueryParameter) -> QueryParameterMatcher {
    let exact = parameter
        .r#match
        .as_ref()
        .and_then(|value| value.exact.clone());
    let specifier = match exact {
        Some(exact) => {
            QueryParameterMatchSpecifier::StringMatch(pattern(MatchPattern::Exact(exact)))
        }
        None => QueryParameterMatchSpecifier::PresentMatch(true),
    };
    QueryParameterMatcher {
        name: parameter.name.clone(),
        query_parameter_match_specifier: Some(specifier),
    }
}

fn string(match_pattern: MatchPattern) -> HeaderMatchSpecifier {
    HeaderMatchSpecifier::StringMatch(pattern(match_pattern))
}

fn pattern(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ..StringMatcher::default()
    }
}

/// RE2, of the whole text.
pub(super) fn regex(text: &str) -> RegexMatcher {
    RegexMatcher {
        regex: text.to_owned(),
        ..RegexMatcher::default()
    }
}
