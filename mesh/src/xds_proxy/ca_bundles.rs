//! The CA bundle for verifying aggregators, in an SDS file that Envoy watches.
//!
//! ```text
//! a ConfigMap's folder (may be empty, is replaced by links)
//!   -> certificates (checked) -> a secret in Envoy's SDS file (renamed)
//! ```
//!
//! Envoy does not read the `ConfigMap` itself: if the file is missing at its start, some versions
//! never read it, or abort when it appears (envoyproxy/envoy#21239). The SDS file always exists and
//! is always complete.

use std::path::{Path, PathBuf};

use anyhow::Result;
use common_tls::{bundle, files};
use mesh_core::injection::CA;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::json_file;

const FLAG: &str = "--aggregator-ca-secret";

/// Keeps the SDS file `to` up to date with the file `from` until `stop`. Without certificates `to`
/// has no secret.
pub(super) fn maintain(from: PathBuf, to: PathBuf, stop: CancellationToken) -> Result<()> {
    let mut last_written = None;
    if let Err(error) = renew(&from, &to, &mut last_written) {
        tracing::warn!(
            error = format!("{error:#}"),
            "no CAs of the aggregators yet: the sidecar serves, and streams once they are there"
        );
        // The file of an earlier process stays: its certificates were valid.
        if !to.exists() {
            json_file::replace(&to, FLAG, &json!({"resources": []}))?;
        }
    }
    tokio::spawn(async move {
        let name = from.display().to_string();
        files::poll(&name, stop, || renew(&from, &to, &mut last_written)).await;
    });
    Ok(())
}

/// True if `to` changed.
fn renew(from: &Path, to: &Path, last_written: &mut Option<String>) -> Result<bool> {
    let pem = files::text(from)?;
    if last_written.as_ref() == Some(&pem) {
        return Ok(false);
    }
    bundle::check_for_pods(&pem, &from.display().to_string())?;
    let secret = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": CA,
        "validation_context": {"trusted_ca": {"inline_string": pem}},
    }]});
    // Envoy watches for renames only; `replace` renames.
    json_file::replace(to, FLAG, &secret)?;
    *last_written = Some(pem);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

    /// Complete certificates reach Envoy's file; an empty file, half a certificate and a missing
    /// file leave it unchanged.
    #[test]
    fn only_certificates_reach_envoy() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("ca.crt"), folder.path().join("ca.json"));
        let trusted = || -> Value {
            let read: Value = serde_json::from_slice(&fs::read(&to).unwrap()).unwrap();
            read["resources"][0]["validation_context"]["trusted_ca"]["inline_string"].clone()
        };
        let mut last_written = None;
        assert!(renew(&from, &to, &mut last_written).is_err());
        assert!(!to.exists());
        let two = ONE.repeat(2);
        for (content, changes, expected) in [
            (ONE, Some(true), ONE),
            (ONE, Some(false), ONE),
            ("", None, ONE),
            (&ONE[..30], None, ONE),
            (
                "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n",
                None,
                ONE,
            ),
            (&two, Some(true), &two),
            (&ONE.repeat(2_000), None, &two),
        ] {
            fs::write(&from, content).unwrap();
            assert_eq!(
                renew(&from, &to, &mut last_written).ok(),
                changes,
                "{content}"
            );
            assert_eq!(trusted(), expected);
        }
        fs::remove_file(&from).unwrap();
        assert!(renew(&from, &to, &mut last_written).is_err());
        assert_eq!(trusted(), two.as_str());
    }

    /// The SDS file exists at once, and a restart does not remove its secret.
    #[tokio::test]
    async fn the_file_exists_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("ca.crt"), folder.path().join("ca.json"));
        let start = || maintain(from.clone(), to.clone(), CancellationToken::new()).unwrap();
        start();
        assert_eq!(fs::read_to_string(&to).unwrap(), r#"{"resources":[]}"#);
        fs::write(&from, ONE).unwrap();
        start();
        let written = fs::read_to_string(&to).unwrap();
        assert!(written.contains("BEGIN CERTIFICATE"), "{written}");
        fs::remove_file(&from).unwrap();
        start();
        assert_eq!(fs::read_to_string(&to).unwrap(), written);
    }
}
