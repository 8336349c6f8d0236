//! One run: start everything, apply the load, show it, stop it, compare.

use std::time::Duration;

use anyhow::{Context, Result};
use tests_support::aggregator::{Aggregator, pods_metric_path};
use tests_support::autoscalers::Autoscalers;
use tests_support::clock;
use tests_support::load::Phase;
use tests_support::ui::Ui;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::cluster;
use crate::fleet::{Fleet, NAMESPACE};
use crate::mesh;
use crate::outcome::Outcome;
use crate::screen::Screen;
use crate::summary::{self, Summary};
use crate::table;
use crate::watch::{READ_INTERVAL, REQUESTS_PER_SECOND, ROUNDS_PER_PICTURE, Watch};

/// Phases of the load: factor of the quiet rate, and share of the time.
const STEPS: [(&str, f64, f64); 4] = [
    ("quiet", 1.0, 0.2),
    ("2x", 2.0, 0.25),
    ("10x", 10.0, 0.35),
    ("quiet", 1.0, 0.2),
];
/// Syncs of the autoscalers: every 5 s, three times as often as Kubernetes, for a short demo.
const ROUNDS_PER_SYNC: u32 = 25;
/// Signal ages are recorded from here on: before, an idle pod's value is as old as its last
/// heartbeat.
const AGES_AFTER: Duration = Duration::from_secs(1);
/// Counters are final after this time without a change: more than two flush intervals.
const STILL: Duration = Duration::from_millis(2_500);
/// Longest wait for final counters.
const STILL_MAX: Duration = Duration::from_secs(15);
/// Runs the demo to its end or to Ctrl-C. Leaves no process behind either way.
pub(crate) async fn run(args: &Args) -> Result<Outcome> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut screen = Screen::new(args.json);
    let outcome = tokio::select! {
        outcome = run_to_end(args, &mut screen) => outcome,
        // Dropping the run kills its processes and waits for none of them.
        _ = interrupt.recv() => Ok(Outcome::Interrupted),
        _ = terminate.recv() => Ok(Outcome::Interrupted),
    };
    if let Ok(Outcome::Interrupted) = outcome {
        screen.progress("interrupted: all processes were ended");
    }
    outcome
}

async fn run_to_end(args: &Args, screen: &mut Screen) -> Result<Outcome> {
    if args.mesh {
        return mesh::run(args, screen).await;
    }
    screen.progress("starting the aggregator");
    let folder = tempfile::Builder::new().prefix("meshmeter-demo-").tempdir();
    let folder = folder.context("make a directory for the demo")?;
    let mut autoscalers = cluster::autoscalers(folder.path())?;
    let mut aggregator = Aggregator::start(&cluster::options(folder.path())?).await?;
    let ui = Ui::start(aggregator.api_address()).await?;
    screen.progress("starting dj, jazz-v1 and metal-v1, each behind its own Envoy");
    let mut fleet = Fleet::start(aggregator.ingest()).await?;
    aggregator.wait_ready().await?;
    Watch::wait_for_values(&fleet, &aggregator)
        .await
        .with_context(|| format!("the aggregator's log ends:\n{}", aggregator.log_tail()))?;
    screen.progress(&format!(
        "load begins; meanwhile open in a browser\n  {}\nor try\n  {}",
        ui.url("page"),
        curl(&fleet, &aggregator)?
    ));
    let watch = loop {
        let watch = load_and_watch(args, &fleet, &aggregator, &mut autoscalers, screen).await?;
        if !args.keep {
            break watch;
        }
    };
    screen.progress("load ended; waiting until the counters stand still");
    wait_until_still(&fleet, &aggregator).await?;
    let summary = Summary::collect(&fleet, &aggregator, &watch).await?;
    let mut text = summary.to_text();
    text.push_str(&what_an_autoscaler_asks(&fleet, &aggregator).await?);
    screen.result(&serde_json::to_string(&summary)?, &text);
    fleet.stop().await?;
    aggregator.terminate().await?;
    Ok(if summary.exact {
        Outcome::Exact
    } else {
        Outcome::Inexact
    })
}

