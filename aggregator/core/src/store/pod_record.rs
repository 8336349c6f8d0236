//! The record of one pod: its instances and its state.

use std::sync::Arc;
use std::time::Duration;

use crate::history::DEPTH;
use crate::limits::{AHEAD_MAX, FORGET_AFTER, INSTANCES_PER_POD_MAX, RIVAL, SEEN_MIN, StoreLimits};
use crate::pod::PodKey;
use crate::query::WINDOWS;
use crate::report::{Hello, InstanceId, ProcessId, Report, StreamId};
use crate::series::SeriesKey;
use crate::sidecar_clock::LATE_MAX;
use crate::status::PodState;
use crate::store::counter::{Origin, Span};
use crate::store::instance::{Instance, InstanceState, NewestReport};
use crate::store::refused::StoreRefusal;
use crate::store::tally::Tally;
use crate::store::{Applied, Connected, Link, validate};
use common_time::Monotonic;

/// Series of all instances of a pod, as a multiple of the limit per instance: where each Wasm VM
/// has its own stream, every VM has the same series.
const INSTANCES_WITH_ALL_SERIES: usize = 4;

/// Ids of replaced instances kept per pod: as many as one process may have.
const FORMER_MAX: usize = INSTANCES_PER_POD_MAX;

/// One pod. Times are on the aggregator's clock unless they say otherwise.
#[derive(Debug)]
pub(super) struct PodRecord {
    /// "" until a sidecar reports it.
    pub(super) uid: Arc<str>,
    /// Build of the filter; "" if it is not known.
    pub(super) build: Arc<str>,
    pub(super) instances: Vec<Instance>,
    /// Expected and live Wasm VMs, as of the newest interval.
    pub(super) vms: (u32, u32),
    /// The last replaced instances, the newest at the end.
    former: Vec<InstanceId>,
    /// Until then more than one Envoy process serves the pod: totals before it are incomplete.
    unknown_until: Monotonic,
    last_stream_change: Monotonic,
    has_new_series: bool,
}

// === impl PodRecord ===

impl PodRecord {
    pub(super) fn new(now: Monotonic) -> Self {
        Self {
            uid: Arc::from(""),
            build: Arc::from(""),
            instances: Vec::new(),
            vms: (0, 0),
            former: Vec::new(),
            unknown_until: Monotonic::default(),
            last_stream_change: now,
            has_new_series: false,
        }
    }

    pub(super) fn connect(
        &mut self,
        now: Monotonic,
        stream: StreamId,
        hello: &Hello,
        limits: &StoreLimits,
        waited: Duration,
    ) -> Result<Connected, StoreRefusal> {
        let candidate = Instance::new(hello);
        let checked = self.check_not_replaced(now, &hello.pod, &candidate);
        checked.inspect_err(|_| self.note_rival(now, hello.process))?;
        let mut ended = self.reset_if_another_pod(hello);
        let known = self.instances.iter().position(|i| i.id == hello.instance);
        let index = if let Some(index) = known {
            index
        } else {
            self.make_room(now, hello, limits)?;
            self.instances.push(candidate);
            self.instances.len() - 1
        };
        self.last_stream_change = now;
        // An older stream may still report, so this hello may precede the newest report.
        let after = self.instances[index]
            .times
            .map(|times| times.until.before(LATE_MAX));
        self.instances[index].observe(now, hello.clock, after, waited);
        let was_hot_restart =
            std::mem::replace(&mut self.instances[index].hot_restart, hello.hot_restart);
        if was_hot_restart && !hello.hot_restart {
            // The parent has ended: from now on the process counts all requests of the pod.
            self.unknown_until = now;
        }
        let superseded = self.instances[index].open(stream);
        ended.retain(|ended| Some(*ended) != superseded);
        Ok(Connected {
            link: Link {
                pod: hello.pod.clone(),
                instance: hello.instance,
                stream,
            },
            superseded,
            replaced: ended,
        })
    }

