//! Start, readiness, what operators see, and the end.

use std::time::Duration;

use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::app::{App, config, eventually};
use crate::client;
use crate::sidecar::{Sidecar, inbound};

/// Not ready before sidecars had two flush intervals to connect; alive all along, on both
/// listeners.
#[tokio::test(flavor = "multi_thread")]
async fn becomes_ready_after_two_flush_intervals() {
    let clock = aggregator::clock::system();
    let before_start = clock.now();
    let app = App::start().await;
    assert_eq!(app.admin("/healthz").await.status, StatusCode::OK);
    assert_eq!(app.get("/livez").await.status, StatusCode::OK);
    let mut reasons = Vec::new();
    eventually("readiness", async || {
        let reply = app.admin("/readyz").await;
        if reply.status != StatusCode::OK {
            reasons.push(reply.text());
        }
        (reply.status == StatusCode::OK).then_some(())
    })
    .await;
    assert!(clock.now().since(before_start) >= Duration::from_secs(2));
    for reason in reasons {
        assert!(
            reason.starts_with("[-]settled failed: sidecars have "),
            "{reason}"
        );
    }
    assert_eq!(
        app.admin("/readyz?verbose").await.text(),
        "[+]settled ok\n[+]shutdown ok\nreadyz check passed\n"
    );
    assert_eq!(app.get("/readyz").await.text(), "ok");
    app.stop().await;
}

/// `/debug/pods` shows the sidecar's own running totals, `/metrics` how many pods there are.
#[tokio::test(flavor = "multi_thread")]
async fn shows_operators_what_it_has() {
    let app = App::start().await;
    let mut sidecar = Sidecar::connect(app.addresses.ingest, "jazz-1", "jazz").await;
    sidecar.report(vec![inbound(100, 130)]).await;
    let reply = app.admin("/debug/pods").await;
    assert_eq!(reply.headers["content-type"], "application/json");
    let pod = &reply.json()["pods"][0];
    assert_eq!(
        (&pod["namespace"], &pod["name"]),
        (&"prod".into(), &"jazz-1".into())
    );
    assert_eq!(pod["uid"], "uid-jazz-1");
    assert_eq!(pod["state"], "live");
    assert_eq!(pod["streams"], 1);
    assert_eq!(pod["instances"][0].as_str().unwrap().len(), 16);
    assert_eq!(pod["vms_live"], 3);
    let series = &pod["series"][0];
    assert_eq!(series["direction"], "inbound");
    assert_eq!(series["requests"], 100);
    assert_eq!(series["upstream_attempts"], 130);
    assert_eq!(
        series["responses"],
        serde_json::json!({"2xx": 90, "5xx": 10})
    );
    assert_eq!(app.counter("meshmeter_pods{state=\"live\"}").await, 1);
    assert_eq!(app.counter("meshmeter_pods_known").await, 1);
    assert_eq!(app.admin("/nothing").await.status, StatusCode::NOT_FOUND);
    app.stop().await;
}

/// At shutdown sidecars hear that the aggregator is unavailable, and the program ends without an
/// error.
#[tokio::test(flavor = "multi_thread")]
async fn ends_in_order() {
    let app = App::start().await;
    let mut sidecar = Sidecar::connect(app.addresses.ingest, "jazz-1", "jazz").await;
    sidecar.report(vec![inbound(100, 100)]).await;
    let kept = client::connect(app.addresses.api, b"h2").await.unwrap();
    app.shutdown.cancel();
    let status = sidecar.end().await;
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    drop(kept);
    app.stop().await;
}

/// An address in use is an error that names the flag.
#[tokio::test(flavor = "multi_thread")]
async fn names_the_flag_of_an_address_in_use() {
    let taken = std::net::TcpListener::bind(crate::app::ANY).unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = config();
    config.listen.admin = address;
    let error = aggregator::app::run(config, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("--admin-listen {address}")),
        "{error:#}"
    );
}
