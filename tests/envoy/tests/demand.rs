//! Scale from zero: what a workload without pods is asked for, as the sidecar of its caller counts
//! it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_envoy::{Backends, NAMESPACE, PATIENCE, POD, free_address, plugin, start_envoy};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::plugin::Role;
use tests_support::sidecar::{Backend, OUTBOUND_LISTENER, Sidecar};
use tests_support::{clock, http};

/// Requests for the service without pods.
const REQUESTS: u64 = 40;

/// The answer for an object of the custom metrics API, if it has a value.
async fn value(aggregator: &Aggregator, object: &str) -> Result<Option<Value>> {
    let path = format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{NAMESPACE}/{object}/appmesh_requests_per_second"
    );
    let answer = aggregator.api().get(&path).await?;
    if answer.status != 200 {
        return Ok(None);
    }
    let list: Value = answer.json()?;
    Ok(Some(list["items"][0].clone()))
}

async fn run() -> Result<()> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let mut caller = Sidecar::new(NAMESPACE, POD, backends.address());
    caller.aggregator = Some(aggregator.ingest());
    caller.backends = vec![Backend {
        service: "jazz".to_owned(),
        node: "jazz-v1".to_owned(),
        address: free_address()?,
    }];
    let mut bootstrap = caller.bootstrap()?;
    let filter = plugin(Role::Filter)?.with("dimensions", json!(["cluster"]));
    for listener in &mut bootstrap.listeners {
        listener.http_filters = vec![filter.http_filter()];
        listener.upstream_log = Vec::new();
        for host in &mut listener.virtual_hosts {
            host["domains"] = json!(["*"]);
        }
    }
    let envoy = start_envoy(&bootstrap).await?;
    for _ in 0..REQUESTS {
        let answer = http::get(envoy.listener(OUTBOUND_LISTENER)?, "/").await?;
        ensure!(answer.status == 503, "{}", answer.status);
    }
    let what = "the demand for the deployment jazz-v1";
    let item = clock::wait_for(what, PATIENCE, async || {
        value(&aggregator, "deployments.apps/jazz-v1").await
    });
    let item = item
        .await
        .with_context(|| format!("{}\n{}", envoy.log_tail(), aggregator.log_tail()))?;
    ensure!(item["describedObject"]["kind"] == "Deployment", "{item}");
    ensure!(item["value"] != "0", "{item}");
    // The service behind it has the same name by App Mesh's convention; nobody calls another.
    ensure!(value(&aggregator, "services/jazz-v1").await?.is_some());
    ensure!(value(&aggregator, "services/metal-v1").await?.is_none());
    Ok(())
}

/// Requests to a cluster without an endpoint all fail, and are seen as demand for the workload it
/// leads to.
#[tokio::test]
async fn callers_tell_what_is_wanted() {
    run().await.unwrap();
}
