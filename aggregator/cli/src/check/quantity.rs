//! Quantities of Kubernetes, in thousandths. Pure.

/// `20`, `500m`, `1.5k` in thousandths, rounded up; `None` if it is none, or below 0.
pub(super) fn milli(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        _ => return None,
    };
    let milli = (number * factor * 1000.0).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "compared with both ends before"
    )]
    (0.0..9e15).contains(&milli).then_some(milli as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_quantities() {
        for (text, expected) in [
            ("20", Some(20_000)),
            ("500m", Some(500)),
            ("1.5k", Some(1_500_000)),
            ("1u", Some(1)),
            ("2Ki", Some(2_048_000)),
            ("", None),
            ("-1", None),
            ("x", None),
            ("1E9", None),
        ] {
            assert_eq!(milli(text), expected, "{text}");
        }
    }
}
