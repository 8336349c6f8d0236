//! The aggregator: its replicas, their certificates and clocks, whether they agree, remote write.

use std::collections::BTreeSet;

use aggregator_view::documents::{Health, RemoteWrite, Replica};
use aggregator_view::{GROUP as VIEW, VERSION};

use super::report::Group;
use super::{Probe, Report, clocks};
use crate::numbers::time;
use crate::{ConnectionError, numbers};

const GROUP: &str = "Aggregator";
/// A certificate that ends sooner is worth a look: it is renewed long before.
const ENDS_SOON_MS: u64 = 7 * 24 * 3_600_000;
/// Remote write is behind by more than some flushes of 15 s.
const LAG_MAX_MS: u64 = 120_000;
/// Replicas see the same streams, some a moment later.
const RATES_DIFFER: f64 = 0.1;
/// Below this rate a difference is a handful of requests.
const RATE_MIN: f64 = 5.0;

/// Reads the health of all replicas and judges it; `None` if there is none.
pub(super) async fn check(probe: &Probe<'_>, report: &mut Report) -> Option<Health> {
    let mut report = report.group(GROUP);
    let sent = (probe.read_clock)().unix_ms();
    let path = format!("/apis/{VIEW}/{VERSION}/health");
    let health: Health = match probe.connection.read(&path, &[]).await {
        Ok(health) => health,
        Err(error) => {
            unknown(&error, &mut report);
            return None;
        }
    };
    let received = (probe.read_clock)().unix_ms();
    let answered: Vec<_> = health
        .replicas
        .iter()
        .filter(|one| one.error.is_empty())
        .collect();
    replicas(&health, &mut report);
    versions(&answered, &mut report);
    certificates(&answered, received, &mut report);
    clocks::judge(&answered, sent, received, &mut report);
    agree(&answered, &mut report);
    refused(&answered, &mut report);
    remote_write(&answered, &mut report);
    Some(health)
}

fn unknown(error: &ConnectionError, report: &mut Group<'_>) {
    match error {
        ConnectionError::NotInstalled { .. } => {
            report.skip(
                "health",
                "the aggregator's health: it is not registered (above)",
            );
        }
        ConnectionError::Forbidden { right, .. } => report.unknown(
            "health",
            "the aggregator's health: you may not read it",
            format!("have the right given to you: {right}"),
        ),
        error => report.unknown(
            "health",
            format!("the aggregator's health: {error}"),
            "mend what failed above first",
        ),
    }
}

fn replicas(health: &Health, report: &mut Group<'_>) {
    if health.replicas.is_empty() {
        report.fail(
            "replicas",
            "no replica is known",
            "look at the aggregator's log",
        );
    }
    for replica in &health.replicas {
        let name = &replica.name;
        if !replica.error.is_empty() {
            report.fail(
                "replicas",
                format!("replica {name} does not answer the others: {}", replica.error),
                "look whether its pod is ready, and permit port 10250 between the replicas in network policies",
            );
        } else if replica.not_ready.is_empty() {
            let streams = numbers::counted(replica.streams, "stream");
            report.ok(
                "replicas",
                format!("replica {name} is ready, with {streams}"),
            );
        } else {
            report.fail(
                "replicas",
                format!(
                    "replica {name} is not ready: {}",
                    replica.not_ready.join("; ")
                ),
                "each reason is one of /readyz: docs/OPERATIONS.md says what to do",
            );
        }
    }
}

fn versions(replicas: &[&Replica], report: &mut Group<'_>) {
    let versions: BTreeSet<_> = replicas.iter().map(|one| one.version.as_str()).collect();
    let versions: Vec<_> = versions
        .into_iter()
        .filter(|version| !version.is_empty())
        .collect();
    match versions.as_slice() {
        [] => {}
        [one] => report.ok("versions", format!("all replicas have version {one}")),
        several => report.warn(
            "versions",
            format!("replicas have versions {}", several.join(" and ")),
            "wait until the rollout is over: `kubectl rollout status statefulset/meshmeter`",
        ),
    }
}

