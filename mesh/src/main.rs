//! `meshmeter-mesh`: adds the filter to sidecars.
//!
//! ```text
//! args -> xds_proxy | control_plane | injector -> listen, admin
//!      -> render | inject | convert -> standard output
//! ```

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

mod acm;
mod admin;
mod bounded;
mod budget;
mod clock;
mod control_plane;
mod convert;
mod inject;
mod injector;
mod json_file;
mod listen;
mod placeholders;
mod placing;
mod prepare;
mod renamed;
mod render;
mod xds_proxy;

/// Adds the filter to the sidecars of a mesh.
#[derive(Debug, Parser)]
#[command(name = "meshmeter-mesh", version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Relay discovery between an Envoy and its control plane, and inject the filter.
    XdsProxy(Box<xds_proxy::Args>),
    /// Serve the mutating webhook that adds xDS proxy and modules to pods.
    Injector(Box<injector::ServeArgs>),
    /// Print the manifest from standard input (YAML or JSON; pods, workloads, Lists) as the webhook
    /// would inject it.
    Inject(Box<inject::InjectArgs>),
    /// Copy the modules and write the sidecar's resources file: what the init container does.
    Prepare(prepare::Args),
    /// Print manifests or a bootstrap that add the filter to another mesh.
    Render(Box<render::Args>),
    /// Serve App Mesh custom resources to Envoys, without AWS's control plane.
    ControlPlane(control_plane::Args),
    /// Print App Mesh custom resources as resources of Gateway API, for another mesh. What has no
    /// counterpart is on standard error, and at the head of the output as comments. Exit code: 0 if
    /// each request goes where it went, 1 if something is left out or different, 2 if something
    /// cannot be read.
    Convert(convert::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if let Err(error) = renamed::check(&words, |name| std::env::var_os(name).is_some()) {
        error.exit();
    }
    let args = Args::parse_from(words);
    common_log::init(common_log::Format::Text, "info");
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    let outcome = match args.command {
        Command::XdsProxy(args) => xds_proxy::run(*args, stop).await,
        Command::Injector(args) => injector::serve(*args, stop).await,
        Command::Inject(args) => inject::inject(&args),
        Command::Prepare(args) => prepare::run(&args),
        Command::Render(args) => render::run(*args),
        Command::Convert(args) => return convert::run(&args),
        Command::ControlPlane(args) => return exit_code(control_plane::run(args, stop).await),
    };
    exit_code(outcome.map(|()| ExitCode::SUCCESS))
}

fn exit_code(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    })
}

async fn cancel_on_signal(stop: CancellationToken) {
    let (terminate, interrupt) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    if let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    }
}
