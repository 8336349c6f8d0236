//! A server that runs, and what it answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common_http::{
    BodyTimeout, Deadlines, Http2, Limits, Metrics, Peer, Protocol, RequestBody, Security, Server,
    Settings,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Bytes of `/large`: more than sockets hold.
pub(crate) const LARGE: usize = 64 * 1024 * 1024;

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    /// Lets requests of `/wait` go on.
    pub(crate) go: Arc<Notify>,
    registry: Registry,
}

pub(crate) fn settings(protocol: Protocol) -> Settings {
    Settings {
        listener: "test",
        protocol,
        limits: Limits::of(16),
        deadlines: Deadlines::default(),
        head_bytes_max: 16 * 1024,
        headers_max: 100,
        http2: Http2::default(),
    }
}

impl Running {
    pub(crate) async fn start(protocol: Protocol) -> Self {
        Self::with(settings(protocol), |server| server).await
    }

    pub(crate) async fn with(settings: Settings, change: impl FnOnce(Server) -> Server) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, go) = (CancellationToken::new(), Arc::new(Notify::new()));
        let server = change(Server::new(settings, &metrics).with_security(Security::Plain));
        let wait = Arc::clone(&go);
        let handler = move |peer: &Arc<Peer>| {
            let (peer, wait) = (Arc::clone(peer), Arc::clone(&wait));
            move |request| answer(request, Arc::clone(&peer), Arc::clone(&wait))
        };
        let serving = server.serve(listener, stop.clone(), Duration::from_secs(5), handler);
        Self {
            address,
            stop,
            serving: tokio::spawn(serving),
            go,
            registry,
        }
    }

    /// The value of a series of this listener, by its name and reason.
    pub(crate) fn count(&self, name: &str, reason: &str) -> u64 {
        self.value(&format!(
            "{name}_total{{listener=\"test\",reason=\"{reason}\"}}"
        ))
    }

    pub(crate) fn value(&self, series: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let prefix = format!("{series} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        let value = value.unwrap_or_else(|| panic!("{series} is not in {text}"));
        value.parse().unwrap()
    }
}

async fn answer(
    request: Request<RequestBody>,
    peer: Arc<Peer>,
    wait: Arc<Notify>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let text = |text: &str| Response::new(Full::from(text.to_owned()));
    match head.uri.path() {
        "/" => text("hello"),
        "/method" => text(head.method.as_str()),
        "/tls" => text(if peer.is_tls { "tls" } else { "plain" }),
        "/large" => Response::new(Full::from(vec![b'x'; LARGE])),
        "/empty" => text(""),
        "/wait" => {
            wait.notified().await;
            text("waited")
        }
        "/body" => match body.collect().await {
            Ok(_) => text("read"),
            Err(error) => {
                let mut answer = text(&error.to_string());
                if error.is::<BodyTimeout>() {
                    *answer.status_mut() = StatusCode::REQUEST_TIMEOUT;
                }
                answer
            }
        },
        _ => {
            let mut answer = text("there is no such thing");
            *answer.status_mut() = StatusCode::NOT_FOUND;
            answer
        }
    }
}
