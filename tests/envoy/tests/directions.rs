//! One sidecar, both sides: inbound and outbound requests are told apart though the plugins are configured alike.

use tests_envoy::{Backends, NAMESPACE, POD, settled, start_envoy};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::bootstrap::TrafficDirection;
use tests_support::http;
use tests_support::plugin::AGGREGATOR_CLUSTER;
use tests_support::sidecar::{
    INBOUND_LISTENER, INBOUND_STAT_PREFIX, OUTBOUND_LISTENER, OUTBOUND_STAT_PREFIX, Sidecar,
};

/// Inbound requests.
const INBOUND: u64 = 30;
/// Outbound requests.
const OUTBOUND: u64 = 50;

/// Filter and `upstream_log` in both listeners of an Envoy with two workers, all with the same plugin configuration:
/// each side counts its own requests and attempts.
#[tokio::test]
async fn both_sides_are_told_apart() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let mut sidecar = Sidecar::new(NAMESPACE, POD, backends.address());
    sidecar.aggregator = Some(aggregator.ingest());
    let mut bootstrap = sidecar.bootstrap().unwrap();
    let inbound_host = bootstrap.listeners[0].virtual_hosts.clone();
    assert_eq!(bootstrap.listeners[1].direction, TrafficDirection::Outbound);
    // The outbound side leads to the same application: here only the side counts.
    bootstrap.listeners[1].virtual_hosts = inbound_host;
    let envoy = start_envoy(&bootstrap).await.unwrap();

    for _ in 0..INBOUND {
        let listener = envoy.listener(INBOUND_LISTENER).unwrap();
        http::get_ok(listener, "/").await.unwrap();
    }
    for _ in 0..OUTBOUND {
        let listener = envoy.listener(OUTBOUND_LISTENER).unwrap();
        http::get_ok(listener, "/").await.unwrap();
    }
    let stats = envoy.stats().await.unwrap();
    assert_eq!(stats.downstream_rq_total(INBOUND_STAT_PREFIX), INBOUND);
    assert_eq!(stats.downstream_rq_total(OUTBOUND_STAT_PREFIX), OUTBOUND);
    let attempts = stats.upstream_rq_total(&[AGGREGATOR_CLUSTER]);
    assert_eq!(attempts, INBOUND + OUTBOUND);
    let pod = settled(&aggregator, POD, |pod| {
        pod.requests("inbound").unwrap_or(0) + pod.requests("outbound").unwrap_or(0)
            >= INBOUND + OUTBOUND
            && pod.attempts() >= Some(attempts)
    });
    let pod = pod.await.unwrap();
    assert_eq!(pod.requests("inbound"), Some(INBOUND), "{pod:#?}");
    assert_eq!(pod.requests("outbound"), Some(OUTBOUND), "{pod:#?}");
    assert_eq!(pod.attempts_of("inbound"), Some(INBOUND), "{pod:#?}");
    assert_eq!(pod.attempts_of("outbound"), Some(OUTBOUND), "{pod:#?}");
}
