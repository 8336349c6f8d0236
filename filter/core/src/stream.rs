//! The stream to one aggregator: open, report, wait for the acknowledgement, open again.
//!
//! Nothing is ever queued. At most one report is unacknowledged; what changes meanwhile is in the
//! next one, since totals are running totals. That Envoy took a message says nothing about its
//! delivery: only the acknowledgement does, and a stream on which it stays out is given up.

use prost::Message as _;
use proto::v1;

use crate::config::{Aggregator, FLUSH_INTERVAL_MS};
use crate::grpc_service;
use crate::host::{Host, LogLevel, RootId, StreamToken};
use crate::report::{self, Draft, Facts, Hello, Promise};
use crate::time::{Monotonic, Now};
use crate::view::{Version, View};

/// Full name of the service, and the method.
const SERVICE: &str = "meshmeter.v1.Ingest";
const METHOD: &str = "Report";
/// A report that is not acknowledged within this time, in milliseconds, ends its stream.
const ACK_WITHIN_MS: u64 = 5000;
/// Longest wait between two attempts to open a stream, in milliseconds.
const BACKOFF_MAX_MS: u64 = 1000;
/// Shortest one, doubled with each failure.
const BACKOFF_MIN_MS: u64 = 100;
/// First attempts are spread over this time, in milliseconds: sidecars often start together.
const FIRST_WITHIN_MS: u64 = 300;
/// A peer that does not end a stream that we ended is cut off after this time, in milliseconds.
const CLOSED_WITHIN_MS: u64 = 2000;
/// The same trouble is logged once in this time, in milliseconds.
const COMPLAIN_EVERY_MS: u64 = 60_000;
/// gRPC status `UNAVAILABLE`: the aggregator is not there, which is no news for a log.
const UNAVAILABLE: u32 = 14;
/// gRPC status `NOT_FOUND`: nothing to open a stream to.
const NOT_FOUND: u32 = 5;
/// Failures in a row before that is said: the hosts of a cluster may just not be resolved yet.
const REFUSALS_UNSAID: u32 = 5;
/// gRPC status `ABORTED`: a newer stream of the same counters took over.
const ABORTED: u32 = 10;
/// Ticks come this many milliseconds early or late; a report due within it is sent now.
const TICK_SLACK_MS: u64 = 50;

/// The way to one aggregator.
#[derive(Debug)]
pub struct Link {
    aggregator: Aggregator,
    upstream: Vec<u8>,
    state: State,
    /// Attempts since the last acknowledgement.
    failures: u32,
    /// What the aggregator asked for; lasts across streams.
    asked_flush_ms: Option<u64>,
    complained: Option<(u32, Monotonic)>,
}

#[derive(Debug)]
enum State {
    Idle {
        retry_at: Monotonic,
    },
    Open(Stream),
    /// Ended by us, not yet by the peer.
    Closing {
        token: StreamToken,
        since: Monotonic,
    },
}

#[derive(Debug)]
struct Stream {
    token: StreamToken,
    root: RootId,
    instance: u64,
    /// What its hello said of a hot restart.
    hot_restart: bool,
    seq: u64,
    acked: Version,
    acked_end: Option<Monotonic>,
    /// What the newest report held, acknowledged or not.
    sent: Version,
    /// The last moment when there was nothing that the newest report did not hold.
    settled_at: Option<Monotonic>,
    unacked: Option<Unacked>,
    due_at: Monotonic,
    /// The next report was promised for the heartbeat only.
    resting: bool,
}

#[derive(Clone, Copy, Debug)]
struct Unacked {
    seq: u64,
    holds: Version,
    sent_at: Monotonic,
}

// === impl Link ===

impl Link {
    /// A way that is tried soon.
    pub fn new(aggregator: Aggregator, now: Monotonic, random: u64) -> Self {
        Self {
            upstream: grpc_service::encode(&aggregator),
            aggregator,
            state: State::Idle {
                retry_at: now.plus_millis(random % FIRST_WITHIN_MS),
            },
            failures: 0,
            asked_flush_ms: None,
            complained: None,
        }
    }

    pub fn aggregator(&self) -> &Aggregator {
        &self.aggregator
    }

    /// Ends the wait before the next attempt.
    pub fn hurry(&mut self, now: Monotonic) {
        if let State::Idle { retry_at } = &mut self.state {
            *retry_at = now;
        }
    }

    /// Whether a stream is open.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether the stream is the one called `token`.
    pub fn is(&self, token: StreamToken) -> bool {
        match &self.state {
            State::Open(stream) => stream.token == token,
            State::Closing { token: closing, .. } => *closing == token,
            State::Idle { .. } => false,
        }
    }

