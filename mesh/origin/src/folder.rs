//! A folder of manifests, read again as it changes.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use crate::mesh::{Key, Meshes, Refused};
use crate::metrics::Metrics;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Files that are read at most, and the bytes of one.
const FILES_MAX: usize = 1_000;
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A folder, and a file with addresses of pods: `{NAMESPACE/NAME of a VirtualNode: [ADDRESS:PORT]}` as YAML.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The manifests.
    pub manifests: PathBuf,
    /// The addresses.
    pub endpoints: Option<PathBuf>,
}

// === impl Folder ===

impl Folder {
    /// What is in it, and what of it is refused.
    pub fn read(&self) -> Result<(Meshes, Vec<Refused>)> {
        let (texts, endpoints) = self.texts()?;
        meshes(&texts, endpoints.as_deref(), &Meshes::default())
    }

    /// Follows it until `stop`. What is refused is logged once for each change; a change that cannot be read changes
    /// nothing.
    pub async fn follow(
        self,
        meshes: watch::Sender<Arc<Meshes>>,
        metrics: Metrics,
        stop: CancellationToken,
    ) {
        let mut seen = None;
        loop {
            let looked = self.clone();
            let read = tokio::task::spawn_blocking(move || looked.texts()).await;
            match read {
                Ok(Ok((texts, endpoints))) => {
                    let digest = xxh3_64(format!("{texts:?}{endpoints:?}").as_bytes());
                    if seen.replace(digest) != Some(digest) {
                        publish(&meshes, &texts, endpoints.as_deref(), &metrics);
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = format!("{error:#}"), "the manifests cannot be read");
                }
                Err(error) => tracing::error!(%error, "reading the manifests failed"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn texts(&self) -> Result<(BTreeMap<String, String>, Option<String>)> {
        let folder = &self.manifests;
        let listed = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        let mut texts = BTreeMap::new();
        for entry in listed.take(FILES_MAX) {
            let path = entry?.path();
            let yaml = path
                .extension()
                .is_some_and(|end| end == "yaml" || end == "yml");
            if yaml {
                texts.insert(path.display().to_string(), text(&path)?);
            }
        }
        let endpoints = self.endpoints.as_deref().map(text).transpose()?;
        Ok((texts, endpoints))
    }
}

fn text(path: &Path) -> Result<String> {
    let name = || path.display().to_string();
    let length = fs::metadata(path).with_context(name)?.len();
    anyhow::ensure!(
        length <= FILE_BYTES_MAX,
        "{}: {length} bytes, at most {FILE_BYTES_MAX} are read",
        name()
    );
    fs::read_to_string(path).with_context(name)
}

fn meshes(
    texts: &BTreeMap<String, String>,
    endpoints: Option<&str>,
    before: &Meshes,
) -> Result<(Meshes, Vec<Refused>)> {
    let texts = texts
        .iter()
        .map(|(file, text)| (file.as_str(), text.as_str()));
    let (mut meshes, refused) = Meshes::parse(texts, before);
    let endpoints: BTreeMap<String, Vec<SocketAddr>> = match endpoints {
        Some(text) => serde_saphyr::from_str(text).context("the endpoints")?,
        None => BTreeMap::new(),
    };
    for (node, addresses) in endpoints {
        let (namespace, name) = node
            .split_once('/')
            .with_context(|| format!("{node:?} is not NAMESPACE/NAME"))?;
        let key = Key::new(namespace, name);
        for mesh in meshes.iter_mut() {
            let Some(node) = mesh.nodes.get(&key) else {
                continue;
            };
            let listeners = node.listeners.iter();
            let all = listeners.map(|listener| (listener.port_mapping.port, addresses.clone()));
            mesh.endpoints.insert(key.clone(), all.collect());
        }
    }
    Ok((meshes, refused))
}

fn publish(
    sender: &watch::Sender<Arc<Meshes>>,
    texts: &BTreeMap<String, String>,
    endpoints: Option<&str>,
    metrics: &Metrics,
) {
    let before = Arc::clone(&sender.borrow());
    match meshes(texts, endpoints, &before) {
        Ok((meshes, refused)) => {
            metrics.resources(&meshes, &refused);
            for refused in &refused {
                tracing::error!(resource = refused.what, reason = refused.why, "not served");
            }
            for mesh in meshes.iter() {
                tracing::info!(
                    mesh = mesh.name,
                    nodes = mesh.nodes.len(),
                    services = mesh.services.len(),
                    "the mesh is read"
                );
            }
            sender.send_replace(Arc::new(meshes));
        }
        Err(error) => tracing::warn!(
            error = format!("{error:#}"),
            "the manifests cannot be used; nothing changes"
        ),
    }
}
