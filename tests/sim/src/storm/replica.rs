//! A replica: one processor that does its work in order, the real line, lag, stretch and store.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use aggregator_core::limits::StoreLimits;
use aggregator_core::report::StreamId;
use aggregator_core::store::{Link, Store};
use aggregator_ingest::line::{Line, LineLimits, Ticket};
use aggregator_ingest::stretch::Stretch;
use common_time::Monotonic;
use prost::Message as _;
use proto::v1;
use proto::v1::aggregator_frame::Frame;

/// Streams that begin at once and that wait: as in the shipped budget.
pub(super) const LINE: LineLimits = LineLimits {
    at_once: 128,
    waiting: 392,
};
/// Time for a stream that is refused, or that ends, in microseconds.
const REFUSAL_US: u64 = 50;

/// Where a stream is.
#[derive(Debug)]
pub(super) enum Stage {
    Waiting(Ticket),
    Inside(Ticket),
    /// Its first report is in the store.
    Begun,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) stage: Stage,
    /// When the call was taken up.
    pub(super) since_ms: u64,
    /// Frames that came before it was let in, and when they were made.
    pub(super) held: VecDeque<(u64, Vec<u8>)>,
    link: Option<Link>,
    own_ms: u32,
    asked_ms: u32,
}

pub(super) struct Replica {
    pub(super) up: bool,
    pub(super) epoch: u64,
    pub(super) store: Store,
    pub(super) line: Line,
    pub(super) streams: BTreeMap<u64, Stream>,
    /// Streams that waited in the line, in the order in which they came.
    pub(super) in_line: VecDeque<u64>,
    /// Peers with a connection.
    pub(super) connected: HashSet<u64>,
    /// When the newest report that is in the store was made, by pod.
    pub(super) newest: HashMap<u64, u64>,
    pub(super) stretch: Stretch,
    /// How late it was at most in this second.
    late: Duration,
    /// When the processor has done all that it has, in microseconds.
    busy_until_us: u64,
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(stage: Stage, since_ms: u64) -> Self {
        Self {
            stage,
            since_ms,
            held: VecDeque::new(),
            link: None,
            own_ms: 0,
            asked_ms: 0,
        }
    }
}

// === impl Replica ===

impl Replica {
    pub(super) fn new() -> Self {
        Self {
            up: true,
            epoch: 0,
            store: Store::new(StoreLimits::default()),
            line: Line::new(LINE),
            streams: BTreeMap::new(),
            in_line: VecDeque::new(),
            connected: HashSet::new(),
            newest: HashMap::new(),
            stretch: Stretch::default(),
            late: Duration::ZERO,
            busy_until_us: 0,
        }
    }

    /// It ends, and all that it knew.
    pub(super) fn end(&mut self) {
        *self = Self {
            up: false,
            epoch: self.epoch + 1,
            ..Self::new()
        };
    }

    /// Puts work into the queue that takes `cost_us`; returns when it is done, in microseconds.
    pub(super) fn work(&mut self, now_us: u64, cost_us: u64) -> u64 {
        self.busy_until_us = self.busy_until_us.max(now_us) + cost_us;
        self.busy_until_us
    }

    /// How long work that comes at `now_us` waits, in microseconds.
    pub(super) fn backlog_us(&self, now_us: u64) -> u64 {
        self.busy_until_us.saturating_sub(now_us)
    }

    /// Time for a call of `peer`: with the handshake if it has no connection.
    pub(super) fn call_us(&mut self, peer: u64, handshake_us: u64) -> u64 {
        if self.connected.insert(peer) {
            handshake_us
        } else {
            REFUSAL_US
        }
    }

    /// The short task runs.
    pub(super) fn beat(&mut self, now: Monotonic) {
        self.late = self.late.max(self.store.lag().tick(now));
    }

    /// A second is over.
    pub(super) fn second(&mut self) -> Duration {
        self.stretch.second(std::mem::take(&mut self.late))
    }

    /// Takes in a frame that was made at `made_ms`. Returns the answers, or the status that ends
    /// the stream.
    pub(super) fn frame(
        &mut self,
        id: u64,
        pod: u64,
        now: Monotonic,
        made_ms: u64,
        bytes: &[u8],
    ) -> Result<Vec<Vec<u8>>, String> {
        let asked = u32::try_from(self.stretch.interval().as_millis()).unwrap_or(0);
        let frame = v1::SidecarFrame::decode(bytes).map_err(|error| error.to_string())?;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(Vec::new());
        };
        // Until its first report is in the store, its frames waited as long as itself.
        let waited = match stream.stage {
            Stage::Begun => Duration::ZERO,
            Stage::Waiting(_) | Stage::Inside(_) => now.since(Monotonic(stream.since_ms)),
        };
        let mut answers = Vec::new();
        match frame.frame {
            Some(v1::sidecar_frame::Frame::Hello(hello)) => {
                stream.own_ms = hello.flush_interval_ms;
                let hello = aggregator_ingest::parse::hello(hello);
                let hello = hello.map_err(|error| error.to_string())?;
                let connected = self.store.connect_late(now, StreamId(id), &hello, waited);
                stream.link = Some(connected.map_err(|refused| refused.to_string())?.link);
                stream.asked_ms = if asked >= stream.own_ms { asked } else { 0 };
                answers.push(settings(stream.asked_ms));
            }
            Some(v1::sidecar_frame::Frame::Report(report)) => {
                let seq = report.seq;
                let report = aggregator_ingest::parse::report(report);
                let report = report.map_err(|error| error.to_string())?;
                let link = stream.link.as_ref().ok_or("a report before the hello")?;
                let applied = self.store.apply_late(now, link, &report, waited);
                applied.map_err(|refused| refused.to_string())?;
                let newest = self.newest.entry(pod).or_default();
                *newest = (*newest).max(made_ms);
                if let Stage::Inside(ticket) | Stage::Waiting(ticket) = stream.stage {
                    self.line.leave(ticket);
                }
                stream.stage = Stage::Begun;
                answers.push(answer(Frame::Ack(v1::Ack { seq })));
                let interval_ms = if asked >= stream.own_ms { asked } else { 0 };
                if interval_ms != stream.asked_ms {
                    stream.asked_ms = interval_ms;
                    answers.push(settings(interval_ms));
                }
            }
            None => return Err("an empty frame".to_owned()),
        }
        Ok(answers)
    }

    /// A stream is over.
    pub(super) fn close(&mut self, id: u64, now: Monotonic) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        if let Stage::Inside(ticket) | Stage::Waiting(ticket) = stream.stage {
            self.line.leave(ticket);
        }
        if let Some(link) = &stream.link {
            self.store.disconnect(now, link);
        }
    }
}

fn settings(flush_interval_ms: u32) -> Vec<u8> {
    answer(Frame::Settings(v1::Settings {
        flush_interval_ms,
        protocol: proto::PROTOCOL,
    }))
}

fn answer(frame: Frame) -> Vec<u8> {
    v1::AggregatorFrame { frame: Some(frame) }.encode_to_vec()
}
