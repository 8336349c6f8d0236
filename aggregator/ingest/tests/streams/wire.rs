//! A sidecar that writes HTTP/2 by hand, to do what no client library would: send frames and the
//! reset of their stream in one segment, as Envoy does when it ends, and make no room for answers.

use std::net::SocketAddr;

use prost::Message as _;
use proto::v1::{SidecarFrame, sidecar_frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::within;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// `SETTINGS_INITIAL_WINDOW_SIZE` is 0: no answer gets out until there is room for it.
const NO_ROOM: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// `INTERNAL_ERROR`: what Envoy resets with since 1.37.
pub(crate) const INTERNAL: u32 = 2;
/// `NO_ERROR`: what Envoy reset with before.
pub(crate) const NO_ERROR: u32 = 0;

/// One connection with one stream, whose answers wait in the aggregator.
pub(crate) struct Wire {
    socket: TcpStream,
}

// === impl Wire ===

impl Wire {
    /// Opens the stream and sends `frame` on it.
    pub(crate) async fn open(address: SocketAddr, first: sidecar_frame::Frame) -> Self {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &NO_ROOM));
        bytes.extend(frame(HEADERS, END_HEADERS, 1, &headers()));
        bytes.extend(frame(DATA, 0, 1, &message(first)));
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        Self { socket }
    }

    /// Sends `frames` and waits until the aggregator's connection has them.
    pub(crate) async fn send(&mut self, frames: Vec<sidecar_frame::Frame>) {
        let mut bytes = data(frames);
        bytes.extend(frame(PING, 0, 0, &[0; 8]));
        self.socket.write_all(&bytes).await.unwrap();
        let mut head = [0; 9];
        loop {
            within(self.socket.read_exact(&mut head)).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            within(self.socket.read_exact(&mut payload)).await.unwrap();
            if (head[3], head[4]) == (PING, ACK) {
                return;
            }
        }
    }

    /// Makes room for all answers.
    pub(crate) async fn make_room(&mut self) {
        let bytes = frame(WINDOW_UPDATE, 0, 1, &65_535_u32.to_be_bytes());
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// Sends `last` and resets the stream with `code`, in one write.
    pub(crate) async fn send_and_reset(&mut self, last: Vec<sidecar_frame::Frame>, code: u32) {
        let mut bytes = data(last);
        bytes.extend(frame(RST_STREAM, 0, 1, &code.to_be_bytes()));
        self.socket.write_all(&bytes).await.unwrap();
    }
}

/// An HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn data(frames: Vec<sidecar_frame::Frame>) -> Vec<u8> {
    let frames = frames.into_iter();
    frames
        .flat_map(|content| frame(DATA, 0, 1, &message(content)))
        .collect()
}

/// A gRPC call's headers, each a literal without indexing (RFC 7541, section 6.2.2).
fn headers() -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/meshmeter.v1.Ingest/Report"),
        (":authority", "aggregator"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A message with gRPC's prefix.
fn message(frame: sidecar_frame::Frame) -> Vec<u8> {
    let bytes = SidecarFrame { frame: Some(frame) }.encode_to_vec();
    let mut message = vec![0];
    message.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    message.extend(bytes);
    message
}
