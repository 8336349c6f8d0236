//! An Envoy ends, and its counters with it, so the oracle is what it logged.

use anyhow::{Context, Result};
use tempfile::TempDir;
use tests_envoy::{Backends, FRONT, POD, start_envoy};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::bootstrap::{Bootstrap, file_access_log};

use crate::oracle::{Statsd, logged};
use crate::rig::{RATE, Traffic, counted, plugins};
use crate::row::Row;

/// Share of a second's traffic that a SIGKILL may lose: a flush interval, a tick, and scheduling
/// delays.
const FLUSH_AND_TICK: f64 = 1.25;

/// SIGTERM under load, each time another Envoy and another pod.
pub(super) async fn terminated(rounds: u32) -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let directory = tempfile::tempdir().context("make a directory for access logs")?;
    let (mut sent, mut found) = ((0, 0), (0, 0));
    for round in 0..rounds {
        let statsd = Statsd::start().await?;
        let pod = format!("{POD}-{round}");
        let mut bootstrap = bootstrap(&backends, &aggregator, &pod, &directory)?;
        bootstrap.extra.extend(statsd.fields());
        let mut envoy = start_envoy(&bootstrap).await?;
        let traffic = Traffic::start(envoy.listener(FRONT)?);
        traffic.more(250 + 37 * u64::from(round % 8)).await?;
        envoy.terminate().await?;
        traffic.stop().await?;
        let due = (logged(&log_of(&directory, &pod))?, statsd.attempts());
        let here = counted(&aggregator, &pod, due).await?;
        (sent.0, sent.1) = (sent.0 + due.0, sent.1 + due.1);
        (found.0, found.1) = (found.0 + here.0, found.1 + here.1);
    }
    let mut requests = Row::new("envoy-sigterm", "requests", sent.0, found.0);
    requests.note = format!("{rounds} Envoys; oracle: access log, statsd");
    Ok(vec![
        requests,
        Row::new("envoy-sigterm", "attempts", sent.1, found.1),
    ])
}

/// SIGKILL under load. Answered requests were sent; those in flight are unknown.
pub(super) async fn killed(rounds: u32) -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let directory = tempfile::tempdir().context("make a directory for access logs")?;
    let (mut answered, mut written, mut found) = (0, 0, 0);
    for round in 0..rounds {
        let pod = format!("{POD}-{round}");
        let mut envoy = start_envoy(&bootstrap(&backends, &aggregator, &pod, &directory)?).await?;
        let traffic = Traffic::start(envoy.listener(FRONT)?);
        traffic.more(500 + 37 * u64::from(round)).await?;
        envoy.kill().await?;
        let tally = traffic.stop().await?;
        answered += tally.answers().values().sum::<u64>();
        written += tally.written();
        found += counted(&aggregator, &pod, (tally.written(), 0)).await?.0;
    }
    let mut row = Row::new("envoy-sigkill", "requests", answered, found.min(answered));
    row.counted = found;
    row.doubled = found.saturating_sub(written);
    row.lost_max = flush_and_tick() * u64::from(rounds);
    row.note = format!("{rounds} Envoys; lost at most a flush interval each");
    Ok(vec![row])
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small positive number"
)]
fn flush_and_tick() -> u64 {
    (RATE * FLUSH_AND_TICK) as u64
}

fn log_of(directory: &TempDir, pod: &str) -> std::path::PathBuf {
    directory.path().join(format!("{pod}.log"))
}

fn bootstrap(
    backends: &Backends,
    aggregator: &Aggregator,
    pod: &str,
    directory: &TempDir,
) -> Result<Bootstrap> {
    let mut identity = tests_envoy::identity();
    identity["pod"] = pod.into();
    let plugins = plugins()?.map(|plugin| plugin.with("identity", identity.clone()));
    let mut bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins)?;
    let front = bootstrap
        .listeners
        .first_mut()
        .context("there is no front listener")?;
    front
        .access_log
        .push(file_access_log(&log_of(directory, pod), "%RESPONSE_CODE%"));
    Ok(bootstrap)
}
