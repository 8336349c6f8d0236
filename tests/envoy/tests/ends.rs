//! However a request ends, its end is counted once, and with the status that Envoy itself logs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tests_envoy::{FRONT, PATIENCE, POD, attach, inbound, plugin, settled, start_envoy};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::bootstrap::{
    Bootstrap, Cluster, Direction, Listener, lua_filter, route, virtual_host,
};
use tests_support::plugin::{AGGREGATOR_CLUSTER, Role};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// Answers `/early` before the request reaches the filter that stands behind it.
const EARLY: &str = "function envoy_on_request(handle) \
    if handle:headers():get(':path') == '/early' then \
    handle:respond({[':status'] = '418'}, '') end end";
/// Answers `/late` behind the filter, and holds the body of the response to `/big` until it is
/// complete, which is more than Envoy buffers.
const LATE: &str = "function envoy_on_request(handle) \
    if handle:headers():get(':path') == '/late' then \
    handle:respond({[':status'] = '418'}, '') end end \
    function envoy_on_response(handle) \
    if handle:headers():get('big') then handle:body() end end";
/// Bytes of a body beyond what Envoy buffers, 1 MiB.
const BIG_BYTES: usize = 2 * 1024 * 1024;
/// Long enough for Envoy to have a request or part of a response.
const A_WHILE: Duration = Duration::from_millis(300);

/// What a client does, and the classes that its request counts in: by role `filter`, and by role
/// `access_log`.
struct Case {
    name: &'static str,
    request: &'static str,
    /// The client leaves without waiting for the end.
    leaves: bool,
    filter: &'static [&'static str],
    access_log: &'static [&'static str],
}

const fn case(
    name: &'static str,
    request: &'static str,
    filter: &'static [&'static str],
    access_log: &'static [&'static str],
) -> Case {
    Case {
        name,
        request,
        leaves: false,
        filter,
        access_log,
    }
}

const CASES: [Case; 12] = [
    case(
        "served",
        "GET /ok HTTP/1.1\r\nhost: a\r\n\r\n",
        &["2xx"],
        &["2xx"],
    ),
    case("no HTTP", "NONSENSE\r\n\r\n", &[], &["4xx"]),
    case("no host", "GET /ok HTTP/1.1\r\n\r\n", &[], &["4xx"]),
    case(
        "answered before the filter",
        "GET /early HTTP/1.1\r\nhost: a\r\n\r\n",
        &[],
        &["4xx"],
    ),
    case(
        "answered behind the filter",
        "GET /late HTTP/1.1\r\nhost: a\r\n\r\n",
        &["4xx"],
        &["4xx"],
    ),
    case(
        "no such route",
        "GET /ok HTTP/1.1\r\nhost: nobody\r\n\r\n",
        &["4xx"],
        &["4xx"],
    ),
    // The router runs the filters anew for the second request.
    case(
        "redirected by Envoy",
        "GET /hop HTTP/1.1\r\nhost: a\r\n\r\n",
        &["2xx", "3xx"],
        &["2xx", "3xx"],
    ),
    case(
        "connection closed by the application",
        "GET /reset HTTP/1.1\r\nhost: a\r\n\r\n",
        &["5xx"],
        &["5xx"],
    ),
    case(
        "response too large for a filter",
        "GET /big HTTP/1.1\r\nhost: a\r\n\r\n",
        &["5xx"],
        &["5xx"],
    ),
    case(
        "switched to another protocol",
        "GET /switch HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        &["1xx"],
        &["1xx"],
    ),
    Case {
        leaves: true,
        ..case(
            "client gone before the response",
            "GET /never HTTP/1.1\r\nhost: a\r\n\r\n",
            &["none"],
            &["none"],
        )
    },
    Case {
        leaves: true,
        ..case(
            "client gone during the response",
            "GET /part HTTP/1.1\r\nhost: a\r\n\r\n",
            &["2xx"],
            &["2xx"],
        )
    },
];

/// An application whose answer depends on the path.
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
        let answer = match path.as_str() {
            "never" => continue,
            "reset" => return Ok(()),
            "hop" => "302 Found\r\nlocation: http://a/ok\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "part" => "200 OK\r\ncontent-length: 100\r\n\r\nbegun".to_owned(),
            "switch" => {
                "101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
                    .to_owned()
            }
            "big" => format!(
                "200 OK\r\nbig: yes\r\ncontent-length: {BIG_BYTES}\r\n\r\n{}",
                "x".repeat(BIG_BYTES)
            ),
            _ => "200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
        };
        write
            .write_all(format!("HTTP/1.1 {answer}").as_bytes())
            .await?;
        if path == "switch" {
            return Ok(());
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

async fn ask(front: SocketAddr, case: &Case) -> Result<()> {
    let mut connection = TcpStream::connect(front).await?;
    connection.write_all(case.request.as_bytes()).await?;
    if case.leaves {
        sleep(A_WHILE).await;
        return Ok(());
    }
    let mut answer = [0; 512];
    let count = timeout(PATIENCE, connection.read(&mut answer))
        .await
        .context("no answer")??;
    anyhow::ensure!(answer[..count].starts_with(b"HTTP/1.1 "), "no status");
    Ok(())
}

/// An Envoy whose listener has the filter between two that answer some requests themselves.
fn bootstrap(role: Role, application: SocketAddr, aggregator: SocketAddr) -> Result<Bootstrap> {
    let mut front = Listener::new(FRONT, Direction::Inbound);
    let mut all = route("/", "app");
    all["route"]["internal_redirect_policy"] = json!({"max_internal_redirects": 1});
    all["route"]["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
    front.virtual_hosts = vec![virtual_host("all", &["a"], &[all])];
    front.http_filters.push(lua_filter(EARLY));
    attach(&mut front, &plugin(role)?);
    front.http_filters.push(lua_filter(LATE));
    let mut bootstrap = Bootstrap::new("sidecar-1");
    bootstrap.listeners.push(front);
    bootstrap.clusters = vec![
        Cluster::new("app", application),
        Cluster::new(AGGREGATOR_CLUSTER, aggregator).with_http2(),
    ];
    Ok(bootstrap)
}

/// Each case beside the count that Envoy made of it: classes, requests, none in flight.
async fn each_end_counts_once(
    role: Role,
    classes_of: fn(&Case) -> &'static [&'static str],
) -> Result<()> {
    let application = application().await?;
    let aggregator = Aggregator::start(&Options::default()).await?;
    let bootstrap = bootstrap(role, application, aggregator.ingest())?;
    let envoy = start_envoy(&bootstrap).await?;
    let front = envoy.listener(FRONT)?;
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for case in &CASES {
        ask(front, case).await.context(case.name)?;
        for class in classes_of(case) {
            *expected.entry(class).or_default() += 1;
        }
        let ends = expected.values().sum();
        let pod = settled(&aggregator, POD, inbound(ends)).await;
        let pod = pod.context(case.name)?;
        let counted: BTreeMap<&str, u64> = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"]
            .into_iter()
            .map(|class| (class, pod.responses("inbound", class)))
            .filter(|(_, total)| *total > 0)
            .collect();
        assert_eq!(counted, expected, "after: {}", case.name);
        assert_eq!(pod.requests("inbound"), Some(ends), "after: {}", case.name);
    }
    Ok(())
}

#[tokio::test]
async fn each_end_counts_once_in_the_filter() {
    each_end_counts_once(Role::Filter, |case| case.filter)
        .await
        .unwrap();
}

#[tokio::test]
async fn each_end_counts_once_in_the_access_log() {
    each_end_counts_once(Role::AccessLog, |case| case.access_log)
        .await
        .unwrap();
}
