//! Pods that nobody counts, and the filter's versions. Pure.

use aggregator_view::documents::{Health, Uncounted};

use super::report::{Group, Outcome};
use super::{Probe, Report, word};
use crate::numbers::counted;

const GROUP: &str = "Pods";
/// Workloads that are listed; the rest is only counted.
const LISTED_MAX: usize = 20;

/// Judges what all replicas together know of pods.
pub(super) fn check(probe: &Probe<'_>, health: &Health, report: &mut Report) {
    let mut report = report.group(GROUP);
    let namespace = probe.connection.given_namespace();
    let uncounted = health.uncounted.iter();
    let uncounted =
        uncounted.filter(|one| namespace.is_none_or(|namespace| one.namespace == namespace));
    let mut uncounted: Vec<_> = uncounted.collect();
    // What is broken first.
    uncounted.sort_by_key(|one| meaning(one).0 != Outcome::Failure);
    for one in uncounted.iter().take(LISTED_MAX) {
        of_workload(one, &mut report);
    }
    if uncounted.len() > LISTED_MAX {
        let more = uncounted.len() - LISTED_MAX;
        report.warn(
            "uncounted",
            format!(
                "{} more have pods that nobody counts",
                counted(more, "workload")
            ),
            "ask for one namespace by -n, or take -o json of `top pods`",
        );
    }
    if uncounted.is_empty() {
        report.ok("uncounted", "every running pod is counted");
    }
    versions(health, &mut report);
}

fn of_workload(one: &Uncounted, report: &mut Group<'_>) {
    let (outcome, why, fix) = meaning(one);
    let why = match one.message.as_str() {
        "" => why.to_owned(),
        message => message.to_owned(),
    };
    let message = format!(
        "{} of {}/{} not counted ({}): {why}; one is {}",
        counted(one.pods, "pod"),
        one.namespace,
        one.workload,
        one.reason,
        one.example
    );
    match outcome {
        Outcome::Failure => report.fail("uncounted", message, fix),
        _ => report.warn("uncounted", message, fix),
    }
}

/// How bad a reason is, what it means, and what to do.
fn meaning(one: &Uncounted) -> (Outcome, &'static str, String) {
    let namespace = word(&one.namespace);
    let (kind, name) = one.workload.split_once('/').unwrap_or_default();
    let restart = format!(
        "`kubectl -n {namespace} rollout restart {}/{}`",
        word(&kind.to_lowercase()),
        word(name)
    );
    let logs = format!(
        "`kubectl -n {namespace} logs {} -c envoy`",
        word(&one.example)
    );
    if let Some((why, fix)) = refused(&one.reason, namespace, &restart) {
        return (Outcome::Failure, why, fix);
    }
    match one.reason.as_str() {
        "no_sidecar" => (
            Outcome::Warning,
            "it has no Envoy sidecar",
            format!("if it is to be counted: `kubectl label namespace {namespace} meshmeter.io/inject=enabled`, then {restart}"),
        ),
        "never_reported" => (
            Outcome::Failure,
            "its sidecar never reported",
            format!("look whether the filter is in its Envoy and reaches the aggregator's port 7470: {logs}; the aggregator's log names streams that it refuses, and why; a pod older than the injection needs {restart}"),
        ),
        "refused" => (
            Outcome::Failure,
            "a part of its report is refused",
            "the aggregator's log names the limit; docs/OPERATIONS.md, MeshmeterCapacityReached, says how to raise it".to_owned(),
        ),
        "vm_lost" => (
            Outcome::Failure,
            "a Wasm VM of its sidecar died",
            format!("totals may be too low until it is replaced: {restart}; {logs} has the trap"),
        ),
        "hot_restart" => (
            Outcome::Warning,
            "it has two Envoy processes at once, as in a hot restart",
            "wait until the old one has ended".to_owned(),
        ),
        "gone" => (
            Outcome::Failure,
            "its sidecar ceased to report",
            format!("look at the stream from the sidecar to the aggregator (network policies, port 7470): {logs}"),
        ),
        "new" => (
            Outcome::Warning,
            "it began to report less than a second ago",
            "wait a second".to_owned(),
        ),
        "not_counted" => (
            Outcome::Warning,
            "its filter does not count this",
            "look at the role of the filter (docs/CONFIGURATION.md, plugin configuration)".to_owned(),
        ),
        _ => (
            Outcome::Failure,
            "no value",
            format!("look at the aggregator's log and at {logs}"),
        ),
    }
}

/// What it means that a pod's streams are refused for `reason`, and what to do; `None` for other
/// reasons.
fn refused(reason: &str, namespace: &str, restart: &str) -> Option<(&'static str, String)> {
    let meaning = match reason {
        "tls_refused" => (
            "its streams are refused: TLS",
            format!("the sidecar must trust the aggregator's CA: the ConfigMap meshmeter-ca in namespace {namespace}, then {restart}"),
        ),
        "unauthenticated" => (
            "its streams are refused: identity (token, certificate or address)",
            format!("the aggregator's log has the reason; look whether the sidecar has the service account's token that the injector mounts, and the aggregator's --ingest-identity is the one the mesh uses (docs/reference/SECURITY.md), then {restart}"),
        ),
        "unreadable" => (
            "its streams are refused: the aggregator cannot read them",
            format!("its filter is probably of another version than the aggregator, whose log names the field: upgrade the older one, the filter by {restart}"),
        ),
        "stream_refused" => (
            "its streams are refused by a limit",
            "the aggregator's log names the limit; docs/OPERATIONS.md, MeshmeterCapacityReached, says how to raise it".to_owned(),
        ),
        _ => return None,
    };
    Some(meaning)
}

fn versions(health: &Health, report: &mut Group<'_>) {
    let mut versions: Vec<(&str, usize)> = Vec::new();
    for one in &health.sidecars {
        let version = match one.version.as_str() {
            "" => "unknown",
            version => version,
        };
        match versions.iter_mut().find(|(known, _)| *known == version) {
            Some((_, pods)) => *pods += one.pods,
            None => versions.push((version, one.pods)),
        }
    }
    match versions.as_slice() {
        [] => {}
        [(version, pods)] => report.ok(
            "filter-versions",
            format!("{} with filter {version}", counted(*pods, "pod")),
        ),
        several => {
            let each = several
                .iter()
                .map(|(version, pods)| format!("{version} ({})", counted(*pods, "pod")));
            report.warn(
                "filter-versions",
                format!("filters have several versions: {}", each.collect::<Vec<_>>().join(", ")),
                "they are counted alike; restart the workloads with the older one to be done with it",
            );
        }
    }
}
