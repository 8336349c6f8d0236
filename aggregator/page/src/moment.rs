//! Times of day, in UTC: people compare them with logs.

use maud::{Markup, html};
use time::OffsetDateTime;

/// `14:02:31`; with the date where it is not the day of `now`.
pub(crate) fn clock(at_unix_ms: u64, now_unix_ms: u64) -> String {
    let Some(at) = parse(at_unix_ms) else {
        return "unknown".to_owned();
    };
    let time = format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second());
    match parse(now_unix_ms) {
        Some(now) if now.date() == at.date() => time,
        _ => format!("{} {time}", date(at)),
    }
}

/// `14:02`.
pub(crate) fn minutes(at_unix_ms: u64) -> String {
    let at = parse(at_unix_ms);
    at.map_or_else(String::new, |at| {
        format!("{:02}:{:02}", at.hour(), at.minute())
    })
}

/// The same for machines, too.
pub(crate) fn element(at_unix_ms: u64, now_unix_ms: u64) -> Markup {
    match parse(at_unix_ms) {
        None => html! { span.unknown { "unknown" } },
        Some(at) => html! {
            time datetime=(rfc3339(at)) { (clock(at_unix_ms, now_unix_ms)) }
        },
    }
}

/// `2026-11-30`, for what is days away.
pub(crate) fn day(at_unix_ms: u64) -> String {
    parse(at_unix_ms).map_or_else(|| "unknown".to_owned(), date)
}

/// No time at all is no time of 1970.
fn parse(at_unix_ms: u64) -> Option<OffsetDateTime> {
    if at_unix_ms == 0 {
        return None;
    }
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_unix_ms) * 1_000_000).ok()
}

fn date(at: OffsetDateTime) -> String {
    format!("{}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day())
}

fn rfc3339(at: OffsetDateTime) -> String {
    format!(
        "{}T{:02}:{:02}:{:02}.{:03}Z",
        date(at),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A time of today is short, one of another day has its date, and none is none.
    #[test]
    fn say_the_day_where_it_matters() {
        let at = 1_764_511_351_250;
        assert_eq!(clock(at, at + 1_000), "14:02:31");
        assert_eq!(clock(at, at + 86_400_000), "2025-11-30 14:02:31");
        assert_eq!(clock(0, at), "unknown");
        assert_eq!(clock(u64::MAX, at), "unknown");
        assert_eq!(minutes(at), "14:02");
        assert_eq!(
            element(at, at).into_string(),
            r#"<time datetime="2025-11-30T14:02:31.250Z">14:02:31</time>"#
        );
    }
}
