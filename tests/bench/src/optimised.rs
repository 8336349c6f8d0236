//! Benches whose subject is part of this program.

use std::process::Command;

use anyhow::{Context as _, Result};

/// Runs this program again with the same arguments, optimised.
pub(crate) fn run() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "tests-bench",
            "--bin",
            "bench",
            "--",
        ])
        .args(std::env::args_os().skip(1))
        .status()
        .context("run cargo")?;
    // It has said why already.
    std::process::exit(status.code().unwrap_or(1))
}
