//! `meshmeter-mesh interposer`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use mesh_core::insertion::{Directions, Insertion, Plugin, StreamCluster};
use mesh_interposer::metrics::Metrics;
use mesh_interposer::modules::{Module, Modules};
use mesh_interposer::server::Interposer;
use mesh_interposer::upstream::{Address, Upstream};
use prometheus_client::registry::Registry;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::admin;
use crate::listen::Listen;

/// Clusters to stream to at most, as the filter takes them.
const AGGREGATORS_MAX: usize = 4;

/// Flags.
#[expect(clippy::doc_markdown, reason = "these are texts of --help")]
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Where Envoy connects: ADDRESS:PORT, or unix:///PATH, which only this user may open.
    #[arg(long, env = "MESHMETER_LISTEN", default_value = "127.0.0.1:15090")]
    listen: Listen,

    /// The origin of the configuration: `http://HOST:PORT` or `unix:///PATH`.
    #[arg(long, env = "MESHMETER_UPSTREAM")]
    upstream: Address,

    /// Where /metrics and /readyz are.
    #[arg(
        long,
        env = "MESHMETER_ADMIN_LISTEN",
        default_value = "127.0.0.1:15091"
    )]
    admin_listen: SocketAddr,

    /// Module of the role `filter`, under the path that Envoy sees.
    #[arg(long, env = "MESHMETER_FILTER_WASM", value_name = "FILE")]
    filter_wasm: Option<PathBuf>,

    /// SHA-256 that the module of the role `filter` must have.
    #[arg(long, env = "MESHMETER_FILTER_SHA256", value_name = "DIGITS")]
    filter_sha256: Option<String>,

    /// Module of the role `upstream_log`.
    #[arg(long, env = "MESHMETER_LOG_WASM", value_name = "FILE")]
    log_wasm: Option<PathBuf>,

    /// SHA-256 that the module of the role `upstream_log` must have.
    #[arg(long, env = "MESHMETER_LOG_SHA256", value_name = "DIGITS")]
    log_sha256: Option<String>,

    /// Into which listeners.
    #[arg(long, env = "MESHMETER_DIRECTION", value_enum, default_value_t = Direction::Inbound)]
    direction: Direction,

    /// Aggregator to stream to, as HOST:PORT. May be given several times, or once with commas.
    #[arg(
        long,
        env = "MESHMETER_AGGREGATOR",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        required = true
    )]
    aggregator: Vec<String>,

    /// Further fields of the plugin configuration, as a JSON object.
    #[arg(
        long,
        env = "MESHMETER_PLUGIN_CONFIG",
        value_name = "JSON",
        default_value = "{}"
    )]
    plugin_config: String,

    /// Namespace of the pod.
    #[arg(long, env = "POD_NAMESPACE", default_value = "")]
    pod_namespace: String,

    /// Name of the pod.
    #[arg(long, env = "POD_NAME", default_value = "")]
    pod_name: String,

    /// Uid of the pod.
    #[arg(long, env = "POD_UID", default_value = "")]
    pod_uid: String,

    /// Node of the pod.
    #[arg(long, env = "NODE_NAME", default_value = "")]
    node_name: String,

    /// File to write the addresses to once it listens.
    #[arg(long, env = "MESHMETER_ADDRESSES_FILE", value_name = "FILE")]
    addresses_file: Option<PathBuf>,
}

/// Which listeners.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Direction {
    /// Towards the application.
    Inbound,
    /// From the application.
    Outbound,
    /// Both.
    Both,
}

