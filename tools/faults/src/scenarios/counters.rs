//! Envoy's counters: failing upstreams, resets, and hidden counters.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tests_envoy::{Backends, FRONT, POD, send_mix, start_envoy};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::http;

use crate::rig::{ReadCounts, Traffic, counted, first_value, plugins, rows, stats_of};
use crate::row::Row;

/// Rounds of the four routes: answered, failing with retries, refused, answered by Envoy itself.
const MIXES: u64 = 100;

/// Attempts equal Envoy's own counter of each cluster, retries included.
pub(super) async fn retries() -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let envoy = start_envoy(&backends.bootstrap_with(aggregator.ingest(), &plugins()?)?).await?;
    send_mix(envoy.listener(FRONT)?, MIXES).await?;
    let sent = stats_of(&envoy, &[]).await?;
    let counted = counted(&aggregator, POD, sent).await?;
    Ok(rows(
        "retries-dead-upstreams",
        sent,
        counted,
        ReadCounts::default(),
    ))
}

/// Envoy's counters are reset to 0: the value neither falls nor jumps.
pub(super) async fn reset() -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let envoy = start_envoy(&backends.bootstrap_with(aggregator.ingest(), &plugins()?)?).await?;
    let traffic = Traffic::start(envoy.listener(FRONT)?);
    first_value(&aggregator).await?;
    let mut seen = ReadCounts::default();
    seen.read(&aggregator, Duration::from_secs(2)).await?;
    traffic.stop_unhurt().await?;
    // What is in flight at the reset would be counted on one side by Envoy, on the other by us.
    let first = stats_of(&envoy, &[]).await?;
    let known = counted(&aggregator, POD, first).await?;
    let answer = http::post(envoy.admin(), "/reset_counters").await?;
    ensure!(answer.status == 200, "/reset_counters: {}", answer.text());
    let traffic = Traffic::start(envoy.listener(FRONT)?);
    traffic.more(300).await?;
    traffic.stop_unhurt().await?;
    let second = stats_of(&envoy, &[]).await?;
    let after = counted(&aggregator, POD, second).await?;
    let sum = |a: (u64, u64), b: (u64, u64)| (a.0 + b.0, a.1 + b.1);
    Ok(rows(
        "reset-counters",
        sum(first, second),
        sum(known, after),
        seen,
    ))
}

/// Counters that cannot be read back: each VM streams its own.
pub(super) async fn hidden() -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let mut bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins()?)?;
    let matcher = json!({"stats_matcher": {"inclusion_list": {"patterns": [
        {"suffix": ".upstream_rq_total"},
        {"suffix": ".downstream_rq_total"},
    ]}}});
    bootstrap.extra.insert("stats_config".into(), matcher);
    let envoy = start_envoy(&bootstrap).await?;
    let traffic = Traffic::start(envoy.listener(FRONT)?);
    first_value(&aggregator).await?;
    let mut seen = ReadCounts::default();
    seen.read(&aggregator, Duration::from_secs(3)).await?;
    traffic.stop_unhurt().await?;
    let sent = stats_of(&envoy, &[]).await?;
    let counted = counted(&aggregator, POD, sent).await?;
    Ok(rows("stats-matcher", sent, counted, seen))
}