    pub(super) fn apply(
        &mut self,
        now: Monotonic,
        link: &Link,
        report: &Report,
        limits: &StoreLimits,
        waited: Duration,
    ) -> Result<Applied, StoreRefusal> {
        let unknown = || StoreRefusal::UnknownStream {
            pod: link.pod.clone(),
        };
        let index = self.instances.iter().position(|i| i.id == link.instance);
        let index = index.ok_or_else(unknown)?;
        let instance = &self.instances[index];
        if instance.state != InstanceState::Current {
            let checked = self.check_not_replaced(now, &link.pod, instance);
            let process = instance.process;
            checked.inspect_err(|_| self.note_rival(now, process))?;
        }
        let span = self.span(now, index, link, report, waited)?;
        let elapsed = self.elapsed(index, span, report);
        validate::check(&self.instances[index], elapsed, report)?;
        let replaced = self.make_current(now, index);
        if self.instances[index].hot_restart {
            self.unknown_until = self.unknown_until.max(now);
        }
        let refused = self.store_report(now, index, link, span, report, limits);
        let times = self.instances[index].times;
        // A replayed or delayed report must not bring back an older number of VMs.
        if times.is_some_and(|times| span.end >= times.until) {
            self.vms = (report.vms_expected, report.vms_live);
        }
        Ok(Applied {
            series_refused: refused,
            replaced,
        })
    }

    pub(super) fn disconnect(&mut self, now: Monotonic, link: &Link) {
        for instance in &mut self.instances {
            if instance.id == link.instance && instance.close(now, link.stream) {
                self.last_stream_change = now;
            }
        }
        // No window reads an instance that never reported.
        self.instances
            .retain(|i| i.state != InstanceState::Pending || i.stream.is_some());
    }

    /// True if the pod has new series since the last call.
    pub(super) fn take_new_series(&mut self) -> bool {
        std::mem::take(&mut self.has_new_series)
    }

    pub(super) fn state(&self, now: Monotonic) -> PodState {
        // States ascend from `New` to `Gone`, so this is the stalest.
        let stalest = self
            .current()
            .map(|instance| instance.liveness(now))
            .filter(|state| *state != PodState::Gone)
            .max();
        let Some(stalest) = stalest else {
            let mut current = self.current();
            return current.next().map_or(PodState::New, |_| PodState::Gone);
        };
        match (self.until(now), self.known_from()) {
            (Some(until), Some(from)) if until.since(from) >= SEEN_MIN => stalest,
            _ => PodState::New,
        }
    }

    /// True while more than one Envoy process serves the pod; only one is counted here.
    pub(super) fn has_rivals(&self, now: Monotonic) -> bool {
        let in_hot_restart = |i: &Instance| i.hot_restart && i.state != InstanceState::Replaced;
        now < self.unknown_until || self.instances.iter().any(in_hot_restart)
    }

    /// When the pod may be removed without another report; `None` while a stream has yet to report.
    pub(super) fn forget_at(&self) -> Option<Monotonic> {
        let pending = |i: &Instance| i.state == InstanceState::Pending && i.stream.is_some();
        if self.instances.iter().any(pending) {
            return None;
        }
        let gone = self.current().filter_map(Instance::gone_at).max();
        Some(gone.unwrap_or(self.last_stream_change) + FORGET_AFTER)
    }

    /// Start of the oldest current instance; `None` before the first report.
    pub(super) fn started_at(&self) -> Option<Monotonic> {
        let times = self.current().filter_map(|instance| instance.times);
        times.filter_map(|times| times.began).min()
    }

    pub(super) fn trim(&mut self, now: Monotonic) {
        let horizon = now.before(DEPTH);
        self.instances.retain(|i| !Self::is_spent(i, horizon));
        for instance in &mut self.instances {
            for (_, tally) in &mut instance.series {
                tally.forget(horizon);
            }
        }
    }

    pub(super) fn current(&self) -> impl Iterator<Item = &Instance> {
        self.instances
            .iter()
            .filter(|i| i.state == InstanceState::Current)
    }

    /// End of the time that every instance which is not gone has reported.
    pub(super) fn until(&self, now: Monotonic) -> Option<Monotonic> {
        self.newest(now).map(|(until, _)| until)
    }

    /// [`PodRecord::until`] with the report that sets it.
    pub(super) fn newest(&self, now: Monotonic) -> Option<(Monotonic, NewestReport)> {
        self.current()
            .filter(|instance| instance.liveness(now) != PodState::Gone)
            .filter_map(|instance| instance.times.map(|times| (times.until, times.newest)))
            .min_by_key(|(until, _)| *until)
    }

    pub(super) fn known_from(&self) -> Option<Monotonic> {
        let times = || self.instances.iter().filter_map(|instance| instance.times);
        let earliest = times().map(|times| times.from).min()?;
        // The first report of an older instance is a baseline: what it counted before is unknown.
        let holes = times().filter(|times| times.from == times.first);
        let earliest = earliest.max(self.unknown_until);
        Some(
            holes
                .map(|times| times.first)
                .fold(earliest, Monotonic::max),
        )
    }

