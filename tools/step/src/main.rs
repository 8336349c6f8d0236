//! Runs steps in load and prints the time until each is visible.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command whose output is its purpose"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;
use tests_support::aggregator::{Aggregator, Options};
use tests_support::load::Phase;
use tokio::task::JoinSet;

use crate::group::{Group, Step};
use crate::prometheus::Prometheus;

mod group;
mod prometheus;

/// How soon a step in load is 90 % visible to an autoscaler: in meshmeter's API, and beside it in a
/// real Prometheus that scrapes the same Envoys every 15 s, read as `rate[1m]`. The load doubles,
/// or comes back after a pause, which makes two steps within a minute.
///
/// Three pods, evenly paced load, stock settings. Takes about 13 minutes, and 8 more with
/// Prometheus. Ends with code 1 if a limit is passed: 3 s for 200 to 400 requests a second and pod,
/// 7 s for 10 to 20 (p95), the same after a pause.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Print one JSON document instead of the table.
    #[arg(long)]
    json: bool,
    /// Steps of each size at meshmeter's API.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=300))]
    steps: u32,
    /// Loads that come back after a pause, of each size.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=100))]
    returns: u32,
    /// Steps read from Prometheus, each in twenty scrape phases.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=20))]
    prometheus_steps: u32,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
struct Line {
    path: &'static str,
    from: f64,
    to: f64,
    steps: usize,
    /// Steps that were not visible before the load ended.
    missed: usize,
    p50_s: f64,
    p95_s: f64,
    max_s: f64,
    limit_s: Option<f64>,
}

