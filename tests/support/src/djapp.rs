//! The walkthrough's application *djapp* as tiny HTTP servers: fixed replies, `/ping` for health
//! checks, a failure now and then where asked for, and for `dj` a call of each backend per request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most connections an application serves at once; an Envoy with two workers needs a few.
const CONNECTIONS_MAX: usize = 1_024;
/// Longest time for one call of a backend.
const CALL_MAX: Duration = Duration::from_secs(10);

/// Behaviour of an application.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub reply: &'static str,
    /// Delay of a response.
    pub latency: Duration,
    /// One request in so many is answered with 503.
    pub fail_one_in: Option<NonZeroU64>,
    /// Host names that are called once per request, through the outbound listener.
    pub backends: Vec<String>,
}

/// A running application. Ends when dropped.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    state: Arc<State>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    served: AtomicU64,
    outbound: OnceLock<SocketAddr>,
    calls: Vec<Calls>,
    client: Client<HttpConnector, Empty<Bytes>>,
}

/// Requests written to one backend, and their results.
#[derive(Debug, Default)]
struct Calls {
    written: AtomicU64,
    broken: AtomicU64,
}

// === impl Behaviour ===

impl Behaviour {
    /// Replies at once, never fails, calls nobody.
    pub fn new(reply: &'static str) -> Self {
        Self {
            reply,
            latency: Duration::ZERO,
            fail_one_in: None,
            backends: Vec::new(),
        }
    }

    /// The workshop's `dj`.
    pub fn dj() -> Self {
        Self::new("DJ Reporting for duty!")
    }

