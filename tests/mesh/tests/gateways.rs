//! Virtual gateways and their routes, shown by traffic through real Envoys of both versions.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::path::Path;
use std::time::Duration;

use tests_mesh::plain::{answer, wait_answer};
use tests_mesh::versions::Version;
use tests_mesh::{Mesh, Modules, on_each_version};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::clock;
use tests_support::djapp::Behaviour;

const MANIFEST: &str = include_str!("gateways.yaml");
const PATIENCE: Duration = Duration::from_secs(30);

const COLOR: &str = "color.prod.svc.cluster.local";

/// How often all requests are sent to be counted.
const ROUNDS: u64 = 10;

/// Request, its host, the node that answers, and what arrives there: host and path.
const REQUESTS: [(&str, &str, &str, &str, &str); 19] = [
    ("GET /a?b=c", "out.com", "one", COLOR, "/a?b=c"),
    ("GET /red/b", "out.com", "two", COLOR, "/red/b"),
    (
        "GET /chapter/page?q=1",
        "out.com",
        "one",
        COLOR,
        "/page?q=1",
    ),
    ("GET /chapter1", "out.com", "one", COLOR, "/1"),
    ("GET /chapter/red/c", "out.com", "two", COLOR, "/red/c"),
    ("GET /chapter//red/d", "out.com", "two", COLOR, "/red/d"),
    ("GET /x/../chapter/e", "out.com", "one", COLOR, "/e"),
    ("GET /maroon/f", "out.com", "two", COLOR, "/red/f"),
    (
        "GET /kept/g",
        "out.com:8088",
        "one",
        "out.com:8088",
        "/kept/g",
    ),
    (
        "GET /v12/x?q=2",
        "out.com",
        "two",
        "two.prod",
        "/version?q=2",
    ),
    ("GET /h\ncolor: blue", "out.com", "two", "two.prod", "/h"),
    ("GET /i\ncolor: red", "out.com", "one", COLOR, "/i"),
    (
        "GET /j?color=blue",
        "out.com",
        "two",
        "two.prod",
        "/j?color=blue",
    ),
    ("DELETE /k", "out.com", "two", "two.prod", "/k"),
    (
        "GET /l",
        "Two.example.com:80",
        "two",
        "Two.example.com:80",
        "/l",
    ),
    ("GET /m", "a.example.org", "two", COLOR, "/m"),
    ("GET /n", "example.org", "one", COLOR, "/n"),
    // Nobody from outside chooses the virtual service.
    (
        "GET /o\nx-meshmeter-virtual-service: two.prod:9080",
        "out.com",
        "one",
        COLOR,
        "/o",
    ),
    ("GET /p", COLOR, "one", COLOR, "/p"),
];

on_each_version!(
    requests_go_where_they_match,
    a_full_pool_answers_503,
    requests_are_counted_once,
);

async fn mesh(version: Version, log: &Path) -> Mesh {
    let log = log.display().to_string();
    let manifest = MANIFEST.replace("/LOG", &log);
    Mesh::of(version, &manifest).await.unwrap()
}

/// `GET /` and further lines of a head as the head.
fn head(request: &str, host: &str) -> String {
    let (line, rest) = request.split_once('\n').unwrap_or((request, ""));
    let rest = if rest.is_empty() {
        String::new()
    } else {
        format!("\n{rest}")
    };
    format!("{line} HTTP/1.1\nhost: {host}{rest}")
}

