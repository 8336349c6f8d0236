//! `meshmeter-mesh injector`: the webhook as a service.
//!
//! ```text
//! kube-apiserver -> webhook (HTTPS, limits) -> mesh_injector::review -> patch
//!                     ^ certificate (files, or by our CA)   └─> events (pods not injected)
//!                     ^ settings (flags, and files as they change)
//!                         └─> ca_bundles (a ConfigMap in each injected namespace)
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use common_http::descriptors::Descriptors;
use common_http::pages;
use common_kubernetes::{Watches, connection};
use common_tls::{Protocols, config};
use kube::Client;
use mesh_control_plane::cluster::{Cluster, Options, Purpose};
use mesh_injector::virtual_node::{Unknown, VirtualNodes};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::acm::AcmArgs;
use crate::budget::MemoryArgs;
use crate::inject::PodArgs;
use crate::{admin, clock, json_file};
use certificate::Certificate;
use events::Events;
use metrics::Metrics;
use webhook::Webhook;

mod ca_bundles;
mod certificate;
mod events;
mod metrics;
mod nodes;
mod settings;
mod webhook;

#[expect(clippy::doc_markdown, reason = "these are texts of --help")]
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pod: PodArgs,

    /// Address and port of the webhook, for kube-apiserver (HTTPS).
    #[arg(
        long,
        env = "MESHMETER_LISTEN",
        value_name = "ADDRESS",
        default_value = "[::]:8443"
    )]
    listen: SocketAddr,

    /// Address and port of /metrics and /readyz (HTTP).
    #[arg(
        long,
        env = "MESHMETER_ADMIN_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "[::]:15091"
    )]
    admin_listen: SocketAddr,

    /// File with the certificate (PEM), reloaded when it changes. Without it the injector creates a
    /// CA, stores it in --ca-secret, writes it into the webhooks of --webhook-configuration, and
    /// issues its certificates in memory.
    #[arg(
        long,
        env = "MESHMETER_CERT_FILE",
        value_name = "FILE",
        requires = "key_file"
    )]
    cert_file: Option<PathBuf>,

    /// File with the certificate's key (PEM).
    #[arg(
        long,
        env = "MESHMETER_KEY_FILE",
        value_name = "FILE",
        requires = "cert_file"
    )]
    key_file: Option<PathBuf>,

    /// Kubeconfig file. Default: the pod's service account.
    #[arg(long, env = "MESHMETER_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Namespace of the injector, its Service and the Secret with its CA.
    #[arg(
        long,
        env = "MESHMETER_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "meshmeter"
    )]
    namespace: String,

    /// Service that the webhook configuration refers to. The self-managed certificate is valid for
    /// SERVICE.NAMESPACE.svc.
    #[arg(
        long,
        env = "MESHMETER_SERVICE",
        value_name = "SERVICE",
        default_value = "meshmeter-injector"
    )]
    service: String,

    /// Secret with the CA of the self-managed certificate; created if missing.
    #[arg(
        long,
        env = "MESHMETER_CA_SECRET",
        value_name = "SECRET",
        default_value = "meshmeter-injector-ca"
    )]
    ca_secret: String,

    /// MutatingWebhookConfiguration whose webhooks get the CA as caBundle, which is kept up to
    /// date.
    #[arg(
        long,
        env = "MESHMETER_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        default_value = "aa-meshmeter-injector"
    )]
    webhook_configuration: String,

    /// Lease (in --namespace) that elects the replica which maintains the ConfigMaps of
    /// --aggregator-ca-configmap.
    #[arg(
        long,
        env = "MESHMETER_LEASE",
        value_name = "NAME",
        default_value = "meshmeter-injector"
    )]
    lease: String,

    /// Unique name of this replica as the holder of the Lease.
    #[arg(long, env = "HOSTNAME", value_name = "NAME", default_value = "")]
    lease_identity: String,

    /// How long to go on serving after SIGTERM while /readyz fails, in seconds (at most 60), so
    /// that kube-apiserver stops sending reviews first.
    #[arg(
        long,
        env = "MESHMETER_SHUTDOWN_DELAY_SECONDS",
        value_name = "SECONDS",
        default_value_t = 5,
        value_parser = clap::value_parser!(u16).range(0..=60)
    )]
    shutdown_delay_seconds: u16,

    #[command(flatten)]
    acm: AcmArgs,

    #[command(flatten)]
    memory: MemoryArgs,

    /// File to write the listeners' addresses to once they are open (JSON).
    #[arg(long, env = "MESHMETER_ADDRESSES_FILE", value_name = "FILE")]
    addresses_file: Option<PathBuf>,
}

