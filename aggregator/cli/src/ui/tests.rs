//! The proxy between a client and a stand-in for kube-apiserver, all on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;
use crate::args::ConnectionArgs;

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

/// What the stand-in was asked: path and headers.
type Asked = Arc<Mutex<Vec<(String, http::HeaderMap)>>>;

/// A proxy in front of a stand-in.
struct Ui {
    port: u16,
    /// Path of the first page, key included.
    first: String,
    asked: Asked,
    stop: CancellationToken,
    _running: JoinSet<()>,
}

impl Ui {
    async fn start() -> Self {
        let asked = Asked::default();
        let mut running = JoinSet::new();
        let upstream = stand_in(&mut running, Arc::clone(&asked)).await;
        let args = ConnectionArgs {
            server: Some(format!("http://{upstream}")),
            ..ConnectionArgs::default()
        };
        let connection = Connection::open(&args, Program::Meshmeter).await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Gate::new(port, "page");
        let link = gate.link();
        let first = link.split_once(&port.to_string()).unwrap().1.to_owned();
        let proxy = Proxy::new(gate, connection).answering_within(Duration::from_millis(300));
        let stop = CancellationToken::new();
        running.spawn(serve(listener, proxy, stop.clone()));
        Self {
            port,
            first,
            asked,
            stop,
            _running: running,
        }
    }

    /// Sends a request with these further header lines; the answer's bytes until `until` is in
    /// them, or its end.
    async fn ask(&self, method: &str, path: &str, lines: &str, until: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
            .await
            .unwrap();
        let port = self.port;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n{lines}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let mut chunk = [0; 4_096];
        loop {
            let read = stream.read(&mut chunk).await.unwrap();
            answer.extend_from_slice(&chunk[..read]);
            let text = String::from_utf8_lossy(&answer);
            if read == 0 || (!until.is_empty() && text.contains(until)) {
                return text.into_owned();
            }
        }
    }

    async fn get(&self, path: &str) -> String {
        self.ask("GET", path, "", "").await
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn stand_in(tasks: &mut JoinSet<()>, asked: Asked) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let asked = Arc::clone(&asked);
            let service = service_fn(move |request: Request<Incoming>| {
                let path = request.uri().to_string();
                asked.lock().push((path.clone(), request.headers().clone()));
                async move { Ok::<_, Infallible>(answer(&path).await) }
            });
            connections.spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new();
                let _ = connection
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

async fn answer(path: &str) -> Response<Body> {
    let whole = |status: StatusCode, media_type: &str, text: &str| {
        let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync();
        Response::builder()
            .status(status)
            .header("content-type", media_type)
            .header("set-cookie", "a=b")
            .header("audit-id", "1")
            .body(body)
            .unwrap()
    };
    if path.contains("events") {
        // One event, and then nothing more for as long as anyone listens.
        let first = futures_util::stream::once(async { Bytes::from_static(b"data: 1\n\n") });
        let parts = first.chain(futures_util::stream::pending());
        let body = StreamBody::new(parts.map(|part| Ok(Frame::data(part))));
        let mut response = Response::new(body.boxed_unsync());
        let media_type = "text/event-stream".parse().unwrap();
        response.headers_mut().insert("content-type", media_type);
        return response;
    }
    if path.contains("slow") {
        return std::future::pending().await;
    }
    if path.contains("forbidden") {
        let status = r#"{"kind":"Status","message":"<b>you</b> cannot get page"}"#;
        return whole(StatusCode::FORBIDDEN, "application/json", status);
    }
    whole(
        StatusCode::OK,
        "text/html; charset=utf-8",
        "<p>the page</p>",
    )
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// The page comes through with the headers that protect it; neither side's secrets do.
#[tokio::test]
async fn the_page_comes_through() {
    let ui = Ui::start().await;
    let lines = "cookie: secret=1\r\nauthorization: Bearer x\r\naccept: text/html\r\n";
    let answer = ui.ask("GET", &ui.first, lines, "").await;
    assert_eq!(status(&answer), "200");
    assert!(answer.ends_with("<p>the page</p>"), "{answer}");
    assert!(
        answer.contains("content-security-policy: default-src 'none'"),
        "{answer}"
    );
    assert!(
        !answer.contains("set-cookie") && !answer.contains("audit-id"),
        "{answer}"
    );
    let asked = ui.asked.lock();
    let (path, headers) = &asked[0];
    assert_eq!(path, "/apis/view.meshmeter.io/v1/page");
    assert_eq!(headers.get("accept").unwrap(), "text/html");
    assert!(!headers.contains_key("cookie") && !headers.contains_key("authorization"));
}

/// What the gate refuses does not reach kube-apiserver.
#[tokio::test]
async fn what_is_refused_goes_nowhere() {
    let ui = Ui::start().await;
    let key = ui.first.split('/').nth(1).unwrap();
    let secrets = format!("/{key}/api/v1/secrets");
    let wrong = ui.first.replacen(key, &"0".repeat(64), 1);
    for (method, path, lines, expected) in [
        ("GET", "/", "", "403"),
        ("GET", wrong.as_str(), "", "403"),
        ("GET", secrets.as_str(), "", "404"),
        ("POST", ui.first.as_str(), "content-length: 0\r\n", "405"),
        ("DELETE", ui.first.as_str(), "", "405"),
        (
            "GET",
            ui.first.as_str(),
            "origin: http://evil.example\r\n",
            "403",
        ),
        ("GET", ui.first.as_str(), "host: evil.example\r\n", "421"),
    ] {
        let answer = ui.ask(method, path, lines, "").await;
        assert_eq!(
            status(&answer),
            expected,
            "{method} {path} {lines}: {answer}"
        );
    }
    assert!(ui.asked.lock().is_empty());
}

/// Events arrive while the stream is open.
#[tokio::test]
async fn events_stream_through() {
    let ui = Ui::start().await;
    let answer = ui
        .ask(
            "GET",
            &format!("{}/events?view=overview", ui.first),
            "",
            "data: 1",
        )
        .await;
    assert_eq!(status(&answer), "200");
    assert!(answer.contains("text/event-stream"), "{answer}");
}

/// A refusal of kube-apiserver, and one that never comes, are pages that say so.
#[tokio::test]
async fn failures_are_said() {
    let ui = Ui::start().await;
    let forbidden = ui.get(&format!("{}/forbidden", ui.first)).await;
    assert_eq!(status(&forbidden), "403");
    assert!(
        forbidden.contains("&lt;b&gt;you&lt;/b&gt; cannot get page"),
        "{forbidden}"
    );
    let slow = ui.get(&format!("{}/slow", ui.first)).await;
    assert_eq!(status(&slow), "504");
    assert!(slow.contains("did not answer within 0.3 s"), "{slow}");
}
