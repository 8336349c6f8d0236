//! The files of a release, in one folder: what is attached to it, `SHA256SUMS` of that, and the OCI
//! layout that goes into a registry.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use tools_images::digest::Digest;

/// In the form of `sha256sum`.
pub const SUMS: &str = "SHA256SUMS";
/// The layout of all images, a folder.
pub const LAYOUT: &str = "layout";
/// The digests of what is in the layout, by name.
pub const DIGESTS: &str = "digests.txt";
const MODULES: [&str; 2] = ["meshmeter-filter.wasm", "meshmeter-log.wasm"];

/// Collects what `scripts/images` made in `images` and the modules in `wasm`; what else is to be in
/// the release has to be in `folder` before [`sum`] is called.
pub fn collect(images: &Path, wasm: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(images).with_context(|| images.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    for module in MODULES {
        fs::copy(wasm.join(module), folder.join(module)).context(module)?;
    }
    copy_folder(&images.join(LAYOUT), &folder.join(LAYOUT))
}

/// Writes the checksums of what is in the folder.
pub fn sum(folder: &Path) -> Result<()> {
    let sums = sums(folder)?;
    fs::write(folder.join(SUMS), sums).context(SUMS)
}

/// Fails unless the files are those that were summed, no more and no fewer.
pub fn verify(folder: &Path) -> Result<()> {
    let written = folder.join(SUMS);
    let written = fs::read_to_string(&written)
        .with_context(|| format!("{}: `cargo xtask release build`", written.display()))?;
    let found = sums(folder)?;
    let differ = written.lines().filter(|line| !found.contains(line));
    let more = found.lines().filter(|line| !written.contains(line));
    let differ: Vec<_> = differ.chain(more).collect();
    ensure!(
        differ.is_empty(),
        "{SUMS} and the files beside it disagree:\n{}",
        differ.join("\n")
    );
    Ok(())
}

/// Names of the files that are attached to a release.
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The digest of the image whose name ends so, and that name: of all its architectures.
pub fn digest(folder: &Path, ending: &str) -> Result<(String, String)> {
    let text = fs::read_to_string(folder.join(DIGESTS)).context(DIGESTS)?;
    for line in text.lines() {
        // Lines of one architecture go on with it.
        if let Some((digest, name)) = line.split_once(' ')
            && name.ends_with(ending)
        {
            return Ok((digest.to_owned(), name.to_owned()));
        }
    }
    bail!("{DIGESTS} has no image of all architectures whose name ends with {ending}")
}

fn sums(folder: &Path) -> Result<String> {
    let mut sums = String::new();
    for name in names(folder)?.iter().filter(|name| *name != SUMS) {
        let digest = Digest::of(&fs::read(folder.join(name))?).to_string();
        let digits = digest.trim_start_matches("sha256:");
        sums += &[digits, "  ", name, "\n"].concat();
    }
    Ok(sums)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
