//! `/debug/pods`: every pod as the store sees it, as JSON.

use std::collections::BTreeMap;

use aggregator_core::pod::PodKey;
use aggregator_core::query::{Metric, MetricQuery, Milli, NoValue, WindowChoice};
use aggregator_core::status::{PodStatus, SeriesStatus};
use aggregator_core::store::Store;
use common_time::Monotonic;
use serde::Serialize;

/// Streams without TLS.
type PlainByPod = BTreeMap<PodKey, usize>;

#[derive(Serialize)]
struct Document<'a> {
    pods: Vec<Pod<'a>>,
}

#[derive(Serialize)]
struct Pod<'a> {
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
    state: &'static str,
    streams: usize,
    /// Streams without TLS.
    plain_streams: usize,
    instances: Vec<String>,
    last_report_age_ms: Option<u128>,
    vms_expected: u32,
    vms_live: u32,
    /// The pod's own rate, as the API would serve it; null if it has no value.
    requests_per_second: Option<Rate>,
    missing: Option<&'static str>,
    series: Vec<Series<'a>>,
}

/// A rate in its window, and in the window of the same length before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Rate {
    value: f64,
    window_ms: u128,
    /// Null if reports do not cover that window.
    previous: Option<f64>,
}

#[derive(Serialize)]
struct Series<'a> {
    direction: &'static str,
    cluster: &'a str,
    requests: Option<u64>,
    requests_at_completion: bool,
    upstream_attempts: Option<u64>,
    responses: BTreeMap<&'static str, u64>,
    inflight: Option<u64>,
    inflight_ns: Option<u64>,
}

/// The document as of `now`, sorted by pod; `plain` has the number of streams without TLS.
pub(crate) fn of(
    store: &Store,
    plain: &PlainByPod,
    now: Monotonic,
) -> Result<Vec<u8>, serde_json::Error> {
    let pods = store.inspect(now);
    let rates: Vec<_> = pods.iter().map(|pod| rate(store, now, pod)).collect();
    document(&pods, &rates, plain)
}

/// `pods` in their order, each with its rate.
fn document(
    pods: &[PodStatus],
    rates: &[Result<Rate, NoValue>],
    plain: &PlainByPod,
) -> Result<Vec<u8>, serde_json::Error> {
    let pods = pods.iter().zip(rates).map(|(status, rate)| {
        let plain = plain.get(&status.key).copied().unwrap_or_default();
        pod(status, plain, *rate)
    });
    serde_json::to_vec(&Document {
        pods: pods.collect(),
    })
}

fn rate(store: &Store, now: Monotonic, pod: &PodStatus) -> Result<Rate, NoValue> {
    let query = MetricQuery {
        metric: Metric::RequestsPerSecond,
        direction: None,
        cluster: None,
        code_class: None,
        window: WindowChoice::Adaptive,
    };
    let result = store.read(now, std::slice::from_ref(&pod.key), &query);
    let Some(reading) = result.readings.first() else {
        let missing = result.missing.first();
        return Err(missing.map_or(NoValue::NeverReported, |(_, why)| *why));
    };
    Ok(Rate {
        value: real(reading.value),
        window_ms: reading.window.as_millis(),
        previous: store.read_before(reading, &query).map(real),
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate for people, far below 2^53 thousandths"
)]
fn real(milli: Milli) -> f64 {
    milli.0 as f64 / 1000.0
}

fn pod(status: &PodStatus, plain_streams: usize, rate: Result<Rate, NoValue>) -> Pod<'_> {
    Pod {
        namespace: &status.key.namespace,
        name: &status.key.name,
        uid: &status.uid,
        state: status.state.as_str(),
        streams: status.streams,
        plain_streams,
        instances: status.instances.iter().map(ToString::to_string).collect(),
        last_report_age_ms: status.last_report_age.map(|age| age.as_millis()),
        vms_expected: status.vms_expected,
        vms_live: status.vms_live,
        requests_per_second: rate.ok(),
        missing: rate.err().map(NoValue::as_str),
        series: status.series.iter().map(series).collect(),
    }
}

fn series(status: &SeriesStatus) -> Series<'_> {
    Series {
        direction: status.key.direction.as_str(),
        cluster: &status.key.cluster,
        requests: status.requests,
        requests_at_completion: status.requests_at_completion,
        upstream_attempts: status.upstream_attempts,
        responses: status
            .responses
            .iter()
            .map(|(class, total)| (class.as_str(), *total))
            .collect(),
        inflight: status.inflight,
        inflight_ns: status.inflight_ns,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aggregator_core::report::InstanceId;
    use aggregator_core::series::{CodeClass, Direction, SeriesKey};
    use aggregator_core::status::PodState;

    use super::*;

    /// The documented form; what is not counted is null, never 0.
    #[test]
    fn writes_pods() {
        let status = PodStatus {
            key: PodKey::new("prod", "jazz-v1"),
            uid: "u1".into(),
            state: PodState::Live,
            streams: 1,
            instances: vec![InstanceId(0xab)],
            started_at: None,
            last_report_age: Some(Duration::from_millis(120)),
            vms_expected: 3,
            vms_live: 3,
            series: vec![SeriesStatus {
                key: SeriesKey {
                    direction: Direction::Inbound,
                    cluster: "".into(),
                },
                requests: Some(12),
                requests_at_completion: false,
                upstream_attempts: None,
                responses: vec![(CodeClass::None, 1), (CodeClass::Success, 11)],
                codes: Vec::new(),
                inflight: Some(0),
                inflight_ns: None,
            }],
        };
        let rate = Rate {
            value: 2.5,
            window_ms: 2000,
            previous: None,
        };
        let plain = BTreeMap::from([(status.key.clone(), 1), (PodKey::new("prod", "gone"), 2)]);
        let text = String::from_utf8(document(&[status], &[Ok(rate)], &plain).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"pods":[{"namespace":"prod","name":"jazz-v1","uid":"u1","state":"live","streams":1,"plain_streams":1,"#.to_owned()
                + r#""instances":["00000000000000ab"],"last_report_age_ms":120,"vms_expected":3,"vms_live":3,"#
                + r#""requests_per_second":{"value":2.5,"window_ms":2000,"previous":null},"missing":null,"#
                + r#""series":[{"direction":"inbound","cluster":"","requests":12,"requests_at_completion":false,"#
                + r#""upstream_attempts":null,"responses":{"2xx":11,"none":1},"inflight":0,"inflight_ns":null}]}]}"#
        );
    }
}
