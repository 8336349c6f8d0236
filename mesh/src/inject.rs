//! `meshmeter-mesh inject`, and the flags that say what every pod gets.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use mesh_injector::pod::{self, Settings};

/// Longest pod that is read.
const POD_MAX: u64 = 4 * 1024 * 1024;

/// What every pod gets.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PodArgs {
    /// Image with `meshmeter-mesh` and, in /opt/meshmeter, the modules.
    #[arg(long, env = "MESHMETER_IMAGE", value_name = "IMAGE")]
    image: String,

    /// Origin of the configuration, as `interposer --upstream` has it.
    #[arg(long, env = "MESHMETER_UPSTREAM", value_name = "URL")]
    upstream: String,

    /// Aggregator to stream to, as HOST:PORT. May be given several times, or once with commas.
    #[arg(
        long,
        env = "MESHMETER_AGGREGATOR",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        required = true
    )]
    aggregator: Vec<String>,
}

/// Flags of the dry run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pod: PodArgs,
}

// === impl PodArgs ===

impl PodArgs {
    /// What they say.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            image: self.image.clone(),
            upstream: self.upstream.clone(),
            aggregators: self.aggregator.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Prints the pod of standard input as the webhook would make it.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut text = String::new();
    let read = std::io::stdin().take(POD_MAX).read_to_string(&mut text);
    read.context("standard input")?;
    let pod = serde_saphyr::from_str(&text).context("standard input")?;
    let injected = pod::inject(&pod, &args.pod.settings()).context("the pod is left as it is")?;
    println!("{}", serde_json::to_string_pretty(&injected)?);
    Ok(())
}
