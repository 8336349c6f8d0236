//! Sidecars of v0.1.0 in front of today's aggregator, until their pods are made anew.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use tests_envoy::{
    Backends, FRONT, NAMESPACE, identity, inbound, plugin, send_mix, settled, start_envoy,
    wait_state,
};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::artifacts::Module;
use tests_support::envoy::Envoy;
use tests_support::plugin::{Plugin, Role};

const OLD: &str = "of-v0-1-0";
const NEW: &str = "of-today";

/// The plugin of `pod`, with the module of v0.1.0 if it is the old one.
fn plugin_of(pod: &str, role: Role) -> Result<Plugin> {
    let mut identity = identity();
    identity["pod"] = json!(pod);
    identity["uid"] = json!(pod);
    let plugin = plugin(role)?.with("identity", identity);
    if pod == NEW {
        return Ok(plugin);
    }
    let module = Module::of(role).path()?;
    let name = module.file_name().context("the module has a name")?;
    let kept = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../support/v0.1.0"));
    Ok(plugin.with_module(kept.join(name)))
}

async fn start(backends: &Backends, aggregator: &Aggregator, pod: &str) -> Result<Envoy> {
    let plugins = [Role::Filter, Role::UpstreamLog].map(|role| plugin_of(pod, role));
    let plugins: Result<Vec<_>> = plugins.into_iter().collect();
    start_envoy(&backends.bootstrap_with(aggregator.ingest(), &plugins?)?).await
}

/// Sends so many requests to each route of both sidecars, one of which gets twice as many.
async fn send(old: &Envoy, new: &Envoy, each: u64) -> Result<()> {
    send_mix(old.listener(FRONT)?, 2 * each).await?;
    send_mix(new.listener(FRONT)?, each).await?;
    Ok(())
}

/// A workload of which one pod has v0.1.0's modules and the other today's, while the aggregator is
/// replaced: each request and attempt of either counts once, and the API has a value for both.
#[tokio::test]
async fn sidecars_of_two_versions_are_counted_side_by_side() {
    let backends = Backends::start().await.unwrap();
    let mut aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let old = start(&backends, &aggregator, OLD).await.unwrap();
    let new = start(&backends, &aggregator, NEW).await.unwrap();
    send(&old, &new, 5).await.unwrap();
    for pod in [OLD, NEW] {
        wait_state(&aggregator, pod, "live").await.unwrap();
    }

    let ingest = aggregator.ingest();
    aggregator.kill().await.unwrap();
    send(&old, &new, 5).await.unwrap();
    let options = Options {
        ingest,
        ..Options::default()
    };
    let aggregator = Aggregator::start(&options).await.unwrap();
    send(&old, &new, 5).await.unwrap();

    for (pod, sent) in [(OLD, 120), (NEW, 60)] {
        let all = |pod: &_| inbound(sent)(pod) && pod.attempts() >= Some(sent);
        let pod = settled(&aggregator, pod, all).await.unwrap();
        assert_eq!(pod.requests("inbound"), Some(sent), "{pod:?}");
        assert_eq!(pod.attempts(), Some(sent), "{pod:?}");
        assert_eq!(pod.responses("inbound", "2xx"), sent / 2, "{pod:?}");
        assert_eq!(pod.responses("inbound", "5xx"), sent / 2, "{pod:?}");
        assert_eq!(pod.inflight("inbound"), Some(0), "{pod:?}");
        assert_eq!((pod.streams, pod.instances.len()), (1, 1), "{pod:?}");
    }
    let metric = "appmesh_requests_per_second";
    let list = aggregator.api().pods_metric(NAMESPACE, "app=app", metric);
    let list = list.await.unwrap();
    for pod in [OLD, NEW] {
        assert!(list.item(pod).is_some(), "{pod}: {list:?}");
    }
    for envoy in [&old, &new] {
        let log = envoy.log();
        assert!(!log.contains("plugin configuration:"), "{log}");
    }
}
