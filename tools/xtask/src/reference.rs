//! The references of flags, metrics and the chart's values, and the manifests rendered from the
//! chart: tests compare them with what the built programs and the chart say, and write them when
//! they are asked to.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Writes `docs/CONFIGURATION.md`, `docs/METRICS.md`, `docs/reference/CHART.md` and
/// `deploy/manifests` anew.
pub(crate) fn write(root: &Path) -> Result<()> {
    let programs = ["build", "--package=aggregator", "--package=mesh", "--bins"];
    let tests = ["test", "--package=tests-docs", "--test=reference"];
    let chart = ["test", "--package=tests-deploy", "--test=chart"];
    for arguments in [programs.as_slice(), &tests, &chart] {
        let mut cargo = Command::new("cargo");
        cargo.args(arguments).env("MESHMETER_WRITE_REFERENCE", "1");
        let status = cargo.current_dir(root).status();
        let status = status.context("start cargo")?;
        ensure!(status.success(), "cargo {}: {status}", arguments.join(" "));
    }
    Ok(())
}