/// Runs until `stop`.
pub(crate) async fn run(args: Args, stop: CancellationToken) -> Result<()> {
    let insertion = insertion(&args)?;
    let mut registry = Registry::with_prefix("meshmeter_mesh");
    let metrics = Metrics::register(&mut registry);
    let modules = [
        (&args.filter_wasm, &args.filter_sha256),
        (&args.log_wasm, &args.log_sha256),
    ];
    let modules = modules.into_iter().filter_map(|(file, sha256)| {
        Some(Module {
            file: file.clone()?,
            sha256: sha256.clone(),
        })
    });
    let upstream = Upstream::new(&args.upstream);
    let modules = Modules::new(modules.collect());
    let interposer = Interposer::new(upstream, insertion, modules, metrics, stop.clone());
    let bound = args.listen.bind().await?;
    let admin = admin::start(args.admin_listen, registry, stop.clone()).await?;
    if let Some(file) = &args.addresses_file {
        let addresses = json!({"xds": bound.address(), "admin": admin});
        write(file, &addresses)?;
    }
    tracing::info!(upstream = ?args.upstream, %admin, "listening");
    bound
        .serve(Server::builder().add_service(interposer), stop)
        .await
}

/// Whole or not at all: whoever waits for it reads it at once.
pub(crate) fn write(file: &std::path::Path, addresses: &Value) -> Result<()> {
    let name = || format!("--addresses-file {}", file.display());
    let new = file.with_extension("new");
    std::fs::write(&new, addresses.to_string()).with_context(name)?;
    std::fs::rename(&new, file).with_context(name)
}

fn insertion(args: &Args) -> Result<Insertion> {
    ensure!(
        args.filter_wasm.is_some() || args.log_wasm.is_some(),
        "--filter-wasm or --log-wasm is needed"
    );
    ensure!(
        args.aggregator.len() <= AGGREGATORS_MAX,
        "--aggregator: at most {AGGREGATORS_MAX} are allowed"
    );
    let clusters = args.aggregator.iter().enumerate();
    let clusters = clusters
        .map(|(nth, address)| cluster(nth, address))
        .collect::<Result<Vec<_>>>()?;
    let plugin = |file: &Option<PathBuf>, role| {
        let file = file.as_ref();
        file.map(|file| {
            Ok::<_, anyhow::Error>(Plugin {
                module: file
                    .to_str()
                    .context("the module's path is not text")?
                    .to_owned(),
                configuration: configuration(args, role, &clusters)?.to_string(),
            })
        })
        .transpose()
    };
    Ok(Insertion {
        filter: plugin(&args.filter_wasm, "filter")?,
        access_log: None,
        upstream_log: plugin(&args.log_wasm, "upstream_log")?,
        directions: match args.direction {
            Direction::Inbound => Directions::Inbound,
            Direction::Outbound => Directions::Outbound,
            Direction::Both => Directions::Both,
        },
        clusters,
    })
}

fn cluster(nth: usize, address: &str) -> Result<StreamCluster> {
    let Some((host, port)) = address.rsplit_once(':') else {
        bail!("--aggregator {address:?} is not HOST:PORT");
    };
    let port = port
        .parse()
        .with_context(|| format!("--aggregator {address:?}: the port"))?;
    Ok(StreamCluster {
        name: format!("meshmeter_aggregator_{nth}"),
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
    })
}

fn configuration(args: &Args, role: &str, clusters: &[StreamCluster]) -> Result<Value> {
    let further: Value = serde_json::from_str(&args.plugin_config).context("--plugin-config")?;
    let Value::Object(mut fields) = further else {
        bail!("--plugin-config is not a JSON object");
    };
    fields.insert("role".to_owned(), role.into());
    let clusters = clusters
        .iter()
        .map(|cluster| json!({"cluster": cluster.name}));
    fields.insert("aggregators".to_owned(), clusters.collect());
    let mut identity = match fields.remove("identity") {
        Some(Value::Object(identity)) => identity,
        Some(_) => bail!("--plugin-config: identity is not an object"),
        None => Map::new(),
    };
    for (key, value) in [
        ("namespace", &args.pod_namespace),
        ("pod", &args.pod_name),
        ("uid", &args.pod_uid),
        ("node", &args.node_name),
    ] {
        if !value.is_empty() {
            identity.insert(key.to_owned(), value.as_str().into());
        }
    }
    fields.insert("identity".to_owned(), identity.into());
    Ok(fields.into())
}
