//! Whether images depend on their sources alone: built once more in another folder with another
//! home of cargo, and compared byte by byte.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::compile;
use crate::digest::Digest;

/// Where, relative to the workspace.
const FOLDER: &str = "target/images-again";

/// Builds the commit that is checked out in a clone, by `scripts/images` with `arguments`, and
/// fails if a file is not as in `images`. Takes some gigabytes.
pub fn run(root: &Path, images: &Path, arguments: &[String]) -> Result<()> {
    let folder = root.join(FOLDER);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let sources = folder.join("meshmeter");
    build(root, &folder, &sources, arguments).with_context(|| folder.display().to_string())?;
    let different = different(&digests(images)?, &digests(&sources.join("target/images"))?);
    ensure!(
        different.is_empty(),
        "another folder gives other bytes: {}",
        different.join(", ")
    );
    fs::remove_dir_all(&folder).context("remove what was built again")
}

fn build(root: &Path, folder: &Path, sources: &Path, arguments: &[String]) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut clone = Command::new("git");
    clone.args(["clone", "--quiet"]).arg(root).arg(sources);
    succeed(&mut clone)?;
    // The same compiler, without what it keeps of its runs.
    fs::create_dir_all(sources.join("target"))?;
    symlink(root.join("target/zig"), sources.join("target/zig"))?;
    let mut script = compile::without_others(Command::new("scripts/images"));
    script
        .current_dir(sources)
        .args(arguments)
        .env_remove("CARGO_TARGET_DIR")
        .env("CARGO_HOME", folder.join("home"))
        .env("ZIG_GLOBAL_CACHE_DIR", folder.join("zig"));
    succeed(&mut script)
}

fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_os_string();
    let status = command
        .status()
        .with_context(|| name.display().to_string())?;
    ensure!(status.success(), "{}: {status}", name.display());
    Ok(())
}

/// The digest of every file below a folder, by its path there.
pub fn digests(folder: &Path) -> Result<BTreeMap<String, Digest>> {
    let mut digests = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder)?.display().to_string();
                digests.insert(name, Digest::of(&fs::read(&path)?));
            }
        }
    }
    Ok(digests)
}

/// Files that are not the same in both, or in one only.
#[must_use]
pub fn different(one: &BTreeMap<String, Digest>, other: &BTreeMap<String, Digest>) -> Vec<String> {
    let mut names: Vec<_> = one.keys().chain(other.keys()).cloned().collect();
    names.sort();
    names.dedup();
    names.retain(|name| one.get(name) != other.get(name));
    names
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{different, digests};

    /// A byte that differs, and a file that only one build wrote, are named by their paths.
    #[test]
    fn each_difference_is_named() {
        let folders = ["one", "two"].map(|_| tempfile::tempdir().unwrap());
        for folder in &folders {
            fs::create_dir_all(folder.path().join("layout/blobs")).unwrap();
            fs::write(folder.path().join("layout/index.json"), "{}").unwrap();
        }
        let both = || [0, 1].map(|number: usize| digests(folders[number].path()).unwrap());
        let [one, two] = both();
        assert_eq!(one.len(), 1);
        assert!(different(&one, &two).is_empty());
        fs::write(folders[0].path().join("layout/index.json"), "{ }").unwrap();
        fs::write(folders[1].path().join("layout/blobs/more"), "").unwrap();
        let [one, two] = both();
        assert_eq!(
            different(&one, &two),
            ["layout/blobs/more", "layout/index.json"]
        );
    }
}
