//! What routes and listeners say, shown by traffic through real Envoys of both versions.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tests_mesh::plain::{answer, wait_answer};
use tests_mesh::versions::Version;
use tests_mesh::{EGRESS, INGRESS, Mesh, Pod, on_each_version};
use tests_support::clock;
use tests_support::djapp::Behaviour;

const MANIFEST: &str = include_str!("routes.yaml");
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests of color.prod, and the node that answers them.
const REQUESTS: [(&str, &str); 20] = [
    ("GET /exact?a=b", "two"),
    ("GET /exact/more", "one"),
    ("GET /v12/x", "two"),
    ("GET /v/x", "one"),
    ("GET /\ncolor: blue", "two"),
    ("GET /\ncolor: bluer", "one"),
    ("GET /\nprefixed: red-1", "two"),
    ("GET /\nsuffixed: 1-red", "two"),
    ("GET /\nregex: a1b", "two"),
    ("GET /\nregex: xa1b", "one"),
    ("GET /\nsize: 9", "two"),
    ("GET /\nsize: 10", "one"),
    ("GET /\npresent: x", "two"),
    ("GET /inverted\nsecret: x", "one"),
    ("GET /inverted", "two"),
    ("DELETE /", "two"),
    ("GET /?q=1", "two"),
    ("GET /?q=2", "one"),
    ("GET /?present", "two"),
    ("GET /secure", "one"),
];

on_each_version!(
    requests_go_where_they_match,
    bytes_pass_by_tcp,
    a_full_pool_answers_503,
    an_outlier_is_ejected,
);

/// The mesh of `routes.yaml`, with its access log in `log`.
async fn mesh(version: Version, log: &Path) -> Mesh {
    let log = log.display().to_string();
    let manifest = MANIFEST.replace("/LOG", &log);
    Mesh::of(version, &manifest).await.unwrap()
}

/// The pod of a node; the control plane may not have read the manifest yet, and Envoy asks again.
async fn pod(mesh: &mut Mesh, name: &str, behaviour: Behaviour) -> Pod {
    mesh.pod(name, behaviour, None).await.unwrap()
}

async fn is_answered(address: SocketAddr, head: &str, expected: &str) {
    wait_answer(address, head, expected).await.unwrap();
}

/// Each request reaches the node of the first route that matches it.
async fn requests_go_where_they_match(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let mut mesh = mesh(version, &log).await;
    let one = pod(&mut mesh, "one", Behaviour::new("one")).await;
    let two = pod(&mut mesh, "two", Behaviour::new("two")).await;
    let mut caller = pod(&mut mesh, "caller", Behaviour::new("caller")).await;
    let egress = caller.envoy.wait_listener(EGRESS).await.unwrap();
    is_answered(egress, "GET / HTTP/1.1\nhost: color.prod", "one").await;
    is_answered(egress, "GET /exact HTTP/1.1\nhost: color.prod", "two").await;
    let grpc = "content-type: application/grpc";
    for (head, expected) in REQUESTS {
        let head = head.replacen('\n', " HTTP/1.1\n", 1);
        let version = if head.contains(" HTTP/1.1") {
            ""
        } else {
            " HTTP/1.1"
        };
        let head = format!("{head}{version}\nhost: color.prod");
        let (status, body) = answer(egress, &head).await.unwrap();
        assert_eq!(
            (status.as_str(), body.contains(expected)),
            ("200", true),
            "{head}: {body}"
        );
    }
    for (path, metadata, expected) in [
        ("/shop.Cart/Add", "tenant: a", "two"),
        ("/shop.Cart/Add", "tenant: b", "one"),
        ("/shop.Cart/Remove", "tenant: a", "one"),
        ("/shop.Other/Add", "tenant: a", "404"),
    ] {
        let head =
            format!("POST {path} HTTP/1.1\nhost: cart.prod\n{grpc}\n{metadata}\ncontent-length: 0");
        if expected == "404" {
            // Envoy answers to gRPC with a status of gRPC.
            let (_, body) = answer(egress, &head).await.unwrap();
            assert!(!body.contains("one") && !body.contains("two"), "{body}");
        } else {
            is_answered(egress, &head, expected).await;
        }
    }
    clock::wait_for("the access log", PATIENCE, async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        Ok(text.contains("\"path\":\"/exact?a=b\"").then_some(()))
    })
    .await
    .unwrap();
    // Each request that was answered reached one application, once.
    let stats = caller.envoy.stats().await.unwrap();
    let of = |name: &str| {
        stats.get(&format!(
            "cluster.cds_egress_dj-app_{name}_prod_http_9080.upstream_rq_total"
        ))
    };
    assert_eq!(of("one"), one.app.served());
    assert_eq!(of("two"), two.app.served());
}

