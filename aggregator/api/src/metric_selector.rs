//! Parses `metricLabelSelector` into the fields of a `MetricQuery`.
//!
//! Four keys are supported: `direction`, `cluster`, `code_class` and `window`, each with exactly
//! one value. Anything else is refused by name: ignoring a condition would serve another value than
//! requested.

use std::sync::Arc;
use std::time::Duration;

use aggregator_core::query::{Metric, MetricQuery, WINDOWS, WindowChoice};
use aggregator_core::series::{CodeClass, Direction};
use thiserror::Error;

use crate::selector::{Condition, Requirement, Selector};

/// Why a metric selector was refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(crate) enum MetricSelectorError {
    #[error("unknown key \"{0}\"; known keys: direction, cluster, code_class, window")]
    Key(String),
    /// An operator that allows more than one value.
    #[error("{0}: only {0}=VALUE is supported, with one value")]
    Operator(String),
    #[error("{0} is given more than once")]
    Twice(String),
    #[error("{key}: \"{value}\" is not valid; expected {expected}")]
    Value {
        key: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("code_class: only requests_per_second and responses_per_second are divided by it")]
    CodeClass,
}

pub(crate) const KEYS: [&str; 4] = ["direction", "cluster", "code_class", "window"];

/// The query for `metric` with the conditions of `selector`.
pub(crate) fn query(
    metric: Metric,
    selector: &Selector,
) -> Result<MetricQuery, MetricSelectorError> {
    let mut query = MetricQuery {
        metric,
        direction: None,
        cluster: None,
        code_class: None,
        window: WindowChoice::Adaptive,
    };
    let requirements = selector.requirements();
    for (index, requirement) in requirements.iter().enumerate() {
        if requirements[..index]
            .iter()
            .any(|earlier| earlier.key == requirement.key)
        {
            return Err(MetricSelectorError::Twice(requirement.key.clone()));
        }
        apply(&mut query, requirement)?;
    }
    let is_divided = matches!(
        metric,
        Metric::RequestsPerSecond | Metric::ResponsesPerSecond
    );
    if query.code_class.is_some() && !is_divided {
        return Err(MetricSelectorError::CodeClass);
    }
    Ok(query)
}

fn apply(query: &mut MetricQuery, requirement: &Requirement) -> Result<(), MetricSelectorError> {
    match requirement.key.as_str() {
        "direction" => query.direction = Some(direction(single(requirement)?)?),
        "cluster" => query.cluster = Some(Arc::from(single(requirement)?)),
        "code_class" => query.code_class = Some(code_class(single(requirement)?)?),
        "window" => query.window = WindowChoice::Fixed(window(single(requirement)?)?),
        other => return Err(MetricSelectorError::Key(other.to_owned())),
    }
    Ok(())
}

fn single(requirement: &Requirement) -> Result<&str, MetricSelectorError> {
    match &requirement.condition {
        Condition::Equals(value) => Ok(value),
        Condition::In(values) if values.len() == 1 => Ok(&values[0]),
        _ => Err(MetricSelectorError::Operator(requirement.key.clone())),
    }
}

fn direction(value: &str) -> Result<Direction, MetricSelectorError> {
    [Direction::Inbound, Direction::Outbound]
        .into_iter()
        .find(|direction| direction.as_str() == value)
        .ok_or_else(|| MetricSelectorError::Value {
            key: "direction",
            value: value.to_owned(),
            expected: "inbound or outbound",
        })
}

fn code_class(value: &str) -> Result<CodeClass, MetricSelectorError> {
    CodeClass::ALL
        .into_iter()
        .find(|class| class.as_str() == value)
        .ok_or_else(|| MetricSelectorError::Value {
            key: "code_class",
            value: value.to_owned(),
            expected: "1xx, 2xx, 3xx, 4xx, 5xx or none",
        })
}

/// Whole seconds with the unit `s`, or minutes with `m`: at least a second, at most the longest of
/// [`WINDOWS`].
fn window(value: &str) -> Result<Duration, MetricSelectorError> {
    let seconds = match value.strip_suffix('s') {
        Some(seconds) => seconds.parse::<u32>().ok(),
        None => value
            .strip_suffix('m')
            .and_then(|minutes| minutes.parse::<u32>().ok())
            .and_then(|minutes| minutes.checked_mul(60)),
    };
    let longest = WINDOWS[WINDOWS.len() - 1];
    seconds
        .map(|seconds| Duration::from_secs(seconds.into()))
        .filter(|window| !window.is_zero() && *window <= longest)
        .ok_or_else(|| MetricSelectorError::Value {
            key: "window",
            value: value.to_owned(),
            expected: "1s to 60s, or 1m",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(metric: Metric, text: &str) -> Result<MetricQuery, MetricSelectorError> {
        query(metric, &Selector::parse(text).unwrap())
    }

    /// Each key fills its field, in any order; nothing asked means the defaults.
    #[test]
    fn reads_every_key() {
        let query = ask(
            Metric::RequestsPerSecond,
            "window=15s,cluster=cds_egress_jazz,code_class=5xx,direction in (outbound)",
        )
        .unwrap();
        assert_eq!(
            query,
            MetricQuery {
                metric: Metric::RequestsPerSecond,
                direction: Some(Direction::Outbound),
                cluster: Some("cds_egress_jazz".into()),
                code_class: Some(CodeClass::ServerError),
                window: WindowChoice::Fixed(Duration::from_secs(15)),
            }
        );
        let plain = ask(Metric::InflightRequests, "").unwrap();
        assert_eq!(plain.window, WindowChoice::Adaptive);
        assert_eq!((plain.direction, plain.cluster), (None, None));
        let minute = ask(Metric::RequestsPerSecond, "window=1m").unwrap();
        assert_eq!(minute.window, WindowChoice::Fixed(Duration::from_mins(1)));
    }

    /// Whatever would have to be ignored is refused by name.
    #[test]
    fn refuses_by_name() {
        for (text, expected) in [
            (
                "verb=GET",
                "unknown key \"verb\"; known keys: direction, cluster, code_class, window",
            ),
            (
                "window",
                "window: only window=VALUE is supported, with one value",
            ),
            (
                "cluster!=a",
                "cluster: only cluster=VALUE is supported, with one value",
            ),
            (
                "cluster in (a,b)",
                "cluster: only cluster=VALUE is supported, with one value",
            ),
            ("window=5s,window=5s", "window is given more than once"),
            (
                "direction=up",
                "direction: \"up\" is not valid; expected inbound or outbound",
            ),
            (
                "code_class=500",
                "code_class: \"500\" is not valid; expected 1xx, 2xx, 3xx, 4xx, 5xx or none",
            ),
            (
                "window=0s",
                "window: \"0s\" is not valid; expected 1s to 60s, or 1m",
            ),
            (
                "window=61s",
                "window: \"61s\" is not valid; expected 1s to 60s, or 1m",
            ),
            (
                "window=4294967295m",
                "window: \"4294967295m\" is not valid; expected 1s to 60s, or 1m",
            ),
            (
                "window=15",
                "window: \"15\" is not valid; expected 1s to 60s, or 1m",
            ),
        ] {
            let error = ask(Metric::RequestsPerSecond, text).unwrap_err();
            assert_eq!(error.to_string(), expected, "{text}");
        }
        let error = ask(Metric::InflightRequests, "code_class=5xx").unwrap_err();
        assert_eq!(error, MetricSelectorError::CodeClass);
    }
}
