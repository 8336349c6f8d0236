//! Rates of one pod or of several: sums over the pods that have a value.

use std::time::Duration;

use aggregator_core::pod::PodKey;
use aggregator_core::query::{
    Metric, MetricQuery, Milli, NoValue, QueryResult, Reading, WindowChoice,
};
use aggregator_core::store::Store;
use aggregator_view::documents::Rates;
use common_time::Monotonic;

/// Windows of a history.
pub(super) const HISTORY: u32 = 60;

/// Length of each.
pub(super) const HISTORY_WINDOW: Duration = Duration::from_secs(2);

/// How long after its end a window is reported: a flush and the way.
const REPORTED_WITHIN: Duration = Duration::from_millis(1500);

/// What is known of the rates of some pods.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) rates: Rates,
    /// Requests per second of each pod that has them.
    pub(super) requests: Vec<Reading>,
    /// Pods without, and why.
    pub(super) missing: Vec<(PodKey, NoValue)>,
}

pub(super) fn query(metric: Metric) -> MetricQuery {
    MetricQuery {
        metric,
        direction: None,
        cluster: None,
        code_class: None,
        window: WindowChoice::Adaptive,
    }
}

// === impl Measured ===

impl Measured {
    pub(super) fn of(store: &Store, now: Monotonic, pods: &[PodKey]) -> Self {
        let read = |metric| store.read(now, pods, &query(metric));
        let QueryResult {
            readings: requests,
            missing,
        } = read(Metric::RequestsPerSecond);
        let sum_of = |metric| sum(&read(metric).readings);
        let window = requests.iter().map(|reading| reading.window).max();
        let oldest = requests.iter().map(|reading| reading.timestamp).min();
        let rates = Rates {
            requests_per_second: sum(&requests),
            attempts_per_second: sum_of(Metric::UpstreamRequestsPerSecond),
            inflight: sum_of(Metric::InflightRequests),
            error_ratio: ratio(&read(Metric::ErrorRatio).readings),
            window_ms: window.map(millis),
            age_ms: oldest.map(|oldest| millis(now.since(oldest))),
        };
        Self {
            rates,
            requests,
            missing,
        }
    }

    /// The busiest pod's rate over the mean; `None` with fewer than two values or no request.
    pub(super) fn skew(&self) -> Option<f64> {
        let values = self.requests.iter().map(|reading| real(reading.value));
        let (sum, most) = values.fold((0.0, 0.0_f64), |(sum, most), value| {
            (sum + value, most.max(value))
        });
        #[expect(clippy::cast_precision_loss, reason = "a number of pods")]
        let mean = sum / self.requests.len() as f64;
        (self.requests.len() > 1 && mean > 0.0).then(|| most / mean)
    }
}

/// End of the newest window of a history: the same for all pods, so that sums line up.
pub(super) fn history_end(now: Monotonic) -> Monotonic {
    let length = u64::try_from(HISTORY_WINDOW.as_millis()).unwrap_or(1);
    let reported = now.before(REPORTED_WITHIN).0;
    Monotonic(reported - reported % length)
}

/// Requests per second of the pods together in each window; `None` where no pod is known.
pub(super) fn history(store: &Store, now: Monotonic, pods: &[PodKey]) -> Vec<Option<f64>> {
    let (query, end) = (query(Metric::RequestsPerSecond), history_end(now));
    let mut sums = vec![None; HISTORY as usize];
    for pod in pods {
        let values = store.history(pod, &query, end, HISTORY_WINDOW, HISTORY);
        for (sum, value) in sums.iter_mut().zip(values) {
            if let Some(value) = value {
                *sum = Some(sum.unwrap_or_default() + real(value));
            }
        }
    }
    sums
}

fn sum(readings: &[Reading]) -> Option<f64> {
    let values = readings.iter().map(|reading| reading.value.0);
    let sum = values.fold(0_u64, u64::saturating_add);
    (!readings.is_empty()).then_some(real(Milli(sum)))
}

/// The mean of ratios, weighted by the events they are of.
fn ratio(readings: &[Reading]) -> Option<f64> {
    let events: f64 = readings.iter().map(|reading| real(reading.events)).sum();
    let part = readings
        .iter()
        .map(|reading| real(reading.value) * real(reading.events));
    (events > 0.0).then(|| part.sum::<f64>() / events)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate for people, far below 2^53 thousandths"
)]
pub(super) fn real(milli: Milli) -> f64 {
    milli.0 as f64 / 1000.0
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