/// A node and a router of TCP pass bytes that Envoy does not read.
async fn bytes_pass_by_tcp(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let mut mesh = mesh(version, &folder.path().join("log")).await;
    let _bytes = pod(&mut mesh, "bytes", Behaviour::new("bytes")).await;
    let mut caller = pod(&mut mesh, "tcp-caller", Behaviour::new("caller")).await;
    let egress = caller.envoy.wait_listener(EGRESS).await.unwrap();
    is_answered(egress, "GET / HTTP/1.1\nhost: nobody.knows.this", "bytes").await;
    let stats = caller.envoy.stats().await.unwrap();
    assert!(stats.get("tcp.egress.downstream_cx_total") > 0);
    assert_eq!(stats.get("http.egress.downstream_rq_total"), 0);
}

/// A connection more than the pool has waits, and one more than may wait is answered by Envoy.
async fn a_full_pool_answers_503(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let mut mesh = mesh(version, &folder.path().join("log")).await;
    let slow = Behaviour::new("slow").with_latency(Duration::from_secs(2));
    let pooled = pod(&mut mesh, "pooled", slow).await;
    let ingress = pooled.envoy.listener(INGRESS).unwrap();
    let head = "GET / HTTP/1.1\nhost: pooled.prod";
    let requests = (0..6).map(|_| tokio::spawn(answer(ingress, head)));
    let mut statuses = Vec::new();
    for request in requests.collect::<Vec<_>>() {
        statuses.push(request.await.unwrap().unwrap().0);
    }
    let refused = statuses.iter().filter(|status| *status == "503").count();
    assert!(
        refused > 0 && statuses.iter().any(|status| status == "200"),
        "{statuses:?}"
    );
    let stats = pooled.envoy.stats().await.unwrap();
    let overflow = "cluster.cds_ingress_dj-app_pooled_prod_http_9080.upstream_rq_pending_overflow";
    assert_eq!(stats.get(overflow), refused as u64);
}

/// The pod that answers with errors gets no requests any more, and the other gets them all.
async fn an_outlier_is_ejected(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let mut mesh = mesh(version, &folder.path().join("log")).await;
    let bad = pod(&mut mesh, "bad", Behaviour::new("bad").failing(1)).await;
    let good = pod(&mut mesh, "good", Behaviour::new("good")).await;
    let both = [&bad, &good].map(|pod| pod.envoy.listener(INGRESS).unwrap());
    mesh.set_endpoints("both", &both).unwrap();
    let mut caller = pod(&mut mesh, "outlier-caller", Behaviour::new("caller")).await;
    let egress = caller.envoy.wait_listener(EGRESS).await.unwrap();
    let head = "GET / HTTP/1.1\nhost: both.prod";
    clock::wait_for("the ejection", PATIENCE, async || {
        answer(egress, head).await?;
        let stats = caller.envoy.stats().await?;
        let ejections =
            "cluster.cds_egress_dj-app_both_prod_http_9080.outlier_detection.ejections_active";
        Ok((stats.get(ejections) == 1).then_some(()))
    })
    .await
    .unwrap();
    let before = bad.app.served();
    for _ in 0..20 {
        assert_eq!(answer(egress, head).await.unwrap().0, "200");
    }
    assert_eq!(bad.app.served(), before);
}
