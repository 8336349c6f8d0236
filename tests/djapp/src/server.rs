//! A small HTTP/1 server: whole answers, a deadline for its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;

/// How long answers under way may take to end after SIGTERM.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Header of a response that says which pod it is from.
pub(crate) const POD: &str = "x-pod";

pub(crate) type Answer = Response<Full<Bytes>>;

/// Serves until `stop` is ready, then lets open connections end.
pub(crate) async fn serve<F>(
    address: SocketAddr,
    answer: F,
    stop: impl Future<Output = ()>,
) -> Result<()>
where
    F: Fn(&Request<Incoming>) -> Answer + Clone + Send + 'static,
{
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("listen on {address}"))?;
    let connections = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answer = answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connections.watch(connection));
    }
    drop(listener);
    // Whoever holds a connection open for longer gets no answer to a further request.
    let _ = tokio::time::timeout(END_WITHIN, connections.shutdown()).await;
    Ok(())
}

/// An answer with `status` and a body.
pub(crate) fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    answer
}
