//! The kubectl plugin as krew installs it: an archive for each architecture with the program under
//! its plugin's name, and the manifest that names them with their digests.
//!
//! Linux only: nothing is built for macOS and Windows, so that the manifest has no platform of
//! theirs and krew says so to whoever asks.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use tools_images::compile::TARGETS;
use tools_images::digest::Digest;
use tools_images::layer::{self, File, Files};

use crate::version::Version;

/// The manifest, among the files of a release. krew's index wants it by the plugin's name.
pub const MANIFEST: &str = "krew-meshmeter.yaml";
/// The program's name in the archive: kubectl finds its plugins by such names.
pub const PROGRAM: &str = "kubectl-meshmeter";
const LICENSE: &str = "LICENSE";

/// An archive in the folder of a release.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Archive {
    pub architecture: &'static str,
    pub name: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// Writes archives of the programs that were built in cargo's folder `target` for `architectures`,
/// all of them if it is empty; and if it is known where they will be, the manifest.
pub fn write(
    target: &Path,
    architectures: &[String],
    license: &[u8],
    source: Option<&str>,
    version: &Version,
    folder: &Path,
) -> Result<Vec<Archive>> {
    let wanted = TARGETS.iter().filter(|built| {
        let architecture = built.platform.architecture;
        architectures.is_empty() || architectures.iter().any(|one| one == architecture)
    });
    let archives = wanted.map(|built| {
        let program = target.join(built.triple).join("release/meshmeter");
        let program = fs::read(&program).with_context(|| program.display().to_string())?;
        pack(
            built.platform.architecture,
            program,
            license,
            version,
            folder,
        )
    });
    let archives = archives.collect::<Result<Vec<_>>>()?;
    if let Some(source) = source {
        let manifest = manifest(source, version, &archives);
        fs::write(folder.join(MANIFEST), manifest).context(MANIFEST)?;
    }
    Ok(archives)
}

/// Writes the archive for one architecture; its bytes depend on what is in it alone.
pub fn pack(
    architecture: &'static str,
    program: Vec<u8>,
    license: &[u8],
    version: &Version,
    folder: &Path,
) -> Result<Archive> {
    let file = |bytes: Vec<u8>, is_program| File { bytes, is_program };
    let files = Files::from([
        (PROGRAM.to_owned(), file(program, true)),
        (LICENSE.to_owned(), file(license.to_vec(), false)),
    ]);
    let bytes = layer::pack(&files)?.bytes;
    let name = format!("{PROGRAM}-{version}-linux-{architecture}.tar.gz");
    fs::write(folder.join(&name), &bytes).with_context(|| name.clone())?;
    let digest = Digest::of(&bytes).to_string();
    Ok(Archive {
        architecture,
        name,
        sha256: digest.trim_start_matches("sha256:").to_owned(),
    })
}

/// The manifest of archives that are attached to the release of `source`.
#[must_use]
pub fn manifest(source: &str, version: &Version, archives: &[Archive]) -> String {
    let tag = version.tag();
    let mut text = format!(
        "apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: meshmeter
spec:
  version: {tag}
  homepage: {source}
  shortDescription: Request rates of pods, and why an HPA scaled
  description: |
    Shows what meshmeter's Envoy filter counts of each pod, workload and service,
    explains in sentences why an autoscaler has as many replicas as it has, and
    checks an installation. It needs meshmeter in the cluster.
  caveats: |
    Linux only, on amd64 and arm64: nothing is built for macOS and Windows.
    Begin with: kubectl meshmeter check
  platforms:
"
    );
    for archive in archives {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "  - selector:
      matchLabels:
        os: linux
        arch: {}
    uri: {source}/releases/download/{tag}/{}
    sha256: {}
    bin: {PROGRAM}
",
            archive.architecture, archive.name, archive.sha256
        );
    }
    text
}
