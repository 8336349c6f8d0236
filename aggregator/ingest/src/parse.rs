//! Parses frames into the types of the core. Every value is checked here, once; an error has the
//! path of the field in the wire contract, and the value.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;

use aggregator_core::limits::{
    CLUSTER_BYTES_MAX, LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_BYTES_MAX, LABELS_MAX,
    NAME_BYTES_MAX, NAMESPACE_BYTES_MAX, UID_BYTES_MAX,
};
use aggregator_core::pod::{Labels, PodKey};
use aggregator_core::report::{
    CounterScope, Hello, InstanceId, ProcessId, Report, ResponseCode, SeriesTotals,
};
use aggregator_core::series::{Direction, SeriesKey};
use common_time::UnixMillis;
use proto::v1;
use thiserror::Error;

use crate::limits::{
    BUILD_BYTES_MAX, FLUSH_INTERVAL_MS, NEXT_REPORT_MS_MAX, RESPONSES_PER_SERIES_MAX,
    SERIES_PER_REPORT_MAX, UNIX_MS_MAX, VMS_MAX,
};

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum FieldError {
    #[error("{field}: missing")]
    Missing { field: String },
    #[error("{field}: {bytes} bytes, at most {max}")]
    TooLong {
        field: String,
        bytes: usize,
        max: usize,
    },
    #[error("{field}: {count} elements, at most {max}")]
    TooMany {
        field: String,
        count: usize,
        max: usize,
    },
    #[error("{field}: {value}, {expected}")]
    Invalid {
        field: String,
        value: String,
        /// Description of the valid values.
        expected: String,
    },
}

/// The path of a field of a series.
#[derive(Clone, Copy, Debug)]
struct SeriesField {
    index: usize,
    name: &'static str,
}

/// Checks a `Hello`.
pub fn hello(hello: v1::Hello) -> Result<Hello, FieldError> {
    let identity = hello.identity.ok_or_else(|| missing("hello.identity"))?;
    let namespace = &identity.namespace;
    namespace_name("hello.identity.namespace", namespace)?;
    pod_name("hello.identity.pod", &identity.pod)?;
    text("hello.identity.pod_uid", &identity.pod_uid, UID_BYTES_MAX)?;
    text("hello.identity.node", &identity.node, NAME_BYTES_MAX)?;
    text("hello.build", &hello.build, BUILD_BYTES_MAX)?;
    let flush = u64::from(hello.flush_interval_ms);
    in_range("hello.flush_interval_ms", flush, FLUSH_INTERVAL_MS)?;
    in_range("hello.protocol", u64::from(hello.protocol), 1..=u64::MAX)?;
    Ok(Hello {
        pod: PodKey::new(namespace, &identity.pod),
        uid: identity.pod_uid.into(),
        node: identity.node.into(),
        labels: labels("hello.identity.labels", identity.labels)?,
        instance: InstanceId(not_zero("hello.instance", hello.instance)?),
        process: ProcessId(not_zero("hello.process", hello.process)?),
        scope: match v1::CounterScope::try_from(hello.scope) {
            Ok(v1::CounterScope::Process) => CounterScope::Process,
            Ok(v1::CounterScope::Vm) => CounterScope::Vm,
            _ => {
                let expected = "expected 1 (process) or 2 (VM)";
                return Err(invalid("hello.scope", hello.scope, expected));
            }
        },
        started_at: time("hello.started_at_unix_ms", hello.started_at_unix_ms)?,
        hot_restart: hello.hot_restart,
        clock: time("hello.clock_unix_ms", hello.clock_unix_ms)?,
    })
}

