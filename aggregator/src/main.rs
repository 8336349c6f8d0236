//! Parse, telemetry, run.

use std::io::Write as _;
use std::process::ExitCode;

use aggregator::args::{Args, Command, RemoteWriteCommand, ServeArgs};
use aggregator::config::{Config, RemoteWriteConfig};
use aggregator::{app, clock, remote_write, shutdown, telemetry};
use aggregator_cli::Program;
use aggregator_cli::args::examples::{self, PluginArgs};
use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};

#[tokio::main]
async fn main() -> ExitCode {
    let program = Program::of(std::env::args_os().next().as_deref());
    let command = match program {
        Program::Meshmeter => examples::with_examples(Args::command(), program),
        Program::Plugin => examples::plugin(),
    };
    let matches = command.clone().get_matches();
    let parsed = match program {
        Program::Meshmeter => Args::from_arg_matches(&matches).map(|args| args.command),
        Program::Plugin => {
            let args = PluginArgs::from_arg_matches(&matches);
            args.map(|args| Command::Operator(args.command))
        }
    };
    match parsed.unwrap_or_else(|error| error.exit()) {
        Command::Serve(args) => serve(*args).await,
        Command::RemoteWrite(RemoteWriteCommand::Check(args)) => {
            let config = RemoteWriteConfig::check(*args, None)
                .unwrap_or_else(|error| refuse(&error))
                .unwrap_or_else(|| refuse(&anyhow::anyhow!("--remote-write-url is needed")));
            let outcome = remote_write::check(&config, &clock::system()).await;
            print(outcome.map_err(|error| format!("{error:#}")))
        }
        Command::Operator(operator) => aggregator_cli::run(operator, program, command).await,
    }
}

fn print(outcome: Result<String, String>) -> ExitCode {
    let (text, code) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(text) => (text, ExitCode::FAILURE),
    };
    for line in text.lines() {
        // Escaped, since the text quotes peers. A closed stdout is no error.
        let _ = writeln!(std::io::stdout(), "{}", common_log::escaped(line));
    }
    code
}

async fn serve(args: ServeArgs) -> ExitCode {
    let (telemetry, config) = Config::check(args).unwrap_or_else(|error| refuse(&error));
    telemetry::init(&telemetry);
    match app::run(config, shutdown::on_signal()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "meshmeter failed");
            ExitCode::FAILURE
        }
    }
}

fn refuse(error: &anyhow::Error) -> ! {
    Args::command()
        .error(ErrorKind::ValueValidation, format!("{error:#}"))
        .exit()
}
