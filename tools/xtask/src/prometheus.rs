//! `cargo xtask prometheus`: Debian's Prometheus and promtool under `target/`, not installed and
//! without its service.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host::{on_path, run, succeeds};

const PACKAGE: &str = "prometheus";
/// Where it goes, relative to the workspace.
const FOLDER: &str = "target/prometheus";

/// Makes sure that there is one, on PATH or under `target/`.
pub(crate) fn ensure(root: &Path) -> Result<()> {
    let folder = root.join(FOLDER);
    let binary = folder.join("usr/bin/prometheus");
    if on_path(PACKAGE).is_some() || binary.exists() {
        println!("Prometheus is there");
        return Ok(());
    }
    if on_path("apt-get").is_none() || on_path("dpkg-deb").is_none() {
        bail!("no {PACKAGE} on PATH, and no apt-get to fetch Debian's");
    }
    fs::create_dir_all(&folder)?;
    let download = || {
        let mut command = Command::new("apt-get");
        command
            .args(["download", "--quiet", PACKAGE])
            .current_dir(&folder)
            .stdin(Stdio::null());
        command
    };
    if !succeeds(&mut download()) {
        // The lists may be old or absent, as in a container image.
        run(Command::new("apt-get").args(["update", "--quiet"]))?;
        run(&mut download())?;
    }
    let packages = fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
    let package = packages
        .iter()
        .map(fs::DirEntry::path)
        .find(|path| path.extension().is_some_and(|e| e == "deb"));
    let package = package.context("apt-get left no package")?;
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(&package)
        .arg(&folder))?;
    fs::remove_file(&package)?;
    println!("{FOLDER}/usr/bin/prometheus");
    Ok(())
}
