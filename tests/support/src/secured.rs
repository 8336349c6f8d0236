//! An aggregator that wants tokens over TLS, and the files of a pod that shows one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use common_tls::CertificateAuthority;
use serde_json::json;

use crate::aggregator::Options;
use crate::kubernetes::{ApiServer, KnownUser};

/// The name of its certificate.
pub const SERVER_NAME: &str = "meshmeter.meshmeter.svc";

/// The audience of tokens that it takes.
pub const AUDIENCE: &str = "meshmeter";

/// A `ConfigMap` as the kubelet mounts it: files are links into `..data`, itself a link that is
/// replaced whole.
#[derive(Debug)]
pub struct Mounted {
    folder: PathBuf,
    versions: u32,
}

// === impl Mounted ===

impl Mounted {
    /// In `folder`, which is made. An optional one that is not there yet is an empty folder.
    pub fn new(folder: &Path) -> Result<Self> {
        fs::create_dir(folder).context("the folder of a ConfigMap")?;
        let mut mounted = Self {
            folder: folder.to_owned(),
            versions: 0,
        };
        mounted.put(&[])?;
        Ok(mounted)
    }

    /// Where the file `name` is, or would be.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// It holds these files from now on, in the kubelet's order: new data, the link to them, links
    /// of new files, and the old data go.
    pub fn put(&mut self, files: &[(&str, &str)]) -> Result<()> {
        let version = |nth: u32| format!("..version_{nth}");
        let data = self.folder.join(version(self.versions + 1));
        fs::create_dir(&data)?;
        for (name, content) in files {
            fs::write(data.join(name), content)?;
        }
        let next = self.folder.join("..data_tmp");
        symlink(version(self.versions + 1), &next)?;
        fs::rename(&next, self.folder.join("..data"))?;
        for (name, _) in files {
            let link = self.folder.join(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(name), link)?;
            }
        }
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let gone = !entry.path().exists();
            if gone {
                fs::remove_file(entry.path())?;
            }
        }
        let old = self.folder.join(version(self.versions));
        if self.versions > 0 {
            ensure!(old.is_dir(), "{}", old.display());
            fs::remove_dir_all(old)?;
        }
        self.versions += 1;
        Ok(())
    }
}

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
    fs::write(&next, token)?;
    fs::rename(&next, file).context("put the token in place")
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
    fs::write(file, secret.to_string()).context("write the secret's file")
}

/// The aggregator in the cluster of `server`, its files in `directory`; `ca.pem` is the CA of its
/// certificate. It has tokens reviewed, whatever they look like ([`add_token`]).
pub fn options(server: &ApiServer, directory: &Path) -> Result<Options> {
    let mut options = local_options(server, directory)?;
    let review = "--ingest-token-verification=review".to_owned();
    options.flags.push(review);
    Ok(options)
}

/// The same, but it verifies tokens by itself, so that they have to be signed
/// ([`ApiServer::pod_token`] for [`AUDIENCE`]).
pub fn local_options(server: &ApiServer, directory: &Path) -> Result<Options> {
    let file = |name: &str| directory.join(name);
    let ca = issue(directory)?;
    fs::write(file("ca.pem"), &ca)?;
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

/// Gives the aggregator with its files in `directory` a certificate of a new CA; returns that, PEM.
/// It is one as the aggregator makes it: all have one name, and only what is in them tells Envoy
/// which of two a certificate is of.
pub fn issue(directory: &Path) -> Result<String> {
    let ca = CertificateAuthority::new("meshmeter-ingest")?;
    let issued = ca.issue(&[SERVER_NAME.to_owned()])?;
    for (name, text) in [("tls.crt", &issued.certificate), ("tls.key", &issued.key)] {
        fs::write(directory.join(name), text)?;
    }
    Ok(ca.certificate().to_owned())
}
