//! As much of HTTP/2 and gRPC as a sender of reports needs, by hand: a connection costs a socket
//! and a few hundred bytes.
//!
//! Flow control (RFC 9113, 5.2) is kept by [`Credit`]: what may be sent, and what was received and
//! not given back.

use anyhow::{Context as _, Result, bail, ensure};
use proto::v1;

use prost::Message as _;

/// Bytes that may be sent on a connection, and on a stream, before anything else is said (RFC 9113,
/// 6.9.2).
const WINDOW: i64 = 65_535;
/// Received bytes that are given back at once.
const GIVE_BACK: u32 = 16 * 1024;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// The setting of a stream's first window.
const INITIAL_WINDOW_SIZE: u16 = 4;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// Bytes of a frame's header.
const FRAME_HEADER: usize = 9;

/// Send window, and bytes received since the last window update.
#[derive(Debug)]
pub(crate) struct Credit {
    connection: i64,
    stream: i64,
    /// The window that streams begin with.
    initial: i64,
    received: u32,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            connection: WINDOW,
            stream: WINDOW,
            initial: WINDOW,
            received: 0,
        }
    }
}

impl Credit {
    /// Whether so many bytes of data may be sent; then they are taken off.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let enough = self.connection.min(self.stream) >= bytes;
        if enough {
            self.connection -= bytes;
            self.stream -= bytes;
        }
        enough
    }

    fn update(&mut self, stream: u32, payload: &[u8]) {
        if let Ok(more) = payload.try_into().map(u32::from_be_bytes) {
            let window = if stream == 0 {
                &mut self.connection
            } else {
                &mut self.stream
            };
            *window += i64::from(more & 0x7fff_ffff);
        }
    }

    fn settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            if u16::from_be_bytes([setting[0], setting[1]]) == INITIAL_WINDOW_SIZE {
                let initial = i64::from(u32::from_be_bytes([
                    setting[2], setting[3], setting[4], setting[5],
                ]));
                self.stream += initial - self.initial;
                self.initial = initial;
            }
        }
    }

    fn give_back(&mut self, answers: &mut Vec<u8>) {
        if self.received >= GIVE_BACK {
            for stream in [0, 1] {
                frame(
                    answers,
                    WINDOW_UPDATE,
                    0,
                    stream,
                    &self.received.to_be_bytes(),
                );
            }
            self.received = 0;
        }
    }
}

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

/// Takes whole frames off the front of `received`: returns how many messages were in them, and puts
/// what has to be answered into `answers`. Messages are small, so none is spread over two frames.
pub(crate) fn take(
    received: &mut Vec<u8>,
    answers: &mut Vec<u8>,
    credit: &mut Credit,
) -> Result<u64> {
    let mut messages = 0;
    let mut at = 0;
    while let Some(header) = received.get(at..at + FRAME_HEADER) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (kind, flags) = (header[3], header[4]);
        let Some(payload) = received.get(at + FRAME_HEADER..at + FRAME_HEADER + length) else {
            break;
        };
        match kind {
            DATA => {
                messages += messages_in(payload)?;
                credit.received += u32::try_from(length)?;
            }
            WINDOW_UPDATE => credit.update(
                u32::from_be_bytes([header[5], header[6], header[7], header[8]]),
                payload,
            ),
            SETTINGS if flags & ACK == 0 => {
                credit.settings(payload);
                frame(answers, SETTINGS, ACK, 0, &[]);
            }
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
    credit.give_back(answers);
    Ok(messages)
}

fn messages_in(mut payload: &[u8]) -> Result<u64> {
    let mut messages = 0;
    while let [0, a, b, c, d, rest @ ..] = payload {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        payload = rest
            .get(length..)
            .context("a message goes on in another frame")?;
        messages += 1;
    }
    ensure!(payload.is_empty(), "no message: {payload:?}");
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_and_pings_answered() {
        let mut credit = Credit::default();
        let mut received = Vec::new();
        frame(&mut received, SETTINGS, 0, 0, &[]);
        frame(
            &mut received,
            DATA,
            0,
            1,
            &[0, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0],
        );
        frame(&mut received, PING, 0, 0, &[9; 8]);
        let whole = received.len();
        frame(&mut received, DATA, 0, 1, &[0, 0, 0, 0, 1, 4]);
        let last = received.pop().unwrap();
        let mut answers = Vec::new();
        assert_eq!(take(&mut received, &mut answers, &mut credit).unwrap(), 2);
        let mut expected = Vec::new();
        frame(&mut expected, SETTINGS, ACK, 0, &[]);
        frame(&mut expected, PING, ACK, 0, &[9; 8]);
        assert_eq!(answers, expected);
        received.push(last);
        assert_eq!(take(&mut received, &mut answers, &mut credit).unwrap(), 1);
        assert!(received.is_empty() && whole > 0);
    }

    #[test]
    fn credit_is_what_the_server_gave() {
        let mut credit = Credit::default();
        assert!(credit.take(60_000) && !credit.take(6_000));
        let mut received = Vec::new();
        frame(
            &mut received,
            WINDOW_UPDATE,
            0,
            0,
            &100_000_u32.to_be_bytes(),
        );
        assert_eq!(
            take(&mut received, &mut Vec::new(), &mut credit).unwrap(),
            0
        );
        assert!(!credit.take(6_000), "the stream's window is as it was");
        frame(&mut received, SETTINGS, 0, 0, &[0, 4, 0, 2, 0, 0]);
        assert_eq!(
            take(&mut received, &mut Vec::new(), &mut credit).unwrap(),
            0
        );
        assert!(credit.take(60_000));
    }
}
