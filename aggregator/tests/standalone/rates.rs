//! What sidecars count becomes what an autoscaler reads.

use aggregator_core::pod::{PodInfo, PodKey};
use http::{Request, StatusCode};
use serde_json::Value;

use crate::app::{App, V2};
use crate::client;
use crate::sidecar::{Sidecar, inbound};

const REQUESTS: &str = "appmesh_requests_per_second";

/// A quantity as an autoscaler reads it, in units.
fn units(value: &Value) -> f64 {
    let text = value.as_str().unwrap();
    match text.strip_suffix('m') {
        Some(milli) => milli.parse::<f64>().unwrap() / 1000.0,
        None => text.parse().unwrap(),
    }
}

/// Names and values of a list.
fn values(list: &Value) -> Vec<(String, f64)> {
    let items = list["items"]
        .as_array()
        .unwrap_or_else(|| panic!("no items: {list}"));
    let name = |item: &Value| item["describedObject"]["name"].as_str().unwrap().to_owned();
    items
        .iter()
        .map(|item| (name(item), units(&item["value"])))
        .collect()
}

/// Rates may differ from the plain division by the milliseconds that clocks are corrected by.
fn assert_near(actual: &[(String, f64)], expected: &[(&str, f64)]) {
    assert_eq!(actual.len(), expected.len(), "{actual:?}");
    for ((name, value), (expected_name, expected_value)) in actual.iter().zip(expected) {
        assert_eq!(name, expected_name);
        assert!(
            (value - expected_value).abs() <= 0.01 * expected_value,
            "{name}: {value}"
        );
    }
}

/// Two pods of app jazz and one of app metal, with 10, 20 and 30 requests a second over the last 10
/// s.
async fn three_pods(app: &App) -> Vec<Sidecar> {
    let mut sidecars = Vec::new();
    for (pod, label, total) in [
        ("jazz-1", "jazz", 100),
        ("jazz-2", "jazz", 200),
        ("metal-1", "metal", 300),
    ] {
        let mut sidecar = Sidecar::connect(app.addresses.ingest, pod, label).await;
        sidecar.report(vec![inbound(total, total * 2)]).await;
        sidecars.push(sidecar);
    }
    sidecars
}

