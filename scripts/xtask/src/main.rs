//! Development tasks that have a branch or a loop. `cargo xtask --help` lists them.
#![expect(clippy::print_stdout, reason = "a command line tool speaks on stdout")]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[cfg(feature = "gen")]
mod gen_proto;

#[derive(Debug, Parser)]
#[command(about, version)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Generate code from the proto files (needs `--features gen`).
    #[cfg(feature = "gen")]
    Gen {
        /// Compare with what is committed instead of writing it.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.task {
        #[cfg(feature = "gen")]
        Task::Gen { check } => gen_proto::run(&workspace_root()?, check),
    }
}

/// The folder of the workspace's `Cargo.toml`.
fn workspace_root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().context("find the workspace")
}
