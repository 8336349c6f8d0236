//! A folder of manifests, read again as it changes.
//!
//! ```text
//! folder ── texts (bounded) ── seen twice alike ──> Files (last good content) ──> meshes
//! ```
//!
//! A file that cannot be read, be it half written or larger than it may be, keeps what it held when
//! it could. Nothing is taken before it was seen twice alike, so that nobody's writing is taken for
//! written.

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
use crate::mesh::{Key, Meshes, RefusedObject};
use crate::metrics::Metrics;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Files of a folder at most, the bytes of one, and those of all together: ten thousand objects of
/// 800 bytes.
const FILES_MAX: usize = 1_000;
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const FOLDER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Other kinds that are named at most.
const OTHERS_TOLD_MAX: usize = 5;

/// A folder, and a file with addresses of pods: `{NAMESPACE/NAME of a VirtualNode: [ADDRESS:PORT]}`
/// as YAML.
#[derive(Clone, Debug)]
pub struct Folder {
    pub manifests: PathBuf,
    pub endpoints: Option<PathBuf>,
}

#[derive(Debug)]
pub struct Follower {
    folder: Folder,
    files: Files,
    /// What was seen last, and what is served.
    seen: u64,
    taken: u64,
    refused: Vec<RefusedObject>,
    others: BTreeMap<String, usize>,
    /// What the log said last of a folder that cannot be used.
    trouble: String,
}

/// What is in the files, by their names. Pure.
#[derive(Debug, Default)]
struct Files {
    by_name: BTreeMap<String, File>,
}

#[derive(Debug, Default)]
struct File {
    digest: u64,
    /// Of the last text that could be read.
    manifest: Manifest,
    /// What is wrong with the text that is there now.
    fault: Option<String>,
}

/// What a look at the folder saw.
#[derive(Debug, Default)]
struct Texts {
    /// The text of each file, or why there is none.
    files: BTreeMap<String, Result<String, String>>,
    endpoints: Option<String>,
}

// === impl Folder ===

impl Folder {
    /// Reads it for the first time: what is in it, and who follows it from then on.
    pub fn read(self) -> Result<(Follower, Meshes)> {
        let texts = self.texts()?;
        let mut follower = Follower {
            folder: self,
            files: Files::default(),
            seen: texts.digest(),
            taken: 0,
            refused: Vec::new(),
            others: BTreeMap::new(),
            trouble: String::new(),
        };
        let (meshes, _) = follower.meshes(&texts, &Meshes::default())?;
        Ok((follower, meshes))
    }

    fn texts(&self) -> Result<Texts> {
        let mut texts = Texts::default();
        let mut bytes = 0;
        for path in self.files()? {
            let text = text(&path).map_err(|error| format!("{error:#}"));
            bytes += text.as_ref().map_or(0, |text| text.len() as u64);
            ensure!(
                bytes <= FOLDER_BYTES_MAX,
                "{}: more than {FOLDER_BYTES_MAX} bytes of manifests",
                self.manifests.display()
            );
            texts.files.insert(path.display().to_string(), text);
        }
        texts.endpoints = self.endpoints.as_deref().map(text).transpose()?;
        Ok(texts)
    }

    /// The manifests, as `kubectl apply -f FOLDER` takes them.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let folder = &self.manifests;
        let name = || folder.display().to_string();
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).with_context(name)? {
            let path = entry.with_context(name)?.path();
            let end = path.extension().and_then(|end| end.to_str());
            if matches!(end, Some("yaml" | "yml" | "json")) {
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
    /// Follows the folder until `stop`. What is refused is logged once for each change; a change
    /// that cannot be read changes nothing.
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
                Ok(Err(error)) => self.tell(&format!("{error:#}")),
                Err(error) => tracing::error!(%error, "reading the manifests failed"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn look(&mut self, texts: &Texts, sender: &watch::Sender<Arc<Meshes>>, metrics: &Metrics) {
        let digest = texts.digest();
        let steady = std::mem::replace(&mut self.seen, digest) == digest;
        if !steady || digest == self.taken {
            return;
        }
        self.taken = digest;
        let before = Arc::clone(&sender.borrow());
        match self.meshes(texts, &before) {
            Ok((meshes, refused)) => {
                metrics.resources(&meshes, &refused);
                events::log(&meshes, &refused, &self.refused);
                self.refused = refused;
                self.tell_others();
                for mesh in meshes.iter() {
                    tracing::info!(
                        mesh = mesh.name,
                        nodes = mesh.nodes.len(),
                        services = mesh.services.len(),
                        "mesh read"
                    );
                }
                self.trouble.clear();
                sender.send_replace(Arc::new(meshes));
            }
            Err(error) => self.tell(&format!("{error:#}")),
        }
    }

    /// Says once why nothing changes.
    fn tell(&mut self, trouble: &str) {
        if self.trouble != trouble {
            tracing::warn!(
                error = trouble,
                "manifests invalid; keeping the last good state"
            );
            trouble.clone_into(&mut self.trouble);
        }
    }

    /// Says how much in the folder is nothing of App Mesh: what has a slip in its kind is among it.
    fn tell_others(&mut self) {
        let others = self.files.others();
        if others == self.others {
            return;
        }
        let name = |kind: &String| if kind.is_empty() { "no kind" } else { kind }.to_owned();
        let kinds: Vec<_> = others.keys().take(OTHERS_TOLD_MAX).map(name).collect();
        tracing::info!(
            object.count = others.values().sum::<usize>(),
            kinds = kinds.join(", "),
            "ignored objects that are not App Mesh resources"
        );
        self.others = others;
    }

    fn meshes(&mut self, texts: &Texts, before: &Meshes) -> Result<(Meshes, Vec<RefusedObject>)> {
        let endpoints = addresses(texts.endpoints.as_deref())?;
        self.files.take(&texts.files);
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
        let faults = self.files.faults().chain(refused).collect();
        Ok((meshes, faults))
    }
}

// === impl Files ===

impl Files {
    /// Takes over what was seen. Only what changed is read again.
    fn take(&mut self, texts: &BTreeMap<String, Result<String, String>>) {
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
                    file.fault = None;
                }
                Err(fault) => file.fault = Some(fault),
            }
        }
    }

    fn objects(&self) -> impl Iterator<Item = &serde_json::Value> {
        self.by_name
            .values()
            .flat_map(|file| &file.manifest.objects)
    }

    fn faults(&self) -> impl Iterator<Item = RefusedObject> {
        let faulty = self.by_name.iter();
        faulty.filter_map(|(name, file)| Some(RefusedObject::file(name, file.fault.clone()?)))
    }

    fn others(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for (kind, count) in self.by_name.values().flat_map(|file| &file.manifest.others) {
            *all.entry(kind.clone()).or_default() += count;
        }
        all
    }
}

// === impl Texts ===

impl Texts {
    /// Changes with anything that was seen; never 0, which is nothing.
    fn digest(&self) -> u64 {
        let mut digest = Xxh3::new();
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
