//! Where a sidecar's identity comes from: plugin configuration, else the environment, else the
//! node's metadata.

use anyhow::{Context, Result};
use serde_json::json;
use tests_envoy::{Backends, FRONT, POD, inbound, plugin, send_mix, settled};
use tests_support::aggregator::{Aggregator, Options, PodState};
use tests_support::bootstrap::Bootstrap;
use tests_support::envoy::{self, Envoy};
use tests_support::plugin::{Plugin, Role};

const ENVIRONMENT: [(&str, &str); 4] = [
    ("POD_NAME", "env-1"),
    ("POD_NAMESPACE", "prod"),
    ("POD_UID", "uid-env"),
    ("NODE_NAME", "node-env"),
];

/// Runs one request through `plugin` and returns the pod `expected`.
async fn run(
    plugin: Plugin,
    env: &[(&str, &str)],
    change: impl FnOnce(&mut Bootstrap),
    expected: &str,
) -> Result<PodState> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let mut bootstrap = backends.bootstrap_with(aggregator.ingest(), &[plugin])?;
    change(&mut bootstrap);
    let env = env
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let options = envoy::Options {
        env: env.collect(),
        ..envoy::Options::default()
    };
    let envoy = Envoy::start(&bootstrap.to_json(), &options).await?;
    send_mix(envoy.listener(FRONT)?, 1).await?;
    let pod = settled(&aggregator, expected, inbound(4)).await;
    pod.with_context(|| format!("Envoy's log ends:\n{}", envoy.log_tail()))
}

fn nameless() -> Result<Plugin> {
    Ok(Plugin::new(Role::Filter)?.with_aggregator())
}

/// The environment of the Envoy process, as the downward API sets it.
#[tokio::test]
async fn from_the_environment() {
    let pod = run(nameless().unwrap(), &ENVIRONMENT, |_| {}, "env-1")
        .await
        .unwrap();
    assert_eq!(
        (pod.uid.as_str(), pod.requests("inbound")),
        ("uid-env", Some(4))
    );
}

/// The node's metadata, as Istio's agent sets it.
#[tokio::test]
async fn from_the_node() {
    let metadata = json!({"NAME": "node-1", "NAMESPACE": "prod"});
    let change = |bootstrap: &mut Bootstrap| bootstrap.node_metadata = metadata;
    let pod = run(nameless().unwrap(), &[], change, "node-1")
        .await
        .unwrap();
    assert_eq!(pod.requests("inbound"), Some(4));
}

/// The plugin configuration goes before everything else.
#[tokio::test]
async fn from_the_plugin_configuration() {
    let metadata = json!({"NAME": "node-1", "NAMESPACE": "prod"});
    let change = |bootstrap: &mut Bootstrap| bootstrap.node_metadata = metadata;
    let plugin = plugin(Role::Filter).unwrap();
    let pod = run(plugin, &ENVIRONMENT, change, POD).await.unwrap();
    assert_eq!(
        (pod.uid.as_str(), pod.requests("inbound")),
        ("uid-1", Some(4))
    );
}

/// Without any identity nothing is streamed, which is said once, and traffic flows.
#[tokio::test]
async fn from_nowhere() {
    let backends = Backends::start().await.unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let bootstrap = backends.bootstrap_with(aggregator.ingest(), &[nameless().unwrap()]);
    let envoy = tests_envoy::start_envoy(&bootstrap.unwrap()).await.unwrap();
    send_mix(envoy.listener(FRONT).unwrap(), 2).await.unwrap();
    let logged = tests_support::clock::wait_for("a line", tests_envoy::PATIENCE, async || {
        Ok(envoy.log().contains("identity").then_some(()))
    });
    assert!(logged.await.is_ok(), "{}", envoy.log());
    assert_eq!(aggregator.pods().await.unwrap().pods, []);
}
