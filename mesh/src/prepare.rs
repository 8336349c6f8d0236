//! `meshmeter-mesh prepare`: fills the sidecar's volumes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

mod bootstrap;

const RESOURCES: &str = include_str!("resources.yaml");

/// Flags.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with the image's modules.
    #[arg(long, value_name = "FOLDER", default_value = "/opt/meshmeter")]
    from: PathBuf,

    /// Folder to copy the modules to; none are copied without it.
    #[arg(long, value_name = "FOLDER")]
    modules: Option<PathBuf>,

    /// Folder for the sidecar's files; resources.yaml is always written.
    #[arg(long, value_name = "FOLDER")]
    config: PathBuf,

    /// Write token.json, by which Envoy reads a token from this file and reloads it when it is
    /// replaced.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "/var/run/secrets/meshmeter/token"
    )]
    token_secret: Option<PathBuf>,

    /// Write envoy.yaml, the whole bootstrap of a stock Envoy with this node ID.
    #[arg(long, value_name = "NODE-ID")]
    bootstrap: Option<String>,

    /// Unix socket of an SDS server: a cluster of that bootstrap, with the name that App Mesh's
    /// agent gave it.
    #[arg(long, value_name = "PATH", requires = "bootstrap")]
    sds_socket: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let copied = match &args.modules {
        Some(to) => copy(&args.from, to)?,
        None => 0,
    };
    let write = |name: &str, text: &str| {
        let file = args.config.join(name);
        fs::write(&file, text).with_context(|| file.display().to_string())
    };
    write("resources.yaml", RESOURCES)?;
    if let Some(token) = &args.token_secret {
        write("token.json", &token_secret(token)?)?;
    }
    if let Some(node_id) = &args.bootstrap {
        write(
            "envoy.yaml",
            &bootstrap::yaml(node_id, RESOURCES, args.sds_socket.as_deref())?,
        )?;
    }
    tracing::info!(modules = copied, "prepared");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<usize> {
    let name_of_from = || format!("--from {}", from.display());
    let mut copied = 0;
    for entry in fs::read_dir(from).with_context(name_of_from)? {
        let file = entry?.path();
        let Some(name) = file.file_name().filter(|_| is_module(&file)) else {
            continue;
        };
        let to = to.join(name);
        // Not `fs::copy`, which copies the image's file mode: if the init container runs again, it
        // could not overwrite a read-only file.
        let module = fs::read(&file).with_context(|| file.display().to_string())?;
        fs::write(&to, module).with_context(|| to.display().to_string())?;
        copied += 1;
    }
    ensure!(copied > 0, "{}: no *.wasm found", name_of_from());
    Ok(copied)
}

fn is_module(file: &Path) -> bool {
    file.extension().is_some_and(|end| end == "wasm")
}

/// An SDS file. The kubelet replaces a token by renaming a symbolic link in its folder, so Envoy
/// has to watch the folder.
fn token_secret(token: &Path) -> Result<String> {
    let folder = token.parent().filter(|folder| folder.is_absolute());
    let folder =
        folder.with_context(|| format!("--token-secret {}: not absolute", token.display()))?;
    let secret = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "token",
        "generic_secret": {"secret": {"filename": token, "watched_directory": {"path": folder}}},
    }]});
    Ok(secret.to_string())
}
