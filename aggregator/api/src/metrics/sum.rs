//! Sums over several pods, and when a sum would be too low.
//!
//! A reader cannot see what a sum lacks, so any doubt is an error (decision 0004). Omitted without
//! doubt are:
//!
//! - pods that services do not select yet, since they do not run or are not ready;
//! - in a whole namespace pods that never reported, since some have no sidecar;
//! - without a watch of pods, those that never reported or stopped reporting: they count as gone;
//! - for a ratio, pods without a request that ended.

use std::time::Duration;

use aggregator_core::pod::{PodKey, Readiness};
use aggregator_core::query::{Metric, Milli, NoValue, QueryResult, Reading};
use aggregator_directory::Directory;
use common_time::Monotonic;

use crate::metrics::{MetricRequest, Summary, quantity_of};
use crate::no_value_reason;
use crate::signal_age::SignalAge;
use crate::status::{Kind, Reason, Refusal};

/// Kind of set of pods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Set {
    /// All pods of a namespace.
    Namespace,
    /// Pods of an object, selected pods, or callers: each should have a sidecar.
    Members,
}

common_names::named! {
    /// Who counted a value.
    pub(crate) enum Source {
        /// The sidecars of the object's own pods.
        Pods = "pods",
        /// The sidecars of its callers.
        Callers = "callers",
    }
}

/// A sum over several pods, with the oldest timestamp and the longest window of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sum {
    pub(crate) source: Source,
    pub(crate) value: Milli,
    pub(crate) timestamp: Monotonic,
    pub(crate) age: SignalAge,
    pub(crate) window: Duration,
    pub(crate) pods: usize,
}

// === impl Sum ===

impl Sum {
    /// The sum of `readings`; `None` if there are none. A ratio is the weighted mean, not a sum.
    pub(super) fn of(
        now: Monotonic,
        source: Source,
        metric: Metric,
        readings: &[Reading],
    ) -> Option<Self> {
        let value = match metric {
            Metric::ErrorRatio => weighted(readings)?,
            _ => readings
                .iter()
                .fold(0_u64, |sum, reading| sum.saturating_add(reading.value.0)),
        };
        Some(Self {
            source,
            value: Milli(value),
            timestamp: readings.iter().map(|reading| reading.timestamp).min()?,
            age: SignalAge::of_oldest(now, readings),
            window: readings.iter().map(|reading| reading.window).max()?,
            pods: readings.len(),
        })
    }

    /// The canonical text of the value of `subject`.
    pub(crate) fn quantity(&self, subject: &str) -> Result<String, Refusal> {
        quantity_of(self.value, || subject.to_owned())
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            source: self.source,
            total: self.value,
            pods: self.pods,
            age: self.age,
            window: self.window,
        }
    }
}

/// The sum of a result; `None` if no pod has a value and none should have one.
pub(super) fn over(
    now: Monotonic,
    request: &MetricRequest<'_>,
    directory: &Directory,
    result: &QueryResult,
) -> Result<Option<Sum>, Refusal> {
    let doubtful: Vec<_> = result
        .missing
        .iter()
        .filter(|(pod, why)| is_doubtful(*why, directory.serving(pod), request.set()))
        .cloned()
        .collect();
    let sum = Sum::of(now, Source::Pods, request.query.metric, &result.readings);
    if doubtful.is_empty() {
        return Ok(sum);
    }
    if result.readings.is_empty() {
        // No value could be served anyway: name the reason of each pod, as for a list.
        let pods = request.describe_pods();
        let message = no_value_reason::none_has_a_value(request.metric, &pods, &result.missing);
        return Err(Refusal::new(Kind::Unavailable, Reason::Doubt, message));
    }
    Err(too_low(request, "pods", &doubtful))
}

pub(super) fn too_low(
    request: &MetricRequest<'_>,
    whose: &str,
    doubtful: &[(PodKey, NoValue)],
) -> Refusal {
    let message = format!(
        "the sum of {} of {} would be too low, since {} of its {whose} have no value: {}",
        request.metric,
        request.subject(),
        doubtful.len(),
        no_value_reason::counted(doubtful)
    );
    Refusal::new(Kind::Unavailable, Reason::Doubt, message)
}

/// True if a pod without a value may serve requests.
pub(super) fn is_doubtful(why: NoValue, serving: Option<Readiness>, set: Set) -> bool {
    let serves = serving == Some(Readiness::Yes);
    match why {
        NoValue::NoRequests => false,
        NoValue::NeverReported => serves && set == Set::Members,
        NoValue::Gone
        | NoValue::TlsRefused
        | NoValue::Unauthenticated
        | NoValue::Unreadable
        | NoValue::StreamRefused => serves,
        NoValue::New
        | NoValue::NotCounted
        | NoValue::VmLost
        | NoValue::HotRestart
        | NoValue::Refused => serving != Some(Readiness::No),
    }
}

/// The mean of the values, weighted by their events, rounded to the nearest thousandth.
fn weighted(readings: &[Reading]) -> Option<u64> {
    let events: u128 = readings.iter().map(|r| u128::from(r.events.0)).sum();
    let shares: u128 = readings
        .iter()
        .map(|r| u128::from(r.value.0) * u128::from(r.events.0))
        .sum();
    let rounded = (shares + events / 2).checked_div(events)?;
    u64::try_from(rounded).ok()
}
