//! What is held of one pod: its instances, its clock, its state.

use std::sync::Arc;
use std::time::Duration;

use crate::history::DEPTH;
use crate::limits::{AHEAD_MAX, FORGET_AFTER, INSTANCES_PER_POD_MAX, RIVAL, SEEN_MIN, StoreLimits};
use crate::pod::PodKey;
use crate::query::WINDOWS;
use crate::report::{Hello, InstanceId, ProcessId, Report, StreamId};
use crate::series::{Direction, SeriesKey};
use crate::sidecar_clock::LATE_MAX;
use crate::status::PodState;
use crate::store::counter::{Origin, Span};
use crate::store::instance::{Instance, InstanceState, Newest};
use crate::store::refused::StoreRefusal;
use crate::store::tally::Tally;
use crate::store::{Applied, Connected, Link, validate};
use common_time::Monotonic;

/// Series of all instances of a pod together, as a multiple of the limit of one: where each Wasm VM
/// streams for itself, every VM has the same series.
const INSTANCES_WITH_ALL_SERIES: usize = 4;

/// Instances of a pod that are remembered after others took their place: as many as one process may
/// have.
const FORMER_MAX: usize = INSTANCES_PER_POD_MAX;

/// One pod. Times are on the aggregator's clock unless they say otherwise.
#[derive(Debug)]
pub(super) struct PodRecord {
    /// "" until a sidecar told.
    pub(super) uid: Arc<str>,
    pub(super) instances: Vec<Instance>,
    /// Expected and live Wasm VMs, as of the newest interval.
    pub(super) vms: (u32, u32),
    /// Instances that others took the place of, the last ones, the newest at the end.
    former: Vec<InstanceId>,
    /// Until then more than one Envoy process serves the pod, or did: what was counted before is
    /// not all.
    unknown_until: Monotonic,
    /// When a stream last opened or closed.
    touched: Monotonic,
    /// True if a series was added since anyone asked.
    grown: bool,
}

// === impl PodRecord ===

impl PodRecord {
    pub(super) fn new(now: Monotonic) -> Self {
        Self {
            uid: Arc::from(""),
            instances: Vec::new(),
            vms: (0, 0),
            former: Vec::new(),
            unknown_until: Monotonic::default(),
            touched: now,
            grown: false,
        }
    }

    pub(super) fn connect(
        &mut self,
        now: Monotonic,
        stream: StreamId,
        hello: &Hello,
        limits: &StoreLimits,
    ) -> Result<Connected, StoreRefusal> {
        let candidate = Instance::new(hello);
        let checked = self.check_not_former(now, &hello.pod, &candidate);
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
        self.touched = now;
        // A stream is opened while an older one still reports, and its hello may be late.
        let after = self.instances[index]
            .seen
            .map(|seen| seen.until.before(LATE_MAX));
        self.instances[index].observe(now, hello.clock, after);
        let was_hot_restart =
            std::mem::replace(&mut self.instances[index].hot_restart, hello.hot_restart);
        if was_hot_restart && !hello.hot_restart {
            // The process knows that its parent is gone: from now on it counts all.
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
    ) -> Result<Applied, StoreRefusal> {
        let unknown = || StoreRefusal::UnknownStream {
            pod: link.pod.clone(),
        };
        let index = self.instances.iter().position(|i| i.id == link.instance);
        let index = index.ok_or_else(unknown)?;
        let instance = &self.instances[index];
        if instance.standing != InstanceState::Current {
            let checked = self.check_not_former(now, &link.pod, instance);
            let process = instance.process;
            checked.inspect_err(|_| self.note_rival(now, process))?;
        }
        let span = self.span(now, index, link, report)?;
        let elapsed = self.elapsed(index, span, report);
        validate::check(&self.instances[index], elapsed, report)?;
        let replaced = self.make_current(now, index);
        if self.instances[index].hot_restart {
            self.unknown_until = self.unknown_until.max(now);
        }
        let refused = self.take(now, index, link, span, report, limits);
        let seen = self.instances[index].seen;
        if seen.is_some_and(|seen| span.end >= seen.until) {
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
                self.touched = now;
            }
        }
        self.instances
            .retain(|i| i.standing != InstanceState::Pending || i.stream.is_some());
    }

