//! The chart as one file, whose bytes depend on the chart alone and on where its images are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};

use crate::command;
use crate::version::Version;

/// The chart, relative to the workspace.
pub const CHART: &str = "deploy/chart";
/// What the tree says where a release says where its images and documents are.
const REGISTRY: &str = "registry.example.com/meshmeter";
const DOCUMENTS: &str = "https://example.com/meshmeter/docs";
/// Files that say so.
const PLACED: [&str; 2] = ["Chart.yaml", "values.yaml"];

/// Where a release is to be found.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// What the names of the images begin with.
    pub registry: &'a str,
    /// Where the sources are, if it was said.
    pub source: Option<&'a str>,
}

/// Packages the chart of the tree into `folder`, as `helm package` does. Each file in it has the
/// time `seconds` of the epoch: Helm takes it from the files.
pub fn package(
    root: &Path,
    place: Place<'_>,
    version: &Version,
    seconds: u64,
    folder: &Path,
) -> Result<PathBuf> {
    let stage = tempfile::tempdir().context("make a folder")?;
    let copy = stage.path().join("chart");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    stage_folder(&root.join(CHART), &copy, time)?;
    for name in PLACED {
        let file = copy.join(name);
        let text = fs::read_to_string(&file).context(name)?;
        fs::write(&file, placed(name, &text, place, version))?;
        File::options()
            .write(true)
            .open(&file)?
            .set_modified(time)?;
    }
    let mut helm = command::helm(root)?;
    helm.arg("package").arg(&copy).arg("--destination");
    command::output(helm.arg(folder))?;
    let package = folder.join(format!("meshmeter-{version}.tgz"));
    ensure!(package.is_file(), "helm made no {}", package.display());
    Ok(package)
}

fn placed(name: &str, text: &str, place: Place<'_>, version: &Version) -> String {
    let mut text = text.replace(REGISTRY, place.registry);
    if let Some(source) = place.source {
        let documents = format!("{source}/blob/{}/docs", version.tag());
        text = text.replace(DOCUMENTS, &documents);
        if name == "Chart.yaml" {
            text += &["home: ", source, "\nsources: [", source, "]\n"].concat();
        }
    }
    text
}

fn stage_folder(from: &Path, to: &Path, time: SystemTime) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            stage_folder(&entry.path(), &target, time)?;
        } else {
            fs::copy(entry.path(), &target)?;
            File::options()
                .write(true)
                .open(&target)?
                .set_modified(time)?;
        }
    }
    Ok(())
}
