//! One stream as the fake aggregator saw it, held to the contract frame by frame.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1;

use crate::connection::Up;
use crate::totals::{Counter, counters};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    HalfClosed,
    /// The sidecar reset it, or its end went away.
    Reset,
    /// The aggregator ended it as the test told it to.
    ClosedHere,
    /// A newer stream of the same instance took over.
    Superseded,
}

/// One stream. Times are on the monotonic clock.
#[derive(Debug, Default)]
pub struct Stream {
    /// The instance that streams, once it said so.
    pub(crate) instance: Option<u64>,
    /// The newest report.
    pub last: Option<v1::Report>,
    pub end: Option<End>,
    /// Messages that came while the aggregator stalled.
    pub unread: usize,
    /// What waits to be read; lost with a reset.
    pub(crate) backlog: Vec<Up>,
    pub(crate) acknowledged: Option<(Duration, u64)>,
    highest: BTreeMap<Counter, u64>,
    /// A report came while another was not acknowledged.
    spoke_last: bool,
}

// === impl Stream ===

impl Stream {
    pub(crate) fn greet(&mut self, hello: &v1::Hello) -> Result<(), String> {
        if self.instance.is_some() {
            return Err("a second Hello".to_owned());
        }
        if self.last.is_some() {
            return Err("Hello after a report".to_owned());
        }
        let missing = [
            (hello.instance == 0, "instance"),
            (hello.process == 0, "process"),
            (hello.scope == 0, "scope"),
            (hello.identity.is_none(), "identity"),
            (hello.started_at_unix_ms == 0, "started_at_unix_ms"),
            (hello.clock_unix_ms == 0, "clock_unix_ms"),
            (hello.protocol == 0, "protocol"),
        ];
        self.instance = Some(hello.instance);
        match missing.iter().find(|(missing, _)| *missing) {
            Some((_, field)) => Err(format!("Hello without `{field}`")),
            None => Ok(()),
        }
    }

    /// Checks `report` against what came before it on this stream.
    pub(crate) fn take(&mut self, now: Duration, report: &v1::Report) -> Vec<String> {
        let mut breaches = Vec::new();
        let mut check = |holds: bool, breach: &str| {
            if !holds {
                breaches.push(breach.to_owned());
            }
        };
        let last = self.last.as_ref();
        let expected = last.map_or(1, |last| last.seq + 1);
        check(self.instance.is_some(), "came before Hello");
        check(report.seq == expected, "is out of sequence");
        check(
            last.is_some() || report.snapshot,
            "is first but no snapshot",
        );
        check(
            last.is_none_or(|last| !last.r#final),
            "follows the final one",
        );
        let end = report.interval_end_unix_ms;
        check(
            last.is_none_or(|last| last.interval_end_unix_ms <= end),
            "ends before the one before it",
        );
        check(report.vms_live <= report.vms_expected, "has VMs to spare");
        check(
            report.next_report_within_ms > 0 || report.r#final,
            "promises no other",
        );
        let acknowledged = match (last, self.acknowledged) {
            (None, _) => true,
            (Some(last), Some((at, seq))) => seq == last.seq && at <= now,
            (Some(_), None) => false,
        };
        // Allowed once: as the last words of a root context.
        check(
            !self.spoke_last,
            "follows one that did not wait for an acknowledgement",
        );
        self.spoke_last = !acknowledged;
        for (counter, value) in counters(report) {
            let highest = self.highest.entry(counter.clone()).or_default();
            check(value >= *highest, &format!("{counter:?} falls to {value}"));
            *highest = value.max(*highest);
        }
        for series in &report.series {
            check(series.direction != 0, "has a series without a direction");
            check(
                series
                    .responses
                    .iter()
                    .all(|r| matches!(r.code, 0..=5 | 100..=599)),
                "has a response code that is none",
            );
        }
        breaches
    }
}
