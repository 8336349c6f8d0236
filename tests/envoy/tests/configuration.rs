//! A wrong plugin configuration costs no request: it is said in the log, field by name, and the
//! rest holds.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests_envoy::{
    Backends, FRONT, PATIENCE, POD, inbound, plugin, send_mix, settled, start_envoy,
};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::clock;
use tests_support::plugin::{AGGREGATOR_CLUSTER, Plugin, Role};

/// What Envoy calls the filter's counter of inbound requests.
const COUNTER: &str = "wasmcustom.meshmeter.inbound.requests";

/// Runs traffic through a filter with this configuration, which may not fail open: the log must
/// name `named`, and Envoy itself must show what was counted.
async fn traffic_flows_and_log_names(configuration: Value, named: &str) -> Result<()> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let mut plugin = Plugin::new(Role::Filter)?;
    plugin.configuration = configuration;
    plugin.fail_open = false;
    let bootstrap = backends.bootstrap_with(aggregator.ingest(), &[plugin])?;
    let envoy = start_envoy(&bootstrap).await?;
    let mix = send_mix(envoy.listener(FRONT)?, 3).await?;
    let what = format!("a line that names {named} in Envoy's log");
    let logged = clock::wait_for(&what, PATIENCE, async || {
        Ok(envoy.log().contains(named).then_some(()))
    });
    logged.await.with_context(|| envoy.log())?;
    clock::wait_for("the requests in Envoy's counters", PATIENCE, async || {
        let counted = envoy.stats().await?.get(COUNTER);
        Ok((counted == mix.requests()).then_some(()))
    })
    .await
}

/// A field that does not exist.
#[tokio::test]
async fn an_unknown_field_is_named() {
    let configuration = json!({"role": "filter", "aggregatorss": []});
    traffic_flows_and_log_names(configuration, "aggregatorss")
        .await
        .unwrap();
}

/// A value out of bounds.
#[tokio::test]
async fn a_bad_value_is_named() {
    let configuration = json!({"role": "filter", "flush_interval_ms": 1});
    traffic_flows_and_log_names(configuration, "flush_interval_ms")
        .await
        .unwrap();
}

/// A role that does not exist.
#[tokio::test]
async fn a_bad_role_is_named() {
    traffic_flows_and_log_names(json!({"role": "philter"}), "role")
        .await
        .unwrap();
}

/// No JSON at all.
#[tokio::test]
async fn no_json_is_said() {
    traffic_flows_and_log_names(json!("role: filter"), "JSON")
        .await
        .unwrap();
}

/// An aggregator cluster that Envoy does not have is named, and the other one hears everything.
#[tokio::test]
async fn a_missing_cluster_is_named() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let clusters = json!([{"cluster": "no-such-cluster"}, {"cluster": AGGREGATOR_CLUSTER}]);
    let plugin = plugin(Role::Filter).unwrap().with("aggregators", clusters);
    let bootstrap = backends.bootstrap_with(aggregator.ingest(), &[plugin]);
    let envoy = start_envoy(&bootstrap.unwrap()).await.unwrap();
    let mix = send_mix(envoy.listener(FRONT).unwrap(), 3).await.unwrap();
    let pod = settled(&aggregator, POD, inbound(mix.requests())).await;
    let pod = pod.unwrap_or_else(|error| panic!("{error:#}\nEnvoy: {}", envoy.log_tail()));
    assert_eq!(pod.requests("inbound"), Some(mix.requests()));
    assert_eq!(pod.streams, 1, "{pod:?}");
    let named = clock::wait_for("a line that names the cluster", PATIENCE, async || {
        Ok(envoy.log().contains("no-such-cluster").then_some(()))
    });
    assert!(named.await.is_ok(), "{}", envoy.log());
}

/// Beside a bad field the good ones hold: the pod is counted.
#[tokio::test]
async fn the_rest_of_a_configuration_holds() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let plugin = plugin(Role::Filter)
        .unwrap()
        .with("max_series", json!("many"));
    let bootstrap = backends.bootstrap_with(aggregator.ingest(), &[plugin]);
    let envoy = start_envoy(&bootstrap.unwrap()).await.unwrap();
    let mix = send_mix(envoy.listener(FRONT).unwrap(), 3).await.unwrap();
    let pod = settled(&aggregator, POD, inbound(mix.requests())).await;
    let pod = pod.unwrap_or_else(|error| panic!("{error:#}\nEnvoy: {}", envoy.log_tail()));
    assert_eq!(pod.requests("inbound"), Some(mix.requests()));
    assert!(envoy.log().contains("max_series"), "{}", envoy.log());
}
