//! Flags of the ledger of reads.

use std::path::PathBuf;

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

    /// Folder in which reads and changes of autoscalers outlive a restart. One process at a time
    /// may use it. Without it they are lost with the process.
    #[arg(long, env = "MESHMETER_READS_DIR", value_name = "FOLDER")]
    pub reads_dir: Option<PathBuf>,

    /// Size of the folder in MiB (4 to 102400). Beyond it the oldest reads are removed. A hundred
    /// autoscalers with ten pods each write about 80 MiB a day.
    #[arg(
        long,
        env = "MESHMETER_READS_DIR_MIB",
        value_name = "MIB",
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(4..=102_400)
    )]
    pub reads_dir_mib: u32,
}

fn autoscalers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err(format!("{text} is not a number from 1 to 10000")),
    }
}
