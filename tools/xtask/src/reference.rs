//! The references of flags and metrics: `tests/docs` compares them with what the built programs
//! say, and writes them when it is asked to.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Writes `docs/CONFIGURATION.md` and `docs/METRICS.md` anew.
pub(crate) fn write(root: &Path) -> Result<()> {
    let programs = ["build", "--package=aggregator", "--package=mesh", "--bins"];
    let tests = ["test", "--package=tests-docs", "--test=reference"];
    for arguments in [programs.as_slice(), &tests] {
        let mut cargo = Command::new("cargo");
        cargo.args(arguments).env("MESHMETER_WRITE_REFERENCE", "1");
        let status = cargo.current_dir(root).status();
        let status = status.context("start cargo")?;
        ensure!(status.success(), "cargo {}: {status}", arguments.join(" "));
    }
    Ok(())
}
