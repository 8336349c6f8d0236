//! What the page costs a browser, and what open pages cost the API, with thousands of pods that
//! report each second. Fails if a limit is exceeded.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool: results on stdout, progress on stderr"
)]

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use tests_page::fleet::Fleet;
use tests_page::{Browser, Tab, Ui, View};

mod growth;
mod reads;
mod updates;

const LIVE: &str = "document.getElementById('live').dataset.state === 'live'";
const SOON: Duration = Duration::from_secs(30);
/// For what is not measured: starts, and ends of rounds.
const SLACK: Duration = Duration::from_mins(5);

/// Measures script time of updates, growth, and reads beside open pages.
#[derive(Debug, Parser)]
struct Args {
    /// Pods, a report a second each.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    pods: u32,
    /// Updates whose script time is measured.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    updates: u32,
    /// How long growth is watched; 0 is not at all.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=600))]
    minutes: u32,
    /// Pairs of rounds of reads, with and without open pages; 0 is none.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    rounds: u32,
    /// Pages that are open in one round of a pair.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    pages: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    eprintln!("{} pods begin to report ...", args.pods);
    let minutes = Duration::from_mins(args.minutes.into());
    let rounds = 2 * reads::ROUND * args.rounds;
    let updates = Duration::from_secs(1) * args.updates;
    let time = minutes + rounds + 5 * updates + SLACK;
    let mut fleet = Fleet::start(args.pods, time).await?;
    let ui = Ui::start(fleet.aggregator.api_address()).await?;
    let mut kept = true;
    if args.rounds > 0 {
        eprintln!("{} pairs of rounds of reads ...", args.rounds);
        reads::measure(&fleet, &ui, args.rounds, args.pages).await?;
        fleet.check()?;
    }
    let browser = Browser::start().await?;
    let tab = browser.open(&ui.url("page/pods"), View::LIGHT).await?;
    tab.wait("a live page", SOON, LIVE).await?;
    eprintln!("{} updates ...", args.updates);
    kept &= updates::measure(&tab, args.updates).await?;
    fleet.check()?;
    if args.minutes > 0 {
        eprintln!("{} minutes ...", args.minutes);
        kept &= growth::measure(&tab, &mut fleet, args.minutes).await?;
    }
    check_quiet(&tab)?;
    browser.close().await?;
    ensure!(kept, "a limit was exceeded");
    Ok(())
}

fn check_quiet(tab: &Tab) -> Result<()> {
    let errors = tab.seen().errors;
    ensure!(errors.is_empty(), "the page has errors: {errors:#?}");
    Ok(())
}

/// What became of a limit.
fn verdict(kept: bool) -> &'static str {
    if kept { "kept" } else { "EXCEEDED" }
}
