//! `meshmeter-mesh prepare`: what the sidecar is to find in its volumes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The sidecar's resources file.
const RESOURCES: &str = include_str!("resources.yaml");

/// Flags.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with the modules, as the image has them.
    #[arg(long, value_name = "FOLDER", default_value = "/opt/meshmeter")]
    from: PathBuf,

    /// Folder to copy the modules to.
    #[arg(long, value_name = "FOLDER")]
    modules: PathBuf,

    /// Folder for the sidecar's resources file, resources.yaml.
    #[arg(long, value_name = "FOLDER")]
    config: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let from = || format!("--from {}", args.from.display());
    let mut copied = 0;
    for entry in fs::read_dir(&args.from).with_context(from)? {
        let file = entry?.path();
        let Some(name) = file.file_name().filter(|_| is_module(&file)) else {
            continue;
        };
        let to = args.modules.join(name);
        fs::copy(&file, &to).with_context(|| to.display().to_string())?;
        copied += 1;
    }
    ensure!(copied > 0, "{}: there is no *.wasm", from());
    let resources = args.config.join("resources.yaml");
    fs::write(&resources, RESOURCES).with_context(|| resources.display().to_string())?;
    tracing::info!(modules = copied, "prepared");
    Ok(())
}

fn is_module(file: &Path) -> bool {
    file.extension().is_some_and(|end| end == "wasm")
}
