//! Parse, telemetry, run.

use std::process::ExitCode;

use aggregator::args::Args;
use aggregator::config::Config;
use aggregator::{app, shutdown, telemetry};
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let (telemetry, config) = Config::check(args.command).unwrap_or_else(|error| {
        Args::command()
            .error(ErrorKind::ValueValidation, format!("{error:#}"))
            .exit()
    });
    telemetry::init(&telemetry);
    match app::run(config, shutdown::on_signal()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "meshmeter failed");
            ExitCode::FAILURE
        }
    }
}
