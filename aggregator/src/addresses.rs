//! The file with the bound addresses, for scripts.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Addresses {
    pub(crate) ingest: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Addresses {
    /// Writes the addresses to `path` atomically, by renaming a temporary file.
    pub(crate) async fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec(self).context("addresses cannot be written as JSON")?;
        let mut temporary = OsString::from(path);
        temporary.push(format!(".{}.tmp", std::process::id()));
        tokio::fs::write(&temporary, json)
            .await
            .with_context(|| format!("--addresses-file: cannot write {}", temporary.display()))?;
        tokio::fs::rename(&temporary, path)
            .await
            .with_context(|| format!("--addresses-file: cannot write {}", path.display()))
    }
}