    /// The workshop's `jazz-v1`.
    pub fn jazz_v1() -> Self {
        Self::new(r#"["Astrud Gilberto","Miles Davis"]"#)
    }

    /// The workshop's `metal-v1`.
    pub fn metal_v1() -> Self {
        Self::new(r#"["Megadeth","Judas Priest"]"#)
    }

    /// The same, taking `latency` for each reply.
    #[must_use]
    pub fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// The same, failing one request in `one_in`; never for 0.
    #[must_use]
    pub fn failing(mut self, one_in: u64) -> Self {
        self.fail_one_in = NonZeroU64::new(one_in);
        self
    }

    /// The same, calling each of `backends` for each request.
    #[must_use]
    pub fn calling(mut self, backends: Vec<String>) -> Self {
        self.backends = backends;
        self
    }
}

// === impl App ===

impl App {
    /// Serves on `address`; port 0 lets the kernel choose.
    pub async fn start(address: SocketAddr, behaviour: Behaviour) -> Result<Self> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("listen on {address}"))?;
        let address = listener.local_addr().context("read the port")?;
        let calls = behaviour.backends.iter().map(|_| Calls::default());
        let state = Arc::new(State {
            calls: calls.collect(),
            behaviour,
            served: AtomicU64::new(0),
            outbound: OnceLock::new(),
            client: Client::builder(TokioExecutor::new())
                // A call is written once or not at all: it is counted.
                .retry_canceled_requests(false)
                .pool_timer(TokioTimer::new())
                .build_http(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(serve(
            listener,
            state.clone(),
            stop.clone(),
        )));
        Ok(Self {
            address,
            state,
            _stop: stop.drop_guard(),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells where the outbound listener of the pod's sidecar is. Only the first call counts.
    pub fn set_outbound(&self, address: SocketAddr) {
        // The sidecar is started once, after the application: there is no second value to refuse.
        let _ = self.state.outbound.set(address);
    }

    /// Requests that arrived, but for `/ping`.
    pub fn served(&self) -> u64 {
        self.state.served.load(Ordering::Relaxed)
    }

    /// Requests written to the outbound listener for the backend `host`; 0 for an unknown one.
    pub fn written_to(&self, host: &str) -> u64 {
        self.state.calls_of(host, |calls| &calls.written)
    }

    /// Calls of `host` without an answer: whether Envoy saw them is not known.
    pub fn broken_to(&self, host: &str) -> u64 {
        self.state.calls_of(host, |calls| &calls.broken)
    }
}

async fn serve(listener: TcpListener, state: Arc<State>, stop: CancellationToken) {
    let limit = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = limit.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors or a connection that went at once: the next one may do.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let connection = serve_connection(stream, state.clone());
        let connection = stop.clone().run_until_cancelled_owned(connection);
        tokio::spawn(async move {
            connection.await;
            drop(permit);
        });
    }
}

async fn serve_connection(stream: TcpStream, state: Arc<State>) {
    // Without it replies wait for acknowledgements; a connection that cannot have it is no error.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(state.answer(&request).await) }
    });
    // The peer may go at any time: nothing to do about it here, the sidecar counts it.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

// === impl State ===

impl State {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() == "/ping" {
            return reply(StatusCode::OK, "");
        }
        let number = self
            .served
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        join_all((0..self.calls.len()).map(|backend| self.call(backend))).await;
        if !self.behaviour.latency.is_zero() {
            tokio::time::sleep(self.behaviour.latency).await;
        }
        match self.behaviour.fail_one_in {
            Some(one_in) if number % one_in == 0 => {
                reply(StatusCode::SERVICE_UNAVAILABLE, "out of tune\n")
            }
            _ => reply(StatusCode::OK, self.behaviour.reply),
        }
    }

    /// Writes one request for the backend to the outbound listener. Its answer does not matter,
    /// that it came does.
    async fn call(&self, backend: usize) {
        let (Some(host), Some(calls), Some(outbound)) = (
            self.behaviour.backends.get(backend),
            self.calls.get(backend),
            self.outbound.get(),
        ) else {
            return;
        };
        let request = Request::builder()
            .uri(format!("http://{outbound}/"))
            .header(http::header::HOST, host)
            .body(Empty::new());
        let Ok(request) = request else { return };
        calls.written.fetch_add(1, Ordering::Relaxed);
        let answer = tokio::time::timeout(CALL_MAX, self.client.request(request)).await;
        match answer {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.is_connect() => {
                calls.written.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {
                calls.broken.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn calls_of(&self, host: &str, counter: impl Fn(&Calls) -> &AtomicU64) -> u64 {
        let mut backends = self.behaviour.backends.iter().zip(&self.calls);
        let found = backends.find(|(name, _)| *name == host);
        found.map_or(0, |(_, calls)| counter(calls).load(Ordering::Relaxed))
    }
}

fn reply(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::http as client;

    fn any_port() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    /// One in three fails, exactly; `/ping` never does and is not counted.
    #[tokio::test]
    async fn fails_as_often_as_told() {
        let app = App::start(any_port(), Behaviour::jazz_v1().failing(3))
            .await
            .unwrap();
        let mut failed = 0;
        for _ in 0..9 {
            let answer = client::get(app.address(), "/").await.unwrap();
            match answer.status {
                StatusCode::OK => assert_eq!(answer.text(), r#"["Astrud Gilberto","Miles Davis"]"#),
                _ => failed += 1,
            }
            let ping = client::get_ok(app.address(), "/ping").await.unwrap();
            assert_eq!(ping.text(), "");
        }
        assert_eq!((failed, app.served()), (3, 9));
    }

    /// Each request calls each backend once; before the outbound listener is known nothing is
    /// written.
    #[tokio::test]
    async fn calls_its_backends() {
        let backend = App::start(any_port(), Behaviour::metal_v1()).await.unwrap();
        let dj = Behaviour::dj().calling(vec!["jazz".into(), "metal".into()]);
        let dj = App::start(any_port(), dj).await.unwrap();
        client::get_ok(dj.address(), "/").await.unwrap();
        assert_eq!(dj.written_to("jazz"), 0);
        dj.set_outbound(backend.address());
        for _ in 0..5 {
            let answer = client::get_ok(dj.address(), "/").await.unwrap();
            assert_eq!(answer.text(), "DJ Reporting for duty!");
        }
        assert_eq!((dj.written_to("jazz"), dj.written_to("metal")), (5, 5));
        assert_eq!((dj.broken_to("jazz"), dj.written_to("pop")), (0, 0));
        assert_eq!(backend.served(), 10);
    }
}
