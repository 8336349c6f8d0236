//! `meshmeter-mesh xds-proxy`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use common_http::descriptors::Descriptors;
use common_http::{Limits, pages};
use common_kubernetes::events::Object;
use common_names::Role;
use mesh_core::injection::Directions;
use mesh_xds_proxy::REQUEST_BYTES_MAX;
use mesh_xds_proxy::events::EventSender;
use mesh_xds_proxy::metrics::Metrics;
use mesh_xds_proxy::modules::{Module, Modules};
use mesh_xds_proxy::server::{Dependencies, XdsProxy};
use mesh_xds_proxy::upstream::Upstream;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::control_plane::ControlPlaneArgs;
use self::events::{Counts, Events};
use crate::bounded::Bounded;
use crate::budget::MemoryArgs;
use crate::listen::Listen;
use crate::placing::{DIRECTIONS, ROLES, one_of};
use crate::{admin, clock, json_file};

mod ca_bundles;
mod control_plane;
mod events;
mod injection;

/// Connections at most. There is one Envoy, but it may reconnect before its old connection is known
/// to be dead.
const CONNECTIONS_MAX: usize = 64;

#[expect(clippy::doc_markdown, reason = "these are texts of --help")]
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Address for Envoy: ADDRESS:PORT, or unix:///PATH, which only this user may open.
    #[arg(
        long,
        env = "MESHMETER_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:15090"
    )]
    listen: Listen,

    #[command(flatten)]
    control_plane: ControlPlaneArgs,

    /// Address and port of /metrics and /readyz (HTTP).
    #[arg(
        long,
        env = "MESHMETER_ADMIN_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:15091"
    )]
    admin_listen: SocketAddr,

    /// Module of the role `filter`, under the path that Envoy sees.
    #[arg(long, env = "MESHMETER_FILTER_WASM", value_name = "FILE")]
    filter_wasm: Option<PathBuf>,

    /// The dynamic module of the role `filter` instead of --filter-wasm, under the path that Envoy
    /// sees, with a name that ends in .so. For Envoy 1.38 and newer, and without --log-wasm.
    #[arg(long, env = "MESHMETER_FILTER_MODULE", value_name = "FILE", conflicts_with_all = ["filter_wasm", "log_wasm"])]
    filter_module: Option<PathBuf>,

    /// Expected SHA-256 of --filter-wasm or --filter-module.
    #[arg(long, env = "MESHMETER_FILTER_SHA256", value_name = "DIGITS")]
    filter_sha256: Option<String>,

    /// Module of the roles `upstream_log` and, with --role access-log, `access_log`.
    #[arg(long, env = "MESHMETER_LOG_WASM", value_name = "FILE")]
    log_wasm: Option<PathBuf>,

    /// Expected SHA-256 of --log-wasm.
    #[arg(long, env = "MESHMETER_LOG_SHA256", value_name = "DIGITS")]
    log_sha256: Option<String>,

    /// Where requests are counted. With access-log the module of --filter-wasm is not needed, and
    /// not inserted.
    #[arg(long, env = "MESHMETER_ROLE", value_name = "ROLE", value_parser = one_of(ROLES), default_value = "filter")]
    role: Role,

    /// Listeners that get the filter.
    #[arg(long, env = "MESHMETER_DIRECTION", value_parser = one_of(DIRECTIONS), default_value = "inbound")]
    direction: Directions,

    /// Aggregator to stream to, as HOST:PORT. May be given several times, or once with commas.
    #[arg(
        long,
        env = "MESHMETER_AGGREGATOR",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        required = true
    )]
    aggregator: Vec<String>,

    /// CA bundle (PEM text) for verifying aggregators; turns on TLS.
    #[arg(
        long,
        env = "MESHMETER_AGGREGATOR_CA",
        value_name = "PEM",
        conflicts_with = "aggregator_ca_file"
    )]
    aggregator_ca: Option<String>,

    /// CA bundle from a file (PEM), read at the start; with --aggregator-ca-secret it is read again
    /// as it changes.
    #[arg(long, env = "MESHMETER_AGGREGATOR_CA_FILE", value_name = "FILE")]
    aggregator_ca_file: Option<PathBuf>,

    /// SDS file to maintain for Envoy: the certificates of --aggregator-ca-file as the secret `ca`.
    /// They are read every ten seconds, and need not exist yet.
    #[arg(
        long,
        env = "MESHMETER_AGGREGATOR_CA_SECRET",
        value_name = "FILE",
        requires = "aggregator_ca_file"
    )]
    aggregator_ca_secret: Option<PathBuf>,

    /// Name that the aggregators' certificates are valid for [default: the host of each]. Needs
    /// TLS.
    #[arg(long, env = "MESHMETER_AGGREGATOR_SERVER_NAME", value_name = "NAME")]
    aggregator_server_name: Option<String>,

    /// Envoy's secret file with the token that authenticates each stream to the aggregator. Needs
    /// TLS.
    #[arg(long, env = "MESHMETER_AGGREGATOR_TOKEN_FILE", value_name = "FILE")]
    aggregator_token_file: Option<PathBuf>,

    /// Further fields of the plugin configuration, as a JSON object.
    #[arg(
        long,
        env = "MESHMETER_PLUGIN_CONFIG",
        value_name = "JSON",
        default_value = "{}"
    )]
    plugin_config: String,

    /// Namespace of the pod.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = ""
    )]
    pod_namespace: String,

    /// Name of the pod.
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "")]
    pod_name: String,

    /// Uid of the pod.
    #[arg(long, env = "POD_UID", value_name = "UID", default_value = "")]
    pod_uid: String,

    /// Node of the pod.
    #[arg(long, env = "NODE_NAME", value_name = "NAME", default_value = "")]
    node_name: String,

    /// Raise Kubernetes Events on the pod when Envoy rejects the injected configuration, or when
    /// nothing can be injected. Needs the pod's name and namespace, and a service account that may
    /// create events.
    #[arg(long, env = "MESHMETER_EVENTS")]
    events: bool,

    /// Kubeconfig file for raising Events, outside of a Kubernetes cluster.
    #[arg(
        long,
        env = "MESHMETER_KUBECONFIG",
        value_name = "FILE",
        requires = "events"
    )]
    kubeconfig: Option<PathBuf>,

    #[command(flatten)]
    memory: MemoryArgs,

    /// File to write the listeners' addresses to once they are open (JSON).
    #[arg(long, env = "MESHMETER_ADDRESSES_FILE", value_name = "FILE")]
    addresses_file: Option<PathBuf>,
}

