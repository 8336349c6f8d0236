//! A certificate in files, such as those of a secret volume, reloaded when they change.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::reloadable_cert::{ReloadableCert, TlsError};

/// Bytes of a file at most: a chain of a few certificates is far smaller.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How often the files are read. The kubelet takes up to a minute to update a secret volume.
const POLL_EVERY: Duration = Duration::from_secs(10);

/// A certificate and its key in files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Files {
    /// The certificate, followed by its intermediates; PEM.
    pub certificate: PathBuf,
    /// Its key; PEM.
    pub key: PathBuf,
}

/// Files, their content as last read, and the certificate loaded from it.
#[derive(Debug)]
pub struct WatchedFiles {
    files: Files,
    serving: ReloadableCert,
    read: (String, String),
}

// === impl Files ===

impl Files {
    pub fn load(self) -> Result<WatchedFiles, TlsError> {
        let read = self.read()?;
        let serving = ReloadableCert::from_pem(&read.0, &read.1)?;
        Ok(WatchedFiles {
            files: self,
            serving,
            read,
        })
    }

    fn read(&self) -> Result<(String, String), TlsError> {
        Ok((text(&self.certificate)?, text(&self.key)?))
    }
}

// === impl WatchedFiles ===

impl WatchedFiles {
    pub fn serving(&self) -> ReloadableCert {
        self.serving.clone()
    }

    /// Reloads the files; true if they changed. On an error the previous certificate stays in use:
    /// files may be changed one by one, so that certificate and key do not match for a moment.
    pub fn reload(&mut self) -> Result<bool, TlsError> {
        let read = self.files.read()?;
        if read == self.read {
            return Ok(false);
        }
        self.serving.swap(&read.0, &read.1)?;
        self.read = read;
        Ok(true)
    }

    /// Reloads them on changes until `stop`.
    pub async fn follow(mut self, stop: CancellationToken) {
        let file = self.files.certificate.display().to_string();
        poll(&file, stop, || self.reload()).await;
    }
}

/// Calls `reload` every ten seconds until `stop`; logs when it reloaded `file`, and the first of
/// consecutive failures.
pub async fn poll<E: Into<Box<dyn Error + Send + Sync>>>(
    file: &str,
    stop: CancellationToken,
    mut reload: impl FnMut() -> Result<bool, E>,
) {
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL_EVERY) => {}
        }
        match reload() {
            Ok(true) => tracing::info!(file, "reloaded"),
            Ok(false) => {}
            Err(error) if !failing => {
                let error = chain(&*error.into());
                tracing::warn!(file, error, "not reloaded; keeping the previous content");
                failing = true;
                continue;
            }
            Err(_) => continue,
        }
        failing = false;
    }
}

/// The error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The content of the file at `path`; fails above 1 MiB.
pub fn text(path: &std::path::Path) -> Result<String, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(failed(std::io::Error::other("larger than 1 MiB")));
    }
    std::fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::CertificateAuthority;

    /// A changed pair is taken, half a change is not, and nothing is lost by it.
    #[test]
    fn takes_a_change_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files {
            certificate: directory.path().join("tls.crt"),
            key: directory.path().join("tls.key"),
        };
        let missing = files.clone().load().unwrap_err().to_string();
        assert!(missing.contains("tls.crt cannot be read"), "{missing}");
        let ca = CertificateAuthority::new("test").unwrap();
        let [old, new] = [(); 2].map(|()| ca.issue(&["a".to_owned()]).unwrap());
        fs::write(&files.certificate, &old.certificate).unwrap();
        fs::write(&files.key, &old.key).unwrap();
        let mut followed = files.clone().load().unwrap();
        assert!(!followed.reload().unwrap());
        fs::write(&files.certificate, &new.certificate).unwrap();
        assert!(matches!(followed.reload(), Err(TlsError::Key(_))));
        fs::write(&files.key, &new.key).unwrap();
        assert!(followed.reload().unwrap());
        assert!(!followed.reload().unwrap());
    }
}
