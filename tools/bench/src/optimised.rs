//! Benches whose subject is part of this program, or is measured as users run it.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Runs this program again with the same arguments, optimised, as are the `programs` (packages)
/// that it starts.
pub(crate) fn run(programs: &[&str]) -> Result<()> {
    let mut build = cargo("build");
    for package in programs.iter().chain(&["tools-bench"]) {
        build.args(["--package", package]);
    }
    let status = build.arg("--bins").status().context("run cargo build")?;
    ensure!(status.success(), "cargo build: {status}");
    let status = cargo("run")
        .args(["--package", "tools-bench", "--bin", "bench", "--"])
        .args(std::env::args_os().skip(1))
        .status()
        .context("run cargo run")?;
    // It has said why already.
    std::process::exit(status.code().unwrap_or(1))
}

fn cargo(command: &str) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .args([command, "--quiet", "--release"]);
    cargo
}
