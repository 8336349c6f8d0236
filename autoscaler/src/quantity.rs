//! Quantities of Kubernetes, such as `10`, `500m`, `1.5`, `2Ki`, `1e3`.

use std::fmt;

/// A decimal number: `digits` times ten to the power of `exponent`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quantity {
    digits: i128,
    exponent: i32,
}

/// Digits of a number, and the largest exponent: what fits 128 bits beyond any 64-bit quantity.
const DIGITS_MAX: usize = 20;
const EXPONENT_MAX: i32 = 18;

// === impl Quantity ===

impl Quantity {
    /// Reads a quantity; `None` if it is none, or one beyond 64 bits.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, text) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.len() > DIGITS_MAX || fraction.contains('.') {
            return None;
        }
        let (factor, exponent) = suffix_of(suffix)?;
        let digits: i128 = digits.parse().ok()?;
        Some(Self {
            digits: sign * digits * factor,
            exponent: exponent - i32::try_from(fraction.len()).ok()?,
        })
    }

    /// So many thousandths.
    pub fn of_milli(milli: i128) -> Self {
        Self {
            digits: milli,
            exponent: -3,
        }
    }

    /// The value in thousandths, rounded away from zero as Kubernetes does.
    pub fn milli(self) -> i128 {
        let exponent = self.exponent + 3;
        let power = 10_i128.pow(exponent.unsigned_abs());
        if exponent >= 0 {
            return self.digits.saturating_mul(power);
        }
        let rest = self.digits % power;
        self.digits / power + rest.signum()
    }

    /// The value as the controller has it: one multiplication of two floats, each rounded.
    #[expect(clippy::cast_precision_loss, reason = "as the controller rounds it")]
    pub fn to_f64(self) -> f64 {
        match self.exponent {
            0 => self.digits as f64,
            exponent => self.digits as f64 * power_of_ten(exponent),
        }
    }
}

/// To the thousandth, as a person writes it: `41`, `10.9`, `-0.25`.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milli = self.milli();
        let sign = if milli < 0 { "-" } else { "" };
        let (whole, rest) = (milli.abs() / 1000, milli.abs() % 1000);
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let rest = format!("{rest:03}");
        write!(f, "{sign}{whole}.{}", rest.trim_end_matches('0'))
    }
}

/// Factor and decimal exponent of a suffix.
fn suffix_of(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 0));
    match suffix {
        "" => Some((1, 0)),
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (exponent.abs() <= EXPONENT_MAX).then_some((1, exponent))
        }
    }
}

/// The float nearest to a power of ten.
fn power_of_ten(exponent: i32) -> f64 {
    // Parsing rounds to the nearest float; `powi` may be off by one place.
    format!("1e{exponent}").parse().unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_reads() {
        for (text, milli) in [
            ("10", Some(10_000)),
            ("10.9", Some(10_900)),
            ("10900m", Some(10_900)),
            ("1k", Some(1_000_000)),
            ("2Ki", Some(2_048_000)),
            ("1e3", Some(1_000_000)),
            (".5", Some(500)),
            ("-1.5", Some(-1500)),
            // Less than a thousandth is one.
            ("1u", Some(1)),
            ("0.0005", Some(1)),
            ("", None),
            ("m", None),
            ("1.2.3", None),
            ("ten", None),
            ("1e99", None),
        ] {
            assert_eq!(Quantity::parse(text).map(Quantity::milli), milli, "{text}");
        }
        let float = |text| Quantity::parse(text).unwrap().to_f64();
        assert_eq!(
            [float("20m"), float("0.05"), float("1")].map(f64::to_bits),
            [0.02, 0.05, 1.0].map(f64::to_bits)
        );
    }

    #[test]
    fn writes_what_a_person_writes() {
        let written =
            [0, 41_000, 10_900, -250, 5].map(|milli| Quantity::of_milli(milli).to_string());
        assert_eq!(written, ["0", "41", "10.9", "-0.25", "0.005"]);
    }
}
