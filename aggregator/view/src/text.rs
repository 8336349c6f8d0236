//! Times and counts as sentences have them.

use autoscaler::Quantity;
use time::OffsetDateTime;
use time::macros::format_description;

/// A time as `2026-11-30 14:02:07 UTC`.
pub(crate) fn date_time(unix_ms: u64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    at(unix_ms).map_or_else(String::new, |at| at.format(format).unwrap_or_default())
}

/// A time as `14:02:07`, of the same day as another one that has its date.
pub(crate) fn clock(unix_ms: u64) -> String {
    let format = format_description!("[hour]:[minute]:[second]");
    at(unix_ms).map_or_else(String::new, |at| at.format(format).unwrap_or_default())
}

fn at(unix_ms: u64) -> Option<OffsetDateTime> {
    let seconds = i64::try_from(unix_ms / 1000).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

/// A duration as `0.4 s`, `12 s`, `5 min`.
pub(crate) fn duration(millis: u64) -> String {
    match millis {
        0..10_000 if millis % 1000 >= 100 => {
            format!("{}.{} s", millis / 1000, millis % 1000 / 100)
        }
        0..120_000 => format!("{} s", millis / 1000),
        120_000..7_200_000 => format!("{} min", millis / 60_000),
        _ => format!("{} h", millis / 3_600_000),
    }
}

/// `1 replica`, `2 replicas`.
pub(crate) fn replicas(count: u32) -> String {
    counted(count, "replica")
}

/// `1 pod`, `2 pods`.
pub(crate) fn pods(count: u32) -> String {
    counted(count, "pod")
}

pub(crate) fn counted(count: u32, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Thousandths as `41`, `10.9`.
pub(crate) fn milli(value: u64) -> String {
    Quantity::of_milli(i128::from(value)).to_string()
}

/// `a`, `a and b`, `a, b and 3 more`.
pub(crate) fn names(names: &[&str]) -> String {
    /// Names in one sentence.
    const NAMES_MAX: usize = 4;
    let (shown, rest) = names.split_at(names.len().min(NAMES_MAX));
    let more = (!rest.is_empty()).then(|| format!("{} more", rest.len()));
    let mut parts: Vec<String> = shown.iter().map(|name| (*name).to_owned()).collect();
    parts.extend(more);
    match parts.pop() {
        None => String::new(),
        Some(last) if parts.is_empty() => last,
        Some(last) => format!("{} and {last}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_times_and_counts() {
        assert_eq!(date_time(1_764_511_327_900), "2025-11-30 14:02:07 UTC");
        assert_eq!(clock(1_764_511_327_900), "14:02:07");
        let durations = [0, 99, 400, 1_240, 12_900, 119_999, 300_000, 7_200_000].map(duration);
        let expected = [
            "0 s", "0 s", "0.4 s", "1.2 s", "12 s", "119 s", "5 min", "2 h",
        ];
        assert_eq!(durations, expected);
        assert_eq!(names(&["a"]), "a");
        assert_eq!(names(&["a", "b", "c"]), "a, b and c");
        assert_eq!(
            names(&["a", "b", "c", "d", "e", "f"]),
            "a, b, c, d and 2 more"
        );
    }
}
