//! Requests by HTTP/1.1 that are written by hand.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tests_support::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(30);

/// Status and body of the answer to a request with this head; "" if the connection was closed.
pub async fn answer(address: SocketAddr, head: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "{}\r\nconnection: close\r\n\r\n",
        head.replace('\n', "\r\n")
    );
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let status = text.get(9..12).unwrap_or_default().to_owned();
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    Ok((status, body.to_owned()))
}

/// Waits until requests with this head are answered so.
pub async fn wait_answer(address: SocketAddr, head: &str, expected: &str) -> Result<()> {
    let what = format!("{expected:?} for {head:?}");
    clock::wait_for(&what, PATIENCE, async || {
        // Envoy closes connections by TCP while it has no endpoint.
        let Ok((status, body)) = answer(address, head).await else {
            return Ok(None);
        };
        Ok((status == expected || body.contains(expected)).then_some(()))
    })
    .await
}
