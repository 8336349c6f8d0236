//! Process-wide totals: Envoy counters to which every VM adds, and which any VM can read.
//!
//! They live as long as the process, also while VMs trap, are replaced or reconfigured.
//! `meshmeter.instance` and `meshmeter.started_at_ms` are metrics too, so that they live as long.
//! Three faults of such counters are detected:
//! - a `stats_matcher` in the bootstrap hides them: they accept additions and read 0. Each VM
//!   reads back a probe before it relies on them, and each counter after its first addition;
//! - `/reset_counters` sets them to 0. It also resets a sentinel that is never 0 otherwise;
//! - a hot restart adds the parent's counters and gauges to those of the same name in the child.
//!   Then the gauge `meshmeter.instance` reads another value than was just set. The child's
//!   counters are useless from then on, also after the parent has ended, which removes its gauges
//!   but not its counts.

use std::cell::Cell;

use crate::catalog::{Catalog, Listed, Listing};
use crate::config::ResponseDetail;
use crate::counter::{Counters, Refused, Series, Total};
use crate::host::{Host, HostError, MetricId, MetricKind};
use crate::series::{Counter, Outcome, Role};
use crate::time::UnixMillis;

/// Names of the counters of [`Refused`], in the order of [`Refused::totals_mut`].
pub(crate) const REFUSED_NAMES: [&str; 3] = [
    "meshmeter.refused.series_overflow",
    "meshmeter.refused.untracked_streams",
    "meshmeter.refused.code_overflow",
];

/// Value of `meshmeter.instance` in a process whose counters include a parent's. Never an instance.
const MERGED: u64 = 1;

/// Metrics that describe the counters.
#[derive(Clone, Copy, Debug)]
struct Metrics {
    /// Gauge: random ID of the counters' lifetime.
    instance: MetricId,
    /// Gauge: start of that lifetime, Unix time in milliseconds.
    started_at: MetricId,
    /// Counter: never 0 during that lifetime.
    sentinel: MetricId,
    /// Counter: incremented with each flush of a VM.
    changes: MetricId,
    /// Gauge: incremented with each change of the list of series.
    listings: MetricId,
}

/// The current lifetime of the counters, which ends with a reset, and its change counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CounterEpoch {
    /// Random ID.
    pub instance: u64,
    pub started_at: UnixMillis,
    /// Whether the counters were set to 0 since `started_at`.
    pub was_reset: bool,
    /// Differs after each flush of a VM.
    pub changes: u64,
    /// Differs after each change of the list of series.
    pub listings: u64,
}

/// One VM's access to the process-wide totals.
#[derive(Debug, Default)]
pub struct ProcessTotals {
    metrics: Option<Metrics>,
    /// Last instance that this VM read; 0 before that.
    instance: Cell<u64>,
    /// The gauge `meshmeter.instance`, once the counters include a parent's.
    merged: Option<MetricId>,
}

/// Why process-wide totals cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// They cannot be read back.
    Hidden(String),
    /// Another VM found them unusable.
    Elsewhere,
    /// They include counts of the parent of a hot restart.
    Merged,
}

// === impl Refused ===

impl Refused {
    /// In the order of [`REFUSED_NAMES`].
    fn totals_mut(&mut self) -> [&mut Total; 3] {
        [
            &mut self.series_overflow,
            &mut self.untracked_streams,
            &mut self.code_overflow,
        ]
    }

    fn pending(&mut self) -> bool {
        self.totals_mut().iter().any(|total| total.pending() != 0)
    }
}

// === impl ProcessTotals ===

impl ProcessTotals {
    /// Checks that counters and gauges can be read back, and starts an epoch if there is none.
    /// `started_at` is a time before this VM's first count.
    pub fn probe(&mut self, host: &impl Host, started_at: UnixMillis) -> Result<(), Unusable> {
        if self.metrics.is_none() {
            self.metrics = Some(Self::find(host, started_at)?);
        }
        Ok(())
    }

