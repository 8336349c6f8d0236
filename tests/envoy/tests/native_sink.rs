//! Envoy's own metrics service in place of the filter, with the bootstrap of `docs/native-sink.md`.

use serde_json::{Map, Value, json};
use tests_envoy::{
    Backends, FRONT, NAMESPACE, POD, free_address, inbound, send_mix, settled, start_envoy,
    wait_state,
};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::bootstrap::Bootstrap;

const DOCUMENT: &str = include_str!("../../../docs/native-sink.md");

/// The fields that the document says to add.
fn documented() -> Map<String, Value> {
    let block = DOCUMENT
        .split("```json\n")
        .nth(1)
        .expect("the document has a block");
    let text = block.split("```").next().expect("a text has a beginning");
    serde_json::from_str(text).expect("the block is JSON")
}

fn bootstrap(backends: &Backends, aggregator: std::net::SocketAddr) -> Bootstrap {
    let bootstrap = backends.bootstrap_with(aggregator, &[]);
    let mut bootstrap = bootstrap.expect("a bootstrap without plugins");
    bootstrap.extra.extend(documented());
    bootstrap.node_metadata = json!({"meshmeter": {
        "namespace": NAMESPACE, "pod": POD, "uid": "uid-1", "labels": {"app": "app"}, "inbound": FRONT,
    }});
    bootstrap
}

/// Requests, responses and attempts equal what was sent; the pod has a rate; another Envoy of the
/// pod begins anew.
#[tokio::test]
async fn totals_are_those_of_envoy() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let bootstrap = bootstrap(&backends, aggregator.ingest());
    let mut envoy = start_envoy(&bootstrap).await.unwrap();
    wait_state(&aggregator, POD, "live").await.unwrap();
    let mix = send_mix(envoy.listener(FRONT).unwrap(), 10).await.unwrap();
    // Once totals stand still, the window of the rate may be past the requests.
    tests_support::clock::wait_for("a rate", tests_envoy::PATIENCE, async || {
        let metric = "appmesh_requests_per_second";
        let list = aggregator.api().pods_metric(NAMESPACE, "app=app", metric);
        let rate = list.await?.value(POD);
        Ok(rate.filter(|rate| *rate > 0.0))
    })
    .await
    .unwrap();
    let pod = settled(&aggregator, POD, inbound(mix.requests()))
        .await
        .unwrap();
    assert_eq!(pod.requests("inbound"), Some(mix.requests()), "{pod:?}");
    assert_eq!(pod.attempts(), Some(mix.attempts()), "{pod:?}");
    assert_eq!(pod.responses("inbound", "2xx"), 2 * mix.each, "{pod:?}");
    let stats = envoy.stats().await.unwrap();
    assert_eq!(stats.downstream_rq_total(FRONT), mix.requests());
    let instances = pod.instances.clone();

    envoy.terminate().await.unwrap();
    let envoy = start_envoy(&bootstrap).await.unwrap();
    let mix = send_mix(envoy.listener(FRONT).unwrap(), 5).await.unwrap();
    let anew = |pod: &tests_support::aggregator::PodState| {
        pod.instances != instances && inbound(mix.requests())(pod)
    };
    let pod = settled(&aggregator, POD, anew).await.unwrap();
    assert_eq!(pod.requests("inbound"), Some(mix.requests()), "{pod:?}");
}

/// An aggregator that comes later has the whole truth with the first message.
#[tokio::test]
async fn totals_survive_an_aggregator() {
    let backends = Backends::start().await.unwrap();
    let ingest = free_address().unwrap();
    let envoy = start_envoy(&bootstrap(&backends, ingest)).await.unwrap();
    let mix = send_mix(envoy.listener(FRONT).unwrap(), 10).await.unwrap();
    let options = Options {
        ingest,
        ..Options::default()
    };
    let aggregator = Aggregator::start(&options).await.unwrap();
    let pod = settled(&aggregator, POD, inbound(mix.requests()))
        .await
        .unwrap();
    assert_eq!(pod.requests("inbound"), Some(mix.requests()), "{pod:?}");
}

/// An Envoy that does not say whose it is: refused by the name of the field, counted, and nobody
/// else is disturbed.
#[tokio::test]
async fn an_envoy_without_identity_is_refused() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let mut nameless = bootstrap(&backends, aggregator.ingest());
    nameless.node_metadata = json!({"meshmeter": {"namespace": NAMESPACE}});
    let _nameless = start_envoy(&nameless).await.unwrap();
    let named = start_envoy(&bootstrap(&backends, aggregator.ingest()))
        .await
        .unwrap();
    let mix = send_mix(named.listener(FRONT).unwrap(), 2).await.unwrap();
    let pod = settled(&aggregator, POD, inbound(mix.requests()))
        .await
        .unwrap();
    assert_eq!(pod.requests("inbound"), Some(mix.requests()), "{pod:?}");
    let log = aggregator.log();
    assert!(
        log.contains("identifier.node.metadata.meshmeter.pod: missing"),
        "{log}"
    );
}
