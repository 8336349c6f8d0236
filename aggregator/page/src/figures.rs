//! Numbers as people read them. Unknown is a word, never 0.

use maud::{Markup, html};

/// Requests or attempts per second, with one decimal.
pub(crate) fn rate(value: Option<f64>) -> Markup {
    known(value.and_then(|value| decimal(value, 1)))
}

/// Requests in flight.
pub(crate) fn inflight(value: Option<f64>) -> Markup {
    known(value.and_then(|value| decimal(value, 2)))
}

/// A share as percent; what is more than nothing does not read as nothing.
pub(crate) fn share(value: Option<f64>) -> Markup {
    known(value.and_then(|value| {
        if value > 0.0 && value < 0.000_05 {
            return Some("< 0.01 %".to_owned());
        }
        decimal(value * 100.0, 2).map(|text| text + " %")
    }))
}

/// The busiest over the mean.
pub(crate) fn skew(value: Option<f64>) -> Markup {
    known(
        value
            .and_then(|value| decimal(value, 2))
            .map(|text| text + " ×"),
    )
}

pub(crate) fn count(value: Option<impl Into<u64>>) -> Markup {
    known(value.map(|value| grouped(&value.into().to_string())))
}

/// A length of time.
pub(crate) fn duration(millis: Option<u64>) -> Markup {
    known(millis.map(duration_text))
}

/// `0.9 s`, `42 s`, `3 min 20 s`, `5 h 2 min`.
pub(crate) fn duration_text(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0..10 => format!("{seconds}.{} s", millis % 1_000 / 100),
        10..120 => format!("{seconds} s"),
        120..7_200 => match seconds % 60 {
            0 => format!("{} min", seconds / 60),
            rest => format!("{} min {rest} s", seconds / 60),
        },
        7_200..172_800 => match seconds / 60 % 60 {
            0 => format!("{} h", seconds / 3_600),
            rest => format!("{} h {rest} min", seconds / 3_600),
        },
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Thousandths, with as many decimals as are there.
pub(crate) fn thousandths(milli: Option<u64>) -> Markup {
    known(milli.map(thousandths_text))
}

pub(crate) fn thousandths_text(milli: u64) -> String {
    let whole = grouped(&(milli / 1_000).to_string());
    match milli % 1_000 {
        0 => whole,
        rest => format!("{whole}.{rest:03}")
            .trim_end_matches('0')
            .to_owned(),
    }
}

/// Thousandths as what they are thousandths of, for charts.
#[expect(
    clippy::cast_precision_loss,
    reason = "a chart shows a few hundred steps"
)]
pub(crate) fn from_milli(milli: u64) -> f64 {
    milli as f64 / 1_000.0
}

/// Bytes as MiB, for people who size a limit.
pub(crate) fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / (1 << 20);
    format!(
        "{}.{} MiB",
        grouped(&(tenths / 10).to_string()),
        tenths % 10
    )
}

/// A number with `decimals`, its thousands grouped; `None` for what is no number.
pub(crate) fn decimal(value: f64, decimals: usize) -> Option<String> {
    if !value.is_finite() {
        return None;
    }
    Some(grouped(&format!("{value:.decimals$}")))
}

fn known(text: Option<String>) -> Markup {
    match text {
        Some(text) => html! { (text) },
        None => unknown(),
    }
}

pub(crate) fn unknown() -> Markup {
    html! { span.unknown { "unknown" } }
}

/// Commas between thousands, as in `12,345.6`.
fn grouped(text: &str) -> String {
    let (whole, rest) = match text.find('.') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", whole),
    };
    let mut grouped = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is unknown, and what is no number, is a word; a small share is not nothing.
    #[test]
    fn unknown_is_a_word() {
        let unknown = r#"<span class="unknown">unknown</span>"#;
        for markup in [
            rate(None),
            rate(Some(f64::NAN)),
            inflight(Some(f64::INFINITY)),
            share(None),
            skew(None),
            count(None::<u32>),
            duration(None),
            thousandths(None),
        ] {
            assert_eq!(markup.into_string(), unknown);
        }
        assert_eq!(rate(Some(0.0)).into_string(), "0.0");
        assert_eq!(share(Some(0.000_01)).into_string(), "&lt; 0.01 %");
    }

    #[test]
    fn are_grouped_and_cut() {
        for (markup, expected) in [
            (rate(Some(1_234_567.89)), "1,234,567.9"),
            (rate(Some(999.94)), "999.9"),
            (share(Some(0.05)), "5.00 %"),
            (skew(Some(1.5)), "1.50 ×"),
            (duration(Some(940)), "0.9 s"),
            (duration(Some(61_000)), "61 s"),
            (duration(Some(200_000)), "3 min 20 s"),
            (duration(Some(18_120_000)), "5 h 2 min"),
            (duration(Some(864_000_000)), "10 days"),
            (thousandths(Some(41_250)), "41.25"),
            (thousandths(Some(20_000)), "20"),
        ] {
            assert_eq!(markup.into_string(), expected);
        }
        assert_eq!(mebibytes(16 << 20), "16.0 MiB");
    }
}