    fn find(host: &impl Host, started_at: UnixMillis) -> Result<Metrics, Unusable> {
        let counter = |name| host.define_metric(MetricKind::Counter, name);
        let gauge = |name| host.define_metric(MetricKind::Gauge, name);
        let check = || -> Result<Option<Metrics>, HostError> {
            let probe = counter("meshmeter.probe")?;
            let metrics = Metrics {
                instance: gauge("meshmeter.instance")?,
                started_at: gauge("meshmeter.started_at_ms")?,
                sentinel: counter("meshmeter.sentinel")?,
                changes: counter("meshmeter.changes")?,
                listings: gauge("meshmeter.listings")?,
            };
            host.increment_metric(probe, 1)?;
            if host.read_metric(probe)? == 0 {
                // `/reset_counters` may have come between the two calls: check twice.
                host.increment_metric(probe, 1)?;
                if host.read_metric(probe)? == 0 {
                    return Ok(None);
                }
            }
            if host.read_metric(metrics.instance)? == 0 {
                metrics.start_epoch(host, started_at)?;
            }
            let readable = host.read_metric(metrics.instance)? != 0
                && host.read_metric(metrics.started_at)? != 0;
            Ok(readable.then_some(metrics))
        };
        match check() {
            Ok(Some(metrics)) => Ok(metrics),
            Ok(None) => Err(Unusable::Hidden(
                "a `stats_matcher` hides the metrics wasmcustom.meshmeter".to_owned(),
            )),
            Err(_) => Err(Unusable::Hidden("the host refuses metrics".to_owned())),
        }
    }

    pub fn has_instance(&self) -> bool {
        self.instance.get() != 0
    }

    /// Reads the instance, and checks that the counters are of this process alone. By a gauge, so
    /// the check also works for VMs that start later or share no data with the others.
    pub fn read_instance(&mut self, host: &impl Host) -> Result<(), Unusable> {
        let Some(metrics) = self.metrics else {
            return Ok(());
        };
        let Ok(instance) = host.read_metric(metrics.instance) else {
            return Ok(());
        };
        if instance == self.instance.get() {
            return Ok(());
        }
        // Another VM started an epoch, or Envoy added a parent's gauge to ours: then the gauge does
        // not read the value that is written here.
        let own = instance != MERGED
            && host.set_gauge(metrics.instance, instance).is_ok()
            && host.read_metric(metrics.instance) == Ok(instance);
        if own {
            self.instance.set(instance);
            return Ok(());
        }
        let _ = host.set_gauge(metrics.instance, MERGED);
        self.merged = Some(metrics.instance);
        Err(Unusable::Merged)
    }

    /// Whether the parent of a hot restart still runs: Envoy removes its part of the gauge when it
    /// ends.
    pub fn has_parent(&self, host: &impl Host) -> bool {
        let read = self.merged.map(|instance| host.read_metric(instance));
        read.is_some_and(|read| read != Ok(MERGED))
    }

    /// Reads the epoch; `None` if the instance differs from the last one read, since another VM
    /// started an epoch or Envoy added a parent's gauge: then [`Self::read_instance`] has to check.
    pub fn epoch(&self, host: &impl Host) -> Option<CounterEpoch> {
        let metrics = self.metrics.filter(|_| self.has_instance())?;
        let read = |id| host.read_metric(id).ok();
        let instance = read(metrics.instance)?;
        if instance != self.instance.get() {
            self.instance.set(0);
            return None;
        }
        Some(CounterEpoch {
            instance,
            started_at: UnixMillis(read(metrics.started_at)?),
            was_reset: read(metrics.sentinel)? == 0,
            changes: read(metrics.changes)?,
            listings: read(metrics.listings)?,
        })
    }

    /// Starts a new epoch after a reset.
    pub fn new_epoch(&self, host: &impl Host, started_at: UnixMillis) {
        if let Some(metrics) = self.metrics {
            // On failure the sentinel still reads 0, and the next tick tries again.
            if let Ok(instance) = metrics.start_epoch(host, started_at) {
                self.instance.set(instance);
            }
        }
    }