/// Checks a `Report`.
pub fn report(report: v1::Report) -> Result<Report, FieldError> {
    at_most("report.series", report.series.len(), SERIES_PER_REPORT_MAX)?;
    let next = u64::from(report.next_report_within_ms);
    // No report follows a final one, so 0 is valid there.
    let least = u64::from(!report.r#final);
    in_range(
        "report.next_report_within_ms",
        next,
        least..=NEXT_REPORT_MS_MAX,
    )?;
    in_range(
        "report.vms_expected",
        u64::from(report.vms_expected),
        0..=VMS_MAX,
    )?;
    in_range("report.vms_live", u64::from(report.vms_live), 0..=VMS_MAX)?;
    let mut all = Vec::with_capacity(report.series.len());
    for (index, one) in report.series.into_iter().enumerate() {
        all.push(series(index, one)?);
    }
    // Which of two entries of one series is its total would be a guess.
    if let Some((first, again)) = first_repeated(&all) {
        let key = &all[again].0;
        let value = format!("{} {:?}", key.direction.as_str(), key.cluster);
        let expected = format!("the same series as report.series[{first}]");
        return Err(invalid(
            &format!("report.series[{again}]"),
            value,
            &expected,
        ));
    }
    Ok(Report {
        seq: not_zero("report.seq", report.seq)?,
        interval_end: time("report.interval_end_unix_ms", report.interval_end_unix_ms)?,
        interval: Duration::from_millis(u64::from(report.interval_ms)),
        series: all,
        vms_expected: report.vms_expected,
        vms_live: report.vms_live,
        next_report_within: Duration::from_millis(next),
        snapshot: report.snapshot,
        is_final: report.r#final,
    })
}

/// Positions of the first entry whose key was there before, and of the one before. By sorting:
/// the three or four series of a usual report need neither hashes nor copies of their keys.
fn first_repeated<T>(all: &[(SeriesKey, T)]) -> Option<(usize, usize)> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_unstable_by(|a, b| all[*a].0.cmp(&all[*b].0).then(a.cmp(b)));
    let pairs = order.windows(2).map(|pair| (pair[0], pair[1]));
    pairs
        .filter(|(first, again)| all[*first].0 == all[*again].0)
        .min_by_key(|(_, again)| *again)
}

fn series(index: usize, series: v1::Series) -> Result<(SeriesKey, SeriesTotals), FieldError> {
    // Written only for an error: for each field it would be half of what a report costs here.
    let field = |name: &'static str| SeriesField { index, name };
    let direction = match v1::Direction::try_from(series.direction) {
        Ok(v1::Direction::Inbound) => Direction::Inbound,
        Ok(v1::Direction::Outbound) => Direction::Outbound,
        _ => {
            let expected = "expected 1 (inbound) or 2 (outbound)";
            let field = field("direction").to_string();
            return Err(invalid(&field, series.direction, expected));
        }
    };
    text(field("cluster"), &series.cluster, CLUSTER_BYTES_MAX)?;
    let count = series.responses.len();
    at_most(field("responses"), count, RESPONSES_PER_SERIES_MAX)?;
    let mut responses = BTreeMap::new();
    for (position, entry) in series.responses.iter().enumerate() {
        let field = || format!("{}[{position}].code", field("responses"));
        let code = ResponseCode::new(entry.code).ok_or_else(|| {
            let expected = "expected 0 (none), 1 to 5 (a class) or 100 to 599 (a status)";
            invalid(&field(), entry.code, expected)
        })?;
        if responses.insert(code, entry.total).is_some() {
            return Err(invalid(&field(), entry.code, "reported twice"));
        }
    }
    let key = SeriesKey {
        direction,
        cluster: series.cluster.into(),
    };
    let totals = SeriesTotals {
        requests: series.requests,
        requests_at_completion: series.requests_at_completion,
        upstream_attempts: series.upstream_attempts,
        responses,
        inflight: series.inflight,
        inflight_ns: series.inflight_ns,
    };
    Ok((key, totals))
}

