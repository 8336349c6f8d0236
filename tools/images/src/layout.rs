//! An OCI layout: blobs by digest, and an index of named images; as a folder, or as an archive
//! which docker, that does not read `index.json` everywhere, loads by its `manifest.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;
use tar::{Builder, EntryType};

use crate::digest::Digest;
use crate::image::{Annotations, Descriptor, Image};
use crate::layer::header;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Blobs, and the named images that consist of them.
#[derive(Debug, Default)]
pub struct Layout {
    blobs: BTreeMap<Digest, Vec<u8>>,
    named: Vec<Descriptor>,
    docker: Vec<DockerImage>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: &'a [Descriptor],
    #[serde(skip_serializing_if = "Annotations::is_empty")]
    annotations: Annotations,
}

/// A line of `manifest.json`, as `docker save` writes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: [String; 1],
    layers: [String; 1],
}

// === impl Layout ===

impl Layout {
    /// An image of one platform under `name`, a whole reference with its tag.
    pub fn add(&mut self, name: &str, image: &Image) {
        self.keep(image);
        self.docker.push(DockerImage {
            config: image.config.digest.path(),
            repo_tags: [name.to_owned()],
            layers: [image.layer.digest.path()],
        });
        self.name(name, image.manifest.clone());
    }

    /// An image of several platforms under `name`: an index of its own. Returns its digest.
    pub fn add_all(
        &mut self,
        name: &str,
        images: &[Image],
        annotations: &Annotations,
    ) -> Result<Digest> {
        let manifests: Vec<_> = images.iter().map(|image| image.manifest.clone()).collect();
        let index = serde_json::to_vec(&Index {
            schema_version: 2,
            media_type: INDEX,
            manifests: &manifests,
            annotations: annotations.clone(),
        })?;
        for image in images {
            self.keep(image);
        }
        let descriptor = Descriptor::of(INDEX, &index);
        let digest = descriptor.digest.clone();
        self.blobs.insert(digest.clone(), index);
        self.name(name, descriptor);
        Ok(digest)
    }

    /// Every file of the layout, by path. `manifest.json` is among them if each image is of one
    /// platform: docker's form knows no other.
    pub fn files(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let index = Index {
            schema_version: 2,
            media_type: INDEX,
            manifests: &self.named,
            annotations: Annotations::new(),
        };
        let version = json!({"imageLayoutVersion": "1.0.0"});
        let mut files = BTreeMap::from([
            ("oci-layout".to_owned(), serde_json::to_vec(&version)?),
            ("index.json".to_owned(), serde_json::to_vec(&index)?),
        ]);
        if self.docker.len() == self.named.len() {
            let manifest = serde_json::to_vec(&self.docker)?;
            files.insert("manifest.json".to_owned(), manifest);
        }
        let blobs = self.blobs.iter();
        files.extend(blobs.map(|(digest, bytes)| (digest.path(), bytes.clone())));
        Ok(files)
    }

    /// The layout as one tar.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for folder in ["blobs/", "blobs/sha256/"] {
            let mut header = header(EntryType::Directory, 0, true);
            tar.append_data(&mut header, folder, &[][..])?;
        }
        for (path, bytes) in self.files()? {
            let mut header = header(EntryType::Regular, bytes.len(), false);
            tar.append_data(&mut header, path, &*bytes)?;
        }
        Ok(tar.into_inner()?)
    }

    /// The layout as a folder, in place of what was there.
    pub fn write(&self, folder: &Path) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        for (path, bytes) in self.files()? {
            let path = folder.join(path);
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn keep(&mut self, image: &Image) {
        let named = [&image.manifest, &image.config, &image.layer];
        for (descriptor, bytes) in named.into_iter().zip(&image.blobs) {
            self.blobs.insert(descriptor.digest.clone(), bytes.clone());
        }
    }

    /// skopeo finds an image by the first of these, containerd names what it imports by the second.
    fn name(&mut self, name: &str, mut descriptor: Descriptor) {
        for key in [
            "org.opencontainers.image.ref.name",
            "io.containerd.image.name",
        ] {
            descriptor
                .annotations
                .insert(key.to_owned(), name.to_owned());
        }
        self.named.push(descriptor);
    }
}
