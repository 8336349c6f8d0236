//! Heads of requests that are huge, or that come a byte at a time.

use std::time::Duration;

use bytes::Bytes;
use tests_support::clock;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};

use crate::flood::{Held, PATIENCE, many};
use crate::target::{HTTP1, HTTP2, Target};

/// Pause between two bytes of a slow head.
const BYTE_EVERY: Duration = Duration::from_millis(100);
/// What follows a slow head's beginning, again and again.
const SLOW: &[u8] = b"x";

/// What a client of HTTP/2 sends first, and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// A head that has no end: how it begins, and what comes again and again.
#[derive(Clone, Debug)]
pub struct Endless {
    protocol: &'static [u8],
    begin: Bytes,
    more: Bytes,
}

// === impl Endless ===

impl Endless {
    /// Of HTTP/1.1: one line after the other.
    pub fn http1() -> Self {
        let line = format!("x-line: {}\r\n", "x".repeat(1000));
        Self {
            protocol: HTTP1,
            begin: Bytes::from_static(b"POST /mutate HTTP/1.1\r\nhost: x\r\n"),
            more: line.into(),
        }
    }

    /// Of HTTP/2: a CONTINUATION frame after the other (RFC 9113, section 6.10).
    pub fn http2() -> Self {
        // POST, http, the path / and the authority x, as the static table of HPACK has them.
        let pseudo = [0x83, 0x86, 0x84, 0x41, 1, b'x'];
        let mut begin = PREFACE.to_vec();
        begin.extend(frame(HEADERS, &pseudo));
        // Fields that no table takes: `x` and 120 bytes.
        let mut field = vec![0, 1, b'x', 120];
        field.extend([b'x'; 120]);
        Self {
            protocol: HTTP2,
            begin: begin.into(),
            more: frame(CONTINUATION, &field.repeat(100)).into(),
        }
    }
}

/// A frame of stream 1 without flags.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, 0, 0, 0, 0, 1]);
    frame.extend(payload);
    frame
}

/// `count` connections, each with a head of which up to `bytes` bytes are sent. Those that the
/// server closes before are refused.
pub async fn huge(target: &Target, endless: Endless, count: usize, bytes: usize) -> Held {
    many(count, move || {
        let (target, endless) = (target.clone(), endless.clone());
        async move {
            let mut socket = target.connect(endless.protocol).await?;
            let mut sent = 0;
            let all = async {
                socket.write_all(&endless.begin).await?;
                while sent < bytes {
                    socket.write_all(&endless.more).await?;
                    socket.flush().await?;
                    sent += endless.more.len();
                }
                std::io::Result::Ok(())
            };
            let written = timeout(PATIENCE, all).await;
            let mut held = Held::of(socket);
            held.refused += usize::from(matches!(written, Ok(Err(_))));
            held.sent += sent;
            Ok(held)
        }
    })
    .await
}

/// `count` connections of HTTP/1.1 or 2, each with a head of which a byte comes now and then for as
/// long as `during` says. Those that the server closes before are refused.
pub async fn slow(
    target: &Target,
    protocol: &'static [u8],
    count: usize,
    during: Duration,
) -> Held {
    let begin: &[u8] = if protocol == HTTP2 {
        // The longest frame there may be, of which nothing comes.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\x40\0\x01\0\0\0\0\x01"
    } else {
        b"GET /livez HTTP/1.1\r\nx-line: "
    };
    many(count, move || {
        let target = target.clone();
        async move {
            let start = clock::now();
            let mut socket = target.connect(protocol).await?;
            let mut written = socket.write_all(begin).await;
            while written.is_ok() && start.elapsed() < during {
                sleep(BYTE_EVERY).await;
                written = socket.write_all(SLOW).await;
                if written.is_ok() {
                    written = socket.flush().await;
                }
            }
            let mut held = Held::of(socket);
            held.refused += usize::from(written.is_err());
            Ok(held)
        }
    })
    .await
}
