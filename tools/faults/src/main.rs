//! Runs the fault suite and prints what was sent, counted, lost and doubled.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command whose output is its purpose"
)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tools_faults::row::{Row, table};
use tools_faults::scenarios::{ALL, Scenario};

/// Faults on real Envoys under load: per scenario what was sent (by Envoy's own account), counted
/// (by the aggregator), lost and doubled, how old values became, and how long an aggregator was
/// blind after its start.
///
/// Ends with code 1 if a promise was broken. All scenarios take about ten minutes.
#[derive(Debug, Parser)]
struct Args {
    /// Print one JSON document instead of the table.
    #[arg(long)]
    json: bool,
    /// Run only this scenario; may be given several times.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// How often a process is killed or ended in scenarios that repeat that.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// List the scenarios and end.
    #[arg(long)]
    list: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<bool> {
    if args.list {
        for scenario in ALL {
            println!("{:<28} {}", scenario.name, scenario.about);
        }
        return Ok(true);
    }
    let mut rows: Vec<Row> = Vec::new();
    for scenario in chosen(args)? {
        eprintln!("{}: {} ...", scenario.name, scenario.about);
        rows.extend(
            scenario
                .run(args.rounds)
                .await
                .with_context(|| scenario.name.to_owned())?,
        );
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", table(&rows));
    }
    Ok(rows.iter().all(Row::holds))
}

fn chosen(args: &Args) -> Result<Vec<&'static Scenario>> {
    if args.scenario.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let find = |name: &String| {
        let Some(scenario) = ALL.iter().find(|scenario| scenario.name == name) else {
            bail!("--scenario {name}: there is no such scenario; `--list` names them");
        };
        Ok(scenario)
    };
    args.scenario.iter().map(find).collect()
}
