//! The steps of a release: `cargo xtask release`.
#![expect(clippy::print_stdout, reason = "a command line tool speaks on stdout")]

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use time::Date;
use time::macros::format_description;
use tools_release::changelog;
use tools_release::version::{self, Version};

/// The steps of a release, each as a workflow runs it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask release")]
struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Write a version into every file that names one.
    Version {
        version: Version,
        /// Release it: the open section of the changelog becomes that of the version, with this
        /// date.
        #[arg(long, value_name = "YYYY-MM-DD", value_parser = date)]
        date: Option<Date>,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().context("find the workspace")?;
    match args.step {
        Step::Version { version, date } => set_version(&root, &version, date),
    }
}

fn set_version(root: &Path, version: &Version, date: Option<Date>) -> Result<()> {
    if let Some(date) = date {
        let file = root.join("CHANGELOG.md");
        let text = fs::read_to_string(&file).context("CHANGELOG.md")?;
        fs::write(&file, changelog::close(&text, version, date)?)?;
        println!("CHANGELOG.md");
    }
    for file in version::set(root, version)? {
        println!("{file}");
    }
    Ok(())
}

fn date(text: &str) -> Result<Date, time::error::Parse> {
    Date::parse(text, format_description!("[year]-[month]-[day]"))
}