/// Runs the load and reads the API meanwhile.
async fn load_and_watch(
    args: &Args,
    fleet: &Fleet,
    aggregator: &Aggregator,
    autoscalers: &mut Autoscalers,
    screen: &mut Screen,
) -> Result<Watch> {
    let stop = CancellationToken::new();
    let mut loads = JoinSet::new();
    for pod in &fleet.pods {
        let load = pod.load(&phases(args), args.scale)?;
        loads.spawn(load.run(pod.tally.clone(), stop.clone()));
    }
    let start = clock::now();
    let mut watch = Watch::new(fleet);
    let mut ticks = interval(READ_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0_u32.. {
        tokio::select! {
            biased;
            joined = loads.join_next() => match joined {
                Some(ended) => {
                    ended.context("a load panicked")??;
                    continue;
                }
                None => break,
            },
            _ = ticks.tick() => {}
        }
        let elapsed = start.elapsed();
        let counts = elapsed >= AGES_AFTER && elapsed < args.duration();
        if round % ROUNDS_PER_SYNC == 0 {
            autoscalers.sync(aggregator.api()).await?;
        }
        watch.read_rates(fleet, aggregator, counts).await;
        if round % ROUNDS_PER_PICTURE == 0 {
            watch.read_rest(fleet, aggregator).await;
            let title = title(args, elapsed);
            screen.show(
                &table::frame(&title, &watch.readings),
                &table::line(&title, &watch.readings),
            );
        }
    }
    if watch.ages.len() == 0 {
        screen.progress("the API gave no value while the load ran");
    }
    Ok(watch)
}

fn phases(args: &Args) -> Vec<Phase> {
    let phase = |&(_, rate, part): &(&str, f64, f64)| Phase {
        rate,
        duration: args.duration().mul_f64(part),
    };
    STEPS.iter().map(phase).collect()
}

fn title(args: &Args, elapsed: Duration) -> String {
    let mut end = 0.0;
    let part = elapsed.as_secs_f64() / args.duration().as_secs_f64();
    let step = STEPS.iter().find(|(_, _, length)| {
        end += length;
        part < end
    });
    format!(
        "{:>3} of {} s, load {}",
        elapsed.as_secs().min(args.duration().as_secs()),
        args.duration().as_secs(),
        step.map_or("ended", |(name, ..)| name),
    )
}

/// Waits until no total changed for [`STILL`]; changes after [`STILL_MAX`] show in the comparison.
async fn wait_until_still(fleet: &Fleet, aggregator: &Aggregator) -> Result<()> {
    let start = clock::now();
    let mut last = summary::totals(fleet, aggregator).await?;
    let mut since = start;
    while since.elapsed() < STILL && start.elapsed() < STILL_MAX {
        tokio::time::sleep(READ_INTERVAL).await;
        let totals = summary::totals(fleet, aggregator).await?;
        if totals != last {
            last = totals;
            since = clock::now();
        }
    }
    Ok(())
}

/// The request of an autoscaler for jazz, as a `curl` line, and its answer.
async fn what_an_autoscaler_asks(fleet: &Fleet, aggregator: &Aggregator) -> Result<String> {
    let answer = aggregator.api().get(&jazz_path(fleet)?).await?;
    Ok(format!(
        "\n\nan autoscaler of jazz-v1 asks\n  {}\nand is told\n  {}\n",
        curl(fleet, aggregator)?,
        answer.text().trim_end(),
    ))
}

fn curl(fleet: &Fleet, aggregator: &Aggregator) -> Result<String> {
    let address = aggregator.api().address();
    Ok(format!("curl -k 'https://{address}{}'", jazz_path(fleet)?))
}

fn jazz_path(fleet: &Fleet) -> Result<String> {
    let jazz = fleet.pods.iter().find(|pod| pod.name == "jazz-v1");
    let selector = jazz.context("there is no jazz")?.selector();
    Ok(pods_metric_path(NAMESPACE, &selector, REQUESTS_PER_SECOND))
}