    /// True if the pod has series it did not have when this was last asked.
    pub(super) fn take_grown(&mut self) -> bool {
        std::mem::take(&mut self.grown)
    }

    /// Names of the upstream clusters that the pod calls.
    pub(super) fn called_clusters(&self) -> Vec<Arc<str>> {
        let series = self.instances.iter().flat_map(|i| &i.series);
        let called = series.filter(|(key, _)| key.direction == Direction::Outbound);
        called.map(|(key, _)| Arc::clone(&key.cluster)).collect()
    }

    /// How well the pod is known.
    pub(super) fn state(&self, now: Monotonic) -> PodState {
        let known = self
            .current()
            .map(|instance| instance.state(now))
            .filter(|state| *state != PodState::Gone)
            .max();
        let Some(known) = known else {
            let told = self.current().next().is_some();
            return if told { PodState::Gone } else { PodState::New };
        };
        match (self.until(now), self.known_from()) {
            (Some(until), Some(from)) if until.since(from) >= SEEN_MIN => known,
            _ => PodState::New,
        }
    }

    /// True while more than one Envoy process serves the pod, of which only one counts here.
    pub(super) fn has_rivals(&self, now: Monotonic) -> bool {
        let in_hot_restart = |i: &Instance| i.hot_restart && i.standing != InstanceState::Replaced;
        now < self.unknown_until || self.instances.iter().any(in_hot_restart)
    }

    /// When the pod may be forgotten if nothing more is heard; `None` while a stream has yet to
    /// report.
    pub(super) fn forget_at(&self) -> Option<Monotonic> {
        let pending = |i: &Instance| i.standing == InstanceState::Pending && i.stream.is_some();
        if self.instances.iter().any(pending) {
            return None;
        }
        let gone = self.current().filter_map(Instance::gone_at).max();
        Some(gone.unwrap_or(self.touched) + FORGET_AFTER)
    }

    /// When the oldest current instance began; `None` before the first report.
    pub(super) fn started_at(&self) -> Option<Monotonic> {
        let seen = self.current().filter_map(|instance| instance.seen);
        seen.filter_map(|seen| seen.began).min()
    }

    /// Drops what is out of reach of every window.
    pub(super) fn trim(&mut self, now: Monotonic) {
        let horizon = now.before(DEPTH);
        self.instances.retain(|i| !Self::is_spent(i, horizon));
        for instance in &mut self.instances {
            for (_, tally) in &mut instance.series {
                tally.forget(horizon);
            }
        }
    }

    /// Instances whose totals are the pod's.
    pub(super) fn current(&self) -> impl Iterator<Item = &Instance> {
        self.instances
            .iter()
            .filter(|i| i.standing == InstanceState::Current)
    }

    /// The newest moment that every instance which is not gone has told of.
    pub(super) fn until(&self, now: Monotonic) -> Option<Monotonic> {
        self.newest(now).map(|(until, _)| until)
    }

    /// The newest moment that every instance which is not gone has told of, and how that was told.
    pub(super) fn newest(&self, now: Monotonic) -> Option<(Monotonic, Newest)> {
        self.current()
            .filter(|instance| instance.state(now) != PodState::Gone)
            .filter_map(|instance| instance.seen.map(|seen| (seen.until, seen.newest)))
            .min_by_key(|(until, _)| *until)
    }

