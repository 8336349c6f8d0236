//! TLS and plain on one port: sidecars move one by one, and it is seen who has not.

use std::collections::BTreeMap;

use proto::v1::ingest_client::IngestClient;
use serde_json::{Value, json};
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::objects::POD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use crate::client;
use crate::control_plane::Cluster;
use crate::ingest_tls::{Way, add_token, code, server, wait_metric};
use crate::sidecar::{Sidecar, inbound};

const FLAGS: [&str; 4] = [
    "--ingest-tls=self-managed",
    "--ingest-token-verification=review",
    "--ingest-identity=token",
    "--ingest-tls-mode=permissive",
];

/// Beside `llm-1` of [`server`], which has a token: `llm-2` with the address that tests come from,
/// and `llm-3` with another.
async fn fleet() -> ApiServer {
    let server = server().await;
    for (name, ip) in [("llm-2", "127.0.0.1"), ("llm-3", "10.0.0.9")] {
        let metadata = json!({"namespace": "demo", "name": name, "uid": format!("uid-{name}")});
        let status = json!({"phase": "Running", "podIP": ip});
        let pod = json!({"metadata": metadata, "status": status});
        server.objects().apply(POD, pod);
    }
    server
}

/// A plain stream of the pod, with a token or without.
async fn plain(cluster: &Cluster, token: Option<&str>, pod: &str) -> Result<Sidecar, Status> {
    let client = IngestClient::connect(format!("http://{}", cluster.addresses.ingest));
    Sidecar::over(client.await.unwrap(), token, "demo", pod, "llm").await
}

/// By pod: streams, those of them without TLS, and requests per second.
async fn pods(cluster: &Cluster) -> BTreeMap<String, (u64, u64, Option<f64>)> {
    let reply = client::get_plain(cluster.addresses.admin, "/debug/pods").await;
    let document: Value = serde_json::from_slice(&reply.body).unwrap();
    let pods = document["pods"].as_array().unwrap().iter();
    pods.map(|pod| {
        let name = pod["name"].as_str().unwrap().to_owned();
        let count = |field: &str| pod[field].as_u64().unwrap();
        let rate = pod["requests_per_second"]["value"].as_f64();
        (name, (count("streams"), count("plain_streams"), rate))
    })
    .collect()
}

fn streams(open: u64, plain: u64, plain_opened: u64) -> [String; 3] {
    [
        format!("meshmeter_ingest_streams {open}"),
        format!("meshmeter_ingest_streams_plain {plain}"),
        format!("meshmeter_ingest_streams_plain_opened_total {plain_opened}"),
    ]
}

/// A sidecar with a token by TLS and one without either stream side by side, their values are
/// right, and gauge, counter and list tell of the one that is to move. Once it has, the gauge is 0
/// and the counter stands still.
#[tokio::test(flavor = "multi_thread")]
async fn sidecars_move_one_by_one() {
    let cluster = Cluster::with(fleet().await, &FLAGS).await;
    let way = Way::self_managed(&cluster);
    let mut secure = way.stream(Some("good"), "llm-1").await.unwrap();
    let mut left = plain(&cluster, None, "llm-2").await.unwrap();
    secure.report(vec![inbound(100, 100)]).await;
    left.report(vec![inbound(300, 300)]).await;
    for line in streams(2, 1, 1) {
        wait_metric(&cluster, &line).await;
    }
    let expected = [("llm-1", (1, 0, Some(10.0))), ("llm-2", (1, 1, Some(30.0)))];
    let expected = expected.map(|(name, pod)| (name.to_owned(), pod));
    assert_eq!(pods(&cluster).await, BTreeMap::from(expected));

    drop(left);
    wait_metric(&cluster, "meshmeter_ingest_streams_plain 0").await;
    add_token(&cluster.server, "of llm-2", "llm-2");
    let mut moved = way.stream(Some("of llm-2"), "llm-2").await.unwrap();
    moved.report(vec![inbound(300, 300)]).await;
    for line in streams(2, 0, 1) {
        wait_metric(&cluster, &line).await;
    }
    assert!(
        pods(&cluster)
            .await
            .values()
            .all(|(_, plain, _)| *plain == 0)
    );
    drop((secure, moved));
    cluster.stop().await;
}

/// A token in plain text is refused before anybody is asked whose it is; without TLS nobody speaks
/// for another address, by TLS nobody does without a token, and what speaks neither is closed.
#[tokio::test(flavor = "multi_thread")]
async fn the_plain_way_in_is_narrow() {
    let cluster = Cluster::with(fleet().await, &FLAGS).await;
    let refused = plain(&cluster, Some("good"), "llm-1").await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(
        refused.message(),
        "bearer token sent without TLS, where others can read it: use TLS or send no token"
    );
    let foreign = plain(&cluster, None, "llm-3").await;
    assert_eq!(code(foreign), Some(Code::PermissionDenied));
    let tokenless = Way::self_managed(&cluster).stream(None, "llm-2").await;
    assert_eq!(code(tokenless), Some(Code::Unauthenticated));
    let mut neither = TcpStream::connect(cluster.addresses.ingest).await.unwrap();
    neither.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let read = neither.read_to_end(&mut Vec::new()).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let refused = |reason: &str| format!("meshmeter_ingest_refused_total{{reason=\"{reason}\"}} 1");
    for line in [
        refused("plain_token"),
        refused("foreign_pod"),
        refused("unauthenticated"),
        "meshmeter_ingest_tokens_total{method=\"review\",outcome=\"verified\"} 0".to_owned(),
        "meshmeter_handshakes_failed_total{listener=\"ingest\",reason=\"unknown_protocol\"} 1"
            .to_owned(),
        "meshmeter_ingest_streams_plain 0".to_owned(),
    ] {
        wait_metric(&cluster, &line).await;
    }
    cluster.stop().await;
}
