//! An image of one layer: manifest, configuration, layer, as the OCI image specification 1.1 has
//! them.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::digest::Digest;
use crate::layer::{self, Files};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Keys as `org.opencontainers.image.title`, in the order of their names.
pub type Annotations = BTreeMap<String, String>;

/// An image before it is packed.
#[derive(Clone, Debug)]
pub struct Contents {
    pub files: Files,
    pub runs: Runs,
    pub annotations: Annotations,
    /// As RFC 3339 has it.
    pub created: String,
}

/// What runs in a container of the image, and how; all empty for an image that only holds files.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Runs {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
}

/// What a manifest or an index names something by.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub(crate) media_type: &'static str,
    pub digest: Digest,
    pub size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(skip_serializing_if = "Annotations::is_empty")]
    pub(crate) annotations: Annotations,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Platform {
    /// Go's name of it: `amd64`.
    pub architecture: &'static str,
    pub os: &'static str,
}

/// Blobs, and what names them.
#[derive(Clone, Debug)]
pub struct Image {
    pub platform: Platform,
    pub manifest: Descriptor,
    pub config: Descriptor,
    pub layer: Descriptor,
    /// Those three.
    pub(crate) blobs: [Vec<u8>; 3],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'static str,
    config: &'a Descriptor,
    layers: [&'a Descriptor; 1],
    annotations: &'a Annotations,
}

#[derive(Serialize)]
struct Config<'a> {
    created: &'a str,
    #[serde(flatten)]
    platform: Platform,
    #[serde(rename = "config")]
    defaults: Labelled<'a>,
    rootfs: RootFs<'a>,
    history: [History<'a>; 1],
}

#[derive(Serialize)]
struct Labelled<'a> {
    #[serde(flatten)]
    runs: &'a Runs,
    #[serde(rename = "Labels")]
    labels: &'a Annotations,
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: [&'a Digest; 1],
}

#[derive(Serialize)]
struct History<'a> {
    created: &'a str,
    created_by: &'static str,
}

// === impl Contents ===

impl Contents {
    /// The image for one platform.
    pub fn pack(&self, platform: Platform) -> Result<Image> {
        let packed = layer::pack(&self.files)?;
        let config = serde_json::to_vec(&Config {
            created: &self.created,
            platform,
            defaults: Labelled {
                runs: &self.runs,
                labels: &self.annotations,
            },
            rootfs: RootFs {
                kind: "layers",
                diff_ids: [&packed.diff_id],
            },
            history: [History {
                created: &self.created,
                created_by: "scripts/images",
            }],
        })?;
        let (config_at, layer_at) = (
            Descriptor::of(CONFIG, &config),
            Descriptor::of(LAYER, &packed.bytes),
        );
        let manifest = serde_json::to_vec(&Manifest {
            schema_version: 2,
            media_type: MANIFEST,
            config: &config_at,
            layers: [&layer_at],
            annotations: &self.annotations,
        })?;
        let mut manifest_at = Descriptor::of(MANIFEST, &manifest);
        manifest_at.platform = Some(platform);
        Ok(Image {
            platform,
            manifest: manifest_at,
            config: config_at,
            layer: layer_at,
            blobs: [manifest, config, packed.bytes],
        })
    }
}

// === impl Descriptor ===

impl Descriptor {
    pub(crate) fn of(media_type: &'static str, bytes: &[u8]) -> Self {
        Self {
            media_type,
            digest: Digest::of(bytes),
            size: bytes.len(),
            platform: None,
            annotations: Annotations::new(),
        }
    }
}
