//! One client without any right, who takes all the connections, descriptors or time there are:
//! probes are answered.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tests_support::stopwatch::Times;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::app::{ANY, Addresses, App, PATIENCE, V2, eventually};
use crate::client;

/// What kubelet waits for a probe by default.
const PROBE_WITHIN: Duration = Duration::from_secs(1);

/// Clock ticks per second of `/proc/PID/stat`, on all platforms that Linux has.
const TICKS_PER_SECOND: f64 = 100.0;

/// Sends so many probes to the program `pid`, one after the other.
async fn probe(pid: u32, admin: SocketAddr, count: usize, pause: Duration) {
    let mut times = Times::new(pid, PROBE_WITHIN);
    for _ in 0..count {
        let lap = times.begin();
        let reply = timeout(PATIENCE, client::get_plain(admin, "/livez")).await;
        assert_eq!(reply.expect("an answer").status, StatusCode::OK);
        times.end(&lap);
        tokio::time::sleep(pause).await;
    }
    times.judge("/livez").unwrap();
}

/// The admin port, full of those who say nothing or only half of it.
#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered() {
    for text in ["", "GET /livez HTTP/1.1\r\nhos"] {
        let app = App::start().await;
        let mut held = Vec::new();
        for _ in 0..128 {
            let mut stream = TcpStream::connect(app.addresses.admin).await.unwrap();
            // Those that made room for it are closed already.
            let _ = stream.write_all(text.as_bytes()).await;
            held.push(stream);
        }
        probe(std::process::id(), app.addresses.admin, 3, Duration::ZERO).await;
        app.stop().await;
    }
}

/// The API, full of TLS connections without a request: whoever asks is answered.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_lock_nobody_out() {
    let app = App::start().await;
    let mut held = Vec::new();
    for _ in 0..1100 {
        held.push(TcpStream::connect(app.addresses.api).await.unwrap());
    }
    for _ in 0..8 {
        held.push(
            client::connect(app.addresses.api, b"h2")
                .await
                .unwrap()
                .into_inner()
                .0,
        );
    }
    let reply = timeout(PATIENCE, app.get("/livez")).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    app.stop().await;
}

/// 64 descriptors, and far more connections than that: the program never runs out of them, neither
/// spins nor keeps a probe waiting.
#[tokio::test(flavor = "multi_thread")]
async fn few_descriptors_are_enough() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("addresses.json");
    let program = env!("CARGO_BIN_EXE_meshmeter");
    let command = format!(
        "ulimit -n 64; exec '{program}' serve --standalone --ingest-listen {ANY} --api-listen {ANY} \
         --admin-listen {ANY} --addresses-file '{}'",
        file.display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).stdin(Stdio::null());
    let child = shell
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let text = eventually("the addresses file", async || {
        std::fs::read_to_string(&file).ok()
    })
    .await;
    let addresses: Addresses = serde_json::from_str(&text).unwrap();
    let mut held = Vec::new();
    for _ in 0..200 {
        for address in [addresses.ingest, addresses.api, addresses.admin] {
            // The queue of the listener may be full.
            let connecting = TcpStream::connect(address);
            if let Ok(Ok(stream)) = timeout(Duration::from_millis(50), connecting).await {
                held.push(stream);
            }
        }
    }
    let id = child.id().unwrap();
    let (begin, used) = (
        std::fs::read_to_string("/proc/uptime").unwrap(),
        cpu_seconds(id),
    );
    probe(id, addresses.admin, 10, Duration::from_millis(300)).await;
    let used = cpu_seconds(id) - used;
    let seconds = |text: &str| text.split(' ').next().unwrap().parse::<f64>().unwrap();
    let took = seconds(&std::fs::read_to_string("/proc/uptime").unwrap()) - seconds(&begin);
    assert!(used / took < 0.15, "{used} s of CPU in {took} s");
    let page = client::get_plain(addresses.admin, "/metrics").await.text();
    for listener in ["ingest", "api", "admin"] {
        let none = format!(
            "meshmeter_accept_failures_total{{listener=\"{listener}\",reason=\"descriptors\"}} 0\n"
        );
        assert!(page.contains(&none), "{listener}: {page}");
    }
}

/// What a process has used so far, user and system.
fn cpu_seconds(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let (_, after) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = after.split(' ').collect();
    let ticks: f64 = [11, 12]
        .map(|field| fields[field].parse::<f64>().unwrap())
        .iter()
        .sum();
    ticks / TICKS_PER_SECOND
}

/// HEAD over HTTP/2 is GET without a body, on every kind of path.
#[tokio::test(flavor = "multi_thread")]
async fn head_has_no_body() {
    let app = App::start().await;
    let metric = format!("{V2}/namespaces/prod/pods/%2A/appmesh_requests_per_second");
    for path in [
        "/", "/version", "/apis", "/livez", "/readyz", "/nothing", &metric,
    ] {
        let stream = client::connect(app.addresses.api, b"h2").await.unwrap();
        let io = TokioIo::new(stream);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut lengths = Vec::new();
        for method in [Method::GET, Method::HEAD] {
            let request = Request::builder()
                .method(method.clone())
                .uri(format!("https://{}{path}", app.addresses.api))
                .body(Full::<bytes::Bytes>::default())
                .unwrap();
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            assert_eq!(body.is_empty(), method == Method::HEAD, "{method} {path}");
            lengths.push((head.status, head.headers["content-length"].clone()));
        }
        assert_eq!(lengths[0].1, lengths[1].1, "{path}");
        connection.abort();
    }
    app.stop().await;
}
