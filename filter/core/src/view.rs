//! The totals of all series as last read, and the version in which each changed last.
//!
//! A reading that found a change has a version number. From the last acknowledged version a stream
//! knows which series to send.

use proto::v1;

use crate::catalog::{Catalog, Listed};
use crate::config::ResponseDetail;
use crate::counter::Counters;
use crate::host::{Host, MetricId, MetricKind};
use crate::process::{REFUSED_NAMES, counters_of};
use crate::series::{Counter, Direction, Outcome, Role, metric_name};
use crate::time::Monotonic;

/// Number of a reading that found a change. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u64);

#[derive(Debug, Default)]
pub struct View {
    series: Vec<ViewSeries>,
    refused: [Reading; 3],
    version: Version,
    changed_at: Option<Monotonic>,
    listings: Option<u64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    Totals,
    /// A total fell: the counters were reset.
    Fall,
}

/// One series on the wire: the counters of all roles of one direction and cluster.
#[derive(Debug)]
struct ViewSeries {
    direction: Direction,
    cluster: String,
    changed: Version,
    counters: Vec<(Role, Counter, Reading)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    metric: Option<MetricId>,
    value: u64,
}

// === impl View ===

impl View {
    /// The newest version; at least 1 after a reading.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Time of the last reading that found a change.
    pub fn changed_at(&self) -> Option<Monotonic> {
        self.changed_at
    }

    /// Reads the process-wide totals, and the list of series if `listings` changed.
    pub fn read_process(&mut self, host: &impl Host, now: Monotonic, listings: u64) -> Found {
        if self.listings != Some(listings)
            && let Some(catalog) = Catalog::read(host)
        {
            catalog.iter().for_each(|listed| self.learn(listed));
            self.listings = Some(listings);
        }
        let read = |kind, name: &dyn Fn() -> String, reading: &mut Reading| {
            if reading.metric.is_none() {
                reading.metric = host.define_metric(kind, &name()).ok();
            }
            reading.metric.and_then(|id| host.read_metric(id).ok())
        };
        let mut found = Found::Totals;
        let next = Version(self.version.0.saturating_add(1));
        let mut changed = self.version == Version(0);
        for series in &mut self.series {
            for (role, counter, reading) in &mut series.counters {
                let name = || metric_name(*role, series.direction, &series.cluster, *counter);
                let Some(value) = read(counter.kind(), &name, reading) else {
                    continue;
                };
                let may_fall = matches!(counter, Counter::Inflight | Counter::InflightNanos);
                if value < reading.value && !may_fall {
                    found = Found::Fall;
                }
                if value != reading.value {
                    reading.value = value;
                    series.changed = next;
                }
            }
            changed |= series.changed == next;
        }
        for (name, reading) in REFUSED_NAMES.iter().zip(&mut self.refused) {
            let value = read(MetricKind::Counter, &|| (*name).to_owned(), reading);
            reading.value = value.unwrap_or(reading.value);
        }
        if changed {
            self.version = next;
            self.changed_at = Some(now);
        }
        found
    }

    /// Copies the totals of this VM.
    pub fn read_vm(&mut self, counters: &Counters, now: Monotonic) {
        let next = Version(self.version.0.saturating_add(1));
        let mut changed = self.version == Version(0);
        for series in counters.iter() {
            self.learn(&Listed {
                key: series.key.clone(),
                responses: series.detail != ResponseDetail::Off,
                codes: series.codes().collect(),
            });
            let key = &series.key;
            let Some(on_wire) = self
                .series
                .iter_mut()
                .find(|on_wire| key.meets(on_wire.direction, &on_wire.cluster))
            else {
                continue;
            };
            for (role, counter, reading) in &mut on_wire.counters {
                let value = series.value(*counter);
                if *role == key.role && value != reading.value {
                    reading.value = value;
                    on_wire.changed = next;
                }
            }
            changed |= on_wire.changed == next;
        }
        let refused = &counters.refused;
        let totals = [
            refused.series_overflow,
            refused.untracked_streams,
            refused.code_overflow,
        ];
        for (reading, total) in self.refused.iter_mut().zip(totals) {
            reading.value = total.value;
        }
        if changed {
            self.version = next;
            self.changed_at = Some(now);
        }
    }

