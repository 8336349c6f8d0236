//! One number for several pods, over real streams and real TLS: sums, demand, external metrics, and
//! the ledger of it all.

use http::StatusCode;
use proto::v1::{Direction, Series};

use crate::app::{App, V2};
use crate::sidecar::{Sidecar, inbound};

const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1";
const REQUESTS: &str = "appmesh_requests_per_second";

/// Outbound totals towards a cluster.
fn outbound(cluster: &str, requests: u64) -> Series {
    Series {
        direction: Direction::Outbound.into(),
        cluster: cluster.to_owned(),
        ..inbound(requests, requests)
    }
}

/// A value as an autoscaler reads it, in units.
fn units(value: &serde_json::Value) -> f64 {
    let text = value.as_str().unwrap();
    match text.strip_suffix('m') {
        Some(milli) => milli.parse::<f64>().unwrap() / 1000.0,
        None => text.parse().unwrap(),
    }
}

/// What a workload without pods is asked for, as a caller's sidecar counts it; once its callers
/// lead nowhere known, an error; and every read of it in the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn serves_demand_of_callers() {
    let app = App::start().await;
    let mut caller = Sidecar::connect(app.addresses.ingest, "dj-1", "dj").await;
    caller
        .report(vec![
            inbound(50, 50),
            outbound("cds_egress_dj-app_jazz-v1_prod_http_9080", 210),
            outbound("somewhere", 10),
        ])
        .await;
    let object = format!("{V2}/namespaces/prod/deployments.apps/jazz-v1/{REQUESTS}");
    let reply = app.get(&object).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.headers["meshmeter-source"], "callers");
    let list = reply.json();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 1);
    assert!((units(&items[0]["value"]) - 21.0).abs() < 0.3, "{list}");

    let query = "labelSelector=deployment%3Djazz-v1";
    let external = app
        .get(&format!("{EXTERNAL}/namespaces/prod/{REQUESTS}?{query}"))
        .await;
    let list = external.json();
    assert!(
        (units(&list["items"][0]["value"]) - 21.0).abs() < 0.3,
        "{list}"
    );
    assert_eq!(list["items"][0]["metricLabels"]["source"], "callers");

    let folk = app
        .get(&format!("{V2}/namespaces/prod/services/folk/{REQUESTS}"))
        .await;
    assert_eq!(folk.status, StatusCode::NOT_FOUND);
    assert!(folk.text().contains("somewhere"), "{}", folk.text());
    let unmapped = "meshmeter_api_refused_total{reason=\"unmapped_cluster\"}";
    assert_eq!(app.counter(unmapped).await, 1);

    let reads = app
        .get("/apis/view.meshmeter.io/v1/namespaces/prod/reads")
        .await
        .json();
    let reads = reads["items"].as_array().unwrap();
    assert_eq!(reads.len(), 3);
    assert_eq!(reads[0]["code"], 404);
    assert_eq!(reads[2]["object"], "deployments.apps/jazz-v1");
    assert_eq!(reads[2]["source"], "callers");
    drop(caller);
    app.stop().await;
}

/// The error ratio of a set of pods is that of all together; every spelling of the namespace gives
/// the same number.
#[tokio::test(flavor = "multi_thread")]
async fn serves_ratios_and_sums() {
    let app = App::start().await;
    let mut sidecars = Vec::new();
    for (pod, requests) in [("jazz-1", 100), ("jazz-2", 900)] {
        let mut sidecar = Sidecar::connect(app.addresses.ingest, pod, "jazz").await;
        sidecar.report(vec![inbound(requests, requests)]).await;
        sidecars.push(sidecar);
    }
    for path in ["metrics", "namespaces/prod"] {
        let list = app
            .get(&format!("{V2}/namespaces/prod/{path}/{REQUESTS}"))
            .await
            .json();
        assert!(
            (units(&list["items"][0]["value"]) - 100.0).abs() < 1.0,
            "{list}"
        );
    }
    let ratio = app
        .get(&format!("{V2}/namespaces/prod/metrics/appmesh_error_ratio"))
        .await;
    assert_eq!(ratio.json()["items"][0]["value"], "100m");
    drop(sidecars);
    app.stop().await;
}