    /// Start of a window of `length` that ends at `until`. It never lies between an instance's
    /// `from` and `first`, where only the total increase is known: the window is shortened, to a
    /// second at least, or else extended over all of that time. `None` if neither is possible.
    pub(super) fn window_start(&self, until: Monotonic, length: Duration) -> Option<Monotonic> {
        let mut start = until.before(length).max(self.known_from()?);
        let partly_known = |start: Monotonic| {
            let mut times = self.instances.iter().filter_map(|instance| instance.times);
            times.find(|times| times.from < start && start < times.first)
        };
        // Moving `start` may put it into another instance's first interval, once for each of them.
        for _ in 0..self.instances.len() {
            let Some(times) = partly_known(start) else {
                break;
            };
            start = times.first;
        }
        if until.since(start) >= SEEN_MIN {
            return Some(start);
        }
        start = until.before(length).max(self.known_from()?);
        for _ in 0..self.instances.len() {
            let Some(times) = partly_known(start) else {
                break;
            };
            start = times.from.max(self.known_from()?);
        }
        if partly_known(start).is_some() {
            return None;
        }
        let covered = until.since(start);
        (SEEN_MIN <= covered && covered <= WINDOWS[WINDOWS.len() - 1].max(length)).then_some(start)
    }

    /// Refuses `candidate` if it was replaced by an instance that is live. Start times are not
    /// compared: a sidecar that starts after its clock was set back is newer all the same.
    fn check_not_replaced(
        &self,
        now: Monotonic,
        pod: &PodKey,
        candidate: &Instance,
    ) -> Result<(), StoreRefusal> {
        if !self.former.contains(&candidate.id) {
            return Ok(());
        }
        let newer = self.current().find(|current| {
            !current.adds_to(candidate)
                && current.stream.is_some()
                && current.liveness(now) == PodState::Live
        });
        newer.map_or(Ok(()), |newer| {
            Err(StoreRefusal::OlderInstance {
                pod: pod.clone(),
                instance: candidate.id,
                newer: newer.id,
            })
        })
    }

    /// Marks totals as incomplete for [`RIVAL`] if another process than `process` serves the pod.
    fn note_rival(&mut self, now: Monotonic, process: ProcessId) {
        if self.current().any(|other| other.process != process) {
            self.unknown_until = self.unknown_until.max(now + RIVAL);
        }
    }

    /// A pod of the same name with another uid is another pod: the record starts anew. Returns the
    /// open streams of the old pod.
    fn reset_if_another_pod(&mut self, hello: &Hello) -> Vec<StreamId> {
        let mut ended = Vec::new();
        if !hello.uid.is_empty() && self.uid != hello.uid {
            if !self.uid.is_empty() {
                ended = self.instances.iter().filter_map(|i| i.stream).collect();
                *self = Self::new(self.last_stream_change);
            }
            self.uid = hello.uid.clone();
        }
        ended
    }

    fn make_room(
        &mut self,
        now: Monotonic,
        hello: &Hello,
        limits: &StoreLimits,
    ) -> Result<(), StoreRefusal> {
        let horizon = now.before(DEPTH);
        self.instances.retain(|i| !Self::is_spent(i, horizon));
        if self.instances.len() < limits.instances_per_pod {
            return Ok(());
        }
        let oldest = self
            .instances
            .iter()
            .enumerate()
            .filter(|(_, i)| i.state == InstanceState::Replaced)
            .min_by_key(|(_, i)| i.times.map(|times| times.until));
        let Some((oldest, _)) = oldest else {
            return Err(StoreRefusal::InstancesPerPod {
                pod: hello.pod.clone(),
                max: limits.instances_per_pod,
            });
        };
        self.instances.remove(oldest);
        Ok(())
    }

    /// True for a replaced instance older than every window.
    fn is_spent(instance: &Instance, horizon: Monotonic) -> bool {
        instance.state == InstanceState::Replaced
            && instance.times.is_none_or(|times| times.until <= horizon)
    }

