//! The stream to one aggregator: open, report, wait for the acknowledgement, reopen.
//!
//! Nothing is queued. At most one report is unacknowledged; later changes go into the next one,
//! since totals are running totals. A successful send does not mean delivery: only the
//! acknowledgement does, and a stream without one is cancelled.

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
/// Longest backoff between attempts to open a stream, in milliseconds.
const BACKOFF_MAX_MS: u64 = 1000;
/// Shortest backoff, doubled with each failure.
const BACKOFF_MIN_MS: u64 = 100;
/// First attempts are spread over this time, in milliseconds: sidecars often start together.
const FIRST_WITHIN_MS: u64 = 300;
/// Streams that were lost are opened again within this time, in milliseconds: when an aggregator
/// ends, all sidecars lose theirs at once. The value of a pod is held far longer.
const REOPENED_WITHIN_MS: u64 = 1000;
/// Longest time for which an aggregator may send a sidecar away, in milliseconds: twice in a row is
/// less than the value of a pod is held.
const RETRY_AFTER_MAX_MS: u64 = 4000;
/// gRPC status `RESOURCE_EXHAUSTED`: with a time to retry after, the aggregator takes in others
/// first.
const RESOURCE_EXHAUSTED: u32 = 8;
/// A stream that we closed and the peer did not is cancelled after this time, in milliseconds.
const CLOSED_WITHIN_MS: u64 = 2000;
/// A repeated fault is logged once in this time, in milliseconds.
const COMPLAIN_EVERY_MS: u64 = 60_000;
/// gRPC status `UNAVAILABLE`: the aggregator is down. Not logged.
const UNAVAILABLE: u32 = 14;
/// gRPC status `NOT_FOUND`: logged if Envoy cannot open a stream.
const NOT_FOUND: u32 = 5;
/// Consecutive failures that are not logged: the hosts of a cluster may not be resolved yet.
const REFUSALS_UNSAID: u32 = 5;
/// gRPC status `ABORTED`: a newer stream of the same counters took over.
const ABORTED: u32 = 10;
/// Jitter of ticks, in milliseconds; a report due within it is sent now.
const TICK_SLACK_MS: u64 = 50;

#[derive(Debug)]
pub struct Link {
    aggregator: Aggregator,
    upstream: Vec<u8>,
    state: State,
    /// Attempts since the last acknowledgement.
    failures: u32,
    /// The aggregator's setting; kept across streams.
    requested_flush_ms: Option<u64>,
    complained: Option<(u32, Monotonic)>,
}

#[derive(Debug)]
enum State {
    Idle {
        retry_at: Monotonic,
    },
    Open(Stream),
    /// Closed by us, not yet by the peer.
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
    /// As sent in its hello.
    hot_restart: bool,
    seq: u64,
    acked: Version,
    acked_end: Option<Monotonic>,
    /// Version of the newest report, acknowledged or not.
    sent: Version,
    /// Last time at which nothing had changed since the newest report.
    settled_at: Option<Monotonic>,
    unacked: Option<Unacked>,
    due_at: Monotonic,
    /// The next report is due at the heartbeat.
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
    /// Opens its stream within `FIRST_WITHIN_MS`.
    pub fn new(aggregator: Aggregator, now: Monotonic, random: u64) -> Self {
        Self {
            upstream: grpc_service::encode(&aggregator),
            aggregator,
            state: State::Idle {
                retry_at: now.plus_millis(random % FIRST_WITHIN_MS),
            },
            failures: 0,
            requested_flush_ms: None,
            complained: None,
        }
    }

    pub fn aggregator(&self) -> &Aggregator {
        &self.aggregator
    }

