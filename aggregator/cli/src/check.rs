//! `check`: whether all is in place, before the installation and after it.
//!
//! ```text
//! kubernetes ─> permissions ─> registration ─> aggregator ─> pods ─> autoscalers ─> Report
//! ```
//!
//! Each module asks what it needs and judges it; a check that cannot be made says so.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::sleep;

use crate::args::{CheckArgs, TextOrJson};
use crate::clock::{self, Clock};
use crate::output::{Failure, Output, json};
use crate::{Connection, Program};
pub use report::{Item, Outcome, Report};

mod aggregator;
mod apis;
mod autoscalers;
mod clocks;
mod kubernetes;
mod objects;
mod permissions;
mod pods;
mod quantity;
mod registration;
mod report;
mod spelling;
mod webhooks;

/// With --wait: time between two rounds.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Namespace that is taken where none can be found out.
const INSTALL_NAMESPACE: &str = "meshmeter";

/// What to check, and how.
#[derive(Clone, Debug)]
pub struct Probe<'a> {
    pub connection: &'a Connection,
    /// Only what is needed before the installation.
    pub pre: bool,
    /// Namespace of the installation, if it was given.
    pub install_namespace: Option<&'a str>,
    /// The present, for ends of certificates and clocks.
    pub read_clock: fn() -> Clock,
}

/// Checks and prints the report.
pub(crate) async fn run(args: &CheckArgs, program: Program) -> Result<ExitCode, Failure> {
    let connection = Connection::open(&args.connection, program).await;
    let connection = connection.map_err(|error| Failure::unknown(&error))?;
    let probe = Probe {
        connection: &connection,
        pre: args.pre,
        install_namespace: args.install_namespace.as_deref(),
        read_clock: clock::read,
    };
    let mut report = once(&probe, &args.group).await;
    let until_good = async {
        while report.exit_code() != 0 {
            sleep(AGAIN_AFTER).await;
            report = once(&probe, &args.group).await;
        }
    };
    // The last report stands.
    let _ = tokio::time::timeout(Duration::from_secs(args.wait), until_good).await;
    let output = Output::new(args.color);
    match args.output {
        TextOrJson::Json => output.print(&json(&report)?),
        TextOrJson::Text => output.print(&report.lines()),
    };
    Ok(ExitCode::from(report.exit_code()))
}

/// A name as a word of a command that people may copy: one that no shell interprets, or `NAME`.
fn word(name: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    let is_word = !name.is_empty() && !name.starts_with('-') && name.chars().all(is_plain);
    if is_word { name } else { "NAME" }
}

async fn once(probe: &Probe<'_>, groups: &[String]) -> Report {
    if groups.is_empty() {
        return check(probe).await;
    }
    let mut report = Report::default();
    apis::check(probe, groups, &mut report).await;
    report
}

/// Makes all checks. Without kube-apiserver there is only the first one.
pub async fn check(probe: &Probe<'_>) -> Report {
    let mut report = Report::default();
    if kubernetes::is_absent(probe, &mut report).await {
        if let Some(health) = aggregator::check(probe, &mut report).await {
            pods::check(probe, &health, &mut report);
        }
        return report;
    }
    if !kubernetes::check(probe, &mut report).await {
        return report;
    }
    if probe.pre {
        permissions::check_installer(probe, &mut report).await;
        registration::check_free(probe, &mut report).await;
        return report;
    }
    let registered = registration::check(probe, &mut report).await;
    permissions::check(probe, &registered, &mut report).await;
    webhooks::check(probe, &mut report).await;
    if let Some(health) = aggregator::check(probe, &mut report).await {
        pods::check(probe, &health, &mut report);
    }
    autoscalers::check(probe, &registered, &mut report).await;
    report
}

#[cfg(test)]
mod tests;
