//! One set of counters of a sidecar: its stream, its totals, and the time its reports cover.

use std::time::Duration;

use crate::history::DEPTH;
use crate::limits::{GRACE, HOLD, HOLD_FINAL};
use crate::report::{CounterScope, Hello, InstanceId, ProcessId, Report, StreamId};
use crate::series::SeriesKey;
use crate::sidecar_clock::{Change, SidecarClock};
use crate::status::PodState;
use crate::store::counter::{Origin, Span};
use crate::store::tally::Tally;
use common_time::{Monotonic, UnixMillis};

/// Counters that began together, and the stream that reports them.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: InstanceId,
    pub(super) process: ProcessId,
    pub(super) scope: CounterScope,
    /// When the counters began, on the sidecar's clock.
    pub(super) started_at: UnixMillis,
    pub(super) state: InstanceState,
    /// True while its process reports that it takes over from a parent that still serves.
    pub(super) hot_restart: bool,
    /// The newest stream, if it is open.
    pub(super) stream: Option<StreamId>,
    pub(super) series: Vec<(SeriesKey, Tally)>,
    /// True if a series of the newest snapshot was refused: sums over the series are too low.
    pub(super) incomplete: bool,
    /// `None` before the first report.
    pub(super) times: Option<ReportTimes>,
    /// When the last stream closed, unless one is open.
    closed_at: Option<Monotonic>,
    /// End of the interval of the newest stream's final report, if one came.
    final_at: Option<Monotonic>,
    /// Highest seq of the newest stream.
    last_seq: u64,
    /// When the newest stream's last two reports arrived, the last one at the end; `None` for good
    /// once a seq was skipped.
    arrivals: Option<[Option<Monotonic>; 2]>,
    pub(super) clock: SidecarClock,
    /// True once a snapshot was taken: a series that appears later began later.
    snapshot: bool,
}

/// Whether the totals of an instance count in its pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum InstanceState {
    /// Connected, not reported yet.
    Pending,
    /// Its totals are the pod's.
    Current,
    /// A newer instance reports; windows still read this one's history.
    Replaced,
}

/// The time that an instance's reports cover, on the aggregator's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReportTimes {
    /// Start of the time covered: the start of the counters if that was lately, else the first
    /// report.
    pub(super) from: Monotonic,
    /// End of the first report. Between `from` and this only the total increase is known.
    pub(super) first: Monotonic,
    /// End of the newest interval.
    pub(super) until: Monotonic,
    pub(super) newest: NewestReport,
    /// When the counters began, if that is known.
    pub(super) began: Option<Monotonic>,
    /// When the next report is overdue.
    deadline: Monotonic,
}

/// Length and arrival of the newest interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewestReport {
    pub(super) interval: Duration,
    pub(super) arrived: Monotonic,
}

// === impl Instance ===

impl Instance {
    pub(super) fn new(hello: &Hello) -> Self {
        Self {
            id: hello.instance,
            process: hello.process,
            scope: hello.scope,
            started_at: hello.started_at,
            state: InstanceState::Pending,
            hot_restart: hello.hot_restart,
            stream: None,
            series: Vec::new(),
            incomplete: false,
            times: None,
            closed_at: None,
            final_at: None,
            last_seq: 0,
            arrivals: None,
            clock: SidecarClock::default(),
            snapshot: false,
        }
    }

    /// Opens a stream; returns the one it supersedes.
    pub(super) fn open(&mut self, stream: StreamId) -> Option<StreamId> {
        self.closed_at = None;
        self.final_at = None;
        self.last_seq = 0;
        self.arrivals = Some([None, None]);
        self.stream.replace(stream)
    }

    /// Closes a stream; true if it was the newest.
    pub(super) fn close(&mut self, now: Monotonic, stream: StreamId) -> bool {
        // A superseded stream may end after its successor opened; that closes nothing.
        let is_newest = self.stream == Some(stream);
        if is_newest {
            self.stream = None;
            self.closed_at = Some(now);
        }
        is_newest
    }

    /// True if the pod's totals are the sum of both instances.
    pub(super) fn adds_to(&self, other: &Self) -> bool {
        let same_process = self.process == other.process
            && self.scope == CounterScope::Vm
            && other.scope == CounterScope::Vm;
        self.id == other.id || same_process
    }

    /// True if the report is newer than all others of the newest stream: not a replay.
    pub(super) fn is_next(&self, stream: StreamId, report: &Report) -> bool {
        self.stream == Some(stream) && report.seq > self.last_seq
    }

