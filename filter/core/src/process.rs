//! Process-wide totals: Envoy counters into which every VM adds what it counted, and which any VM
//! can read.
//!
//! They live as long as the process: through a VM that traps, is replaced or reconfigured.
//! `meshmeter.instance` and `meshmeter.started_at_ms` are kept beside them, so that neither
//! outlives the other. Three things can go wrong with such counters, and all are noticed:
//! - a `stats_matcher` in the bootstrap hides them: they take every addition and read 0. Each VM
//!   proves a probe before it relies on them, and each counter when it first adds to it;
//! - `/reset_counters` sets them back to 0. A sentinel that is never 0 otherwise tells;
//! - a hot restart adds the parent's counters and gauges to those of the same name in the child.
//!   `meshmeter.instance` tells: a gauge that reads something else than what was just set holds a
//!   part of a parent. The child's counters are of no use from then on, also after the parent is
//!   gone, which takes its gauges along but not its counts.

use std::cell::Cell;

use crate::catalog::{Catalog, Listed, Listing};
use crate::config::ResponseDetail;
use crate::counter::{Counters, Refused, Series, Total};
use crate::host::{Host, HostError, MetricId, MetricKind};
use crate::series::{Counter, Outcome, Role};
use crate::time::UnixMillis;

/// Names of the counters of what was refused, in the order of [`Refused::totals_mut`].
pub(crate) const REFUSED_NAMES: [&str; 3] = [
    "meshmeter.refused.series_overflow",
    "meshmeter.refused.untracked_streams",
    "meshmeter.refused.code_overflow",
];

/// What a process sets `meshmeter.instance` to once its counters hold those of a parent. No name of
/// counters.
const MERGED: u64 = 1;

/// The metrics beside the counters.
#[derive(Clone, Copy, Debug)]
struct Metrics {
    /// Gauge: random name of these counters.
    instance: MetricId,
    /// Gauge: when they began at 0, Unix time in milliseconds.
    started_at: MetricId,
    /// Counter: never 0 while the counters belong to `instance`.
    sentinel: MetricId,
    /// Counter: rises whenever a VM added something.
    changes: MetricId,
    /// Gauge: rises whenever a VM listed something.
    listings: MetricId,
}

/// What the metrics beside the counters say now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Signs {
    /// Random name of the counters.
    pub instance: u64,
    /// When they began at 0.
    pub started_at: UnixMillis,
    /// Whether they were set back to 0 since they got their name.
    pub was_reset: bool,
    /// Moves whenever a VM added something.
    pub changes: u64,
    /// Moves whenever a VM listed something.
    pub listings: u64,
}

/// The process-wide totals as one VM uses them.
#[derive(Debug, Default)]
pub struct ProcessTotals {
    metrics: Option<Metrics>,
    /// Name of the counters as this VM last saw it; 0 before that.
    instance: Cell<u64>,
    /// The gauge `meshmeter.instance` of a process whose counters hold those of a parent.
    merged: Option<MetricId>,
}

/// Why process-wide totals cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// They cannot be read back.
    Hidden(String),
    Elsewhere,
    /// They hold counts of the process that this one takes over from.
    Merged,
}

// === impl Refused ===

impl Refused {
    /// Each total, in the order of their names.
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
    /// Proves that counters and gauges read back what was written, and names the counters if nobody
    /// did yet. `started_at` is a moment before this VM counted anything.
    pub fn prove(&mut self, host: &impl Host, started_at: UnixMillis) -> Result<(), Unusable> {
        if self.metrics.is_none() {
            self.metrics = Some(Self::find(host, started_at)?);
        }
        Ok(())
    }

