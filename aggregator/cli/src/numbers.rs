//! Numbers in cells. What is not known is a dash, and what is not 0 is never shown as 0.

/// What stands for a value that is not known.
pub(crate) const UNKNOWN: &str = "-";

/// A rate per second, or requests in flight.
pub(crate) fn rate(value: Option<f64>) -> String {
    match value.filter(|value| value.is_finite()) {
        None => UNKNOWN.to_owned(),
        Some(value) if value > 0.0 && value < 0.05 => "<0.1".to_owned(),
        Some(value) if value < 999.95 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// A share of 0 to 1 in percent.
pub(crate) fn percent(value: Option<f64>) -> String {
    match value.filter(|value| value.is_finite()) {
        None => UNKNOWN.to_owned(),
        Some(value) if value > 0.0 && value < 0.000_5 => "<0.1%".to_owned(),
        Some(value) => format!("{:.1}%", value * 100.0),
    }
}

/// A factor.
pub(crate) fn factor(value: Option<f64>) -> String {
    match value.filter(|value| value.is_finite()) {
        None => UNKNOWN.to_owned(),
        Some(value) => format!("{value:.2}"),
    }
}

/// A time of so many milliseconds.
pub(crate) fn time(ms: Option<u64>) -> String {
    match ms {
        None => UNKNOWN.to_owned(),
        Some(ms) if ms < 59_950 => {
            let tenths = (ms + 50) / 100;
            format!("{}.{}s", tenths / 10, tenths % 10)
        }
        Some(ms) => {
            let seconds = (ms + 500) / 1000;
            let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
            let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
            match (days, hours) {
                (0, 0) => format!("{minutes}m{seconds:02}s"),
                (0, _) => format!("{hours}h{minutes:02}m"),
                _ => format!("{days}d{hours:02}h"),
            }
        }
    }
}

/// Thousandths, without zeros at the end.
pub(crate) fn milli(value: u64) -> String {
    let (whole, part) = (value / 1000, value % 1000);
    if part == 0 {
        return whole.to_string();
    }
    let part = format!("{part:03}");
    format!("{whole}.{}", part.trim_end_matches('0'))
}

/// `1 pod`, `2 pods`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unknown is a dash, and little is not nothing.
    #[test]
    fn little_is_not_nothing() {
        let rates = [None, Some(f64::NAN), Some(0.0), Some(0.004), Some(0.05)];
        assert_eq!(rates.map(rate), ["-", "-", "0.0", "<0.1", "0.1"]);
        let rates = [Some(41.25), Some(999.94), Some(999.96), Some(1e6)];
        assert_eq!(rates.map(rate), ["41.2", "999.9", "1000", "1000000"]);
        let shares = [None, Some(0.0), Some(0.000_1), Some(0.25), Some(1.0)];
        assert_eq!(
            shares.map(percent),
            ["-", "0.0%", "<0.1%", "25.0%", "100.0%"]
        );
        assert_eq!([None, Some(1.337)].map(factor), ["-", "1.34"]);
        let times = [0, 49, 950, 59_949, 59_950, 3_599_400, 3_599_600, 90_000_000];
        let expected = [
            "0.0s", "0.0s", "1.0s", "59.9s", "1m00s", "59m59s", "1h00m", "1d01h",
        ];
        assert_eq!(times.map(|ms| time(Some(ms))), expected);
        assert_eq!(
            [0, 20_000, 20_500, 1].map(milli),
            ["0", "20", "20.5", "0.001"]
        );
    }
}
