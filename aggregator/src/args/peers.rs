//! Flags by which replicas ask each other.

use std::net::IpAddr;
use std::path::PathBuf;

/// How replicas find, trust and ask each other: each has read by itself what autoscalers asked it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Other replicas (not with --standalone)")]
pub struct PeersArgs {
    /// Name of this replica in lists of reads and in the state of all replicas. In a pod the
    /// variable is the pod's name.
    #[arg(
        long,
        env = "HOSTNAME",
        value_name = "NAME",
        default_value = "aggregator"
    )]
    pub replica_name: String,

    /// Name and port of a headless service whose addresses are those of all replicas' APIs. For
    /// reads, explanations, timelines and health each is asked for its own part, within 2 s, at
    /// most 8 of them. May be given several times, or once with commas. Default: there are no
    /// others.
    #[arg(
        long,
        env = "MESHMETER_PEERS",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    pub peers: Vec<String>,

    /// Address of this replica, which is not asked. In a pod that of the pod.
    #[arg(long, env = "MESHMETER_POD_IP", value_name = "ADDRESS")]
    pub pod_ip: Option<IpAddr>,

    /// File with the CAs of the replicas' API certificates (PEM), read at each use. Default: the CA
    /// in --api-ca-secret. Needed with --api-cert-file.
    #[arg(long, env = "MESHMETER_PEERS_CA_FILE", value_name = "FILE")]
    pub peers_ca_file: Option<PathBuf>,

    /// File with the token that this replica shows to others, read at each use. Default: that of
    /// the pod's service account.
    #[arg(
        long,
        env = "MESHMETER_PEERS_TOKEN_FILE",
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )]
    pub peers_token_file: PathBuf,
}