    /// A moment that precedes the making of the `next` report on the stream.
    pub(super) fn made_after(&self, next: &Report) -> Option<Monotonic> {
        // A sidecar waits for an acknowledgement before each report but its final one, so only the
        // report before the previous one has surely arrived. A stream that skipped a seq carries
        // reports of another one and proves nothing.
        self.arrivals
            .filter(|_| next.seq == self.last_seq + 1)
            .and_then(|[before_previous, _]| before_previous)
    }

    /// Passes a frame to [`SidecarClock::observe`] and moves the history if times map earlier now.
    pub(super) fn observe(
        &mut self,
        now: Monotonic,
        sidecar_time: UnixMillis,
        after: Option<Monotonic>,
        waited: Duration,
    ) {
        if let Change::Adjusted(millis) = self.clock.observe(now, sidecar_time, after, waited)
            && millis != 0
        {
            self.shift(millis);
        }
    }

    fn shift(&mut self, millis: i64) {
        if let Some(times) = &mut self.times {
            for at in [
                &mut times.from,
                &mut times.first,
                &mut times.until,
                &mut times.deadline,
            ] {
                *at = at.moved(millis);
            }
            times.began = times.began.map(|at| at.moved(millis));
        }
        self.final_at = self.final_at.map(|at| at.moved(millis));
        for (_, tally) in &mut self.series {
            tally.shift(millis);
        }
    }

    /// `New` before the first report.
    pub(super) fn liveness(&self, now: Monotonic) -> PodState {
        match self.lost_at() {
            None => PodState::New,
            Some((lost, _)) if now < lost => PodState::Live,
            Some((lost, hold)) if now < lost + hold => PodState::Held,
            Some(_) => PodState::Gone,
        }
    }

    /// When the instance is gone unless it reports again; `None` before its first report.
    pub(super) fn gone_at(&self) -> Option<Monotonic> {
        self.lost_at().map(|(lost, hold)| lost + hold)
    }

    /// When its value becomes stale, and how long it is held from then on; `None` before its first
    /// report.
    fn lost_at(&self) -> Option<(Monotonic, Duration)> {
        let times = self.times?;
        if let Some(at) = self.final_at {
            return Some((at, HOLD_FINAL));
        }
        let closed = self.closed_at.unwrap_or(times.deadline);
        Some((times.deadline.min(closed), HOLD))
    }

    /// The span in which the totals of `report` rose, and the origin of new ones. `span` is its
    /// interval; that of a first report is extended to `started_at`, the start of the counters on
    /// our clock, if that was lately.
    pub(super) fn origin(
        &self,
        span: Span,
        started_at: Option<Monotonic>,
        report: &Report,
    ) -> (Span, Origin) {
        if let Some(times) = self.times {
            // Time already covered keeps its rate. A snapshot opens a stream and closes the gap
            // since the last report: reports in between may be lost, so its interval is too short.
            let covered = if report.snapshot {
                times.until
            } else {
                span.start.max(times.until)
            };
            let start = if covered < span.end {
                covered
            } else {
                span.start
            };
            let span = Span { start, ..span };
            // Before the first snapshot, a series that is new here may be old: a baseline.
            let origin = if self.snapshot {
                Origin::Zero
            } else {
                Origin::Unknown
            };
            return (span, origin);
        }
        match started_at {
            // Totals of older counters are a baseline: their rise lies beyond every window.
            Some(start) if report.snapshot && span.end.since(start) <= DEPTH => {
                let start = start.min(span.end);
                (Span { start, ..span }, Origin::Zero)
            }
            _ => (span, Origin::Unknown),
        }
    }

    /// Updates times and seq by a `report` that was taken; it covers the time since `from`.
    pub(super) fn record(
        &mut self,
        now: Monotonic,
        stream: StreamId,
        began: Option<Monotonic>,
        from: Monotonic,
        end: Monotonic,
        report: &Report,
    ) {
        let newest = NewestReport {
            interval: report.interval,
            arrived: now,
        };
        let times = self.times.get_or_insert(ReportTimes {
            from,
            first: end,
            until: end,
            newest,
            began,
            deadline: end,
        });
        if end >= times.until {
            times.newest = newest;
        }
        times.until = times.until.max(end);
        times.deadline = times.deadline.max(end + report.next_report_within + GRACE);
        self.snapshot |= report.snapshot;
        if self.stream == Some(stream) {
            if report.seq > self.last_seq {
                let consecutive = report.seq == self.last_seq + 1;
                let arrivals = self.arrivals.filter(|_| consecutive);
                self.arrivals = arrivals.map(|[_, previous]| [previous, Some(now)]);
                self.last_seq = report.seq;
            }
            if report.is_final {
                self.final_at = Some(end);
            }
        }
    }

    pub(super) fn tally(&self, key: &SeriesKey) -> Option<&Tally> {
        let index = self.series.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
        Some(&self.series[index].1)
    }
}
