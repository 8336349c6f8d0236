//! Amounts of memory, written as Kubernetes writes them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// An amount of memory in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Size(u64);

/// A text that is not a [`Size`].
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{0:?} is not an amount of memory such as 512Mi, 1Gi or 536870912")]
pub struct SizeError(String);

const UNITS: [(&str, u64); 6] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
];

// === impl Size ===

impl Size {
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// In bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// In bytes, at most `usize::MAX`.
    pub fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// How many items of size `each` fit in.
    pub fn count_of(self, each: Self) -> usize {
        usize::try_from(self.0 / each.0.max(1)).unwrap_or(usize::MAX)
    }

    /// `numerator / denominator` of it, rounded down.
    #[must_use]
    pub fn part(self, numerator: u64, denominator: u64) -> Self {
        let part = u128::from(self.0) * u128::from(numerator) / u128::from(denominator.max(1));
        Self(u64::try_from(part).unwrap_or(u64::MAX))
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let error = || SizeError(text.to_owned());
        let unit = UNITS.into_iter().find_map(|(unit, bytes)| {
            let digits = text.strip_suffix(unit)?;
            Some((digits, bytes))
        });
        let (digits, unit) = unit.unwrap_or((text, 1));
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        let count: u64 = digits.parse().map_err(|_| error())?;
        let bytes = count.checked_mul(unit).filter(|bytes| *bytes > 0);
        bytes.map(Self).ok_or_else(error)
    }
}

impl fmt::Display for Size {
    /// In the largest unit without a fraction; from 10Mi on, rounded down to Mi.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        let whole = units
            .into_iter()
            .find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit));
        match whole {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None if self.0 >= 10 << 20 => write!(f, "{}Mi", self.0 >> 20),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_and_written_as_kubernetes_does() {
        for (text, bytes, shown) in [
            ("512Mi", 512 << 20, "512Mi"),
            ("1Gi", 1 << 30, "1Gi"),
            ("64Ki", 64 << 10, "64Ki"),
            ("100M", 100_000_000, "95Mi"),
            ("536870912", 512 << 20, "512Mi"),
            ("1000", 1000, "1000"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(
                (size.get(), size.to_string().as_str()),
                (bytes, shown),
                "{text}"
            );
        }
        for text in [
            "",
            "0",
            "0Mi",
            "Mi",
            "-1",
            "1.5Gi",
            "1 Gi",
            "5Ti",
            "99999999999Gi",
            "+1Mi",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
    }
}
