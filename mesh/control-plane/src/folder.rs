//! A folder of manifests, polled for changes.
//!
//! ```text
//! folder ── texts (bounded) ── stable for two polls ──> Files (last good content) ──> meshes
//! ```
//!
//! A file that cannot be parsed, for example half written or too large, keeps its last good
//! content. A change is applied once two polls read the same, so that a file being written is not
//! mistaken for a complete one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::events;
use crate::manifests::Manifest;
use crate::mesh::{AcmMap, Key, Meshes, RefusedObject};
use crate::metrics::Metrics;

const POLL_EVERY: Duration = Duration::from_millis(500);

/// Limits of the number of files, the bytes of one file, and the bytes of all: ten thousand objects
/// of 800 bytes.
const FILES_MAX: usize = 1_000;
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const FOLDER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Ignored kinds that a log line names at most.
const LOGGED_KINDS_MAX: usize = 5;

/// A folder, and a YAML file with endpoints: `{NAMESPACE/NAME of a VirtualNode: [ADDRESS:PORT]}`.
#[derive(Clone, Debug)]
pub struct Folder {
    pub manifests: PathBuf,
    pub endpoints: Option<PathBuf>,
}

#[derive(Debug)]
pub struct Follower {
    folder: Folder,
    files: Files,
    /// Digests of the last poll and of the served content.
    polled: u64,
    applied: u64,
    refused: Vec<RefusedObject>,
    ignored: BTreeMap<String, usize>,
    /// Last logged error of the whole folder; "" if it can be read.
    last_error: String,
}

/// Contents of the files by name. Pure.
#[derive(Debug, Default)]
struct Files {
    by_name: BTreeMap<String, File>,
}

#[derive(Debug, Default)]
struct File {
    digest: u64,
    /// The last one that could be parsed.
    manifest: Manifest,
    /// Error of the current text.
    error: Option<String>,
}

/// The texts of one poll.
#[derive(Debug, Default)]
struct Texts {
    /// Text or read error by file.
    files: BTreeMap<String, Result<String, String>>,
    endpoints: Option<String>,
}

// === impl Folder ===

impl Folder {
    /// First read; the [`Follower`] polls from then on.
    pub fn read(self, acm: AcmMap) -> Result<(Follower, Meshes)> {
        let texts = self.texts()?;
        let mut follower = Follower {
            folder: self,
            files: Files::default(),
            polled: texts.digest(),
            applied: 0,
            refused: Vec::new(),
            ignored: BTreeMap::new(),
            last_error: String::new(),
        };
        let (meshes, _) = follower.meshes(&texts, &Meshes::with_acm(acm))?;
        Ok((follower, meshes))
    }

    fn texts(&self) -> Result<Texts> {
        Ok(Texts {
            files: self.manifests(false)?,
            endpoints: self.endpoints.as_deref().map(text).transpose()?,
        })
    }

    /// Text or read error by file; `templates` (`*.template`) are no manifests by themselves.
    pub(crate) fn manifests(
        &self,
        templates: bool,
    ) -> Result<BTreeMap<String, Result<String, String>>> {
        let mut texts = BTreeMap::new();
        let mut bytes = 0;
        for path in self.files(templates)? {
            let text = text(&path).map_err(|error| format!("{error:#}"));
            bytes += text.as_ref().map_or(0, |text| text.len() as u64);
            ensure!(
                bytes <= FOLDER_BYTES_MAX,
                "{}: more than {FOLDER_BYTES_MAX} bytes of manifests",
                self.manifests.display()
            );
            texts.insert(path.display().to_string(), text);
        }
        Ok(texts)
    }

    /// The files that `kubectl apply -f FOLDER` would read, sorted.
    fn files(&self, templates: bool) -> Result<Vec<PathBuf>> {
        let folder = &self.manifests;
        let name = || folder.display().to_string();
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).with_context(name)? {
            let path = entry.with_context(name)?.path();
            let end = path.extension().and_then(|end| end.to_str());
            let is_template = templates && end == Some("template");
            if is_template || matches!(end, Some("yaml" | "yml" | "json")) {
                files.push(path);
            }
            ensure!(
                files.len() <= FILES_MAX,
                "{}: more than {FILES_MAX} manifests",
                name()
            );
        }
        files.sort();
        Ok(files)
    }
}

// === impl Follower ===

impl Follower {
    /// Polls the folder until `stop`. Each refusal is logged once per change.
    pub async fn follow(
        mut self,
        meshes: watch::Sender<Arc<Meshes>>,
        metrics: Metrics,
        stop: CancellationToken,
    ) {
        loop {
            let folder = self.folder.clone();
            match tokio::task::spawn_blocking(move || folder.texts()).await {
                Ok(Ok(texts)) => self.look(&texts, &meshes, &metrics),
                Ok(Err(error)) => self.warn(&format!("{error:#}")),
                Err(error) => tracing::error!(%error, "reading the manifests failed"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL_EVERY) => {}
            }
        }
    }

