//! `/debug/pods`: every pod as the store sees it, as JSON.

use std::collections::BTreeMap;

use aggregator_core::status::{PodStatus, SeriesStatus};
use serde::Serialize;

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
    instances: Vec<String>,
    last_report_age_ms: Option<u128>,
    vms_expected: u32,
    vms_live: u32,
    series: Vec<Series<'a>>,
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

/// The document, in the order of `pods`.
pub(crate) fn document(pods: &[PodStatus]) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Document {
        pods: pods.iter().map(pod).collect(),
    })
}

fn pod(status: &PodStatus) -> Pod<'_> {
    Pod {
        namespace: &status.key.namespace,
        name: &status.key.name,
        uid: &status.uid,
        state: status.state.as_str(),
        streams: status.streams,
        instances: status.instances.iter().map(ToString::to_string).collect(),
        last_report_age_ms: status.last_report_age.map(|age| age.as_millis()),
        vms_expected: status.vms_expected,
        vms_live: status.vms_live,
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

    use aggregator_core::pod::PodKey;
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
                inflight: Some(0),
                inflight_ns: None,
            }],
        };
        let text = String::from_utf8(document(&[status]).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"pods":[{"namespace":"prod","name":"jazz-v1","uid":"u1","state":"live","streams":1,"#.to_owned()
                + r#""instances":["00000000000000ab"],"last_report_age_ms":120,"vms_expected":3,"vms_live":3,"#
                + r#""series":[{"direction":"inbound","cluster":"","requests":12,"requests_at_completion":false,"#
                + r#""upstream_attempts":null,"responses":{"2xx":11,"none":1},"inflight":0,"inflight_ns":null}]}]}"#
        );
    }
}
