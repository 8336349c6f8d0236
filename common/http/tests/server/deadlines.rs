//! Whoever is too slow is cut, and counted by what it was too slow with.

use std::time::Duration;

use common_http::{Deadlines, Protocol, Security};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::client::{closed, get, sent};
use crate::running::{Running, settings};
use crate::security::CertificateAuthority;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// SETTINGS with a window of no byte at all for each stream.
const SETTINGS_NO_WINDOW: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];

/// GET of `/large` as HEADERS that end the stream: indexed fields, then the path as a literal.
const GET_LARGE: &[u8] = b"\x00\x00\x0d\x01\x05\x00\x00\x00\x01\x82\x86\x04\x06/large\x41\x01x";

#[expect(clippy::disallowed_methods, reason = "the clock that the test holds")]
fn now() -> Instant {
    Instant::now()
}

/// What each client sends before it stops; after how many seconds it is cut, and as what.
#[tokio::test(start_paused = true)]
async fn silence_is_cut_in_time() {
    let deadlines = Deadlines {
        first_request: Duration::from_secs(20),
        ..Deadlines::default()
    };
    let half = b"GET / HTTP/1.1\r\nhos".to_vec();
    let whole = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
    let greeting = [PREFACE, SETTINGS].concat();
    let blind = [PREFACE, SETTINGS_NO_WINDOW, GET_LARGE].concat();
    for (protocol, text, seconds, reason) in [
        (Protocol::Http1, Vec::new(), 20, None),
        (Protocol::Http1, half, 10, Some("head_timeout")),
        (Protocol::Http1, whole, 100, None),
        (Protocol::Http2, Vec::new(), 10, Some("head_timeout")),
        (Protocol::Http2, PREFACE.to_vec(), 10, Some("head_timeout")),
        (Protocol::Http2, greeting, 20, None),
        // It leaves no room for what it asked for, though it reads what is sent.
        (Protocol::Http2, blind, 30, Some("slow_reader")),
    ] {
        let mut settings = settings(protocol);
        settings.deadlines = deadlines;
        // Nobody answers pings here.
        settings.http2.ping_every = Duration::from_secs(1000);
        let server = Running::with(settings, |server| server).await;
        let begin = now();
        let mut stream = sent(server.address, &text).await;
        closed(&mut stream).await;
        let took = begin.elapsed().as_secs();
        // To end in order takes a second at most.
        let name = String::from_utf8_lossy(&text).into_owned();
        assert!((seconds..=seconds + 1).contains(&took), "{name}: {took} s");
        for known in ["head_timeout", "slow_reader", "evicted"] {
            let expected = u64::from(reason == Some(known));
            assert_eq!(
                server.count("connections_cut", known),
                expected,
                "{name}: {known}"
            );
        }
    }
}

/// Whoever reads nothing is cut, and what it asked for is let go of.
#[tokio::test(start_paused = true)]
async fn who_reads_nothing_is_cut() {
    let server = Running::start(Protocol::Http1).await;
    let begin = now();
    let mut stream = sent(server.address, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    while server.count("connections_cut", "slow_reader") == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(begin.elapsed().as_secs() < 100);
    }
    assert!((30..=32).contains(&begin.elapsed().as_secs()));
    assert!(closed(&mut stream).await.len() < crate::running::LARGE);
}

/// A handshake has its time, and so has what is told apart by its first byte.
#[tokio::test(start_paused = true)]
async fn handshakes_are_cut_in_time() {
    let tls = CertificateAuthority::new().server();
    for security in [Security::Tls(tls.clone()), Security::Either(tls)] {
        let server = Running::with(settings(Protocol::Negotiated), |server| {
            server.with_security(security)
        });
        let server = server.await;
        let begin = now();
        for text in [&b""[..], b"\x16\x03\x01"] {
            let mut stream = sent(server.address, text).await;
            closed(&mut stream).await;
        }
        assert_eq!(begin.elapsed().as_secs(), 20);
        assert_eq!(server.count("handshakes_failed", "timeout"), 2);
    }
}

/// One byte a second, of a `ClientHello` and of a preface: each has its time as a whole, not anew
/// with every byte.
#[tokio::test(start_paused = true)]
async fn who_trickles_is_cut_in_time() {
    let tls = CertificateAuthority::new().server();
    // A record of 512 bytes that is a ClientHello of 508.
    let mut client_hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec();
    client_hello.resize(64, 0);
    let preface = [PREFACE, SETTINGS].concat();
    for (text, seconds, counter, reason) in [
        (client_hello, 10, "handshakes_failed", "timeout"),
        // Its first byte ends the handshake, and the rest has ten seconds from then on.
        (preface, 11, "connections_cut", "head_timeout"),
    ] {
        let server = Running::with(settings(Protocol::Http2), |server| {
            server.with_security(Security::Either(tls.clone()))
        });
        let server = server.await;
        let begin = now();
        let (mut reader, mut writer) = sent(server.address, b"").await.into_split();
        let trickling = tokio::spawn(async move {
            for byte in text {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if writer.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
        });
        closed(&mut reader).await;
        let took = begin.elapsed().as_secs();
        assert!(
            (seconds..=seconds + 1).contains(&took),
            "{counter}: {took} s"
        );
        assert_eq!(server.count(counter, reason), 1, "{counter}");
        trickling.abort();
    }
}

/// A body that does not come is an error to whoever reads it.
#[tokio::test(start_paused = true)]
async fn bodies_have_a_deadline() {
    let server = Running::start(Protocol::Http1).await;
    let begin = now();
    let head = b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhal";
    let mut stream = sent(server.address, head).await;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert_eq!(begin.elapsed().as_secs(), 30);
}

/// At shutdown a request under way is answered, and a connection without one is closed.
#[tokio::test]
async fn drains() {
    let server = Running::start(Protocol::Http1).await;
    let mut idle = sent(server.address, b"").await;
    let mut busy = sent(server.address, b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    get(server.address, "/").await.unwrap();
    server.stop.cancel();
    closed(&mut idle).await;
    server.go.notify_one();
    let answer = String::from_utf8(closed(&mut busy).await).unwrap();
    assert!(answer.ends_with("waited"), "{answer}");
    server.serving.await.unwrap();
}

/// One that does not end is cut, and said to be.
#[tokio::test(start_paused = true)]
async fn the_drain_has_an_end() {
    let server = Running::start(Protocol::Http1).await;
    let mut busy = sent(server.address, b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    get(server.address, "/").await.unwrap();
    server.stop.cancel();
    let begin = now();
    closed(&mut busy).await;
    assert_eq!(begin.elapsed().as_secs(), 5);
    assert_eq!(server.count("connections_cut", "shutdown"), 1);
    busy.shutdown().await.unwrap_or_default();
}