    /// Adds pending counts to the process-wide metrics. On failure they stay pending.
    pub fn flush(&self, host: &impl Host, counters: &mut Counters) -> Result<(), Unusable> {
        let Some(metrics) = self.metrics else {
            return Ok(());
        };
        let listed = list(host, counters);
        counters.move_refused();
        let mut changed = listed || counters.refused.pending();
        let mut result = Ok(());
        for series in counters.iter_mut() {
            if series.listed.is_none() {
                continue;
            }
            let key = series.key.clone();
            for (counter, total) in series.totals_mut() {
                if total.pending() == 0 {
                    continue;
                }
                changed = true;
                let name = || key.metric_name(counter);
                if let Err(unusable) = add(host, metrics.sentinel, counter.kind(), name, total) {
                    result = Err(unusable);
                }
            }
        }
        for (name, total) in REFUSED_NAMES.iter().zip(counters.refused.totals_mut()) {
            let name = || (*name).to_owned();
            if total.pending() != 0 {
                let _ = add(host, metrics.sentinel, MetricKind::Counter, name, total);
            }
        }
        if listed {
            let _ = host.increment_metric(metrics.listings, 1);
        }
        if changed {
            let _ = host.increment_metric(metrics.changes, 1);
        }
        result
    }
}

// === impl Metrics ===

impl Metrics {
    /// Writes the instance last: a VM that reads it finds the other metrics set.
    fn start_epoch(&self, host: &impl Host, started_at: UnixMillis) -> Result<u64, HostError> {
        let instance = host.random().max(MERGED + 1);
        host.increment_metric(self.sentinel, 1)?;
        host.set_gauge(self.started_at, started_at.0.max(1))?;
        host.set_gauge(self.instance, instance)?;
        Ok(instance)
    }
}

/// Lists new series and statuses; true if the process's list changed.
fn list(host: &impl Host, counters: &mut Counters) -> bool {
    let unlisted =
        |series: &Series| !series.refused && series.listed != Some(series.codes().count());
    let wanted: Vec<Listed> = counters
        .iter()
        .filter(|series| unlisted(series))
        .map(|series| Listed {
            key: series.key.clone(),
            responses: series.detail != ResponseDetail::Off,
            codes: series.codes().collect(),
        })
        .collect();
    if wanted.is_empty() {
        return false;
    }
    let Some((listings, changed)) = Catalog::list(host, &wanted) else {
        return false;
    };
    let pending = counters.iter_mut().filter(|series| unlisted(series));
    for (series, listing) in pending.zip(listings) {
        match listing {
            Listing::Full => series.refused = true,
            Listing::Listed(refused) => {
                series.listed = Some(series.codes().count());
                for code in refused {
                    series.refuse_code(code);
                }
            }
        }
    }
    changed
}

/// Adds the pending part of one total to its metric, and reads the metric back the first time.
fn add(
    host: &impl Host,
    sentinel: MetricId,
    kind: MetricKind,
    name: impl Fn() -> String,
    total: &mut Total,
) -> Result<(), Unusable> {
    let metric = match total.metric {
        Some(metric) => metric,
        None => match host.define_metric(kind, &name()) {
            Ok(metric) => *total.metric.insert(metric),
            Err(_) => return Ok(()),
        },
    };
    let pending = total.pending();
    if host.increment_metric(metric, pending).is_err() {
        return Ok(());
    }
    total.flushed = total.value;
    if total.proven || pending < 0 {
        return Ok(());
    }
    // A reset in between explains a 0 as well; the sentinel tells the two apart.
    total.proven = host.read_metric(metric).is_ok_and(|value| value > 0);
    let was_reset = host.read_metric(sentinel).is_ok_and(|value| value == 0);
    if total.proven || was_reset {
        return Ok(());
    }
    Err(Unusable::Hidden(format!(
        "the metric wasmcustom.{} reads 0 after an addition: a `stats_matcher` hides it",
        name()
    )))
}

/// The counters of a listed series in reading order: requests last, after their responses.
pub(crate) fn counters_of(listed: &Listed) -> Vec<Counter> {
    let mut counters = Vec::new();
    if listed.responses && listed.key.role != Role::UpstreamLog {
        let outcomes = (0..Outcome::CLASSES).chain(listed.codes.iter().copied());
        counters.extend(outcomes.map(|code| Counter::Responses(Outcome(code))));
    }
    if listed.key.role == Role::Filter {
        counters.extend([Counter::InflightNanos, Counter::Inflight]);
    }
    counters.push(Counter::Events);
    counters
}
