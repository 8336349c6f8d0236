//! Times as people give them. Pure.

use jiff::civil::Time;
use jiff::{Timestamp, ToSpan as _};

use crate::clock::Clock;

/// The time that `--at` means, in milliseconds since 1970: RFC 3339, or a time of day of the last
/// 24 hours in the asker's zone. Without seconds it is the end of the minute; never a time to come.
pub(crate) fn parse(text: &str, clock: &Clock) -> Result<u64, String> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return within(timestamp, text);
    }
    let refused = || {
        format!(
            "--at {text}: not a time such as 14:02, 14:02:30 (in {}) or 2026-11-30T14:02:30Z",
            clock.zone_name()
        )
    };
    let has_seconds = text.matches(':').count() == 2;
    let is_time = text.len() <= 8 && text.chars().all(|c| c.is_ascii_digit() || c == ':');
    let format = if has_seconds { "%H:%M:%S" } else { "%H:%M" };
    let time = is_time.then(|| Time::strptime(format, text));
    let time = time.ok_or_else(refused)?.map_err(|_| refused())?;
    let today = clock.now.to_zoned(clock.zone.clone()).date();
    let on = |date: jiff::civil::Date| date.to_datetime(time).to_zoned(clock.zone.clone());
    let begin = on(today).map_err(|_| refused())?;
    let begin = if begin.timestamp() > clock.now {
        let yesterday = today.yesterday().map_err(|_| refused())?;
        on(yesterday).map_err(|_| refused())?
    } else {
        begin
    };
    let end = if has_seconds {
        begin.timestamp()
    } else {
        let last = begin.timestamp().checked_add(59_999.milliseconds());
        last.map_err(|_| refused())?
    };
    within(end.min(clock.now), text)
}

fn within(timestamp: Timestamp, text: &str) -> Result<u64, String> {
    let ms = u64::try_from(timestamp.as_millisecond());
    ms.map_err(|_| format!("--at {text}: before 1970"))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    /// Berlin, 02:30 in the night in which clocks were put forward at 02:00, and other times.
    #[test]
    fn times_of_day_are_of_the_last_day_in_ones_own_zone() {
        let clock = |now: &str| Clock {
            now: now.parse().unwrap(),
            zone: TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap(),
        };
        let now = "2026-11-30T13:10:00Z";
        for (now, text, expected) in [
            (now, "14:02", "2026-11-30T13:02:59.999Z"),
            (now, "14:02:30", "2026-11-30T13:02:30Z"),
            // Later than now: yesterday's.
            (now, "14:11", "2026-11-29T13:11:59.999Z"),
            // This minute is not over.
            (now, "14:10", now),
            (now, "2026-11-30T14:02:30+01:00", "2026-11-30T13:02:30Z"),
            (now, "2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
            // 02:30 was skipped: an hour later.
            ("2026-03-29T09:00:00Z", "02:30:00", "2026-03-29T01:30:00Z"),
            // Before the clocks were put forward.
            ("2026-03-29T09:00:00Z", "01:30:00", "2026-03-29T00:30:00Z"),
        ] {
            let parsed = parse(text, &clock(now)).unwrap();
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(
                i64::try_from(parsed),
                Ok(expected.as_millisecond()),
                "{text}"
            );
        }
        for text in [
            "",
            "14",
            "25:00",
            "14:02:61",
            "noon",
            "14:2:3:4",
            "1969-01-01T00:00:00Z",
        ] {
            assert!(
                parse(text, &clock(now)).unwrap_err().contains("--at"),
                "{text}"
            );
        }
    }
}
