//! Our images: which files each holds and how it runs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use crate::image::{Annotations, Contents, Runs};
use crate::layer::{File, Files};
use crate::roots;

/// By number: of a name the kubelet cannot tell that it is not root.
pub const USER: &str = "65532:65532";
const PROGRAMS: &str = "/usr/local/bin";
/// The path that Debian has, which libraries also try without being told.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where scanners look for what was built into programs.
const SBOM: &str = "/usr/share/sbom";
const MIB: usize = 1024 * 1024;

/// One of our images.
#[derive(Debug)]
pub struct Ours {
    /// The last part of its name in a registry.
    pub name: &'static str,
    description: &'static str,
    pub program: Option<Program>,
    /// Modules by their file under `target/wasm`, and where each goes.
    pub modules: &'static [(&'static str, &'static str)],
    /// What a node may have to pull, compressed, in bytes.
    pub compressed_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    pub package: &'static str,
    pub file: &'static str,
}

pub const IMAGES: [Ours; 3] = [
    Ours {
        name: "aggregator",
        description: "meshmeter: requests per second of every pod for the HPA",
        program: Some(Program {
            package: "aggregator",
            file: "meshmeter",
        }),
        modules: &[],
        compressed_max: 12 * MIB,
    },
    Ours {
        name: "mesh",
        description: "meshmeter's xDS proxy, control plane, injector and modules",
        program: Some(Program {
            package: "mesh",
            file: "meshmeter-mesh",
        }),
        // Where the injector and `meshmeter-mesh prepare` look for them.
        modules: &[
            (
                "meshmeter-filter.wasm",
                "/opt/meshmeter/meshmeter-filter.wasm",
            ),
            ("meshmeter-log.wasm", "/opt/meshmeter/meshmeter-log.wasm"),
        ],
        compressed_max: 12 * MIB,
    },
    // As Istio and Envoy Gateway pull a module: one layer with this file.
    Ours {
        name: "filter",
        description: "meshmeter's filter for Envoy",
        program: None,
        modules: &[("meshmeter-filter.wasm", "/plugin.wasm")],
        compressed_max: MIB / 8,
    },
];

/// What was built: programs and modules by the names of their files.
pub type Built = BTreeMap<&'static str, Vec<u8>>;

/// Which sources the images are of.
#[derive(Clone, Debug)]
pub struct Origin {
    pub version: &'static str,
    /// The commit, if it is known.
    pub revision: Option<String>,
    /// The commit's time, as RFC 3339 has it.
    pub created: String,
    /// Where the sources are, if it was said.
    pub source: Option<String>,
}

// === impl Program ===

impl Program {
    /// Where it is in the image.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{PROGRAMS}/{}", self.file)
    }
}

// === impl Ours ===

impl Ours {
    /// The image of what was built.
    pub fn contents(&self, built: &Built, sbom: &str, origin: &Origin) -> Result<Contents> {
        let mut files = Files::new();
        let mut add = |path: &str, bytes: Vec<u8>, is_program| {
            let path = path.trim_start_matches('/').to_owned();
            files.insert(path, File { bytes, is_program });
        };
        let get = |file: &str| {
            let bytes = built.get(file).cloned();
            bytes.with_context(|| format!("{file} was not built"))
        };
        for (file, path) in self.modules {
            add(path, get(file)?, false);
        }
        let mut runs = Runs::default();
        if let Some(program) = self.program {
            add(&program.path(), get(program.file)?, true);
            add(ROOTS, roots::pem().into_bytes(), false);
            let path = format!("{SBOM}/{}.cdx.json", self.name);
            add(&path, sbom.as_bytes().to_vec(), false);
            runs = Runs {
                user: USER.to_owned(),
                env: vec![format!("PATH={PROGRAMS}"), format!("SSL_CERT_FILE={ROOTS}")],
                entrypoint: vec![program.path()],
            };
        }
        Ok(Contents {
            files,
            runs,
            annotations: self.annotations(origin),
            created: origin.created.clone(),
        })
    }

    /// What the image says of itself.
    pub fn annotations(&self, origin: &Origin) -> Annotations {
        let known = [
            ("title", Some(format!("meshmeter {}", self.name))),
            ("description", Some(self.description.to_owned())),
            ("version", Some(origin.version.to_owned())),
            ("revision", origin.revision.clone()),
            ("created", Some(origin.created.clone())),
            ("source", origin.source.clone()),
            ("licenses", Some(env!("CARGO_PKG_LICENSE").to_owned())),
        ];
        known
            .into_iter()
            .filter_map(|(key, value)| Some((format!("org.opencontainers.image.{key}"), value?)))
            .collect()
    }
}
