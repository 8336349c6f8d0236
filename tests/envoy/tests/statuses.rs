//! Classes of responses: what has a status is a response, whatever the status is.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use serde_json::json;
use tests_envoy::{FRONT, PATIENCE, POD, attach, inbound, plugin, settled, start_envoy};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::bootstrap::{Bootstrap, Cluster, Direction, Listener, route, virtual_host};
use tests_support::plugin::{AGGREGATOR_CLUSTER, Role};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// An application that answers `/600` with status 600 and so on; `/103` with 103 and then 200.
/// `/never` it does not answer.
async fn serve(mut connection: TcpStream) -> Result<()> {
    let (read, mut write) = connection.split();
    let mut lines = BufReader::new(read).lines();
    let mut path = String::new();
    while let Some(line) = lines.next_line().await? {
        if let Some(target) = line.strip_prefix("GET /") {
            path = target.split(' ').next().unwrap_or_default().to_owned();
        }
        if !line.is_empty() {
            continue;
        }
        if path == "103" {
            write.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await?;
            "200".clone_into(&mut path);
        }
        if path != "never" {
            let answer = format!("HTTP/1.1 {path} Said So\r\ncontent-length: 0\r\n\r\n");
            write.write_all(answer.as_bytes()).await?;
        }
    }
    Ok(())
}

async fn application() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection));
        }
    });
    Ok(address)
}

/// Status of the answer to `path`; a client that gives up before there is one if `path` is
/// `/never`.
async fn get(front: SocketAddr, path: &str) -> Result<Option<u16>> {
    let mut connection = TcpStream::connect(front)
        .await
        .context("connect to Envoy")?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    if path == "/never" {
        // The request has to be there before its client is gone.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        return Ok(None);
    }
    let mut answer = String::new();
    timeout(PATIENCE, connection.read_to_string(&mut answer))
        .await
        .context("no answer")??;
    let last = answer
        .lines()
        .filter_map(|line| line.strip_prefix("HTTP/1.1 "))
        .next_back();
    let status = last
        .and_then(|line| line.split(' ').next())
        .and_then(|code| code.parse().ok());
    Ok(status)
}

/// 600 and 999 reach the client and count as 5xx in both roles, by class and by code; only a
/// request that got no answer counts as `none`. Envoy has them in `downstream_rq_completed` and in
/// no class.
#[tokio::test]
async fn an_unusual_status_is_a_response() {
    const PATHS: [&str; 8] = [
        "/200", "/103", "/204", "/404", "/503", "/600", "/999", "/never",
    ];
    let application = application().await.unwrap();
    for (role, detail) in [
        (Role::Filter, "class"),
        (Role::Filter, "code"),
        (Role::AccessLog, "class"),
    ] {
        let aggregator = Aggregator::start(&Options::default()).await.unwrap();
        let mut front = Listener::new(FRONT, Direction::Inbound);
        front.virtual_hosts = vec![virtual_host("all", &["*"], &[route("/", "app")])];
        attach(
            &mut front,
            &plugin(role).unwrap().with("responses", json!(detail)),
        );
        let mut bootstrap = Bootstrap::new("sidecar-1");
        bootstrap.listeners.push(front);
        bootstrap.clusters = vec![
            Cluster::new("app", application),
            Cluster::new(AGGREGATOR_CLUSTER, aggregator.ingest()).with_http2(),
        ];
        let envoy = start_envoy(&bootstrap).await.unwrap();
        let front = envoy.listener(FRONT).unwrap();
        let mut answered = Vec::new();
        for path in PATHS {
            answered.extend(get(front, path).await.unwrap());
        }
        assert_eq!(answered, [200, 200, 204, 404, 503, 600, 999]);
        let pod = settled(&aggregator, POD, inbound(8)).await.unwrap();
        let classes: BTreeMap<&str, u64> = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"]
            .into_iter()
            .map(|class| (class, pod.responses("inbound", class)))
            .filter(|(_, total)| *total > 0)
            .collect();
        let expected = BTreeMap::from([("2xx", 3), ("4xx", 1), ("5xx", 3), ("none", 1)]);
        assert_eq!(classes, expected, "{role:?} {detail}");
        let stats = envoy.stats().await.unwrap();
        let of = |name: &str| stats.get(&format!("http.{FRONT}.downstream_rq_{name}"));
        assert_eq!(
            (of("completed"), of("2xx"), of("4xx"), of("5xx")),
            (7, 3, 1, 1)
        );
    }
}
