//! What a cluster would tell the aggregator: which pods there are, whose they are, and the
//! autoscalers that scale them.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use tests_support::aggregator::Options;
use tests_support::autoscalers::{Autoscalers, Plan};

use crate::fleet::NAMESPACE;
use crate::hpa::TARGET;
use crate::watch::REQUESTS_PER_SECOND;

/// The Deployments, each with one pod of the same name, and their services.
const DEPLOYMENTS: [(&str, &str); 3] = [("dj", "dj"), ("jazz-v1", "jazz"), ("metal-v1", "metal")];
/// Most replicas that an autoscaler wants.
const REPLICAS_MAX: u32 = 10;

/// An autoscaler for each Deployment, in a file in `folder`.
pub(crate) fn autoscalers(folder: &Path) -> Result<Autoscalers> {
    let plan = |(deployment, service): (&str, &str)| Plan {
        namespace: NAMESPACE.to_owned(),
        name: service.to_owned(),
        target: deployment.to_owned(),
        selector: format!("app={service},version=v1"),
        metric: REQUESTS_PER_SECOND.to_owned(),
        average_milli: TARGET * 1_000,
        max: REPLICAS_MAX,
        pods: vec![deployment.to_owned()],
    };
    Autoscalers::write(&folder.join(AUTOSCALERS), DEPLOYMENTS.map(plan).into())
}

const AUTOSCALERS: &str = "autoscalers.json";

/// An aggregator that knows them, and the pods, by files in `folder`.
pub(crate) fn options(folder: &Path) -> Result<Options> {
    let pods = DEPLOYMENTS.map(|(deployment, service)| {
        json!({
            "namespace": NAMESPACE, "name": deployment,
            "labels": {"app": service, "version": "v1"},
            "owner": {"group": "apps", "kind": "Deployment", "name": deployment},
        })
    });
    let file = folder.join("pods.json");
    let written = std::fs::write(&file, json!({ "pods": pods }).to_string());
    written.with_context(|| format!("write {}", file.display()))?;
    let mut options = Options {
        pods_file: Some(file),
        ..Options::default()
    };
    let autoscalers = folder.join(AUTOSCALERS);
    options
        .flags
        .push(format!("--autoscalers-file={}", autoscalers.display()));
    Ok(options)
}
