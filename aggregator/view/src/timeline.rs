//! What an HPA read and did, line by line.

use autoscaler::Target;

use crate::documents::Timeline;
use crate::evidence::Evidence;
use crate::{GROUP, VERSION};

/// What the HPA read and did since `from_unix_ms`.
pub fn timeline(evidence: &Evidence<'_>, _from_unix_ms: u64) -> Timeline {
    let hpa = evidence.hpa;
    let mut targets = hpa
        .metrics
        .iter()
        .zip(evidence.ours)
        .filter(|(_, ours)| **ours)
        .filter_map(|(metric, _)| match metric.target {
            Target::Average(milli) => u64::try_from(milli).ok(),
            _ => None,
        });
    Timeline {
        kind: "Timeline".to_owned(),
        api_version: format!("{GROUP}/{VERSION}"),
        namespace: hpa.namespace.clone(),
        hpa: hpa.name.clone(),
        target: format!("{}/{}", hpa.target.kind, hpa.target.name),
        min_replicas: hpa.min,
        max_replicas: hpa.max,
        target_milli: targets.next().filter(|_| targets.next().is_none()),
        replicas: evidence.replicas.to_vec(),
        ..Timeline::default()
    }
}
