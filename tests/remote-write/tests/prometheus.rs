//! Running totals in a real Prometheus: exact, over kills of the aggregator and outages of the
//! receiver, without a false reset, and ended when the pod is.

use std::time::Duration;

use tests_remote_write::{PATIENCE, Rig, TOTAL};
use tests_support::clock;

const SERIES: &str = "envoy_cluster_upstream_rq_total{kubernetes_pod_name=\"app-1\"}";

/// Ten kills at odd moments: every request is there in the end, once, and no counter ever fell.
#[tokio::test(flavor = "multi_thread")]
async fn totals_survive_kills() {
    let mut rig = Rig::direct().await.unwrap();
    rig.send(5).await.unwrap();
    rig.arrives().await.unwrap();
    for round in 0..10_u64 {
        rig.send(3).await.unwrap();
        // Anywhere between two flushes.
        tokio::time::sleep(Duration::from_millis(137 * round % 1000)).await;
        rig.restart_aggregator().await.unwrap();
        rig.send(2).await.unwrap();
    }
    rig.arrives().await.unwrap();
    let resets = rig
        .prometheus
        .value("sum(resets(envoy_cluster_upstream_rq_total[10m]))");
    assert_eq!(resets.await.unwrap(), Some(0.0));
    // A counter that began while the aggregator looked began at 0: all of it is an increase.
    let first = rig
        .prometheus
        .query(&format!("{SERIES}[10m]"))
        .await
        .unwrap();
    assert!(first[0].samples[0].1 < 0.5, "{:?}", first[0].samples);
    assert_eq!(first[0].labels["cluster"], "test");
    let refused = rig
        .metric("samples_total{result=\"rejected\"}")
        .await
        .unwrap();
    assert!(
        refused.abs() < f64::EPSILON,
        "{}",
        rig.aggregator.log_tail()
    );
}

/// While the receiver is away samples wait, and when it is back there is one for each second of its
/// absence.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_leaves_no_gap() {
    let mut rig = Rig::direct().await.unwrap();
    rig.send(5).await.unwrap();
    rig.arrives().await.unwrap();
    rig.prometheus.kill().await.unwrap();
    for _ in 0..8 {
        rig.send(2).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(rig.metric("samples_pending").await.unwrap() > 0.0);
    rig.prometheus.restart().await.unwrap();
    rig.arrives().await.unwrap();
    let series = rig
        .prometheus
        .query(&format!("{SERIES}[5m]"))
        .await
        .unwrap();
    let samples = &series[0].samples;
    for pair in samples.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!(
            (gap - 1.0).abs() < 0.01,
            "{gap} s between two samples: {samples:?}"
        );
        assert!(pair[1].1 >= pair[0].1, "a total fell: {samples:?}");
    }
    let dropped = rig.metric("samples_dropped_total").await.unwrap();
    assert!(dropped.abs() < f64::EPSILON);
}

/// A pod that is gone ends its series by a marker: Prometheus does not show its last value for five
/// minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_gone_is_stale() {
    let mut rig = Rig::direct().await.unwrap();
    rig.send(5).await.unwrap();
    rig.arrives().await.unwrap();
    rig.envoy.terminate().await.unwrap();
    clock::wait_for("the end of the series", PATIENCE, async || {
        Ok(rig.prometheus.value(TOTAL).await?.is_none().then_some(()))
    })
    .await
    .unwrap();
}
