//! Flags of the demo.

use std::time::Duration;

use clap::Parser;

/// Runs the sample application djapp (three pods: dj, jazz-v1, metal-v1) on this machine: each a
/// tiny HTTP server behind its own Envoy with the meshmeter filter, under a load that steps from
/// quiet to twice, to ten times and back. Shows what an autoscaler would read, and at the end
/// whether every request was counted exactly once.
#[derive(Debug, Parser)]
#[command(name = "demo")]
pub(crate) struct Args {
    /// How long the load runs, in seconds.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(4..=600))]
    seconds: u16,

    /// Print nothing but one JSON document on standard output; progress goes to standard error.
    #[arg(long)]
    pub(crate) json: bool,

    /// Run it through a mesh instead: App Mesh manifests, a control plane that serves them, an xDS
    /// proxy beside each stock Envoy; jazz has two versions, and a canary is shifted from 95/5 to
    /// 50/50.
    #[arg(long)]
    pub(crate) mesh: bool,

    /// Go on with the load, over and over, until Ctrl-C: for a look at the page.
    #[arg(long, conflicts_with_all = ["json", "mesh"])]
    pub(crate) keep: bool,

    /// Scale all request rates by this factor.
    #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
    pub(crate) scale: f64,
}

// === impl Args ===

impl Args {
    /// How long the load runs.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

fn parse_scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number"))?;
    if (0.1..=20.0).contains(&scale) {
        Ok(scale)
    } else {
        Err(format!("{scale} is not in 0.1 to 20"))
    }
}