    fn span(
        &mut self,
        now: Monotonic,
        index: usize,
        link: &Link,
        report: &Report,
        waited: Duration,
    ) -> Result<Span, StoreRefusal> {
        let instance = &mut self.instances[index];
        let ahead = instance
            .clock
            .map(report.interval_end)
            .map_or(Duration::ZERO, |end| end.since(now));
        // Before `observe`, which would take such a time as the clock's offset.
        if ahead > AHEAD_MAX {
            return Err(StoreRefusal::AheadOfClock {
                end_ms: report.interval_end.0,
                ahead,
            });
        }
        if instance.is_next(link.stream, report) {
            let after = instance.made_after(report);
            instance.observe(now, report.interval_end, after, waited);
        }
        let end = instance.clock.map(report.interval_end);
        let end = end.unwrap_or(now).min(now);
        Ok(Span {
            start: end.before(report.interval),
            end,
        })
    }

    /// Time since the last report, or since the counters began at 0.
    fn elapsed(&self, index: usize, span: Span, report: &Report) -> Duration {
        let instance = &self.instances[index];
        match instance.times {
            Some(times) => span.end.since(times.until),
            None if instance.started_at < report.interval_end => {
                report.interval_end.since(instance.started_at)
            }
            // The clock was set back since: the time is unknown.
            None => Duration::MAX,
        }
    }

    /// Makes the instance current; returns the open streams of those it replaces.
    fn make_current(&mut self, now: Monotonic, index: usize) -> Vec<StreamId> {
        if self.instances[index].state == InstanceState::Current {
            return Vec::new();
        }
        let mut replaced = Vec::new();
        let process = self.instances[index].process;
        for other in 0..self.instances.len() {
            let instance = &self.instances[other];
            if instance.adds_to(&self.instances[index]) || instance.state != InstanceState::Current
            {
                continue;
            }
            // A process that has ended has closed its stream, so this one is still serving.
            if instance.stream.is_some() && instance.liveness(now) == PodState::Live {
                self.note_rival(now, process);
            }
            self.instances[other].state = InstanceState::Replaced;
            self.former.push(self.instances[other].id);
            replaced.extend(self.instances[other].stream);
        }
        self.instances[index].state = InstanceState::Current;
        let current = self.instances[index].id;
        self.former.retain(|former| *former != current);
        let spare = self.former.len().saturating_sub(FORMER_MAX);
        self.former.drain(..spare);
        replaced
    }

    /// True if a process continues with other counters. The gap between them is unknown: unreported
    /// counts are lost, and the new counters may include what the old ones reported.
    fn restarted_counters(&self, index: usize) -> bool {
        let instance = &self.instances[index];
        let same_process = |other: &Instance| other.process == instance.process;
        let mut others = self.instances.iter().filter(|other| same_process(other));
        others.any(|other| !other.adds_to(instance))
    }

    /// Takes in a checked report; returns how many of its series exceeded a limit.
    fn store_report(
        &mut self,
        now: Monotonic,
        index: usize,
        link: &Link,
        span: Span,
        report: &Report,
        limits: &StoreLimits,
    ) -> usize {
        let restarted_counters = self.restarted_counters(index);
        let series_total: usize = self.instances.iter().map(|i| i.series.len()).sum();
        let max = limits.series_per_pod * INSTANCES_WITH_ALL_SERIES;
        let mut room = max.saturating_sub(series_total);
        let instance = &mut self.instances[index];
        room = room.min(limits.series_per_pod.saturating_sub(instance.series.len()));

        // A start after the report means that the sidecar's clock was set back in between.
        let start_known = instance.started_at <= report.interval_end && !restarted_counters;
        let began = instance
            .clock
            .map(instance.started_at)
            .filter(|_| start_known);
        let (span, origin) = instance.origin(span, began, report);
        let mut refused = 0;
        let series = instance.series.len();
        for (key, totals) in &report.series {
            match Self::tally(instance, key, &mut room) {
                Some(tally) => tally.apply(span, origin, totals),
                None => refused += 1,
            }
        }
        self.has_new_series |= instance.series.len() > series;
        // Only a snapshot holds every series, so only one that fits proves that none is missing.
        if refused > 0 || report.snapshot {
            instance.incomplete = refused > 0;
        }
        let from = match origin {
            Origin::Zero => span.start,
            Origin::Unknown => span.end,
        };
        instance.record(now, link.stream, began, from, span.end, report);
        refused
    }

    fn tally<'a>(
        instance: &'a mut Instance,
        key: &SeriesKey,
        room: &mut usize,
    ) -> Option<&'a mut Tally> {
        let index = match instance.series.binary_search_by(|(k, _)| k.cmp(key)) {
            Ok(index) => index,
            Err(index) => {
                *room = room.checked_sub(1)?;
                instance
                    .series
                    .insert(index, (key.clone(), Tally::default()));
                index
            }
        };
        Some(&mut instance.series[index].1)
    }
}
