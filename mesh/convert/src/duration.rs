//! Durations as Gateway API writes them: up to five digits of each unit (GEP-2257).

/// Up to a day.
pub(crate) fn text(millis: u64) -> String {
    let (seconds, rest) = (millis / 1000, millis % 1000);
    match (seconds, rest) {
        (_, 0) => format!("{seconds}s"),
        (0, _) => format!("{rest}ms"),
        _ => format!("{seconds}s{rest}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        for (millis, expected) in [
            (0, "0s"),
            (25, "25ms"),
            (15_000, "15s"),
            (2_500, "2s500ms"),
            (86_400_000, "86400s"),
        ] {
            assert_eq!(text(millis), expected);
        }
    }
}
