//! Flags of the ledger of reads.

use aggregator_ledger::limits::AUTOSCALERS;

/// Flags of the ledger: who read which metric when, and from which pods.
#[derive(Clone, Debug, clap::Args)]
pub struct ReadsArgs {
    /// Autoscalers for whose reads of a day the ledger has room, each with about ten pods (1 to
    /// 10000). Each takes 160 KiB of memory. With more of them, or more pods, it reaches back less
    /// far: the oldest values of each pod go first, then the oldest reads.
    #[arg(
        long,
        env = "MESHMETER_READS_AUTOSCALERS",
        value_name = "NUMBER",
        default_value_t = AUTOSCALERS,
        value_parser = autoscalers
    )]
    pub reads_autoscalers: usize,
}

fn autoscalers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err(format!("{text} is not a number from 1 to 10000")),
    }
}
