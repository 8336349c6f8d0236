//! A load that costs little and always the same: one HTTP/2 connection, a fixed number of requests
//! in flight, frames written from a template. Each answer must have the status that was asked for
//! and no body, else the run fails.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Longest silence of the server before the run fails.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Bytes read at once: room for the answers of some hundred requests.
const INPUT_BYTES: usize = 64 << 10;

/// RFC 9113 section 3.4, then an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `:method: GET`, `:scheme: http`, `:path: /` from the static table of RFC 7541, then `:authority:
/// bench.example` and `user-agent: bench`, both without indexing.
const REQUEST_FIELDS: &[u8] = b"\x82\x86\x84\x01\x0dbench.example\x0f\x2b\x05bench";
/// The same with `:path: /404` and `:path: /503`, without indexing.
const MISSING_FIELDS: &[u8] = b"\x82\x86\x04\x04/404\x01\x0dbench.example\x0f\x2b\x05bench";
const FAILING_FIELDS: &[u8] = b"\x82\x86\x04\x04/503\x01\x0dbench.example\x0f\x2b\x05bench";
/// `:status: 200` from the static table: the first field of every good answer.
const STATUS_200: u8 = 0x88;
/// `:status: 404` from the static table.
const STATUS_404: u8 = 0x8d;
/// One request of this many of a mix is answered 404, and one 503: a tenth together.
const MIXED: u64 = 20;

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

common_names::named! {
    /// What is asked for.
    #[derive(serde::Serialize)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum Load {
        /// Every answer is a 200.
        Good = "good",
        /// One answer in twenty is a 404, and one a 503.
        Mixed = "mixed",
    }
}

/// Numbers of requests or answers by status.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Statuses {
    pub(crate) good: u64,
    pub(crate) missing: u64,
    pub(crate) failing: u64,
}

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

// === impl Load ===

impl Load {
    /// What is asked for, in a few words.
    pub(crate) fn is(self) -> &'static str {
        match self {
            Self::Good => "all 200",
            Self::Mixed => "5 % 404, 5 % 503",
        }
    }
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
    /// Returns how many of each status that were.
    pub(crate) fn run(&mut self, load: Load, count: u64, in_flight: u64) -> Result<Statuses> {
        let (mut sent, mut answered) = (Statuses::default(), Statuses::default());
        while answered.all() < count {
            while sent.all() < count && sent.all() - answered.all() < in_flight {
                let fields = sent.next(load);
                self.push_request(fields)?;
            }
            self.stream
                .write_all(&self.output)
                .context("send requests")?;
            self.output.clear();
            self.receive(&mut answered)?;
            // An answer that nobody asked for shows at once; one that is missing, at the end.
            if load == Load::Good && answered.good < answered.all() {
                bail!("an answer is not a 200: {answered:?}");
            }
        }
        ensure!(answered == sent, "sent {sent:?}, answered {answered:?}");
        Ok(sent)
    }

    fn push_request(&mut self, fields: &[u8]) -> Result<()> {
        if self.next_stream > i32::MAX.cast_unsigned() {
            bail!("the stream identifiers of the connection are used up");
        }
        let head = Head {
            length: fields.len(),
            kind: HEADERS,
            flags: END_STREAM | END_HEADERS,
            stream: self.next_stream,
        };
        self.next_stream += 2;
        head.write(&mut self.output);
        self.output.extend_from_slice(fields);
        Ok(())
    }

    /// Reads once and handles the frames that are complete; adds the answers to `answered`.
    fn receive(&mut self, answered: &mut Statuses) -> Result<()> {
        let got = self.stream.read(&mut self.chunk).context("read answers")?;
        if got == 0 {
            bail!("the server closed the connection");
        }
        self.input.extend_from_slice(&self.chunk[..got]);
        let mut at = 0;
        while let Some((head, payload)) = frame(&self.input[at..]) {
            at += FRAME_HEAD + head.length;
            head.handle(payload, &mut self.output, answered)?;
        }
        self.input.drain(..at);
        Ok(())
    }
}

// === impl Statuses ===

impl Statuses {
    pub(crate) fn all(self) -> u64 {
        self.good + self.missing + self.failing
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.good += more.good;
        self.missing += more.missing;
        self.failing += more.failing;
    }

    /// Counts the next request, and returns its header fields.
    fn next(&mut self, load: Load) -> &'static [u8] {
        match (load, self.all() % MIXED) {
            (Load::Mixed, 6) => {
                self.missing += 1;
                MISSING_FIELDS
            }
            (Load::Mixed, 16) => {
                self.failing += 1;
                FAILING_FIELDS
            }
            _ => {
                self.good += 1;
                REQUEST_FIELDS
            }
        }
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

    /// Answers what asks for it, and counts the answer to a request.
    fn handle(self, payload: &[u8], output: &mut Vec<u8>, answered: &mut Statuses) -> Result<()> {
        let ends = self.flags & END_STREAM != 0;
        match self.kind {
            HEADERS if ends => {
                match payload.first() {
                    Some(&STATUS_200) => answered.good += 1,
                    Some(&STATUS_404) => answered.missing += 1,
                    _ => answered.failing += 1,
                }
                Ok(())
            }
            HEADERS => bail!("an answer has a body: {payload:02x?}"),
            SETTINGS | PING if self.flags & ACK == 0 => {
                let payload = if self.kind == PING { payload } else { &[] };
                let head = Self {
                    length: payload.len(),
                    flags: ACK,
                    ..self
                };
                head.write(output);
                output.extend_from_slice(payload);
                Ok(())
            }
            DATA => bail!("an answer has a body: stream {}", self.stream),
            RST_STREAM => bail!("stream {} was reset: {payload:02x?}", self.stream),
            GOAWAY => bail!("the server goes away: {}", payload.escape_ascii()),
            // Acknowledgements, window updates, and what RFC 9113 section 4.1 says to ignore:
            // unknown types.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
