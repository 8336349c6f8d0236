//! Formats numbers in thousandths as the canonical text of `resource.Quantity` (`DecimalSI`).
//!
//! Canonical means an integer with the largest suffix that leaves no fraction. An autoscaler reads
//! the value back as `MilliValue()`, a signed 64-bit number of thousandths that silently wraps
//! beyond its range.

use aggregator_core::query::Milli;
use thiserror::Error;

/// Largest value that is served: 9.22e15 units. Go's `MilliValue()` overflows at 9 223 372 036 854
/// 776 units and then reads as negative or as 0, which an autoscaler would obey.
pub(crate) const QUANTITY_MAX: Milli = Milli(9_220_000_000_000_000_000);

/// Suffixes of 1000^0, 1000^1, …; [`QUANTITY_MAX`] needs none beyond the last.
const SUFFIXES: [&str; 6] = ["", "k", "M", "G", "T", "P"];

/// A value that an autoscaler would read as another one.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the value {}.{:03} is beyond what a Kubernetes quantity can hold in thousandths", .0.0 / 1000, .0.0 % 1000)]
pub(crate) struct OutOfRange(Milli);

/// The canonical text of `value`.
pub(crate) fn format(value: Milli) -> Result<String, OutOfRange> {
    if value > QUANTITY_MAX {
        return Err(OutOfRange(value));
    }
    if !value.0.is_multiple_of(1000) {
        return Ok(format!("{}m", value.0));
    }
    let mut mantissa = value.0 / 1000;
    let mut power = 0;
    while mantissa != 0 && mantissa.is_multiple_of(1000) && power + 1 < SUFFIXES.len() {
        mantissa /= 1000;
        power += 1;
    }
    Ok(format!("{mantissa}{}", SUFFIXES[power]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `quantity_test.go`, as far as thousandths reach.
    #[test]
    fn formats_canonically() {
        for (milli, text) in [
            (0, "0"),
            (1, "1m"),
            (333, "333m"),
            (500, "500m"),
            (1_000, "1"),
            (1_080, "1080m"),
            (1_500, "1500m"),
            (1_025_000, "1025"),
            (1_500_000, "1500"),
            (1_000_000, "1k"),
            (100_000_000, "100k"),
            (1_000_000_000, "1M"),
            (1_000_000_000_000, "1G"),
            (1_234_567_000_000_000, "1234567M"),
            (1_000_000_000_000_000, "1T"),
            (9_000_000_000_000_000_000, "9P"),
            (9_220_000_000_000_000_000, "9220T"),
            (9_219_999_999_999_999_999, "9219999999999999999m"),
        ] {
            assert_eq!(format(Milli(milli)).unwrap(), text);
        }
    }

    /// A value that would wrap in the autoscaler never leaves.
    #[test]
    fn refuses_what_would_wrap() {
        let error = format(Milli(QUANTITY_MAX.0 + 1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the value 9220000000000000.001 is beyond what a Kubernetes quantity can hold in thousandths"
        );
        assert!(format(Milli(u64::MAX)).is_err());
    }

    /// The text means the same number: read back in thousandths it is what went in.
    #[test]
    fn reads_back_as_the_same_number() {
        proptest::proptest!(|(milli in 0..=QUANTITY_MAX.0)| {
            let text = format(Milli(milli)).unwrap();
            let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let factor = match &text[digits.len()..] {
                "m" => 1_u64,
                suffix => {
                    let power = SUFFIXES.iter().position(|known| *known == suffix).unwrap();
                    1000 * 1000_u64.pow(u32::try_from(power).unwrap())
                }
            };
            assert_eq!(digits.parse::<u64>().unwrap() * factor, milli);
        });
    }
}
