//! Flags of remote write.

use std::path::PathBuf;

use clap::ValueEnum;

/// Where running totals are written to, and how.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Remote write (off without --remote-write-url)")]
pub struct RemoteWriteArgs {
    /// URL that takes Prometheus Remote-Write 1.0: of an AMP workspace
    /// `https://aps-workspaces.REGION.amazonaws.com/workspaces/WORKSPACE/api/v1/remote_write`, of a
    /// VPC endpoint, or of any other receiver.
    #[arg(long, env = "MESHMETER_REMOTE_WRITE_URL", value_name = "URL")]
    pub remote_write_url: Option<String>,

    /// How requests to the receiver are authenticated. Default: sigv4 for an AMP workspace, or if
    /// a region or role is given; none for other receivers.
    #[arg(
        long,
        env = "MESHMETER_REMOTE_WRITE_AUTH",
        value_name = "METHOD",
        value_enum
    )]
    pub remote_write_auth: Option<AuthMode>,

    /// Region to sign for. Default: that of the workspace's host name.
    #[arg(long, env = "MESHMETER_REMOTE_WRITE_REGION", value_name = "REGION")]
    pub remote_write_region: Option<String>,

    /// ARN of a role to write as, for a workspace of another account. AWS credentials are those of
    /// the environment, a profile, the service account (IRSA), Pod Identity or the instance.
    #[arg(long, env = "MESHMETER_REMOTE_WRITE_ROLE_ARN", value_name = "ARN")]
    pub remote_write_role_arn: Option<String>,

    /// User name, for --remote-write-auth basic.
    #[arg(long, env = "MESHMETER_REMOTE_WRITE_USER", value_name = "USER")]
    pub remote_write_user: Option<String>,

    /// File with the password (basic) or the token (bearer), read for each request.
    #[arg(long, env = "MESHMETER_REMOTE_WRITE_SECRET_FILE", value_name = "FILE")]
    pub remote_write_secret_file: Option<PathBuf>,

    /// CA bundle for verifying the receiver (file, PEM). Default: the system's.
    #[arg(long, env = "MESHMETER_REMOTE_WRITE_CA_FILE", value_name = "FILE")]
    pub remote_write_ca_file: Option<PathBuf>,

    /// Time between flushes in seconds (1 to 300); samples are aligned to it.
    #[arg(
        long,
        env = "MESHMETER_REMOTE_WRITE_INTERVAL_SECONDS",
        value_name = "SECONDS",
        default_value_t = 15,
        value_parser = clap::value_parser!(u16).range(1..=300)
    )]
    pub remote_write_interval_seconds: u16,

    /// Folder in which samples wait until they are sent, over restarts too. Default: in memory
    /// only.
    #[arg(long, env = "MESHMETER_REMOTE_WRITE_QUEUE_DIR", value_name = "FOLDER")]
    pub remote_write_queue_dir: Option<PathBuf>,

    /// Size of the queue in MiB (1 to 102400). Beyond it, running totals lose resolution before
    /// anything is lost.
    #[arg(
        long,
        env = "MESHMETER_REMOTE_WRITE_QUEUE_MIB",
        value_name = "MIB",
        default_value_t = 512,
        value_parser = clap::value_parser!(u32).range(1..=102_400)
    )]
    pub remote_write_queue_mib: u32,

    /// What the names of written metrics begin with that hold Envoy's own numbers
    /// (docs/REMOTE-WRITE.md).
    #[arg(
        long,
        env = "MESHMETER_REMOTE_WRITE_PREFIX",
        value_name = "PREFIX",
        default_value = "envoy_cluster_"
    )]
    pub remote_write_prefix: String,

    /// Label of every series, as NAME=VALUE. With __replica__ only pods that report to this replica
    /// at the moment are written, so that a receiver can deduplicate an HA pair. May be given
    /// several times, or once with commas.
    #[arg(
        long,
        env = "MESHMETER_REMOTE_WRITE_EXTERNAL_LABEL",
        value_name = "NAME=VALUE",
        value_delimiter = ','
    )]
    pub remote_write_external_label: Vec<String>,

    /// Label of pods that becomes a label of their series, other characters than letters, digits
    /// and _ as _. May be given several times, or once with commas.
    #[arg(
        long,
        env = "MESHMETER_REMOTE_WRITE_POD_LABEL",
        value_name = "KEY",
        value_delimiter = ','
    )]
    pub remote_write_pod_label: Vec<String>,

    /// One series for each pod, or one for all pods of a service, cumulative since this
    /// replica started. Each replica writes its own sums, with the label `replica`: query them as
    /// `max without (replica) (rate(…))`. Not with __replica__, nor with --remote-write-lease.
    #[arg(
        long,
        env = "MESHMETER_REMOTE_WRITE_OUTPUT", value_name = "SERIES",
        value_enum,
        default_value_t = OutputMode::PerPod
    )]
    pub remote_write_output: OutputMode,

    /// Gauge to write besides the counters. May be given several times, or once with commas.
    #[arg(
        long,
        env = "MESHMETER_REMOTE_WRITE_GAUGE",
        value_name = "GAUGE",
        value_enum,
        value_delimiter = ','
    )]
    pub remote_write_gauge: Vec<Gauge>,

    /// Lease (in --namespace) by which one of several replicas writes. Not with __replica__, which
    /// lets the receiver choose, nor with sums. Default: every replica writes.
    #[arg(long, env = "MESHMETER_REMOTE_WRITE_LEASE", value_name = "NAME")]
    pub remote_write_lease: Option<String>,

    /// Name of this replica, which no other has: the label `replica` of sums, and the holder of the
    /// Lease. In a pod the variable is the pod's name.
    #[arg(long, env = "HOSTNAME", value_name = "NAME", default_value = "")]
    pub remote_write_replica: String,

    /// Version of the protocol. With 2.0 a receiver that does not seem to know it is written to in
    /// 1.0.
    #[arg(
        long,
        env = "MESHMETER_REMOTE_WRITE_PROTOCOL", value_name = "VERSION",
        value_enum,
        default_value_t = ProtocolVersion::V1
    )]
    pub remote_write_protocol: ProtocolVersion,
}

/// Whose totals a series holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum OutputMode {
    /// One pod's.
    PerPod,
    /// Those of all pods of a service.
    Summed,
}

/// A gauge to write.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Gauge {
    /// Requests per second, as the metrics API has it.
    Rate,
    /// Requests in flight.
    Inflight,
}

/// A version of Remote-Write.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ProtocolVersion {
    /// Known to every receiver.
    #[value(name = "1.0")]
    V1,
    /// With metric types, and smaller requests.
    #[value(name = "2.0")]
    V2,
}

/// How requests are authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum AuthMode {
    /// No authentication.
    None,
    /// AWS Signature Version 4.
    Sigv4,
    /// User and password.
    Basic,
    /// A bearer token.
    Bearer,
}
