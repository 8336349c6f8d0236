//! Whoever fills the places keeps nobody out.

use std::sync::Arc;
use std::time::Duration;

use common_http::{Limits, Protocol, Security};
use http::Method;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{closed, get, send, sent};
use crate::running::{Running, settings};
use crate::security::CertificateAuthority;

/// A probe, as kubelet waits for it.
async fn probe(server: &Running) {
    let answer = timeout(Duration::from_secs(1), get(server.address, "/")).await;
    assert_eq!(answer.unwrap().unwrap().status, 200);
}

/// Idle connections, half heads, and clients that read nothing: as many as there are places, and
/// then a probe.
#[tokio::test(start_paused = true)]
async fn probes_are_answered() {
    for text in [
        "",
        "GET / HTTP/1.1\r\nhos",
        "GET /large HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let server = Running::start(Protocol::Http1).await;
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(sent(server.address, text.as_bytes()).await);
        }
        // Slow readers are known as such after a second.
        tokio::time::sleep(Duration::from_secs(2)).await;
        for _ in 0..3 {
            probe(&server).await;
        }
        assert!(server.count("connections_cut", "evicted") > 0, "{text}");
        assert_eq!(server.count("connections_refused", "limit"), 0, "{text}");
        closed(&mut held[0]).await;
    }
}

/// Requests under way are not cut for others; the reserve answers probes, and beyond it connections
/// are refused.
#[tokio::test]
async fn requests_under_way_are_kept() {
    let mut few = settings(Protocol::Http1);
    few.limits = Limits {
        connections: 2,
        trusted: 0,
        per_address: 2,
        reserve: 2,
    };
    let server = Running::with(few, |server| server).await;
    let waiting = b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut held = Vec::new();
    for open in 1..=3 {
        held.push(sent(server.address, waiting).await);
        while server.value("connections{listener=\"test\"}") < open {
            tokio::task::yield_now().await;
        }
        if open == 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(get(server.address, "/").await.unwrap().status, 200);
    held.push(sent(server.address, waiting).await);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut refused = sent(server.address, b"").await;
    closed(&mut refused).await;
    assert_eq!(server.count("connections_refused", "address_limit"), 1);
    for mut waiting in held {
        server.go.notify_one();
        let mut answer = [0; 15];
        let read = tokio::io::AsyncReadExt::read_exact(&mut waiting, &mut answer);
        timeout(Duration::from_secs(10), read)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
}

/// Clients without a certificate fill all there is; one with the certificate of the front proxy is
/// served all the same, and keeps its connection while they come again.
#[tokio::test]
async fn trusted_peers_are_not_locked_out() {
    let ca = CertificateAuthority::new();
    let tls = ca.server();
    let mut few = settings(Protocol::Negotiated);
    few.limits.trusted = 1;
    let server = Running::with(few, |server| {
        server
            .with_security(Security::Tls(tls))
            .with_trust(|peer| !peer.certificates.is_empty())
    });
    let server = Arc::new(server.await);
    let mut idle = Vec::new();
    for _ in 0..16 {
        idle.push(ca.connect(server.address, b"h2", false).await.unwrap());
    }
    let proxy = ca.connect(server.address, b"http/1.1", true).await.unwrap();
    for _ in 0..40 {
        idle.push(ca.connect(server.address, b"h2", false).await.unwrap());
    }
    let answer = send(proxy, false, Method::GET, "/tls").await.unwrap();
    assert_eq!(&answer.body[..], b"tls");
    assert_eq!(server.count("connections_refused", "limit"), 0);
}

/// Who was told to make room while it is between two requests is told so by GOAWAY, not by a reset.
#[tokio::test]
async fn a_used_connection_ends_in_order() {
    let server = Running::start(Protocol::Http1).await;
    let mut used = sent(server.address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = [0; 15];
    tokio::io::AsyncReadExt::read_exact(&mut used, &mut answer)
        .await
        .unwrap();
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..16 {
        held.push(sent(server.address, b"").await);
    }
    let rest = closed(&mut used).await;
    assert!(rest.ends_with(b"hello"));
}
