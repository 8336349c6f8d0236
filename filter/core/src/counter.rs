//! The counters of this VM: a bounded table of series with running totals.
//!
//! Request callbacks add to it; they do not allocate, index or panic. [`crate::process`] flushes at
//! each tick what was added since the last one ([`Total::pending`]).

use crate::config::{ResponseDetail, SERIES_MAX};
use crate::host::MetricId;
use crate::series::{Counter, Direction, OTHER, Outcome, Role, SeriesKey};
use crate::time::Monotonic;

mod collecting;

/// Exact statuses a series keeps at most, in a VM and in the process; further ones are counted by
/// class.
pub const CODES_MAX: usize = 32;
/// Series beyond the configured ones: "other" of each role and direction.
const OTHERS_MAX: usize = 6;
const TABLE_MAX: usize = SERIES_MAX + OTHERS_MAX;

/// Place of a series in the table of its VM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SeriesIndex(pub(crate) u16);

/// A running total of this VM, and the part of it that was added to the process-wide metric.
#[derive(Clone, Copy, Debug, Default)]
pub struct Total {
    pub value: u64,
    /// Part of `value` that was added to the process-wide metric.
    pub flushed: u64,
    /// The process-wide metric, once defined.
    pub metric: Option<MetricId>,
    /// Whether the metric was read back after an addition.
    pub proven: bool,
}

/// One series of this VM.
#[derive(Clone, Debug)]
pub struct Series {
    pub key: SeriesKey,
    pub detail: ResponseDetail,
    /// Number of exact statuses with which the series is in the process's list.
    pub listed: Option<usize>,
    /// The process's list is full: these counts move to "other".
    pub refused: bool,
    events: Total,
    inflight: Total,
    inflight_nanos: Total,
    classes: [Total; Outcome::CLASSES as usize],
    codes: Vec<CodeTotal>,
    advanced_at: Monotonic,
}

/// Responses of one exact status.
#[derive(Clone, Copy, Debug)]
struct CodeTotal {
    code: u16,
    total: Total,
    /// The process's list has no room for it: these counts move to the class.
    refused: bool,
}

/// Counts of what a limit affected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refused {
    /// Requests counted under "other" since the table of series was full.
    pub series_overflow: Total,
    /// Requests left out of `inflight` since the table of open requests was full.
    pub untracked_streams: Total,
    /// Responses counted by class since the table of exact statuses was full.
    pub code_overflow: Total,
}

/// The table of series of a VM.
#[derive(Debug, Default)]
pub struct Counters {
    series: Vec<Series>,
    pub refused: Refused,
    /// Others count for this table ([`Counters::collect`]) and integrate `inflight` themselves.
    collects: bool,
}

// === impl Total ===

impl Total {
    #[inline]
    fn add(&mut self, amount: u64) {
        self.value = self.value.wrapping_add(amount);
    }

    /// The part not yet added to the process-wide metric; negative only for `inflight`.
    pub fn pending(&self) -> i64 {
        self.value.wrapping_sub(self.flushed).cast_signed()
    }
}

// === impl Series ===

impl Series {
    fn new(key: SeriesKey, detail: ResponseDetail) -> Self {
        let codes = if detail == ResponseDetail::Code {
            Vec::with_capacity(CODES_MAX)
        } else {
            Vec::new()
        };
        Self {
            key,
            detail,
            listed: None,
            refused: false,
            events: Total::default(),
            inflight: Total::default(),
            inflight_nanos: Total::default(),
            classes: [Total::default(); Outcome::CLASSES as usize],
            codes,
            advanced_at: Monotonic::default(),
        }
    }

    /// Advances the integral of `inflight` to `now`.
    #[inline]
    fn advance(&mut self, now: Monotonic) {
        let nanos = now.nanos_since(self.advanced_at);
        self.inflight_nanos
            .add(nanos.wrapping_mul(self.inflight.value));
        self.advanced_at = now;
    }

    /// Counts a response; true if its exact status did not fit.
    #[inline]
    fn respond(&mut self, status: impl FnOnce() -> Option<u16>) -> bool {
        if self.detail == ResponseDetail::Off {
            return false;
        }
        let status = status();
        let class = Outcome::class(status);
        let mut overflow = false;
        if self.detail == ResponseDetail::Code
            && let Some(Outcome(status)) = Outcome::exact(status)
        {
            if let Some(known) = self.codes.iter_mut().find(|known| known.code == status) {
                known.total.add(1);
                return false;
            }
            if self.codes.len() < CODES_MAX {
                let mut total = Total::default();
                total.add(1);
                self.codes.push(CodeTotal {
                    code: status,
                    total,
                    refused: false,
                });
                return false;
            }
            overflow = true;
        }
        if let Some(total) = self.classes.get_mut(usize::from(class.0)) {
            total.add(1);
        }
        overflow
    }

