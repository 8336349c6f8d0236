//! One set of counters of a sidecar: its stream, its totals, and since when they are known.

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

/// Counters that began together, and the stream that tells of them.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: InstanceId,
    pub(super) process: ProcessId,
    pub(super) scope: CounterScope,
    /// When the counters began, on the sidecar's clock.
    pub(super) started_at: UnixMillis,
    pub(super) standing: InstanceState,
    /// True while its process says that it takes over from a parent that still serves.
    pub(super) hot_restart: bool,
    /// The stream that counts, if it is open.
    pub(super) stream: Option<StreamId>,
    pub(super) series: Vec<(SeriesKey, Tally)>,
    /// True if a series of the newest snapshot was refused: sums over the series are too low.
    pub(super) incomplete: bool,
    /// What the reports told, once there was one.
    pub(super) seen: Option<ReportTimes>,
    /// When the last stream closed, unless one is open.
    closed_at: Option<Monotonic>,
    /// End of the interval of the final report of the newest stream, if that came.
    final_at: Option<Monotonic>,
    /// Highest seq of the newest stream.
    newest: u64,
    /// When its last two reports arrived, the last one at the end; `None` from then on if a seq was
    /// skipped.
    arrived: Option<[Option<Monotonic>; 2]>,
    pub(super) clock: SidecarClock,
    /// True once a snapshot was seen: a series that comes later began later.
    snapshot: bool,
}

/// How the totals of an instance count in its pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum InstanceState {
    /// It said hello and has not reported.
    Pending,
    /// Its totals are the pod's.
    Current,
    /// A newer one took its place; only its recent past still counts.
    Replaced,
}

/// The time an instance has told of, on the aggregator's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReportTimes {
    /// Since when every increase is known: the start of the counters if that was lately, else the
    /// first report.
    pub(super) from: Monotonic,
    /// End of the first report. Between `from` and this only the sum is known.
    pub(super) first: Monotonic,
    /// End of the newest interval.
    pub(super) until: Monotonic,
    /// How the report of that interval came.
    pub(super) newest: Newest,
    /// When the counters began, if that can be told.
    pub(super) began: Option<Monotonic>,
    /// When the next report is overdue.
    deadline: Monotonic,
}