    /// The earliest moment since when every increase is known.
    pub(super) fn known_from(&self) -> Option<Monotonic> {
        let seen = || self.instances.iter().filter_map(|instance| instance.seen);
        let earliest = seen().map(|seen| seen.from).min()?;
        // An instance that began before it was known leaves a hole before its first report.
        let holes = seen().filter(|seen| seen.from == seen.first);
        let earliest = earliest.max(self.unknown_until);
        Some(holes.map(|seen| seen.first).fold(earliest, Monotonic::max))
    }

    /// Where a window of `length` that ends at `until` begins. It never begins within the time
    /// before an instance's first report, of which only the sum is known: such a window is cut
    /// short to a second at least, or else drawn out over all of that time. `None` if neither can
    /// be.
    pub(super) fn window_start(&self, until: Monotonic, length: Duration) -> Option<Monotonic> {
        let mut start = until.before(length).max(self.known_from()?);
        let opening = |start: Monotonic| {
            let mut seen = self.instances.iter().filter_map(|instance| instance.seen);
            seen.find(|seen| seen.from < start && start < seen.first)
        };
        for _ in 0..self.instances.len() {
            let Some(seen) = opening(start) else { break };
            start = seen.first;
        }
        if until.since(start) >= SEEN_MIN {
            return Some(start);
        }
        start = until.before(length).max(self.known_from()?);
        for _ in 0..self.instances.len() {
            let Some(seen) = opening(start) else { break };
            start = seen.from.max(self.known_from()?);
        }
        if opening(start).is_some() {
            return None;
        }
        let covered = until.since(start);
        let longest = WINDOWS[WINDOWS.len() - 1];
        (SEEN_MIN <= covered && covered <= longest.max(length)).then_some(start)
    }

