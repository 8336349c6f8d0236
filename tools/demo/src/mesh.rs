//! The demo through the mesh: manifests, control plane, xDS proxy, stock Envoys, filter,
//! aggregator; and a canary.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tests_mesh::split::Split;
use tests_mesh::{Djapp, INGRESS};
use tests_support::load::{Load, Phase, Tally};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::outcome::Outcome;
use crate::screen::Screen;

/// Weights of jazz's two versions, one after the other.
const SHIFTS: [(u32, u32); 2] = [(95, 5), (50, 50)];
/// Requests of dj per second.
const RATE: f64 = 60.0;
/// Wait until the control plane has read the manifests and the Envoys have the new weights.
const SETTLED: Duration = Duration::from_millis(1_500);

#[derive(Debug, Serialize)]
struct Summary {
    exact: bool,
    pods: Vec<PodRow>,
    shifts: Vec<ShiftRow>,
    resources_changed: f64,
    changes_rejected: f64,
}

/// One pod: counts of its Envoy and of the aggregator.
#[derive(Debug, Serialize)]
struct PodRow {
    pod: String,
    envoy: u64,
    counted: Option<u64>,
}

/// Requests by version under one setting of the weights.
#[derive(Debug, Serialize)]
struct ShiftRow {
    weights: (u32, u32),
    first: u64,
    second: u64,
    expected_second: f64,
    bound: f64,
    within_bound: bool,
}

/// Runs the demo.
pub(crate) async fn run(args: &Args, screen: &mut Screen) -> Result<Outcome> {
    screen.progress("starting the control plane and, each with its xDS proxy, the sidecars of dj, jazz-v1 and jazz-v2");
    let mut djapp = Djapp::start(SHIFTS[0]).await?;
    let mut shifts = Vec::new();
    let mut tallies = Vec::new();
    for weights in SHIFTS {
        djapp.mesh.shift(weights)?;
        tokio::time::sleep(SETTLED).await;
        let (first, second) = weights;
        screen.progress(&format!("jazz is split {first}/{second}"));
        let before = djapp.calls().await?;
        let (load, tally) = load(args, &djapp)?;
        watch(load, &djapp, screen, weights).await?;
        tallies.push(tally);
        let after = djapp.calls().await?;
        let split = Split::new((after.0 - before.0, after.1 - before.1), weights);
        shifts.push(ShiftRow {
            weights,
            first: split.first,
            second: split.second,
            expected_second: split.expected,
            bound: split.bound,
            within_bound: split.is_likely(),
        });
    }
    let summary = collect(&djapp, shifts, &tallies).await?;
    screen.result(&serde_json::to_string(&summary)?, &text(&summary));
    djapp.stop().await?;
    Ok(if summary.exact {
        Outcome::Exact
    } else {
        Outcome::Inexact
    })
}

fn load(args: &Args, djapp: &Djapp) -> Result<(JoinHandle<Result<()>>, Arc<Tally>)> {
    let phase = Phase {
        rate: RATE * args.scale,
        duration: args.duration().mul_f64(0.5),
    };
    let mut load = Load::new(djapp.dj.envoy.listener(INGRESS)?, vec![phase]);
    "dj.prod.svc.cluster.local".clone_into(&mut load.host);
    let tally = Arc::new(Tally::default());
    let running = load.run(Arc::clone(&tally), CancellationToken::new());
    Ok((tokio::spawn(running), tally))
}

/// Shows the rates of each pod each second while the load runs.
async fn watch(
    mut load: JoinHandle<Result<()>>,
    djapp: &Djapp,
    screen: &mut Screen,
    (first, second): (u32, u32),
) -> Result<()> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = &mut load => return ended.context("the load panicked")?,
            _ = ticks.tick() => {}
        }
        let mut line = format!("weights {first}/{second}:");
        for pod in djapp.pods() {
            let rate = rate(djapp, &pod.name).await;
            let _ = match rate {
                Some(rate) => write!(line, "  {} {rate:.1}/s", pod.name),
                None => write!(line, "  {} -", pod.name),
            };
        }
        screen.progress(&line);
    }
}

async fn rate(djapp: &Djapp, pod: &str) -> Option<f64> {
    let (app, version) = pod.split_once('-').unwrap_or((pod, "v1"));
    let selector = format!("app={app},version={version}");
    let metric = crate::watch::REQUESTS_PER_SECOND;
    let api = djapp.aggregator.api();
    let list = api
        .pods_metric(tests_mesh::NAMESPACE, &selector, metric)
        .await;
    list.ok()?.value(pod)
}

async fn collect(djapp: &Djapp, shifts: Vec<ShiftRow>, tallies: &[Arc<Tally>]) -> Result<Summary> {
    let mut pods = Vec::new();
    let (mut changed, mut rejected) = (0.0, 0.0);
    for pod in djapp.pods() {
        // It waits until they agree; if they never do, the difference is shown.
        let _ = pod.is_exact(&djapp.aggregator).await;
        let state = pod.state(&djapp.aggregator).await?;
        pods.push(PodRow {
            pod: pod.name.clone(),
            envoy: pod.counted_by_envoy().await?,
            counted: state.and_then(|state| state.requests("inbound")),
        });
        if let Some(xds_proxy) = &pod.xds_proxy {
            changed += xds_proxy.metric("resources_changed_total").await?;
            rejected += xds_proxy.metric("changes_rejected_total").await?;
        }
    }
    let written: u64 = tallies.iter().map(|tally| tally.written()).sum();
    let unhurt = tallies
        .iter()
        .all(|tally| tally.broken() + tally.refused() == 0);
    let counted = pods.iter().all(|pod| pod.counted == Some(pod.envoy));
    let dj = pods.first().is_some_and(|dj| dj.envoy == written);
    let likely = shifts.iter().all(|shift| shift.within_bound);
    Ok(Summary {
        exact: unhurt && counted && dj && likely,
        pods,
        shifts,
        resources_changed: changed,
        changes_rejected: rejected,
    })
}

fn text(summary: &Summary) -> String {
    let mut text = String::from("\npod        by Envoy's own count   counted by meshmeter\n");
    for row in &summary.pods {
        let counted = row
            .counted
            .map_or_else(|| "-".to_owned(), |counted| counted.to_string());
        let _ = writeln!(text, "{:<10} {:>20} {counted:>22}", row.pod, row.envoy);
    }
    for shift in &summary.shifts {
        let (first, second) = shift.weights;
        let _ = writeln!(
            text,
            "split {first}/{second}: {} and {}; {:.0} expected, chance explains {:.0} more or less: {}",
            shift.first,
            shift.second,
            shift.expected_second,
            shift.bound,
            if shift.within_bound {
                "as it should be"
            } else {
                "NOT as it should be"
            },
        );
    }
    let verdict = if summary.exact {
        "every request was counted exactly once"
    } else {
        "NOT exact"
    };
    let _ = writeln!(
        text,
        "the xDS proxies changed {} listeners and clusters, Envoy rejected {}\n{verdict}",
        summary.resources_changed, summary.changes_rejected
    );
    text
}
