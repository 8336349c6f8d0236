//! Polls what an autoscaler would read: rates every 200 ms, the rest every second.

use std::time::Duration;

use anyhow::Result;
use tests_support::aggregator::{Aggregator, MetricList, Pods};
use tests_support::clock;

use crate::fleet::{Fleet, NAMESPACE, Pod};
use crate::signal_age::SignalAges;

/// Pause between two rounds of reads.
pub(crate) const READ_INTERVAL: Duration = Duration::from_millis(200);
pub(crate) const ROUNDS_PER_PICTURE: u32 = 5;
/// The metric an autoscaler of this demo uses.
pub(crate) const REQUESTS_PER_SECOND: &str = "appmesh_requests_per_second";

const INFLIGHT: &str = "appmesh_inflight_requests";
/// Longest time until every pod has a value.
const VALUES_MAX: Duration = Duration::from_secs(30);

/// The last reading of one pod. `None` is unknown, never 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) name: &'static str,
    /// Requests per second.
    pub(crate) rate: Option<f64>,
    /// The highest of all rates so far.
    pub(crate) rate_peak: Option<f64>,
    /// Requests in flight, averaged over the window.
    pub(crate) inflight: Option<f64>,
    /// Length of the window, in seconds.
    pub(crate) window: Option<u64>,
    /// Age of the value when it was read, in milliseconds.
    pub(crate) age_ms: Option<u64>,
    /// `new`, `live`, `held` or `gone`.
    pub(crate) state: Option<String>,
}

/// All readings, and the ages of all reads.
#[derive(Debug)]
pub(crate) struct Watch {
    /// One per pod, in the order of the fleet.
    pub(crate) readings: Vec<Reading>,
    /// Ages of the reads that count.
    pub(crate) ages: SignalAges,
}

// === impl Watch ===

impl Watch {
    pub(crate) fn new(fleet: &Fleet) -> Self {
        let readings = fleet.pods.iter().map(|pod| Reading {
            name: pod.name,
            ..Reading::default()
        });
        Self {
            readings: readings.collect(),
            ages: SignalAges::default(),
        }
    }

    /// Waits until the API has a value for every pod.
    pub(crate) async fn wait_for_values(fleet: &Fleet, aggregator: &Aggregator) -> Result<()> {
        for pod in &fleet.pods {
            let what = format!("a value of the pod {} at the API", pod.name);
            let mut refusal = None;
            let value = clock::wait_for(&what, VALUES_MAX, async || {
                let selector = pod.selector();
                let api = aggregator.api();
                match api
                    .pods_metric(NAMESPACE, &selector, REQUESTS_PER_SECOND)
                    .await
                {
                    Ok(list) => Ok(list.value(pod.name)),
                    Err(error) => {
                        refusal = Some(error);
                        Ok(None)
                    }
                }
            });
            if let Err(error) = value.await {
                return Err(refusal.map_or(error, |refusal| refusal.context(what)));
            }
        }
        Ok(())
    }

    /// Reads the rate of every pod; the ages of the values count if `with_ages`.
    pub(crate) async fn read_rates(
        &mut self,
        fleet: &Fleet,
        aggregator: &Aggregator,
        with_ages: bool,
    ) {
        for (pod, reading) in fleet.pods.iter().zip(&mut self.readings) {
            let list = read(aggregator, pod, REQUESTS_PER_SECOND).await;
            reading.age_ms = list.as_ref().and_then(|list| list.signal_age_ms);
            let item = list.as_ref().and_then(|list| list.item(pod.name));
            reading.window = item.and_then(|item| item.window_seconds);
            reading.rate = item.and_then(tests_support::aggregator::MetricValue::number);
            reading.rate_peak = match (reading.rate_peak, reading.rate) {
                (Some(peak), Some(rate)) => Some(peak.max(rate)),
                (peak, rate) => peak.or(rate),
            };
            if let Some(age) = reading.age_ms.filter(|_| with_ages) {
                self.ages.add(age);
            }
        }
    }

    /// Reads requests in flight and states.
    pub(crate) async fn read_rest(&mut self, fleet: &Fleet, aggregator: &Aggregator) {
        let pods = aggregator.pods().await.unwrap_or_else(|_| Pods::default());
        for (pod, reading) in fleet.pods.iter().zip(&mut self.readings) {
            let list = read(aggregator, pod, INFLIGHT).await;
            reading.inflight = list.and_then(|list| list.value(pod.name));
            let state = pods.find(NAMESPACE, pod.name);
            reading.state = state.map(|pod| pod.state.clone());
        }
    }
}

/// `None` if the API has no value, which is shown as unknown.
async fn read(aggregator: &Aggregator, pod: &Pod, metric: &str) -> Option<MetricList> {
    let api = aggregator.api();
    api.pods_metric(NAMESPACE, &pod.selector(), metric)
        .await
        .ok()
}
