//! As much of HTTP/2 and gRPC as a sender of reports needs, by hand: a connection costs a socket and a few hundred bytes.
//!
//! Flow control is kept by not sending much: a connection's frames together stay below the initial window of 64 KiB
//! ([`WINDOW`]), and so do the answers.

use anyhow::{Result, bail, ensure};
use proto::v1;

use prost::Message as _;

/// Bytes that may be sent on a connection without a window update (RFC 9113, 6.9.2).
pub(crate) const WINDOW: usize = 65_535;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// Bytes of a frame's header.
const FRAME_HEADER: usize = 9;

/// What opens a connection and the one call on it.
pub(crate) fn open(authority: &str) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    // HPACK: indexed fields of the static table, and literals that are not indexed.
    let mut headers = vec![0x83, 0x86];
    literal(&mut headers, 4, "/meshmeter.v1.Ingest/Report");
    literal(&mut headers, 1, authority);
    headers.extend([0x0f, 0x10]);
    text(&mut headers, "application/grpc");
    headers.push(0);
    text(&mut headers, "te");
    text(&mut headers, "trailers");
    frame(&mut bytes, HEADERS, END_HEADERS, 1, &headers);
    bytes
}

/// A message on the call.
pub(crate) fn message(bytes: &mut Vec<u8>, message: v1::sidecar_frame::Frame) {
    let message = v1::SidecarFrame {
        frame: Some(message),
    };
    let mut data = vec![0];
    data.extend(
        u32::try_from(message.encoded_len())
            .unwrap_or(0)
            .to_be_bytes(),
    );
    data.extend(message.encode_to_vec());
    frame(bytes, DATA, 0, 1, &data);
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    bytes.extend(&length[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}

fn literal(bytes: &mut Vec<u8>, name: u8, value: &str) {
    bytes.push(name);
    text(bytes, value);
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(u8::try_from(text.len()).unwrap_or(0));
    bytes.extend(text.as_bytes());
}

/// Takes whole frames off the front of `received`: returns how many messages were in them, and puts what has to be
/// answered into `answers`. One message a frame, as servers send small ones.
pub(crate) fn take(received: &mut Vec<u8>, answers: &mut Vec<u8>) -> Result<u64> {
    let mut messages = 0;
    let mut at = 0;
    while let Some(header) = received.get(at..at + FRAME_HEADER) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (kind, flags) = (header[3], header[4]);
        let Some(payload) = received.get(at + FRAME_HEADER..at + FRAME_HEADER + length) else {
            break;
        };
        match kind {
            DATA if length > 0 => messages += 1,
            SETTINGS if flags & ACK == 0 => frame(answers, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(answers, PING, ACK, 0, payload),
            RST_STREAM | GOAWAY => bail!("the server ended the call: {payload:?}"),
            _ => {}
        }
        at += FRAME_HEADER + length;
    }
    ensure!(
        at <= received.len(),
        "a frame is longer than what was received"
    );
    received.drain(..at);
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_and_pings_answered() {
        let mut received = Vec::new();
        frame(&mut received, SETTINGS, 0, 0, &[]);
        frame(&mut received, DATA, 0, 1, &[1, 2, 3]);
        frame(&mut received, PING, 0, 0, &[9; 8]);
        let whole = received.len();
        frame(&mut received, DATA, 0, 1, &[4]);
        let last = received.pop().unwrap();
        let mut answers = Vec::new();
        assert_eq!(take(&mut received, &mut answers).unwrap(), 1);
        let mut expected = Vec::new();
        frame(&mut expected, SETTINGS, ACK, 0, &[]);
        frame(&mut expected, PING, ACK, 0, &[9; 8]);
        assert_eq!(answers, expected);
        received.push(last);
        assert_eq!(take(&mut received, &mut answers).unwrap(), 1);
        assert!(received.is_empty() && whole > 0);
    }
}
