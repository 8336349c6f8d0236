//! Query strings: `key=value&…`, form-encoded as Go's `net/url` writes them (a space is `+`).

use thiserror::Error;

pub(crate) mod view;

use crate::percent::{self, PercentError};

/// Parameters in one query. The API uses three; clients such as kubectl add a few of their own.
pub(crate) const PARAMETERS_MAX: usize = 32;

/// The parameters this API supports, decoded. Others are ignored, as Kubernetes does, except those
/// that would select other objects.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Parameters {
    pub(crate) label_selector: String,
    /// Which part of the metric.
    pub(crate) metric_label_selector: String,
    /// `?verbose` of the health endpoints.
    pub(crate) verbose: bool,
    /// `?exclude=check` of the health endpoints.
    pub(crate) exclude: Vec<String>,
    /// `?watch`: a stream of changes.
    pub(crate) watch: bool,
}

/// Why a query was refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(crate) enum FormError {
    #[error("the query has more than {PARAMETERS_MAX} parameters")]
    TooMany,
    #[error("the query cannot be decoded: {0}")]
    Percent(#[from] PercentError),
    /// A selector given twice: choosing one would be a guess.
    #[error("{0} is given more than once")]
    Twice(&'static str),
    /// A parameter that selects objects in a way this API does not support.
    #[error("{0} is not supported; select pods by labelSelector")]
    Unsupported(&'static str),
    #[error("{name}: {value:?}: {rule}")]
    Value {
        name: &'static str,
        value: String,
        /// What it has to be.
        rule: &'static str,
    },
}

impl Parameters {
    /// Parses the part of a URL after `?`.
    pub(crate) fn parse(query: &str) -> Result<Self, FormError> {
        let mut parameters = Self::default();
        let mut seen = [false; 2];
        for (index, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            if index >= PARAMETERS_MAX {
                return Err(FormError::TooMany);
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value)?;
            match decode(key)?.as_str() {
                "labelSelector" => {
                    once(&mut seen[0], "labelSelector")?;
                    parameters.label_selector = value;
                }
                "metricLabelSelector" => {
                    once(&mut seen[1], "metricLabelSelector")?;
                    parameters.metric_label_selector = value;
                }
                "fieldSelector" if !value.is_empty() => {
                    return Err(FormError::Unsupported("fieldSelector"));
                }
                "verbose" => parameters.verbose = true,
                "exclude" => parameters.exclude.push(value),
                // As Kubernetes parses a flag: any other value sets it, also none.
                "watch" => {
                    let value = value.to_ascii_lowercase();
                    parameters.watch = !matches!(value.as_str(), "false" | "0");
                }
                _ => {}
            }
        }
        Ok(parameters)
    }
}

fn once(seen: &mut bool, name: &'static str) -> Result<(), FormError> {
    if std::mem::replace(seen, true) {
        Err(FormError::Twice(name))
    } else {
        Ok(())
    }
}

fn decode(raw: &str) -> Result<String, PercentError> {
    percent::decode(&raw.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The very query an HPA with a label expression sends.
    #[test]
    fn reads_what_go_writes() {
        let query = "labelSelector=app%3Dweb%2C%21canary%2Ctier+in+%28a%2Cb%29&metricLabelSelector=window%3D15s";
        let parameters = Parameters::parse(query).unwrap();
        assert_eq!(parameters.label_selector, "app=web,!canary,tier in (a,b)");
        assert_eq!(parameters.metric_label_selector, "window=15s");
    }

    /// Nothing, empty values and strangers' parameters all mean "everything".
    #[test]
    fn absent_means_everything() {
        for query in [
            "",
            "&&",
            "labelSelector=",
            "timeout=32s&pretty=true",
            "fieldSelector=",
            "limit=500&continue=abc&resourceVersion=0&allowWatchBookmarks=true",
            "watch=false",
            "watch=0",
        ] {
            assert_eq!(
                Parameters::parse(query).unwrap(),
                Parameters::default(),
                "{query}"
            );
        }
    }

    /// What cannot be understood is refused by name.
    #[test]
    fn refuses_by_name() {
        let many = "a=b&".repeat(PARAMETERS_MAX + 1);
        for (query, expected) in [
            (
                "labelSelector=a&labelSelector=b",
                "labelSelector is given more than once",
            ),
            (
                "metricLabelSelector=a&metricLabelSelector=a",
                "metricLabelSelector is given more than once",
            ),
            (
                "fieldSelector=metadata.name%3Da",
                "fieldSelector is not supported; select pods by labelSelector",
            ),
            (
                "labelSelector=%zz",
                "the query cannot be decoded: \"%zz\" has a '%' that two hexadecimal digits do not follow",
            ),
            (many.as_str(), "the query has more than 32 parameters"),
        ] {
            assert_eq!(Parameters::parse(query).unwrap_err().to_string(), expected);
        }
    }
}
