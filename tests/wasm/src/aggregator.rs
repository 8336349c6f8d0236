//! A fake aggregator: reads what sidecars stream, answers as its script says, and keeps every
//! frame.
//!
//! It also holds the sidecar to the contract (`proto/meshmeter/v1/ingest.proto`): each breach
//! becomes a sentence in [`Aggregator::breaches`], and those fail the test that runs the process.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use proto::v1::{self, aggregator_frame, sidecar_frame};

use crate::connection::{ConnectionId, Down, Up};
use crate::stream::{End, Stream};
use crate::totals::Totals;

/// gRPC status ABORTED: a newer stream of the instance took over.
const ABORTED: u32 = 10;
const OK: u32 = 0;

/// Whether a sidecar reaches the aggregator.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reach {
    #[default]
    Up,
    Refused,
    /// The cluster exists but has no healthy or resolvable host.
    NoHealthyHost,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Acks {
    #[default]
    AtOnce,
    After(Duration),
    Never,
}

/// How the aggregator behaves; may change at any time.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Whether it can be reached.
    pub reach: Reach,
    pub acks: Acks,
    /// The flush interval it asks for in `Settings`, in milliseconds; 0 leaves it to the sidecar.
    pub flush_interval_ms: u32,
    /// True: it accepts streams but reads nothing from them.
    pub stalled: bool,
}

#[derive(Debug, Default)]
pub struct Aggregator {
    /// How it behaves from now on.
    pub script: Script,
    streams: BTreeMap<ConnectionId, Stream>,
    totals: Totals,
    breaches: Vec<String>,
}

/// What an aggregator sends down a stream, and how much later.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) stream: ConnectionId,
    pub(crate) after: Duration,
    pub(crate) what: Down,
}

// === impl Aggregator ===

impl Aggregator {
    /// Every stream there ever was, in order of opening.
    pub fn streams(&self) -> Vec<&Stream> {
        self.streams.values().collect()
    }

    /// The streams that have not ended.
    pub fn open_streams(&self) -> Vec<&Stream> {
        let streams = self.streams.values();
        streams.filter(|stream| stream.end.is_none()).collect()
    }

    /// What all reports say together.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// How the sidecar broke the contract.
    pub fn breaches(&self) -> &[String] {
        &self.breaches
    }

    pub(crate) fn refuses(&self) -> bool {
        self.script.reach == Reach::Refused
    }

    pub(crate) fn hear(&mut self, now: Duration, id: ConnectionId, what: Up) -> Vec<Answer> {
        if matches!(what, Up::Open) {
            self.streams.insert(id, Stream::default());
            return Vec::new();
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return Vec::new();
        };
        if stream.end.is_some() {
            return Vec::new();
        }
        match what {
            Up::Open => Vec::new(),
            Up::Message(_) | Up::HalfClose if self.script.stalled => {
                stream.unread += usize::from(matches!(what, Up::Message(_)));
                stream.backlog.push(what);
                Vec::new()
            }
            Up::Message(bytes) => self.read(now, id, &bytes),
            Up::HalfClose => {
                stream.end = Some(End::HalfClosed);
                vec![close(id, OK, "")]
            }
            Up::Reset => {
                stream.end = Some(End::Reset);
                Vec::new()
            }
        }
    }

    /// Reads what waits, unless it stalls.
    pub(crate) fn catch_up(&mut self, now: Duration) -> Vec<Answer> {
        let mut answers = Vec::new();
        if !self.script.stalled {
            let streams: Vec<_> = self.streams.keys().copied().collect();
            for id in streams {
                let stream = self.streams.get_mut(&id);
                let backlog = stream.map(|stream| std::mem::take(&mut stream.backlog));
                for what in backlog.unwrap_or_default() {
                    answers.extend(self.hear(now, id, what));
                }
            }
        }
        answers
    }

    fn read(&mut self, now: Duration, id: ConnectionId, bytes: &[u8]) -> Vec<Answer> {
        let frame = proto::known::check::<v1::SidecarFrame>(bytes)
            .map_err(|refusal| format!("{refusal}"))
            .and_then(|()| v1::SidecarFrame::decode(bytes).map_err(|error| error.to_string()))
            .and_then(|frame| frame.frame.ok_or_else(|| "empty frame".to_owned()));
        match frame {
            Ok(sidecar_frame::Frame::Hello(hello)) => self.greet(id, &hello),
            Ok(sidecar_frame::Frame::Report(report)) => self.take(now, id, report),
            Err(error) => {
                self.breaches.push(format!("stream {id}: {error}"));
                Vec::new()
            }
        }
    }

    fn greet(&mut self, id: ConnectionId, hello: &v1::Hello) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (older_id, older) in &mut self.streams {
            if *older_id != id && older.end.is_none() && older.instance == Some(hello.instance) {
                older.end = Some(End::Superseded);
                answers.push(close(*older_id, ABORTED, "a newer stream took over"));
            }
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return answers;
        };
        if let Err(breach) = stream.greet(hello) {
            self.breaches.push(format!("stream {id}: {breach}"));
        }
        let settings = v1::Settings {
            flush_interval_ms: self.script.flush_interval_ms,
            protocol: proto::PROTOCOL,
        };
        answers.push(send(
            id,
            Duration::ZERO,
            aggregator_frame::Frame::Settings(settings),
        ));
        answers
    }

    fn take(&mut self, now: Duration, id: ConnectionId, report: v1::Report) -> Vec<Answer> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Vec::new();
        };
        let seq = report.seq;
        let breaches = stream.take(now, &report);
        for breach in breaches {
            self.breaches
                .push(format!("stream {id} report {seq}: {breach}"));
        }
        if let Some(instance) = stream.instance {
            self.totals.merge(instance, &report);
        }
        stream.last = Some(report);
        let after = match self.script.acks {
            Acks::AtOnce => Duration::ZERO,
            Acks::After(after) => after,
            Acks::Never => return Vec::new(),
        };
        stream.acknowledged = Some((now + after, seq));
        let ack = v1::Ack { seq };
        vec![send(id, after, aggregator_frame::Frame::Ack(ack))]
    }

    /// Ends all open streams with `status`; returns what to send.
    pub(crate) fn close_all(&mut self, status: u32, message: &str) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (id, stream) in &mut self.streams {
            if stream.end.is_none() {
                stream.end = Some(End::ClosedHere);
                answers.push(close(*id, status, message));
            }
        }
        answers
    }
}

fn close(stream: ConnectionId, status: u32, message: &str) -> Answer {
    Answer {
        stream,
        after: Duration::ZERO,
        what: Down::Close {
            status,
            message: message.to_owned(),
        },
    }
}

fn send(stream: ConnectionId, after: Duration, frame: aggregator_frame::Frame) -> Answer {
    let frame = v1::AggregatorFrame { frame: Some(frame) };
    Answer {
        stream,
        after,
        what: Down::Message(frame.encode_to_vec()),
    }
}
