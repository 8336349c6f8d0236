//! Clients, well-behaved and others.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// More than any deadline of the server, in the time of the runtime.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10_000);

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A connection on which `text` was sent.
pub(crate) async fn sent(address: SocketAddr, text: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text).await.unwrap();
    stream
}

/// Waits until the server has closed it; what it read before.
pub(crate) async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    // Reset or ended: closed it is.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut read))
        .await
        .unwrap();
    read
}

/// One request on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> hyper::Result<Reply> {
    let stream = TcpStream::connect(address).await.unwrap();
    send(stream, false, Method::GET, path).await
}

pub(crate) async fn send<S>(
    stream: S,
    is_http2: bool,
    method: Method,
    path: &str,
) -> hyper::Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::builder().method(method).header("host", "x");
    let io = TokioIo::new(stream);
    let (response, connection) = if is_http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        let connection = tokio::spawn(async { drop(connection.await) });
        let request = request.uri(format!("http://x{path}"));
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        (sender.send_request(request).await?, connection)
    } else {
        let (mut sender, connection) = http1::handshake(io).await?;
        let connection = tokio::spawn(async { drop(connection.await) });
        let request = request.uri(path).body(Empty::<Bytes>::new()).unwrap();
        (sender.send_request(request).await?, connection)
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok(Reply {
        status: head.status,
        headers: head.headers,
        body,
    })
}
