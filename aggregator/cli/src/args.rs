//! Flags of the operator's commands, named as kubectl's users expect them. Each field's comment is
//! its help text.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

pub use check::CheckArgs;
pub use simulate::{SettingArg, SimulateArgs};
pub use top::{SortBy, TopArgs, TopKind, TopOutput};
pub use ui::UiArgs;

pub mod examples;

mod check;
mod simulate;
mod top;
mod ui;

/// What operators ask. All that asks somebody asks kube-apiserver, with the rights of whoever asks.
#[derive(Clone, Debug, Subcommand)]
pub enum Operator {
    /// Show what the sidecars count: requests per second, attempts, requests in flight, errors.
    ///
    /// A dash means that a value is not known; it is never 0 for want of one.
    Top(Box<TopArgs>),

    /// Explain in sentences why an HPA has as many replicas as it has.
    ///
    /// What was read, how old it was, over which window and from how many pods; who was left out
    /// and why; what the autoscaler's arithmetic made of it, and then behaviour, minimum and
    /// maximum; and what would change it.
    Explain(Box<ExplainArgs>),

    /// Show what an HPA read and did, line by line, and a chart.
    ///
    /// Reads, decisions, pods that got ready; at the end how soon a step in load was read, decided
    /// on, and served.
    Timeline(Box<TimelineArgs>),

    /// Say whether all is in place, in order, with a fix for each failure.
    ///
    /// Exit codes: 0 nothing failed (there may be warnings), 1 something failed, 2 something could
    /// not be checked and nothing failed.
    Check(Box<CheckArgs>),

    /// Say what an HPA would have done with a load, under several settings side by side.
    ///
    /// Runs the autoscaler's arithmetic over a recorded series, or one of a usual shape: how long
    /// the signal takes, over which window, and how soon pods are ready decide how many requests
    /// find too few pods. Asks neither a cluster nor a network.
    Simulate(Box<SimulateArgs>),

    /// Show the page in a browser: who serves how much, and why it scaled.
    ///
    /// Serves the page on 127.0.0.1 through kube-apiserver, with your rights, until Ctrl-C. Whoever
    /// has the printed link sees what you may see.
    Ui(Box<UiArgs>),

    /// Print the completions of a shell.
    Completion(CompletionArgs),
}

/// What an HPA is called on kubectl's command line.
const HPA_KINDS: [&str; 4] = [
    "hpa",
    "hpas",
    "horizontalpodautoscaler",
    "horizontalpodautoscalers",
];

/// How to reach kube-apiserver.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Kubeconfig to use. Default: the files of KUBECONFIG, else `~/.kube/config`; without one, in
    /// a pod, its service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig to use, in place of its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// Namespace. Default: that of the context.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// User to act as, if you may.
    #[arg(long = "as", value_name = "USER")]
    pub impersonate: Option<String>,

    /// Group to act as, with --as. May be given several times.
    #[arg(long = "as-group", value_name = "GROUP", requires = "impersonate")]
    pub impersonate_group: Vec<String>,

    /// Address to ask in place of that of the kubeconfig: for an aggregator that runs without a
    /// cluster, `https://127.0.0.1:7443`. Without --kubeconfig no credentials are sent to it.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,

    /// Do not verify the server's certificate.
    #[arg(long)]
    pub insecure_skip_tls_verify: bool,

    /// Longest time for one request, as 10s, 2m or a number of seconds; 0 for the program's
    /// own: 10s until an answer begins, a minute until it ends.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    pub request_timeout: Duration,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ColorWhen {
    /// In a terminal, unless the environment has `NO_COLOR`.
    #[default]
    Auto,
    Always,
    Never,
}

/// Form of a document.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum TextOrJson {
    /// For people.
    #[default]
    Text,
    /// The whole document.
    Json,
}

/// Which HPA.
#[derive(Args, Clone, Debug)]
pub struct HpaArgs {
    /// `hpa` and its name, or hpa/NAME.
    #[arg(value_name = "hpa NAME", num_args = 1..=2, required = true)]
    pub hpa: Vec<String>,
}

/// Flags of `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    #[command(flatten)]
    pub hpa: HpaArgs,

    /// Time in question: 14:02 or 14:02:30, of the last 24 hours in your time zone, or RFC 3339.
    /// 14:02 means what held at the end of that minute. Default: now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,

    /// Form of the answer.
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: TextOrJson,

    /// When to colour.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,

    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// Flags of `timeline`.
#[derive(Args, Clone, Debug)]
pub struct TimelineArgs {
    #[command(flatten)]
    pub hpa: HpaArgs,

    /// How far to look back, as 90s, 30m or 24h.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    pub since: Duration,

    /// Go on: print what is new, every two seconds, until interrupted.
    #[arg(short, long, conflicts_with = "output")]
    pub watch: bool,

    /// Only the lines, no chart.
    #[arg(long)]
    pub no_chart: bool,

    /// Form of the answer.
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: TextOrJson,

    /// When to colour.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,

    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// Flags of `completion`.
#[derive(Args, Clone, Debug)]
pub struct CompletionArgs {
    /// Which shell.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// A shell whose completions there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

// === impl HpaArgs ===

impl HpaArgs {
    /// The HPA's name, from `hpa NAME` or `hpa/NAME`.
    pub fn name(&self) -> Result<&str, String> {
        let (kind, name) = match self.hpa.as_slice() {
            [kind, name] => (kind.as_str(), name.as_str()),
            [one] => one.split_once('/').unwrap_or((one, "")),
            _ => ("", ""),
        };
        let kind = kind.split('.').next().unwrap_or_default();
        if !HPA_KINDS.contains(&kind) {
            return Err(format!(
                "{kind:?} is not explained, only an HPA is: hpa NAME"
            ));
        }
        let is_name = !name.is_empty() && !name.contains(['/', '?', '%', '#']);
        is_name
            .then_some(name)
            .ok_or_else(|| format!("{name:?} is no name of an HPA: hpa NAME"))
    }
}

/// A time as `90s`, `15m`, `24h`, `1h30m`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is no time: a number with s, m or h, such as 15m");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(refused)?;
        let number: u32 = rest[..end].parse().map_err(|_| refused())?;
        let (unit, after) = match &rest[end..] {
            unit if unit.starts_with("ms") => (Duration::from_millis(1), 2),
            unit if unit.starts_with('s') => (Duration::from_secs(1), 1),
            unit if unit.starts_with('m') => (Duration::from_mins(1), 1),
            unit if unit.starts_with('h') => (Duration::from_hours(1), 1),
            _ => return Err(refused()),
        };
        total = unit
            .checked_mul(number)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(refused)?;
        rest = &rest[end + after..];
    }
    (!text.is_empty()).then_some(total).ok_or_else(refused)
}

#[cfg(test)]
mod tests;
