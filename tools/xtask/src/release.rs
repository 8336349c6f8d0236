//! `cargo xtask release`: the program of `tools/release`. A crate of its own keeps this one quick
//! to build.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// Runs it with the arguments as they are; it says itself what fails.
pub(crate) fn run(root: &Path, arguments: &[OsString]) -> Result<ExitCode> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--package=tools-release", "--"]);
    let status = cargo.args(arguments).current_dir(root).status();
    let status = status.context("start cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