/// Runs until `stop`.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> Result<()> {
    let memory = args.memory.xds_proxy()?;
    let injection = Arc::new(injection::of(&args)?);
    let cas = args.aggregator_ca_file.clone();
    if let Some((from, to)) = cas.zip(args.aggregator_ca_secret.clone()) {
        // Before Envoy can connect: it rejects a cluster whose SDS file is missing.
        ca_bundles::maintain(from, to, stop.clone())?;
    }
    let mut registry = Registry::with_prefix("meshmeter_mesh");
    let metrics = Metrics::register(&mut registry);
    let connections = common_http::Metrics::register(&mut registry);
    let modules = Arc::new(modules(&args));
    let upstream = Arc::new(args.control_plane.upstream().await?);
    let events = events(&args, &metrics, &mut registry)?;
    let xds_proxy = XdsProxy::new(Dependencies {
        upstream: Arc::clone(&upstream),
        injection,
        modules: Arc::clone(&modules),
        metrics,
        events,
        clock: clock::monotonic,
        limits: mesh_xds_proxy::Limits::within(memory.messages.get()),
        stop: stop.clone(),
    });
    let limits = Limits::of(CONNECTIONS_MAX);
    let [limits, admin_limits] = Descriptors::raise().share([limits, pages::settings().limits]);
    let bound = args.listen.bind().await?;
    let ready = when_ready(upstream, modules);
    let admin = admin::start(
        args.admin_listen,
        registry,
        (admin_limits, &connections),
        ready,
        stop.clone(),
    );
    let admin = admin.await?;
    if let Some(file) = &args.addresses_file {
        let addresses = json!({"xds": bound.address(), "admin": admin});
        json_file::replace(file, "--addresses-file", &addresses)?;
    }
    tracing::info!(upstream = ?args.control_plane.upstream, %admin, "listening");
    let xds_proxy = Bounded::new(xds_proxy, memory.requests, REQUEST_BYTES_MAX);
    bound.serve(xds_proxy, limits, &connections, stop).await;
    Ok(())
}

/// Ready once the modules were checked and a connection to the control plane was attempted,
/// successful or not.
///
/// Kubernetes starts a pod's containers only after a native sidecar has started. An unreachable
/// control plane must not block them: Envoy retries until it is back, and a running sidecar does
/// not need it. Nor must a missing module: then the configuration passes unchanged. Failures are
/// logged.
fn when_ready(upstream: Arc<Upstream>, modules: Arc<Modules>) -> admin::Ready {
    let state = Arc::new(Mutex::new(Err(
        "checking the control plane and the modules".to_owned(),
    )));
    let current = Arc::clone(&state);
    tokio::spawn(async move {
        if let Err(reason) = modules.check() {
            tracing::warn!(reason, "filter not injected until this is resolved");
        }
        if !upstream.is_reachable().await {
            tracing::warn!("control plane unreachable; Envoy waits for its configuration");
        }
        *state.lock() = Ok(());
    });
    Arc::new(move || current.lock().clone())
}

impl Args {
    /// The module of the role `filter`, by whichever carrier.
    fn filter(&self) -> Option<&PathBuf> {
        self.filter_module.as_ref().or(self.filter_wasm.as_ref())
    }
}

fn modules(args: &Args) -> Modules {
    let filter = (args.filter(), &args.filter_sha256);
    let log = (args.log_wasm.as_ref(), &args.log_sha256);
    let filter = (args.role == Role::Filter).then_some(filter);
    let modules = filter
        .into_iter()
        .chain([log])
        .filter_map(|(file, sha256)| {
            Some(Module {
                file: file?.clone(),
                sha256: sha256.clone(),
            })
        });
    let modules = Modules::new(modules.collect());
    let secrets = [&args.aggregator_token_file, &args.aggregator_ca_secret];
    secrets
        .into_iter()
        .flatten()
        .cloned()
        .fold(modules, Modules::with_file)
}

fn events(args: &Args, metrics: &Metrics, registry: &mut Registry) -> Result<EventSender> {
    let counts = Counts::register(registry);
    if !args.events {
        return Ok(EventSender::disconnected(metrics));
    }
    ensure!(
        !args.pod_namespace.is_empty() && !args.pod_name.is_empty(),
        "--events needs --pod-namespace and --pod-name"
    );
    let about = Object {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: args.pod_namespace.clone(),
        name: args.pod_name.clone(),
        uid: args.pod_uid.clone(),
    };
    let (events, receiver) = EventSender::channel(metrics);
    let recorder = Events::new(about, args.kubeconfig.clone(), counts);
    tokio::spawn(recorder.run(receiver));
    Ok(events)
}