    /// Exact statuses seen so far.
    pub fn codes(&self) -> impl Iterator<Item = u16> + '_ {
        self.codes.iter().map(|known| known.code)
    }

    /// Marks an exact status that the process's list has no room for.
    pub fn refuse_code(&mut self, code: u16) {
        for known in self.codes.iter_mut().filter(|known| known.code == code) {
            known.refused = true;
        }
    }

    /// Moves pending counts of refused exact statuses to their classes; returns their sum.
    pub fn move_refused_codes(&mut self) -> u64 {
        let mut moved = 0_u64;
        for known in self.codes.iter_mut().filter(|known| known.refused) {
            let pending = known.total.pending().cast_unsigned();
            known.total.flushed = known.total.value;
            let class = Outcome::class(Some(known.code));
            if let Some(total) = self.classes.get_mut(usize::from(class.0)) {
                total.add(pending);
                moved = moved.wrapping_add(pending);
            }
        }
        moved
    }

    /// Each counter with its total, requests before their responses: a reader then never sees more
    /// responses than requests.
    pub fn totals_mut(&mut self) -> impl Iterator<Item = (Counter, &mut Total)> {
        let classes = (0_u16..).zip(&mut self.classes);
        let codes = self
            .codes
            .iter_mut()
            .map(|known| (known.code, &mut known.total));
        [
            (Counter::Events, &mut self.events),
            (Counter::Inflight, &mut self.inflight),
            (Counter::InflightNanos, &mut self.inflight_nanos),
        ]
        .into_iter()
        .chain(
            classes
                .chain(codes)
                .map(|(code, total)| (Counter::Responses(Outcome(code)), total)),
        )
    }

    /// Value of a counter since the VM started.
    pub fn value(&self, counter: Counter) -> u64 {
        match counter {
            Counter::Events => self.events.value,
            Counter::Inflight => self.inflight.value,
            Counter::InflightNanos => self.inflight_nanos.value,
            Counter::Responses(outcome) if outcome.is_exact() => self
                .codes
                .iter()
                .find(|known| known.code == outcome.0)
                .map_or(0, |known| known.total.value),
            Counter::Responses(outcome) => self
                .classes
                .get(usize::from(outcome.0))
                .map_or(0, |total| total.value),
        }
    }
}

// === impl Counters ===

impl Counters {
    /// Finds or adds the series of a key. At the limit of `max` series, returns "other" and true.
    pub fn resolve(
        &mut self,
        role: Role,
        direction: Direction,
        cluster: &str,
        detail: ResponseDetail,
        max: usize,
    ) -> Option<(SeriesIndex, bool)> {
        if let Some(found) = self.find(role, direction, cluster) {
            return Some((found, false));
        }
        let configured = self
            .series
            .iter()
            .filter(|series| series.key.cluster != OTHER)
            .count();
        if configured < max {
            return Some((self.add(role, direction, cluster, detail)?, false));
        }
        Some((self.other(role, direction, detail)?, true))
    }

    /// The series "other" of a role and direction.
    pub fn other(
        &mut self,
        role: Role,
        direction: Direction,
        detail: ResponseDetail,
    ) -> Option<SeriesIndex> {
        self.find(role, direction, OTHER)
            .or_else(|| self.add(role, direction, OTHER, detail))
    }

    fn find(&self, role: Role, direction: Direction, cluster: &str) -> Option<SeriesIndex> {
        let position = self
            .series
            .iter()
            .position(|series| series.key.role == role && series.key.meets(direction, cluster))?;
        u16::try_from(position).ok().map(SeriesIndex)
    }

    fn add(
        &mut self,
        role: Role,
        direction: Direction,
        cluster: &str,
        detail: ResponseDetail,
    ) -> Option<SeriesIndex> {
        if self.series.len() >= TABLE_MAX {
            return None;
        }
        let index = u16::try_from(self.series.len()).ok()?;
        let key = SeriesKey {
            role,
            direction,
            cluster: cluster.to_owned(),
        };
        self.series.push(Series::new(key, detail));
        Some(SeriesIndex(index))
    }

