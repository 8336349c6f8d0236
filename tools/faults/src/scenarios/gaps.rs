//! Gaps: no reports reach the aggregator for a while, or there is no traffic. Every value of the
//! API meanwhile and afterwards is right.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use tests_envoy::watch::{Traffic, Watch};
use tests_envoy::{Backends, FRONT, POD, start_envoy};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::envoy::Envoy;
use tests_support::load::{Load, Phase};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::rig::{counted, first_value, plugins, stats_of};
use crate::row::Row;

/// Requests per second.
const RATE: f64 = 100.0;
/// Lengths of the gaps: shorter than a value is held, about as long, and longer.
const GAPS: [Duration; 3] = [
    Duration::from_secs(3),
    Duration::from_secs(8),
    Duration::from_secs(15),
];
/// Time for which values are read before and after a gap.
const BETWEEN: Duration = Duration::from_secs(8);

/// A proxy to the aggregator that can be cut.
struct Relay(JoinHandle<()>);

impl Relay {
    async fn start(address: SocketAddr, target: SocketAddr) -> Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address).await.context("bind the relay")?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // Aborted with the task.
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                connections.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(target).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Ok((Self(task), address))
    }

    /// Closes every connection and the port.
    async fn cut(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

/// Between sidecar and aggregator every connection is closed, and none can be made for a while.
pub(super) async fn cut() -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (mut relay, address) = Relay::start(any, aggregator.ingest()).await?;
    let envoy = start_envoy(&backends.bootstrap_with(address, &plugins()?)?).await?;
    let traffic = Traffic::even(envoy.listener(FRONT)?, RATE);
    first_value(&aggregator).await?;
    let mut watch = Watch::default();
    watch.read_for(&aggregator, BETWEEN).await?;
    for gap in GAPS {
        relay.cut().await;
        watch.read_for(&aggregator, gap).await?;
        (relay, _) = Relay::start(address, aggregator.ingest()).await?;
        watch.read_for(&aggregator, BETWEEN).await?;
    }
    row("gap-cut", &aggregator, &envoy, traffic, &watch).await
}

/// The aggregator's process is stopped for a while: what sidecars sent meanwhile comes at once.
pub(super) async fn paused() -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let envoy = start_envoy(&backends.bootstrap_with(aggregator.ingest(), &plugins()?)?).await?;
    let traffic = Traffic::even(envoy.listener(FRONT)?, RATE);
    first_value(&aggregator).await?;
    let mut watch = Watch::default();
    watch.read_for(&aggregator, BETWEEN).await?;
    for gap in GAPS {
        aggregator.pause()?;
        tokio::time::sleep(gap).await;
        aggregator.resume()?;
        watch.read_for(&aggregator, BETWEEN).await?;
    }
    row(
        "gap-aggregator-paused",
        &aggregator,
        &envoy,
        traffic,
        &watch,
    )
    .await
}

/// There is nothing to count for a while.
pub(super) async fn idle() -> Result<Vec<Row>> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let envoy = start_envoy(&backends.bootstrap_with(aggregator.ingest(), &plugins()?)?).await?;
    let phase = |rate, seconds| Phase {
        rate,
        duration: Duration::from_secs(seconds),
    };
    let phases = vec![
        phase(RATE, 15),
        phase(0.0, 20),
        phase(RATE, 15),
        phase(0.0, 5),
        phase(RATE, 10),
    ];
    let load = Load::new(envoy.listener(FRONT)?, phases);
    let traffic = Traffic::start(load);
    let mut watch = Watch::default();
    watch.read_for(&aggregator, Duration::from_secs(66)).await?;
    row("gap-idle", &aggregator, &envoy, traffic, &watch).await
}

pub(super) async fn row(
    scenario: &'static str,
    aggregator: &Aggregator,
    envoy: &Envoy,
    traffic: Traffic,
    watch: &Watch,
) -> Result<Vec<Row>> {
    // What was sent at the end of the last window has to be known too.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let verdict = traffic.judge(watch);
    traffic.stop().await?;
    let sent = stats_of(envoy, &[]).await?;
    let found = counted(aggregator, POD, sent).await?;
    let mut requests = Row::new(scenario, "requests", sent.0, found.0);
    requests.watched(&verdict);
    Ok(vec![
        requests,
        Row::new(scenario, "attempts", sent.1, found.1),
    ])
}
