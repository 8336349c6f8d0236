//! One stream per sidecar process, whatever the number of workers; and per VM where Envoy hides its
//! counters.

use serde_json::json;
use tests_envoy::{
    Backends, FRONT, Mix, NAMESPACE, POD, inbound, plugin, send_mix, settled, start_envoy,
    wait_state,
};
use tests_support::aggregator::{Aggregator, Options, PodState};
use tests_support::envoy::{self, Envoy};
use tests_support::plugin::Role;
use tests_support::sidecar::Sidecar;

/// The metric of the aggregator that counts open streams.
const STREAMS: &str = "meshmeter_streams";

/// Whether everything that `filter` and `upstream_log` count has arrived.
fn all_there(pod: &PodState, mix: Mix) -> bool {
    inbound(mix.requests())(pod) && pod.attempts() >= Some(mix.attempts())
}

/// Two workers and the main thread have a VM each: three that count, and one that streams.
#[tokio::test]
async fn two_workers_share_a_stream() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let plugins = [plugin(Role::Filter).unwrap()];
    let bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins);
    let envoy = start_envoy(&bootstrap.unwrap()).await.unwrap();
    let mix = send_mix(envoy.listener(FRONT).unwrap(), 10).await.unwrap();
    let pod = settled(&aggregator, POD, inbound(mix.requests()))
        .await
        .unwrap();
    assert_eq!(pod.requests("inbound"), Some(mix.requests()));
    assert_eq!((pod.vms_expected, pod.vms_live), (Some(3), Some(3)));
    assert_eq!((pod.streams, pod.instances.len()), (1, 1), "{pod:?}");
    let streams = aggregator.metric(STREAMS).await.unwrap();
    assert_eq!(streams, Some(1.0));
}

/// A bootstrap whose `stats_matcher` drops our counters: each VM streams for itself, and the sum is
/// exact.
#[tokio::test]
async fn hidden_counters_are_still_exact() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let plugins = [
        plugin(Role::Filter).unwrap(),
        plugin(Role::UpstreamLog).unwrap(),
    ];
    let bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins);
    let mut bootstrap = bootstrap.unwrap();
    let matcher = json!({"stats_matcher": {"inclusion_list": {"patterns": [
        {"suffix": ".upstream_rq_total"},
        {"suffix": ".downstream_rq_total"},
    ]}}});
    bootstrap.extra.insert("stats_config".into(), matcher);
    let envoy = start_envoy(&bootstrap).await.unwrap();
    let mix = send_mix(envoy.listener(FRONT).unwrap(), 20).await.unwrap();
    let pod = settled(&aggregator, POD, |pod| all_there(pod, mix)).await;
    let pod = pod.unwrap_or_else(|error| panic!("{error:#}\nEnvoy: {}", envoy.log_tail()));
    assert_eq!(pod.requests("inbound"), Some(mix.requests()), "{pod:?}");
    assert_eq!(pod.attempts(), Some(mix.attempts()), "{pod:?}");
    assert!(pod.instances.len() > 1, "{pod:?}");
}

/// A sidecar without traffic is live and reads 0 at the API: known, not unknown.
#[tokio::test]
async fn an_idle_pod_reads_zero() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let plugins = [plugin(Role::Filter).unwrap()];
    let bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins);
    let _envoy = start_envoy(&bootstrap.unwrap()).await.unwrap();
    wait_state(&aggregator, POD, "live").await.unwrap();
    let list = aggregator
        .api()
        .pods_metric(NAMESPACE, "app=app", "appmesh_requests_per_second")
        .await
        .unwrap();
    assert_eq!(list.item(POD).map(|item| item.value.as_str()), Some("0"));
    assert!(list.signal_age_ms.is_some());
}

/// A whole sidecar, both roles on both sides, reads 0 for what it counts before the first request.
#[tokio::test]
async fn an_idle_sidecar_reads_zero() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let mut sidecar = Sidecar::new(NAMESPACE, POD, backends.address());
    sidecar.labels = vec![("app".to_owned(), "app".to_owned())];
    sidecar.aggregator = Some(aggregator.ingest());
    let envoy = start_envoy(&sidecar.bootstrap().unwrap()).await.unwrap();
    wait_state(&aggregator, POD, "live").await.unwrap();
    for metric in [
        "appmesh_requests_per_second",
        "appmesh_upstream_requests_per_second",
        "appmesh_inflight_requests",
    ] {
        let list = aggregator.api().pods_metric(NAMESPACE, "app=app", metric);
        let list = list.await.unwrap();
        let value = list.item(POD).map(|item| item.value.as_str());
        assert_eq!(value, Some("0"), "{metric}: {}", envoy.log_tail());
    }
}

/// Eight workers and a plugin in both places: still one stream, and nothing is lost at SIGTERM.
#[tokio::test]
async fn many_workers_end_together() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let plugins = [
        plugin(Role::Filter).unwrap(),
        plugin(Role::UpstreamLog).unwrap(),
    ];
    let bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins);
    let options = envoy::Options {
        concurrency: 8,
        ..envoy::Options::default()
    };
    let bootstrap = bootstrap.unwrap().to_json();
    let mut envoy = Envoy::start(&bootstrap, &options).await.unwrap();
    let front = envoy.listener(FRONT).unwrap();
    let pod = wait_state(&aggregator, POD, "live").await.unwrap();
    assert_eq!((pod.streams, pod.instances.len()), (1, 1), "{pod:?}");
    let mix = send_mix(front, 20).await.unwrap();
    envoy.terminate().await.unwrap();
    let pod = settled(&aggregator, POD, |pod| all_there(pod, mix))
        .await
        .unwrap();
    assert_eq!(pod.requests("inbound"), Some(mix.requests()), "{pod:?}");
    assert_eq!(pod.attempts(), Some(mix.attempts()), "{pod:?}");
}