    /// Whether the series at `index` has this key: checks a guess without a search.
    #[inline]
    pub fn is_series(
        &self,
        index: SeriesIndex,
        role: Role,
        direction: Direction,
        cluster: &str,
    ) -> bool {
        self.get(index)
            .is_some_and(|series| series.key.role == role && series.key.meets(direction, cluster))
    }

    /// Whether the series at `index` is that of `cluster`: checks a guess without a search.
    pub fn is_cluster(&self, index: SeriesIndex, cluster: &[u8]) -> bool {
        self.get(index)
            .is_some_and(|series| series.key.cluster.as_bytes() == cluster)
    }

    pub fn get(&self, index: SeriesIndex) -> Option<&Series> {
        self.series.get(usize::from(index.0))
    }

    #[inline]
    fn get_mut(&mut self, index: SeriesIndex) -> Option<&mut Series> {
        self.series.get_mut(usize::from(index.0))
    }

    /// Sets all totals to 0 except `inflight`: those requests are still open.
    pub fn restart(&mut self) {
        for series in &mut self.series {
            for (counter, total) in series.totals_mut() {
                if counter != Counter::Inflight {
                    total.value = 0;
                }
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Series> {
        self.series.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Series> {
        self.series.iter_mut()
    }

    /// Counts a request or attempt: at its beginning, or at its end in an access logger.
    #[inline]
    pub fn event(&mut self, index: SeriesIndex) {
        if let Some(series) = self.get_mut(index) {
            series.events.add(1);
        }
    }

    /// Adds a request to `inflight`.
    #[inline]
    pub fn enter(&mut self, index: SeriesIndex, now: Monotonic) {
        if let Some(series) = self.get_mut(index) {
            series.advance(now);
            series.inflight.add(1);
        }
    }

    /// Removes a request that [`Self::enter`]ed from `inflight`.
    #[inline]
    pub fn leave(&mut self, index: SeriesIndex, now: Monotonic) {
        if let Some(series) = self.get_mut(index) {
            series.advance(now);
            series.inflight.value = series.inflight.value.saturating_sub(1);
        }
    }

    /// Counts a response. Calls `status` only if responses are counted.
    #[inline]
    pub fn respond(&mut self, index: SeriesIndex, status: impl FnOnce() -> Option<u16>) {
        let overflow = self
            .get_mut(index)
            .is_some_and(|series| series.respond(status));
        if overflow {
            self.refused.code_overflow.add(1);
        }
    }

    pub fn overflowed(&mut self) {
        self.refused.series_overflow.add(1);
    }

    pub fn untracked(&mut self) {
        self.refused.untracked_streams.add(1);
    }

    /// Advances the integrals of `inflight` to `now`.
    pub fn advance(&mut self, now: Monotonic) {
        if self.collects {
            return;
        }
        for series in &mut self.series {
            if series.inflight.value > 0 {
                series.advance(now);
            }
        }
    }

    /// Moves counts that the process's list has no room for: refused series to "other", refused
    /// exact statuses to their classes.
    pub fn move_refused(&mut self) {
        for series in &mut self.series {
            let moved = series.move_refused_codes();
            self.refused.code_overflow.add(moved);
        }
        for position in 0..self.series.len() {
            let Some(series) = self.series.get(position).filter(|series| series.refused) else {
                continue;
            };
            let (role, direction, detail) = (series.key.role, series.key.direction, series.detail);
            let Some(other) = self.other(role, direction, detail) else {
                continue;
            };
            let moved: Vec<(Counter, i64)> = self
                .series
                .get_mut(position)
                .into_iter()
                .flat_map(Series::totals_mut)
                .map(|(counter, total)| {
                    let pending = total.pending();
                    total.flushed = total.value;
                    (counter, pending)
                })
                .filter(|(_, pending)| *pending != 0)
                .collect();
            for (counter, pending) in moved {
                self.take_over(other, counter, pending);
            }
        }
    }

    fn take_over(&mut self, other: SeriesIndex, counter: Counter, pending: i64) {
        let amount = pending.cast_unsigned();
        if counter == Counter::Events {
            self.refused.series_overflow.add(amount);
        }
        let Some(series) = self.get_mut(other) else {
            return;
        };
        let target = match counter {
            // By class: "other" may have no room for the exact status.
            Counter::Responses(outcome) if outcome.is_exact() => {
                Counter::Responses(Outcome::class(Some(outcome.0)))
            }
            counter => counter,
        };
        for (counter, total) in series.totals_mut() {
            if counter == target {
                total.add(amount);
            }
        }
    }
}

#[cfg(test)]
mod tests;
