//! One number of several pods, and when it would be too low.
//!
//! Nobody downstream sees what a sum lacks, so any doubt is an error (decision 0004). Left out
//! without doubt are:
//!
//! - pods that services do not lead to, since they do not run yet or are not ready;
//! - in a whole namespace all that never reported, since it holds pods without a sidecar;
//! - where no watch tells whether a pod serves, those that never reported, and those that ceased
//!   to: they are taken to be gone;
//! - for a ratio, pods in which no request ended.

use std::time::Duration;

use aggregator_core::pod::{PodKey, Readiness};
use aggregator_core::query::{Metric, Milli, NoValue, QueryResult, Reading};
use aggregator_directory::Directory;
use common_time::Monotonic;

use crate::metrics::{MetricRequest, Summary, quantity_of};
use crate::no_value_reason;
use crate::signal_age::SignalAge;
use crate::status::{Kind, Reason, Refusal};

/// What kind of set of pods is summed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Set {
    /// All pods of a namespace.
    Namespace,
    /// Pods that belong together or were selected, or callers: each should have a sidecar.
    Members,
}

common_names::named! {
    /// Who counted what a value says.
    pub(crate) enum Source {
        /// The sidecars of the object's own pods.
        Pods = "pods",
        /// The sidecars of those that call it.
        Callers = "callers",
    }
}

/// One number of several pods: as old as its oldest part, over the longest window of them.
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
    /// The sum of `readings`; `None` if there are none. A ratio is that of all together, not the
    /// sum of ratios.
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

/// The sum of an answer, `None` if nobody in it has a value and nobody should have one.
pub(super) fn over(
    now: Monotonic,
    question: &MetricRequest<'_>,
    directory: &Directory,
    answer: &QueryResult,
) -> Result<Option<Sum>, Refusal> {
    let doubtful: Vec<_> = answer
        .missing
        .iter()
        .filter(|(pod, why)| is_doubtful(*why, directory.serving(pod), question.set()))
        .cloned()
        .collect();
    let sum = Sum::of(now, Source::Pods, question.query.metric, &answer.readings);
    if doubtful.is_empty() {
        return Ok(sum);
    }
    if answer.readings.is_empty() {
        // Nothing would be served anyway: say what each pod lacks, as for a list.
        let pods = question.describe_pods();
        let message = no_value_reason::none_has_a_value(question.metric, &pods, &answer.missing);
        return Err(Refusal::new(Kind::Unavailable, Reason::Doubt, message));
    }
    Err(too_low(question, "pods", &doubtful))
}

/// The sum would be too low, since some of the object's pods or callers have no value.
pub(super) fn too_low(
    question: &MetricRequest<'_>,
    whose: &str,
    doubtful: &[(PodKey, NoValue)],
) -> Refusal {
    let message = format!(
        "the sum of {} of {} would be too low, since {} of its {whose} have no value: {}",
        question.metric,
        question.subject(),
        doubtful.len(),
        no_value_reason::counted(doubtful)
    );
    Refusal::new(Kind::Unavailable, Reason::Doubt, message)
}

/// True if a pod that has no value may have requests all the same.
pub(super) fn is_doubtful(why: NoValue, serving: Option<Readiness>, set: Set) -> bool {
    let serves = serving == Some(Readiness::Yes);
    match why {
        NoValue::NoRequests => false,
        NoValue::NeverReported => serves && set == Set::Members,
        NoValue::Gone | NoValue::TlsRefused => serves,
        NoValue::New
        | NoValue::NotCounted
        | NoValue::VmLost
        | NoValue::HotRestart
        | NoValue::Refused => serving != Some(Readiness::No),
    }
}

/// The mean of the values, weighted by the events each is a share of, rounded to the nearest
/// thousandth.
fn weighted(readings: &[Reading]) -> Option<u64> {
    let events: u128 = readings.iter().map(|r| u128::from(r.events.0)).sum();
    let shares: u128 = readings
        .iter()
        .map(|r| u128::from(r.value.0) * u128::from(r.events.0))
        .sum();
    let rounded = (shares + events / 2).checked_div(events)?;
    u64::try_from(rounded).ok()
}
