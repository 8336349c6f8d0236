//! `meshmeter-mesh origin`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mesh_origin::folder::Folder;
use mesh_origin::server::Origin;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::interposer::write;
use crate::listen::Listen;

/// Flags.
#[expect(clippy::doc_markdown, reason = "these are texts of --help")]
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Where Envoys or interposers connect: ADDRESS:PORT or unix:///PATH.
    #[arg(long, env = "MESHMETER_LISTEN", default_value = "127.0.0.1:18000")]
    listen: Listen,

    /// Folder of manifests (*.yaml, *.yml) with App Mesh custom resources, read again as they change.
    #[arg(long, env = "MESHMETER_MANIFESTS", value_name = "FOLDER")]
    manifests: PathBuf,

    /// File with the addresses of pods, where host names are not to be asked for: a map of `NAMESPACE/VIRTUALNODE` to a
    /// list of ADDRESS:PORT, as YAML.
    #[arg(long, env = "MESHMETER_ENDPOINTS_FILE", value_name = "FILE")]
    endpoints_file: Option<PathBuf>,

    /// File to write the addresses to once it listens.
    #[arg(long, env = "MESHMETER_ADDRESSES_FILE", value_name = "FILE")]
    addresses_file: Option<PathBuf>,
}

/// Runs until `stop`.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> Result<()> {
    let folder = Folder {
        manifests: args.manifests,
        endpoints: args.endpoints_file,
    };
    // What is refused is said by whoever follows the folder from here on.
    let (mesh, _) = folder.read().context("--manifests, --endpoints-file")?;
    let (sender, mesh) = watch::channel(Arc::new(mesh));
    tokio::spawn(folder.follow(sender, stop.clone()));
    let bound = args.listen.bind().await?;
    if let Some(file) = &args.addresses_file {
        write(file, &json!({"xds": bound.address()}))?;
    }
    tracing::info!("listening");
    bound
        .serve(Server::builder().add_service(Origin::new(mesh)), stop)
        .await
}
