//! Flags and environment of the binary. Each field's comment is its help text.

use std::net::SocketAddr;
use std::path::PathBuf;

use aggregator_cli::Operator;
use clap::{Parser, Subcommand, ValueEnum};
use common_budget::Size;

pub use cluster::{ClusterArgs, IdentityMode, IngestTls, IngestTlsMode, TokenVerification};
pub use peers::PeersArgs;
pub use reads::ReadsArgs;
pub use remote_write::{AuthMode, Gauge, OutputMode, ProtocolVersion, RemoteWriteArgs};

mod cluster;
mod peers;
mod reads;
mod remote_write;

/// Default port of `--ingest-listen`.
pub const INGEST_PORT: u16 = 7470;

/// Default port of `--api-listen`.
pub const API_PORT: u16 = 7443;

/// Default port of `--admin-listen`.
pub const ADMIN_PORT: u16 = 7471;

/// Default of `--metric-prefix`.
pub const METRIC_PREFIX: &str = "appmesh_";

/// meshmeter turns the requests that Envoy sidecars count into per-pod requests per second for the
/// Kubernetes horizontal pod autoscaler (HPA).
#[derive(Clone, Debug, Parser)]
#[command(name = "meshmeter", version, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the aggregator: take in what sidecars stream and serve the custom metrics API.
    ///
    /// Three listeners: ingest (gRPC, from the filter in each sidecar), the custom metrics API
    /// (HTTPS, asked by kube-apiserver on behalf of the autoscaler, or by kubectl and curl), and
    /// admin (HTTP: /metrics, /healthz, /livez, /readyz, /debug/pods).
    Serve(Box<ServeArgs>),

    /// Tools for remote write.
    #[command(subcommand)]
    RemoteWrite(RemoteWriteCommand),

    /// What operators ask.
    #[command(flatten)]
    Operator(Operator),
}

/// Tools for remote write.
#[derive(Clone, Debug, Subcommand)]
pub enum RemoteWriteCommand {
    /// Sign and send one sample, and explain the answer.
    Check(Box<RemoteWriteArgs>),
}

/// Flags of `meshmeter serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Run without a Kubernetes cluster: nobody is authenticated, so every listener must be on
    /// loopback, the API has a self-signed certificate, and pods are those of --pods-file or of the
    /// sidecars that connect.
    #[arg(long, env = "MESHMETER_STANDALONE", value_parser = clap::builder::BoolishValueParser::new())]
    pub standalone: bool,

    /// Address and port for sidecars (gRPC over HTTP/2). Port 0 picks a free one. Default: port
    /// 7470 of every address; with --standalone 127.0.0.1:7470.
    #[arg(long, env = "MESHMETER_INGEST_LISTEN", value_name = "ADDRESS:PORT")]
    pub ingest_listen: Option<SocketAddr>,

    /// Address and port of the custom metrics API (HTTPS). Port 0 picks a free one. Default: port
    /// 7443 of every address; with --standalone 127.0.0.1:7443.
    #[arg(long, env = "MESHMETER_API_LISTEN", value_name = "ADDRESS:PORT")]
    pub api_listen: Option<SocketAddr>,

    /// Address and port for operators (HTTP): /metrics, /healthz, /livez, /readyz, and /debug/pods,
    /// which only loopback gets. Port 0 picks a free one. Default: port 7471 of every address; with
    /// --standalone 127.0.0.1:7471.
    #[arg(long, env = "MESHMETER_ADMIN_LISTEN", value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<SocketAddr>,

    /// With --standalone: name the API's self-signed certificate is valid for, besides localhost,
    /// 127.0.0.1 and `::1`. May be given several times, or once with commas.
    #[arg(
        long,
        env = "MESHMETER_API_NAME",
        value_name = "DNS NAME",
        value_delimiter = ','
    )]
    pub api_name: Vec<String>,

    /// File to write once all listeners are open: JSON with the keys ingest, api and admin, each
    /// "ADDRESS:PORT". For scripts that use port 0. It appears whole or not at all.
    #[arg(long, env = "MESHMETER_ADDRESSES_FILE", value_name = "FILE")]
    pub addresses_file: Option<PathBuf>,

    /// With --standalone: file that lists the pods that exist: JSON
    /// {"pods":[{"namespace","name","uid","labels":{},"owner":{"group","kind","name"}}]}. With it
    /// only those pods are served, and what sidecars say of their labels does not count. Without it
    /// pods and labels are taken from the sidecars that connect.
    #[arg(long, env = "MESHMETER_PODS_FILE", value_name = "FILE")]
    pub pods_file: Option<PathBuf>,

    /// With --standalone: file with the autoscalers (HPAs) that exist, as JSON or YAML: objects
    /// of autoscaling/v2, a list of them, or what kubectl get -o yaml prints. It is read again as
    /// it changes, status included. Without it no autoscaler is known.
    #[arg(long, env = "MESHMETER_AUTOSCALERS_FILE", value_name = "FILE")]
    pub autoscalers_file: Option<PathBuf>,

    /// Prefix of the names of all served metrics: at most 64 letters, digits and `_`.
    #[arg(
        long,
        env = "MESHMETER_METRIC_PREFIX",
        value_name = "PREFIX",
        default_value = METRIC_PREFIX
    )]
    pub metric_prefix: String,

    /// Where requests to an upstream cluster of Envoy go, as CLUSTER=KIND/NAMESPACE/NAME with the
    /// kind service, deployment, replicaset, statefulset, daemonset or job. Needed only for
    /// clusters that are not named as App Mesh or Istio names them, and only for
    /// scale-from-zero demand. May be given several times, or once with commas.
    #[arg(
        long,
        env = "MESHMETER_CLUSTER_DESTINATION",
        value_name = "CLUSTER=KIND/NAMESPACE/NAME",
        value_delimiter = ','
    )]
    pub cluster_destination: Vec<String>,

    /// How long open API requests and sidecar streams may take to end after SIGTERM or SIGINT, in
    /// seconds (0 to 300). What is left then is cut.
    #[arg(
        long,
        env = "MESHMETER_DRAIN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(0..=300)
    )]
    pub drain_seconds: u16,

    /// Memory that the program may take, such as 512Mi or 2Gi: it is divided among pods,
    /// connections and messages, and what does not fit is refused and counted. Default: the limit
    /// of its cgroup, which is that of the container; without one all that the machine has.
    #[arg(long, env = "MESHMETER_MEMORY_LIMIT", value_name = "SIZE")]
    pub memory_limit: Option<Size>,

    /// Form of log lines on standard error.
    #[arg(long, env = "MESHMETER_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What to log: error, warn, info, debug or trace, or a list such as
    /// `info,aggregator_ingest=debug`.
    #[arg(
        long,
        env = "MESHMETER_LOG_LEVEL",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log_level: String,

    /// What is not used with `--standalone`.
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// Which reads are remembered.
    #[command(flatten)]
    pub reads: ReadsArgs,

    /// How replicas ask each other.
    #[command(flatten)]
    pub peers: PeersArgs,

    /// Where running totals are written to.
    #[command(flatten)]
    pub remote_write: RemoteWriteArgs,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}
