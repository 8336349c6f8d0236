//! The oracle itself: what Envoy without any Wasm counts for the traffic of the other tests.

use tests_envoy::{Backends, FRONT, send_mix, start_envoy};

/// Envoy's own counters are what the other tests compare with: requests at the listener, attempts
/// that reached a connection (three for a request with two retries, none for a refused one), and it
/// ends in order on SIGTERM.
#[tokio::test]
async fn envoy_counts_requests_and_attempts() {
    let backends = Backends::start().await.unwrap();
    let mut envoy = start_envoy(&backends.bootstrap().unwrap()).await.unwrap();
    let front = envoy.listener(FRONT).unwrap();
    let mix = send_mix(front, 5).await.unwrap();
    let stats = envoy.stats().await.unwrap();
    assert_eq!(stats.downstream_rq_total(FRONT), mix.requests());
    assert_eq!(stats.upstream_rq_total(&[]), mix.attempts());
    assert_eq!(stats.upstream_rq_total(&["bad"]), mix.each);
    assert_eq!(backends.served(), mix.attempts());
    let ended = envoy.terminate().await.unwrap();
    assert!(ended.success(), "{ended}: {}", envoy.log_tail());
}