    /// Notes that nothing changed between the reading called `version` and `quiet_at`.
    pub fn settle(&mut self, version: Version, quiet_at: Monotonic) {
        if let State::Open(stream) = &mut self.state
            && stream.sent == version
        {
            stream.settled_at = Some(quiet_at);
        }
    }

    /// Whether [`Self::tick`] would send something, so that totals have to be read before. `news`:
    /// something changed since the last reading. A stream of other counters than `instance` is to
    /// be opened anew at once.
    pub fn is_due(&self, now: Monotonic, hello: &Hello, news: bool) -> bool {
        match &self.state {
            State::Idle { retry_at } => now >= *retry_at,
            State::Open(stream) => !stream.is_of(hello) || stream.is_due(now, news),
            State::Closing { .. } => false,
        }
    }

    /// Opens the stream if it is time to, and sends a report if one is due.
    pub fn tick(
        &mut self,
        host: &impl Host,
        root: RootId,
        hello: &Hello,
        view: &View,
        facts: &Facts,
        news: bool,
    ) {
        let now = facts.now.monotonic;
        if let State::Open(stream) = &self.state
            && (stream.root != root || !stream.is_of(hello))
        {
            // The root that held the stream is gone, or what it reported is: begin again at once.
            let _ = host.cancel_stream(stream.token);
            self.state = State::Idle { retry_at: now };
        }
        match &self.state {
            State::Idle { retry_at } if now >= *retry_at => self.open(host, root, hello, facts.now),
            State::Closing { token, since } if now.millis_since(*since) > CLOSED_WITHIN_MS => {
                let _ = host.cancel_stream(*token);
                self.state = State::Idle { retry_at: now };
            }
            _ => {}
        }
        let flush_ms = self.flush_interval_ms(hello.flush_interval_ms);
        let State::Open(stream) = &mut self.state else {
            return;
        };
        if stream.is_overdue(now) {
            let _ = host.cancel_stream(stream.token);
            let text = "no acknowledgement within 5 s";
            self.complain(host, ABORTED, text, now);
            self.retire(host, now);
        } else if stream.is_due(now, news) {
            let promise = report::promise(view, facts.now, flush_ms);
            stream.report(host, view, facts, promise, false);
        }
    }

    fn flush_interval_ms(&self, configured: u64) -> u64 {
        self.asked_flush_ms.unwrap_or(configured)
    }

    fn open(&mut self, host: &impl Host, root: RootId, hello: &Hello, now: Now) {
        let flush_interval_ms = self.flush_interval_ms(hello.flush_interval_ms);
        let Ok(token) = host.open_stream(&self.upstream, SERVICE, METHOD) else {
            // Envoy may yet tell of the end of a stream it never named; nobody will know that
            // token.
            if self.failures >= REFUSALS_UNSAID {
                let text = "Envoy cannot open it: no such cluster, or none of its hosts is known";
                self.complain(host, NOT_FOUND, text, now.monotonic);
            }
            self.retire(host, now.monotonic);
            return;
        };
        let _ = host.send(token, &report::hello(hello, flush_interval_ms, now));
        self.state = State::Open(Stream {
            token,
            root,
            instance: hello.counters.instance,
            hot_restart: hello.counters.hot_restart,
            seq: 0,
            acked: Version(0),
            acked_end: None,
            sent: Version(0),
            settled_at: None,
            unacked: None,
            due_at: now.monotonic,
            resting: false,
        });
    }

    /// Waits before the next attempt.
    fn retire(&mut self, host: &impl Host, now: Monotonic) {
        let ceiling = BACKOFF_MIN_MS
            .checked_shl(self.failures)
            .map_or(BACKOFF_MAX_MS, |millis| millis.min(BACKOFF_MAX_MS));
        self.failures = self.failures.saturating_add(1).min(16);
        let wait = ceiling / 2 + host.random() % (ceiling / 2).max(1);
        self.state = State::Idle {
            retry_at: now.plus_millis(wait),
        };
    }

    /// Takes in a message of the aggregator.
    pub fn receive(&mut self, host: &impl Host, message: &[u8], now: Monotonic) {
        let State::Open(stream) = &mut self.state else {
            return;
        };
        let frame = v1::AggregatorFrame::decode(message).map(|frame| frame.frame);
        match frame {
            Ok(Some(v1::aggregator_frame::Frame::Ack(ack))) => {
                if stream.acknowledge(ack.seq) {
                    self.failures = 0;
                }
            }
            Ok(Some(v1::aggregator_frame::Frame::Settings(settings))) => {
                let (least, most) = FLUSH_INTERVAL_MS;
                let asked = u64::from(settings.flush_interval_ms);
                self.asked_flush_ms = (asked > 0).then(|| asked.clamp(least, most));
            }
            // A frame of a later protocol.
            Ok(None) => {}
            Err(_) => {
                let _ = host.cancel_stream(stream.token);
                self.complain(host, ABORTED, "sent a frame that cannot be read", now);
                self.retire(host, now);
            }
        }
    }