/// How the newest report came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
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
            standing: InstanceState::Pending,
            hot_restart: hello.hot_restart,
            stream: None,
            series: Vec::new(),
            incomplete: false,
            seen: None,
            closed_at: None,
            final_at: None,
            newest: 0,
            arrived: None,
            clock: SidecarClock::default(),
            snapshot: false,
        }
    }

    /// A stream of this instance opened; returns the one it supersedes.
    pub(super) fn open(&mut self, stream: StreamId) -> Option<StreamId> {
        self.closed_at = None;
        self.final_at = None;
        self.newest = 0;
        self.arrived = Some([None, None]);
        self.stream.replace(stream)
    }

    /// A stream of this instance ended; true if it was the one that counts.
    pub(super) fn close(&mut self, now: Monotonic, stream: StreamId) -> bool {
        let counts = self.stream == Some(stream);
        if counts {
            self.stream = None;
            self.closed_at = Some(now);
        }
        counts
    }

    /// True if the two instances' totals add up.
    pub(super) fn adds_to(&self, other: &Self) -> bool {
        let same_process = self.process == other.process
            && self.scope == CounterScope::Vm
            && other.scope == CounterScope::Vm;
        self.id == other.id || same_process
    }

    /// True if the report is the next on the stream that counts: not one that was seen, or is of an
    /// older stream.
    pub(super) fn is_next(&self, stream: StreamId, report: &Report) -> bool {
        self.stream == Some(stream) && report.seq > self.newest
    }

    /// After which moment the next report on the stream was made. A sidecar makes one when the one
    /// before is acknowledged, but its last one without waiting: only the one before the previous
    /// had surely arrived. A stream that skipped a number carries reports of another one, and shows
    /// nothing.
    pub(super) fn made_after(&self, next: &Report) -> Option<Monotonic> {
        self.arrived
            .filter(|_| next.seq == self.newest + 1)
            .and_then(|[before_previous, _]| before_previous)
    }

    /// The stream that counts told at `now` of `theirs` on the sidecar's clock, for the first time,
    /// and that is `after`. If a quicker frame shows that what was told before is longer ago, all
    /// of it follows. A difference that grows only means that a quick frame was forgotten: it
    /// mapped the past well.
    pub(super) fn observe(&mut self, now: Monotonic, theirs: UnixMillis, after: Option<Monotonic>) {
        if let Change::Moved(millis) = self.clock.observe(now, theirs, after)
            && millis < 0
        {
            self.shift(millis);
        }
    }

    fn shift(&mut self, millis: i64) {
        if let Some(seen) = &mut self.seen {
            for at in [
                &mut seen.from,
                &mut seen.first,
                &mut seen.until,
                &mut seen.deadline,
            ] {
                *at = at.moved(millis);
            }
            seen.began = seen.began.map(|at| at.moved(millis));
        }
        self.final_at = self.final_at.map(|at| at.moved(millis));
        for (_, tally) in &mut self.series {
            tally.shift(millis);
        }
    }

    /// How well the instance is known at `now`.
    pub(super) fn state(&self, now: Monotonic) -> PodState {
        match self.lost_at() {
            None => PodState::New,
            Some((lost, _)) if now < lost => PodState::Live,
            Some((lost, hold)) if now < lost + hold => PodState::Held,
            Some(_) => PodState::Gone,
        }
    }

    /// When the instance is gone unless it is heard of again; `None` before its first report.
    pub(super) fn gone_at(&self) -> Option<Monotonic> {
        self.lost_at().map(|(lost, hold)| lost + hold)
    }

    /// When it is or was lost, and how long its value is held from then on; `None` before its first
    /// report.
    fn lost_at(&self) -> Option<(Monotonic, Duration)> {
        let seen = self.seen?;
        if let Some(at) = self.final_at {
            return Some((at, HOLD_FINAL));
        }
        let closed = self.closed_at.unwrap_or(seen.deadline);
        Some((seen.deadline.min(closed), HOLD))
    }

    /// Where the totals of `report` come from, whose interval is `span`; the span of a first report
    /// reaches back to the start of the counters, `started_at` on our clock, if that was lately.
    pub(super) fn origin(
        &self,
        span: Span,
        started_at: Option<Monotonic>,
        report: &Report,
    ) -> (Span, Origin) {
        if let Some(seen) = self.seen {
            // What is told stays told, and a new stream closes the gap since then: its first report
            // knows when the sidecar was quiet, not what was lost on the way.
            let told = if report.snapshot {
                seen.until
            } else {
                span.start.max(seen.until)
            };
            let start = if told < span.end { told } else { span.start };
            let span = Span { start, ..span };
            let origin = if self.snapshot {
                Origin::Zero
            } else {
                Origin::Unknown
            };
            return (span, origin);
        }
        match started_at {
            Some(start) if report.snapshot && span.end.since(start) <= DEPTH => {
                let start = start.min(span.end);
                (Span { start, ..span }, Origin::Zero)
            }
            _ => (span, Origin::Unknown),
        }
    }

    /// Notes that `report` was taken, whose increases are known since `from`.
    pub(super) fn took(
        &mut self,
        now: Monotonic,
        stream: StreamId,
        began: Option<Monotonic>,
        from: Monotonic,
        end: Monotonic,
        report: &Report,
    ) {
        let newest = Newest {
            interval: report.interval,
            arrived: now,
        };
        let seen = self.seen.get_or_insert(ReportTimes {
            from,
            first: end,
            until: end,
            newest,
            began,
            deadline: end,
        });
        if end >= seen.until {
            seen.newest = newest;
        }
        seen.until = seen.until.max(end);
        seen.deadline = seen.deadline.max(end + report.next_report_within + GRACE);
        self.snapshot |= report.snapshot;
        if self.stream == Some(stream) {
            if report.seq > self.newest {
                let consecutive = report.seq == self.newest + 1;
                let arrived = self.arrived.filter(|_| consecutive);
                self.arrived = arrived.map(|[_, previous]| [previous, Some(now)]);
                self.newest = report.seq;
            }
            if report.is_final {
                self.final_at = Some(end);
            }
        }
    }

    /// The tally of `key`, if there is one.
    pub(super) fn tally(&self, key: &SeriesKey) -> Option<&Tally> {
        let index = self.series.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
        Some(&self.series[index].1)
    }
}