fn certificates(replicas: &[&Replica], now: u64, report: &mut Group<'_>) {
    const CHECK: &str = "certificates";
    let all = replicas.iter().flat_map(|replica| {
        let of = |one| (replica.name.as_str(), one);
        replica.certificates.iter().map(of)
    });
    let mut soonest: Option<u64> = None;
    let mut all_good = true;
    for (replica, certificate) in all {
        let listener = &certificate.listener;
        let end = certificate.not_after_unix_ms;
        soonest = Some(soonest.map_or(end, |soonest| soonest.min(end)));
        if end <= now {
            all_good = false;
            report.fail(
                CHECK,
                format!("the certificate of {listener} on replica {replica} ended {} ago", time(Some(now - end))),
                "renew it: cert-manager or whoever writes the secret; one of our own is renewed by a restart of the pod",
            );
        } else if end - now < ENDS_SOON_MS {
            all_good = false;
            report.warn(
                CHECK,
                format!(
                    "the certificate of {listener} on replica {replica} ends in {}",
                    time(Some(end - now))
                ),
                "look why it was not renewed: one of our own is, long before",
            );
        }
    }
    if let (Some(soonest), true) = (soonest, all_good) {
        let left = time(Some(soonest.saturating_sub(now)));
        report.ok(CHECK, format!("certificates are good for {left} or more"));
    }
}

fn agree(replicas: &[&Replica], report: &mut Group<'_>) {
    const CHECK: &str = "replicas-agree";
    const FIX: &str = "each sidecar streams to every replica: look for sidecars that reach one only (aggregators in the plugin configuration, network policies), or wait if a replica has just started";
    if replicas.len() < 2 {
        return;
    }
    let counts = replicas.iter().map(|one| one.pods.values().sum::<usize>());
    let (least, most) = (counts.clone().min(), counts.max());
    if least != most {
        let each = replicas.iter().map(|one| {
            let pods = numbers::counted(one.pods.values().sum(), "pod");
            format!("{} {pods}", one.name)
        });
        let each = each.collect::<Vec<_>>().join(", ");
        return report.warn(CHECK, format!("replicas disagree: {each}"), FIX);
    }
    let rates = replicas.iter().filter_map(|one| one.requests_per_second);
    let (lowest, highest) = rates.fold((f64::INFINITY, 0.0_f64), |(low, high), rate| {
        (low.min(rate), high.max(rate))
    });
    if highest > RATE_MIN && lowest < highest * (1.0 - RATES_DIFFER) {
        let each = replicas
            .iter()
            .map(|one| format!("{} {}", one.name, numbers::rate(one.requests_per_second)));
        let each = each.collect::<Vec<_>>().join(", ");
        let message = format!("replicas disagree on requests per second: {each}");
        return report.warn(CHECK, message, FIX);
    }
    report.ok(CHECK, "replicas agree");
}

fn refused(replicas: &[&Replica], report: &mut Group<'_>) {
    for replica in replicas {
        let all = replica.refused.iter().filter(|(_, count)| **count > 0);
        let all: Vec<_> = all
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        if !all.is_empty() {
            report.warn(
                "refused",
                format!(
                    "replica {} has refused since its start: {}",
                    replica.name,
                    all.join(", ")
                ),
                "docs/METRICS.md says what each reason means; those that do not grow are over",
            );
        }
    }
}

fn remote_write(replicas: &[&Replica], report: &mut Group<'_>) {
    const CHECK: &str = "remote-write";
    let writers = replicas
        .iter()
        .filter_map(|one| Some((one.name.as_str(), one.remote_write.as_ref()?)));
    let writers: Vec<(&str, &RemoteWrite)> = writers.collect();
    if writers.is_empty() {
        return;
    }
    if !writers.iter().any(|(_, write)| write.writing) {
        report.fail(
            CHECK,
            "no replica writes",
            "look at the Lease meshmeter-writer and the aggregator's log",
        );
    }
    let mut is_good = true;
    for (name, write) in &writers {
        let lag = write.lag_ms.unwrap_or(0);
        let error = match write.last_error.as_str() {
            "" => String::new(),
            error => format!(" (last error: {error})"),
        };
        if lag > LAG_MAX_MS {
            is_good = false;
            report.fail(
                CHECK,
                format!("remote write of replica {name} is {} behind{error}", time(Some(lag))),
                "`meshmeter remote-write check` in the pod signs and sends one sample, and explains the answer",
            );
        } else if !write.last_error.is_empty() {
            is_good = false;
            report.warn(
                CHECK,
                format!("remote write of replica {name} failed last time: {}", write.last_error),
                "it tries again by itself; `meshmeter remote-write check` in the pod explains the answer",
            );
        }
        let dropped = write.dropped.iter().filter(|(_, count)| **count > 0);
        let dropped: Vec<_> = dropped
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        if !dropped.is_empty() {
            is_good = false;
            report.warn(
                CHECK,
                format!(
                    "remote write of replica {name} dropped samples: {}",
                    dropped.join(", ")
                ),
                "docs/OPERATIONS.md, MeshmeterRemoteWriteDropped, has each reason",
            );
        }
    }
    if is_good && writers.iter().any(|(_, write)| write.writing) {
        report.ok(CHECK, "remote write keeps up");
    }
}