    /// The peer ended the stream.
    pub fn closed(&mut self, host: &impl Host, status: u32, now: Monotonic) {
        if matches!(self.state, State::Closing { .. }) {
            self.state = State::Idle { retry_at: now };
            return;
        }
        let message = host.close_message().unwrap_or_default();
        self.complain(host, status, &message, now);
        self.retire(host, now);
        if status == ABORTED {
            // Another VM streams these counters: by the time this one is asked again it should
            // know.
            self.state = State::Idle {
                retry_at: now.plus_millis(BACKOFF_MAX_MS),
            };
        }
    }

    /// Ends our half of the stream, since another VM streams.
    pub fn end(&mut self, host: &impl Host, now: Monotonic) {
        match &self.state {
            State::Open(stream) => {
                let token = stream.token;
                let _ = host.close_stream(token);
                self.state = State::Closing { token, since: now };
            }
            State::Closing { token, since } if now.millis_since(*since) > CLOSED_WITHIN_MS => {
                let _ = host.cancel_stream(*token);
                self.state = State::Idle { retry_at: now };
            }
            State::Idle { .. } | State::Closing { .. } => {}
        }
    }

    /// Sends the last report of the root that holds the stream. The stream goes with the root. On a
    /// stream of other counters than `instance` their totals would be taken for those: there is
    /// nothing to be said on it any more.
    pub fn finish(
        &mut self,
        host: &impl Host,
        instance: u64,
        view: &View,
        facts: &Facts,
        is_final: bool,
    ) {
        let now = facts.now.monotonic;
        if let State::Open(stream) = &mut self.state
            && stream.instance == instance
        {
            let promise = Promise {
                within_ms: report::HEARTBEAT_MS,
                resting: true,
            };
            stream.report(host, view, facts, promise, is_final);
        }
        self.state = State::Idle { retry_at: now };
    }

    fn complain(&mut self, host: &impl Host, status: u32, text: &str, now: Monotonic) {
        let same = self
            .complained
            .is_some_and(|(last, at)| last == status && now.millis_since(at) < COMPLAIN_EVERY_MS);
        if same || status == UNAVAILABLE {
            return;
        }
        self.complained = Some((status, now));
        let text = crate::json::excerpt_of(text, 512);
        host.log(
            LogLevel::Warn,
            &format!(
                "stream to cluster {}: status {status}: {text}; opening another",
                self.aggregator.cluster
            ),
        );
    }
}

// === impl Stream ===

impl Stream {
    /// Whether `hello` says of the counters what the stream's own said.
    fn is_of(&self, hello: &Hello) -> bool {
        let counters = &hello.counters;
        (self.instance, self.hot_restart) == (counters.instance, counters.hot_restart)
    }

    fn is_due(&self, now: Monotonic, news: bool) -> bool {
        let due = now.plus_millis(TICK_SLACK_MS) >= self.due_at;
        self.unacked.is_none() && (due || (self.resting && news)) || self.is_overdue(now)
    }

    fn is_overdue(&self, now: Monotonic) -> bool {
        self.unacked
            .is_some_and(|unacked| now.millis_since(unacked.sent_at) >= ACK_WITHIN_MS)
    }

    fn report(
        &mut self,
        host: &impl Host,
        view: &View,
        facts: &Facts,
        promise: Promise,
        is_final: bool,
    ) {
        let now = facts.now.monotonic;
        self.seq = self.seq.saturating_add(1);
        let draft = Draft {
            seq: self.seq,
            acked: self.acked,
            begin: self
                .acked_end
                .max(self.settled_at)
                .unwrap_or(facts.quiet_at),
            promise,
            is_final,
        };
        let _ = host.send(self.token, &report::report(draft, view, facts));
        self.sent = view.version();
        self.unacked = Some(Unacked {
            seq: self.seq,
            holds: view.version(),
            sent_at: now,
        });
        self.due_at = now.plus_millis(promise.within_ms);
        self.resting = promise.resting;
    }

    /// True if this is the report that was waited for.
    fn acknowledge(&mut self, seq: u64) -> bool {
        let Some(unacked) = self.unacked.filter(|unacked| unacked.seq == seq) else {
            return false;
        };
        self.unacked = None;
        self.acked = unacked.holds;
        self.acked_end = Some(unacked.sent_at);
        true
    }
}
