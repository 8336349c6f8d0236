//! The live table: one row per pod, and the replicas an autoscaler would want.

use std::fmt::Write as _;

use crate::hpa::{TARGET, desired_replicas};
use crate::watch::Reading;

/// Placeholder for unknown values.
const UNKNOWN: &str = "-";

/// The table for a terminal, with a title line.
pub(crate) fn frame(title: &str, readings: &[Reading]) -> String {
    let mut text = format!("{title}\n");
    let header = format!(
        "  {:<10} {:>10} {:>10} {:>7} {:>7}  {:<5} {}\n",
        "POD",
        "REQUESTS/S",
        "IN FLIGHT",
        "WINDOW",
        "AGE",
        "STATE",
        format_args!("HPA (target {TARGET} per pod) WANTS"),
    );
    text.push_str(&header);
    for reading in readings {
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "  {:<10} {:>10} {:>10} {:>7} {:>7}  {:<5} {}",
            reading.name,
            number(reading.rate),
            number(reading.inflight),
            seconds(reading.window),
            age(reading.age_ms),
            reading.state.as_deref().unwrap_or(UNKNOWN),
            wants(reading.rate),
        );
    }
    text
}

/// One line for a pipe.
pub(crate) fn line(title: &str, readings: &[Reading]) -> String {
    let mut text = title.to_owned();
    for reading in readings {
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            " | {} {}/s in flight {} window {} age {} {} wants {}",
            reading.name,
            number(reading.rate),
            number(reading.inflight),
            seconds(reading.window),
            age(reading.age_ms),
            reading.state.as_deref().unwrap_or(UNKNOWN),
            wants(reading.rate),
        );
    }
    text
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| format!("{value:.1}"))
}

fn seconds(value: Option<u64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |seconds| format!("{seconds}s"))
}

/// Milliseconds as seconds and tenths, cut.
fn age(value: Option<u64>) -> String {
    value.map_or_else(
        || UNKNOWN.to_owned(),
        |millis| format!("{}.{}s", millis / 1_000, millis % 1_000 / 100),
    )
}

/// An autoscaler freezes when it has no value.
fn wants(rate: Option<f64>) -> String {
    match rate {
        None => "keeps 1 (no value)".to_owned(),
        Some(rate) => match desired_replicas(rate) {
            1 => "1 pod".to_owned(),
            pods => format!("{pods} pods"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unknown is shown as unknown, never as 0; what is known is shown with its unit.
    #[test]
    fn shows_unknown_as_unknown() {
        let known = Reading {
            name: "dj",
            rate: Some(42.04),
            inflight: Some(0.0),
            window: Some(10),
            age_ms: Some(1_460),
            state: Some("live".into()),
            ..Reading::default()
        };
        let unknown = Reading {
            name: "jazz-v1",
            ..Reading::default()
        };
        let line = line("t", &[known, unknown]);
        assert_eq!(
            line,
            "t | dj 42.0/s in flight 0.0 window 10s age 1.4s live wants 5 pods \
             | jazz-v1 -/s in flight - window - age - - wants keeps 1 (no value)"
        );
    }

    /// A frame is a title, a header and a line per pod, so that it can be redrawn in place.
    #[test]
    fn frames_have_a_line_per_pod() {
        let frame = frame("t", &[Reading::default(), Reading::default()]);
        assert_eq!(frame.lines().count(), 4);
        assert!(frame.ends_with('\n'));
    }
}
