//! Maps names of served metrics to metrics of the core.

use aggregator_core::query::Metric;
use thiserror::Error;

/// Bytes of the prefix.
const PREFIX_BYTES_MAX: usize = 64;

/// Every served metric without the prefix, sorted by name.
pub(crate) const METRICS: [(&str, Metric); 5] = [
    ("error_ratio", Metric::ErrorRatio),
    ("inflight_requests", Metric::InflightRequests),
    ("requests_per_second", Metric::RequestsPerSecond),
    ("responses_per_second", Metric::ResponsesPerSecond),
    (
        "upstream_requests_per_second",
        Metric::UpstreamRequestsPerSecond,
    ),
];

/// Prefix of all metric names; `appmesh_` by default.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MetricPrefix(String);

/// A prefix with characters that a metric name cannot have.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "the metric prefix {0:?} is not valid: at most {PREFIX_BYTES_MAX} letters, digits and '_', beginning with a letter or '_'"
)]
pub struct MetricPrefixError(String);

/// The names of all served metrics, sorted.
#[derive(Clone, Debug)]
pub(crate) struct MetricNames {
    names: [(String, Metric); METRICS.len()],
}

// === impl MetricPrefix ===

impl MetricPrefix {
    /// Checks `text`. The empty prefix is allowed.
    pub fn new(text: &str) -> Result<Self, MetricPrefixError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let valid = text.len() <= PREFIX_BYTES_MAX
            && text.bytes().all(is_allowed)
            && !text.starts_with(|first: char| first.is_ascii_digit());
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(MetricPrefixError(text.to_owned()))
        }
    }
}

impl Default for MetricPrefix {
    fn default() -> Self {
        Self("appmesh_".to_owned())
    }
}

// === impl MetricNames ===

impl MetricNames {
    pub(crate) fn new(MetricPrefix(prefix): &MetricPrefix) -> Self {
        Self {
            names: METRICS.map(|(name, metric)| (format!("{prefix}{name}"), metric)),
        }
    }

    /// The metric with this name, and its name as served.
    pub(crate) fn parse(&self, name: &str) -> Option<(&str, Metric)> {
        self.find(|known| known == name)
    }

    /// [`Self::parse`] for external metrics, whose names clients send in lower case.
    pub(crate) fn parse_external(&self, name: &str) -> Option<(&str, Metric)> {
        self.find(|known| known.eq_ignore_ascii_case(name))
    }

    /// Every name, sorted.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn known(&self) -> String {
        self.all().collect::<Vec<_>>().join(", ")
    }

    fn find(&self, matches: impl Fn(&str) -> bool) -> Option<(&str, Metric)> {
        let found = self.names.iter().find(|(known, _)| matches(known))?;
        Some((&found.0, found.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are the prefix and the metric; only those of external metrics disregard case.
    #[test]
    fn finds_metrics() {
        let names = MetricNames::new(&MetricPrefix::new("Shop_").unwrap());
        let name = "Shop_requests_per_second";
        assert_eq!(names.parse(name), Some((name, Metric::RequestsPerSecond)));
        assert_eq!(names.parse("shop_requests_per_second"), None);
        assert_eq!(
            names.parse_external("shop_requests_per_second"),
            Some((name, Metric::RequestsPerSecond))
        );
        assert_eq!(names.parse("appmesh_requests_per_second"), None);
        assert!(names.all().is_sorted());
        assert!(
            MetricNames::new(&MetricPrefix::default())
                .known()
                .starts_with("appmesh_error_ratio, ")
        );
    }

    /// A prefix that cannot stand in a path or would not be a metric name is refused and named.
    #[test]
    fn refuses_prefixes() {
        for bad in ["a/", "a b", "1a", "é", "a-b", &"a".repeat(65)] {
            let error = MetricPrefix::new(bad).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
        assert!(MetricPrefix::new("").is_ok());
    }
}
