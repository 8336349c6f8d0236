//! `APIServices`: whether they are there, whose, and whether kube-apiserver reaches what is behind
//! them.

use std::collections::BTreeSet;

use aggregator_view::{GROUP as VIEW, VERSION};

use super::objects::{ApiService, Condition, Resources, ServiceReference};
use super::report::Group;
use super::{Probe, Report, word};
use crate::ConnectionError;

const GROUP: &str = "APIServices";
/// The service in front of our API.
const SERVICE: &str = "meshmeter-api";
/// What autoscalers ask, as group and version; the view is beside it.
const METRICS: [(&str, &str); 3] = [
    ("custom.metrics.k8s.io", "v1beta2"),
    ("custom.metrics.k8s.io", "v1beta1"),
    ("external.metrics.k8s.io", "v1beta1"),
];

/// What is registered.
#[derive(Debug, Default)]
pub(super) struct Registered {
    /// Namespace of our service, if any `APIService` names it.
    pub(super) namespace: Option<String>,
    /// Whoever asks may look at it.
    pub(super) is_known: bool,
    /// Nothing is registered, by anybody.
    pub(super) is_absent: bool,
    /// Groups that are ours and answer.
    pub(super) ours: BTreeSet<&'static str>,
    /// Groups that another server has, and its service.
    pub(super) others: Vec<(&'static str, ServiceReference)>,
    /// Names of the metrics that we serve, without what they belong to.
    pub(super) metrics: BTreeSet<String>,
}

/// Checks the `APIServices` of an installation.
pub(super) async fn check(probe: &Probe<'_>, report: &mut Report) -> Registered {
    let mut registered = Registered {
        is_known: true,
        is_absent: true,
        ..Registered::default()
    };
    let mut report = report.group(GROUP);
    let program = probe.connection.program();
    match read(probe, VIEW, VERSION).await {
        Ok(None) => report.fail(
            "apiservice",
            format!("{VERSION}.{VIEW} is not registered: meshmeter is not installed here, or an older one"),
            format!("install the chart (`{program} check --pre` first), or upgrade it"),
        ),
        Err(error) if error.status() == Some(403) => {
            // All of them, or none.
            unreadable(GROUP, &error, &mut report);
            return Registered::default();
        }
        found => one(probe, (VIEW, VERSION), found, &mut registered, &mut report).await,
    }
    for (group, version) in METRICS {
        match read(probe, group, version).await {
            Ok(None) => report.skip(
                "apiservice",
                format!("{version}.{group} is not registered: no autoscaler can read from that"),
            ),
            found => one(probe, (group, version), found, &mut registered, &mut report).await,
        }
    }
    registered
}

/// Before the installation: whether somebody else has what we would register.
pub(super) async fn check_free(probe: &Probe<'_>, report: &mut Report) {
    let mut report = report.group(GROUP);
    for (group, version) in METRICS.into_iter().chain([(VIEW, VERSION)]) {
        let name = format!("{version}.{group}");
        match read(probe, group, version).await {
            Ok(None) => report.ok("apiservice", format!("{name} is free")),
            Ok(Some(found)) => match other(&found) {
                None => report.ok("apiservice", format!("{name} is meshmeter's already")),
                Some(service) => report.warn(
                    "apiservice",
                    format!("{name} belongs to {}", shown(&service)),
                    "only one server can have it: install with api.custom or api.external set to false, or remove the other one (docs/migration.md)",
                ),
            },
            Err(error) => unreadable(&name, &error, &mut report),
        }
    }
}

async fn read(
    probe: &Probe<'_>,
    group: &str,
    version: &str,
) -> Result<Option<ApiService>, ConnectionError> {
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{version}.{group}");
    match probe.connection.read(&path, &[]).await {
        Ok(found) => Ok(Some(found)),
        Err(ConnectionError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unreadable(name: &str, error: &ConnectionError, report: &mut Group<'_>) {
    let message = format!("{name}: {error}");
    report.unknown(
        "apiservice",
        message,
        "ask somebody who may get apiservices to run this",
    );
}

/// The service behind it, if that is not ours; an empty one for kube-apiserver itself.
fn other(found: &ApiService) -> Option<ServiceReference> {
    let service = found.spec.service.clone().unwrap_or_default();
    (service.name != SERVICE).then_some(service)
}

fn shown(service: &ServiceReference) -> String {
    match service.name.as_str() {
        "" => "kube-apiserver itself".to_owned(),
        name => format!("the service {name} in namespace {}", service.namespace),
    }
}

async fn one(
    probe: &Probe<'_>,
    (group, version): (&'static str, &'static str),
    found: Result<Option<ApiService>, ConnectionError>,
    registered: &mut Registered,
    report: &mut Group<'_>,
) {
    registered.is_absent = false;
    let name = format!("{version}.{group}");
    let found = match found {
        Ok(found) => found.unwrap_or_default(),
        Err(error) => return unreadable(&name, &error, report),
    };
    if let Some(service) = other(&found) {
        let whose = shown(&service);
        let message = format!("{name} belongs to {whose}, not to meshmeter");
        registered.others.push((group, service));
        if group == VIEW {
            let fix = "delete that APIService and upgrade the chart: nothing else uses this name";
            report.fail("apiservice", message, fix);
        } else {
            report.warn(
                "apiservice",
                message,
                "autoscalers read from that server: fine beside another adapter (docs/migration.md), else remove it and upgrade the chart",
            );
        }
        return;
    }
    let namespace = found
        .spec
        .service
        .as_ref()
        .map(|service| service.namespace.clone());
    registered.namespace = registered.namespace.take().or(namespace);
    let namespace = registered.namespace.clone().unwrap_or_default();
    let namespace = word(&namespace).to_owned();
    if !judge(&name, &namespace, &found, report) {
        return;
    }
    match probe.connection.read::<Resources>(&format!("/apis/{group}/{version}"), &[]).await {
        Ok(answer) => {
            registered.ours.insert(group);
            if group != VIEW {
                let names = answer.resources.iter().map(|resource| &resource.name);
                let names = names.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned());
                registered.metrics.extend(names);
            }
            report.ok("apiservice", format!("{name} is meshmeter's, available, and answers"));
        }
        Err(error) => report.fail(
            "apiservice",
            format!("{name} is said to be available, and does not answer: {error}"),
            format!("`kubectl -n {namespace} get pods,endpointslices`; if all are ready, ask again: kube-apiserver looks every few seconds"),
        ),
    }
}

/// Whether what kube-apiserver says of it is good.
fn judge(name: &str, namespace: &str, found: &ApiService, report: &mut Group<'_>) -> bool {
    if found.spec.ca_bundle.is_empty() && !found.spec.insecure_skip_tls_verify {
        report.fail(
            "ca-bundle",
            format!("{name} has no caBundle: kube-apiserver trusts nobody under this name"),
            format!("the aggregator writes it when it runs: `kubectl -n {namespace} logs statefulset/meshmeter` says why it does not (with a certificate by cert-manager its cainjector does)"),
        );
        return false;
    }
    let mut conditions = found.status.conditions.iter();
    let available = conditions.find(|condition| condition.kind == "Available");
    let unset = Condition::default();
    let available = available.unwrap_or(&unset);
    if available.status == "True" {
        return true;
    }
    let reason = match available.reason.as_str() {
        "" => "kube-apiserver has not said whether it is available",
        reason => reason,
    };
    let message = match available.message.as_str() {
        "" => format!("{name} is not available: {reason}"),
        message => format!("{name} is not available: {reason}: {message}"),
    };
    report.fail("apiservice", message, why(available, namespace));
    false
}

/// What to do about the condition's reason.
fn why(available: &Condition, namespace: &str) -> String {
    let said = available.message.as_str();
    match available.reason.as_str() {
        "ServiceNotFound" => format!(
            "the service {SERVICE} is gone: upgrade the chart, or look for it by `kubectl -n {namespace} get services`"
        ),
        "ServicePortError" => "the service has another port than the APIService: upgrade the chart".to_owned(),
        "EndpointsNotFound" | "MissingEndpoints" | "EndpointsAccessError" => format!(
            "no pod of the aggregator is ready: `kubectl -n {namespace} describe pods -l app.kubernetes.io/name=meshmeter`"
        ),
        "FailedDiscoveryCheck" if said.contains("x509") || said.contains("certificate") => format!(
            "the certificate and the caBundle do not fit: `kubectl -n {namespace} rollout restart statefulset/meshmeter` writes both anew; a GitOps tool has to leave caBundle alone"
        ),
        "FailedDiscoveryCheck" => "kube-apiserver does not reach the pods' port 10250: permit it in network policies and, on EKS, in the security group of the nodes (from the cluster's)".to_owned(),
        _ => format!("wait a minute; then `kubectl -n {namespace} get pods` and the aggregator's log"),
    }
}