    /// Skips the backoff.
    pub fn hurry(&mut self, now: Monotonic) {
        if let State::Idle { retry_at } = &mut self.state {
            *retry_at = now;
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether the stream has this token.
    pub fn is(&self, token: StreamToken) -> bool {
        match &self.state {
            State::Open(stream) => stream.token == token,
            State::Closing { token: closing, .. } => *closing == token,
            State::Idle { .. } => false,
        }
    }

    /// Records that nothing changed between the reading `version` and `quiet_at`.
    pub fn settle(&mut self, version: Version, quiet_at: Monotonic) {
        if let State::Open(stream) = &mut self.state
            && stream.sent == version
        {
            stream.settled_at = Some(quiet_at);
        }
    }

    /// Whether [`Self::tick`] would send, so that totals have to be read before. `news`: totals
    /// changed since the last reading. A stream of another instance is reopened at once.
    pub fn is_due(&self, now: Monotonic, hello: &Hello, news: bool) -> bool {
        match &self.state {
            State::Idle { retry_at } => now >= *retry_at,
            State::Open(stream) => !stream.is_of(hello) || stream.is_due(now, news),
            State::Closing { .. } => false,
        }
    }

    /// Opens the stream and sends a report, if due.
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
            // The stream's root was deleted, or its counters were replaced: reopen at once.
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
        self.requested_flush_ms.unwrap_or(configured)
    }

    fn open(&mut self, host: &impl Host, root: RootId, hello: &Hello, now: Now) {
        let flush_interval_ms = self.flush_interval_ms(hello.flush_interval_ms);
        let Ok(token) = host.open_stream(&self.upstream, SERVICE, METHOD) else {
            // Envoy may still call back for this stream, with a token that it never returned; such
            // a callback matches no link.
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

    /// Starts the backoff. A stream that had been acknowledged was lost, likely with many others.
    fn retire(&mut self, host: &impl Host, now: Monotonic) {
        if self.failures == 0 && self.was_acknowledged() {
            self.failures = 1;
            self.state = State::Idle {
                retry_at: now.plus_millis(host.random() % REOPENED_WITHIN_MS),
            };
            return;
        }
        let ceiling = BACKOFF_MIN_MS
            .checked_shl(self.failures)
            .map_or(BACKOFF_MAX_MS, |millis| millis.min(BACKOFF_MAX_MS));
        self.failures = self.failures.saturating_add(1).min(16);
        let wait = ceiling / 2 + host.random() % (ceiling / 2).max(1);
        self.state = State::Idle {
            retry_at: now.plus_millis(wait),
        };
    }

    fn was_acknowledged(&self) -> bool {
        matches!(&self.state, State::Open(stream) if stream.acked_end.is_some())
    }

    /// Waits as long as the aggregator asked, within bounds. It takes in others first, which is
    /// said only where it goes on.
    fn postpone(&mut self, host: &impl Host, wait_ms: u64, message: &str, now: Monotonic) {
        if self.failures >= REFUSALS_UNSAID {
            self.complain(host, RESOURCE_EXHAUSTED, message, now);
        }
        self.failures = self.failures.saturating_add(1).min(16);
        let wait = wait_ms.clamp(BACKOFF_MIN_MS, RETRY_AFTER_MAX_MS);
        self.state = State::Idle {
            retry_at: now.plus_millis(wait),
        };
    }

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
                let requested = u64::from(settings.flush_interval_ms);
                self.requested_flush_ms = (requested > 0).then(|| requested.clamp(least, most));
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

    /// The peer closed the stream.
    pub fn closed(&mut self, host: &impl Host, status: u32, now: Monotonic) {
        if matches!(self.state, State::Closing { .. }) {
            self.state = State::Idle { retry_at: now };
            return;
        }
        let message = host.close_message().unwrap_or_default();
        if status == RESOURCE_EXHAUSTED
            && let Some(wait) = retry_after_ms(&message)
        {
            self.postpone(host, wait, &message, now);
            return;
        }
        self.complain(host, status, &message, now);
        self.retire(host, now);
        if status == ABORTED {
            // Another VM streams these counters: this one should have read that from the registry
            // by the next attempt.
            self.state = State::Idle {
                retry_at: now.plus_millis(BACKOFF_MAX_MS),
            };
        }
    }

    /// Closes our half of the stream, since another VM streams.
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

    /// Sends the last report of the root that owns the stream, which ends with the root. Not on a
    /// stream of another instance: the aggregator would add the totals to that one's.
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

/// The number in `retry after 1234 ms`, which an aggregator's message has if it sends a sidecar
/// away for a while; `None` without it. Older aggregators have none, and older filters do not look.
fn retry_after_ms(message: &str) -> Option<u64> {
    let (_, rest) = message.split_once("retry after ")?;
    rest.split_once(" ms")?.0.parse().ok()
}

// === impl Stream ===

impl Stream {
    /// Whether the stream reports the counters in `hello`.
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

    /// True if this acknowledges the pending report.
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
