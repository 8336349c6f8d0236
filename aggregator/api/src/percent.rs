//! Percent-decoding (RFC 3986 section 2.1).

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// Why a part of a URL cannot be decoded.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(crate) enum PercentError {
    /// A `%` without two hexadecimal digits after it.
    #[error("\"{0}\" has a '%' that two hexadecimal digits do not follow")]
    Escape(String),
    /// The decoded bytes are not UTF-8.
    #[error("\"{0}\" does not decode to UTF-8")]
    Utf8(String),
}

/// Decodes `%XX` in `raw`. A `+` stays a plus: it means a space only in queries.
pub(crate) fn decode(raw: &str) -> Result<String, PercentError> {
    // The library keeps an invalid escape as text; Go's, which clients expect, refuses it.
    let is_escape = |after: &str| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !raw.split('%').skip(1).all(is_escape) {
        return Err(PercentError::Escape(raw.to_owned()));
    }
    let decoded = percent_decode_str(raw).decode_utf8();
    let decoded = decoded.map_err(|_| PercentError::Utf8(raw.to_owned()))?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both spellings of a byte decode to it; what is not encoded stays.
    #[test]
    fn decodes_escapes() {
        for (raw, decoded) in [
            ("%2A", "*"),
            ("%2a", "*"),
            ("a+b", "a+b"),
            ("%C3%A9", "é"),
            ("", ""),
            ("a%25b", "a%b"),
        ] {
            assert_eq!(decode(raw).unwrap(), decoded, "{raw}");
        }
    }

    /// A broken escape is refused and named, never passed on as text.
    #[test]
    fn refuses_broken_escapes() {
        for raw in ["%", "%2", "%zz", "a%+1", "%é"] {
            assert_eq!(
                decode(raw),
                Err(PercentError::Escape(raw.to_owned())),
                "{raw}"
            );
        }
        assert_eq!(decode("%FF"), Err(PercentError::Utf8("%FF".to_owned())));
    }
}
