//! The oracle: which request was counted when, as plain lists.
//!
//! Lists are in true time and ascend. A *segment* is what one `instance` should count: the requests
//! of a process between two `/reset_counters`, or those of one VM where VMs stream for themselves.

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Inbound,
    Outbound,
    Attempt,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Inbound, Self::Outbound, Self::Attempt];
}

/// One list for each [`Kind`].
pub(crate) type Lists = [Vec<u64>; 3];

/// Expected counts of one instance.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    pub(crate) start: u64,
    pub(crate) counted: Lists,
    /// Requests counted that no trap took along.
    pub(crate) sure: Lists,
    /// Requests of the segment before that were added to the totals after it ended.
    pub(crate) carried: [u64; 3],
    /// Totals at the end of the segment.
    pub(crate) closed: Option<[u64; 3]>,
    /// A VM that streams for itself died: what it had not reported is unknown.
    pub(crate) broken: bool,
}

/// Ground truth of one pod.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) all: Lists,
    pub(crate) segments: Vec<Segment>,
    /// Requests in flight now, and at most ever.
    pub(crate) open: u64,
    pub(crate) open_peak: u64,
    /// A VM died: requests in flight in it stay open in the gauge.
    pub(crate) trapped: bool,
    /// Sum of the steps of the sidecar's clock, in milliseconds.
    pub(crate) stepped_ms: u64,
    pub(crate) stepped_back: bool,
    /// When it last stepped ahead by more than a store believes of a report.
    pub(crate) leapt_at: Option<u64>,
}

impl Truth {
    pub(crate) fn segment(&mut self, start: u64, carried: [u64; 3]) -> usize {
        self.segments.push(Segment {
            start,
            carried,
            ..Segment::default()
        });
        self.segments.len() - 1
    }

    pub(crate) fn count(&mut self, segment: usize, kind: Kind, at: u64) {
        self.all[kind as usize].push(at);
        self.segments[segment].counted[kind as usize].push(at);
        self.segments[segment].sure[kind as usize].push(at);
    }
}

impl Segment {
    /// Highest total the instance may show.
    pub(crate) fn most(&self, kind: Kind) -> u64 {
        self.closed.map_or_else(
            || self.carried[kind as usize] + self.counted[kind as usize].len() as u64,
            |closed| closed[kind as usize],
        )
    }

    /// The total once everything is flushed.
    pub(crate) fn settled(&self, kind: Kind) -> u64 {
        let lost = self.counted[kind as usize].len() - self.sure[kind as usize].len();
        self.most(kind) - lost as u64
    }

    /// A trap takes what was counted at `times` and not flushed; what was counted before the
    /// segment began had been carried over into it.
    pub(crate) fn lose(&mut self, kind: Kind, times: &[u64]) {
        let sure = &mut self.sure[kind as usize];
        for time in times {
            if let Ok(index) = sure.binary_search(time) {
                sure.remove(index);
            } else {
                let carried = &mut self.carried[kind as usize];
                *carried = carried.saturating_sub(1);
            }
        }
    }
}

/// Elements of an ascending list after `from` and up to `to`.
pub(crate) fn between(list: &[u64], from: i64, to: i64) -> u64 {
    let upto =
        |end: i64| u64::try_from(end).map_or(0, |end| list.partition_point(|time| *time <= end));
    (upto(to) as u64).saturating_sub(upto(from) as u64)
}