/// The very request of an HPA over real TLS: right pods, right rates, true age.
#[tokio::test(flavor = "multi_thread")]
async fn serves_rates_to_an_autoscaler() {
    let app = App::start().await;
    let sidecars = three_pods(&app).await;
    let reply = app.metric(REQUESTS, "labelSelector=app%3Djazz").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let list = reply.json();
    assert_eq!(list["kind"], "MetricValueList");
    assert_eq!(list["apiVersion"], "custom.metrics.k8s.io/v1beta2");
    assert_near(&values(&list), &[("jazz-1", 10.0), ("jazz-2", 20.0)]);
    let item = &list["items"][0];
    assert_eq!(item["describedObject"]["apiVersion"], "v1");
    assert_eq!(item["metric"]["selector"], Value::Null);
    assert!(item["windowSeconds"].as_u64().unwrap() >= 1);
    assert!(item["timestamp"].as_str().unwrap().ends_with('Z'));
    let age: u64 = reply.headers["meshmeter-signal-age-ms"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(age < 20_000, "{age}");
    let observed = "meshmeter_signal_age_seconds_count{namespace=\"prod\"}";
    assert_eq!(app.counter(observed).await, 1);
    drop(sidecars);
    app.stop().await;
}

/// v1beta1 carries the same values in its own fields.
#[tokio::test(flavor = "multi_thread")]
async fn serves_v1beta1() {
    let app = App::start().await;
    let sidecars = three_pods(&app).await;
    let path = format!(
        "/apis/custom.metrics.k8s.io/v1beta1/namespaces/prod/pods/*/{REQUESTS}?metricLabelSelector=window%3D5s"
    );
    let request = Request::get(path)
        .body(http_body_util::Full::default())
        .unwrap();
    let list = client::send(app.addresses.api, request).await.json();
    assert_eq!(list["apiVersion"], "custom.metrics.k8s.io/v1beta1");
    assert_near(
        &values(&list),
        &[("jazz-1", 10.0), ("jazz-2", 20.0), ("metal-1", 30.0)],
    );
    let item = &list["items"][0];
    assert_eq!(item["metricName"], REQUESTS);
    // The first report tells the sum of 10 s and no more: the value covers all of it, and says so.
    assert_eq!(item["window"], 10);
    assert_eq!(item["selector"]["matchLabels"]["window"], "5s");
    drop(sidecars);
    app.stop().await;
}

/// Label selectors choose pods, metric selectors choose what of them; one pod and the namespace can
/// be asked too.
#[tokio::test(flavor = "multi_thread")]
async fn follows_selectors() {
    let app = App::start().await;
    let sidecars = three_pods(&app).await;
    for (query, expected) in [
        (
            "",
            vec![("jazz-1", 10.0), ("jazz-2", 20.0), ("metal-1", 30.0)],
        ),
        ("labelSelector=app%21%3Djazz", vec![("metal-1", 30.0)]),
        (
            "labelSelector=app+in+%28metal%2Cpop%29",
            vec![("metal-1", 30.0)],
        ),
        (
            "labelSelector=app%3Dmetal&metricLabelSelector=code_class%3D5xx",
            vec![("metal-1", 3.0)],
        ),
        (
            "labelSelector=app%3Dmetal&metricLabelSelector=direction%3Dinbound%2Cwindow%3D2s",
            vec![("metal-1", 30.0)],
        ),
    ] {
        let reply = app.metric(REQUESTS, query).await;
        assert_eq!(reply.status, StatusCode::OK, "{query}: {}", reply.text());
        assert_near(&values(&reply.json()), &expected);
    }
    let attempts = app
        .metric(
            "appmesh_upstream_requests_per_second",
            "labelSelector=app%3Dmetal",
        )
        .await;
    assert_near(&values(&attempts.json()), &[("metal-1", 60.0)]);
    let inflight = app
        .metric("appmesh_inflight_requests", "labelSelector=app%3Dmetal")
        .await;
    assert_near(&values(&inflight.json()), &[("metal-1", 2.0)]);
    let one = app
        .get(&format!("{V2}/namespaces/prod/pods/jazz-2/{REQUESTS}"))
        .await;
    assert_near(&values(&one.json()), &[("jazz-2", 20.0)]);
    let sum = app
        .get(&format!("{V2}/namespaces/prod/metrics/{REQUESTS}"))
        .await;
    assert_near(&values(&sum.json()), &[("prod", 60.0)]);
    drop(sidecars);
    app.stop().await;
}

/// What a sidecar does not count, or may have lost, is an error that says so; it is never 0.
#[tokio::test(flavor = "multi_thread")]
async fn refuses_what_it_does_not_know() {
    let app = App::start().await;
    let mut plain = Sidecar::connect(app.addresses.ingest, "plain", "plain").await;
    let mut series = inbound(100, 0);
    (
        series.upstream_attempts,
        series.inflight_ns,
        series.inflight,
    ) = (None, None, None);
    plain.report(vec![series]).await;
    let mut broken = Sidecar::connect(app.addresses.ingest, "broken", "broken").await;
    broken.report_vms(vec![inbound(100, 100)], 2).await;

    let attempts = app
        .metric(
            "appmesh_upstream_requests_per_second",
            "labelSelector=app%3Dplain",
        )
        .await;
    assert_eq!(
        attempts.status,
        StatusCode::NOT_FOUND,
        "{}",
        attempts.text()
    );
    assert!(
        attempts.text().contains("1 did not count this"),
        "{}",
        attempts.text()
    );
    let lost = app.metric(REQUESTS, "labelSelector=app%3Dbroken").await;
    assert_eq!(lost.status, StatusCode::NOT_FOUND, "{}", lost.text());
    assert!(lost.text().contains("1 lost a Wasm VM"), "{}", lost.text());
    let all = app.metric(REQUESTS, "").await;
    assert_near(&values(&all.json()), &[("plain", 10.0)]);
    let sum = app
        .get(&format!("{V2}/namespaces/prod/metrics/{REQUESTS}"))
        .await;
    assert_eq!(
        sum.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        sum.text()
    );
    assert!(sum.text().contains("would be too low"), "{}", sum.text());
    assert_eq!(
        app.counter("meshmeter_api_missing_pods_total{reason=\"vm_lost\"}")
            .await,
        3
    );
    drop((plain, broken));
    app.stop().await;
}

/// With a file of pods only those exist, with the file's labels; a pod without a sidecar is named
/// as such.
#[tokio::test(flavor = "multi_thread")]
async fn serves_the_pods_of_the_file_only() {
    let pod = |name: &str| {
        let labels = [("app".to_owned(), "file".to_owned())].into();
        PodInfo::new(PodKey::new("prod", name), "".into(), labels)
    };
    let app = App::start_with_pods(Some(vec![pod("jazz-1"), pod("silent")])).await;
    let sidecars = three_pods(&app).await;
    let all = app.metric(REQUESTS, "").await;
    assert_near(&values(&all.json()), &[("jazz-1", 10.0)]);
    let by_hello = app.metric(REQUESTS, "labelSelector=app%3Djazz").await;
    assert_eq!(by_hello.status, StatusCode::NOT_FOUND);
    assert!(
        by_hello
            .text()
            .contains("2 pods are known in that namespace"),
        "{}",
        by_hello.text()
    );
    let silent = app
        .get(&format!("{V2}/namespaces/prod/pods/silent/{REQUESTS}"))
        .await;
    assert!(
        silent.text().contains("pod prod/silent has no value"),
        "{}",
        silent.text()
    );
    drop(sidecars);
    app.stop().await;
}
