//! Flags of `top`.

use clap::{Args, ValueEnum};

use super::{ColorWhen, ConnectionArgs};

/// Flags of `top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// Of what.
    #[arg(value_name = "WHAT")]
    pub kind: TopKind,

    /// Only this one.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,

    /// Of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,

    /// Only what has these labels, as `app=jazz,tier!=test`.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,

    /// What the rows are sorted by: names upwards, values downwards. What is not known comes last.
    #[arg(long, value_name = "COLUMN", default_value = "requests")]
    pub sort_by: SortBy,

    /// Form of the answer.
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: TopOutput,

    /// No line with the columns' names.
    #[arg(long)]
    pub no_headers: bool,

    /// Go on until interrupted: a full-screen view in a terminal (cursor keys, s sorts, / filters,
    /// q ends), else lines that begin with the time.
    #[arg(short, long)]
    pub watch: bool,

    /// With --watch: seconds between two answers (1 to 300).
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub interval: u64,

    /// When to colour.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,

    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// What `top` shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum TopKind {
    #[value(alias = "pod", alias = "po")]
    Pods,
    /// Deployments and other owners of pods.
    #[value(
        alias = "workload",
        alias = "deployments",
        alias = "deployment",
        alias = "deploy"
    )]
    Workloads,
    #[value(alias = "namespace", alias = "ns")]
    Namespaces,
    #[value(alias = "service", alias = "svc")]
    Services,
}

/// A column to sort by.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SortBy {
    /// Requests per second.
    Requests,
    /// Upstream attempts per second.
    Attempts,
    /// Requests in flight.
    Inflight,
    /// Share of requests that failed.
    Errors,
    /// The busiest pod's rate over the mean.
    Skew,
    /// Window of the rate.
    Window,
    /// Age of the oldest value.
    Age,
    State,
    Name,
}

/// Form of what `top` prints.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum TopOutput {
    /// A table.
    #[default]
    Text,
    /// A table with more columns.
    Wide,
    Json,
    Yaml,
    /// Kinds and names, for other commands.
    Name,
}

// === impl TopKind ===

impl TopKind {
    /// The path's segment, which is the resource that RBAC knows.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Workloads => "workloads",
            Self::Namespaces => "namespaces",
            Self::Services => "services",
        }
    }
}
