//! `deploy/` as a reader of it sees it: rendered by kustomize, each manifest read strictly.
//!
//! ```text
//! deploy/kustomize ── kubectl kustomize ──> text ── tests-manifests ──> objects
//!   ── tests ──> held against the programs
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests_manifests::Object;

pub mod connections;
pub mod permissions;
pub mod pods;
pub mod policies;

/// Where `cargo xtask kubectl` puts one, relative to the workspace.
const KUBECTL: &str = "target/kubectl/bin/kubectl";
/// The first major version of kustomize that renders these manifests: components within components,
/// and patches as they are written.
const KUSTOMIZE_MIN: u32 = 5;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of a file of the workspace.
pub fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

/// Names of the folders in a folder of the workspace.
pub fn folders(path: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join(path)).with_context(|| path.to_owned())? {
        let entry = entry?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Renders a folder of the workspace and reads every manifest strictly.
pub fn render(folder: &str) -> Result<Vec<Object>> {
    let text = kustomize(&root().join(folder)).with_context(|| folder.to_owned())?;
    tests_manifests::check(&text).with_context(|| folder.to_owned())
}

/// Renders a kustomization that is not in a file, whose paths are relative to `deploy/kustomize`.
pub fn render_text(kustomization: &str) -> Result<Vec<Object>> {
    // Beside the tree: kustomize takes no absolute paths for components.
    let folder = tempfile::tempdir_in(root().join("deploy/kustomize"))?;
    fs::write(folder.path().join("kustomization.yaml"), kustomization)?;
    let text = kustomize(folder.path()).with_context(|| kustomization.to_owned())?;
    tests_manifests::check(&text).with_context(|| kustomization.to_owned())
}

fn kustomize(folder: &Path) -> Result<String> {
    let kubectl = kubectl()?;
    let output = Command::new(&kubectl)
        .arg("kustomize")
        .arg(folder)
        .output()
        .with_context(|| kubectl.display().to_string())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", errors.trim());
    // Warnings are of things that a later kustomize refuses.
    ensure!(errors.trim().is_empty(), "{}", errors.trim());
    String::from_utf8(output.stdout).context("not UTF-8")
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
            "NOTHING OF deploy/ CAN BE RENDERED: {} has a kustomize older than {KUSTOMIZE_MIN} (Debian's 1.20 has 2.0). \
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