    fn find(host: &impl Host, started_at: UnixMillis) -> Result<Metrics, Unusable> {
        let counter = |name| host.define_metric(MetricKind::Counter, name);
        let gauge = |name| host.define_metric(MetricKind::Gauge, name);
        let proof = || -> Result<Option<Metrics>, HostError> {
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
                // A reset might have come between: once is no proof.
                host.increment_metric(probe, 1)?;
                if host.read_metric(probe)? == 0 {
                    return Ok(None);
                }
            }
            if host.read_metric(metrics.instance)? == 0 {
                metrics.begin(host, started_at)?;
            }
            let readable = host.read_metric(metrics.instance)? != 0
                && host.read_metric(metrics.started_at)? != 0;
            Ok(readable.then_some(metrics))
        };
        match proof() {
            Ok(Some(metrics)) => Ok(metrics),
            Ok(None) => Err(Unusable::Hidden(
                "a `stats_matcher` hides the metrics wasmcustom.meshmeter".to_owned(),
            )),
            Err(_) => Err(Unusable::Hidden("the host refuses metrics".to_owned())),
        }
    }

    /// Whether the name of the counters is known.
    pub fn is_named(&self) -> bool {
        self.instance.get() != 0
    }

    /// Finds out what the counters are called now, and that they are of this process alone. What
    /// tells is a gauge, so it holds for VMs that begin at any time and share no data with the
    /// others.
    pub fn name(&mut self, host: &impl Host) -> Result<(), Unusable> {
        let Some(metrics) = self.metrics else {
            return Ok(());
        };
        let Ok(told) = host.read_metric(metrics.instance) else {
            return Ok(());
        };
        if told == self.instance.get() {
            return Ok(());
        }
        // Another VM gave the name, or Envoy added a parent's gauge to ours.
        let own = told != MERGED
            && host.set_gauge(metrics.instance, told).is_ok()
            && host.read_metric(metrics.instance) == Ok(told);
        if own {
            self.instance.set(told);
            return Ok(());
        }
        let _ = host.set_gauge(metrics.instance, MERGED);
        self.merged = Some(metrics.instance);
        Err(Unusable::Merged)
    }

    /// Whether a parent is there that this process takes over from: its part of the gauge goes when
    /// it ends.
    pub fn has_parent(&self, host: &impl Host) -> bool {
        let told = self.merged.map(|instance| host.read_metric(instance));
        told.is_some_and(|told| told != Ok(MERGED))
    }

    /// Reads the metrics beside the counters; `None` if they are called otherwise than this VM
    /// knows, since another one gave them a name or Envoy added a parent's: then they are to be
    /// named.
    pub fn signs(&self, host: &impl Host) -> Option<Signs> {
        let metrics = self.metrics.filter(|_| self.is_named())?;
        let read = |id| host.read_metric(id).ok();
        let instance = read(metrics.instance)?;
        if instance != self.instance.get() {
            self.instance.set(0);
            return None;
        }
        Some(Signs {
            instance,
            started_at: UnixMillis(read(metrics.started_at)?),
            was_reset: read(metrics.sentinel)? == 0,
            changes: read(metrics.changes)?,
            listings: read(metrics.listings)?,
        })
    }

    /// Gives counters that were set back to 0 a new name.
    pub fn rename(&self, host: &impl Host, started_at: UnixMillis) {
        if let Some(metrics) = self.metrics {
            // On failure the sentinel still reads 0, and the next tick tries again.
            if let Ok(instance) = metrics.begin(host, started_at) {
                self.instance.set(instance);
            }
        }
    }

    /// Adds what is pending to the process-wide metrics. What the host refuses stays pending.
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
    /// Names the counters. The name comes last: who reads it finds the rest in place.
    fn begin(&self, host: &impl Host, started_at: UnixMillis) -> Result<u64, HostError> {
        let instance = host.random().max(MERGED + 1);
        host.increment_metric(self.sentinel, 1)?;
        host.set_gauge(self.started_at, started_at.0.max(1))?;
        host.set_gauge(self.instance, instance)?;
        Ok(instance)
    }
}

/// Lists what is not listed yet; true if the process's list changed.
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

/// Adds what is pending of one total to its metric, and proves the metric the first time.
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

/// The counters that a role keeps for a series, what leads last, as they are read.
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
