//! `meshmeter-mesh convert`.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;
use mesh_control_plane::lint;
use mesh_convert::{Channel, Conversion, Lack, Options};

use crate::acm::AcmArgs;
use crate::placeholders::PlaceholderArgs;

/// Something is left out, or goes elsewhere.
const DIFFERENT: u8 = 1;
/// Something cannot be read.
const UNREADABLE: u8 = 2;

/// Shown at the end of `--help`.
const EXAMPLE: &str = "Example:
  meshmeter-mesh convert --to gateway-api manifests/ > gateway-api.yaml";

#[expect(clippy::doc_markdown, reason = "these are texts of --help")]
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Args {
    /// Folder of manifests (*.yaml, *.yml, *.json; with --set or --tolerate-placeholders also
    /// *.template), read as the control plane reads it. Several are read together.
    #[arg(value_name = "FOLDER", required = true)]
    folders: Vec<PathBuf>,

    /// What to print.
    #[arg(long, value_name = "API", value_enum)]
    to: Target,

    /// Release channel of the CustomResourceDefinitions in the cluster. The standard one has no
    /// retries and no TCPRoute.
    #[arg(long, value_name = "CHANNEL", value_enum, default_value_t = ChannelArg::Experimental)]
    channel: ChannelArg,

    /// GatewayClass of the Gateways that virtual gateways become. Without it they have a
    /// placeholder, which is named as not converted.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    gateway_class: Option<String>,

    #[command(flatten)]
    placeholders: PlaceholderArgs,

    #[command(flatten)]
    acm: AcmArgs,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Target {
    /// Gateway API for service meshes.
    GatewayApi,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ChannelArg {
    Standard,
    Experimental,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let Target::GatewayApi = args.to;
    match converted(args) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(UNREADABLE)
        }
    }
}

fn converted(args: &Args) -> Result<ExitCode> {
    let placeholders = args.placeholders.read();
    let texts = lint::texts(&args.folders, &placeholders)?;
    let (report, meshes) = lint::examine(&texts, &placeholders, args.acm.read()?);
    let options = Options {
        channel: args.channel.into(),
        gateway_class: args.gateway_class.clone(),
    };
    let conversion = mesh_convert::convert(&report, &meshes, &options);
    print(&conversion)?;
    Ok(if !report.unreadable.is_empty() {
        ExitCode::from(UNREADABLE)
    } else if conversion.is_faithful() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERENT)
    })
}

#[expect(clippy::print_stderr, reason = "what is lost, beside the result")]
fn print(conversion: &Conversion) -> Result<()> {
    for finding in &conversion.findings {
        eprintln!("{}", common_log::escaped(&finding.to_string()));
    }
    let of_traffic = conversion.findings.iter();
    let of_traffic = of_traffic.filter(|finding| finding.lack != Lack::NoCounterpart);
    eprintln!(
        "{} objects printed; {} findings, {} of them about where requests go",
        conversion.documents.len(),
        conversion.findings.len(),
        of_traffic.count()
    );
    let text = mesh_convert::text(conversion)?;
    match write!(io::stdout(), "{text}") {
        // The reader has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output"),
    }
}

// === impl Channel ===

impl From<ChannelArg> for Channel {
    fn from(channel: ChannelArg) -> Self {
        match channel {
            ChannelArg::Standard => Self::Standard,
            ChannelArg::Experimental => Self::Experimental,
        }
    }
}
