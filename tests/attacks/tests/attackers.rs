//! The aggregator at its shipped limit of memory.
#![expect(clippy::print_stdout, reason = "what was measured belongs in the log")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests_attacks::cage::Cage;
use tests_attacks::flood;
use tests_attacks::well_behaved::{POD, WellBehaved};
use tests_support::aggregator::{Aggregator, Options};

/// As `deploy/kustomize/base/aggregator.yaml` says.
const LIMIT: u64 = 512 << 20;
const REPORT: &str = "/meshmeter.v1.Ingest/Report";
const METRICS_SERVICE: &str = "/envoy.service.metrics.v3.MetricsService/StreamMetrics";
/// Lines of log: some at the start, and a few of each reason every ten seconds.
const LINES_MAX: usize = 300;
const MIB: usize = 1 << 20;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `ATTACK=half`, `empty` or `connections` runs one kind alone.
///
/// While attackers hold what they can get, a sidecar is served in time, so are probes, and the
/// program stays within its limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attackers_do_not_hurt_anyone() -> Result<()> {
    let cage = Cage::new(LIMIT);
    let mut aggregator = Aggregator::start(&Options {
        cgroup: cage.procs(),
        ..Options::default()
    })
    .await?;
    let pid = aggregator.pid().context("it runs")?;
    let well_behaved = WellBehaved::start(&aggregator)?;
    let ingest = aggregator.ingest();
    let wanted = std::env::var("ATTACK").unwrap_or_default();
    let chosen = |name: &str| wanted.is_empty() || wanted == name;
    let report = |name: &str, held: &flood::Held, aggregator: &mut Aggregator| -> Result<()> {
        aggregator
            .check_running()
            .with_context(|| name.to_owned())?;
        let peak = cage.check_peak(pid).with_context(|| name.to_owned())?;
        println!(
            "{name}: peak {} MiB, {} MiB sent, {} refused",
            peak >> 20,
            held.sent >> 20,
            held.refused
        );
        Ok(())
    };
    if chosen("half") {
        let held = flood::half_messages(ingest, METRICS_SERVICE, 160, 1, 4 * MIB).await;
        report("160 half-sent messages", &held, &mut aggregator)?;
        drop(held);
        let held = flood::half_messages(ingest, METRICS_SERVICE, 8, 20, 4 * MIB).await;
        report(
            "160 half-sent messages on 8 connections",
            &held,
            &mut aggregator,
        )?;
        drop(held);
        let held = flood::half_messages(ingest, REPORT, 400, 1, 256 * 1024).await;
        report("400 half-sent frames", &held, &mut aggregator)?;
    }
    if chosen("empty") {
        let held = flood::empty_streams(ingest, METRICS_SERVICE, 400, 256).await;
        report("102,400 empty streams", &held, &mut aggregator)?;
        drop(held);
        let held = flood::empty_streams(ingest, REPORT, 100, 64).await;
        report("6,400 empty streams", &held, &mut aggregator)?;
    }
    if chosen("connections") {
        let held = flood::silent(ingest, 2_000, PREFACE).await;
        report("2,000 idle connections", &held, &mut aggregator)?;
        drop(held);
        let held = flood::silent(ingest, 1_000, b"PRI * HT").await;
        report("1,000 halves of a preface", &held, &mut aggregator)?;
        drop(held);
        flood::rapid(ingest, REPORT, Duration::from_secs(2)).await;
        report("rapid connects", &flood::Held::default(), &mut aggregator)?;
    }
    println!("{}", well_behaved.finish()?);
    let lines = aggregator.log().lines().count();
    ensure!(lines < LINES_MAX, "{lines} lines of log");
    let pods = aggregator.pods().await?;
    let state = pods.get("prod", POD)?;
    ensure!(state.requests("inbound") > Some(0), "{state:?}");
    Ok(())
}
