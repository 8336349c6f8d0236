//! Flags of `check`.

use clap::Args;

use super::{ColorWhen, ConnectionArgs, TextOrJson};

/// Flags of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Before the installation: only what the cluster and you need for it.
    #[arg(long)]
    pub pre: bool,

    /// Namespace that meshmeter runs in, or will. Default: that of the service of its API, else
    /// meshmeter.
    #[arg(long, value_name = "NAMESPACE")]
    pub install_namespace: Option<String>,

    /// Only whether kube-apiserver answers for this API, as GROUP/VERSION. May be given several
    /// times, or once with commas.
    #[arg(
        long,
        value_name = "GROUP/VERSION",
        value_delimiter = ',',
        conflicts_with = "pre"
    )]
    pub group: Vec<String>,

    /// How long to check again while something fails, in seconds (0 to 3600).
    #[arg(long, alias = "wait-seconds", value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub wait: u64,

    /// Form of the answer.
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: TextOrJson,

    /// When to colour.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,

    /// Where -n is not given, all namespaces are looked at.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}
