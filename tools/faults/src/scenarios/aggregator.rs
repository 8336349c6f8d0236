//! The aggregator is down, or accepts connections without reading.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tests_envoy::{Backends, FRONT, POD, free_address, start_envoy};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::bootstrap::Cluster;
use tests_support::plugin::AGGREGATOR_CLUSTER;

use crate::rig::{
    BlackHole, ReadCounts, Traffic, counted, first_value, plugins, resident_kib, rows, stats_of,
};
use crate::row::Row;

/// Time for which the black hole is up.
const SWALLOWS: Duration = Duration::from_secs(8);
/// Memory an Envoy may grow by meanwhile, in KiB: noise of its allocator, no queue.
const GROWTH_MAX_KIB: u64 = 8 * 1024;

/// SIGKILL and a restart at the same address.
pub(super) async fn killed(rounds: u32) -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let mut aggregator = Aggregator::start(&Options::default()).await?;
    let options = Options {
        ingest: aggregator.ingest(),
        ..Options::default()
    };
    let bootstrap = backends.bootstrap_with(options.ingest, &plugins()?)?;
    let envoy = start_envoy(&bootstrap).await?;
    let traffic = Traffic::start(envoy.listener(FRONT)?);
    first_value(&aggregator).await?;
    let mut seen = ReadCounts::default();
    for round in 0..rounds {
        // Not at the same place within a flush interval each time.
        seen.read(
            &aggregator,
            Duration::from_millis(700 + 137 * u64::from(round % 8)),
        )
        .await?;
        aggregator.kill().await?;
        aggregator = Aggregator::start(&options).await?;
        seen.first_value(&aggregator).await?;
    }
    seen.read(&aggregator, Duration::from_secs(2)).await?;
    traffic.stop_unhurt().await?;
    let sent = stats_of(&envoy, &[]).await?;
    let counted = counted(&aggregator, POD, sent).await?;
    let mut rows = rows("aggregator-sigkill", sent, counted, seen);
    rows[0].note = format!("{rounds} kills");
    Ok(rows)
}

pub(super) async fn late() -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let ingest = free_address()?;
    let envoy = start_envoy(&backends.bootstrap_with(ingest, &plugins()?)?).await?;
    let traffic = Traffic::start(envoy.listener(FRONT)?);
    traffic.more(600).await?;
    let aggregator = Aggregator::start(&Options {
        ingest,
        ..Options::default()
    })
    .await?;
    let mut seen = ReadCounts::default();
    seen.first_value(&aggregator).await?;
    seen.read(&aggregator, Duration::from_secs(3)).await?;
    traffic.stop_unhurt().await?;
    let sent = stats_of(&envoy, &[]).await?;
    let counted = counted(&aggregator, POD, sent).await?;
    Ok(rows("aggregator-late", sent, counted, seen))
}

/// The port accepts and never reads, then the aggregator is there.
pub(super) async fn black_hole() -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let (hole, ingest) = BlackHole::start((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let envoy = start_envoy(&backends.bootstrap_with(ingest, &plugins()?)?).await?;
    let traffic = Traffic::start(envoy.listener(FRONT)?);
    traffic.more(400).await?;
    let before = resident_kib(envoy.pid())?;
    tokio::time::sleep(SWALLOWS).await;
    let grown = resident_kib(envoy.pid())?.saturating_sub(before);
    hole.stop().await;
    let aggregator = Aggregator::start(&Options {
        ingest,
        ..Options::default()
    })
    .await?;
    first_value(&aggregator).await?;
    let mut seen = ReadCounts::default();
    seen.read(&aggregator, Duration::from_secs(3)).await?;
    traffic.stop_unhurt().await?;
    let sent = stats_of(&envoy, &[]).await?;
    let counted = counted(&aggregator, POD, sent).await?;
    let mut rows = rows("aggregator-black-hole", sent, counted, seen);
    rows[0].note = format!("Envoy grew by {grown} KiB in {} s", SWALLOWS.as_secs());
    rows[0].promise(grown <= GROWTH_MAX_KIB, || {
        format!("Envoy grew by {grown} KiB, at most {GROWTH_MAX_KIB}")
    });
    Ok(rows)
}

/// Two aggregators, of which one is a black hole: the other is as fresh and exact as alone.
pub(super) async fn second_stalled() -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let (_hole, stalled) = BlackHole::start((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let both = json!([{"cluster": "stalled"}, {"cluster": AGGREGATOR_CLUSTER}]);
    let plugins = plugins()?.map(|plugin| plugin.with("aggregators", both.clone()));
    let mut bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins)?;
    bootstrap
        .clusters
        .push(Cluster::new("stalled", stalled).with_http2());
    let envoy = start_envoy(&bootstrap).await?;
    let traffic = Traffic::start(envoy.listener(FRONT)?);
    first_value(&aggregator).await?;
    let mut seen = ReadCounts::default();
    seen.read(&aggregator, Duration::from_secs(8)).await?;
    traffic.stop_unhurt().await?;
    let sent = stats_of(&envoy, &["stalled"]).await?;
    let counted = counted(&aggregator, POD, sent).await?;
    Ok(rows("second-aggregator-stalled", sent, counted, seen))
}
