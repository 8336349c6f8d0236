//! `deploy/` as a reader of it sees it: rendered, each manifest read strictly.
//!
//! ```text
//! deploy/chart    ── helm template ─────┐
//! deploy/examples ── kubectl kustomize ─┴> text ── tests-manifests ──> objects
//!   ── tests ──> held against the programs
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests_manifests::Object;

pub mod connections;
pub mod helm;
pub mod permissions;
pub mod pods;
pub mod policies;

/// Where `cargo xtask kubectl` puts one, relative to the workspace.
const KUBECTL: &str = "target/kubectl/bin/kubectl";
/// The first major version of kustomize that renders the examples.
const KUSTOMIZE_MIN: u32 = 5;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of a file of the workspace.
pub fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

/// Renders a folder of the workspace by kustomize and reads every manifest strictly.
pub fn kustomize(folder: &str) -> Result<Vec<Object>> {
    let kubectl = kubectl()?;
    let output = Command::new(&kubectl)
        .arg("kustomize")
        .arg(root().join(folder))
        .output()
        .with_context(|| kubectl.display().to_string())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{folder}: {}", errors.trim());
    // Warnings are of things that a later kustomize refuses.
    ensure!(errors.trim().is_empty(), "{folder}: {}", errors.trim());
    let text = String::from_utf8(output.stdout).context("not UTF-8")?;
    tests_manifests::check(&text).with_context(|| folder.to_owned())
}

/// A kubectl with a kustomize that is new enough.
fn kubectl() -> Result<PathBuf> {
    let installed = root().join(KUBECTL);
    let kubectl = if installed.is_file() {
        installed
    } else {
        PathBuf::from("kubectl")
    };
    let output = Command::new(&kubectl)
        .args(["version", "--client"])
        .output()
        .with_context(|| format!("{}: `cargo xtask kubectl` gets one", kubectl.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let major = text
        .lines()
        .find_map(|line| line.strip_prefix("Kustomize Version: v"))
        .and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    if major.is_none_or(|major| major < KUSTOMIZE_MIN) {
        bail!(
            "NOTHING OF deploy/examples CAN BE RENDERED: {} has a kustomize older than {KUSTOMIZE_MIN} (Debian's 1.20 has 2.0). \
             `cargo xtask kubectl` gets a newer one.",
            kubectl.display()
        );
    }
    Ok(kubectl)
}

/// The object of that kind and name.
pub fn find<'a>(objects: &'a [Object], kind: &str, name: &str) -> Result<&'a Object> {
    let mut found = objects
        .iter()
        .filter(|object| object.kind == kind && object.name == name);
    found.next().with_context(|| format!("no {kind} {name}"))
}

/// The items of a list; none if there is no list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The text of a value; empty if it is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