/// Checks labels of a pod.
pub(crate) fn labels(field: &str, labels: BTreeMap<String, String>) -> Result<Labels, FieldError> {
    at_most(field, labels.len(), LABELS_MAX)?;
    let mut bytes = 0;
    for (key, value) in &labels {
        if key.is_empty() {
            return Err(missing(&format!("{field} key")));
        }
        text(
            format!("{field} key {:?}", head(key)),
            key,
            LABEL_KEY_BYTES_MAX,
        )?;
        text(format!("{field}[{key:?}]"), value, LABEL_VALUE_BYTES_MAX)?;
        bytes += key.len() + value.len();
    }
    if bytes > LABELS_BYTES_MAX {
        return Err(too_long(field, bytes, LABELS_BYTES_MAX));
    }
    Ok(labels)
}

/// The first characters of a text, for an error.
fn head(text: &str) -> String {
    text.chars().take(32).collect()
}

/// Checks a text; empty is valid.
pub(crate) fn text(field: impl Display, value: &str, max: usize) -> Result<(), FieldError> {
    if value.len() > max {
        return Err(too_long(&field.to_string(), value.len(), max));
    }
    if value.chars().any(char::is_control) {
        let expected = "expected no control characters";
        let field = field.to_string();
        return Err(invalid(&field, format!("{value:?}"), expected));
    }
    Ok(())
}

/// Checks the name of a namespace: a DNS label.
pub(crate) fn namespace_name(field: &str, value: &str) -> Result<(), FieldError> {
    dns_name(field, value, NAMESPACE_BYTES_MAX)?;
    if value.contains('.') {
        let expected = "expected lower-case letters, digits and '-'";
        return Err(invalid(field, format!("{value:?}"), expected));
    }
    Ok(())
}

/// Checks the name of a pod: a DNS subdomain.
pub(crate) fn pod_name(field: &str, value: &str) -> Result<(), FieldError> {
    dns_name(field, value, NAME_BYTES_MAX)
}

/// Labels of letters, digits and hyphens within, separated by dots.
fn dns_name(field: &str, value: &str, max: usize) -> Result<(), FieldError> {
    if value.is_empty() {
        return Err(missing(field));
    }
    text(field, value, max)?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let expected = if !value.chars().all(allowed) {
        "expected lower-case letters, digits, '-' and '.'"
    } else if value
        .split('.')
        .any(|label| label.is_empty() || label.starts_with('-') || label.ends_with('-'))
    {
        "expected a letter or a digit at the beginning, at the end and beside each '.'"
    } else {
        return Ok(());
    };
    Err(invalid(field, format!("{value:?}"), expected))
}

fn time(field: &str, unix_ms: u64) -> Result<UnixMillis, FieldError> {
    in_range(field, unix_ms, 1..=UNIX_MS_MAX)?;
    Ok(UnixMillis(unix_ms))
}

fn not_zero(field: &str, value: u64) -> Result<u64, FieldError> {
    in_range(field, value, 1..=u64::MAX)?;
    Ok(value)
}

fn in_range(
    field: &str,
    value: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<(), FieldError> {
    if range.contains(&value) {
        return Ok(());
    }
    let expected = match *range.end() {
        u64::MAX => format!("expected at least {}", range.start()),
        end => format!("expected {} to {end}", range.start()),
    };
    Err(invalid(field, value, &expected))
}

fn at_most(field: impl Display, count: usize, max: usize) -> Result<(), FieldError> {
    if count <= max {
        return Ok(());
    }
    Err(FieldError::TooMany {
        field: field.to_string(),
        count,
        max,
    })
}

fn missing(field: &str) -> FieldError {
    FieldError::Missing {
        field: field.to_owned(),
    }
}

fn too_long(field: &str, bytes: usize, max: usize) -> FieldError {
    FieldError::TooLong {
        field: field.to_owned(),
        bytes,
        max,
    }
}

fn invalid(field: &str, value: impl Display, expected: &str) -> FieldError {
    FieldError::Invalid {
        field: field.to_owned(),
        value: value.to_string(),
        expected: expected.to_owned(),
    }
}

// === impl SeriesField ===

impl Display for SeriesField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "report.series[{}].{}", self.index, self.name)
    }
}