    fn look(&mut self, texts: &Texts, sender: &watch::Sender<Arc<Meshes>>, metrics: &Metrics) {
        let digest = texts.digest();
        let stable = std::mem::replace(&mut self.polled, digest) == digest;
        if !stable || digest == self.applied {
            return;
        }
        self.applied = digest;
        let before = Arc::clone(&sender.borrow());
        match self.meshes(texts, &before) {
            Ok((meshes, refused)) => {
                metrics.resources(&meshes, &refused);
                events::log(&meshes, &refused, &self.refused);
                self.refused = refused;
                self.log_ignored();
                for mesh in meshes.iter() {
                    tracing::info!(
                        mesh = mesh.name,
                        nodes = mesh.nodes.len(),
                        services = mesh.services.len(),
                        "mesh read"
                    );
                }
                self.last_error.clear();
                sender.send_replace(Arc::new(meshes));
            }
            Err(error) => self.warn(&format!("{error:#}")),
        }
    }

    /// Logs an error of the folder once.
    fn warn(&mut self, error: &str) {
        if self.last_error != error {
            tracing::warn!(error, "manifests invalid; keeping the last good state");
            error.clone_into(&mut self.last_error);
        }
    }

    /// Logs ignored objects: one with a misspelt kind is among them.
    fn log_ignored(&mut self) {
        let ignored = self.files.ignored();
        if ignored == self.ignored {
            return;
        }
        let name = |kind: &String| if kind.is_empty() { "no kind" } else { kind }.to_owned();
        let kinds: Vec<_> = ignored.keys().take(LOGGED_KINDS_MAX).map(name).collect();
        tracing::info!(
            object.count = ignored.values().sum::<usize>(),
            kinds = kinds.join(", "),
            "ignored objects that are not App Mesh resources"
        );
        self.ignored = ignored;
    }

    fn meshes(&mut self, texts: &Texts, before: &Meshes) -> Result<(Meshes, Vec<RefusedObject>)> {
        let endpoints = addresses(texts.endpoints.as_deref())?;
        self.files.update(&texts.files);
        let (mut meshes, refused) = Meshes::of(self.files.objects(), before);
        for (node, addresses) in endpoints {
            for mesh in meshes.iter_mut() {
                let Some(spec) = mesh.nodes.get(&node) else {
                    continue;
                };
                let listeners = spec.listeners.iter();
                let all = listeners.map(|listener| (listener.port_mapping.port, addresses.clone()));
                mesh.endpoints.insert(node.clone(), all.collect());
            }
        }
        let refused = self.files.errors().chain(refused).collect();
        Ok((meshes, refused))
    }
}

// === impl Files ===

impl Files {
    /// Parses files that changed.
    fn update(&mut self, texts: &BTreeMap<String, Result<String, String>>) {
        self.by_name.retain(|name, _| texts.contains_key(name));
        for (name, text) in texts {
            let digest = match text {
                Ok(text) => xxh3_64(text.as_bytes()),
                Err(_) => 0,
            };
            let file = self.by_name.entry(name.clone()).or_default();
            if file.digest == digest && digest != 0 {
                continue;
            }
            file.digest = digest;
            match text.clone().and_then(|text| Manifest::read(&text)) {
                Ok(manifest) => {
                    file.manifest = manifest;
                    file.error = None;
                }
                Err(error) => file.error = Some(error),
            }
        }
    }

    fn objects(&self) -> impl Iterator<Item = &serde_json::Value> {
        self.by_name
            .values()
            .flat_map(|file| &file.manifest.objects)
    }

    fn errors(&self) -> impl Iterator<Item = RefusedObject> {
        let files = self.by_name.iter();
        files.filter_map(|(name, file)| Some(RefusedObject::file(name, file.error.clone()?)))
    }

    fn ignored(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for (kind, count) in self.by_name.values().flat_map(|file| &file.manifest.others) {
            *all.entry(kind.clone()).or_default() += count;
        }
        all
    }
}

// === impl Texts ===

impl Texts {
    /// A hash of all texts and errors; never 0, the initial value of `applied`.
    fn digest(&self) -> u64 {
        let mut digest = Xxh3::new();
        // The length separates texts: without it "ab" + "c" would equal "a" + "bc".
        let mut add = |text: &str| {
            digest.update(&text.len().to_le_bytes());
            digest.update(text.as_bytes());
        };
        for (name, text) in &self.files {
            add(name);
            match text {
                Ok(text) => add(text),
                Err(error) => add(error),
            }
        }
        add(self.endpoints.as_deref().unwrap_or_default());
        digest.digest().max(1)
    }
}

fn text(path: &Path) -> Result<String> {
    let name = || path.display().to_string();
    let file = fs::File::open(path).with_context(name)?;
    let mut text = String::new();
    // One byte more than allowed shows that the file is too large without reading all of it.
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    let bytes = read.with_context(name)? as u64;
    ensure!(
        bytes <= FILE_BYTES_MAX,
        "{}: more than {FILE_BYTES_MAX} bytes",
        name()
    );
    Ok(text)
}

fn addresses(text: Option<&str>) -> Result<Vec<(Key, Vec<SocketAddr>)>> {
    let by_node: BTreeMap<String, Vec<SocketAddr>> = match text {
        Some(text) => serde_saphyr::from_str(text).context("the endpoints")?,
        None => BTreeMap::new(),
    };
    let mut all = Vec::new();
    for (node, addresses) in by_node {
        let (namespace, name) = node
            .split_once('/')
            .with_context(|| format!("{node:?} is not NAMESPACE/NAME"))?;
        all.push((Key::new(namespace, name), addresses));
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
