//! A load that costs little and always the same: one HTTP/2 connection, a fixed number of requests
//! in flight, frames written from a template. Each answer must be a 200 without body, else the run
//! fails.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Longest silence of the server before the run fails.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Bytes read at once: room for the answers of some hundred requests.
const INPUT_BYTES: usize = 64 << 10;

/// RFC 9113 section 3.4, then an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `:method: GET`, `:scheme: http`, `:path: /` from the static table of RFC 7541, then `:authority:
/// bench.example` and `user-agent: bench`, both without indexing.
const REQUEST_FIELDS: &[u8] = b"\x82\x86\x84\x01\x0dbench.example\x0f\x2b\x05bench";
/// `:status: 200` from the static table: the first field of every good answer.
const STATUS_200: u8 = 0x88;

const FRAME_HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection that sends requests on demand.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Identifier of the next request's stream: odd, rising.
    next_stream: u32,
    chunk: Box<[u8]>,
    /// Read but not parsed: at most one frame is incomplete.
    input: Vec<u8>,
    output: Vec<u8>,
}

/// The head of a frame, RFC 9113 section 4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

// === impl Connection ===

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let connect = || {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE_MAX))?;
            stream.set_write_timeout(Some(SILENCE_MAX))?;
            std::io::Result::Ok(stream)
        };
        Ok(Self {
            stream: connect().with_context(|| format!("connect to {address}"))?,
            next_stream: 1,
            chunk: vec![0; INPUT_BYTES].into(),
            input: Vec::with_capacity(INPUT_BYTES),
            output: PREFACE.to_vec(),
        })
    }

    /// Sends `count` requests, never more than `in_flight` at once, and waits for all answers.
    pub(crate) fn run(&mut self, count: u64, in_flight: u64) -> Result<()> {
        let (mut sent, mut answered) = (0, 0);
        while answered < count {
            while sent < count && sent - answered < in_flight {
                self.push_request()?;
                sent += 1;
            }
            self.stream
                .write_all(&self.output)
                .context("send requests")?;
            self.output.clear();
            answered += self.receive()?;
        }
        Ok(())
    }

    fn push_request(&mut self) -> Result<()> {
        if self.next_stream > i32::MAX.cast_unsigned() {
            bail!("the stream identifiers of the connection are used up");
        }
        let head = Head {
            length: REQUEST_FIELDS.len(),
            kind: HEADERS,
            flags: END_STREAM | END_HEADERS,
            stream: self.next_stream,
        };
        self.next_stream += 2;
        head.write(&mut self.output);
        self.output.extend_from_slice(REQUEST_FIELDS);
        Ok(())
    }

    /// Reads once and handles the frames that are complete; returns how many requests were
    /// answered.
    fn receive(&mut self) -> Result<u64> {
        let got = self.stream.read(&mut self.chunk).context("read answers")?;
        if got == 0 {
            bail!("the server closed the connection");
        }
        self.input.extend_from_slice(&self.chunk[..got]);
        let mut answered = 0;
        let mut at = 0;
        while let Some((head, payload)) = frame(&self.input[at..]) {
            at += FRAME_HEAD + head.length;
            answered += u64::from(head.handle(payload, &mut self.output)?);
        }
        self.input.drain(..at);
        Ok(answered)
    }
}

/// The first frame of `input`, if it is complete.
fn frame(input: &[u8]) -> Option<(Head, &[u8])> {
    let (head, rest) = input.split_first_chunk::<FRAME_HEAD>()?;
    let head = Head::read(*head);
    Some((head, rest.get(..head.length)?))
}

// === impl Head ===

impl Head {
    fn read([a, b, c, kind, flags, rest @ ..]: [u8; FRAME_HEAD]) -> Self {
        Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes(rest) & i32::MAX.cast_unsigned(),
        }
    }

    fn write(self, output: &mut Vec<u8>) {
        let length = u32::try_from(self.length).unwrap_or(u32::MAX).to_be_bytes();
        output.extend_from_slice(&length[1..]);
        output.extend_from_slice(&[self.kind, self.flags]);
        output.extend_from_slice(&self.stream.to_be_bytes());
    }

    /// Answers what asks for it; true if the frame ends a request well.
    fn handle(self, payload: &[u8], output: &mut Vec<u8>) -> Result<bool> {
        let ends = self.flags & END_STREAM != 0;
        match self.kind {
            HEADERS if payload.first() == Some(&STATUS_200) && ends => Ok(true),
            HEADERS => bail!("an answer is not a 200 without body: {payload:02x?}"),
            SETTINGS | PING if self.flags & ACK == 0 => {
                let payload = if self.kind == PING { payload } else { &[] };
                let head = Self {
                    length: payload.len(),
                    flags: ACK,
                    ..self
                };
                head.write(output);
                output.extend_from_slice(payload);
                Ok(false)
            }
            DATA => bail!("an answer has a body: stream {}", self.stream),
            RST_STREAM => bail!("stream {} was reset: {payload:02x?}", self.stream),
            GOAWAY => bail!("the server goes away: {}", payload.escape_ascii()),
            // Acknowledgements, window updates, and what RFC 9113 section 4.1 says to ignore:
            // unknown types.
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests;
