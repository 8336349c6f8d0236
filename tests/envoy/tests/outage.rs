//! An aggregator that is not there costs no request and no count.

use tests_envoy::{
    Backends, FRONT, NAMESPACE, POD, free_address, inbound, plugin, send_mix, settled, start_envoy,
    wait_state,
};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::plugin::Role;

/// Requests that come before the aggregator exists are served, and all counted once it is up.
#[tokio::test]
async fn counts_from_before_the_aggregator_arrive() {
    let backends = Backends::start().await.unwrap();
    let ingest = free_address().unwrap();
    let plugins = [plugin(Role::Filter).unwrap()];
    let bootstrap = backends.bootstrap_with(ingest, &plugins).unwrap();
    let envoy = start_envoy(&bootstrap).await.unwrap();
    let front = envoy.listener(FRONT).unwrap();
    let mix = send_mix(front, 10).await.unwrap();

    let options = Options {
        ingest,
        ..Options::default()
    };
    let aggregator = Aggregator::start(&options).await.unwrap();
    let pod = settled(&aggregator, POD, inbound(mix.requests()))
        .await
        .unwrap();
    assert_eq!(pod.requests("inbound"), Some(mix.requests()));
}

/// An aggregator that is killed and comes back has the whole truth again, with what was served in
/// between.
#[tokio::test]
async fn counts_survive_an_aggregator() {
    let backends = Backends::start().await.unwrap();
    let mut aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let ingest = aggregator.ingest();
    let plugins = [
        plugin(Role::Filter).unwrap(),
        plugin(Role::UpstreamLog).unwrap(),
    ];
    let bootstrap = backends.bootstrap_with(ingest, &plugins).unwrap();
    let envoy = start_envoy(&bootstrap).await.unwrap();
    let front = envoy.listener(FRONT).unwrap();
    let mut sent = send_mix(front, 5).await.unwrap().each;
    wait_state(&aggregator, POD, "live").await.unwrap();

    aggregator.kill().await.unwrap();
    sent += send_mix(front, 5).await.unwrap().each;
    let options = Options {
        ingest,
        ..Options::default()
    };
    let aggregator = Aggregator::start(&options).await.unwrap();
    sent += send_mix(front, 5).await.unwrap().each;

    let pod = settled(&aggregator, POD, |pod| {
        inbound(4 * sent)(pod) && pod.attempts() >= Some(4 * sent)
    });
    let pod = pod.await.unwrap();
    assert_eq!(pod.requests("inbound"), Some(4 * sent));
    assert_eq!(pod.attempts(), Some(4 * sent));
    assert_eq!((pod.streams, pod.instances.len()), (1, 1), "{pod:?}");
}

/// The pod of an Envoy that was ended is held for a while and then gone; it is never shown as live
/// without a stream.
#[tokio::test]
async fn a_pod_that_ended_goes() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let plugins = [plugin(Role::Filter).unwrap()];
    let bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins);
    let mut envoy = start_envoy(&bootstrap.unwrap()).await.unwrap();
    send_mix(envoy.listener(FRONT).unwrap(), 1).await.unwrap();
    wait_state(&aggregator, POD, "live").await.unwrap();
    envoy.terminate().await.unwrap();
    let pod = wait_state(&aggregator, POD, "gone").await.unwrap();
    assert_eq!(pod.streams, 0);
    let metric = aggregator
        .api()
        .pods_metric(NAMESPACE, "app=app", "appmesh_requests_per_second")
        .await;
    assert!(metric.is_err(), "a gone pod has no value: {metric:?}");
}