    /// Marks all series as changed, so that they are sent again.
    pub fn touch(&mut self) {
        self.version = Version(self.version.0.saturating_add(1));
        for series in &mut self.series {
            series.changed = self.version;
        }
    }

    /// Drops all values, for counters of another instance.
    pub fn forget(&mut self) {
        *self = Self {
            version: self.version,
            changed_at: self.changed_at,
            ..Self::default()
        };
    }

    /// Adds a series and its counters, unless they exist.
    fn learn(&mut self, listed: &Listed) {
        let key = &listed.key;
        let next = Version(self.version.0.saturating_add(1));
        let position = self
            .series
            .iter()
            .position(|series| key.meets(series.direction, &series.cluster));
        if position.is_none() {
            self.series.push(ViewSeries {
                direction: key.direction,
                cluster: key.cluster.clone(),
                changed: next,
                counters: Vec::new(),
            });
        }
        let found = match position {
            Some(position) => self.series.get_mut(position),
            None => self.series.last_mut(),
        };
        let Some(series) = found else { return };
        for counter in counters_of(listed) {
            // In the order of `Counter`: requests are read after their responses.
            let after = series
                .counters
                .partition_point(|(role, other, _)| (*other, *role) < (counter, key.role));
            let at = series.counters.get(after);
            if at.is_some_and(|(role, other, _)| (*other, *role) == (counter, key.role)) {
                continue;
            }
            let new = (key.role, counter, Reading::default());
            series.counters.insert(after, new);
            series.changed = next;
        }
    }

    /// The series that changed after `version`.
    pub fn since(&self, version: Version) -> Vec<v1::Series> {
        self.series
            .iter()
            .filter(|series| series.changed > version)
            .map(ViewSeries::wire)
            .collect()
    }

    /// `None` if no limit was reached.
    pub fn refused(&self) -> Option<v1::Refused> {
        let [series, streams, codes] = self.refused;
        let refused = v1::Refused {
            series_overflow: series.value,
            untracked_streams: streams.value,
            code_overflow: codes.value,
        };
        (refused != v1::Refused::default()).then_some(refused)
    }
}

// === impl ViewSeries ===

impl ViewSeries {
    fn value(&self, role: Role, counter: Counter) -> Option<u64> {
        self.counters
            .iter()
            .find(|(found, other, _)| *found == role && *other == counter)
            .map(|(_, _, reading)| reading.value)
    }

    fn wire(&self) -> v1::Series {
        let begun = self.value(Role::Filter, Counter::Events);
        let completed = self.value(Role::AccessLog, Counter::Events);
        let counts_responses = |role: Role| {
            self.value(role, Counter::Responses(Outcome(0)))
                .map(|_| role)
        };
        let of = counts_responses(Role::Filter).or_else(|| counts_responses(Role::AccessLog));
        let responses: Vec<v1::Responses> = self
            .counters
            .iter()
            .filter(|(role, _, reading)| Some(*role) == of && reading.value > 0)
            .filter_map(|(_, counter, reading)| match counter {
                Counter::Responses(outcome) => Some(v1::Responses {
                    code: u32::from(outcome.0),
                    total: reading.value,
                }),
                _ => None,
            })
            .collect();
        v1::Series {
            direction: match self.direction {
                Direction::Inbound => v1::Direction::Inbound.into(),
                Direction::Outbound => v1::Direction::Outbound.into(),
            },
            cluster: self.cluster.clone(),
            requests: begun.or(completed),
            requests_at_completion: begun.is_none() && completed.is_some(),
            upstream_attempts: self.value(Role::UpstreamLog, Counter::Events),
            responses,
            // A negative sum is wrong, so `inflight` is unknown then.
            inflight: self
                .value(Role::Filter, Counter::Inflight)
                .filter(|value| i64::try_from(*value).is_ok()),
            inflight_ns: self.value(Role::Filter, Counter::InflightNanos),
        }
    }
}
