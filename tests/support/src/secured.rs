//! An aggregator that wants tokens over TLS, and the files of a pod that shows one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::aggregator::Options;
use crate::kubernetes::{ApiServer, CertificateAuthority, KnownUser};

/// The name of its certificate.
pub const SERVER_NAME: &str = "meshmeter.meshmeter.svc";

/// The audience of tokens that it takes.
const AUDIENCE: &str = "meshmeter";

/// `token` becomes that of the pod `namespace/pod`, whose uid is `uid-` and its name.
pub fn add_token(server: &ApiServer, token: &str, namespace: &str, pod: &str) {
    let extra = [
        ("authentication.kubernetes.io/pod-name", pod.to_owned()),
        ("authentication.kubernetes.io/pod-uid", format!("uid-{pod}")),
    ];
    let extra = extra.map(|(key, value)| (key.to_owned(), vec![value]));
    let user = KnownUser {
        username: format!("system:serviceaccount:{namespace}:jazz"),
        extra: BTreeMap::from(extra),
        audiences: vec![AUDIENCE.to_owned()],
        ..KnownUser::default()
    };
    server.add_token(token, user);
}

/// Puts the token into its file as the kubelet does: raw, whole or not at all.
pub fn write_token(file: &Path, token: &str) -> Result<()> {
    let next = file.with_extension("next");
    std::fs::write(&next, token)?;
    std::fs::rename(&next, file).context("put the token in place")
}

/// Tells Envoy, in its own form, where the token is.
pub fn write_secret(file: &Path, token: &Path) -> Result<()> {
    let secret = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "token",
        "generic_secret": {"secret": {
            "filename": token,
            "watched_directory": {"path": token.parent()},
        }},
    }]});
    std::fs::write(file, secret.to_string()).context("write the secret's file")
}

/// The aggregator in the cluster of `server`, its files in `directory`; `ca.pem` is the CA of its
/// certificate.
pub fn options(server: &ApiServer, directory: &Path) -> Result<Options> {
    let file = |name: &str| directory.join(name);
    let ca = CertificateAuthority::new("meshmeter-ingest")?;
    let issued = ca.server(&[SERVER_NAME])?;
    for (name, text) in [
        ("ca.pem", &ca.pem),
        ("tls.crt", &issued.certificate),
        ("tls.key", &issued.key),
    ] {
        std::fs::write(file(name), text)?;
    }
    server.write_kubeconfig(&file("kubeconfig"))?;
    let paths = [
        ("--kubeconfig", "kubeconfig"),
        ("--ingest-cert-file", "tls.crt"),
        ("--ingest-key-file", "tls.key"),
    ];
    let paths = paths.map(|(flag, name)| [flag.to_owned(), file(name).display().to_string()]);
    let mut flags: Vec<String> = paths.into_iter().flatten().collect();
    flags.extend(["--ingest-identity".to_owned(), "token".to_owned()]);
    Ok(Options {
        flags,
        ..Options::default()
    })
}