/// Serves the webhook until `stop`, then drains.
pub(crate) async fn serve(args: ServeArgs, stop: CancellationToken) -> Result<()> {
    let bodies = args.memory.injector()?;
    // Background tasks stop only after the last review is answered.
    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    let client = cluster(&args).await?;
    let certificate = Certificate::start(&args, client.as_ref(), &ended)?;
    let tls = config::server(certificate.serving(), None, Protocols::Http)?;
    let mut registry = Registry::with_prefix("meshmeter_mesh");
    let metrics = Metrics::register(&mut registry, certificate.serving());
    let connections = common_http::Metrics::register(&mut registry);
    let requested = [webhook::LIMITS, pages::settings().limits];
    let [limits, admin_limits] = Descriptors::raise().share(requested);
    let pod = args.pod.clone();
    let settings = settings::follow(move || pod.settings(), &metrics, ended.clone())?;
    // With `stop`, not `ended`: it releases its Lease while the last reviews are answered.
    let shared = (settings.clone(), metrics.clone(), stop.clone());
    let ca_watches = start_ca_bundles(&args, client.as_ref(), shared, &mut registry, &ended)?;
    let events = client.map(|client| {
        let (metrics, ended) = (metrics.clone(), ended.clone());
        Events::start(client, metrics, clock::both(), ended)
    });
    let cluster = watch_nodes(&args, events.is_some(), &mut registry, &ended).await?;
    let nodes: Box<dyn VirtualNodes + Send + Sync> = match &cluster {
        Some(cluster) => Box::new(nodes::WatchedNodes::new(cluster)),
        None => Box::new(Unknown),
    };
    let missing = cluster.as_ref().map(Cluster::missing);
    let webhook = Webhook::new(settings, nodes, events, metrics, bodies);
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("--listen {}", args.listen))?;
    let address = listener.local_addr()?;
    let stopping = stop.clone();
    let ready = move || match certificate.fault(clock::unix_seconds()) {
        _ if stopping.is_cancelled() => Err("shutting down".to_owned()),
        Some(fault) => Err(fault),
        None => missing
            .as_ref()
            .and_then(|missing| missing())
            .map_or(Ok(()), Err),
    };
    let ready = Arc::new(ready);
    let admin = admin::start(
        args.admin_listen,
        registry,
        (admin_limits, &connections),
        ready,
        ended.clone(),
    );
    let admin = admin.await?;
    if let Some(file) = &args.addresses_file {
        let addresses = json!({"webhook": address, "admin": admin});
        json_file::replace(file, "--addresses-file", &addresses)?;
    }
    tracing::info!(%address, %admin, "listening");
    let delay = Duration::from_secs(args.shutdown_delay_seconds.into());
    tokio::select! {
        () = webhook.serve(listener, tls, (limits, connections), stop, delay) => {}
        () = end_of(cluster) => bail!("watch task stopped"),
        () = end_of_watches(ca_watches) => bail!("watch of namespaces stopped"),
    }
    tracing::info!("ended");
    Ok(())
}

/// While serving, watches end only by a bug.
async fn end_of(cluster: Option<Cluster>) {
    match cluster {
        Some(cluster) => cluster.ended().await,
        None => std::future::pending().await,
    }
}

async fn end_of_watches(watches: Option<Watches>) {
    match watches {
        Some(watches) => watches.ended().await,
        None => std::future::pending().await,
    }
}

/// The Kubernetes client; optional with a certificate from files, but then no Events are raised.
async fn cluster(args: &ServeArgs) -> Result<Option<Client>> {
    match connection::connect(args.kubeconfig.as_deref()).await {
        Ok(client) => Ok(Some(client)),
        Err(error) if args.cert_file.is_some() && args.kubeconfig.is_none() => {
            tracing::info!(%error, "pods that cannot be injected raise no events");
            Ok(None)
        }
        Err(error) => Err(error).context(
            "the cluster cannot be asked (give --kubeconfig, or --cert-file and --key-file to do without)",
        ),
    }
}

/// Starts the controller of the CA `ConfigMap`s, if configured; returns its watches.
fn start_ca_bundles(
    args: &ServeArgs,
    client: Option<&Client>,
    (settings, metrics, stop): (settings::SettingsReceiver, Metrics, CancellationToken),
    registry: &mut Registry,
    ended: &CancellationToken,
) -> Result<Option<Watches>> {
    let Some(name) = args.pod.config_map()? else {
        return Ok(None);
    };
    let client = client.context("--aggregator-ca-configmap: a cluster is needed")?;
    ensure!(
        !args.lease_identity.is_empty(),
        "--lease-identity is needed for --aggregator-ca-configmap: there is no HOSTNAME in the environment"
    );
    let options = ca_bundles::Options {
        name,
        installed_in: args.namespace.clone(),
        lease: args.lease.clone(),
        identity: args.lease_identity.clone(),
        webhook_configuration: args.webhook_configuration.clone(),
    };
    let watches = ca_bundles::start(client.clone(), options, settings, metrics, (stop, ended));
    registry
        .sub_registry_with_prefix("injector_ca")
        .register_collector(Box::new(watches.gauges()));
    Ok(Some(watches))
}

/// Watches virtual nodes if pods get an Envoy. Without a Kubernetes cluster pods have to name
/// theirs.
async fn watch_nodes(
    args: &ServeArgs,
    reachable: bool,
    registry: &mut Registry,
    stop: &CancellationToken,
) -> Result<Option<Cluster>> {
    if !args.pod.injects_envoy() || !reachable {
        return Ok(None);
    }
    let options = Options {
        kubeconfig: args.kubeconfig.clone(),
        purpose: Purpose::LookUp,
        acm: args.acm.read()?,
        ..Options::default()
    };
    let registry = registry.sub_registry_with_prefix("injector");
    let metrics = mesh_control_plane::metrics::Metrics::of_look_up(registry);
    let cluster = Cluster::start(&options, &metrics, &clock::both(), stop).await;
    let cluster = cluster.context("--inject-envoy: the cluster")?;
    registry.register_collector(Box::new(cluster.gauges()));
    Ok(Some(cluster))
}
