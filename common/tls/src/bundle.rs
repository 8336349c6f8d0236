//! CA certificates to trust, in PEM.

use crate::reloadable_cert::{TlsError, certificates};

/// Bytes of a bundle for pods at most, some 60 certificates: it is an environment variable, which
/// the kernel limits to 128 KiB, or a `ConfigMap` of each namespace.
pub const POD_BUNDLE_BYTES_MAX: usize = 64 * 1024;

/// The begin of every PEM block.
const BLOCK: &str = "-----BEGIN ";

/// Fails unless `pem` holds only certificates: a bundle is published, and a key must not be. `what`
/// names it in the error.
pub fn check(pem: &str, what: &str) -> Result<(), TlsError> {
    let blocks = pem.lines().filter(|line| line.starts_with(BLOCK)).count();
    if certificates(pem, what)?.len() == blocks {
        return Ok(());
    }
    let what = what.to_owned();
    Err(TlsError::NotAlone { what })
}

/// As [`check`]; fails also if the bundle exceeds [`POD_BUNDLE_BYTES_MAX`].
pub fn check_for_pods(pem: &str, what: &str) -> Result<(), TlsError> {
    if pem.len() > POD_BUNDLE_BYTES_MAX {
        return Err(TlsError::TooLong {
            what: what.to_owned(),
            bytes: pem.len(),
            max: POD_BUNDLE_BYTES_MAX,
        });
    }
    check(pem, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

    /// Keys are refused of every kind, also of those that no TLS library here reads.
    #[test]
    fn certificates_alone_pass() {
        let key = |kind: &str| format!("-----BEGIN {kind}-----\nMIIB\n-----END {kind}-----\n");
        let cases = [
            (ONE.to_owned(), None),
            (format!("# a comment\n{}", ONE.repeat(2)), None),
            (String::new(), Some("a holds no certificate")),
            (key("PRIVATE KEY"), Some("a holds no certificate")),
            (ONE[..30].to_owned(), Some("a cannot be read as PEM")),
            (
                ONE.to_owned() + &key("PRIVATE KEY"),
                Some("a holds something besides certificates"),
            ),
            (
                ONE.to_owned() + &key("ENCRYPTED PRIVATE KEY"),
                Some("a holds something besides certificates"),
            ),
            (
                ONE.repeat(2_000),
                Some("a has 118000 bytes, at most 65536 are allowed"),
            ),
        ];
        for (pem, expected) in cases {
            let error = check_for_pods(&pem, "a").err();
            let error = error.map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected, "{pem:.100}");
        }
    }
}