    /// Refuses `candidate` if another took its place and is live: an old stream tells nothing new,
    /// however late it is heard. Where none is, the one that speaks is right. When either began
    /// does not matter: a sidecar that starts after its clock was set back is newer all the same.
    fn check_not_former(
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
                && current.state(now) == PodState::Live
        });
        newer.map_or(Ok(()), |newer| {
            Err(StoreRefusal::OlderInstance {
                pod: pod.clone(),
                instance: candidate.id,
                newer: newer.id,
            })
        })
    }

    /// `process` is heard, and another one that serves the pod too.
    fn note_rival(&mut self, now: Monotonic, process: ProcessId) {
        if self.current().any(|other| other.process != process) {
            self.unknown_until = self.unknown_until.max(now + RIVAL);
        }
    }

    /// A pod of the same name with another uid is another pod: nothing of the old one counts for
    /// it. Returns the open streams of the old one.
    fn reset_if_another_pod(&mut self, hello: &Hello) -> Vec<StreamId> {
        let mut ended = Vec::new();
        if !hello.uid.is_empty() && self.uid != hello.uid {
            if !self.uid.is_empty() {
                ended = self.instances.iter().filter_map(|i| i.stream).collect();
                *self = Self::new(self.touched);
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
            .filter(|(_, i)| i.standing == InstanceState::Replaced)
            .min_by_key(|(_, i)| i.seen.map(|seen| seen.until));
        let Some((oldest, _)) = oldest else {
            return Err(StoreRefusal::InstancesPerPod {
                pod: hello.pod.clone(),
                max: limits.instances_per_pod,
            });
        };
        self.instances.remove(oldest);
        Ok(())
    }

    /// True for a replaced instance that no window reaches any more.
    fn is_spent(instance: &Instance, horizon: Monotonic) -> bool {
        instance.standing == InstanceState::Replaced
            && instance.seen.is_none_or(|seen| seen.until <= horizon)
    }

    /// The interval of `report` on our clock.
    fn span(
        &mut self,
        now: Monotonic,
        index: usize,
        link: &Link,
        report: &Report,
    ) -> Result<Span, StoreRefusal> {
        let instance = &mut self.instances[index];
        let ahead = instance
            .clock
            .map(report.interval_end)
            .map_or(Duration::ZERO, |end| end.since(now));
        if ahead > AHEAD_MAX {
            return Err(StoreRefusal::AheadOfClock {
                end_ms: report.interval_end.0,
                ahead,
            });
        }
        if instance.is_next(link.stream, report) {
            let after = instance.made_after(report);
            instance.observe(now, report.interval_end, after);
        }
        let end = instance.clock.map(report.interval_end);
        let end = end.unwrap_or(now).min(now);
        Ok(Span {
            start: end.before(report.interval),
            end,
        })
    }

    /// Time in which the totals of `report` rose to what they are.
    fn elapsed(&self, index: usize, span: Span, report: &Report) -> Duration {
        let instance = &self.instances[index];
        match instance.seen {
            Some(seen) => span.end.since(seen.until),
            None if instance.started_at < report.interval_end => {
                report.interval_end.since(instance.started_at)
            }
            // The clock was set back since: there is no telling.
            None => Duration::MAX,
        }
    }

    /// Makes the instance one whose totals are the pod's; returns the open streams of those it
    /// replaces.
    fn make_current(&mut self, now: Monotonic, index: usize) -> Vec<StreamId> {
        if self.instances[index].standing == InstanceState::Current {
            return Vec::new();
        }
        let mut replaced = Vec::new();
        let process = self.instances[index].process;
        for other in 0..self.instances.len() {
            let instance = &self.instances[other];
            if instance.adds_to(&self.instances[index])
                || instance.standing != InstanceState::Current
            {
                continue;
            }
            // A process that ended has closed its stream.
            if instance.stream.is_some() && instance.state(now) == PodState::Live {
                self.note_rival(now, process);
            }
            self.instances[other].standing = InstanceState::Replaced;
            self.former.push(self.instances[other].id);
            replaced.extend(self.instances[other].stream);
        }
        self.instances[index].standing = InstanceState::Current;
        let current = self.instances[index].id;
        self.former.retain(|former| *former != current);
        let spare = self.former.len().saturating_sub(FORMER_MAX);
        self.former.drain(..spare);
        replaced
    }

    /// True if a process goes on with other counters than before. Between the old and the new there
    /// is a hole: what was counted and not told is lost, and what the new ones hold may have been
    /// told by the old.
    fn goes_on(&self, index: usize) -> bool {
        let instance = &self.instances[index];
        let same_process = |other: &Instance| other.process == instance.process;
        let mut others = self.instances.iter().filter(|other| same_process(other));
        others.any(|other| !other.adds_to(instance))
    }

    /// Takes in a checked report; returns how many of its series had no room.
    fn take(
        &mut self,
        now: Monotonic,
        index: usize,
        link: &Link,
        span: Span,
        report: &Report,
        limits: &StoreLimits,
    ) -> usize {
        let goes_on = self.goes_on(index);
        let of_all: usize = self.instances.iter().map(|i| i.series.len()).sum();
        let max = limits.series_per_pod * INSTANCES_WITH_ALL_SERIES;
        let mut room = max.saturating_sub(of_all);
        let instance = &mut self.instances[index];
        room = room.min(limits.series_per_pod.saturating_sub(instance.series.len()));

        let lately = instance.started_at <= report.interval_end;
        let known = lately && !goes_on;
        let began = instance.clock.map(instance.started_at).filter(|_| known);
        let (span, origin) = instance.origin(span, began, report);
        let mut refused = 0;
        let series = instance.series.len();
        for (key, told) in &report.series {
            match Self::tally(instance, key, &mut room) {
                Some(tally) => tally.apply(span, origin, told),
                None => refused += 1,
            }
        }
        self.grown |= instance.series.len() > series;
        if refused > 0 || report.snapshot {
            instance.incomplete = refused > 0;
        }
        let from = match origin {
            Origin::Zero => span.start,
            Origin::Unknown => span.end,
        };
        instance.took(now, link.stream, began, from, span.end, report);
        refused
    }

    /// The tally of `key`; a new one as long as there is `room`.
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
