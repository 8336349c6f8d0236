//! Two replicas, totals of pods, one writer by a Lease: whoever writes, Prometheus has every
//! request once.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::StatusCode;
use tests_remote_write::pair::Pair;
use tests_remote_write::{PATIENCE, TOTAL};
use tests_support::clock;
use tests_support::kubernetes::objects::LEASE;

/// Longer than a holder writes on without the API server.
const OUTAGE: Duration = Duration::from_secs(12);

fn writer(pair: &Pair) -> Option<String> {
    let lease = pair.cluster.objects().get(LEASE, "meshmeter", "writer")?;
    lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

async fn writer_is(pair: &Pair, name: &str) -> Result<()> {
    clock::wait_for(&format!("{name} to hold the lease"), PATIENCE, async || {
        Ok((writer(pair).as_deref() == Some(name)).then_some(()))
    })
    .await
}

async fn arrives(pair: &Pair) -> Result<()> {
    let sent = f64::from(pair.sent);
    clock::wait_for(&format!("{sent} requests"), PATIENCE, async || {
        let total = pair.prometheus.value(TOTAL).await?.unwrap_or_default();
        ensure!(total <= sent, "{total} in Prometheus, {sent} sent");
        Ok(((total - sent).abs() < 0.5).then_some(()))
    })
    .await
}

/// The writer is killed, and the other takes over; the first comes back, and gets the Lease when
/// the other ends; the API server is away for a while. Every request is told, once, and no total
/// ever falls.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_writes_totals_of_pods() {
    let mut pair = Pair::start(&["--remote-write-lease=writer"]).await.unwrap();
    pair.send(10).await.unwrap();
    arrives(&pair).await.unwrap();
    let (first, second) = match writer(&pair).as_deref() {
        Some("a") => ("a", "b"),
        _ => ("b", "a"),
    };
    pair.replicas.get_mut(first).unwrap().kill().await.unwrap();
    pair.send(7).await.unwrap();
    writer_is(&pair, second).await.unwrap();
    pair.send(3).await.unwrap();
    arrives(&pair).await.unwrap();
    // It comes back, follows, and is handed the Lease without a wait.
    pair.restart(first).await.unwrap();
    pair.send(5).await.unwrap();
    arrives(&pair).await.unwrap();
    assert_eq!(writer(&pair).as_deref(), Some(second));
    let mut ended = pair.replicas.remove(second).unwrap();
    ended.terminate().await.unwrap();
    writer_is(&pair, first).await.unwrap();
    pair.send(4).await.unwrap();
    arrives(&pair).await.unwrap();
    // The API server is away for longer than a Lease lasts: nobody writes, and nothing is lost.
    let outage = Some(StatusCode::SERVICE_UNAVAILABLE);
    pair.cluster.set_outage(outage);
    pair.send(6).await.unwrap();
    tokio::time::sleep(OUTAGE).await;
    pair.send(2).await.unwrap();
    pair.cluster.set_outage(None);
    arrives(&pair).await.unwrap();
    assert_eq!(writer(&pair).as_deref(), Some(first));
    let resets = "sum(resets(envoy_cluster_upstream_rq_total[30m]))";
    let resets = pair.prometheus.value(resets).await.unwrap();
    assert_eq!(resets, Some(0.0));
}
