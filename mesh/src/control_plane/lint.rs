//! `meshmeter-mesh control-plane lint`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use mesh_control_plane::lint::{self, Outcome, Report, Resource};

use crate::acm::AcmArgs;
use crate::placeholders::PlaceholderArgs;

/// Something is refused.
const REFUSED: u8 = 1;
/// Something cannot be read.
const UNREADABLE: u8 = 2;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of manifests (*.yaml, *.yml, *.json; with --set or --tolerate-placeholders also
    /// *.template), read as the control plane reads it. Several are read together.
    #[arg(value_name = "FOLDER", required = true)]
    folders: Vec<PathBuf>,

    /// Print the report as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    placeholders: PlaceholderArgs,

    #[command(flatten)]
    acm: AcmArgs,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let placeholders = args.placeholders.read();
    let report = || lint::folders(&args.folders, &placeholders, args.acm.read()?);
    let outcome = report().and_then(|report| {
        print(&report, args.json)?;
        Ok(report)
    });
    match outcome {
        Ok(report) if !report.unreadable.is_empty() => ExitCode::from(UNREADABLE),
        Ok(report) if report.refuses() => ExitCode::from(REFUSED),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(UNREADABLE)
        }
    }
}

fn print(report: &Report, as_json: bool) -> Result<()> {
    let text = if as_json {
        serde_json::to_string_pretty(report)?
    } else {
        table(report)
    };
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        // The reader has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output"),
    }
}

/// A paragraph for each resource: its outcome, why it is refused, and each of its fields.
fn table(report: &Report) -> String {
    let mut text = String::new();
    for resource in &report.resources {
        paragraph(&mut text, resource);
    }
    for (file, why) in &report.unreadable {
        let _ = writeln!(text, "{file}: cannot be read: {why}\n");
    }
    let refused = report.resources.iter();
    let refused = refused.filter(|resource| resource.outcome != Outcome::Served);
    let _ = writeln!(
        text,
        "{} resources, {} of them refused in whole or in part; {} files cannot be read",
        report.resources.len(),
        refused.count(),
        report.unreadable.len()
    );
    text
}

fn paragraph(text: &mut String, resource: &Resource) {
    let outcome = match resource.outcome {
        Outcome::Served => "served",
        Outcome::ServedInPart => "served in part",
        Outcome::Refused => "refused",
    };
    let name = match &*resource.namespace {
        "" => resource.name.clone(),
        namespace => format!("{namespace}/{}", resource.name),
    };
    let _ = writeln!(text, "{} {name}: {outcome}", resource.kind);
    for why in &resource.refused {
        let _ = writeln!(text, "  because {why}");
    }
    for field in &resource.fields {
        let because = if field.why.is_empty() { "" } else { ": " };
        let effect = field.effect.as_str();
        let _ = writeln!(text, "  {effect:<9}  {}{because}{}", field.path, field.why);
    }
    text.push('\n');
}
