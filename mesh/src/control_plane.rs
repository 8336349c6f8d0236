//! `meshmeter-mesh control-plane`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use common_http::descriptors::Descriptors;
use common_http::{Limits, pages};
use mesh_control_plane::cluster::{Cluster, NAMESPACES_MAX, Options};
use mesh_control_plane::folder::Folder;
use mesh_control_plane::mesh::Meshes;
use mesh_control_plane::metrics::Metrics;
use mesh_control_plane::server::{ControlPlane, REQUEST_BYTES_MAX};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::acm::AcmArgs;
use crate::admin::{self, Ready};
use crate::bounded::Bounded;
use crate::budget::{self, MemoryArgs};
use crate::listen::Listen;
use crate::{clock, json_file};

mod lint;

#[expect(clippy::doc_markdown, reason = "these are texts of --help")]
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Address for Envoys and xDS proxies: ADDRESS:PORT or unix:///PATH.
    #[arg(
        long,
        env = "MESHMETER_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:18000"
    )]
    listen: Listen,

    /// Address and port of /metrics and /readyz (HTTP).
    #[arg(
        long,
        env = "MESHMETER_ADMIN_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:18001"
    )]
    admin_listen: SocketAddr,

    /// Folder of manifests (*.yaml, *.yml, *.json) with App Mesh custom resources, reloaded when
    /// they change.
    #[arg(
        long,
        env = "MESHMETER_MANIFESTS",
        value_name = "FOLDER",
        required_unless_present = "cluster",
        conflicts_with = "cluster"
    )]
    manifests: Option<PathBuf>,

    /// Watch the custom resources, Services and EndpointSlices of a Kubernetes cluster.
    #[arg(long, env = "MESHMETER_CLUSTER")]
    cluster: bool,

    /// With --cluster: kubeconfig file. Default: the pod's service account.
    #[arg(
        long,
        env = "MESHMETER_KUBECONFIG",
        value_name = "FILE",
        conflicts_with = "manifests"
    )]
    kubeconfig: Option<PathBuf>,

    /// With --cluster: namespace to watch instead of all. May be given several times, or once with
    /// commas. Meshes and Namespaces are watched in any case.
    #[arg(
        long,
        env = "MESHMETER_WATCH_NAMESPACE",
        value_name = "NAMESPACE",
        value_delimiter = ',',
        conflicts_with = "manifests"
    )]
    watch_namespace: Vec<String>,

    /// With --manifests: YAML file with endpoints to use instead of DNS: a map of
    /// `NAMESPACE/VIRTUALNODE` to a list of ADDRESS:PORT.
    #[arg(
        long,
        env = "MESHMETER_ENDPOINTS_FILE",
        value_name = "FILE",
        conflicts_with = "cluster"
    )]
    endpoints_file: Option<PathBuf>,

    #[command(flatten)]
    acm: AcmArgs,

    #[command(flatten)]
    memory: MemoryArgs,

    /// File to write the listeners' addresses to (JSON): that of /metrics and /readyz at once, the
    /// other once it is open.
    #[arg(long, env = "MESHMETER_ADDRESSES_FILE", value_name = "FILE")]
    addresses_file: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Say of each App Mesh resource in FOLDER, and of each of its fields, what would become of it.
    /// Exit code: 0 if everything is served, 1 if something is refused, 2 if something cannot be
    /// read.
    Lint(lint::Args),
}

/// Runs until `stop`; with a subcommand, until that has its result.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> Result<ExitCode> {
    match &args.command {
        Some(Command::Lint(args)) => Ok(lint::run(args)),
        None => follow(args, stop).await.map(|()| ExitCode::SUCCESS),
    }
}

async fn follow(args: Args, stop: CancellationToken) -> Result<()> {
    let memory = args.memory.control_plane()?;
    let mut registry = Registry::with_prefix("meshmeter_mesh");
    let metrics = Metrics::register(&mut registry);
    let connections = common_http::Metrics::register(&mut registry);
    let limits = Limits::of(memory.streams);
    let [limits, admin_limits] = Descriptors::raise().share([limits, pages::settings().limits]);
    if let Some(manifests) = args.manifests.clone() {
        let folder = Folder {
            manifests,
            endpoints: args.endpoints_file.clone(),
        };
        // Refused resources are logged by the follower, on its first poll.
        let read = folder
            .read(args.acm.read()?)
            .context("--manifests, --endpoints-file")?;
        let (follower, meshes) = read;
        let (sender, meshes) = watch::channel(Arc::new(meshes));
        tokio::spawn(follower.follow(sender, metrics.clone(), stop.clone()));
        let ready: Ready = Arc::new(|| Ok(()));
        let admin = admin::start(
            args.admin_listen,
            registry,
            (admin_limits, &connections),
            ready,
            stop.clone(),
        );
        let admin = admin.await?;
        return serve(
            &args,
            &memory,
            meshes,
            metrics,
            admin,
            (limits, connections),
            stop,
        )
        .await;
    }
    let cluster = watch_cluster(&args, &metrics, &stop).await?;
    let control_plane = registry.sub_registry_with_prefix("control_plane");
    control_plane.register_collector(Box::new(cluster.gauges()));
    let missing = cluster.missing();
    let ready: Ready = Arc::new(move || missing().map_or(Ok(()), Err));
    let admin = admin::start(
        args.admin_listen,
        registry,
        (admin_limits, &connections),
        ready,
        stop.clone(),
    );
    let admin = admin.await?;
    if let Some(file) = &args.addresses_file {
        json_file::replace(file, "--addresses-file", &json!({"admin": admin}))?;
    }
    tracing::info!(%admin, "watching the Kubernetes cluster");
    // Envoys cannot connect before all lists are read: an incomplete mesh would remove resources.
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        ready = cluster.ready() => ensure!(ready, "task that builds meshes stopped"),
    }
    let meshes = cluster.meshes.clone();
    tokio::select! {
        served = serve(&args, &memory, meshes, metrics, admin, (limits, connections), stop.clone()) => served,
        () = cluster.ended() => {
            ensure!(stop.is_cancelled(), "watch task stopped");
            Ok(())
        }
    }
}

async fn watch_cluster(
    args: &Args,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<Cluster> {
    let namespaces = args.watch_namespace.clone();
    ensure!(
        namespaces.len() <= NAMESPACES_MAX,
        "--watch-namespace: at most {NAMESPACES_MAX} are allowed"
    );
    let options = Options {
        kubeconfig: args.kubeconfig.clone(),
        namespaces,
        acm: args.acm.read()?,
        ..Options::default()
    };
    let cluster = Cluster::start(&options, metrics, &clock::both(), stop).await;
    cluster.context("--cluster, --kubeconfig")
}

async fn serve(
    args: &Args,
    memory: &budget::ControlPlane,
    meshes: watch::Receiver<Arc<Meshes>>,
    metrics: Metrics,
    admin: SocketAddr,
    connections: (Limits, common_http::Metrics),
    stop: CancellationToken,
) -> Result<()> {
    let bound = args.listen.bind().await?;
    if let Some(file) = &args.addresses_file {
        let addresses = json!({"xds": bound.address(), "admin": admin});
        json_file::replace(file, "--addresses-file", &addresses)?;
    }
    tracing::info!(%admin, "listening");
    let control_plane = ControlPlane::new(meshes, metrics, memory.streams);
    let control_plane = Bounded::new(control_plane, memory.requests, REQUEST_BYTES_MAX);
    let (limits, connections) = connections;
    bound.serve(control_plane, limits, &connections, stop).await;
    Ok(())
}