/// Each request reaches the node that gateway route and router lead to, rewritten.
async fn requests_go_where_they_match(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let mut mesh = mesh(version, &log).await;
    let one = mesh.pod("one", Behaviour::new("one"), None).await.unwrap();
    let two = mesh.pod("two", Behaviour::new("two"), None).await.unwrap();
    let mut gateway = mesh.gateway("in", None).await.unwrap();
    let http = gateway.listener(8088).await.unwrap();
    for (path, expected) in [("/", "one"), ("/red/", "two")] {
        let head = head(&format!("GET {path}"), "out.com");
        wait_answer(http, &head, expected).await.unwrap();
    }
    let before = [&one, &two].map(|pod| pod.app.served());
    let mut expected = [0, 0];
    for (request, host, node, _, _) in REQUESTS {
        let head = head(request, host);
        let (status, body) = answer(http, &head).await.unwrap();
        assert_eq!(
            (status.as_str(), body.contains(node)),
            ("200", true),
            "{head}: {body}"
        );
        expected[usize::from(node == "two")] += 1;
    }
    let served = [&one, &two].map(|pod| pod.app.served());
    assert_eq!([served[0] - before[0], served[1] - before[1]], expected);
    // A route whose service is not there does not leave its requests to another.
    let (status, _) = answer(http, &head("GET /gone/q", "out.com")).await.unwrap();
    assert_eq!(status, "503");

    let grpc = gateway.listener(8089).await.unwrap();
    for (path, metadata, expected) in [
        ("/shop.Cart/Add", "tenant: b", "two"),
        ("/shop.Cart/Remove", "tenant: b", "one"),
        ("/shop.Cart/Add", "tenant: a", "two"),
    ] {
        let rest = format!("content-type: application/grpc\n{metadata}\ncontent-length: 0");
        let head = head(&format!("POST {path}\n{rest}"), "cart.example.com");
        wait_answer(grpc, &head, expected).await.unwrap();
    }
    // Envoy answers to gRPC with a status of gRPC.
    let rest = "content-type: application/grpc\ncontent-length: 0";
    let other = head(&format!("POST /shop.Other/Add\n{rest}"), "cart.example.com");
    let (_, body) = answer(grpc, &other).await.unwrap();
    assert!(!body.contains("one") && !body.contains("two"), "{body}");

    // The application gets nothing of the header between the two passes.
    let mut arrive: Vec<_> = REQUESTS
        .iter()
        .map(|(_, _, _, host, path)| format!("{host} {path} -"))
        .collect();
    let calls = [
        "cart.prod /shop.Cart/Add -",
        "cart.example.com /shop.Cart/Add -",
    ];
    arrive.extend(calls.map(str::to_owned));
    clock::wait_for("the access log", PATIENCE, async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let missing = arrive.iter().find(|line| !lines.contains(&line.as_str()));
        Ok(missing.is_none().then_some(()))
    })
    .await
    .unwrap_or_else(|error| {
        panic!(
            "{error}: {arrive:#?} in {:?}",
            std::fs::read_to_string(&log)
        )
    });
}

/// A pool of a listener limits what comes in by it, and nothing else.
async fn a_full_pool_answers_503(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let mut mesh = mesh(version, &folder.path().join("log")).await;
    let slow = Behaviour::new("two").with_latency(Duration::from_secs(2));
    let _two = mesh.pod("two", slow, None).await.unwrap();
    let mut gateway = mesh.gateway("in", None).await.unwrap();
    let pooled = gateway.listener(8090).await.unwrap();
    let head = "GET / HTTP/1.1\nhost: out.com";
    wait_answer(pooled, head, "200").await.unwrap();
    let stats = gateway.envoy.stats().await.unwrap();
    let overflow =
        "cluster.cds_ingress_dj-app_in_prod_self_redirect_http_8090.upstream_rq_pending_overflow";
    let before = stats.get(overflow);
    let requests = (0..6).map(|_| tokio::spawn(answer(pooled, head)));
    let mut statuses = Vec::new();
    for request in requests.collect::<Vec<_>>() {
        statuses.push(request.await.unwrap().unwrap().0);
    }
    let refused = statuses.iter().filter(|status| *status == "503").count();
    assert!(
        refused > 0 && statuses.iter().any(|status| status == "200"),
        "{statuses:?}"
    );
    let stats = gateway.envoy.stats().await.unwrap();
    assert_eq!(stats.get(overflow) - before, refused as u64);
}

/// The gateway counts each request of a client once inbound, refused ones too, and each call of a
/// virtual service once outbound; the workloads count what reaches them.
async fn requests_are_counted_once(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let modules = Modules::built().unwrap();
    let through = Some((&modules, aggregator.ingest()));
    let mut mesh = mesh(version, &folder.path().join("log")).await;
    let one = mesh
        .pod("one", Behaviour::new("one"), through)
        .await
        .unwrap();
    let two = mesh
        .pod("two", Behaviour::new("two"), through)
        .await
        .unwrap();
    let mut gateway = mesh.gateway("in", through).await.unwrap();
    let http = gateway.listener(8088).await.unwrap();
    for (path, expected) in [("/", "one"), ("/red/", "two")] {
        let head = head(&format!("GET {path}"), "out.com");
        wait_answer(http, &head, expected).await.unwrap();
    }
    // Until Envoy had their addresses it answered by itself.
    let served = || one.app.served() + two.app.served();
    let before = gateway.envoy.stats().await.unwrap();
    let unserved = before.get("http.egress.downstream_rq_total") - served();
    for _ in 0..ROUNDS {
        for (request, host, _, _, _) in REQUESTS {
            let (status, _) = answer(http, &head(request, host)).await.unwrap();
            assert_eq!(status, "200");
        }
        let (status, _) = answer(http, &head("GET /gone/q", "out.com")).await.unwrap();
        assert_eq!(status, "503");
    }
    let after = gateway.envoy.stats().await.unwrap();
    let [clients, calls] =
        ["ingress", "egress"].map(|of| after.get(&format!("http.{of}.downstream_rq_total")));
    assert_eq!(clients, calls + ROUNDS);
    let counted = gateway.has_counted(&aggregator, clients).await.unwrap();
    assert_eq!(counted.requests("outbound"), Some(calls));
    let one = one.is_exact(&aggregator).await.unwrap();
    let two = two.is_exact(&aggregator).await.unwrap();
    assert_eq!(one + two, calls - unserved);
}