/// Groups that run the slow steps concurrently.
const SLOW_GROUPS: u32 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("step: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<bool> {
    let aggregator = Arc::new(Aggregator::start(&Options::default()).await?);
    let busy = Group::start("busy", &aggregator).await?;
    let mut lines = meshmeter(args, &aggregator, &busy).await?;
    if args.prometheus_steps > 0 {
        lines.push(prometheus(args, &busy).await?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    } else {
        print_table(&lines);
    }
    Ok(lines.iter().all(holds))
}

fn holds(line: &Line) -> bool {
    line.limit_s
        .is_none_or(|limit| line.missed == 0 && line.p95_s <= limit)
}

async fn meshmeter(args: &Args, aggregator: &Arc<Aggregator>, busy: &Group) -> Result<Vec<Line>> {
    let mut slow = JoinSet::new();
    for number in 0..SLOW_GROUPS {
        let aggregator = Arc::clone(aggregator);
        let steps = args.steps.div_ceil(SLOW_GROUPS);
        let group = Group::start(&format!("quiet{number}"), &aggregator).await?;
        let returns = args.returns.div_ceil(SLOW_GROUPS);
        slow.spawn(async move {
            let steps = steps_of(&group, &aggregator, "10 to 20", steps, quiet).await?;
            let back = steps_of(&group, &aggregator, "back to 20", returns, quiet_again).await?;
            anyhow::Ok((steps, back))
        });
    }
    let fast = steps_of(busy, aggregator, "200 to 400", args.steps, loud).await?;
    let fast_back = steps_of(busy, aggregator, "back to 200", args.returns, loud_again).await?;
    let (mut all, mut all_back) = (Vec::new(), Vec::new());
    while let Some(times) = slow.join_next().await {
        let (steps, back) = times.context("a group died")??;
        all.extend(steps);
        all_back.extend(back);
    }
    let mut lines = vec![
        line("meshmeter", loud(0), &fast, Some(3.0)),
        line("meshmeter", quiet(0), &all, Some(7.0)),
    ];
    if args.returns > 0 {
        lines.push(line(
            "meshmeter, after a pause",
            loud_again(0),
            &fast_back,
            Some(3.0),
        ));
        lines.push(line(
            "meshmeter, after a pause",
            quiet_again(0),
            &all_back,
            Some(7.0),
        ));
    }
    Ok(lines)
}

async fn steps_of(
    group: &Group,
    aggregator: &Aggregator,
    what: &str,
    steps: u32,
    step: fn(u32) -> Step,
) -> Result<Vec<Option<Duration>>> {
    let mut times = Vec::new();
    for number in 0..steps {
        let time = group.step(aggregator, step(number)).await?;
        eprintln!(
            "meshmeter, {what}: step {} of {steps}: {time:?}",
            number + 1
        );
        times.push(time);
    }
    Ok(times)
}

/// From 200 to 400, at another place in the flush interval each time.
fn loud(number: u32) -> Step {
    Step {
        earlier: None,
        from: 200.0,
        to: 400.0,
        before: Duration::from_millis(7_000 + 97 * u64::from(number % 11)),
        after: Duration::from_secs(5),
    }
}

/// From 10 to 20.
fn quiet(number: u32) -> Step {
    Step {
        earlier: None,
        from: 10.0,
        to: 20.0,
        before: Duration::from_millis(24_000 + 97 * u64::from(number % 11)),
        after: Duration::from_secs(12),
    }
}

/// 200, nothing for 15, 25, 35 or 45 s, and 200 again.
fn loud_again(number: u32) -> Step {
    again(200.0, number, Duration::from_secs(5))
}

/// The same pauses with a load of 20.
fn quiet_again(number: u32) -> Step {
    again(20.0, number, Duration::from_secs(12))
}

fn again(rate: f64, number: u32, after: Duration) -> Step {
    let pause = 15_000 + 10_000 * u64::from(number % 4) + 97 * u64::from(number % 11);
    Step {
        earlier: Some(Phase {
            rate,
            duration: Duration::from_secs(40),
        }),
        from: 0.0,
        to: rate,
        before: Duration::from_millis(pause),
        after,
    }
}

async fn prometheus(args: &Args, busy: &Group) -> Result<Line> {
    prometheus::check_scrape(&busy.admins()).await?;
    let prometheus = Prometheus::start(&busy.admins()).await?;
    let step = Step {
        before: Duration::from_secs(80),
        after: Duration::from_secs(80),
        ..loud(0)
    };
    let mut times = Vec::new();
    for number in 0..args.prometheus_steps {
        let phases = prometheus.step(busy, step).await?;
        eprintln!(
            "Prometheus, 200 to 400: step {} of {}",
            number + 1,
            args.prometheus_steps
        );
        times.extend(phases);
    }
    Ok(line("Prometheus, 15 s, rate[1m]", step, &times, None))
}

fn line(path: &'static str, step: Step, times: &[Option<Duration>], limit_s: Option<f64>) -> Line {
    let mut seconds: Vec<f64> = times.iter().flatten().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    // A step that was not seen took at least as long as was looked for it.
    let missed = times.len() - seconds.len();
    seconds.extend(std::iter::repeat_n(step.after.as_secs_f64(), missed));
    Line {
        path,
        from: step.from,
        to: step.to,
        steps: times.len(),
        missed,
        p50_s: quantile(&seconds, 50),
        p95_s: quantile(&seconds, 95),
        max_s: quantile(&seconds, 100),
        limit_s,
    }
}

/// Percentile of `sorted`, by nearest rank.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

fn print_table(lines: &[Line]) {
    println!("time until a step of the load of 3 pods is 90 % visible, seconds");
    println!(
        "{:<28} {:>12} {:>6} {:>7} {:>7} {:>7} {:>7}",
        "path", "requests/s", "steps", "p50", "p95", "max", "limit"
    );
    for line in lines {
        let limit = line
            .limit_s
            .map_or_else(|| "-".to_owned(), |limit| format!("{limit:.0}"));
        println!(
            "{:<28} {:>12} {:>6} {:>7.2} {:>7.2} {:>7.2} {:>7}{}",
            line.path,
            format!("{:.0} to {:.0}", line.from, line.to),
            line.steps,
            line.p50_s,
            line.p95_s,
            line.max_s,
            limit,
            if holds(line) { "" } else { "  PASSED" }
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times: Vec<f64> = (1..=30).map(f64::from).collect();
        assert!((quantile(&times, 50) - 15.0).abs() < 1e-9);
        assert!((quantile(&times, 95) - 29.0).abs() < 1e-9);
        assert!((quantile(&times, 100) - 30.0).abs() < 1e-9);
    }

    #[test]
    fn a_step_that_was_missed_is_no_success() {
        let times = [Some(Duration::from_secs(1)), None];
        let line = line("x", loud(0), &times, Some(3.0));
        assert_eq!((line.steps, line.missed), (2, 1));
        assert!(!holds(&line));
    }
}
