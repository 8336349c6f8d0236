//! Whom sidecars trust towards the aggregators, in a file that Envoy follows.
//!
//! ```text
//! a ConfigMap's folder (may be empty, is replaced by links)
//!   -> certificates (checked) -> a secret in Envoy's file (renamed)
//! ```
//!
//! Not Envoy itself: a version that did not find the certificates when it began may never look
//! again, or abort when they come (envoyproxy/envoy#21239). Its own file is always there, and what
//! is in it is whole.

use std::path::{Path, PathBuf};

use anyhow::Result;
use common_tls::{bundle, files};
use mesh_core::injection::CA;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::json_file;

const FLAG: &str = "--aggregator-ca-secret";

/// Keeps in the file `to` what is in the file `from`, until `stop`. Where there is nothing yet,
/// `to` has no secret.
pub(super) fn keep(from: PathBuf, to: PathBuf, stop: CancellationToken) -> Result<()> {
    let mut held = None;
    if let Err(error) = renew(&from, &to, &mut held) {
        tracing::warn!(
            error = format!("{error:#}"),
            "no CAs of the aggregators yet: the sidecar serves, and streams once they are there"
        );
        // One from before is still right: that of a process before this one, say.
        if !to.exists() {
            json_file::replace(&to, FLAG, &json!({"resources": []}))?;
        }
    }
    tokio::spawn(async move {
        let name = from.display().to_string();
        files::again(&name, stop, || renew(&from, &to, &mut held)).await;
    });
    Ok(())
}

/// True if `to` has other certificates now.
fn renew(from: &Path, to: &Path, held: &mut Option<String>) -> Result<bool> {
    let pem = files::text(from)?;
    if held.as_ref() == Some(&pem) {
        return Ok(false);
    }
    bundle::check_for_pods(&pem, &from.display().to_string())?;
    let secret = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": CA,
        "validation_context": {"trusted_ca": {"inline_string": pem}},
    }]});
    // Envoy hears of a rename, and of nothing else.
    json_file::replace(to, FLAG, &secret)?;
    *held = Some(pem);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

    /// What is in the folder is in Envoy's file once it is whole: nothing, half a certificate and a
    /// folder that is gone leave what was there.
    #[test]
    fn only_certificates_reach_envoy() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("ca.crt"), folder.path().join("ca.json"));
        let trusted = || -> Value {
            let read: Value = serde_json::from_slice(&fs::read(&to).unwrap()).unwrap();
            read["resources"][0]["validation_context"]["trusted_ca"]["inline_string"].clone()
        };
        let mut held = None;
        assert!(renew(&from, &to, &mut held).is_err());
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
            assert_eq!(renew(&from, &to, &mut held).ok(), changes, "{content}");
            assert_eq!(trusted(), expected);
        }
        fs::remove_file(&from).unwrap();
        assert!(renew(&from, &to, &mut held).is_err());
        assert_eq!(trusted(), two.as_str());
    }

    /// Envoy rejects a cluster whose file is not there; a process that begins again takes nothing
    /// away.
    #[tokio::test]
    async fn the_file_is_there_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("ca.crt"), folder.path().join("ca.json"));
        let begin = || keep(from.clone(), to.clone(), CancellationToken::new()).unwrap();
        begin();
        assert_eq!(fs::read_to_string(&to).unwrap(), r#"{"resources":[]}"#);
        fs::write(&from, ONE).unwrap();
        begin();
        let written = fs::read_to_string(&to).unwrap();
        assert!(written.contains("BEGIN CERTIFICATE"), "{written}");
        fs::remove_file(&from).unwrap();
        begin();
        assert_eq!(fs::read_to_string(&to).unwrap(), written);
    }
}
